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
