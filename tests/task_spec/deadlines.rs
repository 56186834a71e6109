//! The queue of deadlines, and the pauses before attempts.

use std::time::Duration;

use taskbell::task::backoff::{BackOff, with_jitter};
use taskbell::task::deadlines::DeadlineQueue;

use super::sentences;

fn queue(of: &[(u32, u64)]) -> DeadlineQueue<u64, u32> {
    let mut queue = DeadlineQueue::default();
    for (key, deadline) in of {
        queue.set(*key, *deadline, ());
    }
    queue
}

#[track_caller]
fn due_at(mut queue: DeadlineQueue<u64, u32>, now: u64, limit: usize, expected: &[u32]) {
    let due: Vec<u32> = queue.take_due(now, limit).into_iter().map(|(key, ())| key).collect();
    assert_eq!(due, expected);
    let again: Vec<u32> = queue.take_due(now, limit).into_iter().map(|(key, ())| key).collect();
    assert!(again.iter().all(|key| !expected.contains(key)), "a key was due twice: {again:?}");
}

fn pauses(mut backoff: BackOff, failures: usize) -> Vec<u128> {
    (0..failures).map(|_| backoff.next_pause().as_millis()).collect()
}

sentences! {
    an_empty_queue_has_no_deadline: assert_eq!(queue(&[]).next_deadline(), None);
    the_earliest_deadline_comes_first: due_at(queue(&[(1, 30), (2, 10), (3, 20)]), 30, 9, &[2, 3, 1]);
    a_deadline_in_the_future_is_not_due: due_at(queue(&[(1, 30), (2, 10)]), 29, 9, &[2]);
    a_deadline_is_due_at_its_own_time: due_at(queue(&[(1, 30)]), 30, 9, &[1]);
    two_keys_with_one_deadline_are_both_due: due_at(queue(&[(7, 5), (3, 5)]), 5, 9, &[3, 7]);
    at_most_the_limit_is_taken: due_at(queue(&[(1, 1), (2, 2), (3, 3)]), 9, 2, &[1, 2]);
    a_key_that_is_set_again_has_its_new_deadline_alone: due_at(queue(&[(1, 10), (1, 40), (2, 20)]), 39, 9, &[2]);
    a_removed_key_is_never_due: {
        let mut queue = queue(&[(1, 10), (2, 20)]);
        assert_eq!((queue.remove(1), queue.remove(1)), (Some(()), None));
        assert_eq!((queue.next_deadline(), queue.deadline(&1)), (Some(20), None));
        due_at(queue, 99, 9, &[2]);
    };
    a_deadline_a_hundred_years_ahead_is_kept: {
        let mut queue = queue(&[(1, u64::MAX)]);
        assert!(queue.take_due(u64::MAX - 1, 9).is_empty());
        assert_eq!(queue.deadline(&1), Some(u64::MAX));
    };
    pauses_double_up_to_the_longest: {
        let backoff = BackOff::new(Duration::from_millis(100), Duration::from_secs(1));
        assert_eq!(pauses(backoff, 6), [100, 200, 400, 800, 1_000, 1_000]);
    };
    after_a_success_the_first_pause_follows: {
        let mut backoff = BackOff::new(Duration::from_millis(100), Duration::from_secs(1));
        backoff.next_pause();
        backoff.next_pause();
        backoff.reset();
        assert_eq!(backoff.next_pause().as_millis(), 100);
    };
    no_number_of_failures_overflows: {
        let backoff = BackOff::new(Duration::from_secs(1), Duration::from_mins(5));
        assert_eq!([0, 40, u32::MAX].map(|n| backoff.pause_after(n).as_secs()), [1, 300, 300]);
    };
    jitter_stays_within_its_part: {
        let moved = [0.0, 0.5, 0.999].map(|unit| with_jitter(Duration::from_secs(10), 0.2, unit).as_millis());
        assert_eq!((moved[0], moved[1]), (8_000, 10_000));
        assert!((11_900..12_000).contains(&moved[2]), "{moved:?}");
    };
}
