//! Tests of the command line: the real program against a real server.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Server, TEST_TIMEOUT, signal, taskbell};

mod backup;
mod export;
mod proof;
mod text;
mod token;
mod views;

/// The exit code and the output of a command that has ended.
#[derive(Debug)]
struct Ended {
    exit: i32,
    out: String,
    err: String,
}

impl Ended {
    fn of(output: &Output) -> Self {
        Self {
            exit: output.status.code().expect("an exit code"),
            out: String::from_utf8(output.stdout.clone()).expect("UTF-8"),
            err: String::from_utf8(output.stderr.clone()).expect("UTF-8"),
        }
    }

    /// Checks the exit code.
    #[track_caller]
    fn exits(self, exit: i32) -> Self {
        assert_eq!(self.exit, exit, "{self:?}");
        self
    }

    /// Checks the exit code, and that stderr has one sentence with all of these words.
    #[track_caller]
    fn fails_with(self, exit: i32, words: &[&str]) -> Self {
        assert_eq!(self.exit, exit, "{self:?}");
        assert_eq!(self.err.trim_end().lines().count(), 1, "{}", self.err);
        assert!(self.err.starts_with("error: ") && words.iter().all(|word| self.err.contains(word)), "{}", self.err);
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn command(server: &Server, args: &[&str]) -> Command {
    let mut command = taskbell();
    command.args(args).env("TASKBELL_SERVER", server.url()).stdin(Stdio::null());
    command
}

fn run(server: &Server, args: &[&str]) -> Ended {
    Ended::of(&command(server, args).output().expect("the command runs"))
}

fn run_without_server(args: &[&str]) -> Ended {
    Ended::of(&taskbell().args(args).stdin(Stdio::null()).output().expect("the command runs"))
}

fn with_stdin(server: &Server, args: &[&str], stdin: &str) -> Ended {
    let mut child = command(server, args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    child.stdin.take().expect("stdin").write_all(stdin.as_bytes()).expect("it reads");
    Ended::of(&child.wait_with_output().expect("it ends"))
}

/// A command that is running, and its lines as they arrive.
struct RunningCommand {
    child: Child,
    lines: Receiver<String>,
}

impl RunningCommand {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command runs");
        let (tell, lines) = channel();
        let out = child.stdout.take().map(|out| Box::new(out) as Box<dyn std::io::Read + Send>);
        let err = child.stderr.take().map(|err| Box::new(err) as Box<dyn std::io::Read + Send>);
        for stream in out.into_iter().chain(err) {
            let tell = tell.clone();
            std::thread::spawn(move || {
                BufReader::new(stream).lines().map_while(Result::ok).for_each(|line| drop(tell.send(line)));
            });
        }
        Self { child, lines }
    }

    /// Waits for a line of stdout or stderr with this word.
    #[track_caller]
    fn wait_for_line(&self, word: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(TEST_TIMEOUT).unwrap_or_else(|_| panic!("no line with {word:?}"));
            if line.contains(word) {
                return line;
            }
        }
    }

    fn exit(&mut self) -> i32 {
        self.child.wait().expect("it ends").code().expect("an exit code")
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A content root with a `source` of two files, and a server that may use it.
fn server_with_content(bytes_per_s: Option<u64>) -> (TempDir, Server) {
    let root = tempfile::tempdir().expect("a folder");
    fs::create_dir(root.path().join("source")).expect("a source");
    fs::write(root.path().join("source/small.txt"), "small").expect("a file");
    fs::write(root.path().join("source/zlarge.bin"), vec![7_u8; 400_000]).expect("a file");
    let server = Server::with_content(root.path(), bytes_per_s);
    (root, server)
}

fn input(root: &Path, source: &str) -> String {
    json!({"source": root.join(source), "targets": [root.join("target")]}).to_string()
}

/// Submits a distribution; its id.
fn distribute(server: &Server, root: &Path, source: &str, more: &[&str]) -> String {
    let args = [&["submit", "content.distribute", "--input", "-", "--json"], more].concat();
    let done = with_stdin(server, &args, &input(root, source)).exits(0);
    done.json()["id"].as_str().expect("an id").to_owned()
}

fn submit(server: &Server, more: &[&str]) -> String {
    let done = run(server, &[&["submit", "some.kind", "--json"], more].concat()).exits(0);
    done.json()["id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_submitted_task_is_in_the_list_in_show_and_in_the_log() {
    let server = Server::start();
    let done = run(&server, &["submit", "some.kind", "--title", "First of all", "--label", "a:b", "--priority", "-3"]);
    let out = done.exits(0).out;
    assert!(out.contains("queued") && out.contains("First of all") && out.contains("waits for a worker"), "{out}");
    let id = out.split_whitespace().next().expect("an id").to_owned();

    let list = run(&server, &["list", "--label", "a:b", "--status", "queued,running"]).exits(0).out;
    assert!(list.starts_with("STATUS") && list.contains("First of all") && list.contains(&id), "{list}");
    assert!(list.trim_end().ends_with("1 of 1 tasks"), "{list}");
    let list = run(&server, &["list", "--status", "failed"]).exits(0).out;
    assert_eq!(list, "0 of 0 tasks\n");

    let shown = run(&server, &["show", &id]).exits(0).out;
    for words in ["First of all", "priority -3", "a:b", "timeline", "Created: some.kind, First of all", "via cli"] {
        assert!(shown.contains(words), "{words} in {shown}");
    }
    let head = run(&server, &["log", "head"]).exits(0).out;
    assert!(head.starts_with("position 1 "), "{head}");
    let tail = run(&server, &["log", "tail"]).exits(0).out;
    assert!(tail.lines().count() == 1 && tail.contains("Created: some.kind") && tail.contains(&id), "{tail}");
}

#[test]
fn json_prints_the_answer_of_the_api_for_each_command() {
    let server = Server::start();
    let id = submit(&server, &["--run-at", "2999-01-01T00:00:00Z", "--max-attempts", "2", "--timeout-s", "9"]);
    let task = run(&server, &["show", &id, "--json"]).exits(0).json();
    assert_eq!(task["status"], "scheduled");
    assert_eq!((&task["max_attempts"], &task["timeout_s"]), (&json!(2), &json!(9)));
    let list = run(&server, &["list", "--json", "--limit", "1", "--order", "asc"]).exits(0).json();
    assert_eq!((&list["total"], &list["items"][0]["id"]), (&json!(1), &json!(id)));
    let cancelled = run(&server, &["cancel", &id, "--reason", "no longer", "--json"]).exits(0).json();
    assert_eq!((&cancelled["status"], &cancelled["cancel"]["reason"]), (&json!("cancelled"), &json!("no longer")));
    let retried = run(&server, &["retry", &id, "--reason", "again", "--json"]).exits(0).json();
    assert_eq!(retried["status"], "queued");
    let head = run(&server, &["log", "head", "--json"]).exits(0).json();
    let tail = run(&server, &["log", "tail", "--after", "0", "--json"]).exits(0).out;
    let events: Vec<Value> = tail.lines().map(|line| serde_json::from_str(line).expect("ndjson")).collect();
    assert_eq!(events.last().map(|event| &event["position"]), Some(&head["position"]));
    assert!(events.iter().all(|event| event["meta"]["via"] == "cli"), "{tail}");
    let one = run(&server, &["log", "tail", "--type", "Retried", "--json"]).exits(0).json();
    assert_eq!(one["data"]["reason"], "again");
    let watched = run(&server, &["cancel", &id, "--wait", "--json"]).exits(0).json();
    assert_eq!(watched["status"], "cancelled");
    let problem = run(&server, &["show", "01890000-0000-7000-8000-000000000000", "--json"]).exits(3).json();
    assert_eq!(problem["code"], "not_found");
}

#[test]
fn wait_prints_the_end_and_exits_with_its_code() {
    let (root, server) = server_with_content(None);
    let args = ["submit", "content.distribute", "--title", "Good", "--input", "-", "--wait"];
    let done = with_stdin(&server, &args, &input(root.path(), "source")).exits(0);
    assert!(done.out.lines().last().is_some_and(|line| line.starts_with("succeeded")), "{done:?}");
    assert_eq!(fs::read_to_string(root.path().join("target/small.txt")).expect("the copy"), "small");

    let missing = [&args[..], &["--max-attempts", "1", "--json"]].concat();
    let done = with_stdin(&server, &missing, &input(root.path(), "missing")).exits(1);
    assert_eq!(done.json()["status"], "failed", "{done:?}");
    let id = done.json()["id"].as_str().expect("an id").to_owned();
    let watched = run(&server, &["watch", &id]).exits(1);
    assert!(watched.out.starts_with("failed") && watched.err.is_empty(), "{watched:?}");
}

#[tokio::test]
async fn list_and_watch_show_the_tasks_of_the_owner_that_is_named_and_of_everyone() {
    let server = Server::start();
    for owner in ["ann", "ann", "local"] {
        server.submit(&json!({"kind": "a", "title": format!("of {owner}"), "owner": owner})).await;
    }
    for (args, queued) in
        [(&[][..], 3), (&["--owner", "*"], 3), (&["--owner", "ann"], 2), (&["--owner", "ann,local"], 3)]
    {
        let listed = run(&server, &[&["list", "--json"], args].concat()).exits(0).json();
        assert_eq!(listed["total"], queued, "{args:?}");
        if args.last() != Some(&"ann,local") {
            let watch = RunningCommand::start(command(&server, &[&["watch"], args].concat()));
            assert_eq!(watch.wait_for_line("queued"), format!("{queued} queued · 0 unseen"), "{args:?}");
        }
    }
    run(&server, &["watch", "--owner", "ann,bob"]).fails_with(4, &["owner", "one name"]);
    run(&server, &["watch", "--owner", "ann", "01890000-0000-7000-8000-000000000000"]).exits(2);
}

#[test]
fn a_running_task_is_cancelled_and_all_three_facts_are_shown() {
    let (root, server) = server_with_content(Some(200_000));
    let id = distribute(&server, root.path(), "source", &["--title", "Slow"]);
    let mut watch = RunningCommand::start(command(&server, &["watch", &id]));
    watch.wait_for_line("running");
    let done = run(&server, &["cancel", &id, "--reason", "wrong mirror", "--wait"]).exits(0);
    assert!(done.out.contains("cancelled") && done.out.contains("Slow"), "{done:?}");
    watch.wait_for_line("cancelled");
    assert_eq!(watch.exit(), 1);
    let shown = run(&server, &["show", &id]).exits(0).out;
    for words in ["requested", "wrong mirror", "acknowledged", "ended", "cancelled", "CancelRequested: wrong mirror"] {
        assert!(shown.contains(words), "{words} in {shown}");
    }
    run(&server, &["cancel", &id]).exits(0);
}

#[test]
fn a_task_that_does_not_exist_does_not_keep_the_others_from_being_cancelled() {
    let server = Server::start();
    let (first, last) = (submit(&server, &[]), submit(&server, &[]));
    let done = run(&server, &["cancel", &first, "01890000-0000-7000-8000-000000000000", &last]);
    let done = done.fails_with(3, &["01890000-0000-7000-8000-000000000000"]);
    assert_eq!(done.out.lines().filter(|line| line.contains("cancelled")).count(), 2, "{done:?}");
}

#[test]
fn each_refusal_has_its_exit_code_and_one_sentence() {
    let server = Server::with(["--kinds", "a,b"]);
    run(&server, &["submit", "c"]).fails_with(4, &["kind"]);
    run(&server, &["submit", "a", "--max-attempts", "101"]).fails_with(4, &["/max_attempts", "1 to 100"]);
    run(&server, &["list", "--cursor", "nonsense"]).fails_with(4, &["cursor"]);
    let queued = run(&server, &["submit", "a", "--json"]).exits(0).json()["id"].as_str().expect("an id").to_owned();
    run(&server, &["retry", &queued]).fails_with(4, &["not_final"]);
    for words in [["show"], ["watch"], ["retry"]] {
        run(&server, &[&words[..], &["01890000-0000-7000-8000-000000000000"]].concat()).fails_with(3, &["not_found"]);
    }
    with_stdin(&server, &["submit", "a", "--input", "-"], "{\"a\":").fails_with(2, &["stdin", "not JSON"]);
    run(&server, &["submit", "a", "--input", "/nowhere/x.json"]).fails_with(2, &["/nowhere/x.json"]);
    let key = ["submit", "a", "--idempotency-key", "k", "--json"];
    assert_eq!(run(&server, &key).exits(0).json()["id"], run(&server, &key).exits(0).json()["id"]);
    run(&server, &[&key[..4], &["--title", "Another"]].concat()).fails_with(4, &["idempotency_key_reused"]);
}

#[test]
fn a_wrong_argument_or_setting_is_a_usage_error() {
    run_without_server(&["list", "--server", "https://127.0.0.1:1"]).fails_with(5, &["https://127.0.0.1:1"]);
    run_without_server(&["list", "--server", "nonsense"]).fails_with(2, &["--server"]);
    run_without_server(&["serve", "--listen", "0.0.0.0:0"]).fails_with(2, &["loopback", "--auth required"]);
    run_without_server(&["serve", "--listen", "nonsense"]).fails_with(2, &["listen"]);
    run_without_server(&["serve", "--content-root", "/nowhere"]).fails_with(2, &["content_roots", "/nowhere"]);
    run_without_server(&["serve", "--kinds", "Bad Kind"]).fails_with(2, &["kinds", "Bad Kind"]);
    run_without_server(&["serve", "--log", "=="]).fails_with(2, &["log"]);
    for args in [
        &["list", "--status", "gone"][..],
        &["list", "--limit", "201"],
        &["show", "not-an-id"],
        &["cancel"],
        &["submit"],
        &["submit", "a", "--run-at", "tomorrow"],
        &["submit", "a", "--label", "nothing"],
        &["serve", "--json"],
        &["nonsense"],
    ] {
        run_without_server(args).exits(2);
    }
}

#[test]
fn a_server_that_is_unreachable_or_is_another_program_is_reported() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", socket.local_addr().expect("its address"));
    let other_server = std::thread::spawn(move || {
        let (mut peer, _) = socket.accept().expect("a request");
        let mut request = vec![0; 4096];
        let read = peer.read(&mut request).expect("a request");
        peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello").expect("an answer");
        String::from_utf8_lossy(&request[..read]).to_lowercase()
    });
    run_without_server(&["list", "--server", &url, "--token", "secret"]).fails_with(1, &["not from a Taskbell server"]);
    let request = other_server.join().expect("the other server ends");
    assert!(request.contains("authorization: bearer secret"), "{request}");
    assert!(request.contains(concat!("user-agent: taskbell-cli/", env!("CARGO_PKG_VERSION"))), "{request}");
    for args in [&["list"][..], &["submit", "a"], &["watch"], &["log", "tail"], &["log", "tail", "--follow"]] {
        run_without_server(&[args, &["--server", &url]].concat()).fails_with(5, &[&url]);
    }
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("taskbell.toml"), "slots = 5000\n").expect("a file");
    fs::write(dir.path().join("other.toml"), "\nslots = 5500\n").expect("a file");
    fs::write(dir.path().join("wrong.toml"), "slots = 5\nslotz = 6\n").expect("a file");
    let serve = |env: Option<&str>, args: &[&str]| {
        let mut command = taskbell();
        env.map(|slots| command.env("TASKBELL_SLOTS", slots));
        Ended::of(&command.arg("serve").args(args).current_dir(dir.path()).output().expect("it runs"))
    };
    serve(None, &[]).fails_with(2, &["slots: 5000"]);
    serve(None, &["--config", "other.toml"]).fails_with(2, &["slots: 5500"]);
    serve(Some("6000"), &[]).fails_with(2, &["slots: 6000"]);
    serve(Some("6000"), &["--slots", "7000"]).fails_with(2, &["slots: 7000"]);
    serve(None, &["--config", "wrong.toml"]).fails_with(2, &["wrong.toml, line 2", "slotz"]);
    serve(None, &["--config", "missing.toml"]).fails_with(2, &["missing.toml"]);
}

#[test]
fn a_limit_is_a_flag_a_variable_and_a_line_in_the_table_limits() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("taskbell.toml"), "[limits]\nmax_page_tasks = 1\n").expect("a file");
    fs::write(dir.path().join("wrong.toml"), "[limits]\nmax_pages = 1\n").expect("a file");
    let serve = |env: Option<&str>, args: &[&str]| {
        let mut command = taskbell();
        env.map(|value| command.env("TASKBELL_MAX_PAGE_TASKS", value));
        Ended::of(&command.arg("serve").args(args).current_dir(dir.path()).output().expect("it runs"))
    };
    serve(None, &[]).fails_with(2, &["max_page_tasks: 1 is not within 20 to 1000"]);
    serve(Some("2"), &[]).fails_with(2, &["max_page_tasks: 2 "]);
    serve(Some("2"), &["--max-page-tasks", "3"]).fails_with(2, &["max_page_tasks: 3 "]);
    serve(None, &["--config", "wrong.toml"]).fails_with(2, &["wrong.toml, line 2", "max_pages"]);
    let valid = ["--max-page-tasks", "20"];
    serve(None, &[&valid[..], &["--header-timeout-s", "nan"]].concat()).fails_with(2, &["header_timeout_s: NaN"]);
    serve(None, &[&valid[..], &["--max-batch-bytes", "99999999"]].concat())
        .fails_with(2, &["max_bodies_in_flight_bytes: 33554432 is below max_batch_bytes (99999999)"]);
}

