//! Whether some worker takes a queued task: the offers of remote workers.

use std::time::{Duration, Instant};

use taskbell::dispatch::capacity::RemoteOffers;
use taskbell::views::WorkOffer;

/// A worker counts as alive for this time after its last request.
const FORGOTTEN: Duration = Duration::from_mins(1);

fn offer(kinds: &[&str], queues: &[&str]) -> WorkOffer {
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
    WorkOffer { kinds: Some(names(kinds)), queues: Some(names(queues)) }
}

/// The offers of this many workers, none of which takes the tested kind.
fn workers(count: usize, now: Instant) -> RemoteOffers {
    let mut offers = RemoteOffers::default();
    for n in 0..count {
        offers.set_offer(&format!("w{n}"), &offer(&[&format!("kind-{n}")], &["default"]), now);
    }
    offers
}

#[test]
fn a_page_of_tasks_that_no_worker_takes_compares_each_offer_once() {
    let now = Instant::now();
    let mut offers = workers(1000, now);
    for _ in 0..200 {
        assert!(!offers.has_worker_for("wanted", "default", now));
    }
    assert!(offers.comparisons() <= 1000, "{} comparisons for 200 tasks of one kind", offers.comparisons());
}

#[test]
fn a_page_of_tasks_that_one_of_many_workers_takes_compares_each_offer_once() {
    let now = Instant::now();
    let mut offers = workers(1000, now);
    for _ in 0..200 {
        assert!(offers.has_worker_for("kind-999", "default", now));
    }
    assert!(offers.comparisons() <= 1200, "{} comparisons for 200 tasks of one kind", offers.comparisons());
}

#[test]
fn a_heartbeat_of_a_worker_that_is_alive_costs_no_new_search() {
    let now = Instant::now();
    let mut offers = workers(1000, now);
    for n in 0..200 {
        offers.mark_alive(&format!("w{n}"), now + Duration::from_secs(1));
        offers.set_offer(&format!("w{n}"), &offer(&[&format!("kind-{n}")], &["default"]), now + Duration::from_secs(1));
        assert!(!offers.has_worker_for("wanted", "default", now + Duration::from_secs(1)));
    }
    assert!(offers.comparisons() <= 1000, "{} comparisons", offers.comparisons());
}

#[test]
fn a_worker_that_begins_to_offer_a_kind_is_found() {
    let now = Instant::now();
    let mut offers = workers(1000, now);
    assert!(!offers.has_worker_for("wanted", "default", now));
    offers.set_offer("w7", &offer(&["wanted"], &["default"]), now);
    assert!(offers.has_worker_for("wanted", "default", now));
    assert!(!offers.has_worker_for("wanted", "slow", now), "from its queues only");
    assert!(!offers.has_worker_for("kind-7", "default", now), "its former offer is replaced");
}

#[test]
fn a_worker_that_offers_something_else_is_no_longer_found_and_another_takes_its_place() {
    let now = Instant::now();
    let mut offers = workers(10, now);
    offers.set_offer("a", &offer(&["wanted"], &["default"]), now);
    offers.set_offer("b", &offer(&["wanted"], &["default"]), now);
    assert!(offers.has_worker_for("wanted", "default", now));
    for worker in ["a", "b"] {
        assert!(offers.has_worker_for("wanted", "default", now), "{worker} offers it");
        offers.set_offer(worker, &offer(&["other"], &["default"]), now);
    }
    assert!(!offers.has_worker_for("wanted", "default", now));
}

#[test]
fn a_worker_counts_as_alive_for_a_minute_after_its_last_request_or_heartbeat() {
    let now = Instant::now();
    let mut offers = RemoteOffers::default();
    offers.set_offer("w", &offer(&["wanted"], &["default"]), now);
    let almost = FORGOTTEN.saturating_sub(Duration::from_micros(1));
    assert!(offers.has_worker_for("wanted", "default", now + almost));
    assert!(!offers.has_worker_for("wanted", "default", now + FORGOTTEN));
    offers.mark_alive("w", now + FORGOTTEN);
    assert!(offers.has_worker_for("wanted", "default", now + FORGOTTEN), "a heartbeat brings it back");
    offers.mark_alive("unknown", now + FORGOTTEN);
    assert!(!offers.has_worker_for("other", "default", now + FORGOTTEN));
}

#[test]
fn a_worker_without_a_list_takes_any_kind_but_those_of_the_server_itself() {
    let now = Instant::now();
    let mut offers = RemoteOffers::default();
    offers.set_offer("w", &WorkOffer::default(), now);
    assert!(offers.has_worker_for("anything", "anywhere", now));
    assert!(!offers.has_worker_for("taskbell.bulk-cancel", "default", now));
}

#[test]
fn the_results_of_former_searches_that_are_kept_are_bounded() {
    let now = Instant::now();
    let mut offers = workers(1, now);
    for n in 0..20_000 {
        assert!(!offers.has_worker_for("wanted", &format!("queue-{n}"), now));
    }
    assert!(offers.kept_searches() <= 10_000, "{} kinds and queues", offers.kept_searches());
}
