//! Leases and schedules on several servers. Workers switch between servers, and servers are killed or lose the database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use taskbell::store::auxiliary::{AuxiliaryExpected, AuxiliaryStream, NewAuxiliaryEvent};
use taskbell::store::{EventStore, new_id, now};
use taskbell::task::Timestamp;
use taskbell::task::schedule::{Missed, ScheduleCreated};

use super::*;
use crate::crash::load::Content;
use crate::proxy::{Mode, Proxy};
use crate::support::{TEST_TIMEOUT, append_of_schedule, http_client, task_template};

/// Flags for a kind whose leases expire after 3 s without a renewal.
const SHORT_LEASES: [&str; 2] = ["--kind", "job:lease_s=3"];
/// After this time without a renewal by any server, other servers end an attempt with such a lease.
const LOST_AFTER: Duration = Duration::from_secs(13);

impl Cluster {
    /// Starts servers with these flags and waits until they have received the log.
    async fn servers_with<const N: usize>(&self, args: &[&str]) -> [Server; N] {
        let servers = std::array::from_fn(|_| self.server(args));
        for server in &servers {
            wait_until_fresh(server).await;
        }
        servers
    }

    /// The types of the events of a task.
    fn event_types(&self, task: &str) -> Vec<String> {
        let events = self.database.stream(&format!("taskbell.task-{task}"));
        events.iter().map(|event| event.event_type.to_string()).collect()
    }
}

/// A worker that holds one lease.
struct LeaseHolder {
    worker: &'static str,
    lease: String,
    task: String,
    /// The time when the lease expires, by the worker's clock.
    deadline: Instant,
}

impl LeaseHolder {
    /// Takes a lease from this server. Waits until there is one.
    async fn take_lease(server: &Server, worker: &'static str) -> Self {
        let sent = Instant::now();
        let lease = take_lease(server, worker, "job").await;
        let text = |field: &str| lease[field].as_str().unwrap().to_owned();
        Self { worker, lease: text("lease"), task: text("task_id"), deadline: sent + time_left(&lease) }
    }

