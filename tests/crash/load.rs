//! Clients that send random requests and record what the server acknowledges, and checks that compare the log and the views
//! with these records.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use taskbell::store::{Hash, Recorded, chain};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::push::fold::{Fold, is_final};
use crate::support::{Server, http_client};

/// A folder with source files and, beside them, the copies that tasks create.
pub struct Content {
    root: TempDir,
}

impl Content {
    /// Creates `files` source files of about `bytes` bytes each.
    pub fn new(files: usize, bytes: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        for n in 0..files {
            let path = root.path().join(format!("source/part{}/{n}.bin", n % 3));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, vec![u8::try_from(n % 251).unwrap(); bytes + n]).unwrap();
        }
        Self { root }
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The body of a request to copy the source files to two targets with this name.
    pub fn copy_request(&self, name: &str) -> Value {
        let target = |n: u32| self.root().join(format!("copies/{name}/{n}"));
        json!({
            "kind": "content.distribute",
            "title": name,
            "input": {"source": self.root().join("source"), "targets": [target(1), target(2)]},
        })
    }

    /// Asserts that both targets of a task hold the files of the source and no others.
    pub fn assert_copied(&self, created: &Value) {
        let expected = file_contents(&self.root().join("source"));
        for target in created["data"]["input"]["targets"].as_array().unwrap() {
            let found = file_contents(Path::new(target.as_str().unwrap()));
            assert!(found.keys().eq(expected.keys()), "{:?} in {target}", found.keys());
            assert!(found == expected, "other content in {target}");
        }
    }
}

/// The contents of all files in the folder, by relative path.
fn file_contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                let path = entry.path().strip_prefix(root).unwrap().to_owned();
                found.insert(path, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

/// What the server has acknowledged.
#[derive(Default)]
pub struct Acknowledged {
    /// The tasks in responses.
    pub tasks: Vec<Value>,
    /// The ids in responses to batches.
    pub ids: Vec<String>,
    /// The highest position in a response.
    pub position: u64,
}

/// Clients that send requests until the server no longer responds.
pub struct Clients {
    pub acknowledged: Arc<Mutex<Acknowledged>>,
    /// The number of responses so far.
    response_count: watch::Sender<usize>,
    seed: u64,
}

impl Clients {
    pub fn new(seed: u64) -> Self {
        Self { acknowledged: Arc::default(), response_count: watch::channel(0).0, seed }
    }

    /// Runs `connections` clients until the server is gone. Runs `kill` after `responses` further responses.
    pub async fn run(
        &self,
        url: &str,
        content: &Content,
        connections: u64,
        responses: usize,
        kill: impl Future<Output = ()>,
    ) {
        let mut count = self.response_count.subscribe();
        let target = *count.borrow() + responses;
        let clients = (0..connections).map(|n| {
            let mut client = Client {
                url: url.to_owned(),
                http: http_client(),
                random: StdRng::seed_from_u64(self.seed.wrapping_add(target as u64).wrapping_mul(31).wrapping_add(n)),
                clients: self,
                content,
                tasks: Vec::new(),
                copies: Vec::new(),
            };
            async move { while client.step().await.is_ok() {} }
        });
        let killer = async {
            count.wait_for(|count| *count >= target).await.unwrap();
            kill.await;
        };
        tokio::join!(futures_util::future::join_all(clients), killer);
    }
}

struct Client<'a> {
    url: String,
    http: reqwest::Client,
    random: StdRng,
    clients: &'a Clients,
    content: &'a Content,
    tasks: Vec<String>,
    copies: Vec<String>,
}

impl Client<'_> {
    /// Sends one random request and records what its response acknowledges.
    async fn step(&mut self) -> Result<(), reqwest::Error> {
        let name = format!("{:x}", self.random.random::<u64>());
        match self.random.random_range(0..40) {
            0 => self.post("/v1/tasks/cancel", json!({"filter": {"kind": ["no.worker"]}})).await,
            1..5 => self.post("/v1/tasks", self.content.copy_request(&name)).await,
            5..16 => self.post("/v1/tasks", json!({"kind": "no.worker", "title": name})).await,
            16..20 => {
                let items: Vec<_> = (0..20).map(|n| json!({"kind": "no.worker", "title": n.to_string()})).collect();
                self.post("/v1/tasks/batch", json!({"items": items})).await
            }
            20..32 => self.post_to_task("cancel").await,
            32..36 => self.post_to_task("retry").await,
            _ => {
                let position = self.clients.acknowledged.lock().unwrap().position;
                self.post("/v1/bell/seen", json!({"position": position})).await
            }
        }
    }

    /// Sends a request about a task of this client.
    async fn post_to_task(&mut self, action: &str) -> Result<(), reqwest::Error> {
        let copy = self.random.random() && !self.copies.is_empty();
        let from = if copy { &self.copies } else { &self.tasks };
        if from.is_empty() {
            return Ok(());
        }
        let id = from[self.random.random_range(0..from.len())].clone();
        self.post(&format!("/v1/tasks/{id}/{action}"), json!({})).await
    }

    async fn post(&mut self, path: &str, body: Value) -> Result<(), reqwest::Error> {
        let answer = self.http.post(format!("{}{path}", self.url)).json(&body).send().await?;
        let status = answer.status().as_u16();
        // An incomplete response acknowledges nothing.
        let text = answer.text().await?;
        assert!(matches!(status, 200 | 201 | 202 | 204 | 409 | 503), "{path}: {status} {text}");
        if status < 300 && status != 204 {
            self.record(serde_json::from_str(&text).unwrap());
        }
        self.clients.response_count.send_modify(|count| *count += 1);
        Ok(())
    }

    fn record(&mut self, mut body: Value) {
        if body["task"].is_object() {
            // The response to a bulk cancel contains the task that carries it out.
            body = body["task"].take();
        }
        let mut acknowledged = self.clients.acknowledged.lock().unwrap();
        acknowledged.position = acknowledged.position.max(body["position"].as_u64().unwrap());
        if let Some(items) = body["items"].as_array() {
            // An item that was refused has a problem instead of an id.
            let ids = items.iter().filter_map(|item| item["id"].as_str().map(str::to_owned));
            acknowledged.ids.extend(ids);
        } else {
            let list = if body["kind"] == "content.distribute" { &mut self.copies } else { &mut self.tasks };
            list.push(body["id"].as_str().unwrap().to_owned());
            acknowledged.tasks.push(body);
        }
    }
}

