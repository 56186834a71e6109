//! The actors of one shard, by the keys of their streams: who is alive, and who may end.
//!
//! An actor lives while a command for it is under way, and after that only while more are expected soon (an attempt runs).
//! To end an actor is to forget its address: the log is its memory, and the next command starts another one. All of this
//! happens on one thread, so that no command can arrive between the decision to forget and the forgetting.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;

use crate::task::deadlines::DeadlineQueue;

/// Commands for one stream that may wait for its actor.
const BACKLOG_MAX: usize = 4096;

/// Actors by key. `A` is the address of an actor.
#[derive(Debug)]
pub(super) struct Directory<K, A> {
    state: RefCell<State<K, A>>,
    /// How many actors may live at once.
    limit: usize,
}

#[derive(Debug)]
struct State<K, A> {
    actors: HashMap<K, Entry<A>>,
    /// The actors without a command under way, the one that was used the longest ago first.
    resting: DeadlineQueue<u64, K>,
    /// Counts the uses.
    uses: u64,
}

#[derive(Debug)]
struct Entry<A> {
    actor: A,
    /// Commands that were sent to it and are not answered yet.
    under_way: usize,
}

impl<K: Clone + Ord + Hash, A: Clone> Directory<K, A> {
    /// An empty directory with room for so many actors.
    pub(super) fn new(limit: usize) -> Self {
        let state = State { actors: HashMap::new(), resting: DeadlineQueue::default(), uses: 0 };
        Self { state: RefCell::new(state), limit }
    }

    /// The actor to send one more command to. One that isn't there, or has died of a panic, is started. Where the directory
    /// is full, the actor that has rested the longest ends for it.
    ///
    /// None where every actor has a command under way, or this one has too many.
    pub(super) fn check_out(&self, key: &K, lives: impl Fn(&A) -> bool, start: impl FnOnce() -> A) -> Option<A> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if let Some(entry) = state.actors.get_mut(key).filter(|entry| lives(&entry.actor)) {
            if entry.under_way == 0 {
                state.resting.remove(key.clone());
            }
            if entry.under_way >= BACKLOG_MAX {
                return None;
            }
            entry.under_way += 1;
            return Some(entry.actor.clone());
        }
        state.forget(key);
        if state.actors.len() >= self.limit {
            let (rested, ()) = state.resting.take_first()?;
            state.actors.remove(&rested);
        }
        let actor = start();
        state.actors.insert(key.clone(), Entry { actor: actor.clone(), under_way: 1 });
        Some(actor)
    }

    /// The actor has answered one command. It ends if that was the last one under way, unless more are expected soon.
    pub(super) fn check_in(&self, key: &K, expects_more: bool) {
        let mut state = self.state.borrow_mut();
        let Some(entry) = state.actors.get_mut(key) else { return };
        entry.under_way = entry.under_way.saturating_sub(1);
        if entry.under_way > 0 {
            return;
        }
        if expects_more {
            state.uses += 1;
            let used = state.uses;
            state.resting.set(key.clone(), used, ());
        } else {
            state.actors.remove(key);
        }
    }

    /// How many actors live.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.state.borrow().actors.len()
    }
}

impl<K: Clone + Ord + Hash, A> State<K, A> {
    fn forget(&mut self, key: &K) {
        if self.actors.remove(key).is_some() {
            self.resting.remove(key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of the actors are their addresses.
    fn check_out(directory: &Directory<u8, u32>, key: u8, new: u32) -> Option<u32> {
        directory.check_out(&key, |_| true, || new)
    }

    #[test]
    fn an_actor_serves_the_commands_that_are_under_way_and_then_ends() {
        let directory = Directory::new(9);
        assert_eq!([check_out(&directory, 1, 10), check_out(&directory, 1, 11)], [Some(10); 2]);
        directory.check_in(&1, false);
        assert_eq!(check_out(&directory, 1, 12), Some(10), "another command is under way");
        directory.check_in(&1, false);
        directory.check_in(&1, false);
        assert_eq!(directory.len(), 0);
        assert_eq!(check_out(&directory, 1, 13), Some(13));
    }

    #[test]
    fn an_actor_that_expects_more_commands_rests() {
        let directory = Directory::new(9);
        check_out(&directory, 1, 10);
        directory.check_in(&1, true);
        assert_eq!(check_out(&directory, 1, 11), Some(10));
    }

    #[test]
    fn however_many_rest_no_more_live_than_the_limit_and_the_one_that_was_used_the_longest_ago_ends() {
        let directory = Directory::new(3);
        for key in 0..200_u8 {
            assert_eq!(check_out(&directory, key, key.into()), Some(key.into()));
            directory.check_in(&key, true);
            assert_eq!(directory.len(), 3.min(usize::from(key) + 1));
        }
        assert_eq!(check_out(&directory, 197, 1000), Some(197));
        directory.check_in(&197, true);
        check_out(&directory, 1, 1001);
        assert_eq!(check_out(&directory, 197, 1002), Some(197), "198 rested longer");
        assert_eq!(check_out(&directory, 198, 1003), Some(1003));
    }

    #[test]
    fn where_each_actor_has_a_command_under_way_another_stream_gets_none() {
        let directory = Directory::new(2);
        check_out(&directory, 1, 10);
        check_out(&directory, 2, 20);
        assert_eq!(check_out(&directory, 3, 30), None);
        assert_eq!(check_out(&directory, 2, 21), Some(20), "a stream that has an actor is served");
        directory.check_in(&1, false);
        assert_eq!(check_out(&directory, 3, 31), Some(31));
    }

    #[test]
    fn an_actor_that_has_died_is_started_anew() {
        let directory = Directory::new(2);
        check_out(&directory, 1, 10);
        assert_eq!(directory.check_out(&1, |actor| *actor != 10, || 11), Some(11));
        directory.check_in(&1, false);
        assert_eq!(directory.len(), 0, "its lost commands don't keep the new one alive");
    }

    #[test]
    fn the_backlog_of_one_stream_is_bounded() {
        let directory = Directory::new(2);
        let served = (0..BACKLOG_MAX + 5).filter_map(|_| check_out(&directory, 1, 10)).count();
        assert_eq!(served, BACKLOG_MAX);
    }
}
