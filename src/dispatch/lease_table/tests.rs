//! The races between directives, heartbeats and deadlines.

use super::*;

const TTL: Duration = Duration::from_secs(30);
const WAIT: Duration = Duration::from_secs(5);

type Reply = oneshot::Receiver<HeartbeatDirectives>;

/// A table with a lease for the first attempt of each of these tasks, and the time at which the leases were granted.
fn granted(tasks: &[u128]) -> (LeaseTable, Instant) {
    let (mut table, now) = (LeaseTable::default(), Instant::now());
    for number in tasks {
        table.grant(task(*number), grant(1, TTL, now), now);
    }
    (table, now)
}

fn grant(attempt: u32, ttl: Duration, now: Instant) -> NewLease {
    NewLease { attempt, worker: "w-1".into(), secret_hash: "hash".into(), ttl, deadline: now + ttl }
}

fn task(number: u128) -> TaskId {
    TaskId::from_uuid(uuid::Uuid::from_u128(number))
}

fn renewal(number: u128, seen: Option<Directive>) -> LeaseRenewal {
    LeaseRenewal { task: task(number), attempt: 1, secret_hash: "hash".to_owned(), seen }
}

fn renew(table: &mut LeaseTable, renewals: &[LeaseRenewal], now: Instant) -> Reply {
    let (answer, reply) = oneshot::channel();
    table.renew(("w-1", renewals), WAIT, answer, now);
    reply
}

/// The directives in the answer. None while the heartbeat waits.
fn directives(reply: &mut Reply) -> Option<Vec<(usize, Directive)>> {
    match reply.try_recv() {
        Ok(reply) => Some(reply.directives),
        Err(oneshot::error::TryRecvError::Empty) => None,
        Err(oneshot::error::TryRecvError::Closed) => unreachable!("each heartbeat is answered once"),
    }
}

#[test]
fn a_directive_before_a_heartbeat_is_sent_with_each_answer_until_it_is_seen() {
    let (mut table, now) = granted(&[1, 2]);
    table.send_directive(task(2), Directive::Cancel, now);
    for _ in 0..3 {
        let mut reply = renew(&mut table, &[renewal(1, None), renewal(2, None)], now);
        assert_eq!(directives(&mut reply), Some(vec![(1, Directive::Cancel)]));
    }
    let mut reply = renew(&mut table, &[renewal(1, None), renewal(2, Some(Directive::Cancel))], now);
    assert_eq!(directives(&mut reply), None);
}

#[test]
fn a_directive_while_a_heartbeat_waits_ends_its_wait_and_is_repeated_until_it_is_seen() {
    let (mut table, now) = granted(&[1, 2]);
    let mut reply = renew(&mut table, &[renewal(1, None), renewal(2, None)], now);
    assert_eq!((directives(&mut reply), table.next_wait()), (None, Some(now + WAIT)));
    table.send_directive(task(2), Directive::Cancel, now);
    assert_eq!((directives(&mut reply), table.next_wait()), (Some(vec![(1, Directive::Cancel)]), None));
    let mut lost_on_its_way = renew(&mut table, &[renewal(2, None)], now);
    assert_eq!(directives(&mut lost_on_its_way), Some(vec![(0, Directive::Cancel)]));
    let mut seen = renew(&mut table, &[renewal(2, Some(Directive::Cancel))], now);
    assert_eq!(directives(&mut seen), None);
    table.end_waits(now + WAIT);
    assert_eq!(directives(&mut seen), Some(vec![]));
}

#[test]
fn a_directive_after_the_answer_is_sent_with_the_next_one() {
    let (mut table, now) = granted(&[1]);
    let mut reply = renew(&mut table, &[renewal(1, None)], now);
    table.end_waits(now + WAIT);
    assert_eq!(directives(&mut reply), Some(vec![]));
    table.send_directive(task(1), Directive::Cancel, now + WAIT);
    let mut next = renew(&mut table, &[renewal(1, None)], now + WAIT);
    assert_eq!(directives(&mut next), Some(vec![(0, Directive::Cancel)]));
}

#[test]
fn a_stricter_directive_replaces_a_milder_one_and_not_the_other_way_round() {
    let (mut table, now) = granted(&[1]);
    table.send_directive(task(1), Directive::Interrupt, now);
    table.send_directive(task(1), Directive::Cancel, now);
    let mut seen = renew(&mut table, &[renewal(1, Some(Directive::Cancel))], now);
    assert_eq!(directives(&mut seen), Some(vec![(0, Directive::Interrupt)]));
}

#[test]
fn of_two_heartbeats_that_wait_for_one_lease_the_later_one_goes_on_waiting() {
    let (mut table, now) = granted(&[1, 2, 3]);
    let mut first = renew(&mut table, &[renewal(1, None), renewal(2, None)], now);
    let mut second = renew(&mut table, &[renewal(2, None), renewal(3, None)], now);
    assert_eq!((directives(&mut first), directives(&mut second)), (Some(vec![]), None));
    table.send_directive(task(2), Directive::Cancel, now);
    assert_eq!(directives(&mut second), Some(vec![(0, Directive::Cancel)]));
    let mut twice = renew(&mut table, &[renewal(1, None), renewal(1, None)], now);
    assert_eq!(directives(&mut twice), None, "one heartbeat doesn't answer itself");
}

