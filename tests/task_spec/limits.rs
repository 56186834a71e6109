//! The limits of a request. Each is tested just below the limit, at the limit and just above it.

use std::sync::Arc;

use taskbell::task::JsonText;
use taskbell::task::event::Idempotency;
use taskbell::task::limits::{
    ATTEMPTS_MAX, DEPTH_MAX, IDEMPOTENCY_KEY_MAX, INPUT_MAX, LABEL_MAX, LABELS_MAX, NAME_MAX, OWNER_MAX, TIMEOUT_MAX_S,
    TITLE_MAX,
};

use super::*;

fn pointers(change: impl FnOnce(&mut Created)) -> Vec<String> {
    let mut new = work();
    change(&mut new);
    match decide(None, &Command::Create(Arc::new(new)), now()) {
        Ok(events) => {
            assert_eq!(events.len(), 1);
            Vec::new()
        }
        Err(Rejection::Invalid(invalid)) => invalid.into_iter().map(|field| field.pointer).collect(),
        Err(other) => panic!("rejected for another reason: {other}"),
    }
}

/// Calls `set` with lengths around `max`. Asserts that lengths up to `max` are accepted, and that longer ones are
/// rejected with this pointer.
#[track_caller]
fn bounded(pointer: &str, max: usize, set: impl Fn(&mut Created, usize)) {
    for (length, refused) in [(1, false), (max - 1, false), (max, false), (max + 1, true)] {
        let expected = if refused { vec![pointer.to_owned()] } else { Vec::new() };
        assert_eq!(pointers(|new| set(new, length)), expected, "{pointer} with {length}");
    }
}

/// A string whose compact JSON has this many bytes.
fn json_of(bytes: usize) -> JsonText {
    json!("x".repeat(bytes.saturating_sub(2))).into()
}

fn nested(levels: usize) -> JsonText {
    (1..levels).fold(json!([]), |inner, _| json!([inner])).into()
}

#[test]
fn names_titles_owners_and_keys_have_a_largest_length() {
    bounded("/kind", NAME_MAX, |new, n| new.kind = "k".repeat(n));
    bounded("/queue", NAME_MAX, |new, n| new.queue = "q".repeat(n));
    bounded("/owner", OWNER_MAX, |new, n| new.owner = "ä".repeat(n));
    bounded("/title", TITLE_MAX, |new, n| new.title = "t".repeat(n));
    bounded("/unique_key", LABEL_MAX, |new, n| new.unique_key = Some("u".repeat(n)));
    bounded("/concurrency_key", LABEL_MAX, |new, n| new.concurrency_key = Some("c".repeat(n)));
    bounded("/idempotency_key", IDEMPOTENCY_KEY_MAX, |new, n| new.idempotency = Some(idempotency("i".repeat(n))));
}

#[test]
fn owners_and_titles_are_not_blank_and_no_owner_changes_the_direction_of_text() {
    for blank in [" ", "\u{3000}", "a\u{2028}b", "a\nb"] {
        assert_eq!(pointers(|new| new.owner = blank.to_owned()), ["/owner"], "{blank:?}");
        assert_eq!(pointers(|new| new.title = blank.to_owned()), ["/title"], "{blank:?}");
    }
    assert_eq!(pointers(|new| new.owner = "ana\u{202e}nimda".to_owned()), ["/owner"]);
    assert_eq!(pointers(|new| new.title = "\u{202e}shown escaped or isolated".to_owned()), [""; 0]);
}

#[test]
fn titles_are_measured_in_bytes_not_characters() {
    assert_eq!(pointers(|new| new.title = "ä".repeat(TITLE_MAX / 2)), [""; 0]);
    assert_eq!(pointers(|new| new.title = "ä".repeat(TITLE_MAX / 2 + 1)), ["/title"]);
}

#[test]
fn numbers_have_bounds() {
    for (n, pointer) in [(0, "/max_attempts"), (1, ""), (ATTEMPTS_MAX, ""), (ATTEMPTS_MAX + 1, "/max_attempts")] {
        assert_eq!(pointers(|new| new.max_attempts = n).concat(), pointer, "max_attempts {n}");
    }
    for (n, pointer) in [(0, "/timeout_s"), (1, ""), (TIMEOUT_MAX_S, ""), (TIMEOUT_MAX_S + 1, "/timeout_s")] {
        assert_eq!(pointers(|new| new.timeout_s = Some(n)).concat(), pointer, "timeout_s {n}");
    }
}

#[test]
fn an_input_has_a_largest_size_and_depth() {
    bounded("/input", INPUT_MAX, |new, n| new.input = json_of(n.max(2)));
    bounded("/input", DEPTH_MAX, |new, n| new.input = nested(n));
    assert_eq!(pointers(|new| new.input = nested(1000)), ["/input"], "and far beyond what could be read back");
}

#[test]
fn labels_have_a_largest_number_and_size() {
    bounded("/labels", LABELS_MAX, |new, n| {
        new.labels = (0..n).map(|i| (format!("k{i}"), "v".to_owned())).collect();
    });
    let key = "k".repeat(LABEL_MAX + 1);
    bounded(&format!("/labels/{key}"), LABEL_MAX, |new, n| new.labels = [("k".repeat(n), "v".into())].into());
    bounded("/labels/k", LABEL_MAX, |new, n| new.labels = [("k".into(), "v".repeat(n))].into());
    assert_eq!(pointers(|new| new.labels = [("a:b".into(), "v".into())].into()), ["/labels/a:b"]);
    assert_eq!(pointers(|new| new.labels = [("a/~b".into(), String::new())].into()), ["/labels/a~1~0b"]);
}

#[test]
fn an_empty_text_or_more_than_one_line_is_rejected() {
    for bad in ["", "a\nb", "a\u{7f}", "a\u{85}b", "\0"] {
        assert_eq!(pointers(|new| new.title = bad.into()), ["/title"], "title {bad:?}");
        assert_eq!(pointers(|new| new.owner = bad.into()), ["/owner"], "owner {bad:?}");
        assert_eq!(pointers(|new| new.unique_key = text(bad)), ["/unique_key"], "unique_key {bad:?}");
    }
    for bad in ["", "Kind", "a b", "a/b", "ä", "a:b", "a,b"] {
        assert_eq!(pointers(|new| new.kind = bad.into()), ["/kind"], "kind {bad:?}");
        assert_eq!(pointers(|new| new.queue = bad.into()), ["/queue"], "queue {bad:?}");
    }
    assert_eq!(pointers(|new| new.owner = "mira,tom".into()), ["/owner"]);
}

#[test]
fn every_field_that_breaks_a_rule_is_named_at_once() {
    let found = pointers(|new| {
        new.kind = "K".into();
        new.title = String::new();
        new.max_attempts = 0;
    });
    assert_eq!(found, ["/kind", "/title", "/max_attempts"]);
}

fn idempotency(key: String) -> Idempotency {
    Idempotency { key, body_hash: "0".repeat(64) }
}
