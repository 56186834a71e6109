//! The description of the HTTP API, and the list of its routes.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use taskbell::http::route_table;

use super::support::Server;

/// The path of the table with values in place of its parameters.
fn path_with_values(path: &str) -> String {
    path.replace("{id}", "0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b").replace("{queue}", "a").replace("{file}", "app.js")
}

#[tokio::test]
async fn the_list_of_routes_has_the_methods_that_the_server_allows() {
    let server = Server::start();
    let mut methods: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (method, path) in route_table() {
        assert!(methods.entry(path).or_default().insert(method), "{method} {path} is listed twice");
    }
    for (path, methods) in methods {
        let url = server.url() + &path_with_values(path);
        let response = server.send(server.client().request(Method::PATCH, url)).await;
        response.assert_problem(405, "method_not_allowed");
        let allowed = response.header("allow").split(", ").filter(|method| *method != "HEAD").collect();
        assert_eq!(methods, allowed, "{path}");
    }
}
