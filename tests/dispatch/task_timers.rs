//! When the timers of tasks are due, by both clocks.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use taskbell::dispatch::task_timers::{CLOCK_READ_INTERVAL, Moment, TaskTimers, Timer};
use taskbell::task::command::AttemptEnd;
use taskbell::task::event::{CancelLadder, QueuedReason, Rung, TaskError};
use taskbell::task::{Command, TaskId, Timestamp};
use taskbell::views::Views;

use crate::views::history::{Created, Log, plain, start};

/// What happens before the test waits.
type Step = fn(&mut Fixture);

const HOUR: Duration = Duration::from_hours(1);

/// A log, its views and the timers of its tasks. The wall clock is that of the log. The test moves both clocks.
struct Fixture {
    log: Log,
    views: Views,
    timers: TaskTimers,
    steady: Instant,
}

impl Fixture {
    fn new() -> Self {
        Self { log: Log::default(), views: Views::default(), timers: TaskTimers::default(), steady: Instant::now() }
    }

    fn now(&self) -> Moment {
        Moment { wall: self.log.now(), steady: self.steady }
    }

    fn create(&mut self, change: impl FnOnce(&mut Created)) -> TaskId {
        let mut created = plain("ann", "x");
        change(&mut created);
        let id = self.log.create(created, "ann");
        self.apply_new_events();
        id
    }

    fn execute(&mut self, id: TaskId, command: &Command) {
        self.log.execute(id, command, "bob").unwrap();
        self.apply_new_events();
    }

    fn apply_new_events(&mut self) {
        let from = usize::try_from(self.views.position().0).unwrap();
        for recorded in &self.log.events[from..] {
            if let Some(changed) = self.views.apply(recorded).task {
                self.timers.apply_change(changed.before.as_ref(), &changed.after, recorded.time, self.steady);
            }
        }
    }

    /// Time passes: both clocks advance.
    fn wait(&mut self, time: Duration) {
        self.log.advance_time(time);
        self.steady += time;
    }

    fn set_clock_back(&mut self, time: Duration) {
        let now = self.log.now();
        self.log.now = Some(Timestamp::from_micros(now.as_micros() - i64::try_from(time.as_micros()).unwrap()));
    }

    fn set_clock_forward(&mut self, time: Duration) {
        self.log.advance_time(time);
    }

    /// The timers are built anew from the views, after a restart (if `is_first`) or because events were missed.
    fn rebuild(&mut self, is_first: bool) {
        let former = std::mem::take(&mut self.timers);
        let (former, now) = (if is_first { TaskTimers::default() } else { former }, self.now());
        for row in self.views.rows() {
            self.timers.restore(&row, &former, is_first, now);
        }
    }

    fn due(&mut self) -> Vec<Timer> {
        self.timers.take_due(self.now(), 9).into_iter().map(|(_, timer)| timer.timer).collect()
    }

    /// Time passes, in steps of 100 ms, until a timer is due. Returns how long that takes, and the timers.
    fn wait_for_due(&mut self) -> (Duration, Vec<Timer>) {
        let (begun, step) = (self.steady, Duration::from_millis(100));
        for _ in 0..100_000 {
            let due = self.due();
            if !due.is_empty() {
                return (self.steady - begun, due);
            }
            self.wait(step);
        }
        panic!("no timer is due");
    }
}

/// A task whose attempt has failed; its next attempt is due in 0.8 s to 1.2 s.
fn retrying(fixture: &mut Fixture) {
    let id = fixture.create(|_| {});
    fixture.execute(id, &start("w"));
    let error = TaskError { code: "broken".to_owned(), message: "m".to_owned() };
    let end = AttemptEnd::Failed { error, retryable: true };
    fixture.execute(id, &Command::Finish { attempt: 1, lease_hash: None, end, progress: None, output: None });
}

fn with_time_limit(fixture: &mut Fixture) {
    let id = fixture.create(|new| new.timeout_s = Some(10));
    fixture.execute(id, &start("w"));
}

/// A cancel whose rungs last 2 s and 3 s.
fn cancelling(fixture: &mut Fixture) -> TaskId {
    let id = fixture.create(|_| {});
    fixture.execute(id, &start("w"));
    let policy = CancelLadder { ask_for_ms: Some(2000), interrupt_for_ms: Some(3000) };
    fixture.execute(id, &Command::RequestCancel { reason: None, policy });
    id
}

const RETRY: Timer = Timer::Enqueue(QueuedReason::RetryAt);
const TIME_OUT: Timer = Timer::TimeOut { attempt: 1, limit_s: 10 };
const INTERRUPT: Timer = Timer::Escalate { attempt: 1, rung: Rung::Interrupt };

