//! The effects of the servers' records on the leases of a server of a cluster.

use std::time::Instant;

use super::LeaseTable;
use crate::dispatch::directive::Directive;
use crate::dispatch::servers::AttemptId;
use crate::task::TaskId;

impl LeaseTable {
    /// If one of the leases has less than a third of its time left, the heartbeat must wait for a record. Returns whether it
    /// must.
    pub(super) fn must_wait_for_record(&mut self, number: u64, held: &[(usize, TaskId)], now: Instant) -> bool {
        let is_short = held.iter().any(|(_, task)| !self.has_time(*task, now));
        match &mut self.records {
            Some(records) if is_short => records.waiting_for_record.insert(number),
            Some(_) | None => false,
        }
    }

    /// Whether at least a third of the lease's time is left.
    fn has_time(&self, task: TaskId, now: Instant) -> bool {
        let Some(lease) = self.leases.get(&task) else { return true };
        self.deadlines.deadline(&task).is_some_and(|deadline| now + lease.ttl / 3 <= deadline)
    }

    /// Whether a heartbeat waits for a record.
    pub(in crate::dispatch) fn is_record_awaited(&self) -> bool {
        self.records.as_ref().is_some_and(|records| !records.waiting_for_record.is_empty())
    }

    /// Takes the attempts that the next record must name, each with the time of its last heartbeat: those with a heartbeat since
    /// the last record. An attempt whose heartbeat is older than the lease time is left out.
    pub(in crate::dispatch) fn take_unrecorded(&mut self, now: Instant) -> Vec<(AttemptId, Instant)> {
        let Some(records) = &mut self.records else { return Vec::new() };
        let unrecorded = std::mem::take(&mut records.unrecorded);
        let is_recent = |task: &TaskId, at: Instant| {
            self.leases.get(task).is_some_and(|lease| now.saturating_duration_since(at) < lease.ttl)
        };
        let unrecorded = unrecorded.into_iter().filter(|(task, (_, at))| is_recent(task, *at));
        unrecorded.map(|(task, (attempt, at))| ((task, attempt), at)).collect()
    }

    /// The record that named these attempts was not written, so the next record must name them.
    pub(in crate::dispatch) fn restore_unrecorded(&mut self, unrecorded: Vec<(AttemptId, Instant)>) {
        let Some(records) = &mut self.records else { return };
        for ((task, attempt), at) in unrecorded {
            records.unrecorded.entry(task).or_insert((attempt, at));
        }
    }

    /// A record that names these attempts is durable. It was begun at `begun`, so their leases are extended until the lease time
    /// after that. The heartbeats that waited for this record are answered.
    pub(in crate::dispatch) fn recorded(&mut self, attempts: &[AttemptId], begun: Instant, now: Instant) {
        for (task, attempt) in attempts {
            if let Some(lease) = self.leases.get(task).filter(|lease| lease.attempt == *attempt) {
                let deadline = begun + lease.ttl;
                self.extend_deadline(*task, deadline);
            }
        }
        let waiting_for_record = self.records.iter().flat_map(|records| &records.waiting_for_record);
        let is_served = |number: &u64| {
            self.heartbeats
                .get(number)
                .is_none_or(|waiting| waiting.held.iter().all(|(_, task)| self.has_time(*task, now)))
        };
        let served: Vec<u64> = waiting_for_record.copied().filter(is_served).collect();
        for number in served {
            self.answer(number, Vec::new(), now);
        }
    }

    /// Another server's record has named the attempt.
    pub(in crate::dispatch) fn named_by_peer(&mut self, (task, attempt): AttemptId, now: Instant) {
        if let Some(lease) = self.leases.get_mut(&task).filter(|lease| lease.attempt == attempt) {
            lease.peer_deadline = Some(now + lease.ttl);
        }
    }

