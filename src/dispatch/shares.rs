//! Which server of a cluster does which work first.
//!
//! Every server sees all work. If several servers try to do the same, the log accepts the append of one of them. To make this
//! rare, each piece of work belongs to the share of one live server, which is chosen by rendezvous hashing. A server does the
//! work of its own share at once, and other work after a delay, if its server has not done it by then. Servers may disagree for
//! a moment about which servers are alive. Then some work is tried twice, or done late.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use uuid::Uuid;

use super::servers::LiveServer;

/// The servers that share the work. Clones refer to the same data. If there are no other servers, all work is in this server's
/// share.
#[derive(Clone, Debug, Default)]
pub struct Shares(Arc<RwLock<Servers>>);

#[derive(Debug, Default)]
struct Servers {
    own: Uuid,
    own_kinds: Option<HashSet<String>>,
    others: Vec<LiveServer>,
}

impl Shares {
    /// Replaces the servers: this server, and the other live ones.
    pub fn set(&self, (own, own_kinds): LiveServer, others: Vec<LiveServer>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Servers { own, own_kinds, others };
    }

    /// Whether the item is in this server's share, among all live servers.
    #[must_use]
    pub fn is_own(&self, item: Uuid) -> bool {
        let servers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let own = score(servers.own, item);
        servers.others.iter().all(|(other, _)| score(*other, item) <= own)
    }

    /// Whether the task is in this server's share, among the live servers whose workers execute its kind. If no other server has
    /// such a worker, the task is in this server's share.
    #[must_use]
    pub fn is_own_task(&self, task: Uuid, kind: &str) -> bool {
        let servers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let takes = |kinds: &Option<HashSet<String>>| kinds.as_ref().is_none_or(|kinds| kinds.contains(kind));
        let others = servers.others.iter().filter(|(_, kinds)| takes(kinds));
        let best = others.map(|(other, _)| score(*other, task)).max();
        best.is_none_or(|best| takes(&servers.own_kinds) && best <= score(servers.own, task))
    }
}

/// The score of a server for an item. The item is in the share of the server with the highest score. When a server joins or
/// leaves, only the items of its own share move.
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

    /// The `Shares` of each of these servers.
    fn shares_of(servers: &[u128]) -> Vec<Shares> {
        let of_one = |own: &u128| {
            let shares = Shares::default();
            let others = servers.iter().filter(|other| *other != own);
            shares.set((server(*own), None), others.map(|other| (server(*other), None)).collect());
            shares
        };
        servers.iter().map(of_one).collect()
    }

    fn owners(shares: &[Shares], item: Uuid) -> Vec<usize> {
        (0..shares.len()).filter(|index| shares[*index].is_own(item)).collect()
    }

    #[test]
    fn each_item_is_in_the_share_of_one_server_and_the_shares_are_about_equal() {
        let shares = shares_of(&[1, 2, 3]);
        let mut sizes = [0; 3];
        for item in 0..3000 {
            let owners = owners(&shares, Uuid::from_u128(item));
            assert_eq!(owners.len(), 1);
            sizes[owners[0]] += 1;
        }
        assert!(sizes.iter().all(|size| (850..1150).contains(size)), "{sizes:?}");
    }

    #[test]
    fn when_a_server_leaves_only_its_own_share_moves() {
        let (three, two) = (shares_of(&[1, 2, 3]), shares_of(&[1, 2]));
        for item in (0..1000).map(Uuid::from_u128) {
            let before = owners(&three, item);
            assert!(before == [2] || before == owners(&two, item));
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
