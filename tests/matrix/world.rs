//! A real server that requires authentication, a caller of each role, and tasks of each of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::Method;
use serde_json::{Value, json};
use taskbell::http::identity::bearer::{BearerKind, BearerText};
use taskbell::store::{Append, EventStore, Expected, Meta, NewEvent, StreamName, Via, new_id, now};
use taskbell::task::access::Role;
use taskbell::task::token::{TokenCreated, TokenEvent};

use super::row::{STRANGER, Who};
use super::things::{FixedTask, State};
use super::ways::{self, Jwts};
use crate::support::{HttpResponse, Server};

/// The kind that the worker of the tables may take, and a kind that it may not take.
pub const WORKERS_KIND: &str = "m.walt";
pub const OTHER_KIND: &str = "m.job";
/// A kind of which there is no task.
pub const ABSENT_KIND: &str = "absent.kind";
/// The idempotency key of a task that another subject has created, and the body that it has sent.
pub const USED_KEY: &str = "used";
pub const KEYED_BODY: &str = r#"{"kind": "m.idle", "title": "a report with a key", "labels": {"set": "fixed"}}"#;

/// Each caller's subject and role, and those of the stranger.
const SUBJECTS: [(&str, Role); 6] = [
    ("una", Role::User),
    ("olaf", Role::Operator),
    ("aida", Role::Auditor),
    ("walt", Role::Worker),
    ("adam", Role::Admin),
    (STRANGER, Role::User),
];

/// The token of a subject.
pub struct Token {
    pub id: String,
    pub text: String,
}

pub struct World {
    pub server: Server,
    pub tokens: BTreeMap<&'static str, Token>,
    /// The cookie of a session of each role.
    pub sessions: BTreeMap<Who, String>,
    /// The JWT of each role, and one by another issuer.
    pub jwts: Jwts,
    /// The tasks that no request changes: one in each state for each subject, and one more of the stranger.
    pub tasks: Vec<FixedTask>,
    /// A schedule of an admin for the stranger.
    pub schedule: String,
    /// The log before the first request of a table, as an admin reads it.
    pub log: Vec<Value>,
    numbers: AtomicU64,
}

/// The owners of all tasks.
pub fn owners() -> impl Iterator<Item = &'static str> {
    SUBJECTS.into_iter().map(|(subject, _)| subject)
}

/// What only those who see the tasks of this owner may read, and what an auditor never reads.
pub fn canary(owner: &str) -> Value {
    json!({"secret": format!("canary of {owner}")})
}

impl World {
    pub async fn start() -> Self {
        Self::with::<[&str; 0]>([]).await
    }

