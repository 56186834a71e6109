//! When the keys of an issuer are read, and what happens if they can't be.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use serde_json::{Value, json};
use taskbell::KeySource;
use taskbell::http::identity::jwt::{JwtRefusal, JwtVerifier};

use super::issuer::{Issuer, NOW_S, at, claims_with, key_file, now, settings};
use super::key_server::{KeyServer, ok};
use crate::support::TEST_TIMEOUT;

/// A token that is valid for a day.
fn token(issuer: &Issuer, kid: &str) -> String {
    let header = json!({"alg": "ES256", "kid": kid}).to_string();
    issuer.token_of_text("ES256", header, claims_with(&json!({"exp": NOW_S + 86_400})).to_string())
}

/// A set with the key of P-256 under this id.
fn set(issuer: &Issuer, kid: &str) -> Value {
    json!({"keys": [Issuer::ec_jwk(&issuer.p256, kid, "P-256")]})
}

async fn started(issuer: &Issuer) -> (KeyServer, JwtVerifier) {
    let server = KeyServer::start(&set(issuer, "first")).await;
    let verifier = JwtVerifier::start(settings(KeySource::Url(server.url.parse().unwrap())), now());
    (server, verifier)
}

async fn result(verifier: &JwtVerifier, token: &str, after_s: i64) -> Result<(), JwtRefusal> {
    let verify = verifier.verify(token, at(NOW_S + after_s));
    tokio::time::timeout(TEST_TIMEOUT, verify).await.expect("a result in time").map(|_| ())
}

