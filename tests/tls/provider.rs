//! The crypto provider of this crate is never that of the process.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use taskbell::server::{Config, TlsFiles, run};
use tokio_rustls::rustls::crypto::CryptoProvider;

#[cfg(feature = "eventstore")]
use super::flags;
use crate::support::{TEST_TIMEOUT, certificate_file, http_client};

/// Runs in a process of its own, because other tests use the client of EventStoreDB, which installs a provider.
#[test]
fn a_server_and_a_client_with_tls_install_no_provider_for_the_process() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "tls::provider::in_a_process_of_its_own", "--ignored", "--nocapture"]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
#[ignore = "the test above starts it in a process of its own"]
async fn in_a_process_of_its_own() {
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tls = TlsFiles { cert: certificate_file("first.pem"), key: certificate_file("first.key") };
    let config = Config { listen, tls: Some(tls), data: None, ..Config::default() };
    let server = std::thread::spawn(move || run(config).map_err(|error| error.to_string()));
    let (client, url) = (http_client(), format!("https://{listen}/healthz"));
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    let answering = async {
        loop {
            pause.tick().await;
            assert!(!server.is_finished(), "the server has ended");
            if let Ok(response) = client.get(&url).send().await {
                return response.status().as_u16();
            }
        }
    };
    assert_eq!(tokio::time::timeout(TEST_TIMEOUT, answering).await.expect("an answer in time"), 200);
    assert!(CryptoProvider::get_default().is_none(), "a provider of the process is installed");
}

#[cfg(feature = "eventstore")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_a_cluster_speaks_tls_too() {
    let cluster = crate::cluster::Cluster::start().await;
    let server = crate::support::Server::on_cluster(&cluster.url(), flags("first"));
    let ready = async { while server.get("/readyz").await.status != 200 {} };
    tokio::time::timeout(TEST_TIMEOUT, ready).await.expect("ready in time");
    let id = server.submit(&serde_json::json!({"kind": "a"})).await;
    assert_eq!(server.task(&id).await["status"], "queued");
}