#[test]
fn a_lease_expires_at_its_deadline_and_its_heartbeat_that_waits_gets_lost() {
    let (mut table, now) = granted(&[1, 2]);
    let later = now + Duration::from_secs(10);
    let mut reply = renew(&mut table, &[renewal(2, None)], later);
    assert_eq!(table.next_deadline(), Some(now + TTL));
    assert_eq!(table.take_expired(now + TTL.saturating_sub(Duration::from_nanos(1))), []);
    assert_eq!(table.take_expired(now + TTL), [(task(1), 1)]);
    assert_eq!(directives(&mut reply), None, "its lease has not expired");
    assert_eq!(table.take_expired(later + TTL), [(task(2), 1)]);
    assert_eq!(directives(&mut reply), Some(vec![(0, Directive::Lost)]));
    assert_eq!((table.next_deadline(), table.attempts()), (None, vec![]));
    let mut after = renew(&mut table, &[renewal(2, None)], later + TTL);
    assert_eq!(directives(&mut after), Some(vec![(0, Directive::Lost)]));
    let mut seen = renew(&mut table, &[renewal(2, Some(Directive::Lost))], later + TTL);
    assert_eq!(directives(&mut seen), Some(vec![]), "it is not repeated, and nothing is left to wait for");
}

#[test]
fn all_leases_get_a_fresh_deadline_at_once() {
    let (mut table, now) = granted(&[1, 2]);
    let suspended_until = now + 10 * TTL;
    table.renew_all(suspended_until);
    assert_eq!(table.take_expired(suspended_until + TTL.saturating_sub(Duration::from_nanos(1))), []);
    let mut expired = table.take_expired(suspended_until + TTL);
    expired.sort_unstable();
    assert_eq!(expired, [(task(1), 1), (task(2), 1)]);
}

#[test]
fn a_heartbeat_with_another_secret_worker_or_attempt_renews_nothing() {
    let (mut table, now) = granted(&[1]);
    let later = now + Duration::from_secs(10);
    let wrong = [
        ("w-1", LeaseRenewal { secret_hash: "other".to_owned(), ..renewal(1, None) }),
        ("w-2", renewal(1, None)),
        ("w-1", LeaseRenewal { attempt: 2, ..renewal(1, None) }),
    ];
    for (worker, renewal) in wrong {
        let (answer, mut reply) = oneshot::channel();
        table.renew((worker, &[renewal]), WAIT, answer, later);
        assert_eq!(directives(&mut reply), Some(vec![(0, Directive::Lost)]));
    }
    assert_eq!(table.next_deadline(), Some(now + TTL));
}

#[test]
fn the_end_of_an_attempt_by_its_own_worker_wakes_no_heartbeat_and_leaves_no_deadline() {
    let (mut table, now) = granted(&[1]);
    let mut reply = renew(&mut table, &[renewal(1, None)], now);
    table.end(task(1), 1);
    assert_eq!((directives(&mut reply), table.next_deadline()), (None, None));
    table.end_waits(now + WAIT);
    assert_eq!(directives(&mut reply), Some(vec![]));
}

#[test]
fn a_lease_begins_once_whether_the_answer_to_its_start_or_its_event_comes_first() {
    let (mut table, now) = granted(&[1]);
    table.send_directive(task(1), Directive::Cancel, now);
    table.grant(task(1), grant(1, TTL, now + TTL / 2), now + TTL / 2);
    assert_eq!(table.next_deadline(), Some(now + TTL));
    assert_eq!(directives(&mut renew(&mut table, &[renewal(1, None)], now)), Some(vec![(0, Directive::Cancel)]));
}

#[test]
fn the_end_of_a_former_attempt_does_not_change_the_lease_of_the_next_one() {
    let (mut table, now) = granted(&[1]);
    table.grant(task(1), grant(2, TTL, now), now);
    table.lose(task(1), 1, now);
    table.end(task(1), 1);
    let mut reply = renew(&mut table, &[LeaseRenewal { attempt: 2, ..renewal(1, None) }], now);
    assert_eq!((directives(&mut reply), table.attempts()), (None, vec![(task(1), 2)]));
}

#[test]
fn a_heartbeat_waits_a_third_of_its_shortest_lease_at_most_and_its_answer_says_what_is_left_of_it() {
    let (mut table, now) = granted(&[1]);
    table.grant(task(2), grant(1, Duration::from_secs(9), now), now);
    let mut reply = renew(&mut table, &[renewal(1, None), renewal(2, None)], now);
    let third = Duration::from_secs(3);
    let until = now + third;
    assert_eq!(table.next_wait(), Some(until));
    table.end_waits(now + third.saturating_sub(Duration::from_nanos(1)));
    assert_eq!(directives(&mut reply), None);
    table.end_waits(until);
    let expected = HeartbeatDirectives { directives: vec![], left: Some(Duration::from_secs(6)) };
    assert_eq!(reply.try_recv(), Ok(expected));
}

#[test]
fn each_heartbeat_that_waits_gets_drain_when_the_server_is_about_to_stop() {
    let (mut table, now) = granted(&[1, 2]);
    let mut replies = [1, 2].map(|number| renew(&mut table, &[renewal(number, None)], now));
    table.drain(now);
    assert_eq!(
        replies.each_mut().map(directives),
        [Some(vec![(0, Directive::Drain)]), Some(vec![(0, Directive::Drain)])]
    );
    assert_eq!(table.next_wait(), None);
}
