//! The program with the tables `[auth.jwt]` and `[auth.proxy]`: what clients get, and which settings are refused.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::issuer::{Issuer, claims_with};
use crate::support::{HttpResponse, Server, taskbell};

/// Claims that are valid for the next minutes of the real clock.
fn claims(changes: &Value) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut claims = claims_with(&json!({"exp": now + 600}));
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    claims
}

/// A server with these tables, and with the keys of the issuer in the file `keys.json`. The folder of the settings must live
/// as long as the server.
fn server(issuer: &Issuer, tables: &str, args: &[&str]) -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("settings.toml");
    fs::write(folder.path().join("keys.json"), issuer.key_set().to_string()).unwrap();
    fs::write(&config, tables).unwrap();
    let config = ["--config", config.to_str().unwrap()];
    (Server::with(config.iter().chain(args).copied()), folder)
}

const JWT: &str =
    "[auth.jwt]\nissuer = \"https://issuer.example/realm\"\naudience = \"taskbell\"\njwks_file = \"keys.json\"\n";
const PROXY: &str = "[auth.proxy]\naddresses = [\"127.0.0.1\"]\nsubject_header = \"X-Forwarded-User\"\n\
    role_header = \"X-Forwarded-Role\"\nsecret = \"a-secret-of-the-proxy\"\n";

async fn get(server: &Server, path: &str, headers: &[(&str, &str)]) -> HttpResponse {
    let request = headers
        .iter()
        .fold(server.client().get(server.url() + path), |request, (name, value)| request.header(*name, *value));
    server.send(request).await
}

async fn with_bearer(server: &Server, path: &str, token: &str) -> HttpResponse {
    get(server, path, &[("authorization", &format!("Bearer {token}"))]).await
}

#[tokio::test]
async fn a_jwt_authenticates_its_subject_and_every_bad_token_gets_the_same_401() {
    let issuer = Issuer::new();
    let (server, _folder) = server(&issuer, JWT, &[]);
    let token = issuer.token("RS256", &claims(&json!({})));
    assert_eq!(with_bearer(&server, "/v1/tasks", &token).await.status, 200);
    let request = server.client().post(server.url() + "/v1/tasks").bearer_auth(&token);
    let created = server.send(request.json(&json!({"kind": "mail.send"}))).await;
    assert_eq!((created.status, &created.body["owner"]), (201, &json!("anna")), "{}", created.text);

    let mut details = Vec::new();
    for (why, token) in [
        ("expired", issuer.token("ES256", &claims(&json!({"exp": 1_700_000_000})))),
        ("by another issuer", Issuer::other().token("RS256", &claims(&json!({})))),
        ("without a role", issuer.token("ES256", &claims(&json!({"taskbell_role": "boss"})))),
        ("no JWT", "a.b.c".to_owned()),
        ("no token", "tb_00".to_owned()),
    ] {
        let response = with_bearer(&server, "/v1/tasks", &token).await;
        response.assert_problem(401, "unauthenticated");
        assert_eq!(response.header("www-authenticate"), "Bearer", "{why}");
        details.push(response.body["detail"].clone());
    }
    details.dedup();
    assert_eq!(details.len(), 1, "{details:?}");
    server.get("/v1/tasks").await.assert_problem(401, "unauthenticated");
    assert_eq!(server.get("/healthz").await.status, 200);
    assert!(server.stderr().contains("the token has expired"), "{}", server.stderr());
}

#[tokio::test]
async fn the_header_of_the_proxy_counts_only_with_its_secret_and_if_it_says_one_thing() {
    let (server, _folder) = server(&Issuer::new(), PROXY, &[]);
    let secret = ("x-taskbell-proxy-secret", "a-secret-of-the-proxy");
    let anna = ("x-forwarded-user", "anna");
    let user = ("x-forwarded-role", "user");
    assert_eq!(get(&server, "/v1/tasks", &[secret, anna, user]).await.status, 200);
    for (why, headers) in [
        ("no secret", vec![anna, user]),
        ("another secret", vec![("x-taskbell-proxy-secret", "a-secret-of-the-proxz"), anna, user]),
        ("a longer secret", vec![("x-taskbell-proxy-secret", "a-secret-of-the-proxy2"), anna, user]),
        ("an empty secret", vec![("x-taskbell-proxy-secret", ""), anna, user]),
        ("two secrets", vec![secret, secret, anna, user]),
        ("two subjects", vec![secret, anna, ("x-forwarded-user", "root"), user]),
        ("the same subject twice", vec![secret, anna, anna, user]),
        ("a list of subjects", vec![secret, ("x-forwarded-user", "anna,root"), user]),
        ("an empty subject", vec![secret, ("x-forwarded-user", ""), user]),
        ("two roles", vec![secret, anna, user, ("x-forwarded-role", "admin")]),
        ("an unknown role", vec![secret, anna, ("x-forwarded-role", "root")]),
        ("an empty role", vec![secret, anna, ("x-forwarded-role", "")]),
        ("no role", vec![secret, anna]),
        ("no subject", vec![secret, user]),
        ("a bearer beside it", vec![secret, anna, ("authorization", "Bearer tb_00")]),
    ] {
        let response = get(&server, "/v1/tasks", &headers).await;
        assert_eq!(
            (response.status, &response.body["code"]),
            (401, &json!("unauthenticated")),
            "{why}: {}",
            response.text
        );
    }
    let forbidden = get(&server, "/metrics", &[secret, anna, user]).await;
    assert_ne!(forbidden.status, 401, "the proxy's role counts");
}

