//! The setting `store`: invalid values are refused, and no output contains a password.

use std::process::{Command, Output};

use super::*;
use crate::support::taskbell;

/// The password in the addresses.
const PASSWORD: &str = "s3cret";

/// Runs the command and asserts that its output doesn't contain the password.
fn output(mut command: Command) -> Output {
    let output = command.output().unwrap();
    for text in [&output.stdout, &output.stderr] {
        let text = String::from_utf8_lossy(text);
        assert!(!text.contains(PASSWORD), "{text}");
    }
    output
}

/// What `serve` with these flags, in this folder, prints on stderr before it ends with a usage error.
fn refused(folder: &std::path::Path, args: &[&str]) -> String {
    let mut command = taskbell();
    command.current_dir(folder).arg("serve").args(args);
    refused_by(command)
}

fn refused_by(command: Command) -> String {
    let output = output(command);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn an_address_that_cannot_be_used_is_refused_in_one_line_that_names_the_fault_and_no_password() {
    let folder = tempfile::tempdir().unwrap();
    for (url, fault) in [
        ("esdb://admin:s3cret@", "names no host"),
        ("http://admin:s3cret@db:2113", "begins with esdb://"),
        ("admin:s3cret@db:2113", "like esdb://db.example:2113"),
        ("esdb://admin:s3cret@db:port", "the address"),
        ("esdb://admin:s3cret@db:2113?prefix=a-b", "prefix must be"),
        ("esdb://admin:s3cret@db:2113?tsl=false", "unknown key \"tsl\""),
        ("sqlit", "sqlite, memory"),
    ] {
        let text = refused(folder.path(), &["--store", url]);
        assert!(text.contains("store: ") && text.contains(fault), "{url}: {text}");
    }
}

#[test]
fn a_cluster_and_a_data_folder_exclude_each_other_wherever_they_are_set() {
    let folder = tempfile::tempdir().unwrap();
    let url = "esdb://admin:s3cret@127.0.0.1:1?tls=false";
    let text = refused(folder.path(), &["--store", url, "--data", "log"]);
    assert!(text.contains("set either data or store"), "{text}");
    std::fs::write(folder.path().join("taskbell.toml"), format!("store = \"{url}\"\ndata = \"log\"\n")).unwrap();
    assert!(refused(folder.path(), &[]).contains("set either data or store"));
    std::fs::write(folder.path().join("taskbell.toml"), "store = [\"esdb://admin:s3cret@db\"]\n").unwrap();
    assert!(refused(folder.path(), &[]).contains("line 1"));
    let mut command = taskbell();
    command
        .current_dir(folder.path())
        .args(["serve", "--config", "/dev/null", "--data", "log"])
        .env("TASKBELL_STORE", url);
    assert!(refused_by(command).contains("set either data or store"));
    assert!(!folder.path().join("log").exists());
}

#[test]
fn the_help_tells_how_to_keep_a_password_out_of_the_list_of_processes_and_does_not_show_it() {
    for flag in ["-h", "--help"] {
        let mut command = taskbell();
        command.args(["serve", flag]).env("TASKBELL_STORE", "esdb://admin:s3cret@db:2113");
        let output = output(command);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("TASKBELL_STORE"), "{text}");
        assert!(flag == "-h" || text.contains("put an address with a password into TASKBELL_STORE"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_address_has_a_password_shows_it_neither_in_its_log_nor_in_its_answers() {
    let cluster = Cluster::start().await;
    let url = format!("esdb://admin:{PASSWORD}@{}?tls=false", cluster.addr());
    let server = Server::on_cluster(&url, ["--log", "trace,h2=info,hyper=info"]);
    let first = server.get("/readyz").await;
    wait_until_fresh(&server).await;
    server.submit(&json!({"kind": "report"})).await;
    drop(cluster);
    wait_until_stale(&server).await;
    let down = server.get("/readyz").await;
    let refused = server.post("/v1/tasks", &json!({"kind": "report"})).await;
    down.assert_problem(503, "not_ready");
    for text in [first.text, down.text, refused.text, server.stderr()] {
        assert!(!text.contains(PASSWORD), "{text}");
        assert!(!text.contains("YWRtaW46czNjcmV0"), "the same as a header: {text}");
    }
}
