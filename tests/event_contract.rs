//! The schemas and examples in `events/` agree with the Rust types, in both directions.

pub(crate) mod claims;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde_json::{Value, json};
use taskbell::store::{Hash, LogEvent, Recorded, codec};
use taskbell::task::bell::{BellEvent, Seen};
use taskbell::task::calendar::Calendar;
use taskbell::task::limits::TEXT_MAX;
use taskbell::task::queue::{Queue, QueueCommand};
use taskbell::task::schedule::{Missed, Schedule, ScheduleCommand, ScheduleEvent};
use taskbell::task::{Decider, Position, Timestamp};

use crate::task_laws::{events, for_each_history};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("events")
}

fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn validator(path: &Path) -> Validator {
    jsonschema::draft202012::new(&json(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn schema(kind: &str, version: u32) -> Validator {
    validator(&folder().join(kind).join(format!("v{version}.schema.json")))
}

fn example(kind: &str, version: u32) -> Value {
    json(&folder().join(kind).join(format!("v{version}.example.json")))
}

fn names_in(path: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The paths of the recorded logs, without the extension.
pub(crate) fn logs() -> Vec<PathBuf> {
    let logs = folder().join("logs");
    let logs: Vec<_> =
        names_in(&logs).iter().filter_map(|name| name.strip_suffix(".jsonl")).map(|n| logs.join(n)).collect();
    assert!(!logs.is_empty(), "no recorded log");
    logs
}

#[track_caller]
pub(crate) fn check(validator: &Validator, value: &Value, what: &str) {
    let errors: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}\n{value:#}");
}

/// Every type and version of an event, including old versions.
fn published() -> impl Iterator<Item = (&'static str, u32)> {
    codec::TYPES.iter().flat_map(|&(kind, current)| (1..=current).map(move |version| (kind, version)))
}

#[test]
fn every_type_has_its_folder_and_every_folder_its_type() {
    let mut expected: BTreeSet<String> = codec::TYPES.iter().map(|(kind, _)| (*kind).to_owned()).collect();
    expected.extend(["README.md", "aside", "envelope.v1.schema.json", "logs"].map(str::to_owned));
    assert_eq!(names_in(&folder()), expected);
}

#[test]
fn every_version_has_its_schema_and_its_example_and_no_other_file() {
    for (kind, current) in codec::TYPES {
        let files = |version| ["schema", "example"].map(|what| format!("v{version}.{what}.json"));
        let expected: BTreeSet<String> = (1..=current).flat_map(files).collect();
        assert_eq!(names_in(&folder().join(kind)), expected, "{kind}");
    }
}

#[test]
fn every_schema_is_valid_and_describes_each_field() {
    for (kind, version) in published() {
        let path = folder().join(kind).join(format!("v{version}.schema.json"));
        let schema = json(&path);
        assert!(jsonschema::meta::is_valid(&schema), "{} is not a JSON Schema", path.display());
        assert_eq!(schema["$id"], format!("urn:taskbell:event:{kind}:v{version}"));
        assert_eq!(undescribed(&schema), [""; 0], "{}", path.display());
    }
    assert_eq!(undescribed(&json(&folder().join("envelope.v1.schema.json"))), [""; 0], "the envelope");
}

/// Finds objects that allow additional fields, and fields that are optional or have no description.
fn undescribed(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(fields) = schema.get("properties").and_then(Value::as_object) {
        if schema["additionalProperties"] != false {
            found.push("additionalProperties".to_owned());
        }
        for (name, field) in fields {
            let required = schema["required"].as_array().is_some_and(|names| names.contains(&json!(name)));
            if !required || !field["description"].is_string() {
                found.push(name.clone());
            }
        }
    }
    let inner = schema.as_object().into_iter().flat_map(|o| o.values()).chain(schema.as_array().into_iter().flatten());
    found.extend(inner.flat_map(undescribed));
    found
}

#[test]
fn every_example_is_valid_and_the_same_after_decoding_and_encoding() {
    for (kind, version) in published() {
        let example = example(kind, version);
        check(&schema(kind, version), &example, kind);
        let event = codec::decode(kind, version, &example.to_string()).unwrap();
        assert_eq!(codec::type_name(&event), kind);
        if Some(version) == codec::current_version(kind) {
            let again: Value = serde_json::from_str(codec::encode(&event).unwrap().get()).unwrap();
            assert_eq!(again, example, "{kind}");
        }
    }
}

#[test]
fn an_unknown_field_is_rejected_by_the_schema_and_by_the_code() {
    for (kind, current) in codec::TYPES {
        let schema = schema(kind, current);
        let mut plants = Vec::new();
        plant(&example(kind, current), &schema, &mut plants);
        assert!(!plants.is_empty(), "{kind}");
        for planted in plants {
            assert!(!schema.is_valid(&planted), "the schema of {kind} accepts {planted}");
            assert!(codec::decode(kind, current, &planted.to_string()).is_err(), "the code accepts {kind} {planted}");
        }
    }
}

/// Copies of the example, each with one additional field: at the top, or in one of the objects with a fixed set of fields.
fn plant(example: &Value, schema: &Validator, plants: &mut Vec<Value>) {
    let objects = std::iter::once(String::new())
        .chain(["policy", "error", "progress", "idempotency", "task"].iter().map(|name| format!("/{name}")));
    for pointer in objects {
        let mut planted = example.clone();
        if let Some(Value::Object(object)) = planted.pointer_mut(&pointer) {
            assert!(schema.is_valid(example));
            object.insert("planted".to_owned(), json!(1));
            plants.push(planted);
        }
    }
}

#[test]
fn no_field_may_be_missing() {
    for (kind, current) in codec::TYPES {
        let (schema, example) = (schema(kind, current), example(kind, current));
        for field in example.as_object().unwrap().keys() {
            let mut without = example.clone();
            without.as_object_mut().unwrap().remove(field);
            assert!(!schema.is_valid(&without), "{kind} without {field}");
        }
    }
}

#[test]
fn every_event_that_the_rules_decide_fits_its_schema() {
    let schemas: Vec<(&str, Validator)> =
        codec::TYPES.iter().map(|&(kind, version)| (kind, schema(kind, version))).collect();
    let fits = |event: &LogEvent| {
        let kind = codec::type_name(event);
        let data: Value = serde_json::from_str(codec::encode(event).unwrap().get()).unwrap();
        let (_, schema) = schemas.iter().find(|(name, _)| *name == kind).unwrap();
        check(schema, &data, kind);
    };
    for_each_history(|history| events(history).into_iter().map(LogEvent::Task).for_each(|event| fits(&event)));
    fits(&LogEvent::Bell(BellEvent::Seen(Seen { position: Position(u64::MAX) })));
    for reason in [None, Some(String::new()), Some("x".repeat(TEXT_MAX))] {
        let (pause, resume) =
            (QueueCommand::Pause { reason: reason.clone() }, QueueCommand::Resume { reason: reason.clone() });
        decided::<Queue>(&[pause, resume]).into_iter().map(LogEvent::Queue).for_each(|event| fits(&event));
        let ScheduleEvent::ScheduleCreated(mut created) = example_schedule() else { panic!("another example") };
        let remove = ScheduleCommand::Remove { reason };
        for missed in [Missed::RunOnce, Missed::Skip, Missed::RunAll] {
            created.missed = missed;
            (created.task.unique_key, created.task.timeout_s) = (None, None);
            let events = decided::<Schedule>(&[ScheduleCommand::Create(created.clone()), remove.clone()]);
            events.into_iter().map(LogEvent::Schedule).for_each(|event| fits(&event));
        }
    }
}

/// The events to which the commands lead, in order. Each command must lead to one event.
fn decided<D: Decider>(commands: &[D::Command]) -> Vec<D::Event> {
    let (mut state, mut all) = (D::default(), Vec::new());
    for command in commands {
        let events = state.decide(command, Timestamp::from_micros(0)).unwrap();
        assert_eq!(events.len(), 1);
        for event in &events {
            state.evolve(event);
        }
        all.extend(events);
    }
    all
}

fn example_schedule() -> ScheduleEvent {
    match codec::decode("ScheduleCreated", 1, &example("ScheduleCreated", 1).to_string()) {
        Ok(LogEvent::Schedule(event)) => event,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_example_of_a_schedule_runs_on_working_days_at_half_past_two() {
    let ScheduleEvent::ScheduleCreated(created) = example_schedule() else { panic!("another example") };
    let calendar = Calendar::parse(&created.cron, &created.time_zone).unwrap();
    let next = calendar.next_after("2026-11-20T12:00:00Z".parse().unwrap());
    assert_eq!(next.unwrap().to_string(), "2026-11-23T01:30:00.000000Z");
}

#[test]
fn every_line_of_every_recorded_log_fits_the_envelope_and_its_schema_and_the_hash_chain_holds() {
    let envelope = validator(&folder().join("envelope.v1.schema.json"));
    for log in logs() {
        let path = log.with_added_extension("jsonl");
        let mut previous = Hash::ZERO;
        for (line, position) in fs::read_to_string(&path).unwrap().lines().zip(1..) {
            let at = format!("{}:{position}", path.display());
            let value: Value = serde_json::from_str(line).unwrap();
            check(&envelope, &value, &at);
            let version = u32::try_from(value["version"].as_u64().unwrap()).unwrap();
            check(&schema(value["type"].as_str().unwrap(), version), &value["data"], &at);
            let recorded = Recorded::from_json(line).unwrap_or_else(|error| panic!("{at}: {error}"));
            assert_eq!(recorded.position, Position(position), "{at}");
            assert_eq!(recorded.hash, recorded.expected_hash(previous), "{at}: the chain");
            assert_eq!(serde_json::to_string(&recorded).unwrap(), line, "{at}: written again");
            previous = recorded.hash;
        }
    }
}

#[test]
fn a_log_with_one_changed_letter_breaks_the_hash_chain() {
    for log in logs() {
        let text = fs::read_to_string(log.with_added_extension("jsonl")).unwrap();
        let changed = text.replacen("mira", "mirb", 1);
        assert_ne!(changed, text, "{}", log.display());
        let mut previous = Hash::ZERO;
        let broken = changed.lines().any(|line| {
            let recorded = Recorded::from_json(line).unwrap();
            let holds = recorded.hash == recorded.expected_hash(previous);
            previous = recorded.hash;
            !holds
        });
        assert!(broken, "{}", log.display());
    }
}

#[test]
fn the_envelope_rejects_unknown_fields() {
    let envelope = validator(&folder().join("envelope.v1.schema.json"));
    let first = fs::read_to_string(logs()[0].with_added_extension("jsonl")).unwrap();
    let line: Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    check(&envelope, &line, "as it is");
    for pointer in ["", "/meta"] {
        let mut planted = line.clone();
        planted.pointer_mut(pointer).unwrap()["planted"] = json!(1);
        assert!(!envelope.is_valid(&planted), "{planted}");
    }
}
