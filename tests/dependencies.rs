//! The dependencies keep the rules in `deny.toml`: their licences, their sources, and those that are banned. `make deny` checks
//! the same with cargo-deny, and more.

use std::process::Command;

use serde_json::Value;
use toml::Table;

/// Whether the licence expression (SPDX) is satisfied by the allowed licences. `/` is an old form of `OR`.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ").replace(" WITH ", "+WITH+");
    let tokens: Vec<String> = spaced.split_whitespace().map(|token| token.replace("+WITH+", " WITH ")).collect();
    let mut tokens = tokens.iter().map(String::as_str).peekable();
    let result = either(&mut tokens, allowed);
    assert_eq!(tokens.next(), None, "the expression goes on: {expression}");
    result
}

fn either<'a>(tokens: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>, allowed: &[&str]) -> bool {
    let mut result = both(tokens, allowed);
    while tokens.next_if_eq(&"OR").is_some() {
        result |= both(tokens, allowed);
    }
    result
}

fn both<'a>(tokens: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>, allowed: &[&str]) -> bool {
    let mut result = one(tokens, allowed);
    while tokens.next_if_eq(&"AND").is_some() {
        result &= one(tokens, allowed);
    }
    result
}

fn one<'a>(tokens: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>, allowed: &[&str]) -> bool {
    match tokens.next() {
        Some("(") => {
            let result = either(tokens, allowed);
            assert_eq!(tokens.next(), Some(")"), "a bracket is not closed");
            result
        }
        name => allowed.contains(&name.expect("a licence")),
    }
}

/// The packages of the lock file for this platform, as cargo describes them.
fn packages() -> Vec<Value> {
    let version = Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into())).arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("the host's platform");
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1", "--all-features", "--filter-platform", host])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn texts<'a>(rules: &'a Table, section: &str, key: &str) -> Vec<&'a str> {
    rules[section][key].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// What breaks the rules: the package, and why.
fn violations(rules: &Table, packages: &[Value]) -> Vec<String> {
    let (licences, registries) = (texts(rules, "licenses", "allow"), texts(rules, "sources", "allow-registry"));
    let banned: Vec<&str> =
        rules["bans"]["deny"].as_array().unwrap().iter().map(|it| it["crate"].as_str().unwrap()).collect();
    let mut found = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let licence = package["license"].as_str();
        if !licence.is_some_and(|licence| is_allowed(licence, &licences)) {
            found.push(format!("{name}: the licence {licence:?} is not allowed"));
        }
        let source = package["source"].as_str().unwrap_or("");
        let is_own = source.is_empty() && name == env!("CARGO_PKG_NAME");
        if !is_own && !registries.iter().any(|registry| source == format!("registry+{registry}")) {
            found.push(format!("{name}: the source {source:?} is not allowed"));
        }
        if banned.contains(&name) {
            found.push(format!("{name} is banned"));
        }
    }
    found
}

fn rules() -> Table {
    include_str!("../deny.toml").parse().expect("deny.toml is TOML")
}

#[test]
fn every_dependency_has_an_allowed_licence_comes_from_crates_io_and_is_not_banned() {
    let packages = packages();
    assert!(packages.len() > 100, "only {} packages", packages.len());
    assert_eq!(violations(&rules(), &packages), Vec::<String>::new());
}

#[test]
fn a_licence_a_source_or_a_package_that_is_not_allowed_is_found() {
    let package = |name: &str, licence: Option<&str>, source: &str| serde_json::json!({"name": name, "license": licence, "source": source});
    let registry = "registry+https://github.com/rust-lang/crates.io-index";
    let rules = rules();
    for (package, expected) in [
        (package("good", Some("MIT OR Apache-2.0"), registry), None),
        (package("copyleft", Some("GPL-3.0"), registry), Some("licence")),
        (package("silent", None, registry), Some("licence")),
        (package("fork", Some("MIT"), "git+https://example.com/fork"), Some("source")),
        (package("actix-governor", Some("MIT"), registry), Some("banned")),
    ] {
        let found = violations(&rules, std::slice::from_ref(&package));
        assert_eq!(found.len(), usize::from(expected.is_some()), "{package}: {found:?}");
        assert!(found.iter().all(|text| expected.is_some_and(|word| text.contains(word))), "{found:?}");
    }
}

#[test]
fn a_licence_expression_is_judged_by_its_operators() {
    let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"];
    for (expression, expected) in [
        ("MIT", true),
        ("Apache-2.0", false),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0 OR MIT", true),
        ("ISC AND (GPL-3.0 OR MIT)", true),
        ("ISC AND GPL-3.0", false),
        ("GPL-3.0 OR ISC AND GPL-3.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
    ] {
        assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
    }
}
