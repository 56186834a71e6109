//! The two files of a certificate.

use std::fs;
use std::path::PathBuf;

use taskbell::tls::TlsError;
use taskbell::tls::server::{Reload, ServerTls, TlsFiles};
use tempfile::TempDir;

use crate::support::certificate_file;

/// Copies of the first certificate and its key.
fn copies() -> (TempDir, TlsFiles) {
    let dir = tempfile::tempdir().unwrap();
    let files = TlsFiles { cert: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
    fs::copy(certificate_file("first.pem"), &files.cert).unwrap();
    fs::copy(certificate_file("first.key"), &files.key).unwrap();
    (dir, files)
}

fn read(name: &str) -> String {
    fs::read_to_string(certificate_file(name)).unwrap()
}

#[test]
fn files_that_can_t_be_used_are_named_with_the_reason() {
    let (_dir, files) = copies();
    let (cert, key) = (files.cert.display().to_string(), files.key.display().to_string());
    let refusal = |cert_text: &str, key_text: &str| {
        fs::write(&files.cert, cert_text).unwrap();
        fs::write(&files.key, key_text).unwrap();
        ServerTls::load(files.clone()).unwrap_err().to_string()
    };
    let (first, first_key) = (read("first.pem"), read("first.key"));
    let no_certificates = format!("{cert}: it contains no certificates in PEM");
    let no_key = format!("{key}: it contains no private key in PEM");
    assert_eq!(refusal("", &first_key), no_certificates);
    assert_eq!(refusal("not PEM", &first_key), no_certificates);
    assert_eq!(refusal(&first_key, &first_key), no_certificates);
    assert_eq!(refusal(&first[..first.len() / 2], &first_key), no_certificates, "half of the file");
    assert_eq!(refusal(&first, ""), no_key);
    assert_eq!(refusal(&first, &first), no_key);
    assert_eq!(refusal(&first, &first_key[..first_key.len() / 2]), no_key);
    let mismatch = format!("the key in {key} is not the key of the first certificate in {cert}");
    assert_eq!(refusal(&first, &read("second.key")), mismatch);
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(refusal(damaged, &first_key).starts_with(&cert), "{}", refusal(damaged, &first_key));
    fs::remove_file(&files.key).unwrap();
    assert!(matches!(ServerTls::load(files.clone()), Err(TlsError::Read { path, .. }) if path == files.key));
}

#[test]
fn changed_files_are_used_only_when_they_belong_together() {
    let (_dir, files) = copies();
    let tls = ServerTls::load(files.clone()).unwrap();
    let first = tls.http();
    assert_eq!(tls.reload().unwrap(), Reload::Unchanged);
    fs::write(&files.cert, read("second.pem")).unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::Mismatch { .. })));
    assert_eq!(tls.reload().unwrap(), Reload::Unchanged, "a pair that can't be used is reported once");
    assert!(std::sync::Arc::ptr_eq(&first, &tls.http()));
    fs::write(&files.key, read("second.key")).unwrap();
    assert_eq!(tls.reload().unwrap(), Reload::Replaced);
    assert!(!std::sync::Arc::ptr_eq(&first, &tls.http()));
    let second = tls.http();
    fs::remove_file(&files.key).unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::Read { .. })));
    assert!(std::sync::Arc::ptr_eq(&second, &tls.http()));
}

#[test]
fn the_debug_output_shows_no_key() {
    let (_dir, files) = copies();
    let text = format!("{:?}", ServerTls::load(files).unwrap());
    let contents = read("first.key");
    let secret = contents.lines().nth(1).unwrap();
    assert!(!text.contains(secret) && text.contains("Contents(…)"), "{text}");
    let bytes: Vec<String> = contents.as_bytes()[30..40].iter().map(u8::to_string).collect();
    assert!(!text.contains(&bytes.join(", ")), "{text}");
}

/// The path is only used in a message.
#[test]
fn a_file_of_trusted_certificates_that_can_t_be_used_is_named() {
    use taskbell::tls::client::{Trust, client_config};
    let refusal = |path: PathBuf| client_config(Trust::SystemAnd(Some(&path))).unwrap_err().to_string();
    let key = certificate_file("first.key");
    assert_eq!(refusal(key.clone()), format!("{}: it contains no certificates in PEM", key.display()));
    assert!(refusal("/nowhere/ca.pem".into()).starts_with("/nowhere/ca.pem: "));
    assert!(client_config(Trust::SystemAnd(Some(&certificate_file("ca.pem")))).is_ok());
}
