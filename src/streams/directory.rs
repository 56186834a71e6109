//! The actors of one shard, by the keys of their streams.
//!
//! An actor stays in the directory while a command for it is under way. After that it stays only while more commands are
//! expected soon, because an attempt of the task runs. An actor ends when the directory drops its address. Nothing is lost: the
//! next command starts another actor, which reads the stream. The directory is used by one thread only, so no command can
//! arrive between the decision to end an actor and its removal.

use std::cell::RefCell;
use std::hash::Hash;

use crate::task::IdMap;
use crate::task::deadlines::DeadlineQueue;

/// The maximum number of commands that wait for one actor.
const COMMANDS_MAX: usize = 4096;

/// The addresses (`A`) of actors, by the keys (`K`) of their streams.
#[derive(Debug)]
pub(super) struct Directory<K, A> {
    state: RefCell<State<K, A>>,
    /// The maximum number of actors.
    limit: usize,
}

#[derive(Debug)]
struct State<K, A> {
    /// At most `limit` entries, so that a client that chose keys which collide would gain little.
    actors: IdMap<K, Entry<A>>,
    /// The actors without a command under way, the least recently used one first. A "deadline" in this queue is not a time: it
    /// is the value of `use_count` when the actor became idle.
    idle: DeadlineQueue<u64, K>,
    /// Grows by 1 when an actor becomes idle; orders `idle`.
    use_count: u64,
}

#[derive(Debug)]
struct Entry<A> {
    actor: A,
    /// The number of commands that were sent to it and are not answered yet.
    under_way: usize,
}

impl<K: Clone + Ord + Hash, A: Clone> Directory<K, A> {
    /// An empty directory for at most `limit` actors.
    pub(super) fn new(limit: usize) -> Self {
        let state = State { actors: IdMap::default(), idle: DeadlineQueue::default(), use_count: 0 };
        Self { state: RefCell::new(state), limit }
    }

    /// Returns the actor for one more command, and counts the command as under way. If the directory has no actor for the key,
    /// or the actor has panicked (`is_alive` is false), one is started. If the directory is full then, the least recently used
    /// idle actor ends.
    ///
    /// None if the directory is full and has no idle actor, or if too many commands wait for this actor.
    pub(super) fn begin_command(&self, key: &K, is_alive: impl Fn(&A) -> bool, start: impl FnOnce() -> A) -> Option<A> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if let Some(entry) = state.actors.get_mut(key).filter(|entry| is_alive(&entry.actor)) {
            if entry.under_way == 0 {
                state.idle.remove(key.clone());
            }
            if entry.under_way >= COMMANDS_MAX {
                return None;
            }
            entry.under_way += 1;
            return Some(entry.actor.clone());
        }
        state.remove(key);
        if state.actors.len() >= self.limit {
            let (idle_longest, ()) = state.idle.take_first()?;
            state.actors.remove(&idle_longest);
        }
        let actor = start();
        state.actors.insert(key.clone(), Entry { actor: actor.clone(), under_way: 1 });
        Some(actor)
    }

    /// The actor has finished one command. If no other command is under way, the actor ends, unless `expects_more_commands`.
    pub(super) fn end_command(&self, key: &K, expects_more_commands: bool) {
        let mut state = self.state.borrow_mut();
        let Some(entry) = state.actors.get_mut(key) else { return };
        entry.under_way = entry.under_way.saturating_sub(1);
        if entry.under_way > 0 {
            return;
        }
        if expects_more_commands {
            state.use_count += 1;
            let used = state.use_count;
            state.idle.set(key.clone(), used, ());
        } else {
            state.actors.remove(key);
        }
    }

    /// The number of actors.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.state.borrow().actors.len()
    }
}

impl<K: Clone + Ord + Hash, A> State<K, A> {
    fn remove(&mut self, key: &K) {
        if self.actors.remove(key).is_some() {
            self.idle.remove(key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Here the address of an actor is a number; `new` is the number of an actor that is started.
    fn begin_command(directory: &Directory<u8, u32>, key: u8, new: u32) -> Option<u32> {
        directory.begin_command(&key, |_| true, || new)
    }

    #[test]
    fn an_actor_serves_the_commands_that_are_under_way_and_then_ends() {
        let directory = Directory::new(9);
        assert_eq!([begin_command(&directory, 1, 10), begin_command(&directory, 1, 11)], [Some(10); 2]);
        directory.end_command(&1, false);
        assert_eq!(begin_command(&directory, 1, 12), Some(10), "another command is under way");
        directory.end_command(&1, false);
        directory.end_command(&1, false);
        assert_eq!(directory.len(), 0);
        assert_eq!(begin_command(&directory, 1, 13), Some(13));
    }

    #[test]
    fn an_actor_that_expects_more_commands_stays() {
        let directory = Directory::new(9);
        begin_command(&directory, 1, 10);
        directory.end_command(&1, true);
        assert_eq!(begin_command(&directory, 1, 11), Some(10));
    }

    #[test]
    fn no_more_idle_actors_stay_than_the_limit_and_the_least_recently_used_one_ends() {
        let directory = Directory::new(3);
        for key in 0..200_u8 {
            assert_eq!(begin_command(&directory, key, key.into()), Some(key.into()));
            directory.end_command(&key, true);
            assert_eq!(directory.len(), 3.min(usize::from(key) + 1));
        }
        assert_eq!(begin_command(&directory, 197, 1000), Some(197));
        directory.end_command(&197, true);
        begin_command(&directory, 1, 1001);
        assert_eq!(begin_command(&directory, 197, 1002), Some(197), "198 was idle for longer");
        assert_eq!(begin_command(&directory, 198, 1003), Some(1003));
    }

    #[test]
    fn while_each_actor_has_a_command_under_way_another_stream_gets_none() {
        let directory = Directory::new(2);
        begin_command(&directory, 1, 10);
        begin_command(&directory, 2, 20);
        assert_eq!(begin_command(&directory, 3, 30), None);
        assert_eq!(begin_command(&directory, 2, 21), Some(20), "a stream that has an actor is served");
        directory.end_command(&1, false);
        assert_eq!(begin_command(&directory, 3, 31), Some(31));
    }

    #[test]
    fn an_actor_that_has_died_is_replaced() {
        let directory = Directory::new(2);
        begin_command(&directory, 1, 10);
        assert_eq!(directory.begin_command(&1, |actor| *actor != 10, || 11), Some(11));
        directory.end_command(&1, false);
        assert_eq!(directory.len(), 0, "its lost commands don't keep the new one alive");
    }

    #[test]
    fn the_number_of_commands_that_wait_for_one_stream_is_bounded() {
        let directory = Directory::new(2);
        let served = (0..COMMANDS_MAX + 5).filter_map(|_| begin_command(&directory, 1, 10)).count();
        assert_eq!(served, COMMANDS_MAX);
    }
}
