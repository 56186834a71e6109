//! The claims that the server writes match their published schema.

use serde_json::Value;
use taskbell::streams::claims::record::KIND;

use super::*;
use crate::event_contract::claims::schema_of_claims;
use crate::event_contract::{check, schema};

#[actix_rt::test]
async fn every_claim_that_is_written_fits_the_published_schema_and_so_do_the_events_in_it() {
    let fixture = Fixture::start().await;
    let server = fixture.new_server().await;
    let task = created(&server.create(with_both_keys("nightly", "k", "a".repeat(64).as_str())).await);
    server.cancel(task).await;
    server.retry(task).await.unwrap();
    let events: Vec<_> = fixture.key_streams().iter().flat_map(|name| fixture.database.stream(name)).collect();
    assert_eq!(events.len(), 3);
    for event in events {
        let claim: Value = serde_json::from_slice(&event.data).unwrap();
        assert_eq!(&*event.event_type, KIND);
        check(&schema_of_claims(), &claim, KIND);
        for begin in claim["begin"].as_array().unwrap() {
            let kind = begin["type"].as_str().unwrap();
            check(&schema(kind, 1), &begin["data"], kind);
        }
    }
}
