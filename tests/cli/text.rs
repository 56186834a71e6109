//! Text from a server on the terminal: nothing controls the terminal or hides how it reads, and `--json` keeps the values.

use super::*;

/// A title with characters that change the direction of text, and how the command line prints it.
const TITLE: &str = "safe\u{202e}fdp.exe\u{2066}";
const PRINTED: &str = "safe\\u{202e}fdp.exe\\u{2066}";

/// Whether the text has a character of [`TITLE`] that must not reach the terminal.
fn has_hidden(text: &str) -> bool {
    TITLE.chars().filter(|c| !c.is_ascii()).any(|c| text.contains(c))
}

#[track_caller]
fn assert_marked(ended: &Ended, words: &str) {
    assert!(ended.out.contains(words), "no {words} in {ended:?}");
    assert!(!has_hidden(&ended.out) && !has_hidden(&ended.err), "{ended:?}");
}

#[test]
fn each_command_prints_a_mark_for_a_character_that_changes_how_a_title_reads() {
    let server = Server::start();
    let submitted = run(&server, &["submit", "a", "--title", TITLE, "--label", &format!("note:{TITLE}")]).exits(0);
    assert_marked(&submitted, PRINTED);
    let id = submitted.out.split_whitespace().next().expect("an id").to_owned();
    assert_marked(&run(&server, &["cancel", &id, "--reason", TITLE]).exits(0), PRINTED);
    assert_marked(&run(&server, &["list"]).exits(0), PRINTED);
    let shown = run(&server, &["show", &id]).exits(0);
    assert_marked(&shown, &format!("note:{PRINTED}"));
    assert_marked(&shown, &format!("CancelRequested: {PRINTED}"));
    assert_marked(&run(&server, &["watch", &id]).exits(1), PRINTED);
    assert_marked(&run(&server, &["retry", &id]).exits(0), PRINTED);
    assert_marked(&run(&server, &["log", "tail"]).exits(0), &format!("Created: a, {PRINTED}"));
}

#[test]
fn json_has_an_escape_in_its_place_and_the_same_value() {
    let server = Server::start();
    let id = submit(&server, &["--title", TITLE]);
    for args in [&["show", &id, "--json"][..], &["list", "--json"], &["log", "tail", "--limit", "1", "--json"]] {
        let ended = run(&server, args).exits(0);
        assert_marked(&ended, "safe\\u202efdp.exe\\u2066");
        let json = ended.json();
        let title = [&json["title"], &json["items"][0]["title"], &json["data"]["title"]];
        assert!(title.contains(&&json!(TITLE)), "{json}");
    }
}

#[test]
fn watch_prints_a_task_as_the_server_told_it() {
    let server = Server::start();
    let id = submit(&server, &["--title", "Wait"]);
    let watch = RunningCommand::start(command(&server, &["watch", &id, "--json"]));
    let line = watch.wait_for_line("\"queued\"");
    assert_eq!(line, run(&server, &["show", &id, "--json"]).exits(0).out.trim_end());
}
