//! Tests of `taskbell bench`: every phase, with small numbers.

use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::{Server, taskbell};

fn bench(args: &[&str]) -> Output {
    taskbell().args(["bench", "--quick"]).args(args).stdin(Stdio::null()).output().expect("the command runs")
}

#[track_caller]
fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[track_caller]
fn is_positive(figures: &Value, names: &[&str]) {
    for name in names {
        let median = figures[name]["median"].as_f64();
        assert!(median.is_some_and(|median| median > 0.0), "{name}: {figures:#}");
    }
}

#[test]
fn every_phase_has_figures_and_every_task_is_checked_in_the_log() {
    let said = json(&bench(&["--json", "--n", "300", "--pending", "100,300"]));
    is_positive(
        &said["figures"],
        &[
            "create_1_per_s",
            "create_32_per_s",
            "batch_100_per_s",
            "batch_1000_per_s",
            "drain_per_s",
            "start_p50_ms",
            "start_p99_ms",
            "live_per_s",
            "cancel_to_worker_p50_ms",
            "cancel_to_worker_p99_ms",
            "disk_bytes_per_task",
            "pending_100_lease_p50_us",
            "pending_300_lease_of_100_p50_us",
            "pending_ratio_lease_p50_us",
        ],
    );
    assert!(said["durability"].as_str().is_some_and(|text| text.contains("synchronous=FULL")), "{said:#}");
    assert!(said["tasks_checked"].as_u64().is_some_and(|tasks| tasks >= 300), "{said:#}");
}

#[test]
fn the_phase_sockets_has_figures_with_and_without_sockets() {
    let said = json(&bench(&["--json", "--phase", "sockets", "--sockets", "12"]));
    is_positive(
        &said["figures"],
        &[
            "sockets_none_1_p50_ms",
            "sockets_own_8_p99_ms",
            "sockets_others_8_p50_ms",
            "sockets_ratio_own_1_p50",
            "sockets_own_1_frames_per_s",
            "sockets_own_8_last_socket_p50_ms",
            "sockets_idle_last_socket_p99_ms",
        ],
    );
    assert!(said["tasks_checked"].as_u64().is_some_and(|tasks| tasks > 0), "{said:#}");
}

#[test]
fn several_runs_of_one_phase_give_a_table_with_medians() {
    let output = bench(&["--phase", "drain", "--n", "100", "--runs", "2", "--store", "memory"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for words in
        ["none: the log is in memory", "drain, 1 worker, tasks/s", "medians of 2 runs", "all 200 acknowledged tasks"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("live"), "{text}");
}

#[test]
fn a_given_server_is_measured_while_it_has_other_tasks() {
    let server = Server::start();
    let other = taskbell().args(["submit", "other.kind", "--server", &server.url()]).output().expect("it runs");
    assert!(other.status.success(), "{other:?}");
    let said = json(&bench(&["--json", "--phase", "batch,drain,cancel", "--n", "100", "--server", &server.url()]));
    is_positive(&said["figures"], &["batch_100_per_s", "drain_per_s", "cancel_to_worker_p99_ms"]);
    assert_eq!(said["durability"], "unknown");
    assert_eq!(said["server"], server.url());
}

#[test]
fn a_server_in_a_variable_does_not_get_the_load() {
    let mut command = taskbell();
    command.args(["bench", "--quick", "--json", "--phase", "batch"]).env("TASKBELL_SERVER", "http://127.0.0.1:9");
    assert_eq!(json(&command.output().expect("it runs"))["server"], "own");
}

#[test]
fn a_refusal_by_the_server_ends_the_run_with_one_sentence() {
    let server = Server::with(["--kinds", "only.this"]);
    let output = bench(&["--phase", "create", "--server", &server.url()]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(
        text.contains("this server does not accept tasks of this kind") && text.trim_end().lines().count() == 1,
        "{text}"
    );
    assert!(output.stdout.is_empty(), "{output:?}");
}
