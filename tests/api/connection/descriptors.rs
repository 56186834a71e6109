//! File descriptors: one for each connection, and the server is alive when they run out.

use std::fs;
use std::time::Instant;

use super::super::super::support::{HttpResponse, Server, TEST_TIMEOUT};
use super::client::Client;

fn open_files(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("its descriptors").count()
}

/// The soft and the hard limit of the server's open files.
fn limits(server: &Server) -> (u64, u64) {
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// A connection with a request that waits for half a minute; or the response to a client that gets no such connection.
fn hold(server: &Server) -> Result<Client, Option<Box<HttpResponse>>> {
    const BODY: &str = r#"{"worker":"w","wait_s":30}"#;
    let mut client = Client::connect(server);
    let headers = "Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: ";
    client.send_head("POST /v1/leases", &format!("{headers}{}\r\n", BODY.len()));
    match client.response() {
        Some(interim) if interim.status == 100 => {
            client.send(BODY.as_bytes());
            Ok(client)
        }
        refused => Err(refused.map(Box::new)),
    }
}

/// The status of a request on a new connection; none if the server closed it without a response.
fn status_of(server: &Server, path: &str) -> Option<u16> {
    let mut client = Client::connect(server);
    client.send_head(&format!("GET {path}"), "");
    client.response().map(|response| response.status)
}

#[tokio::test]
async fn a_connection_takes_one_file_descriptor() {
    let server = Server::start();
    // The harness may keep the connection with which it has waited for the start.
    let (before, kept) = (open_files(&server), open_connections(&server));
    let held: Vec<Client> =
        (0..100).map(|_| hold(&server).unwrap_or_else(|_| panic!("no connection that waits"))).collect();
    let connections = open_connections(&server) - kept;
    assert_eq!(connections, held.len());
    let opened = open_files(&server) - before;
    // The server opens some files of its own with the first requests.
    assert!(opened < connections * 3 / 2, "{opened} descriptors for {connections} connections");
}

/// The connections to the server that are established, as the system counts them.
fn open_connections(server: &Server) -> usize {
    let port = server.url().rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let table = fs::read_to_string(format!("/proc/{}/net/tcp", server.pid())).unwrap();
    let local = format!(":{port:04X} ");
    let is_its = |line: &&str| {
        let mut columns = line.split_whitespace();
        let (own, state) = (columns.nth(1).unwrap_or_default().to_owned() + " ", columns.nth(1).unwrap_or_default());
        own.ends_with(&local) && state == "01"
    };
    table.lines().skip(1).filter(is_its).count()
}

#[tokio::test]
async fn the_soft_limit_of_open_files_is_raised_at_the_start() {
    let server = Server::with_open_files("ulimit -Sn 200 && ulimit -Hn 3000");
    assert_eq!(limits(&server), (3000, 3000));
}

#[tokio::test]
async fn when_the_descriptors_run_out_the_server_is_still_alive_and_recovers() {
    let server = Server::with_open_files("ulimit -n 256");
    let mut held = Vec::new();
    let refused = loop {
        assert!(held.len() < 400, "no connection is refused");
        match hold(&server) {
            Ok(client) => held.push(client),
            Err(refused) => break refused,
        }
    };
    let refused = refused.expect("a response that says why");
    refused.assert_problem(503, "overloaded");
    assert_eq!(refused.header("retry-after"), "1", "{refused:?}");
    assert!(held.len() >= 100, "{} connections are served", held.len());
    for _ in 0..50 {
        assert_eq!(status_of(&server, "/healthz"), Some(200), "with {} connections open", held.len());
    }
    drop(held);
    let begun = Instant::now();
    while status_of(&server, "/v1/tasks") != Some(200) {
        assert!(begun.elapsed() < TEST_TIMEOUT, "the server doesn't recover");
    }
    server.submit(&serde_json::json!({"kind": "a"})).await;
}
