//! `::result`: kept as it was written, or a failed attempt that says why; never a success without its result.

use serde_json::{Value, json};

use super::process::{WorkerProcess, events, submit};
use crate::support::Server;

/// Runs a command that prints its input, which is a text: the task at its end, and the text of its page.
async fn printed(server: &Server, stdout: &str) -> (Value, String) {
    let id = submit(server, json!({"input": stdout})).await;
    let task = server.task_at_end(&id).await;
    (task, server.get(&format!("/v1/tasks/{id}")).await.text)
}

/// A worker whose commands write the text of their input to stdout.
fn printer(server: &Server) -> WorkerProcess {
    // The input is one line of JSON: a text whose escapes printf knows too.
    WorkerProcess::start(server, r#"read -r input; input=${input#\"}; printf "${input%\"}""#)
}

#[tokio::test]
async fn a_result_is_kept_exactly_as_it_was_written() {
    let server = Server::start();
    let _worker = printer(&server);
    for (line, kept) in [
        ("::result 1.50", "1.50"),
        ("::result 123456789012345678901234567890", "123456789012345678901234567890"),
        ("::result 1e400", "1e400"),
        ("::result  [ 1E5 , -0 ] ", "[1E5,-0]"),
        ("::result null", "null"),
    ] {
        let (task, page) = printed(&server, line).await;
        assert_eq!(task["status"], "succeeded", "{line}: {page}");
        assert!(page.contains(&format!(r#""result":{kept}"#)), "{line}: {page}");
    }
}

#[tokio::test]
async fn a_result_that_cannot_be_read_fails_the_attempt_for_good_and_is_kept_as_output() {
    let server = Server::start();
    let _worker = printer(&server);
    let deep = |levels: usize| format!("::result {}{}", "[".repeat(levels), "]".repeat(levels));
    let (task, page) = printed(&server, &deep(32)).await;
    assert_eq!(task["status"], "succeeded", "{page}");
    for (line, why) in [
        (deep(33), "nested deeper than 32 levels"),
        (deep(128), "nested deeper than 32 levels"),
        (deep(2000), "nested deeper than 32 levels"),
        ("::result {".to_owned(), "line 1 column"),
        ("::result no JSON".to_owned(), "line 1 column"),
        ("::result".to_owned(), "line 1 column"),
        ("::result ".to_owned(), "line 1 column"),
        ("::result 1 2".to_owned(), "trailing characters"),
        ("::result 1\n::result 01".to_owned(), "line 1 column"),
    ] {
        let (task, page) = printed(&server, &line).await;
        let error = &task["outcome"]["error"];
        assert_eq!((&task["status"], &error["code"]), (&json!("failed"), &json!("invalid_result")), "{line}: {page}");
        assert!(error["message"].as_str().unwrap().contains(why), "{line}: {error}");
        let last = line.rsplit('\n').next().unwrap();
        assert!(task["output"]["tail"].as_str().unwrap().contains(last), "{line}: {task}");
    }
}

#[tokio::test]
async fn a_repeated_key_and_bytes_that_are_no_text_are_no_result_either() {
    let server = Server::start();
    let scripts = [
        (r#"echo '::result {"a":1,"a":2}'"#, "this key is repeated"),
        (r#"printf '::result "\377"'"#, "not UTF-8"),
        (r#"echo '::result "\ud800"'"#, "surrogate"),
    ];
    for (n, (script, why)) in scripts.into_iter().enumerate() {
        let kind = format!("demo.{n}");
        let _worker = WorkerProcess::with(&server, &["--kind", &kind], &["sh", "-c", script]);
        let id = submit(&server, json!({"kind": kind, "max_attempts": 3})).await;
        let task = server.task_at_end(&id).await;
        let error = &task["outcome"]["error"];
        assert_eq!((&error["code"], &task["attempt"]), (&json!("invalid_result"), &json!(1)), "{task}");
        assert!(error["message"].as_str().unwrap().contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_result_that_is_too_large_fails_the_attempt_also_where_its_line_is_too_long() {
    let server = Server::start();
    let write = |bytes: usize| format!("printf '::result \"'; head -c {bytes} /dev/zero | tr '\\0' x; printf '\"'");
    for (bytes, fits) in [(256 * 1024 - 2, true), (256 * 1024 - 1, false), (400 * 1024, false), (2_000_000, false)] {
        let kind = format!("demo.{bytes}");
        let _worker = WorkerProcess::with(&server, &["--kind", &kind], &["sh", "-c", &write(bytes)]);
        let id = submit(&server, json!({"kind": kind})).await;
        let task = server.task_at_end(&id).await;
        let code = &task["outcome"]["error"]["code"];
        assert_eq!(task["status"] == "succeeded", fits, "{bytes}: {code}");
        assert_eq!(*code, if fits { Value::Null } else { json!("result_too_large") }, "{bytes}");
    }
}

#[tokio::test]
async fn a_line_that_follows_makes_a_result_output_whether_or_not_it_could_be_read() {
    let server = Server::start();
    let _worker = printer(&server);
    for line in ["::result {", "::result 1", "::result"] {
        let (task, page) = printed(&server, &format!("{line}\nall done\n")).await;
        assert_eq!((&task["status"], &task["result"]), (&json!("succeeded"), &Value::Null), "{line}: {page}");
        assert_eq!(task["output"]["tail"], format!("{line}\nall done\n"));
    }
    let long = "printf '::result '; head -c 400000 /dev/zero | tr '\\0' x; echo; echo all done";
    let _other = WorkerProcess::with(&server, &["--kind", "long"], &["sh", "-c", long]);
    let id = submit(&server, json!({"kind": "long"})).await;
    assert_eq!(server.task_at_end(&id).await["outcome"]["message"], "all done");
}

#[tokio::test]
async fn a_cancelled_command_may_leave_a_result_that_cannot_be_read() {
    let server = Server::start();
    let _worker = WorkerProcess::start(
        &server,
        "trap 'echo tidied up; echo \"::result {\"; exit 7' TERM; echo '::progress - waiting'; sleep 1000 & wait",
    );
    let id = submit(&server, json!({})).await;
    super::process::wait_for_progress(&server, &id, "waiting").await;
    assert_eq!(server.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await.status, 202);
    let task = server.task_at_end(&id).await;
    assert_eq!((&task["status"], &task["outcome"]["message"]), (&json!("cancelled"), &json!("tidied up")), "{task}");
    let kept = &events(&server, &id, "OutputKept").await[0]["data"]["tail"];
    assert_eq!(kept, "tidied up\n::result {\n");
}

#[tokio::test]
async fn a_command_reads_its_input_exactly_as_it_was_sent() {
    let server = Server::start();
    let _worker = WorkerProcess::start(&server, r#"read -r input; echo "::result $input""#);
    let sent = r#"{"n":1.50,"big":123456789012345678901234567890,"far":1e400,"$serde_json::private::RawValue":"[1]"}"#;
    let body = format!(r#"{{"kind":"demo","input":{sent}}}"#);
    let request = server.client().post(server.url() + "/v1/tasks").header("content-type", "application/json");
    let answer = server.send(request.body(body)).await;
    let id = answer.text.split('"').nth(3).unwrap().to_owned();
    server.task_at_end(&id).await;
    let page = server.get(&format!("/v1/tasks/{id}")).await.text;
    assert!(page.contains(&format!(r#""result":{sent}"#)), "{page}");
}
