//! `taskbell token`, and the flags that name a token.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn in_folder(data: &Path, args: &[&str]) -> Ended {
    let mut command = taskbell();
    command.args(["token", "create", "--data"]).arg(data).args(args).env("USER", "ada").stdin(Stdio::null());
    Ended::of(&command.output().expect("the command runs"))
}

/// A file with this text that only its owner can read.
fn token_file(dir: &TempDir, text: &str) -> String {
    let path = dir.path().join("token");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

#[test]
fn a_token_is_created_listed_and_revoked() {
    let server = Server::start();
    let args = ["token", "create", "--role", "worker", "--subject", "farm", "--kind", "a", "--kind", "b"];
    let token = run(&server, &[&args[..], &["--expires", "90d"]].concat()).exits(0);
    assert!(token.out.starts_with("tb_") && token.out.lines().count() == 1 && token.err.is_empty(), "{token:?}");
    let listed = run(&server, &["token", "list", "--json"]).exits(0).json();
    let item = &listed["items"][0];
    assert_eq!((&item["kinds"], &item["subject"]), (&json!(["a", "b"]), &json!("farm")));
    assert!(item["expires_at"].is_string());
    let id = item["id"].as_str().unwrap();
    let for_people = run(&server, &["token", "list"]).exits(0).out;
    assert!(for_people.contains(id) && for_people.contains("kinds a, b") && for_people.contains("1 of 1 tokens"));
    assert_eq!(run(&server, &["token", "revoke", id, "--reason", "lost"]).exits(0).out, format!("{id}  revoked\n"));
    run(&server, &["list", "--token", token.out.trim()]).fails_with(4, &["unauthenticated"]);
    let absent = uuid::Uuid::now_v7().to_string();
    run(&server, &["token", "revoke", &absent]).fails_with(3, &["not_found"]);
    run(&server, &["token", "create", "--role", "user", "--subject", "local"]).fails_with(4, &["/subject"]);
    assert_eq!(run(&server, &["token", "create", "--role", "root", "--subject", "a"]).exit, 2);
    assert_eq!(run(&server, &["token", "create", "--role", "user", "--subject", "a", "--expires", "x"]).exit, 2);
}

#[test]
fn the_first_token_is_created_while_the_server_is_stopped() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let token = in_folder(&data, &["--role", "admin", "--subject", "root"]).exits(0).out;
    assert!(token.starts_with("tb_") && token.lines().count() == 1, "{token}");
    let second = in_folder(&data, &["--role", "user", "--subject", "anna", "--json"]).exits(0).json();
    assert_eq!((&second["created_by"], &second["position"]), (&json!("ada"), &json!(2)), "{second}");
    in_folder(&data, &["--role", "user", "--subject", "system"]).fails_with(4, &["/subject"]);
}

#[test]
fn a_token_is_not_created_in_the_folder_of_a_running_server() {
    let server = Server::start();
    let args = ["--role", "admin", "--subject", "root"];
    in_folder(&server.data(), &args).fails_with(4, &["a server uses the data folder", "stop it"]);
}

#[test]
fn a_server_that_requires_authentication_needs_a_first_token() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data").display().to_string();
    let args = ["serve", "--listen", "127.0.0.1:0", "--auth", "required", "--data", &data];
    let refused = run_without_server(&args);
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(refused.err.contains("taskbell token create --data") && refused.err.contains(&data), "{refused:?}");
    assert!(refused.err.contains("--role admin --subject NAME"), "{refused:?}");
}

#[test]
fn the_command_that_creates_the_first_token_can_be_copied_into_a_shell() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("my data").display().to_string();
    let refused = run_without_server(&["serve", "--listen", "127.0.0.1:0", "--auth", "required", "--data", &data]);
    assert!(refused.err.contains(&format!("`taskbell token create --data '{data}' --role")), "{refused:?}");
}

#[test]
fn a_server_that_requires_authentication_cannot_have_its_log_in_memory_because_it_would_never_have_a_token() {
    let args = ["serve", "--listen", "127.0.0.1:0", "--auth", "required", "--store", "memory"];
    let refused = run_without_server(&args);
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(refused.err.contains("a log in memory has no token") && refused.err.contains("[auth.jwt]"), "{refused:?}");
}

/// The server has no token, so it says what it has to say, refuses to start, and never listens.
#[test]
fn a_server_that_has_no_name_says_at_its_start_that_it_refuses_every_request() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data").display().to_string();
    let warns = |listen: &str, names: &[&str]| {
        let args = ["serve", "--listen", listen, "--auth", "required", "--plain-http", "--data", &data];
        let refused = run_without_server(&[&args[..], names].concat());
        assert!(refused.exit == 1 && refused.err.contains("no valid token"), "{refused:?}");
        let lines: Vec<&str> = refused.err.lines().filter(|line| line.contains("--allow-host")).collect();
        assert!(lines.iter().all(|line| line.contains("WARN") && line.contains("403")), "{refused:?}");
        lines.len()
    };
    for (listen, names, expected) in [
        ("0.0.0.0:0", &[][..], 1),
        ("[::]:0", &[][..], 1),
        ("0.0.0.0:0", &["--trust-proxy", "10.0.0.5"][..], 1),
        ("0.0.0.0:0", &["--allow-host", "tasks.example"][..], 0),
        ("10.203.7.99:0", &[][..], 0),
        ("127.0.0.1:0", &[][..], 0),
    ] {
        assert_eq!(warns(listen, names), expected, "{listen} {names:?}");
    }
}

#[test]
fn the_token_in_a_file_is_sent_and_a_file_that_all_can_read_is_reported() {
    let (server, dir) = (Server::start(), TempDir::new().unwrap());
    let token = run(&server, &["token", "create", "--role", "user", "--subject", "anna"]).exits(0).out;
    let file = token_file(&dir, &token);
    let submitted = run(&server, &["submit", "a", "--json", "--token-file", &file]).exits(0);
    assert_eq!((&submitted.json()["owner"], submitted.err.as_str()), (&json!("anna"), ""));
    let by_variable = command(&server, &["submit", "a", "--json"]).env("TASKBELL_TOKEN_FILE", &file).output().unwrap();
    assert_eq!(Ended::of(&by_variable).json()["owner"], "anna");
    let over_variable = command(&server, &["submit", "a", "--json", "--token-file", &file])
        .env("TASKBELL_TOKEN", "x")
        .output()
        .unwrap();
    assert_eq!(Ended::of(&over_variable).json()["owner"], "anna", "a flag goes before a variable");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let warned = run(&server, &["list", "--token-file", &file]).exits(0);
    assert!(warned.err.starts_with("warning: ") && warned.err.contains(&file), "{warned:?}");
    assert_eq!(run(&server, &["list", "--token-file", &file, "--token", "x"]).exit, 2);
    run(&server, &["list", "--token-file", "/nowhere"]).fails_with(2, &["--token-file", "/nowhere"]);
    fs::write(&file, "\n").unwrap();
    run(&server, &["list", "--token-file", &file]).fails_with(2, &["empty"]);
}
