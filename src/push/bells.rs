//! Which sockets show which bell. When an owner's counters change, the hub finds here the sockets that don't know of a change
//! yet. The others are found no more until they have got their frames, so many changes cost hardly more than one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::messages::SocketId;
use crate::views::{BellCounters, Scope, Views};

/// Identifies a bell in the hub.
pub(super) type BellId = u64;

/// Whose counters a socket shows. All sockets with the same bell show the same counters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Bell {
    scope: Scope,
    /// The subject whose `seen` counts. `None` for the bell of one owner, where it is the owner's.
    viewer: Option<Arc<str>>,
}

impl Bell {
    fn new(scope: Scope, viewer: Arc<str>) -> Self {
        let is_of_one = matches!(&scope, Scope::Owners(names) if names.len() == 1);
        Self { scope, viewer: (!is_of_one).then_some(viewer) }
    }

    /// The owners whose changes may change the counters; `None` for all owners.
    fn owners(&self) -> Option<HashSet<&str>> {
        match &self.scope {
            Scope::Everyone => None,
            Scope::Owners(names) => Some(names.iter().map(String::as_str).chain(self.viewer.as_deref()).collect()),
        }
    }
}

#[derive(Debug)]
struct BellSockets {
    bell: Bell,
    open: usize,
    /// The sockets whose counters have not changed since they were sent.
    up_to_date: HashSet<SocketId>,
}

/// The bells of all open sockets.
#[derive(Debug, Default)]
pub(super) struct Bells {
    next_id: BellId,
    ids: HashMap<Bell, BellId>,
    sockets: HashMap<BellId, BellSockets>,
    /// The bells that a change of this owner's counters may change, without those of everyone.
    of_owner: HashMap<Arc<str>, HashSet<BellId>>,
    of_everyone: HashSet<BellId>,
}

impl Bells {
    /// Adds a socket whose counters are up to date. Returns its bell.
    pub(super) fn add(&mut self, socket: SocketId, scope: Scope, viewer: Arc<str>) -> BellId {
        let bell = Bell::new(scope, viewer);
        let id = self.ids.get(&bell).copied().unwrap_or_else(|| self.add_bell(bell));
        if let Some(sockets) = self.sockets.get_mut(&id) {
            sockets.open += 1;
            sockets.up_to_date.insert(socket);
        }
        id
    }

    fn add_bell(&mut self, bell: Bell) -> BellId {
        let id = self.next_id;
        self.next_id += 1;
        match bell.owners() {
            None => drop(self.of_everyone.insert(id)),
            Some(owners) => {
                for owner in owners {
                    self.of_owner.entry(owner.into()).or_default().insert(id);
                }
            }
        }
        self.ids.insert(bell.clone(), id);
        self.sockets.insert(id, BellSockets { bell, open: 0, up_to_date: HashSet::new() });
        id
    }

    /// Removes a closed socket, and its bell if no other socket shows it.
    pub(super) fn remove(&mut self, socket: SocketId, id: BellId) {
        let Some(sockets) = self.sockets.get_mut(&id) else { return };
        sockets.open -= 1;
        sockets.up_to_date.remove(&socket);
        if sockets.open > 0 {
            return;
        }
        let Some(BellSockets { bell, .. }) = self.sockets.remove(&id) else { return };
        self.ids.remove(&bell);
        self.of_everyone.remove(&id);
        for owner in bell.owners().into_iter().flatten() {
            if let Some(bells) = self.of_owner.get_mut(owner) {
                bells.remove(&id);
                if bells.is_empty() {
                    self.of_owner.remove(owner);
                }
            }
        }
    }

    /// Says that the socket has got the newest counters.
    pub(super) fn set_up_to_date(&mut self, socket: SocketId, id: BellId) {
        if let Some(sockets) = self.sockets.get_mut(&id) {
            sockets.up_to_date.insert(socket);
        }
    }

    /// Takes the sockets that were up to date before the counters of these owners changed.
    pub(super) fn take_outdated(&mut self, owners: &HashSet<Arc<str>>) -> Vec<SocketId> {
        let everyone = self.of_everyone.iter().filter(|_| !owners.is_empty());
        let changed = owners.iter().filter_map(|owner| self.of_owner.get(owner)).flatten().chain(everyone);
        let mut outdated = Vec::new();
        for id in changed {
            outdated.extend(self.sockets.get_mut(id).into_iter().flat_map(|sockets| sockets.up_to_date.drain()));
        }
        outdated
    }

    /// Takes all sockets that were up to date.
    pub(super) fn take_all(&mut self) -> Vec<SocketId> {
        self.sockets.values_mut().flat_map(|sockets| sockets.up_to_date.drain()).collect()
    }

    /// The present counters of this bell; `None` if no socket shows it.
    pub(super) fn counters(&self, id: BellId, views: &Views) -> Option<BellCounters> {
        let Bell { scope, viewer } = &self.sockets.get(&id)?.bell;
        Some(views.bell(scope, viewer.as_deref().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outdated(bells: &mut Bells, owners: &[&str]) -> Vec<SocketId> {
        let mut outdated = bells.take_outdated(&owners.iter().map(|owner| Arc::from(*owner)).collect());
        outdated.sort_unstable();
        outdated
    }

    #[test]
    fn a_change_finds_the_sockets_that_show_its_owner_once_until_they_are_up_to_date_again() {
        let mut bells = Bells::default();
        let several = || Scope::Owners(vec!["ann".to_owned(), "bob".to_owned()]);
        let ann = bells.add(1, Scope::of("ann"), "ann".into());
        assert_eq!(
            bells.add(2, Scope::of("ann"), "operator".into()),
            ann,
            "the counters of one owner don't depend on the viewer"
        );
        bells.add(3, Scope::of("bob"), "bob".into());
        bells.add(4, Scope::Everyone, "operator".into());
        let of_several = bells.add(5, several(), "operator".into());
        assert_ne!(bells.add(6, several(), "cleo".into()), of_several);

        assert!(outdated(&mut bells, &[]).is_empty());
        assert_eq!(outdated(&mut bells, &["dan"]), [4]);
        assert_eq!(outdated(&mut bells, &["ann"]), [1, 2, 5, 6]);
        assert_eq!(outdated(&mut bells, &["ann", "bob"]), [3]);
        bells.set_up_to_date(1, ann);
        bells.set_up_to_date(5, of_several);
        assert_eq!(
            outdated(&mut bells, &["operator"]),
            [5],
            "what the viewer has seen counts for the bell of several owners"
        );
        assert_eq!(outdated(&mut bells, &["ann"]), [1]);
        bells.set_up_to_date(1, ann);
        assert_eq!(bells.take_all(), [1]);
    }

    #[test]
    fn a_bell_is_known_as_long_as_a_socket_shows_it() {
        let mut bells = Bells::default();
        let all = bells.add(1, Scope::Everyone, "operator".into());
        let ann = bells.add(2, Scope::of("ann"), "ann".into());
        bells.add(3, Scope::of("ann"), "ann".into());
        bells.remove(2, ann);
        assert_eq!(outdated(&mut bells, &["ann"]), [1, 3]);
        bells.remove(3, ann);
        bells.remove(1, all);
        assert_eq!(bells.counters(ann, &Views::default()), None);
        assert!(bells.ids.is_empty() && bells.of_owner.is_empty() && bells.of_everyone.is_empty());
    }
}
