//! Which server of a cluster does which work first.
//!
//! All servers see all work, and the log decides who does it: of several that try, one succeeds. So that they seldom try the
//! same, each piece of work is in the share of one server that lives, by rendezvous hash. A server does its own share at
//! once, and the rest after a while, in case the other one doesn't. Servers may disagree for a moment about who lives; then
//! some work is tried twice, or late.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use uuid::Uuid;

use super::servers::LiveServer;

/// The servers that share the work; clones share it. Without other servers all work is in the own share.
#[derive(Clone, Debug, Default)]
pub struct Shares(Arc<RwLock<Servers>>);

#[derive(Debug, Default)]
struct Servers {
    own: Uuid,
    own_kinds: Option<HashSet<String>>,
    others: Vec<LiveServer>,
}

impl Shares {
    /// Replaces the servers: this one, and the others that live.
    pub fn set(&self, (own, own_kinds): LiveServer, others: Vec<LiveServer>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Servers { own, own_kinds, others };
    }

    /// Whether this server is the one for it, of all that live.
    #[must_use]
    pub fn is_own(&self, item: Uuid) -> bool {
        let servers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let own = score(servers.own, item);
        servers.others.iter().all(|(other, _)| score(*other, item) <= own)
    }

    /// Whether this server is the one to have the task executed, of those whose workers execute its kind.
    #[must_use]
    pub fn is_own_task(&self, task: Uuid, kind: &str) -> bool {
        let servers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let takes = |kinds: &Option<HashSet<String>>| kinds.as_ref().is_none_or(|kinds| kinds.contains(kind));
        let others = servers.others.iter().filter(|(_, kinds)| takes(kinds));
        let best = others.map(|(other, _)| score(*other, task)).max();
        best.is_none_or(|best| takes(&servers.own_kinds) && best <= score(servers.own, task))
    }
}

/// The server with the highest score has the item in its share. Where a server joins or leaves, only its own share moves.
fn score(server: Uuid, item: Uuid) -> (u64, Uuid) {
    let mut hasher = blake3::Hasher::new();
    hasher.update(server.as_bytes()).update(item.as_bytes());
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    (u64::from_be_bytes(bytes), server)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    /// The shares as each of these servers sees them.
    fn of(servers: &[u128]) -> Vec<Shares> {
        let of_one = |own: &u128| {
            let shares = Shares::default();
            let others = servers.iter().filter(|other| *other != own);
            shares.set((server(*own), None), others.map(|other| (server(*other), None)).collect());
            shares
        };
        servers.iter().map(of_one).collect()
    }

    fn owner(shares: &[Shares], item: Uuid) -> Vec<usize> {
        (0..shares.len()).filter(|place| shares[*place].is_own(item)).collect()
    }

    #[test]
    fn each_item_is_in_the_share_of_one_server_and_the_shares_are_about_equal() {
        let shares = of(&[1, 2, 3]);
        let mut sizes = [0; 3];
        for item in 0..3000 {
            let owners = owner(&shares, Uuid::from_u128(item));
            assert_eq!(owners.len(), 1);
            sizes[owners[0]] += 1;
        }
        assert!(sizes.iter().all(|size| (850..1150).contains(size)), "{sizes:?}");
    }

    #[test]
    fn when_a_server_leaves_only_its_own_share_moves() {
        let (three, two) = (of(&[1, 2, 3]), of(&[1, 2]));
        for item in (0..1000).map(Uuid::from_u128) {
            let before = owner(&three, item);
            assert!(before == [2] || before == owner(&two, item));
        }
    }

    #[test]
    fn a_task_is_in_the_share_of_a_server_whose_workers_execute_its_kind() {
        let only_mail = Some(HashSet::from(["mail".to_owned()]));
        let (one, two) = (Shares::default(), Shares::default());
        one.set((server(1), only_mail.clone()), vec![(server(2), None)]);
        two.set((server(2), None), vec![(server(1), only_mail)]);
        for task in (0..100).map(Uuid::from_u128) {
            assert!(two.is_own_task(task, "print") && !one.is_own_task(task, "print"));
            assert_ne!(one.is_own_task(task, "mail"), two.is_own_task(task, "mail"));
        }
    }

    #[test]
    fn without_other_servers_everything_is_in_the_own_share() {
        let alone = Shares::default();
        assert!(alone.is_own(server(9)) && alone.is_own_task(server(9), "mail"));
        let idle = Shares::default();
        idle.set((server(1), Some(HashSet::new())), vec![(server(2), Some(HashSet::new()))]);
        assert!(idle.is_own_task(server(9), "mail"), "no server has a worker for it");
    }
}