/// Asserts that the log has no gap, only legal changes of status, a correct chain of hashes, and everything that was
/// acknowledged. Returns the fold of the log.
pub async fn verify_log(server: &Server, clients: &Clients) -> Fold {
    let log = server.get("/v1/log").await.text;
    let fold = Fold::of(&log, "local");
    let events: Vec<_> = log.lines().map(|line| Arc::new(Recorded::from_json(line).unwrap())).collect();
    let hash = chain::verify(Hash::ZERO, &events).unwrap();
    let head = server.get("/v1/log/head").await.body;
    if head["position"] == fold.head() {
        assert_eq!(head["hash"], hash.to_string());
    }
    {
        let acknowledged = clients.acknowledged.lock().unwrap();
        assert!(acknowledged.position <= fold.head(), "position {} was acknowledged", acknowledged.position);
        for task in &acknowledged.tasks {
            assert_eq!(fold.difference(task), None, "what was acknowledged is in the log");
        }
        for id in &acknowledged.ids {
            assert!(fold.tasks.contains_key(id), "{id} was acknowledged");
        }
    }
    fold
}

/// Asserts that the views equal the fold of the log. The server must be idle.
pub async fn assert_views(server: &Server, fold: &Fold) {
    let counters = server.get("/v1/counters").await.body;
    assert_eq!(counters["position"], fold.head());
    let bell = fold.bell(fold.head());
    for field in ["counts", "unseen", "seen"] {
        assert_eq!(counters[field], bell[field], "{field}");
    }
    let (mut next, mut shown) = (String::new(), 0);
    loop {
        let page = server.get(&format!("/v1/tasks?limit=200{next}")).await.body;
        for item in page["items"].as_array().unwrap() {
            assert_eq!(fold.difference(item), None);
            assert_eq!(item["revision"], fold.tasks[item["id"].as_str().unwrap()].len() - 1);
            shown += 1;
        }
        assert_eq!(page["total"], fold.tasks.len());
        let Some(cursor) = page["next"].as_str() else { break };
        next = format!("&cursor={cursor}");
    }
    assert_eq!(shown, fold.tasks.len());
}

/// Asserts that every task that was started has ended and says how, and that the copies of those that succeeded are
/// complete. Returns how many succeeded, and how many were cancelled by force.
pub fn assert_ends(fold: &Fold, content: &Content) -> (usize, usize) {
    let (mut copied, mut forced) = (0, 0);
    for (id, docs) in &fold.tasks {
        let last = docs.last().unwrap();
        assert!(!matches!(last["status"].as_str(), Some("running" | "cancelling" | "retrying")), "{last}");
        if last["kind"] == "no.worker" {
            continue;
        }
        assert!(is_final(last), "{last}");
        if last["kind"] != "content.distribute" {
            continue;
        }
        let stream = format!("task-{id}");
        if last["status"] == "succeeded" {
            content.assert_copied(fold.events.iter().find(|event| event["stream"] == stream).unwrap());
            copied += 1;
        } else if last["status"] == "failed" {
            assert_eq!(last["outcome"]["error"]["code"], "server_restarted", "{last}");
        } else {
            let verdict = last["cancel"]["verdict"].as_str().unwrap();
            let end = fold.events.iter().rev().find(|event| event["stream"] == stream).unwrap();
            assert_eq!(end["data"]["forced"], verdict == "forced", "{end}");
            assert_eq!(last["outcome"]["error"]["code"] == "server_restarted", verdict == "forced", "{end}");
            forced += usize::from(verdict == "forced");
        }
    }
    (copied, forced)
}
