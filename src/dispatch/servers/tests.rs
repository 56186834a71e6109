//! Time is an argument: no test waits.

use super::*;

const LEASE: Duration = Duration::from_secs(30);

struct Fixture {
    table: ServerTable,
    own: Uuid,
    other: Uuid,
    start: Instant,
}

fn task(number: u128) -> TaskId {
    TaskId::from_uuid(Uuid::from_u128(number))
}

fn record(attempts: &[AttemptId]) -> ServerRecord {
    ServerRecord {
        time: Timestamp::from_micros(0),
        interval_ms: 5_000,
        position: Position(1),
        hash: "00".to_owned(),
        kinds: None,
        attempts: attempts.to_vec(),
    }
}

impl Fixture {
    /// A table with one attempt that started at second 0.
    fn new() -> Self {
        let (own, other, start) = (Uuid::from_u128(1), Uuid::from_u128(2), Instant::now());
        let mut table = ServerTable::new(own);
        table.subscription_began(start);
        table.attempt_started((task(7), 1), LEASE, start);
        Self { table, own, other, start }
    }

    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    /// An own record was begun at second `begun`, and is received at second `received`.
    fn own_record(&mut self, begun: u64, received: u64) {
        let id = Uuid::from_u128(u128::from(begun) + 1000);
        self.table.record_sent(id, self.at(begun));
        self.table.record_received(self.own, id, &record(&[]), self.at(received));
    }

    fn named_at(&mut self, second: u64) {
        self.table.record_received(self.other, Uuid::nil(), &record(&[(task(7), 1)]), self.at(second));
    }

    fn expired(&mut self, second: u64) -> Vec<AttemptId> {
        self.table.take_expired(self.at(second))
    }
}

#[test]
fn an_attempt_expires_when_no_record_has_named_it_for_its_lease_time_and_ten_seconds() {
    let mut fixture = Fixture::new();
    fixture.own_record(39, 39);
    assert_eq!(fixture.expired(39), []);
    fixture.own_record(40, 40);
    assert_eq!(fixture.expired(40), [(task(7), 1)]);
    assert_eq!(fixture.expired(40), [], "its time counts from second 40 again");
}

#[test]
fn a_record_of_any_server_that_names_an_attempt_keeps_it() {
    let mut fixture = Fixture::new();
    fixture.named_at(20);
    fixture.own_record(59, 59);
    assert_eq!(fixture.expired(59), []);
    fixture.own_record(60, 60);
    assert_eq!(fixture.expired(60), [(task(7), 1)]);
}

#[test]
fn time_without_a_record_counts_only_up_to_the_beginning_of_the_newest_own_record_that_was_received() {
    let mut fixture = Fixture::new();
    fixture.table.record_sent(Uuid::from_u128(99), fixture.at(100));
    assert_eq!(fixture.expired(500), [], "no own record was received, so others may have been missed too");
    fixture.own_record(39, 500);
    assert_eq!(fixture.expired(500), [], "what was written after second 39 may still be on its way");
    fixture.own_record(501, 502);
    assert_eq!(fixture.expired(502), [(task(7), 1)]);
}

#[test]
fn after_an_interruption_counting_begins_anew() {
    let mut fixture = Fixture::new();
    fixture.own_record(35, 35);
    fixture.table.subscription_ended();
    fixture.own_record(41, 41);
    fixture.table.subscription_began(fixture.at(50));
    assert_eq!(fixture.expired(51), []);
    // This record was begun before the subscription, and is received after it.
    fixture.own_record(49, 52);
    fixture.own_record(89, 89);
    assert_eq!(fixture.expired(89), []);
    fixture.own_record(90, 90);
    assert_eq!(fixture.expired(90), [(task(7), 1)]);
}

#[test]
fn an_attempt_that_has_ended_or_was_followed_by_another_does_not_expire() {
    let mut fixture = Fixture::new();
    fixture.table.attempt_started((task(7), 2), LEASE, fixture.at(30));
    fixture.table.attempt_ended((task(7), 1));
    fixture.named_at(35);
    fixture.own_record(40, 40);
    assert_eq!(fixture.expired(40), [], "attempt 2 began at second 30");
    fixture.own_record(70, 70);
    assert_eq!(fixture.expired(70), [(task(7), 2)], "a record that names attempt 1 is not one for attempt 2");
    fixture.table.attempt_ended((task(7), 2));
    fixture.own_record(200, 200);
    assert_eq!(fixture.expired(200), []);
}

#[test]
fn a_known_attempt_that_is_named_as_started_again_keeps_its_time() {
    let mut fixture = Fixture::new();
    fixture.table.attempt_started((task(7), 1), LEASE, fixture.at(30));
    fixture.table.retain_attempts(&HashSet::from([(task(7), 1)]));
    fixture.own_record(40, 40);
    assert_eq!(fixture.expired(40), [(task(7), 1)]);
    fixture.table.retain_attempts(&HashSet::new());
    fixture.own_record(200, 200);
    assert_eq!(fixture.expired(200), []);
}

#[test]
fn a_server_lives_for_three_of_its_intervals_after_its_last_record() {
    let mut fixture = Fixture::new();
    fixture.named_at(10);
    assert_eq!(fixture.table.live_peers(fixture.at(25)), [(fixture.other, None)]);
    assert_eq!(fixture.table.live_peers(fixture.at(26)), []);
    fixture.own_record(30, 30);
    assert_eq!(fixture.table.live_peers(fixture.at(30)), [], "this server is not among them");
}

#[test]
fn records_come_at_a_third_of_the_shortest_lease_and_at_most_every_five_seconds() {
    assert_eq!(record_interval(Duration::from_secs(3)), Duration::from_secs(1));
    assert_eq!(record_interval(LEASE), Duration::from_secs(5));
}

#[test]
fn a_record_reads_back_as_it_was_written_and_unknown_fields_are_ignored() -> serde_json::Result<()> {
    let written = record(&[(task(7), 3)]);
    let text = serde_json::to_string(&written)?;
    assert_eq!(serde_json::from_str::<ServerRecord>(&text)?, written);
    let later = text.replacen('{', "{\"later\":1,", 1);
    assert_eq!(serde_json::from_str::<ServerRecord>(&later)?, written);
    Ok(())
}