#[test]
fn a_change_of_the_clock_neither_delays_nor_hastens_a_duration() {
    let changes: [Step; 3] = [|_| {}, |f| f.set_clock_back(HOUR), |f| f.set_clock_forward(HOUR)];
    let timers: [(Step, Timer, RangeInclusive<u128>); 3] = [
        (retrying, RETRY, 800..=1300),
        (with_time_limit, TIME_OUT, 10_000..=10_000),
        (|f| _ = cancelling(f), INTERRUPT, 2000..=2000),
    ];
    for change in changes {
        for (set, timer, ms) in timers.clone() {
            let mut fixture = Fixture::new();
            set(&mut fixture);
            change(&mut fixture);
            let (took, due) = fixture.wait_for_due();
            assert_eq!(due, [timer]);
            assert!(ms.contains(&took.as_millis()), "{timer:?} after {took:?}");
            let mut fixture = Fixture::new();
            set(&mut fixture);
            change(&mut fixture);
            fixture.rebuild(false);
            assert!(ms.contains(&fixture.wait_for_due().0.as_millis()), "{timer:?} after missed events");
        }
    }
}

#[test]
fn after_a_restart_a_duration_ends_at_its_time_in_the_log_but_never_later_than_a_whole_one() {
    let changes: [(Step, u128); 3] =
        [(|_| {}, 6000), (|f| f.set_clock_back(HOUR), 10_000), (|f| f.set_clock_forward(HOUR), 0)];
    for (change, ms) in changes {
        let mut fixture = Fixture::new();
        with_time_limit(&mut fixture);
        fixture.wait(Duration::from_secs(4));
        change(&mut fixture);
        fixture.rebuild(true);
        let (took, due) = fixture.wait_for_due();
        assert_eq!((took.as_millis(), due), (ms, vec![TIME_OUT]));
    }
    let mut fixture = Fixture::new();
    retrying(&mut fixture);
    fixture.set_clock_back(HOUR);
    fixture.rebuild(true);
    let (took, _) = fixture.wait_for_due();
    assert!(took <= Duration::from_millis(1200), "{took:?}");
}

#[test]
fn run_at_follows_the_wall_clock_which_is_read_every_second() {
    let mut fixture = Fixture::new();
    let at = fixture.log.now().plus(HOUR);
    fixture.create(|new| new.run_at = Some(at));
    fixture.set_clock_back(HOUR);
    fixture.wait(HOUR);
    assert_eq!(
        (fixture.due(), fixture.timers.next_look(fixture.now())),
        (vec![], Some(fixture.steady + CLOCK_READ_INTERVAL))
    );
    fixture.set_clock_forward(HOUR);
    assert_eq!(fixture.due(), [Timer::Enqueue(QueuedReason::RunAt)]);
    assert_eq!(fixture.timers.next_look(fixture.now()), None);
}

#[test]
fn after_a_restart_the_rung_of_a_cancel_begins_anew_when_its_worker_has_heard_of_it() {
    let mut fixture = Fixture::new();
    let id = cancelling(&mut fixture);
    fixture.wait(HOUR);
    fixture.rebuild(true);
    fixture.wait(HOUR);
    assert_eq!((fixture.due(), fixture.timers.has_unheard()), (vec![], true));
    fixture.timers.worker_has_heard(id, fixture.steady);
    assert_eq!(fixture.wait_for_due(), (Duration::from_secs(2), vec![INTERRUPT]));
    assert!(!fixture.timers.has_unheard());
}

#[test]
fn a_cancel_and_a_time_limit_of_one_attempt_run_at_the_same_time() {
    let mut fixture = Fixture::new();
    let id = fixture.create(|new| new.timeout_s = Some(10));
    fixture.execute(id, &start("w"));
    fixture.wait(Duration::from_secs(7));
    let policy = CancelLadder { ask_for_ms: Some(2000), interrupt_for_ms: None };
    fixture.set_clock_forward(HOUR);
    fixture.execute(id, &Command::RequestCancel { reason: None, policy });
    assert_eq!(fixture.wait_for_due(), (Duration::from_secs(2), vec![INTERRUPT]));
    assert_eq!(fixture.wait_for_due(), (Duration::from_secs(1), vec![TIME_OUT]));
}

#[test]
fn a_timer_that_was_postponed_comes_back_unless_an_event_has_removed_it() {
    let mut fixture = Fixture::new();
    let at = fixture.log.now();
    let later = at.plus(Duration::from_secs(1));
    let [stays, goes] = [0; 2].map(|_| fixture.create(|new| new.run_at = Some(later)));
    fixture.wait(Duration::from_secs(1));
    let timers = fixture.timers.take_due(fixture.now(), 9);
    assert_eq!(timers.iter().map(|(task, _)| *task).collect::<Vec<_>>(), [stays, goes]);
    let until = fixture.steady + Duration::from_secs(5);
    for (task, timer) in timers {
        fixture.timers.postpone(task, timer, until);
    }
    assert_eq!((fixture.due(), fixture.timers.next_look(fixture.now())), (vec![], Some(until)));
    fixture.execute(goes, &Command::RequestCancel { reason: None, policy: CancelLadder::default() });
    fixture.wait(Duration::from_secs(5));
    let again = fixture.timers.take_due(fixture.now(), 9);
    assert!(matches!(again[..], [(task, timer)] if task == stays && timer.was_postponed), "{again:?}");
}
