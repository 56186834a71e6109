//! A command receives its input, writes output and ends.

use serde_json::{Value, json};

use super::process::{WorkerProcess, events, submit, wait_for_progress};
use crate::support::{Server, taskbell};

#[tokio::test]
async fn a_command_receives_its_task_and_reports_progress_output_and_a_result() {
    let server = Server::start();
    let script = r#"
        read -r input
        echo "$input for $TASKBELL_OWNER by ${TASKBELL_TOKEN-unknown}, label $TASKBELL_LABEL_COST_CENTRE"
        echo "$TASKBELL_KIND $TASKBELL_ATTEMPT $TASKBELL_TITLE at $TASKBELL_SERVER" >&2
        echo "::progress 0.25 a quarter"
        echo "::result is no result here"
        echo "::unknown words are output"
        echo '::result {"only": "the last counts"}'
        echo "::progress nonsense"
        echo "all done"
        printf '::result {"id": "%s"}' "$TASKBELL_TASK_ID"
    "#;
    let worker = WorkerProcess::start(&server, script);
    let more = json!({"title": "A walk", "input": {"a": [1, "ä"]}, "labels": {"cost-centre": "7"}, "owner": "ada"});
    let id = submit(&server, more).await;
    let task = server.task_at_end(&id).await;
    assert_eq!(task["status"], "succeeded", "{task}");
    assert_eq!(task["result"], json!({"id": id}));
    assert_eq!(task["outcome"]["message"], "all done");
    let kept = &events(&server, &id, "OutputKept").await[0]["data"];
    let tail = kept["tail"].as_str().unwrap();
    assert_eq!(kept["dropped_bytes"], 0);
    let lines = [
        "{\"a\":[1,\"ä\"]} for ada by unknown, label 7\n".to_owned(),
        format!("demo 1 A walk at {}\n", server.url()),
        "::result is no result here\n".to_owned(),
        "::unknown words are output\n".to_owned(),
        "::result {\"only\": \"the last counts\"}\n".to_owned(),
        "::progress nonsense\n".to_owned(),
        "all done\n".to_owned(),
    ];
    // The line of stderr may arrive before or after the lines of stdout.
    let place = |line: &String| tail.find(line.as_str()).unwrap_or_else(|| panic!("no {line} in {tail}"));
    assert!(lines.iter().enumerate().filter(|(n, _)| *n != 1).map(|(_, line)| place(line)).is_sorted(), "{tail}");
    place(&lines[1]);
    assert_eq!(tail.len(), lines.iter().map(String::len).sum::<usize>(), "{tail}");
    let ended = &events(&server, &id, "Completed").await[0]["data"];
    assert_eq!((&ended["progress"]["fraction"], &ended["progress"]["message"]), (&json!(0.25), &json!("a quarter")));
    let stderr = worker.stop().await;
    assert!(stderr.contains("attempt 1 begins") && stderr.contains("attempt 1 succeeded"), "{stderr}");
}

#[tokio::test]
async fn a_command_that_fails_is_retried_and_its_last_line_is_the_error() {
    let server = Server::start();
    let script = r#"[ "$TASKBELL_ATTEMPT" = 1 ] || exit 0; echo "no disk" >&2; echo; exit 3"#;
    let _worker = WorkerProcess::start(&server, script);
    let id = submit(&server, json!({"max_attempts": 2})).await;
    let task = server.task_at_end(&id).await;
    assert_eq!((&task["status"], &task["attempt"]), (&json!("succeeded"), &json!(2)), "{task}");
    let failed = &events(&server, &id, "AttemptFailed").await[0]["data"]["error"];
    assert_eq!(failed, &json!({"code": "exit_3", "message": "no disk"}));
}

#[tokio::test]
async fn some_failures_are_final() {
    let server = Server::start();
    let _bad = WorkerProcess::with(&server, &["--kind", "demo"], &["sh", "-c", "exit 65"]);
    let _none = WorkerProcess::with(&server, &["--kind", "none"], &["./is-not-there"]);
    let _shot = WorkerProcess::with(&server, &["--kind", "shot"], &["sh", "-c", "kill -9 $$"]);
    for (kind, attempts, code) in [("demo", 3, "exit_65"), ("none", 3, "cannot_start"), ("shot", 1, "killed_by_9")] {
        let id = submit(&server, json!({"kind": kind, "max_attempts": attempts})).await;
        let task = server.task_at_end(&id).await;
        assert_eq!((&task["status"], &task["attempt"]), (&json!("failed"), &json!(1)), "{task}");
        assert_eq!(task["outcome"]["error"]["code"], code, "{task}");
    }
}

#[tokio::test]
async fn the_end_of_much_output_is_kept() {
    let server = Server::start();
    // These are about 200 KiB in lines of 10 bytes, which is more than a pipe holds. All lines are on one output,
    // because the order of lines on two outputs is not exact.
    let _worker = WorkerProcess::start(&server, "seq -f 'line %04g' 1 9999 && seq -f 'more %04g' 1 9999 && exit 1");
    let id = submit(&server, json!({})).await;
    let task = server.task_at_end(&id).await;
    assert_eq!(task["outcome"]["error"], json!({"code": "exit_1", "message": "more 9999"}));
    let kept = &events(&server, &id, "OutputKept").await[0]["data"];
    let (tail, dropped) = (kept["tail"].as_str().unwrap(), kept["dropped_bytes"].as_u64().unwrap());
    assert_eq!((tail.len(), dropped), (64 * 1024, 2 * 99_990 - 64 * 1024));
    let lines: Vec<String> = (1..=9999).map(|n| format!("more {n:04}\n")).collect();
    let lines = lines.concat();
    assert!(lines.ends_with(tail), "{}", &tail[tail.len() - 100..]);
}

