//! What the bodies of one subject may take of the budgets for bodies. So one subject can't prevent the others from sending.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::http::plumbing::error::{Problem, Refusal};

/// The shares of all subjects, in units of the budgets: the first of two numbers is for small bodies, the second for large ones.
#[derive(Debug)]
pub(super) struct Shares {
    max: [usize; 2],
    /// A subject without a body has no entry.
    taken: Mutex<HashMap<String, [usize; 2]>>,
}

/// What one body takes of its subject's share. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    subject: String,
    taken: [usize; 2],
    shares: Arc<Shares>,
}

impl Shares {
    /// A subject may take so many units of each budget.
    pub(super) fn new(max: [usize; 2]) -> Self {
        Self { max, taken: Mutex::default() }
    }

    /// The share of a new body of this subject.
    pub(super) fn of(self: &Arc<Self>, subject: &str) -> Share {
        Share { subject: subject.to_owned(), taken: [0, 0], shares: Arc::clone(self) }
    }
}

impl Share {
    /// Takes so many more units.
    ///
    /// # Errors
    /// 429 `too_many_requests` if the bodies of the subject take as much as they may.
    pub(super) fn take(&mut self, is_large: bool, more: usize) -> Result<(), Problem> {
        let budget = usize::from(is_large);
        let mut all = self.shares.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all.entry(self.subject.clone()).or_default();
        if taken[budget] + more > self.shares.max[budget] {
            let detail = format!(
                "the bodies of one subject that are received at a time have at most {} KiB together",
                self.shares.max[budget]
            );
            return Err(Problem::new(Refusal::TooManyRequests, detail));
        }
        taken[budget] += more;
        self.taken[budget] += more;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = self.shares.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = all.get_mut(&self.subject) {
            for (taken, mine) in taken.iter_mut().zip(self.taken) {
                *taken = taken.saturating_sub(mine);
            }
            if *taken == [0, 0] {
                all.remove(&self.subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_takes_no_more_than_its_share_of_each_budget_and_others_are_not_concerned() {
        let shares = Arc::new(Shares::new([4, 10]));
        let [mut one, mut two, mut other] = ["anna", "anna", "bea"].map(|subject| shares.of(subject));
        one.take(false, 3).unwrap();
        two.take(false, 1).unwrap();
        let problem = two.take(false, 1).unwrap_err();
        assert_eq!((problem.status.as_u16(), problem.code), (429, "too_many_requests"));
        two.take(true, 10).unwrap();
        other.take(false, 4).unwrap();
        drop(one);
        two.take(false, 3).unwrap();
        drop((two, other));
        assert!(shares.taken.lock().unwrap().is_empty());
    }
}
