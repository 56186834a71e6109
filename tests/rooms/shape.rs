//! The sizes of files and functions, and where certain calls are allowed.

use super::Violations;
use super::source::{Source, Token, TokenKind};

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 60;
const MEDIAN_LINES: usize = 7;
const P90_LINES: usize = 25;
/// Creates the first token while no server runs. So no actor is there that could append.
const OFFLINE_TOKEN: &str = "app/offline_token.rs";
/// The one command that writes recorded events as they are.
const LOG_IMPORT: &str = "cli/log_import.rs";

pub(crate) fn file_length(source: &Source) -> Violations {
    let lines = source.text.lines().count();
    if lines > FILE_LINES { vec![source.at(lines, &format!("{lines} lines in one file"))] } else { Violations::new() }
}

/// A function: its name, its first line, and its lines from `fn` to the closing brace. Attributes and docs don't count.
struct Function<'a> {
    name: &'a str,
    line: usize,
    lines: usize,
}

fn functions(source: &Source) -> Vec<Function<'_>> {
    let mut found = Vec::new();
    visit_all(&source.tokens, &mut |tokens| found.extend(function(tokens)));
    found
}

/// The function that begins with the first of these tokens, if it has a body.
fn function(tokens: &[Token]) -> Option<Function<'_>> {
    let [first, name, rest @ ..] = tokens else { return None };
    let (Some("fn"), Some(name)) = (first.word(), name.word()) else { return None };
    let body = rest.iter().find(|token| token.is_mark(';') || token.group('{').is_some())?;
    let TokenKind::Group(_, _, end) = body.kind else { return None };
    Some(Function { name, line: first.line, lines: end - first.line + 1 })
}

pub(crate) fn function_length(source: &Source) -> Violations {
    let long = functions(source).into_iter().filter(|function| function.lines > FUNCTION_LINES);
    long.map(|function| source.at(function.line, &format!("{} has {} lines", function.name, function.lines))).collect()
}

/// The median and the 90th percentile of the lengths of all functions.
pub(crate) fn function_figures(sources: &[Source]) -> Violations {
    let mut lengths: Vec<usize> = sources.iter().flat_map(functions).map(|function| function.lines).collect();
    lengths.sort_unstable();
    let at = |percent: usize| lengths.get((lengths.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    let (median, p90) = (at(50).unwrap_or_default(), at(90).unwrap_or_default());
    if median <= MEDIAN_LINES && p90 <= P90_LINES {
        return Violations::new();
    }
    vec![format!(
        "{} functions: median {median} lines (at most {MEDIAN_LINES}), p90 {p90} (at most {P90_LINES}), longest {}",
        lengths.len(),
        at(100).unwrap_or_default(),
    )]
}

/// `append` and `append_many` of the log are called in one file of `streams/`, in `log import`, and nowhere else.
pub(crate) fn one_append(sources: &[Source]) -> Violations {
    let calling = sources.iter().filter(|source| !source.path.starts_with("store/"));
    let calling = calling.filter(|source| ![LOG_IMPORT, OFFLINE_TOKEN].contains(&source.path.as_str()));
    let found: Vec<(&str, Violations)> =
        calling.map(|source| (source.path.as_str(), appends(source))).filter(|(_, calls)| !calls.is_empty()).collect();
    match &found[..] {
        [] => vec!["no file of streams/ appends to the log".to_owned()],
        [(path, _)] if path.starts_with("streams/") => Violations::new(),
        _ => found.into_iter().flat_map(|(_, calls)| calls).collect(),
    }
}

/// `append_auxiliary` is called in one file of `dispatch/`, which writes the records of servers, in one of `streams/`, which
/// writes the claims of keys, and in `log import`.
pub(crate) fn append_auxiliary(sources: &[Source]) -> Violations {
    let calling = sources.iter().filter(|source| !source.path.starts_with("store/") && source.path != LOG_IMPORT);
    let calls = |source: &Source| calls(source, |name, _, _| name == "append_auxiliary");
    let found: Vec<(&str, Violations)> = calling
        .map(|source| (source.room().unwrap_or_default(), calls(source)))
        .filter(|(_, calls)| !calls.is_empty())
        .collect();
    let is_only = |room: &str| found.iter().filter(|(other, _)| *other == room).count() == 1;
    let is_allowed = |room: &str| ["dispatch", "streams"].contains(&room) && is_only(room);
    found.iter().filter(|(room, _)| !is_allowed(room)).flat_map(|(_, calls)| calls.clone()).collect()
}

fn appends(source: &Source) -> Violations {
    calls(source, |name, receiver, _| match name {
        "append_many" | "append_encoded" => true,
        // Headers, vectors and the like have an `append` too.
        "append" => ["store", "log", "events"].contains(&receiver),
        _ => false,
    })
}

/// Nothing may be unwrapped, because a value that is always valid today may later come from a client.
pub(crate) fn unwraps(source: &Source) -> Violations {
    calls(source, |name, _, arguments| match name {
        "unwrap" | "unwrap_err" => arguments.is_empty(),
        // A method of our own may have the name, with more arguments than a message.
        "expect" | "expect_err" => !arguments.iter().any(|token| token.is_mark(',')),
        _ => false,
    })
}

/// The method calls for which `is_wanted` holds, given the method's name, the last word of the receiver and the arguments;
/// also inside macros.
fn calls(source: &Source, is_wanted: fn(&str, &str, &[Token]) -> bool) -> Violations {
    let mut found = Violations::new();
    visit_all(&source.tokens, &mut |tokens| {
        let [receiver, dot, name, arguments, ..] = tokens else { return };
        let (true, Some(name), Some(arguments)) = (dot.is_mark('.'), name.word(), arguments.group('(')) else { return };
        if is_wanted(name, receiver.word().unwrap_or_default(), arguments) {
            found.push(source.at(dot.line, &format!("a call of {name}")));
        }
    });
    found
}

/// Calls `see` for each token, with this token and all tokens that follow it in its group.
fn visit_all<'a>(tokens: &'a [Token], see: &mut dyn FnMut(&'a [Token])) {
    for at in 0..tokens.len() {
        see(&tokens[at..]);
        if let TokenKind::Group(_, inner, _) = &tokens[at].kind {
            visit_all(inner, see);
        }
    }
}

/// clippy refuses wildcard arms. This rule checks that the lint is on in the room and nowhere switched off, and finds the
/// tuples of wildcards that clippy lets pass.
pub(crate) fn wildcards(source: &Source) -> Violations {
    let mut found = Violations::new();
    if !matches!(source.room(), Some("task" | "views")) {
        return found;
    }
    let mut denied = false;
    visit_all(&source.tokens, &mut |tokens| {
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
