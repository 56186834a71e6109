//! `taskbell log sign`, `log prove` and `log check`.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::*;

/// Makes a key pair in this folder.
fn make_keys(dir: &Path, name: &str) -> (String, String) {
    let [private, public] = ["key", "pub"].map(|ending| dir.join(format!("{name}.{ending}")).display().to_string());
    for args in [
        vec!["genpkey", "-algorithm", "ed25519", "-out", &private],
        vec!["pkey", "-in", &private, "-pubout", "-out", &public],
    ] {
        assert!(Command::new("openssl").args(args).stderr(Stdio::null()).status().expect("openssl runs").success());
    }
    (private, public)
}

fn check(proof: &Path, public_key: &str) -> Ended {
    let mut command = taskbell();
    command.args(["log", "check"]).arg(proof).args(["--public-key", public_key]).stdin(Stdio::null());
    Ended::of(&command.output().expect("the command runs"))
}

#[tokio::test]
async fn a_proof_of_a_task_is_checked_without_the_log_and_a_changed_one_is_refused() {
    let mut server = Server::start();
    let dir = TempDir::new().unwrap();
    let mut ids = Vec::new();
    for n in 0..9 {
        ids.push(server.submit(&json!({"kind": "k", "title": format!("task {n}"), "input": {"amount": 1.50}})).await);
    }
    server.post(&format!("/v1/tasks/{}/cancel", ids[4]), &json!({"reason": "not needed"})).await;
    let (key, public_key) = make_keys(dir.path(), "operator");
    let (_, other_key) = make_keys(dir.path(), "other");
    let checkpoint = dir.path().join("checkpoint.json");
    fs::write(&checkpoint, run(&server, &["log", "sign", "--key", &key]).exits(0).out).unwrap();
    let later = server.submit(&json!({"kind": "k", "title": "after the checkpoint"})).await;

    let prove = |id: &str| run(&server, &["log", "prove", id, "--checkpoint", checkpoint.to_str().unwrap()]);
    let text = prove(&ids[4]).exits(0).out;
    prove(&later).fails_with(3, &["has no task"]);
    assert!(server.stop().success());
    let proof = dir.path().join("proof.json");
    let check_text = |text: &str| {
        fs::write(&proof, text).unwrap();
        check(&proof, &public_key)
    };
    let proved = check_text(&text).exits(0);
    for shown in ["proved: task", "in the log of 11 events", "Created", "CancelRequested", "Completed"] {
        assert!(proved.out.contains(shown), "{shown}: {proved:?}");
    }
    check(&proof, &other_key).fails_with(1, &["another key"]);
    check(&proof, &key).fails_with(2, &["no public Ed25519 key"]);

    let path = |text: &str| text.split("\"path\":[\"").nth(1).unwrap()[..8].to_owned();
    for (from, to, words) in [
        ("task 4".to_owned(), "task 5".to_owned(), "contents don't have its hash"),
        ("not needed".to_owned(), "needed".to_owned(), "contents don't have its hash"),
        ("\"position\":11".to_owned(), "\"position\":12".to_owned(), "signature"),
        (path(&text), "00000000".to_owned(), "not in the log"),
        (ids[4].clone(), ids[3].clone(), "not the next event of the task"),
    ] {
        let changed = text.replacen(&from, &to, 1);
        assert_ne!(changed, text);
        let refused = check_text(&changed);
        assert!(refused.exit == 1 && refused.err.contains(words), "{from} to {to}: {refused:?}");
    }
    // As text, because every digit of a number counts.
    let mut parts: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&text).unwrap();
    let mut events: Vec<Box<RawValue>> = serde_json::from_str(parts["events"].get()).unwrap();
    events.remove(1);
    parts.insert("events".to_owned(), serde_json::value::to_raw_value(&events).unwrap());
    check_text(&serde_json::to_string(&parts).unwrap()).fails_with(1, &["not the next event"]);
    check_text("{}").fails_with(2, &["not a proof"]);
}

#[tokio::test]
async fn a_log_that_has_changed_since_its_checkpoint_gives_no_proof() {
    let (one, other) = (Server::start(), Server::start());
    let dir = TempDir::new().unwrap();
    let id = one.submit(&json!({"kind": "k"})).await;
    other.submit(&json!({"kind": "k"})).await;
    let (key, _) = make_keys(dir.path(), "operator");
    let checkpoint = dir.path().join("checkpoint.json");
    fs::write(&checkpoint, run(&one, &["log", "sign", "--key", &key]).exits(0).out).unwrap();
    run(&other, &["log", "prove", &id, "--checkpoint", checkpoint.to_str().unwrap()])
        .fails_with(1, &["the log is not the one of the checkpoint"]);
    run(&one, &["log", "sign", "--key", checkpoint.to_str().unwrap()]).fails_with(2, &["no Ed25519 key", "openssl"]);
}
