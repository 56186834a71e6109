//! The bell: the `seen` position never decreases.

use taskbell::task::bell::{Bell, BellEvent, MarkSeen, Seen};
use taskbell::task::{Decider, Position, Rejection};

use super::now;

fn see(seen: u64, position: u64, head: u64) -> Result<Vec<BellEvent>, Rejection> {
    let see = MarkSeen { position: Position(position), head: Position(head) };
    Bell { seen: Position(seen) }.decide(&see, now())
}

fn event(position: u64) -> BellEvent {
    BellEvent::Seen(Seen { position: Position(position) })
}

#[test]
fn a_later_position_is_recorded() {
    assert_eq!(see(0, 1, 9), Ok(vec![event(1)]));
    assert_eq!(see(3, 9, 9), Ok(vec![event(9)]));
}

#[test]
fn a_position_that_was_seen_leads_to_no_event() {
    assert_eq!(see(3, 3, 9), Ok(vec![]));
    assert_eq!(see(3, 2, 9), Ok(vec![]));
    assert_eq!(see(0, 0, 0), Ok(vec![]));
}

#[test]
fn a_position_after_the_end_of_the_log_is_rejected() {
    assert_eq!(see(3, 10, 9), Err(Rejection::BeyondHead { position: Position(10), head: Position(9) }));
    assert_eq!(see(0, 1, 0), Err(Rejection::BeyondHead { position: Position(1), head: Position(0) }));
}

#[test]
fn an_event_is_applied_but_seen_never_shrinks() {
    let mut bell = Bell::default();
    for (position, seen) in [(5, 5), (3, 5), (8, 8)] {
        bell.evolve(&event(position));
        assert_eq!(bell.seen, Position(seen));
    }
}