#[test]
fn the_help_shows_the_default_of_each_limit() {
    let limits = taskbell::ClientLimits::default();
    let taskbell::ClientLimits { values, sockets, long_polls, .. } = limits;
    let defaults = [
        ("max-body-bytes", limits.body_bytes.to_string()),
        ("max-batch-bytes", limits.batch_bytes.to_string()),
        ("max-bodies-in-flight-bytes", limits.bodies_in_flight_bytes.to_string()),
        ("max-header-bytes", limits.header_bytes.to_string()),
        ("header-timeout-s", limits.header_timeout.as_secs_f64().to_string()),
        ("body-timeout-s", limits.body_timeout.as_secs_f64().to_string()),
        ("min-body-bytes-per-s", limits.body_bytes_per_s.to_string()),
        ("max-json-depth", values.depth.to_string()),
        ("max-input-bytes", values.input_bytes.to_string()),
        ("max-result-bytes", values.result_bytes.to_string()),
        ("max-title-bytes", values.title_bytes.to_string()),
        ("max-page-tasks", limits.page_tasks.to_string()),
        ("max-filter-terms", limits.filter_terms.to_string()),
        ("max-search-bytes", limits.search_bytes.to_string()),
        ("max-sockets", sockets.total.to_string()),
        ("max-sockets-per-subject", sockets.per_subject.to_string()),
        ("max-sockets-per-address", sockets.per_address.to_string()),
        ("socket-stall-s", limits.socket_stall_timeout.as_secs_f64().to_string()),
        ("max-long-polls", long_polls.total.to_string()),
        ("max-long-polls-per-subject", long_polls.per_subject.to_string()),
        ("max-long-polls-per-address", long_polls.per_address.to_string()),
        ("max-requests-per-s", limits.requests_per_s.to_string()),
        ("max-failed-authentications-per-s", limits.failed_authentications_per_s.to_string()),
        ("max-tasks-per-owner", limits.tasks_per_owner.map_or_else(|| "any number".into(), |max| max.to_string())),
    ];
    let help = run_without_server(&["serve", "--help"]).exits(0).out;
    let listed = help.split("Limits on clients:").nth(1).expect("a heading for the limits");
    for (flag, default) in &defaults {
        let text = listed.split(&format!("--{flag} <N>")).nth(1).unwrap_or_else(|| panic!("no --{flag} in {help}"));
        let text = text.split("--").next().unwrap_or_default();
        assert!(text.contains(&format!("[default: {default}]")), "--{flag}: {text}");
    }
    assert_eq!(listed.matches("<N>").count(), defaults.len(), "a limit that this test does not know");
}

