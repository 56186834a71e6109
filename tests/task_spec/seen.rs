//! The bell: `seen` only grows.

use taskbell::task::bell::{Bell, BellEvent, See, Seen};
use taskbell::task::{Decider, Position, Rejection};

use super::now;

fn see(seen: u64, position: u64, head: u64) -> Result<Vec<BellEvent>, Rejection> {
    let see = See { position: Position(position), head: Position(head) };
    Bell { seen: Position(seen) }.decide(&see, now())
}

fn event(position: u64) -> BellEvent {
    BellEvent::Seen(Seen { position: Position(position) })
}

#[test]
fn what_is_new_is_seen() {
    assert_eq!(see(0, 1, 9), Ok(vec![event(1)]));
    assert_eq!(see(3, 9, 9), Ok(vec![event(9)]));
}

#[test]
fn what_was_seen_is_no_news() {
    assert_eq!(see(3, 3, 9), Ok(vec![]));
    assert_eq!(see(3, 2, 9), Ok(vec![]));
    assert_eq!(see(0, 0, 0), Ok(vec![]));
}

#[test]
fn nobody_has_seen_what_lies_beyond_the_head() {
    assert_eq!(see(3, 10, 9), Err(Rejection::BeyondHead { asked: Position(10), head: Position(9) }));
    assert_eq!(see(0, 1, 0), Err(Rejection::BeyondHead { asked: Position(1), head: Position(0) }));
}

#[test]
fn history_is_not_argued_with_but_seen_never_shrinks() {
    let mut bell = Bell::default();
    for (position, seen) in [(5, 5), (3, 5), (8, 8)] {
        bell.evolve(&event(position));
        assert_eq!(bell.seen, Position(seen));
    }
}
