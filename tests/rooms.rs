//! The house rules, held against the code, so that nobody has to remember them. Each rule is a function from the files
//! to what breaks it, and each has a planted violation that turns it red.

mod imports;
mod planted;
mod shape;
mod source;

use source::{Source, sources};

/// What breaks a rule: where, and what.
pub(crate) type Found = Vec<String>;

#[track_caller]
fn holds(rule: fn(&Source) -> Found) {
    let found: Found = sources().iter().flat_map(rule).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn imports_run_downhill_only() {
    holds(imports::downhill);
}

#[test]
fn no_room_names_a_crate_that_is_not_its_business() {
    holds(imports::crates);
}

#[test]
fn the_rules_and_the_views_read_no_clock_and_wait_for_nothing() {
    holds(imports::pure);
}

#[test]
fn a_file_has_at_most_400_lines() {
    holds(shape::file_length);
}

#[test]
fn a_function_has_at_most_60_lines() {
    holds(shape::function_length);
}

#[test]
fn only_the_collector_appends() {
    holds(shape::one_append);
}

#[test]
fn no_match_over_our_enums_ends_in_a_wildcard() {
    holds(shape::wildcards);
}

#[test]
fn nothing_is_unwrapped() {
    holds(shape::unwraps);
}

#[test]
fn the_rooms_are_those_of_the_design_and_the_walk_found_them() {
    let sources = sources();
    for room in
        ["task", "store", "views", "streams", "projection", "dispatch", "reactions", "push", "work", "http", "cli"]
    {
        assert!(sources.iter().any(|source| source.path == format!("{room}/mod.rs")), "no room {room}");
    }
    let unknown: Vec<_> = sources.iter().filter(|source| source.room().is_none()).map(|s| &s.path).collect();
    assert!(unknown.is_empty(), "files in no room: {unknown:?}");
}
