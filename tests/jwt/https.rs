//! The keys of an issuer over https. The authorities that a process trusts are named by a variable of its environment, so a test
//! runs itself again in a process of its own.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use serde_json::{Value, json};
use taskbell::KeySource;
use taskbell::http::identity::jwt::{JwtRefusal, JwtVerifier};

use super::issuer::{Issuer, NOW_S, at, claims_with, now, settings};
use super::key_server::{KeyServer, ok};
use crate::support::{Server, TEST_TIMEOUT, certificate_file};

/// Names the file with the certificates of the authorities that are trusted, in place of those of the system.
const TRUSTED: &str = "SSL_CERT_FILE";
/// Set in the process that the test has started.
const INNER: &str = "TEST_OF_KEYS_OVER_HTTPS";

/// A set with the key of P-256 under this id.
fn set(issuer: &Issuer, kid: &str) -> Value {
    json!({"keys": [Issuer::ec_jwk(&issuer.p256, kid, "P-256")]})
}

fn token(issuer: &Issuer, kid: &str, expires_at: i64) -> String {
    let header = json!({"alg": "ES256", "kid": kid}).to_string();
    issuer.token_of_text("ES256", header, claims_with(&json!({"exp": expires_at})).to_string())
}

fn trust(authority: &str, file: &Path) {
    fs::copy(certificate_file(authority), file).unwrap();
}

#[test]
fn keys_come_only_from_a_server_with_a_trusted_certificate_and_the_former_ones_stay() {
    if env::var_os(INNER).is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trusted.pem");
        trust("ca.pem", &file);
        let name = "jwt::https::keys_come_only_from_a_server_with_a_trusted_certificate_and_the_former_ones_stay";
        let mut again = Command::new(env::current_exe().unwrap());
        again.args(["--exact", name, "--nocapture"]).env(INNER, "1").env(TRUSTED, &file).env_remove("SSL_CERT_DIR");
        let output = again.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(fetch_with_changing_certificates(Path::new(&env::var_os(TRUSTED).unwrap())));
}

async fn fetch_with_changing_certificates(trusted: &Path) {
    let issuer = Issuer::new();
    let server = KeyServer::start_over_tls(&set(&issuer, "first"), "first").await;
    let verifier = JwtVerifier::start(settings(KeySource::Url(server.url.parse().unwrap())), now());
    let verify = async |kid: &str, after_s: i64| {
        let token = token(&issuer, kid, NOW_S + 86_400);
        let result = tokio::time::timeout(TEST_TIMEOUT, verifier.verify(&token, at(NOW_S + after_s)));
        result.await.expect("a result in time").map(|_| ())
    };
    assert_eq!(verify("first", 0).await, Ok(()));
    server.respond(ok(&set(&issuer, "second").to_string()));
    let mut minute = 0;
    // A certificate of another authority, and one of the right authority for another host.
    for (what, authority, certificate) in
        [("another authority", "other-ca.pem", "first"), ("another host", "ca.pem", "elsewhere")]
    {
        minute += 1;
        trust(authority, trusted);
        server.present(certificate);
        let before = server.requests();
        assert_eq!(verify("second", minute * 60).await, Err(JwtRefusal::UnknownKey), "{what}");
        server.wait_for(before + 1).await;
        assert_eq!(verify("first", minute * 60).await, Ok(()), "after {what} the former key is gone");
    }
    server.present("second");
    assert_eq!(verify("second", 180).await, Ok(()), "the next trusted server has the new key");
    assert_eq!(verify("first", 180).await, Err(JwtRefusal::UnknownKey));
}

/// A program that trusts this authority, with the keys of the issuer over https.
async fn program(issuer: &Issuer, keys: &KeyServer, authority: &str) -> (Server, u16) {
    let folder = tempfile::tempdir().unwrap();
    let table = format!(
        "[auth.jwt]\nissuer = \"https://issuer.example/realm\"\naudience = \"taskbell\"\njwks_url = \"{}\"\n",
        keys.url
    );
    fs::write(folder.path().join("taskbell.toml"), table).unwrap();
    let authority = certificate_file(authority).display().to_string();
    let server = Server::on_prepared_data::<[&str; 0]>(folder, &[(TRUSTED, &authority), ("SSL_CERT_DIR", "")], []);
    let expires_at = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap() + 600;
    let request =
        server.client().get(format!("{}/v1/tasks", server.url())).bearer_auth(token(issuer, "one", expires_at));
    let status = server.send(request).await.status;
    (server, status)
}

#[tokio::test]
async fn a_server_fetches_keys_over_https_from_those_whom_its_machine_trusts() {
    let issuer = Issuer::new();
    let keys = KeyServer::start_over_tls(&set(&issuer, "one"), "first").await;
    let (_server, status) = program(&issuer, &keys, "ca.pem").await;
    assert_eq!(status, 200);
    let (server, status) = program(&issuer, &keys, "other-ca.pem").await;
    assert_eq!(status, 401);
    let text = server.stderr();
    assert!(text.contains("can't be read") && text.contains("certificate"), "{text}");
    assert!(!text.contains("v=1"), "the query is written down: {text}");
}
