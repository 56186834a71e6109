//! The description of a route: its parameters, its body, its responses and its refusals.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use serde_json::{Map, Value, json};

use super::parameters::min_position;
use super::schema::Schema;
use crate::http::plumbing::error::Refusal;
use crate::task::access::{Access, Action, Role, decide_access};

/// A caller, for actions on its own tasks.
pub const CALLER: &str = "anna";

/// The refusals that each route may give, also before the route is known.
const EVERYWHERE: [Refusal; 9] = [
    Refusal::BadRequest,
    Refusal::ForbiddenOrigin,
    Refusal::Timeout,
    Refusal::UriTooLong,
    Refusal::ExpectationFailed,
    Refusal::HeadersTooLarge,
    Refusal::Internal,
    Refusal::NotImplemented,
    Refusal::HttpVersionNotSupported,
];
/// The refusals of a route that reads a body.
const OF_BODY: [Refusal; 5] = [
    Refusal::MalformedJson,
    Refusal::TooLarge,
    Refusal::UnsupportedMediaType,
    Refusal::InvalidRequest,
    Refusal::Overloaded,
];
/// The refusals of a route that appends to the log.
const OF_WRITE: [Refusal; 6] = [
    Refusal::Behind,
    Refusal::ViewsStopped,
    Refusal::Busy,
    Refusal::LogUnavailable,
    Refusal::LogReadOnly,
    Refusal::LogDamaged,
];

/// A route.
#[derive(Debug)]
pub struct Operation {
    tag: &'static str,
    id: &'static str,
    summary: &'static str,
    description: String,
    is_public: bool,
    /// The roles that may use the route; `None` if all may.
    roles: Option<Vec<Role>>,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: Vec<Answer>,
    refusals: Vec<Refusal>,
}

/// A response that is no refusal.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    description: String,
    content: Map<String, Value>,
    headers: Map<String, Value>,
    links: Map<String, Value>,
}

impl Operation {
    /// A route whose callers are authenticated. `id` is the name in the code of generated clients.
    #[must_use]
    pub fn new(tag: &'static str, id: &'static str, summary: &'static str) -> Self {
        let open = Self::public(tag, id, summary);
        Self { is_public: false, ..open }.refuses(&[Refusal::Unauthenticated, Refusal::TooManyRequests])
    }

    /// A route that needs no credential.
    #[must_use]
    pub fn public(tag: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self {
            tag,
            id,
            summary,
            description: String::new(),
            is_public: true,
            roles: None,
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            refusals: EVERYWHERE.to_vec(),
        }
    }

    /// Sets the description, in Markdown.
    #[must_use]
    pub fn describe(mut self, description: &str) -> Self {
        description.clone_into(&mut self.description);
        self
    }

    /// Adds parameters of the path, the query or the headers.
    #[must_use]
    pub fn parameters(mut self, parameters: impl IntoIterator<Item = Value>) -> Self {
        self.parameters.extend(parameters);
        self
    }

    /// Sets the JSON body, which every request needs, and its examples by name.
    #[must_use]
    pub fn body(self, schema: Schema, examples: &[(&str, Value)]) -> Self {
        self.sends(true, schema, examples)
    }

    /// As [`Operation::body`], for a body that may be empty.
    #[must_use]
    pub fn optional_body(self, schema: Schema, examples: &[(&str, Value)]) -> Self {
        self.sends(false, schema, examples)
    }

    fn sends(mut self, is_required: bool, schema: Schema, examples: &[(&str, Value)]) -> Self {
        let examples: Map<String, Value> =
            examples.iter().map(|(name, value)| ((*name).to_owned(), json!({"value": value}))).collect();
        let content = json!({"application/json": {"schema": schema.into_json(), "examples": examples}});
        self.body = Some(json!({"required": is_required, "content": content}));
        self.refuses(&OF_BODY)
    }

    /// The route does this. Only callers whose role may do it may use the route.
    #[must_use]
    pub fn does(mut self, action: Action<'_>) -> Self {
        let may =
            |role: &Role| matches!(decide_access(*role, CALLER, action), Access::Granted | Access::GrantedRedacted);
        self.roles = Some(Role::ALL.into_iter().filter(may).collect());
        self.refuses(&[Refusal::Forbidden])
    }

    /// The query may have a position that the response must have reached.
    #[must_use]
    pub fn waits(self) -> Self {
        let refusals = [Refusal::InvalidRequest, Refusal::Overloaded, Refusal::Behind, Refusal::ViewsStopped];
        self.parameters([min_position()]).refuses(&refusals)
    }

    /// The route reads events of the log.
    #[must_use]
    pub fn reads_log(self) -> Self {
        self.refuses(&[Refusal::LogUnavailable, Refusal::LogDamaged])
    }

    /// The route appends to the log.
    #[must_use]
    pub fn writes(self) -> Self {
        self.refuses(&OF_WRITE)
    }

    /// Adds refusals.
    #[must_use]
    pub fn refuses(mut self, refusals: &[Refusal]) -> Self {
        self.refusals.extend(refusals.iter().filter(|refusal| !self.refusals.contains(refusal)).collect::<Vec<_>>());
        self
    }

