//! A queue: a pause and a resume take effect once each.

use taskbell::task::Decider;
use taskbell::task::queue::{Paused, Queue, QueueCommand, QueueEvent, Resumed};

use super::now;

const PAUSED: Queue = Queue { paused: true };
const OPEN: Queue = Queue { paused: false };

fn pause(reason: Option<&str>) -> QueueCommand {
    QueueCommand::Pause { reason: reason.map(str::to_owned) }
}

fn resume(reason: Option<&str>) -> QueueCommand {
    QueueCommand::Resume { reason: reason.map(str::to_owned) }
}

#[test]
fn a_queue_is_not_paused_until_an_operator_pauses_it() {
    assert_eq!(Queue::default(), OPEN);
}

#[test]
fn a_pause_and_a_resume_keep_their_reasons() {
    let paused = QueueEvent::Paused(Paused { reason: Some("new disks".into()) });
    assert_eq!(OPEN.decide(&pause(Some("new disks")), now()), Ok(vec![paused]));
    let resumed = QueueEvent::Resumed(Resumed { reason: None });
    assert_eq!(PAUSED.decide(&resume(None), now()), Ok(vec![resumed]));
}

#[test]
fn a_command_that_changes_nothing_leads_to_no_event() {
    assert_eq!(PAUSED.decide(&pause(Some("again")), now()), Ok(vec![]));
    assert_eq!(OPEN.decide(&resume(Some("again")), now()), Ok(vec![]));
}

#[test]
fn an_event_is_applied_whatever_the_state_is() {
    let mut queue = Queue::default();
    for (event, paused) in [
        (QueueEvent::Resumed(Resumed { reason: None }), false),
        (QueueEvent::Paused(Paused { reason: None }), true),
        (QueueEvent::Paused(Paused { reason: None }), true),
        (QueueEvent::Resumed(Resumed { reason: None }), false),
    ] {
        queue.evolve(&event);
        assert_eq!(queue.paused, paused);
    }
}
