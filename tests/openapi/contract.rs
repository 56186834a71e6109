//! A real server whose responses are checked against its own description.

use std::collections::BTreeSet;

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

use super::super::support::{HttpResponse, Server};
use super::{description, operations, resolve, violations};

/// The server, its description, and which responses it has sent.
pub struct Contract {
    pub server: Server,
    pub document: Value,
    seen: BTreeSet<(String, String, u16)>,
}

impl Contract {
    pub async fn of(server: Server) -> Self {
        let document = description(&server).await;
        Self { server, document, seen: BTreeSet::new() }
    }

    /// Sends the request. `path` is a path of the document. `target` is the path and query that are sent.
    #[track_caller]
    pub fn request(&self, method: &str, target: &str, body: Option<&Value>) -> reqwest::RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.server.client().request(method, self.server.url() + target);
        match body {
            Some(body) => request.header(CONTENT_TYPE, "application/json").body(body.to_string()),
            None => request,
        }
    }

    /// Sends the request and checks the response.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        id: &str,
        query: &str,
        body: Option<&Value>,
    ) -> HttpResponse {
        let target = path.replace("{id}", id).replace("{queue}", id).replace("{file}", id) + query;
        let response = self.server.send(self.request(method, &target, body)).await;
        self.check(method, path, &response);
        response
    }

    /// Sends the request and asserts that the response has this status.
    pub async fn expect(
        &mut self,
        status: u16,
        method: &str,
        path: &str,
        id: &str,
        query: &str,
        body: Option<&Value>,
    ) -> HttpResponse {
        let response = self.send(method, path, id, query, body).await;
        assert_eq!(response.status, status, "{method} {path}{query}: {}", response.text);
        response
    }

    /// Asserts that the description of the route has this response.
    pub fn check(&mut self, method: &str, path: &str, response: &HttpResponse) {
        let (status, what) = (response.status, format!("{method} {path}: {} {}", response.status, response.text));
        let operation = &self.document["paths"][path][method.to_lowercase()];
        let described = operation["responses"].get(status.to_string()).unwrap_or_else(|| panic!("{what}"));
        let described = resolve(&self.document, described);
        self.check_headers(described, response, &what);
        let content_type = response.header("content-type").split(';').next().unwrap_or_default();
        if let Some(content) = described["content"].as_object() {
            let content = content.get(content_type).unwrap_or_else(|| panic!("{content_type}: {what}"));
            for value in values(content_type, response) {
                let found = violations(&self.document, &content["schema"], &value);
                assert!(found.is_empty(), "{found:#?}\n{what}");
            }
        } else {
            assert_eq!(response.text, "", "{what}");
        }
        self.seen.insert((method.to_owned(), path.to_owned(), status));
    }

    fn check_headers(&self, described: &Value, response: &HttpResponse, what: &str) {
        for (name, header) in described["headers"].as_object().into_iter().flatten() {
            let header = resolve(&self.document, header);
            let Some(value) = response.headers.get(name) else {
                assert_eq!(header["required"], false, "no {name}: {what}");
                continue;
            };
            let text = value.to_str().unwrap();
            let is_number = header["schema"]["type"] == "integer";
            let value = if is_number { text.parse::<u64>().unwrap().into() } else { Value::from(text) };
            let found = violations(&self.document, &header["schema"], &value);
            assert!(found.is_empty(), "{name}: {found:#?}\n{what}");
        }
        let described: BTreeSet<String> =
            described["headers"].as_object().into_iter().flatten().map(|(name, _)| name.to_lowercase()).collect();
        for own in ["taskbell-position", "location", "retry-after", "x-request-id", "etag", "www-authenticate"] {
            let is_sent = response.headers.contains_key(own);
            assert!(!is_sent || described.contains(own), "{own} is not described: {what}");
        }
    }

    /// The operations of which no response below 400 was checked.
    pub fn without_success(&self) -> Vec<String> {
        let succeeded = |method: &str, path: &str| {
            self.seen.iter().any(|(seen, at, status)| seen == method && at == path && *status < 400)
        };
        let operations = operations(&self.document).filter(|(method, path, _)| !succeeded(method, path));
        operations.map(|(method, path, _)| format!("{method} {path}")).collect()
    }
}

/// The values in the body: one for each line, or the only one.
fn values(content_type: &str, response: &HttpResponse) -> Vec<Value> {
    match content_type {
        "application/x-ndjson" => response.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        "application/json" | "application/problem+json" => vec![response.body.clone()],
        _ => vec![Value::from(response.text.as_str())],
    }
}