#[tokio::test]
async fn output_that_is_not_utf8_is_kept_as_text() {
    let server = Server::start();
    let _worker = WorkerProcess::start(&server, r"printf 'a\377b\000c\n\342\200\250'");
    let id = submit(&server, json!({})).await;
    let task = server.task_at_end(&id).await;
    assert_eq!((&task["status"], &task["outcome"]["message"]), (&json!("succeeded"), &json!("a\u{fffd}b c")), "{task}");
    let kept = &events(&server, &id, "OutputKept").await[0]["data"];
    assert_eq!(kept["tail"], "a\u{fffd}b\0c\n\u{2028}");
}

#[tokio::test]
async fn a_cancel_is_sigterm_and_acknowledged_with_the_commands_name() {
    let server = Server::start();
    let _worker = WorkerProcess::start(
        &server,
        "trap 'echo tidied up; exit 7' TERM; echo '::progress - waiting'; sleep 1000 & wait",
    );
    let id = submit(&server, json!({"max_attempts": 3})).await;
    wait_for_progress(&server, &id, "waiting").await;
    assert_eq!(server.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await.status, 202);
    let task = server.task_at_end(&id).await;
    assert_eq!((&task["status"], &task["outcome"]["message"]), (&json!("cancelled"), &json!("tidied up")), "{task}");
    let cancel = &task["cancel"];
    assert_eq!((&cancel["stopping_after"], &cancel["verdict"]), (&json!("sh"), &json!("cancelled")), "{task}");
}

#[tokio::test]
async fn a_command_that_finishes_after_sigterm_has_succeeded() {
    let server = Server::start();
    let _worker = WorkerProcess::start(&server, "trap 'exit 0' TERM; echo '::progress - waiting'; sleep 1000 & wait");
    let id = submit(&server, json!({})).await;
    wait_for_progress(&server, &id, "waiting").await;
    server.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await;
    let task = server.task_at_end(&id).await;
    assert_eq!(
        (&task["status"], &task["cancel"]["verdict"]),
        (&json!("succeeded"), &json!("finished_first")),
        "{task}"
    );
}

#[tokio::test]
async fn a_command_that_reads_no_input_is_not_blocked() {
    let server = Server::start();
    let _worker = WorkerProcess::start(&server, "exec <&-; exec true");
    let id = submit(&server, json!({"input": "x".repeat(60_000)})).await;
    assert_eq!(server.task_at_end(&id).await["status"], "succeeded");
}

#[tokio::test]
async fn flags_set_kinds_queues_concurrency_and_name() {
    let server = Server::start();
    let flags = ["--kind", "demo", "--kind", "other", "--queue", "slow", "--concurrency", "2", "--name", "me"];
    let _worker =
        WorkerProcess::with(&server, &flags, &["sh", "-c", "echo \"::progress - $TASKBELL_KIND\"; sleep 1000"]);
    let elsewhere = submit(&server, json!({})).await;
    let first = submit(&server, json!({"queue": "slow"})).await;
    let second = submit(&server, json!({"queue": "slow", "kind": "other"})).await;
    let third = submit(&server, json!({"queue": "slow"})).await;
    assert_eq!(wait_for_progress(&server, &first, "demo").await["worker"], "me");
    wait_for_progress(&server, &second, "other").await;
    for id in [elsewhere, third.clone()] {
        assert_eq!(server.task(&id).await["status"], "queued");
    }
    server.post(&format!("/v1/tasks/{first}/cancel"), &json!({})).await;
    wait_for_progress(&server, &third, "demo").await;
}

#[tokio::test]
async fn events_are_json_lines_with_the_json_flag() {
    let server = Server::start();
    let worker =
        WorkerProcess::with(&server, &["--kind", "demo", "--json"], &["sh", "-c", "echo 'a\u{1b}[31m'; exit 4"]);
    let id = submit(&server, json!({"title": "One"})).await;
    server.task_at_end(&id).await;
    let stderr = worker.stop().await;
    let lines: Vec<Value> = stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = [
        json!({"type": "begun", "task": id, "attempt": 1, "kind": "demo", "title": "One"}),
        json!({"type": "ended", "task": id, "attempt": 1, "outcome": "failed", "message": "exit_4: a [31m"}),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn wrong_arguments_are_a_usage_error() {
    let worker = |args: &[&str]| taskbell().arg("work").args(args).output().expect("it runs");
    let wrong: [&[&str]; 6] = [
        &["--kind", "demo"],
        &["--", "true"],
        &["--kind", "Not A Kind", "--", "true"],
        &["--kind", "demo", "--concurrency", "0", "--", "true"],
        &["--kind", "demo", "--name", "local/me", "--", "true"],
        &["--kind", "demo", "--queue", "", "--", "true"],
    ];
    for args in wrong {
        assert_eq!(worker(args).status.code(), Some(2), "{args:?}");
    }
}