    /// The directive `lost` for each lease of this heartbeat whose deadline has passed, unless another server's record has named
    /// the attempt within the lease time.
    pub(super) fn lost_directives(&self, number: u64, now: Instant) -> Vec<(usize, Directive)> {
        let Some(waiting) = self.heartbeats.get(&number).filter(|_| self.records.is_some()) else { return Vec::new() };
        let is_over = |task: &TaskId| {
            let has_passed = |at: Option<Instant>| at.is_none_or(|at| at <= now);
            self.leases.get(task).is_some_and(|lease| has_passed(lease.peer_deadline))
                && has_passed(self.deadlines.deadline(task))
        };
        let over = waiting.held.iter().filter(|(_, task)| is_over(task));
        over.map(|(index, _)| (*index, Directive::Lost)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::dispatch::lease_table::{HeartbeatDirectives, LeaseRenewal, NewLease};

    const TTL: Duration = Duration::from_secs(30);

    struct Fixture {
        table: LeaseTable,
        start: Instant,
    }

    fn task() -> TaskId {
        TaskId::from_uuid(uuid::Uuid::from_u128(7))
    }

    impl Fixture {
        /// A table with a lease that was granted at second 0, by this server or by another one.
        fn new(granted_here: bool) -> Self {
            let (mut table, start) = (LeaseTable::on_cluster(), Instant::now());
            let deadline = if granted_here { start + TTL } else { start };
            let grant = NewLease { attempt: 1, worker: "w".into(), secret_hash: "s".into(), ttl: TTL, deadline };
            table.grant(task(), grant, start);
            Self { table, start }
        }

        fn at(&self, second: u64) -> Instant {
            self.start + Duration::from_secs(second)
        }

        fn beat(&mut self, second: u64) -> oneshot::Receiver<HeartbeatDirectives> {
            let (answer, reply) = oneshot::channel();
            let beat = LeaseRenewal { task: task(), attempt: 1, secret_hash: "s".to_owned(), seen: None };
            self.table.renew(("w", &[beat]), Duration::ZERO, answer, self.at(second));
            reply
        }

        /// A record that names the lease was begun at second `begun`, and is durable at second `durable`.
        fn record(&mut self, begun: u64, durable: u64) {
            let (begun, durable) = (self.at(begun), self.at(durable));
            self.table.recorded(&[(task(), 1)], begun, durable);
        }
    }

    fn left_s(mut reply: oneshot::Receiver<HeartbeatDirectives>) -> u64 {
        let reply = reply.try_recv().expect("the heartbeat is answered");
        assert_eq!(reply.directives, []);
        reply.left.expect("the lease is held").as_secs()
    }

    #[test]
    fn a_heartbeat_alone_does_not_extend_a_lease_and_a_durable_record_extends_it_from_the_beginning_of_the_record() {
        let mut fixture = Fixture::new(true);
        let reply = fixture.beat(10);
        assert_eq!(left_s(reply), 20);
        fixture.record(11, 14);
        let reply = fixture.beat(15);
        assert_eq!(left_s(reply), 26);
        fixture.record(9, 16);
        let reply = fixture.beat(16);
        assert_eq!(left_s(reply), 25, "an earlier record that is durable later takes nothing away");
    }

    #[test]
    fn a_heartbeat_for_a_lease_with_little_time_waits_for_a_record_that_names_it() {
        let mut fixture = Fixture::new(false);
        let mut reply = fixture.beat(1);
        assert!(reply.try_recv().is_err() && fixture.table.is_record_awaited());
        assert_eq!(fixture.table.take_unrecorded(fixture.at(2)), [((task(), 1), fixture.at(1))]);
        fixture.record(2, 3);
        assert_eq!((left_s(reply), fixture.table.is_record_awaited()), (29, false));
        assert_eq!(fixture.table.take_unrecorded(fixture.at(4)), [], "each heartbeat is named once");
    }

    #[test]
    fn while_no_record_can_be_written_the_lease_runs_out_and_is_lost() {
        let mut fixture = Fixture::new(true);
        let reply = fixture.beat(19);
        assert_eq!(left_s(reply), 11);
        let mut left = Vec::new();
        for second in [25, 29] {
            let reply = fixture.beat(second);
            fixture.table.end_waits(fixture.at(second + 2));
            left.push(reply);
        }
        let over = left.pop().unwrap().try_recv().unwrap();
        assert_eq!((over.directives, over.left), (vec![(0, Directive::Lost)], Some(Duration::ZERO)));
        assert_eq!(left_s(left.pop().unwrap()), 3);
    }

    #[test]
    fn a_lease_that_another_server_names_is_not_lost_where_this_server_can_write_no_record() {
        let mut fixture = Fixture::new(true);
        fixture.table.named_by_peer((task(), 1), fixture.at(20));
        let reply = fixture.beat(40);
        fixture.table.end_waits(fixture.at(42));
        assert_eq!(left_s(reply), 0);
        let mut reply = fixture.beat(50);
        fixture.table.end_waits(fixture.at(52));
        assert_eq!(reply.try_recv().unwrap().directives, [(0, Directive::Lost)]);
    }

    #[test]
    fn the_lease_of_an_event_gets_its_time_from_the_answer_to_the_start() {
        let mut fixture = Fixture::new(false);
        let grant =
            NewLease { attempt: 1, worker: "w".into(), secret_hash: "s".into(), ttl: TTL, deadline: fixture.at(28) };
        let now = fixture.at(1);
        fixture.table.grant(task(), grant, now);
        let reply = fixture.beat(2);
        assert_eq!(left_s(reply), 26);
    }

    #[test]
    fn a_heartbeat_that_is_older_than_the_lease_is_not_named_any_more() {
        let mut fixture = Fixture::new(true);
        drop(fixture.beat(1));
        let unrecorded = fixture.table.take_unrecorded(fixture.at(2));
        fixture.table.restore_unrecorded(unrecorded);
        assert_eq!(fixture.table.take_unrecorded(fixture.at(30)).len(), 1);
        drop(fixture.beat(31));
        let unrecorded = fixture.table.take_unrecorded(fixture.at(32));
        fixture.table.restore_unrecorded(unrecorded);
        assert_eq!(fixture.table.take_unrecorded(fixture.at(61)), []);
    }
}
