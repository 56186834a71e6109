//! Settings of addresses and certificates that a server refuses to start with.

use crate::support::{certificate_file, taskbell};

/// Starts a server that must not start, and returns its exit code and what it says.
fn refusal(args: &[&str]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let output = taskbell().current_dir(dir.path()).arg("serve").args(args).output().unwrap();
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[track_caller]
fn assert_usage_error(args: &[&str], words: &[&str]) {
    let (code, text) = refusal(args);
    assert!(code == Some(2) && words.iter().all(|word| text.contains(word)), "{args:?}: {code:?} {text}");
}

#[test]
fn an_address_for_other_machines_needs_authentication_and_protection_of_the_credentials() {
    let cert = certificate_file("first.pem").display().to_string();
    let key = certificate_file("first.key").display().to_string();
    let tls = ["--tls-cert", &cert, "--tls-key", &key];
    for listen in ["0.0.0.0:0", "[::]:0", "10.203.7.99:0"] {
        let address = ["--listen", listen];
        assert_usage_error(&address, &["listen: ", listen, "set --auth required"]);
        assert_usage_error(&[&address[..], &tls].concat(), &["set --auth required"]);
        assert_usage_error(&[&address[..], &["--auth", "none", "--plain-http"]].concat(), &["set --auth required"]);
        let authenticated = [&address[..], &["--auth", "required"]].concat();
        assert_usage_error(&authenticated, &["set --tls-cert and --tls-key", "--trust-proxy", "--plain-http"]);
    }
}

#[cfg(feature = "eventstore")]
#[test]
fn the_log_is_offered_to_other_machines_over_tls_only() {
    let address = ["--log-listen", "0.0.0.0:2113"];
    assert_usage_error(&address, &["log_listen: 0.0.0.0:2113", "set --auth required"]);
    for more in [&["--auth", "required", "--plain-http"][..], &["--auth", "required", "--trust-proxy", "127.0.0.1"]] {
        assert_usage_error(
            &[&address[..], more].concat(),
            &["log_listen: 0.0.0.0:2113", "set --tls-cert and --tls-key"],
        );
    }
}

#[test]
fn settings_that_make_no_sense_are_named() {
    assert_usage_error(&["--tls-cert", "a.pem"], &["tls: ", "--tls-key"]);
    assert_usage_error(&["--tls-key", "a.pem"], &["tls: ", "--tls-cert"]);
    assert_usage_error(&["--trust-proxy", "proxy.example"], &["trust_proxies: \"proxy.example\" is not like 10.0.0.5"]);
    assert_usage_error(&["--allow-host", "https://tasks.example"], &["allow_hosts: "]);
    assert_usage_error(&["--allow-host", "*"], &["allow_hosts: "]);
    assert_usage_error(&["--path-prefix", "taskbell"], &["path_prefix: \"taskbell\" is not a path like /taskbell"]);
    assert_usage_error(&["--auth", "maybe"], &["maybe"]);
    let (code, text) = refusal(&["--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.key"]);
    assert!(code == Some(1) && text.contains("/nowhere.pem"), "{code:?} {text}");
}

#[test]
fn the_settings_file_has_tables_for_the_certificate_and_for_authentication() {
    let dir = tempfile::tempdir().unwrap();
    let start = |text: &str| {
        std::fs::write(dir.path().join("taskbell.toml"), text).unwrap();
        let output = taskbell().current_dir(dir.path()).arg("serve").output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = start("listen = \"0.0.0.0:0\"\n[auth]\nmode = \"required\"\n");
    assert!(code == Some(2) && text.contains("--tls-cert"), "{text}");
    let (code, text) =
        start("listen = \"0.0.0.0:0\"\n[auth]\nmode = \"required\"\n[tls]\ncert = \"c.pem\"\nkey = \"k.pem\"\n");
    assert!(code == Some(1) && text.contains("c.pem"), "the paths start at the folder of the file: {text}");
    let (code, text) = start("[tls]\nkeys = \"k.pem\"\n");
    assert!(code == Some(2) && text.contains("line 2"), "{text}");
    let (code, text) = start("path_prefix = \"x\"\n");
    assert!(code == Some(2) && text.contains("path_prefix"), "{text}");
}
