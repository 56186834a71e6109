//! Tests of the reactions to events, without actors: which schedules are due, and which children need a request to cancel.

mod agenda;
mod backlog;

use taskbell::reactions::cascade::Cascade;
use taskbell::reactions::scheduler::Scheduler;

#[test]
fn both_actors_can_be_built_on_one_thread_and_started_on_another() {
    fn can_move_to_another_thread<T: Send + 'static>() {}
    can_move_to_another_thread::<Cascade>();
    can_move_to_another_thread::<Scheduler>();
}