    /// Adds a response that is no refusal.
    #[must_use]
    pub fn answers(mut self, answer: Answer) -> Self {
        self.answers.push(answer);
        self
    }

    /// The operation as JSON. Operations share the responses with problems, by the codes of these; those of this operation are
    /// added to `shared`.
    #[must_use]
    pub fn into_json(self, shared: &mut Map<String, Value>) -> Value {
        let mut responses: Map<String, Value> = Map::new();
        let mut by_status: BTreeMap<u16, Vec<Refusal>> = BTreeMap::new();
        for refusal in &self.refusals {
            by_status.entry(refusal.properties().0.as_u16()).or_default().push(*refusal);
        }
        for (status, refusals) in by_status {
            let name = codes(&refusals).join("-");
            responses.insert(status.to_string(), json!({"$ref": format!("#/components/responses/{name}")}));
            shared.entry(name).or_insert_with(|| refused(&refusals));
        }
        responses
            .extend(self.answers.into_iter().map(|answer| (answer.status.as_u16().to_string(), answer.into_json())));
        let mut operation = json!({
            "tags": [self.tag],
            "operationId": self.id,
            "summary": self.summary,
            "description": self.description,
            "parameters": self.parameters,
            "responses": responses,
        });
        if let Some(body) = self.body {
            operation["requestBody"] = body;
        }
        if self.is_public {
            operation["security"] = json!([]);
        }
        if let Some(roles) = self.roles {
            operation["x-roles"] = roles.into_iter().map(Role::name).collect();
        }
        operation
    }
}

/// The codes of these refusals, each once.
fn codes(refusals: &[Refusal]) -> Vec<&'static str> {
    let mut codes: Vec<&str> = refusals.iter().map(|refusal| refusal.properties().1).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// The response with the problems of these refusals, which have the same status.
fn refused(refusals: &[Refusal]) -> Value {
    let (mut examples, mut meanings) = (Map::new(), Vec::new());
    for refusal in refusals {
        let (_, code, _) = refusal.properties();
        if !examples.contains_key(code) {
            examples.insert(code.to_owned(), json!({"$ref": format!("#/components/examples/{code}")}));
            meanings.push(format!("`{code}`: {}", refusal.meaning()));
        }
    }
    let mut headers = Map::from_iter([("X-Request-Id".to_owned(), header("RequestId"))]);
    let (status, ..) = refusals.first().map(|first| first.properties()).unwrap_or_default();
    let more = match status {
        StatusCode::UNAUTHORIZED => Some(("WWW-Authenticate", "Authenticate")),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Some(("Retry-After", "RetryAfter")),
        _ => None,
    };
    headers.extend(more.map(|(name, component)| (name.to_owned(), header(component))));
    json!({
        "description": meanings.join("\n\n"),
        "headers": headers,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}},
    })
}

fn header(component: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{component}")})
}

impl Answer {
    /// A response without a body.
    #[must_use]
    pub fn empty(status: StatusCode, description: &str) -> Self {
        let headers = Map::from_iter([("X-Request-Id".to_owned(), header("RequestId"))]);
        let (description, content, links) = (description.to_owned(), Map::new(), Map::new());
        Self { status, description, content, headers, links }
    }

    /// A response with a JSON body.
    #[must_use]
    pub fn json(status: StatusCode, description: &str, schema: Schema) -> Self {
        Self::empty(status, description).of_type("application/json", schema)
    }

    /// Adds a type that the body may have.
    #[must_use]
    pub fn of_type(mut self, media_type: &str, schema: Schema) -> Self {
        self.content.insert(media_type.to_owned(), json!({"schema": schema.into_json()}));
        self
    }

    /// Adds the header with the position in the log that the response shows.
    #[must_use]
    pub fn with_position(self) -> Self {
        self.with_header("Taskbell-Position", "Position").with_header("Taskbell-Stale-Since", "StaleSince")
    }

    /// Adds a header of the document's components.
    #[must_use]
    pub fn with_header(mut self, name: &str, component: &str) -> Self {
        self.headers.insert(name.to_owned(), header(component));
        self
    }

    /// Adds an example of the body.
    #[must_use]
    pub fn example(mut self, name: &str, value: &Value) -> Self {
        for content in self.content.values_mut() {
            content["examples"][name] = json!({"value": value});
        }
        self
    }

    /// Adds links to operations on the task or the schedule that the body shows. `id` is the place of its id in the body.
    #[must_use]
    pub fn links(mut self, id: &str, operations: &[&str]) -> Self {
        let link = |operation: &&str| {
            let target = json!({"operationId": operation, "parameters": {"path.id": format!("$response.body#{id}")}});
            ((*operation).to_owned(), target)
        };
        self.links.extend(operations.iter().map(link));
        self
    }

    fn into_json(self) -> Value {
        let mut response = json!({"description": self.description, "headers": self.headers});
        if !self.content.is_empty() {
            response["content"] = Value::Object(self.content);
        }
        if !self.links.is_empty() {
            response["links"] = Value::Object(self.links);
        }
        response
    }
}
