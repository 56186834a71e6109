//! The checks of a distribution's input that don't access the disk.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use taskbell::work::Handler;
use taskbell::work::kinds::distribute::{ContentRoots, Distribute};

use super::trees::ContentFolder;

/// The pointers to the invalid fields of the input.
fn invalid_pointers(handler: &Distribute, input: &Value) -> Vec<String> {
    handler.check(input).unwrap_err().into_iter().map(|error| error.pointer).collect()
}

#[test]
fn each_field_that_is_wrong_is_named() {
    let content = ContentFolder::new();
    let handler = content.handler(None);
    let path = |name: &str| content.path(name).to_str().unwrap().to_owned();
    let to = |targets: Value| json!({"source": path("source"), "targets": targets});
    let many: Vec<_> = (0..1001).map(|n| path(&n.to_string())).collect();
    let cases = [
        (json!([]), vec![""]),
        (json!({}), vec!["/source", "/targets"]),
        (
            json!({"source": 1, "targets": "x", "verify": "yes", "a/b": 1}),
            vec!["/a~1b", "/source", "/targets", "/verify"],
        ),
        (to(json!([])), vec!["/targets"]),
        (to(json!(many)), vec!["/targets"]),
        (to(json!([path("x"), 3])), vec!["/targets/1"]),
        (to(json!(["relative/x"])), vec!["/targets/0"]),
        (to(json!([""])), vec!["/targets/0"]),
        (to(json!([path("x/../../../etc")])), vec!["/targets/0"]),
        (to(json!([path("x/../y")])), vec!["/targets/0"]),
        (to(json!([format!("{}\0", path("x"))])), vec!["/targets/0"]),
        (to(json!(["/etc"])), vec!["/targets/0"]),
        (to(json!([format!("{}-sibling/x", content.root.path().display())])), vec!["/targets/0"]),
        (to(json!([path("source/inside")])), vec!["/targets/0"]),
        (to(json!([path("source")])), vec!["/targets/0"]),
        (to(json!([path("")])), vec!["/targets/0"]),
        (to(json!([path("x"), path("y"), path(".//x/")])), vec!["/targets/2"]),
        (to(json!([path("x/y/z"), path("x"), path("x-y")])), vec!["/targets/0"]),
        (json!({"source": "/etc", "targets": [path("x")]}), vec!["/source"]),
    ];
    for (input, expected) in cases {
        assert_eq!(invalid_pointers(&handler, &input), expected, "{input}");
    }
    assert!(handler.check(&to(json!([path("x"), path("x-y"), path("./z/")]))).is_ok());
}

#[test]
fn a_path_may_name_its_root_in_canonical_spelling_or_as_the_setting_does() {
    let content = ContentFolder::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let given = elsewhere.path().join("content");
    symlink(content.root.path(), &given).unwrap();
    let handler = Distribute::new(ContentRoots::new([&given]).unwrap(), None);
    let to = |target| json!({"source": content.path("source"), "targets": [target]});
    assert!(handler.check(&to(given.join("x"))).is_ok());
    assert!(handler.check(&to(content.path("x"))).is_ok());
    assert_eq!(invalid_pointers(&handler, &to(given.join("source/x"))), ["/targets/0"]);
}

#[test]
fn a_content_root_that_is_not_a_directory_is_refused_at_the_start() {
    let content = ContentFolder::new();
    fs::write(content.path("file"), "").unwrap();
    for name in ["file", "missing"] {
        let error = ContentRoots::new([content.path(name)]).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    let none = Distribute::new(ContentRoots::default(), None);
    assert!(none.check(&json!({"source": "/", "targets": ["/tmp"]})).is_err());
}

#[test]
fn the_title_names_the_source_and_the_number_of_targets() {
    let content = ContentFolder::new();
    let handler = content.handler(None);
    let title = |source: &str, targets: &[&str]| {
        let targets: Vec<_> = targets.iter().map(|name| content.path(name)).collect();
        handler.title(&json!({"source": content.path(source), "targets": targets}))
    };
    assert_eq!(title("source", &["a", "b"]).as_deref(), Some("Distribute source to 2 targets"));
    assert_eq!(title("two\nlines", &["a"]).as_deref(), Some("Distribute two lines to 1 target"));
    assert!(title(&"ü".repeat(400), &["a"]).is_some_and(|title| title.len() <= 512 && title.ends_with("to 1 target")));
    assert_eq!(title("source", &[]), None);
    assert_eq!(handler.defaults().max_attempts, 3);
}
