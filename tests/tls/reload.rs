//! A certificate that is replaced while the server runs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::interval;

use super::{certificate, connect, exchange};
use crate::support::{Server, TEST_TIMEOUT, certificate_file};

fn copy(name: &str, folder: &Path) {
    for end in ["pem", "key"] {
        copy_one(name, end, folder);
    }
}

/// Replaces the file as programs do it that renew certificates: by a rename.
fn copy_one(name: &str, end: &str, folder: &Path) {
    let new = folder.join("new");
    fs::copy(certificate_file(&format!("{name}.{end}")), &new).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&new, folder.join(format!("used.{end}"))).unwrap();
}

fn start(folder: &Path) -> Server {
    let file = |end: &str| folder.join(format!("used.{end}")).into_os_string();
    Server::with(["--tls-cert".into(), file("pem"), "--tls-key".into(), file("key")])
}

/// Opens connections until the condition holds. The server looks at its files once a second.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let (begun, mut pause) = (Instant::now(), interval(Duration::from_millis(50)));
    while !condition().await {
        pause.tick().await;
        assert!(begun.elapsed() < TEST_TIMEOUT, "{what}: not in time");
    }
}

/// Whether a new connection gets this certificate.
async fn shows(server: &Server, name: &str) -> bool {
    let stream = connect(server).await;
    let shown = &stream.get_ref().1.peer_certificates().unwrap()[0];
    *shown == certificate(&certificate_file(&format!("{name}.pem")))
}

#[tokio::test]
async fn new_connections_get_a_new_certificate_once_both_files_are_there_and_open_ones_go_on() {
    let dir = tempfile::tempdir().unwrap();
    copy("first", dir.path());
    let server = start(dir.path());
    let mut open = connect(&server).await;
    assert!(shows(&server, "first").await);
    copy_one("second", "pem", dir.path());
    until("the log line", async || server.stderr().contains("the former certificate is kept: the key in ")).await;
    assert!(shows(&server, "first").await);
    copy_one("second", "key", dir.path());
    until("the second certificate", async || shows(&server, "second").await).await;
    assert!(server.stderr().contains("the certificate has changed; new connections get the new one"));
    let head = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let response = exchange(&mut open, head).await;
    assert!(response.is_empty() || response.starts_with("HTTP/1.1 200"), "idle for 5 s, or answered: {response}");
    fs::remove_file(dir.path().join("used.key")).unwrap();
    until("the log line", async || server.stderr().matches("the former certificate is kept").count() == 2).await;
    assert!(shows(&server, "second").await);
    copy("first", dir.path());
    until("the first certificate", async || shows(&server, "first").await).await;
    assert_eq!(server.stderr().matches("the former certificate is kept").count(), 2, "{}", server.stderr());
}

#[tokio::test]
async fn a_key_that_every_user_can_read_is_reported_and_used() {
    let dir = tempfile::tempdir().unwrap();
    copy("first", dir.path());
    let warning = "every user of this machine can read the private key in ";
    let careful = start(dir.path());
    assert!(shows(&careful, "first").await && !careful.stderr().contains(warning), "{}", careful.stderr());
    fs::set_permissions(dir.path().join("used.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let careless = start(dir.path());
    assert!(shows(&careless, "first").await && careless.stderr().contains(warning), "{}", careless.stderr());
}