#[tokio::test]
async fn the_header_from_another_address_is_ignored() {
    let tables = PROXY.replace("127.0.0.1", "10.0.0.0/8");
    let (server, _folder) = server(&Issuer::new(), &tables, &[]);
    let headers = [
        ("x-taskbell-proxy-secret", "a-secret-of-the-proxy"),
        ("x-forwarded-user", "anna"),
        ("x-forwarded-role", "admin"),
    ];
    get(&server, "/v1/tasks", &headers).await.assert_problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_subject_over_its_rate_gets_429_with_retry_after() {
    let issuer = Issuer::new();
    let (server, _folder) = server(&issuer, JWT, &["--max-requests-per-s", "1"]);
    let token = issuer.token("ES256", &claims(&json!({})));
    let mut refused = None;
    for _ in 0..100 {
        let response = with_bearer(&server, "/v1/tasks", &token).await;
        if response.status != 200 {
            refused = Some(response);
            break;
        }
    }
    let refused = refused.expect("a refusal, unless each request takes a second");
    refused.assert_problem(429, "too_many_requests");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.body["detail"], "the limit on requests of this subject is 1 per second (max_requests_per_s)");
    let bea = issuer.token("ES256", &claims(&json!({"sub": "bea"})));
    assert_eq!(with_bearer(&server, "/v1/tasks", &bea).await.status, 200);
}

#[tokio::test]
async fn an_address_with_many_wrong_credentials_gets_429_for_the_next_ones() {
    let issuer = Issuer::new();
    let (server, _folder) = server(&issuer, JWT, &["--max-failed-authentications-per-s", "1"]);
    let mut refused = None;
    for _ in 0..100 {
        let response = with_bearer(&server, "/v1/tasks", "tb_00").await;
        if response.status != 401 {
            refused = Some(response);
            break;
        }
    }
    let refused = refused.expect("a refusal, unless each request takes a second");
    refused.assert_problem(429, "too_many_requests");
    assert_eq!(refused.header("retry-after"), "1");
    // A request without a credential isn't a wrong credential.
    server.get("/v1/tasks").await.assert_problem(401, "unauthenticated");
}

/// What `serve` writes to stderr with this settings file, which it must refuse.
fn refusal(folder: &Path, settings: &str) -> String {
    fs::write(folder.join("taskbell.toml"), settings).unwrap();
    let output = taskbell().arg("serve").current_dir(folder).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{settings}\n{text}");
    text
}

#[test]
fn a_setting_that_would_open_a_hole_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("keys.json"), Issuer::new().key_set().to_string()).unwrap();
    let without_keys = JWT.replace("jwks_file = \"keys.json\"\n", "");
    for (settings, reason) in [
        (format!("{JWT}algorithms = [\"HS256\"]"), "auth.jwt.algorithms: \"HS256\" is none of RS256"),
        (format!("{JWT}algorithms = [\"none\"]"), "auth.jwt.algorithms: \"none\" is none of"),
        (format!("{JWT}algorithms = []"), "auth.jwt.algorithms: must not be empty"),
        (format!("{JWT}leeway_s = 301"), "auth.jwt.leeway_s: 301 is not within 0 to 300"),
        (format!("{JWT}default_role = \"root\""), "auth.jwt.default_role: \"root\" is none of user"),
        (format!("{JWT}subject_claim = \"\""), "auth.jwt.subject_claim: must be set and not be empty"),
        (format!("{JWT}[auth.jwt.roles]\nstaff = \"boss\""), "auth.jwt.roles: \"boss\" is none of user"),
        (format!("{JWT}jwks_url = \"https://issuer.example/\""), "set either jwks_url or jwks_file"),
        (without_keys.clone(), "auth.jwt.jwks_url: set either jwks_url or jwks_file"),
        (
            format!("{without_keys}jwks_url = \"http://issuer.example/\""),
            "auth.jwt.jwks_url: it must begin with https://",
        ),
        (format!("{without_keys}jwks_file = \"nowhere.json\""), "is not a file"),
        ("[auth.jwt]\nissuer = \"a\"".into(), "auth.jwt.audience: must be set"),
        ("[auth.jwt]\naudience = \"a\"".into(), "auth.jwt.issuer: must be set"),
        (format!("{JWT}secret = \"x\""), "unknown field `secret`"),
        (PROXY.replace("127.0.0.1", "0.0.0.0/0"), "auth.proxy.addresses: \"0.0.0.0/0\" is not the address of a proxy"),
        (
            PROXY.replace("127.0.0.1", "proxy.example"),
            "auth.proxy.addresses: \"proxy.example\" is not the address of a proxy",
        ),
        (PROXY.replace("[\"127.0.0.1\"]", "[]"), "auth.proxy.addresses: must name the addresses"),
        (PROXY.replace("X-Forwarded-User", "Authorization"), "auth.proxy.subject_header: \"Authorization\" is not"),
        (PROXY.replace("X-Forwarded-Role", "a b"), "auth.proxy.role_header: \"a b\" is not"),
        (PROXY.replace("a-secret-of-the-proxy", "short"), "auth.proxy.secret: must have at least 16 bytes"),
        (format!("{}secret_header = \"X-S\"", PROXY.replace("secret =", "# ")), "auth.proxy.secret: must be set"),
    ] {
        let text = refusal(folder.path(), &settings);
        assert!(text.contains(reason), "{settings}\n{text}");
        assert!(!text.contains("short"), "a secret is shown: {text}");
    }
}
