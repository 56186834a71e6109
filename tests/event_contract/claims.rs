//! The published schema of key claims, `events/aside/KeyClaimed/`.

use serde_json::{Value, json};
use taskbell::store::Hash;
use taskbell::store::auxiliary::{AuxiliaryEvent, AuxiliaryStream};
use taskbell::streams::claims::record::{Claim, ClaimKey, KIND, VERSION};
use taskbell::task::Revision;
use uuid::Uuid;

use super::*;

pub(crate) fn schema_of_claims() -> Validator {
    validator(&folder().join("aside").join(KIND).join("v1.schema.json"))
}

fn example_claim() -> Value {
    json(&folder().join("aside").join(KIND).join("v1.example.json"))
}

fn decode(claim: &Value) -> Result<Claim, String> {
    let data = serde_json::value::to_raw_value(claim).unwrap();
    let stream = AuxiliaryStream::Key(Hash::ZERO);
    let recorded = AuxiliaryEvent { stream, revision: Revision(0), id: Uuid::nil(), event_type: KIND.to_owned(), data };
    Claim::decode(&recorded).map_err(|error| error.to_string())
}

#[test]
fn the_example_of_a_claim_is_valid_and_the_same_after_decoding_and_encoding() {
    let (schema, example) = (schema_of_claims(), example_claim());
    let path = folder().join("aside").join(KIND).join("v1.schema.json");
    assert_eq!(json(&path)["$id"], format!("urn:taskbell:aside:{KIND}:v{VERSION}"));
    check(&schema, &example, KIND);
    check(&super::schema("Created", 1), &example["begin"][0]["data"], "Created");
    assert_eq!(serde_json::to_value(decode(&example).unwrap()).unwrap(), example);
}

#[test]
fn a_claim_with_an_unknown_field_or_without_one_is_rejected_by_the_schema_and_by_the_code() {
    let (schema, example) = (schema_of_claims(), example_claim());
    for pointer in ["", "/key", "/begin/0"] {
        let mut planted = example.clone();
        planted.pointer_mut(pointer).unwrap()["planted"] = json!(1);
        assert!(!schema.is_valid(&planted) && decode(&planted).is_err(), "{planted}");
        for field in example.pointer(pointer).unwrap().as_object().unwrap().keys() {
            let mut without = example.clone();
            without.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(field);
            assert!(!schema.is_valid(&without), "{pointer} without {field}");
            // If a field may be null, the code reads a missing field as null.
            let may_be_null = example.pointer(pointer).unwrap()[field].is_null();
            assert!(may_be_null || decode(&without).is_err(), "{pointer} without {field}");
        }
    }
}

#[test]
fn a_claim_of_a_later_version_is_not_read() {
    let mut later = example_claim();
    later["version"] = json!(2);
    later["more"] = json!({});
    let refused = decode(&later).unwrap_err();
    assert!(refused.contains("KeyClaimed version 2"), "{refused}");
}

#[test]
fn keys_that_differ_in_kind_subject_or_key_have_different_streams() {
    let keys = [
        ClaimKey::unique("ann", "k"),
        ClaimKey::idempotency("ann", "k"),
        ClaimKey::unique("annk", ""),
        ClaimKey::unique("", "annk"),
        ClaimKey::unique("k", "ann"),
    ];
    let streams: BTreeSet<String> = keys.iter().map(|key| key.stream().to_string()).collect();
    assert_eq!(streams.len(), keys.len());
    // The name must never change, because existing claims are found by it.
    let stream = ClaimKey::unique("ann", "nightly").stream().to_string();
    assert_eq!(stream, "key-345b206464c7402cb2a4b1df923041b475460d8ad8bb226a5f20eab8545ddcf8");
}