#[test]
fn a_command_ends_without_a_message_when_the_reader_of_stdout_is_gone() {
    let server = Server::start();
    let ids: Vec<String> = (0..3).map(|_| submit(&server, &[])).collect();
    let mut child = command(&server, &["log", "tail", "--after", "0", "--follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    let mut first = String::new();
    BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut first).expect("a line");
    assert!(first.contains(&ids[0]), "{first}");
    // stdout is closed now; the next event makes the command write to it.
    submit(&server, &[]);
    submit(&server, &[]);
    let done = Ended::of(&child.wait_with_output().expect("it ends"));
    assert_eq!((done.exit, done.err.as_str()), (0, ""));
}

#[test]
fn log_tail_and_watch_go_on_after_a_restart_of_the_server() {
    let (root, mut server) = server_with_content(Some(200_000));
    let id = distribute(&server, root.path(), "source", &["--title", "Through it"]);
    let mut watch = RunningCommand::start(command(&server, &["watch", &id]));
    let follow = RunningCommand::start(command(&server, &["log", "tail", "--follow"]));
    let all = RunningCommand::start(command(&server, &["watch"]));
    watch.wait_for_line("running");
    follow.wait_for_line("Started");
    all.wait_for_line("Through it");
    server.kill9();
    watch.wait_for_line("not connected");
    server.restart();
    watch.wait_for_line("connected again");
    follow.wait_for_line("Completed: succeeded");
    all.wait_for_line("succeeded");
    watch.wait_for_line("succeeded");
    assert_eq!(watch.exit(), 0);
}

#[test]
fn the_server_exits_with_success_after_sigterm() {
    let mut server = Server::start();
    submit(&server, &[]);
    assert!(server.stop().success(), "{}", server.stderr());
}

#[test]
fn the_demo_submits_tasks_to_cancel_and_removes_its_files_at_the_end() {
    let (tree, tmp) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    fs::write(tree.path().join("page.html"), vec![b'x'; 3_000_000]).expect("a file");
    let mut command = taskbell();
    command.args(["demo", "--listen", "127.0.0.1:0", "--path"]).arg(tree.path()).env("TMPDIR", tmp.path());
    let mut demo = RunningCommand::start(command);
    let line = demo.wait_for_line("listening on http://");
    let url = line.trim_start_matches("listening on ").to_owned();
    demo.wait_for_line("Ctrl-C ends it");
    let cancelled = run_without_server(&["list", "--status", "cancelled", "--server", &url]).exits(0).out;
    assert!(cancelled.contains("Sent to the wrong mirror"), "{cancelled}");
    let scheduled = run_without_server(&["list", "--status", "scheduled", "--server", &url]).exits(0).out;
    assert!(scheduled.contains("Starts in a minute"), "{scheduled}");
    signal(demo.child.id(), "INT");
    assert_eq!(demo.exit(), 0);
    assert_eq!(fs::read_dir(tmp.path()).expect("the folder").count(), 0);
    assert!(tree.path().join("page.html").exists());
}
