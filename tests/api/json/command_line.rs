//! The command line hands values on exactly as it reads them, and shows them exactly as they are.

use std::io::Write as _;
use std::process::Stdio;

use super::*;
use crate::support::taskbell;

/// Values that a tree of `serde_json` can't hold, or would replace.
const VALUES: [&str; 4] = [
    r#"{"n":1.50,"big":123456789012345678901234567890}"#,
    "[1e400,-0,1E5]",
    r#"{"$serde_json::private::RawValue":"no JSON"}"#,
    r#"{"$serde_json::private::Number":"1"}"#,
];

/// Runs a command with this text on stdin; its stdout.
fn run(server: &Server, args: &[&str], stdin: &str) -> String {
    let mut command = taskbell();
    command.args(args).env("TASKBELL_SERVER", server.url()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().expect("the program ends");
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[tokio::test]
async fn submit_sends_the_input_and_show_prints_input_and_result_exactly() {
    let server = Server::start();
    for value in VALUES {
        let id = run(&server, &["submit", "a", "--input", "-"], value);
        let id = id.split_whitespace().next().unwrap().to_owned();
        let (lease, leased) = take(&server);
        assert!(leased.contains(&format!(r#""input":{value}"#)), "{leased}");
        finish(&server, &lease, value);
        let shown = run(&server, &["show", &id], "");
        for line in [format!("  input      {value}\n"), format!("  result     {value}\n")] {
            assert!(shown.contains(&line), "no {line} in {shown}");
        }
        let shown = run(&server, &["show", &id, "--json"], "");
        assert!(shown.contains(&format!(r#""input":{value},"result":{value}"#)), "{shown}");
    }
    run(&server, &["log", "tail"], "");
}
