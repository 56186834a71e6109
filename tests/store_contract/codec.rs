//! The encoding of events, and the chain of hashes.

use serde_json::value::RawValue;
use taskbell::store::upcast::{UpcastStep, upcast};
use taskbell::store::{AppendError, Hash, ReadError, codec};

use super::*;

#[test]
fn every_event_is_decoded_as_it_was_encoded() {
    for event in [LogEvent::from(created("t")), queued().into(), attempt_failed().into(), seen(7).into()] {
        let data = codec::encode(&event).unwrap();
        assert_eq!(codec::decode(codec::type_name(&event), 1, data.get()), Ok(event));
    }
}

#[test]
fn the_error_names_an_unknown_type_or_version() {
    for (kind, version) in [("Danced", 1), ("Queued", 2), ("Queued", 0)] {
        let unknown = ReadError::Unknown { position: None, event_type: kind.to_owned(), version };
        assert_eq!(codec::decode(kind, version, r#"{"reason":"run_at"}"#), Err(unknown));
    }
    let message =
        ReadError::Unknown { position: Some(Position(7)), event_type: "Danced".to_owned(), version: 1 }.to_string();
    assert!(message.contains("Danced version 1 at position 7"), "{message}");
}

#[test]
fn data_that_does_not_fit_its_type_is_damaged_and_no_panic() {
    let deep = "[".repeat(100_000);
    for data in
        ["", "{", "null", "{}", "[]", "\"\u{0}\"", r#"{"reason":"x"}"#, r#"{"reason":"run_at","more":1}"#, &deep]
    {
        assert!(matches!(codec::decode("Queued", 1, data), Err(ReadError::Damaged(_))), "{data:.40}");
    }
}

const STEPS: &[UpcastStep] = &[
    UpcastStep { kind: "Moved", from: 1, convert: |mut data| Some([("to".to_owned(), data.remove("where")?)].into()) },
    UpcastStep {
        kind: "Moved",
        from: 2,
        convert: |mut data| {
            data.insert("by".to_owned(), RawValue::NULL.to_owned());
            Some(data)
        },
    },
];

#[test]
fn an_old_event_is_upcast_one_version_at_a_time() {
    let up = |kind, from, data| {
        let new = upcast(STEPS, kind, from, 3, serde_json::from_str(data).unwrap())?;
        Some(serde_json::to_string(&new).unwrap())
    };
    assert_eq!(up("Moved", 1, r#"{"where":[1.50]}"#).as_deref(), Some(r#"{"by":null,"to":[1.50]}"#));
    assert_eq!(up("Moved", 2, r#"{"to":"there"}"#).as_deref(), Some(r#"{"by":null,"to":"there"}"#));
    assert_eq!(up("Moved", 3, r#"{"to":1e400}"#).as_deref(), Some(r#"{"to":1e400}"#));
    assert_eq!(up("Moved", 1, r#"{"elsewhere":1}"#), None);
    assert_eq!(up("Other", 1, "{}"), None);
}

/// The expected hash was computed by another program (Python's `blake3`) from the documentation of `chain` alone.
#[test]
fn the_hash_is_computed_as_the_documentation_says() {
    let line = concat!(
        r#"{"position":2,"stream":"bell-ann","revision":1,"id":"018f0000-0000-7000-8000-000000000001","type":"Seen","#,
        r#""version":1,"time":"2026-11-22T15:04:05.000006Z","meta":{"actor": "ann","via":"http","#,
        r#""correlation_id":"018f0000-0000-7000-8000-000000000002","causation_id":null,"request_id":null},"#,
        r#""data":{"position": 1},"hash":"0000000000000000000000000000000000000000000000000000000000000000"}"#
    );
    let event = Recorded::from_json(line).unwrap();
    let expected = event.expected_hash(Hash([7; 32])).to_string();
    assert_eq!(expected, "bcdbff00563cfda53c456dc49a0b28152e22b6699aaecca9906d6cc997d9d8c4");
    assert_eq!(serde_json::to_string(&event).unwrap(), line);
}

#[test]
fn a_line_that_is_no_event_is_damaged() {
    for line in ["", "{}", "[1]", r#"{"position":-1}"#] {
        assert!(matches!(Recorded::from_json(line), Err(ReadError::Damaged(_))), "{line}");
    }
}

#[test]
fn only_an_unavailable_log_may_do_later_what_it_refuses_now() {
    let why = String::new;
    let overtaken = AppendError::WrongExpectedRevision { actual: None };
    let appends =
        [AppendError::Unavailable(why()), AppendError::ReadOnly(why()), AppendError::Invalid(why()), overtaken];
    assert_eq!(appends.map(|error| error.is_transient()), [true, false, false, false]);
    let unknown = ReadError::Unknown { position: None, event_type: why(), version: 1 };
    let reads = [ReadError::Unavailable(why()), ReadError::Damaged(why()), unknown];
    assert_eq!(reads.map(|error| error.is_transient()), [true, false, false]);
}