#[tokio::test]
async fn the_keys_are_fetched_once_at_the_start_and_tokens_wait_for_them() {
    let issuer = Issuer::new();
    let (server, verifier) = started(&issuer).await;
    let first = token(&issuer, "first");
    let results = join_all((0..50).map(|_| result(&verifier, &first, 0))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn tokens_with_a_new_key_share_one_fetch() {
    let issuer = Issuer::new();
    let (server, verifier) = started(&issuer).await;
    result(&verifier, &token(&issuer, "first"), 0).await.unwrap();
    server.respond(ok(&set(&issuer, "second").to_string()));
    let second = token(&issuer, "second");
    let results = join_all((0..50).map(|_| result(&verifier, &second, 60))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(server.requests(), 2);
    assert_eq!(result(&verifier, &token(&issuer, "first"), 60).await, Err(JwtRefusal::UnknownKey), "it was withdrawn");
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn unknown_keys_cause_one_fetch_a_minute() {
    let issuer = Issuer::new();
    let (server, verifier) = started(&issuer).await;
    result(&verifier, &token(&issuer, "first"), 0).await.unwrap();
    let mut fetches = Vec::new();
    for second in [1, 30, 59, 60, 61, 119, 120, 120, 179, 180] {
        let unknown = token(&issuer, &format!("made-up-{second}"));
        assert_eq!(result(&verifier, &unknown, second).await, Err(JwtRefusal::UnknownKey));
        fetches.push(server.requests());
    }
    assert_eq!(fetches, [1, 1, 1, 2, 2, 2, 3, 3, 3, 4]);
}

#[tokio::test]
async fn the_former_keys_stay_if_a_fetch_fails_and_failures_count_for_the_minute() {
    let issuer = Issuer::new();
    let elsewhere = KeyServer::start(&set(&issuer, "elsewhere")).await;
    let (server, verifier) = started(&issuer).await;
    result(&verifier, &token(&issuer, "first"), 0).await.unwrap();
    let elsewhere_set = set(&issuer, "elsewhere").to_string();
    let responses = [
        format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", elsewhere.url),
        format!("HTTP/1.1 500 Oops\r\ncontent-length: {}\r\n\r\n{elsewhere_set}", elsewhere_set.len()),
        ok("{\"keys\":[]}"),
        ok("not JSON"),
        ok(&json!({"filler": "x".repeat(300_000), "keys": set(&issuer, "elsewhere")["keys"]}).to_string()),
        format!("HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n{elsewhere_set}"),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"key".into(),
        "nonsense".into(),
        String::new(),
    ];
    for (minute, response) in (1..).zip(responses) {
        server.respond(response.clone());
        let unknown = token(&issuer, "elsewhere");
        for _ in 0..3 {
            assert_eq!(result(&verifier, &unknown, 60 * minute).await, Err(JwtRefusal::UnknownKey), "{response}");
        }
        assert_eq!(server.requests(), 1 + usize::try_from(minute).unwrap(), "{response}");
        result(&verifier, &token(&issuer, "first"), 60 * minute).await.unwrap();
    }
    assert_eq!(elsewhere.requests(), 0, "redirects are not followed");
}

#[tokio::test]
async fn keys_that_could_not_be_fetched_at_the_start_are_fetched_for_a_later_token() {
    let issuer = Issuer::new();
    let server = KeyServer::start(&json!({})).await;
    server.respond(String::new());
    let verifier = JwtVerifier::start(settings(KeySource::Url(server.url.parse().unwrap())), now());
    assert_eq!(result(&verifier, &token(&issuer, "first"), 0).await, Err(JwtRefusal::UnknownKey));
    server.respond(ok(&set(&issuer, "first").to_string()));
    assert_eq!(result(&verifier, &token(&issuer, "first"), 59).await, Err(JwtRefusal::UnknownKey));
    result(&verifier, &token(&issuer, "first"), 60).await.unwrap();
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_fetch_goes_on_if_the_request_that_began_it_ends() {
    let issuer = Issuer::new();
    let (server, verifier) = started(&issuer).await;
    result(&verifier, &token(&issuer, "first"), 0).await.unwrap();
    server.hold();
    server.respond(ok(&set(&issuer, "second").to_string()));
    let (of_client, second) = (verifier.clone(), token(&issuer, "second"));
    let client = tokio::spawn(async move { result(&of_client, &second, 60).await });
    server.wait_for(2).await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    server.release();
    result(&verifier, &token(&issuer, "second"), 61).await.unwrap();
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_key_that_the_issuer_has_withdrawn_is_refused_some_minutes_later() {
    let issuer = Issuer::new();
    let (server, verifier) = started(&issuer).await;
    let first = token(&issuer, "first");
    result(&verifier, &first, 0).await.unwrap();
    server.respond(ok(&set(&issuer, "second").to_string()));
    result(&verifier, &first, 899).await.unwrap();
    assert_eq!(server.requests(), 1);
    // This token doesn't wait for the fetch that it begins. The token with the new key does.
    let _ = result(&verifier, &first, 900).await;
    server.wait_for(2).await;
    result(&verifier, &token(&issuer, "second"), 900).await.unwrap();
    assert_eq!((result(&verifier, &first, 900).await, server.requests()), (Err(JwtRefusal::UnknownKey), 2));
}

#[tokio::test]
async fn a_clock_that_was_set_back_does_not_stop_the_fetches() {
    let issuer = Issuer::new();
    let (server, verifier) = started(&issuer).await;
    result(&verifier, &token(&issuer, "first"), 0).await.unwrap();
    server.respond(ok(&set(&issuer, "second").to_string()));
    result(&verifier, &token(&issuer, "second"), -3600).await.unwrap();
}

/// Writes the file as if that happened so many seconds after the start.
fn write(path: &std::path::Path, text: &str, after_s: u64) {
    std::fs::write(path, text).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000 + after_s)).unwrap();
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changes_and_a_damaged_one_keeps_the_former_keys() {
    let issuer = Issuer::new();
    let (folder, path) = key_file(&set(&issuer, "first"));
    let verifier = JwtVerifier::start(settings(KeySource::File(path.clone())), now());
    let (first, second) = (token(&issuer, "first"), token(&issuer, "second"));
    result(&verifier, &first, 0).await.unwrap();

    write(&path, "{\"keys\":[", 1);
    result(&verifier, &first, 1).await.unwrap();
    write(&path, &set(&issuer, "second").to_string(), 2);
    result(&verifier, &second, 2).await.unwrap();
    assert_eq!(result(&verifier, &first, 2).await, Err(JwtRefusal::UnknownKey));

    std::fs::remove_file(&path).unwrap();
    result(&verifier, &second, 3).await.unwrap();
    let other = folder.path().join("other.json");
    write(&other, &set(&issuer, "first").to_string(), 2);
    std::fs::rename(&other, &path).unwrap();
    result(&verifier, &first, 4).await.unwrap();
    write(&path, &"x".repeat(300_000), 5);
    result(&verifier, &first, 5).await.unwrap();
}