    /// A world whose server has these flags.
    pub async fn with<A: IntoIterator<Item = &'static str>>(args: A) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let tokens = create_tokens(&dir.path().join("data")).await;
        let jwts = ways::configure(dir.path());
        let config = ["--config".to_owned(), dir.path().join("auth.toml").display().to_string()];
        // No lease ends while the tables are tried.
        let kinds = [WORKERS_KIND, OTHER_KIND].map(|kind| format!("{kind}:lease_s=3600"));
        let flags = kinds.into_iter().flat_map(|kind| ["--kind".to_owned(), kind]);
        let flags = config.into_iter().chain(flags).chain(args.into_iter().map(str::to_owned));
        let settings = [
            ("TASKBELL_AUTH", "required"),
            // The callers of the tables send more requests than people do.
            ("TASKBELL_MAX_REQUESTS_PER_S", "0"),
            ("TASKBELL_MAX_FAILED_AUTHENTICATIONS_PER_S", "0"),
        ];
        let server = Server::on_prepared_data(dir, &settings, flags);
        let numbers = AtomicU64::new(1);
        let (tasks, schedule, log) = (Vec::new(), String::new(), Vec::new());
        let mut world = Self { server, tokens, sessions: BTreeMap::new(), jwts, tasks, schedule, log, numbers };
        world.write_token_files();
        world.open_sessions().await;
        world.create_fixed_things().await;
        world
    }

    /// A number that no other request has.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The token that this caller sends. The impostor knows the id of the admin's token.
    pub fn token(&self, who: Who) -> Option<String> {
        match who {
            Who::Nobody => None,
            Who::Impostor => {
                let real = &self.tokens["adam"].text;
                let (id, secret) = real.rsplit_once('_').expect("a secret");
                Some(format!("{id}_{}", "0".repeat(secret.len())))
            }
            who => Some(self.tokens[who.subject()].text.clone()),
        }
    }

    /// The file with the token that this caller sends, for the command line.
    pub fn token_file(&self, who: Who) -> Option<PathBuf> {
        self.token(who).map(|_| self.server.folder().join(who.name()))
    }

    /// Writes the files once: a command that runs must not find one that is being written.
    fn write_token_files(&self) {
        for who in Who::ROLES.into_iter().chain(Who::STRANGERS) {
            if let (Some(path), Some(token)) = (self.token_file(who), self.token(who)) {
                std::fs::write(path, token).expect("a file for the token");
            }
        }
    }

    /// Sends a request of this caller.
    pub async fn send(&self, who: Who, method: Method, path: &str, body: Option<String>) -> HttpResponse {
        self.send_with(self.token(who), method, path, body, &[]).await
    }

    pub async fn send_with(
        &self,
        token: Option<String>,
        method: Method,
        path: &str,
        body: Option<String>,
        headers: &[(&str, String)],
    ) -> HttpResponse {
        let mut request = self.server.client().request(method, self.server.url() + path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        self.server.send(request).await
    }

    /// Sends a request that must succeed.
    #[track_caller]
    pub fn admin(&self, method: Method, path: &str, body: &Value) -> impl Future<Output = Value> {
        self.granted(Who::Admin, method, path, body)
    }

    pub async fn granted(&self, who: Who, method: Method, path: &str, body: &Value) -> Value {
        let body = (method != Method::GET).then(|| body.to_string());
        let response = self.send(who, method, path, body).await;
        assert!(response.status < 300, "{} for the world: {} {}", path, response.status, response.text);
        response.body
    }

    /// The whole log, as an admin reads it.
    pub async fn read_log(&self) -> Vec<Value> {
        let response = self.send(Who::Admin, Method::GET, "/v1/log", None).await;
        assert_eq!(response.status, 200, "{}", response.text);
        response.text.lines().map(|line| serde_json::from_str(line).expect("an event")).collect()
    }

    pub async fn head(&self) -> Value {
        self.admin(Method::GET, "/v1/log/head", &Value::Null).await
    }

    /// The fixed tasks of this owner.
    pub fn tasks_of(&self, owner: &str) -> impl Iterator<Item = &FixedTask> {
        self.tasks.iter().filter(move |task| task.owner == owner)
    }

    pub fn fixed(&self, owner: &str, state: State) -> &FixedTask {
        self.tasks_of(owner).find(|task| task.state == state).expect("each owner has a task in each state")
    }

    async fn open_sessions(&mut self) {
        for who in Who::ROLES {
            let opened = self.send(who, Method::POST, "/v1/session", None).await;
            assert_eq!(opened.status, 201, "{}", opened.text);
            let cookie = opened.header("set-cookie").split(';').next().expect("a cookie").to_owned();
            self.sessions.insert(who, cookie);
        }
    }

    async fn create_fixed_things(&mut self) {
        let states = |owner| State::ALL.into_iter().chain((owner == STRANGER).then_some(State::Queued));
        let wanted: Vec<_> = owners().flat_map(|owner| states(owner).map(move |state| (owner, state))).collect();
        let item = |(owner, state): &(&str, State)| {
            json!({
                "kind": OTHER_KIND, "title": format!("report of {owner}"), "owner": owner, "input": canary(owner),
                "queue": fixed_queue(owner, *state), "labels": {"set": "fixed"},
            })
        };
        let items: Vec<Value> = wanted.iter().map(item).collect();
        let created = self.admin(Method::POST, "/v1/tasks/batch", &json!({"items": items})).await;
        for ((owner, state), item) in wanted.into_iter().zip(created["items"].as_array().expect("items")) {
            let id = item["id"].as_str().unwrap_or_else(|| panic!("{item}")).to_owned();
            self.tasks.push(FixedTask { id, owner: owner.to_owned(), state, lease: String::new() });
        }
        self.lease_fixed_tasks().await;
        let schedule = json!({
            "cron": "0 4 29 2 *",
            "task": {"kind": "m.idle", "title": "report of otto", "owner": STRANGER, "input": canary(STRANGER)},
        });
        let schedule = self.admin(Method::POST, "/v1/schedules", &schedule).await;
        schedule["id"].as_str().expect("an id").clone_into(&mut self.schedule);
        let key = [("idempotency-key", USED_KEY.to_owned())];
        let token = Some(self.tokens[STRANGER].text.clone());
        let keyed = self.send_with(token, Method::POST, "/v1/tasks", Some(KEYED_BODY.to_owned()), &key).await;
        assert_eq!(keyed.status, 201, "{}", keyed.text);
        let id = keyed.id();
        self.tasks.push(FixedTask { id, owner: STRANGER.to_owned(), state: State::Queued, lease: String::new() });
        self.log = self.read_log().await;
    }

    async fn lease_fixed_tasks(&mut self) {
        let leased = |task: &&mut FixedTask| task.state != State::Queued;
        let queues: Vec<_> =
            self.tasks.iter_mut().filter(leased).map(|task| fixed_queue(&task.owner, task.state)).collect();
        let take = json!({"worker": "fixed", "queues": queues, "max": queues.len(), "wait_s": 0});
        let taken = self.admin(Method::POST, "/v1/leases", &take).await;
        let taken = taken["leases"].as_array().expect("leases");
        assert_eq!(taken.len(), queues.len(), "every fixed task that is to run is leased");
        for task in &mut self.tasks {
            let lease = taken.iter().find(|lease| lease["task_id"] == *task.id);
            task.lease = lease.map(|lease| lease["lease"].as_str().expect("a lease").to_owned()).unwrap_or_default();
        }
        for task in self.tasks.iter().filter(|task| task.state == State::Cancelling) {
            self.admin(Method::POST, &format!("/v1/tasks/{}/cancel", task.id), &json!({})).await;
        }
        for task in self.tasks.iter().filter(|task| task.state == State::Ended) {
            self.finish(&task.lease, &task.owner).await;
        }
    }

    /// Ends the attempt of this lease with a result and an output.
    pub async fn finish(&self, lease: &str, owner: &str) {
        let output = json!({"tail": format!("canary of {owner}\n"), "dropped_bytes": 0});
        let item = json!({"lease": lease, "outcome": "succeeded", "result": canary(owner), "output": output});
        let finished = self.admin(Method::POST, "/v1/leases/finish", &json!({"items": [item]})).await;
        assert_eq!(finished["items"][0]["status"], "succeeded", "{finished}");
    }
}

