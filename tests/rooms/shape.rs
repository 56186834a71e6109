//! Sizes, and what may be called where.

use super::Found;
use super::source::{Kind, Source, Token};

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 60;

pub(crate) fn file_length(source: &Source) -> Found {
    let lines = source.text.lines().count();
    if lines > FILE_LINES { vec![source.at(lines, &format!("{lines} lines in one file"))] } else { Found::new() }
}

/// From `fn` to the closing brace: attributes and docs don't count.
pub(crate) fn function_length(source: &Source) -> Found {
    let mut found = Found::new();
    everywhere(&source.tokens, &mut |tokens| {
        let [first, name, rest @ ..] = tokens else { return };
        let (Some("fn"), Some(name)) = (first.word(), name.word()) else { return };
        let Some(body) = rest.iter().find(|token| token.is_mark(';') || token.group('{').is_some()) else { return };
        let Kind::Group(_, _, end) = body.kind else { return };
        let lines = end - first.line + 1;
        if lines > FUNCTION_LINES {
            found.push(source.at(first.line, &format!("{name} has {lines} lines")));
        }
    });
    found
}

/// `log.append(…)` and `log.append_many(…)` of the store stand in `streams/collector.rs` alone, and in `log import`.
pub(crate) fn one_append(source: &Source) -> Found {
    if source.path.starts_with("store/") || matches!(source.path.as_str(), "streams/collector.rs" | "cli/log_import.rs") {
        return Found::new();
    }
    calls(source, |name, receiver, _| match name {
        "append_many" | "append_drafts" => true,
        // Headers, vectors and the like have an `append` too.
        "append" => ["store", "log", "events"].contains(&receiver),
        _ => false,
    })
}

/// What is unwrapped can be influenced by others sooner or later.
pub(crate) fn unwraps(source: &Source) -> Found {
    calls(source, |name, _, arguments| match name {
        "unwrap" | "unwrap_err" => arguments.is_empty(),
        // A method of our own may have the name, with more arguments than a message.
        "expect" | "expect_err" => !arguments.iter().any(|token| token.is_mark(',')),
        _ => false,
    })
}

/// The method calls that `is_wanted`, by name and by the last word of what they are called on; also inside macros.
fn calls(source: &Source, is_wanted: fn(&str, &str, &[Token]) -> bool) -> Found {
    let mut found = Found::new();
    everywhere(&source.tokens, &mut |tokens| {
        let [receiver, dot, name, arguments, ..] = tokens else { return };
        let (true, Some(name), Some(arguments)) = (dot.is_mark('.'), name.word(), arguments.group('(')) else { return };
        if is_wanted(name, receiver.word().unwrap_or_default(), arguments) {
            found.push(source.at(dot.line, &format!("a call of {name}")));
        }
    });
    found
}

/// Every place in the tokens, with all that follows it in its group.
fn everywhere(tokens: &[Token], see: &mut dyn FnMut(&[Token])) {
    for at in 0..tokens.len() {
        see(&tokens[at..]);
        if let Kind::Group(_, inner, _) = &tokens[at].kind {
            everywhere(inner, see);
        }
    }
}

/// clippy finds the arms; this finds that clippy was asked to, that nobody told it otherwise further down, and the tuples
/// of wildcards that it doesn't look into.
pub(crate) fn wildcards(source: &Source) -> Found {
    let mut found = Found::new();
    if !matches!(source.room(), Some("task" | "views")) {
        return found;
    }
    let mut denied = false;
    everywhere(&source.tokens, &mut |tokens| {
        let Some(first) = tokens.first() else { return };
        if let Some(level) = first.group('[').and_then(level_of_wildcards) {
            denied |= level == "deny" || level == "forbid";
            if matches!(level, "allow" | "expect" | "warn") {
                found.push(source.at(first.line, "the lint against wildcard arms is switched off"));
            }
        }
        if is_arm_of_wildcards(first.group('{').unwrap_or_default())
            || is_arm_of_wildcards(tokens.get(1..).unwrap_or_default()) && first.word().is_none()
        {
            found.push(source.at(first.line, "an arm of wildcards alone"));
        }
    });
    if source.path.ends_with("/mod.rs") && source.path.matches('/').count() == 1 && !denied {
        found.push(source.at(1, "#![deny(clippy::wildcard_enum_match_arm)] is missing"));
    }
    found
}

/// `(_, _) =>`
fn is_arm_of_wildcards(tokens: &[Token]) -> bool {
    let [tuple, equals, greater, ..] = tokens else { return false };
    let is_wild = |token: &Token| token.word() == Some("_") || token.is_mark(',');
    let all_wild = |inner: &[Token]| !inner.is_empty() && inner.iter().all(is_wild);
    equals.is_mark('=') && greater.is_mark('>') && tuple.group('(').is_some_and(all_wild)
}

/// The level that an attribute gives the lint, if it names it.
fn level_of_wildcards(attribute: &[Token]) -> Option<&str> {
    let [level, lints] = attribute else { return None };
    let names = lints.group('(')?.iter().any(|token| token.word() == Some("wildcard_enum_match_arm"));
    level.word().filter(|_| names)
}
