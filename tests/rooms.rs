//! The rules of the code base, checked on every file of `src/`. Each rule is a function that takes files and returns the
//! violations. For each rule, a test with a planted violation shows that the rule finds it.

mod circles;
mod imports;
mod planted;
mod shape;
mod source;

use source::{ROOMS, Source, sources};

/// The violations of a rule: file, line and what is wrong.
pub(crate) type Violations = Vec<String>;

#[track_caller]
/// Asserts that no file violates the rule.
fn assert_rule(rule: fn(&Source) -> Violations) {
    let found: Violations = sources().iter().flat_map(rule).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[track_caller]
/// Asserts that the files together don't violate the rule.
fn assert_rule_of_all_files(rule: fn(&[Source]) -> Violations) {
    let found = rule(&sources());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn imports_run_downhill_only() {
    assert_rule(imports::downhill);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    assert_rule_of_all_files(circles::circles);
}

#[test]
fn a_crate_is_imported_only_in_the_rooms_that_it_is_for() {
    assert_rule(imports::crates);
}

#[test]
fn the_rules_and_the_views_read_no_clock_and_wait_for_nothing() {
    assert_rule(imports::pure);
}

#[test]
fn a_file_has_at_most_400_lines() {
    assert_rule(shape::file_length);
}

#[test]
fn a_function_has_at_most_60_lines() {
    assert_rule(shape::function_length);
}

#[test]
fn half_of_the_functions_have_at_most_7_lines_and_nine_tenths_at_most_25() {
    assert_rule_of_all_files(shape::function_figures);
}

#[test]
fn one_file_of_the_write_side_appends_to_the_log() {
    assert_rule_of_all_files(shape::one_append);
}

#[test]
fn one_file_writes_the_records_of_servers_and_one_the_claims_of_keys() {
    assert_rule_of_all_files(shape::append_auxiliary);
}

#[test]
fn no_match_over_our_enums_ends_in_a_wildcard() {
    assert_rule(shape::wildcards);
}

#[test]
fn nothing_is_unwrapped() {
    assert_rule(shape::unwraps);
}

#[test]
fn every_file_is_in_a_room_of_the_design_and_every_room_has_files() {
    let sources = sources();
    for room in ROOMS {
        let is_root_of_room = |source: &Source| [format!("{room}/mod.rs"), format!("{room}.rs")].contains(&source.path);
        assert!(sources.iter().any(is_root_of_room), "no room {room}");
    }
    let unknown: Vec<_> = sources.iter().filter(|source| source.room().is_none()).map(|s| &s.path).collect();
    assert!(unknown.is_empty(), "files in no room: {unknown:?}");
}
