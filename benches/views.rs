//! Measures the views alone, in one process and without a log: how fast events are applied, how much memory a task takes, and
//! how long the queries take. Arguments: the number of tasks (default 300,000), and `plain` for tasks as `taskbell bench`
//! makes them (default: tasks with titles of 40 and outcomes of 55 characters, of 1,000 owners).

#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use taskbell::store::{Fact, Meta, StreamName, Via};
use taskbell::task::event::{Completed, Created, Event, Outcome, Started, TaskError};
use taskbell::task::{Position, Revision, Status, TaskId, Timestamp};
use taskbell::views::{Filter, Order, PageRequest, RowBudget, Views};
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The time between two events of the log.
const STEP: Duration = Duration::from_millis(7);
const WORDS: [&str; 24] = [
    "invoice",
    "catalogue",
    "autumn",
    "report",
    "customer",
    "berlin",
    "lisbon",
    "weekly",
    "thumbnail",
    "archive",
    "import",
    "export",
    "mailing",
    "summary",
    "backup",
    "contract",
    "payment",
    "reminder",
    "index",
    "picture",
    "translate",
    "verify",
    "publish",
    "order",
];
const KINDS: [&str; 5] = ["mail.send", "content.distribute", "report.render", "image.resize", "index.update"];
const QUEUES: [&str; 2] = ["default", "slow"];

/// Makes the events of a log, always the same ones.
struct Source {
    plain: bool,
    next: u64,
    random: u64,
    position: u64,
    meta: Meta,
}

impl Source {
    fn new(plain: bool) -> Self {
        let meta = Meta {
            actor: "ann".into(),
            via: Via::Http,
            correlation_id: Uuid::nil(),
            causation_id: None,
            request_id: None,
        };
        Self { plain, next: 0, random: 0x9E37_79B9_7F4A_7C15, position: 0, meta }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// A text of about this many characters.
    fn text(&mut self, length: usize) -> String {
        let mut text = String::new();
        while text.len() < length {
            let word = usize::try_from(self.random(WORDS.len() as u64)).unwrap();
            text.push_str(WORDS[word]);
            text.push(' ');
        }
        text.push_str(&self.random(100_000).to_string());
        text
    }

    fn record(&mut self, id: TaskId, revision: u64, event: Event) -> Fact {
        self.position += 1;
        Fact {
            position: Position(self.position),
            stream: StreamName::task(id),
            revision: Revision(revision),
            id: Uuid::nil(),
            time: start_of_log().plus(STEP * u32::try_from(self.position).unwrap()),
            meta: self.meta.clone(),
            event: event.into(),
        }
    }

    fn created(&mut self) -> Created {
        let (owner, title) = if self.plain {
            ("bench".to_owned(), "bench.task".to_owned())
        } else {
            let owner = if self.random(10) == 0 { 0 } else { self.random(1000) };
            (format!("owner-{owner}"), self.text(34))
        };
        let (kind, queue) = if self.plain { (0, 0) } else { (self.random(5), self.random(2)) };
        let rare = !self.plain && self.next.is_multiple_of(100_000);
        let labels = if !self.plain && self.random(10) == 0 { vec![("team", "blue"), ("env", "live")] } else { vec![] };
        Created {
            kind: KINDS[usize::try_from(kind).unwrap()].into(),
            title: if rare { format!("{title} Zugspitze") } else { title },
            owner,
            input: serde_json::json!({}).into(),
            queue: QUEUES[usize::try_from(queue).unwrap()].into(),
            priority: 0,
            run_at: None,
            max_attempts: 3,
            timeout_s: None,
            labels: labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            parent: None,
            unique_key: None,
            concurrency_key: None,
            schedule: None,
            idempotency: None,
        }
    }

    fn end(&mut self) -> Completed {
        let kind = if self.plain { 0 } else { self.random(20) };
        let outcome =
            [Outcome::Failed, Outcome::Cancelled].get(usize::try_from(kind).unwrap().wrapping_sub(1)).copied();
        let outcome = outcome.unwrap_or(Outcome::Succeeded);
        let text = if self.plain { "done".to_owned() } else { self.text(50) };
        let failed = outcome == Outcome::Failed;
        let error = failed.then(|| TaskError { code: "broken".into(), message: text.clone() });
        let (message, attempt) = ((!failed).then_some(text), Some(1));
        Completed { outcome, attempt, message, result: None, error, forced: false, progress: None }
    }

    /// The events of the next `count` tasks: the tasks are created, and then most of them run.
    fn next_batch(&mut self, count: u64) -> Vec<Fact> {
        let ids: Vec<TaskId> = (0..count).map(|n| Self::id(self.next + n)).collect();
        let mut events = Vec::new();
        for id in &ids {
            let created = self.created();
            events.push(self.record(*id, 0, Event::Created(Arc::new(created))));
            self.next += 1;
        }
        for id in ids {
            if !self.plain && self.random(25) == 0 {
                continue;
            }
            let lease_hash = "0".repeat(64);
            events.push(self.record(id, 1, Event::Started(Started { attempt: 1, worker: "w-1/7".into(), lease_hash })));
            let end = self.end();
            events.push(self.record(id, 2, Event::Completed(end)));
        }
        events
    }

    fn id(number: u64) -> TaskId {
        let mut bits = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        bits ^= bits >> 29;
        let high = u128::from(0x0190_0000_0000_u64 + number / 100) << 80;
        TaskId::from_uuid(Uuid::from_u128(high | 0x7000 << 64 | 0x8000 << 48 | u128::from(bits.wrapping_mul(31))))
    }
}

fn start_of_log() -> Timestamp {
    "2026-11-22T10:00:00.000000Z".parse().unwrap()
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Runs the query 400 times, each time with another number, and prints p50 and p99 in milliseconds.
fn measure(name: &str, mut query: impl FnMut(u32) -> u64) {
    let (mut times, mut found) = (Vec::new(), 0);
    let limit = Instant::now() + Duration::from_secs(8);
    for n in 0..400 {
        let started_at = Instant::now();
        found = black_box(query(n));
        times.push(started_at.elapsed());
        if Instant::now() > limit && n > 10 {
            break;
        }
    }
    times.sort_unstable();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)].as_secs_f64() * 1000.0;
    println!("{name:<44} {:>9.3} {:>9.3}   last total {found}", at(50), at(99));
}