    /// Sends a heartbeat and returns the directives.
    async fn send_heartbeat(&mut self, server: &Server, wait_s: f64) -> Vec<String> {
        let sent = Instant::now();
        let body = json!({"worker": self.worker, "leases": [{"lease": self.lease}], "wait_s": wait_s});
        let answer = server.post("/v1/leases/heartbeat", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        if !answer.body["left_ms"].is_null() {
            self.deadline = self.deadline.max(sent + time_left(&answer.body));
        }
        let directives = answer.body["directives"].as_array().unwrap();
        directives.iter().map(|directive| directive["directive"].as_str().unwrap().to_owned()).collect()
    }

    /// Sends heartbeats to these servers in turn for at least this time, and asserts that the lease doesn't expire.
    async fn renew_for(&mut self, servers: &[&Server], at_least: Duration) {
        let end = Instant::now() + at_least;
        for server in servers.iter().cycle() {
            assert_eq!(self.send_heartbeat(server, 0.5).await, [""; 0]);
            assert!(self.deadline > Instant::now(), "the worker has no time left");
            if Instant::now() > end {
                return;
            }
        }
    }

    async fn succeed(&self, server: &Server) {
        let finish = json!({"items": [{"lease": self.lease, "outcome": "succeeded"}]});
        let finished = server.post("/v1/leases/finish", &finish).await;
        assert_eq!(finished.body["items"][0]["status"], "succeeded", "{}", finished.text);
    }
}

pub(super) fn time_left(answer: &Value) -> Duration {
    Duration::from_millis(answer["left_ms"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_sends_its_heartbeats_to_any_server() {
    let cluster = Cluster::start().await;
    let servers: [Server; 3] = cluster.servers_with(&SHORT_LEASES).await;
    let [one, two, three] = &servers;
    one.submit(&json!({"kind": "job"})).await;
    let mut holder = LeaseHolder::take_lease(one, "w1").await;
    holder.renew_for(&[two, three, one], Duration::from_secs(6)).await;
    let lease = std::mem::replace(&mut holder.lease, format!("{}.1.secret", holder.task));
    assert_eq!(holder.send_heartbeat(two, 0.0).await, ["lost"], "another secret");
    holder.lease = lease;
    holder.succeed(three).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_for_a_lease_that_another_server_has_just_granted_gets_no_lost_directive() {
    let cluster = Cluster::start().await;
    let servers: [Server; 2] = cluster.servers_with(&SHORT_LEASES).await;
    let [one, two] = &servers;
    for _ in 0..20 {
        one.submit(&json!({"kind": "job"})).await;
    }
    for _ in 0..20 {
        let mut holder = LeaseHolder::take_lease(one, "w1").await;
        assert_eq!(holder.send_heartbeat(two, 0.0).await, [""; 0]);
        assert!(holder.deadline > Instant::now());
        holder.succeed(two).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_goes_on_with_another_server_when_the_one_that_granted_its_lease_is_killed() {
    let cluster = Cluster::start().await;
    let [mut one, two] = cluster.servers_with(&SHORT_LEASES).await;
    let task = one.submit(&json!({"kind": "job"})).await;
    let mut holder = LeaseHolder::take_lease(&one, "w1").await;
    one.kill9();
    holder.renew_for(&[&two], LOST_AFTER + Duration::from_secs(4)).await;
    holder.succeed(&two).await;
    assert_eq!(cluster.event_types(&task), ["Created", "Started", "Completed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_cut_from_the_database_lets_its_worker_stop_before_another_worker_gets_the_task() {
    let cluster = Cluster::start().await;
    let proxy = Proxy::start(cluster.addr()).await;
    let one = Server::on_cluster(&url(proxy.addr(), "taskbell"), SHORT_LEASES);
    let [two] = cluster.servers_with(&SHORT_LEASES).await;
    wait_until_fresh(&one).await;
    let body = json!({"kind": "job", "max_attempts": 2});
    let task = one.submit(&body).await;
    let mut holder = LeaseHolder::take_lease(&one, "w1").await;
    holder.renew_for(&[&one], Duration::from_secs(4)).await;
    proxy.set_mode(Mode::BlackHole);
    let next = async {
        let next = LeaseHolder::take_lease(&two, "w2").await;
        (next, Instant::now())
    };
    let stopping = async {
        while holder.send_heartbeat(&one, 1.0).await != ["lost"] {}
        (holder.deadline, Instant::now())
    };
    let both = async { tokio::join!(next, stopping) };
    let ((next, taken), (deadline, told)) = tokio::time::timeout(TEST_TIMEOUT, both).await.expect("both happen");
    assert_eq!(next.task, task);
    assert!(deadline < taken && told < taken, "{:?} {:?}", taken - deadline, taken - told);
    next.succeed(&two).await;
    proxy.set_mode(Mode::Pass);
    wait_until_fresh(&one).await;
    assert_eq!(one.task_at_end(&task).await["attempt"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_inside_a_killed_server_is_lost_and_retried_by_another_one_whose_start_leaves_it_alone() {
    let content = Content::new(12, 100_000);
    let root = content.root().to_str().unwrap().to_owned();
    let slow = ["--content-root", &root, "--content-bytes-per-s", "40000", "--kind", "content.distribute:lease_s=3"];
    let cluster = Cluster::start().await;
    let [mut one] = cluster.servers_with(&slow).await;
    let mut body = content.copy_request("a");
    body["max_attempts"] = json!(3);
    let task = one.submit(&body).await;
    one.task_with_status(&task, "running").await;
    let [two] = cluster.servers_with(&slow[..2]).await;
    assert_eq!(two.task(&task).await["status"], "running", "the start of another server ends no attempt");
    one.kill9();
    let killed = Instant::now();
    let end = two.task_at_end(&task).await;
    assert_eq!((&end["status"], &end["attempt"]), (&json!("succeeded"), &json!(2)), "{end}");
    assert!(killed.elapsed() > Duration::from_secs(8), "it was lost by the records");
    let lost = cluster.database.stream(&format!("taskbell.task-{task}"));
    let lost = lost.iter().find(|event| &*event.event_type == "AttemptFailed").unwrap();
    assert!(String::from_utf8_lossy(&lost.data).contains("lease_expired"), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_run_of_a_schedule_exists_once_however_many_servers_find_it_due() {
    let cluster = Cluster::start().await;
    let ids = schedules_of_an_hour_ago(&cluster, 10).await;
    let servers: [Server; 3] = std::array::from_fn(|_| cluster.server::<[&str; 0]>([]));
    // These are the missed runs of an hour, which are fewer than the most runs that a schedule creates later.
    let mut runs: HashMap<String, Vec<String>> = HashMap::new();
    let mut live = LiveSocket::open(&servers[1]).await;
    while runs.len() < ids || runs.values().any(|runs| runs.len() < 60) {
        runs = tasks_of_schedules(&cluster);
        if runs.len() < ids || runs.values().any(|runs| runs.len() < 60) {
            live.next().await;
        }
    }
    for (schedule, runs) in &runs {
        let mut once = runs.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), runs.len(), "{schedule} has created a run twice");
    }
}

/// Writes schedules for every minute that were created an hour ago and create all missed runs.
pub(super) async fn schedules_of_an_hour_ago(cluster: &Cluster, count: usize) -> usize {
    let store = EventStore::connect(cluster.url().parse().unwrap()).unwrap();
    store.wait_for_health(true).await.unwrap();
    let task = taskbell::task::schedule::Template { kind: "tick".into(), owner: "local".into(), ..task_template() };
    let created = ScheduleCreated { cron: "* * * * *".into(), time_zone: "UTC".into(), missed: Missed::RunAll, task };
    let time = Timestamp::from_micros(now().as_micros() - 3_630_000_000);
    for _ in 0..count {
        store.append(append_of_schedule(new_id(), &created, time)).await.unwrap();
    }
    count
}

/// The streams of the tasks that each schedule has created, by the schedule's id.
pub(super) fn tasks_of_schedules(cluster: &Cluster) -> HashMap<String, Vec<String>> {
    let mut runs: HashMap<String, Vec<String>> = HashMap::new();
    for event in cluster.database.all().iter().filter(|event| &*event.event_type == "Created") {
        let data: Value = serde_json::from_slice(&event.data).unwrap();
        if let Some(schedule) = data["schedule"].as_str() {
            runs.entry(schedule.to_owned()).or_default().push(event.stream.to_string());
        }
    }
    runs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_not_ready_once_another_one_has_received_another_event_at_the_same_position() {
    let cluster = Cluster::start().await;
    let [one] = cluster.servers_with(&SHORT_LEASES).await;
    one.submit(&json!({"kind": "job"})).await;
    let store = EventStore::connect(cluster.url().parse().unwrap()).unwrap();
    tokio::time::timeout(TEST_TIMEOUT, store.head_changes().wait_for(|head| head.0 == 1)).await.unwrap().unwrap();
    let other = new_id();
    for (position, hash, status) in
        [(1, store.head().hash.to_string(), 200), (7, "0".repeat(64), 200), (1, "0".repeat(64), 503)]
    {
        let record = json!({
            "time": now(), "interval_ms": 1000, "position": position, "hash": hash, "kinds": [], "attempts": [],
        });
        let data = serde_json::value::to_raw_value(&record).unwrap();
        let event = NewAuxiliaryEvent { id: new_id(), event_type: "ServerRecord", data };
        store.append_auxiliary(AuxiliaryStream::Server(other), AuxiliaryExpected::Any, event).await.unwrap();
        if status == 503 {
            wait_until_stale(&one).await;
        }
        let ready = one.get("/readyz").await;
        assert_eq!(ready.status, status, "{}", ready.text);
        let reason = format!("server {other} has received another event at position 1");
        assert_eq!(ready.text.contains(&reason), status == 503, "{}", ready.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_refuses_a_lease_of_less_than_three_seconds() {
    let cluster = Cluster::start().await;
    let store = cluster.url();
    let serve = ["serve", "--store", &store, "--kind", "job:lease_s=2.5", "--listen", "127.0.0.1:0"];
    let mut command = tokio::process::Command::from(crate::support::taskbell());
    let output = command.args(serve).kill_on_drop(true).output();
    let output = tokio::time::timeout(TEST_TIMEOUT, output).await.expect("it ends").unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("at least 3 s"), "{stderr}");
}

/// What the workers have recorded.
#[derive(Default)]
struct WorkRecord {
    /// The time when the lease of each task expires.
    held: HashMap<String, Instant>,
    /// The number of reported ends.
    ended: usize,
    /// Tasks of which two workers held leases at the same time.
    twice: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_six_workers_on_random_servers_of_which_one_is_killed_every_task_ends_once() {
    const TASKS: usize = 500;
    let cluster = Cluster::start().await;
    let [mut one, two, three] = cluster.servers_with(&SHORT_LEASES).await;
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut tasks = Vec::new();
    for _ in 0..TASKS {
        let server = [&one, &two, &three][random.random_range(0..3)];
        tasks.push(server.submit(&json!({"kind": "job", "max_attempts": 5})).await);
    }
    let urls = [one.url(), two.url(), three.url()];
    let record = Arc::new(Mutex::new(WorkRecord::default()));
    let (progress, mut ended) = tokio::sync::watch::channel(0);
    let workers: Vec<_> = (0..6)
        .map(|n| tokio::spawn(work(format!("w{n}"), urls.clone(), seed ^ n, Arc::clone(&record), progress.clone())))
        .collect();
    tokio::time::timeout(TEST_TIMEOUT, ended.wait_for(|ended| *ended > TASKS / 3)).await.unwrap().unwrap();
    one.kill9();
    for task in &tasks {
        let end = tokio::time::timeout(TEST_TIMEOUT, two.task_at_end(task)).await.unwrap();
        assert_eq!(end["status"], "succeeded", "{end}");
    }
    for worker in workers {
        worker.abort();
    }
    for task in &tasks {
        let history = cluster.event_types(task);
        let ends = history.iter().filter(|kind| *kind == "Completed").count();
        assert!(ends == 1 && history.last().unwrap() == "Completed", "{history:?}");
    }
    assert_eq!(record.lock().unwrap().twice, [""; 0], "held twice at one time");
    let position = cluster.event_count();
    assert_eq!(counters(&two, position).await, counters(&three, position).await);
}

/// Takes leases and reports their ends. Sends each request to a random server; if it fails, sends it to another one.
async fn work(
    worker: String,
    urls: [String; 3],
    seed: u64,
    record: Arc<Mutex<WorkRecord>>,
    progress: tokio::sync::watch::Sender<usize>,
) {
    let client = http_client();
    let mut random = StdRng::seed_from_u64(seed);
    loop {
        let sent = Instant::now();
        let take = json!({"worker": worker, "kinds": ["job"], "max": 3, "wait_s": 1});
        let Some(taken) = post(&client, &urls, &mut random, "/v1/leases", &take).await else { continue };
        for lease in taken["leases"].as_array().unwrap_or(&Vec::new()) {
            let task = lease["task_id"].as_str().unwrap().to_owned();
            let now = Instant::now();
            {
                let mut record = record.lock().unwrap();
                if record.held.insert(task.clone(), sent + time_left(lease)).is_some_and(|until| until > now) {
                    record.twice.push(task.clone());
                }
            }
            let beat = json!({"worker": worker, "leases": [{"lease": lease["lease"]}], "wait_s": 0});
            post(&client, &urls, &mut random, "/v1/leases/heartbeat", &beat).await;
            let finish = json!({"items": [{"lease": lease["lease"], "outcome": "succeeded"}]});
            while post(&client, &urls, &mut random, "/v1/leases/finish", &finish).await.is_none() {}
            let mut record = record.lock().unwrap();
            record.held.remove(&task);
            record.ended += 1;
            progress.send_replace(record.ended);
        }
    }
}

async fn post(
    client: &reqwest::Client,
    urls: &[String; 3],
    random: &mut StdRng,
    path: &str,
    body: &Value,
) -> Option<Value> {
    let url = format!("{}{path}", urls[random.random_range(0..3)]);
    let answer = client.post(url).json(body).timeout(Duration::from_secs(10)).send().await.ok()?;
    let answer = answer.error_for_status().ok()?;
    answer.json().await.ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_whose_start_has_no_answer_is_released_and_does_not_count() {
    let cluster = Cluster::start().await;
    let [server] = cluster.servers_with(&[]).await;
    let task = server.submit(&json!({"kind": "job", "max_attempts": 1})).await;
    cluster.database.hold_responses(true);
    let released = async {
        let mut live = LiveSocket::open(&server).await;
        while cluster.event_types(&task).last().unwrap() != "Released" {
            live.next().await;
        }
        cluster.database.hold_responses(false);
    };
    let both = async { tokio::join!(LeaseHolder::take_lease(&server, "w1"), released) };
    let (holder, ()) = tokio::time::timeout(TEST_TIMEOUT, both).await.expect("it is released");
    holder.succeed(&server).await;
    assert_eq!(cluster.event_types(&task), ["Created", "Started", "Released", "Started", "Completed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_kinds_workers_ask_for_their_server_can_write_its_records() {
    let cluster = Cluster::start().await;
    let [server] = cluster.servers_with(&SHORT_LEASES).await;
    server.submit(&json!({"kind": "job"})).await;
    for worker in 0..300 {
        let kinds: Vec<String> = (0..64).map(|kind| format!("{worker:08}.{kind:055}")).collect();
        let take = json!({"worker": format!("w{worker}"), "kinds": kinds, "wait_s": 0});
        assert_eq!(server.post("/v1/leases", &take).await.status, 200);
    }
    let mut holder = LeaseHolder::take_lease(&server, "w").await;
    holder.renew_for(&[&server], Duration::from_secs(4)).await;
    holder.succeed(&server).await;
}
