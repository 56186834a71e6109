//! The official clients of other languages against Taskbell's own log. The clients must be installed first, so these
//! tests run only on request:
//!
//! ```sh
//! npm ci --prefix tests/wire/clients/node
//! pip install --no-deps --require-hashes -r tests/wire/clients/python/requirements.txt
//! cargo test --test taskbell wire::foreign -- --ignored
//! ```

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::log::{Log, queued};
use super::*;

/// Runs the script with the address and the name of the stream as arguments. Appends an event when the script has
/// caught up.
async fn passes(program: &str, script: &str) {
    let log = Log::new().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/clients");
    let mut child = Command::new(program)
        .arg(folder.join(script))
        .arg(log.server.addr().to_string())
        .arg(log.stream(0))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(in_time(lines.next_line()).await.unwrap().as_deref(), Some("caught up"));
    log.append_live(queued()).await;
    assert_eq!(in_time(lines.next_line()).await.unwrap().as_deref(), Some("passed"));
    assert!(in_time(child.wait()).await.unwrap().success());
}

#[tokio::test]
#[ignore = "needs the packages of tests/wire/clients/node"]
async fn the_official_node_client_reads_and_subscribes() {
    passes("node", "node/check.mjs").await;
}

/// `TASKBELL_WIRE_PYTHON` names the interpreter that has the packages; `python3` otherwise.
#[tokio::test]
#[ignore = "needs the packages of tests/wire/clients/python"]
async fn the_official_python_client_reads_and_subscribes() {
    let python = std::env::var("TASKBELL_WIRE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    passes(&python, "python/check.py").await;
}