fn queries(views: &Views, tasks: u64, end: Duration) {
    let all = Filter::default();
    let words = |text: &str| Filter { q: Filter::words(text), ..Filter::default() };
    let page = |filter: &Filter, order| {
        let request = PageRequest { order, limit: 50, cursor: None };
        // As the API does it: under the lock within a budget, else from a snapshot.
        match views.page_within(filter, &request, &RowBudget::new(1000)).unwrap() {
            Some(page) => page.total,
            None => views.snapshot_for(filter).page(filter, &request).unwrap().total,
        }
    };
    println!("{:<44} {:>9} {:>9}", "", "p50 ms", "p99 ms");
    measure("newest page", |_| page(&all, Order::Desc));
    measure("oldest page", |_| page(&all, Order::Asc));
    let status = |status| Filter { status: vec![status], ..Filter::default() };
    measure("status queued", |_| page(&status(Status::Queued), Order::Desc));
    measure("status failed", |_| page(&status(Status::Failed), Order::Desc));
    let owner = |n: u32| Filter { owner: vec![format!("owner-{n}")], ..Filter::default() };
    measure("small owner", |n| page(&owner(1 + n), Order::Desc));
    measure("big owner", |_| page(&owner(0), Order::Desc));
    let kind = Filter { kind: vec![KINDS[1].into()], ..Filter::default() };
    measure("kind", |_| page(&kind, Order::Desc));
    let labels = Filter { labels: vec![("team".into(), "blue".into())], ..Filter::default() };
    measure("label", |_| page(&labels, Order::Desc));
    let window = |n: u32, base: &Filter| {
        let (from, length) = (end * (n % 20) / 20, end / [100, 10, 2][n as usize % 3]);
        let (after, before) = (start_of_log().plus(from), start_of_log().plus(from + length));
        Filter { created_after: Some(after), created_before: Some(before), ..base.clone() }
    };
    let finished = |n: u32, base: &Filter| {
        let created = window(n, base);
        let (finished_after, finished_before) = (created.created_after, created.created_before);
        Filter { finished_after, finished_before, created_after: None, created_before: None, ..created }
    };
    let order = |n: u32| if n.is_multiple_of(2) { Order::Asc } else { Order::Desc };
    let bases = [("", all.clone()), (", status", status(Status::Failed)), (", kind", kind.clone())];
    let owners = [(", big owner", owner(0)), (", owner, kind", Filter { kind: kind.kind.clone(), ..owner(0) })];
    for (name, base) in bases.iter().chain(&owners) {
        measure(&format!("created window{name}"), |n| page(&window(n, base), order(n)));
        measure(&format!("finished window{name}"), |n| page(&finished(n, base), order(n)));
    }
    let both = |n: u32| Filter { finished_after: finished(n, &all).finished_after, ..window(n, &all) };
    measure("created and finished window", |n| page(&both(n), order(n)));
    measure("rare word", |_| page(&words("zugSPITZE"), Order::Desc));
    measure("absent word", |_| page(&words("matterhorn"), Order::Desc));
    measure("absent word of common letters", |_| page(&words("portable"), Order::Desc));
    measure("short word", |_| page(&words("zu"), Order::Desc));
    measure("common word", |_| page(&words("invoice"), Order::Desc));
    measure("rare word, big owner", |_| page(&Filter { q: words("zugspitze").q, ..owner(0) }, Order::Desc));
    let budget = RowBudget::unlimited;
    let count = |filter: &Filter| views.counters_within(filter, "ann", &budget()).unwrap().counts.iter().sum();
    measure("counts of everyone", |_| count(&all));
    measure("counts of an owner", |n| count(&owner(n)));
    measure("counts of a kind", |_| count(&kind));
    measure("counts of a window", |n| count(&window(n, &all)));
    let task = Source::id(tasks / 3);
    measure("one task", |_| views.get(task).map_or(0, |row| row.title().len() as u64));
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let tasks: u64 = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(300_000);
    let plain = arguments.iter().any(|argument| argument == "plain");
    let mut source = Source::new(plain);
    let mut views = Views::default();
    let warm = source.next_batch(1000);
    for recorded in &warm {
        drop(views.apply(recorded));
    }
    drop(warm);
    let before = resident_bytes();
    let (mut time, mut events, mut slowest) = (Duration::ZERO, 0, Duration::ZERO);
    while source.next < tasks {
        let batch = source.next_batch(1000);
        events += batch.len();
        let started_at = Instant::now();
        for recorded in &batch {
            drop(black_box(views.apply(recorded)));
        }
        slowest = slowest.max(started_at.elapsed());
        time += started_at.elapsed();
    }
    println!("{tasks} tasks, {events} events, apply: {:.2} M events/s", events as f64 / 1e6 / time.as_secs_f64());
    println!("slowest batch of 1,000 tasks: {:.2} ms", slowest.as_secs_f64() * 1000.0);
    println!("memory: {:.0} bytes a task", (resident_bytes() - before) as f64 / (tasks - 1000) as f64);
    if !plain {
        let end = STEP * u32::try_from(source.position).unwrap();
        queries(&views, tasks, end);
    }
}