/// The queue of a fixed task. Each has its own, so that a test can lease it alone.
pub fn fixed_queue(owner: &str, state: State) -> String {
    format!("fixed.{owner}.{}", state.status())
}

/// Records a token of each subject in a new log.
async fn create_tokens(data: &Path) -> BTreeMap<&'static str, Token> {
    let store = EventStore::open(data).expect("a log");
    let mut tokens = BTreeMap::new();
    for (subject, role) in SUBJECTS {
        let id = new_id();
        let text = BearerText::generate(BearerKind::Token, id).expect("random bits");
        let kinds = (role == Role::Worker).then(|| vec![WORKERS_KIND.to_owned()]);
        let created = TokenCreated { subject: subject.to_owned(), role, kinds, hash: text.hash(), expires_at: None };
        let meta = Meta {
            actor: "test".into(),
            via: Via::Cli,
            correlation_id: new_id(),
            causation_id: None,
            request_id: None,
        };
        let event = NewEvent { id: new_id(), time: now(), meta, event: TokenEvent::TokenCreated(created).into() };
        let append = Append { stream: StreamName::token(id), expected: Expected::NoStream, events: vec![event] };
        store.append(append).await.expect("the token is recorded");
        tokens.insert(subject, Token { id: id.to_string(), text: text.reveal().to_owned() });
    }
    tokens
}
