//! `taskbell demo`: a server with real work to watch and to cancel.

mod tree;

use std::collections::VecDeque;
use std::fs::DirBuilder;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use taskbell::{TaskId, Timestamp};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::client::Client;
use super::failure::Failure;
use super::runtime::block_on;
use super::settings::Settings;
use super::{out, serve};

/// The most bytes that all distributions together copy per second: slow enough for a person to watch and cancel them.
const BYTES_PER_S: u64 = 12_000_000;
/// Tasks that run at once; the others are queued.
const SLOTS: usize = 3;
/// A new task is submitted when fewer than these are open.
const OPEN_MIN: u64 = 5;
/// How often the number of open tasks is checked.
const ROUND: Duration = Duration::from_secs(4);
/// The copies of this many ended tasks are kept; older ones are removed, so that the disk doesn't fill.
const KEPT: usize = 4;
/// How long the server may take to start.
const START: Duration = Duration::from_secs(30);
/// The mirrors that content goes to.
const MIRRORS: [&str; 5] = ["berlin", "oslo", "porto", "riga", "turin"];

/// Runs a server on real files until Ctrl-C.
#[derive(Debug, Args)]
pub struct Demo {
    /// Distribute this tree instead of a generated one; it is only read
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// End after so many minutes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    minutes: Option<u64>,
    /// Address to listen on [default: 127.0.0.1:7070, or another port where that is taken]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

/// A folder that is removed when it is dropped.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    /// A new folder that only this user can enter: in `TMPDIR`, or in /var/tmp, which is on a disk where /tmp may be in memory.
    pub(super) fn fresh(what: &str) -> io::Result<Self> {
        let disk = Path::new("/var/tmp");
        let base = match std::env::var_os("TMPDIR") {
            Some(folder) => PathBuf::from(folder),
            None if disk.is_dir() => disk.to_owned(),
            None => std::env::temp_dir(),
        };
        let path = base.canonicalize()?.join(format!("taskbell-{what}-{}", Uuid::new_v4().simple()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            out::note(&format!("{} could not be removed: {error}", self.0.display()));
        }
    }
}

impl Demo {
    pub(super) fn run(self) -> Result<(), Failure> {
        let folder = Folder::fresh("demo").map_err(|error| Failure::failed(format!("no temporary folder: {error}")))?;
        let content = folder.0.join("content");
        let source = match &self.path {
            Some(path) => path.canonicalize().map_err(|e| Failure::usage(format!("--path {}: {e}", path.display())))?,
            None => content.join("website"),
        };
        for mirror in MIRRORS {
            let made = std::fs::create_dir_all(content.join("mirrors").join(mirror));
            made.map_err(|error| Failure::failed(format!("no mirror: {error}")))?;
        }
        let mut roots = vec![content.clone()];
        roots.extend(self.path.is_some().then(|| source.clone()));
        let settings = Settings {
            listen: Some(address(self.listen.as_deref())?),
            data: Some(folder.0.join("data")),
            content_roots: Some(roots),
            content_bytes_per_s: Some(BYTES_PER_S),
            slots: Some(SLOTS),
            log: Some(std::env::var("TASKBELL_LOG").unwrap_or_else(|_| "warn".into())),
            ..Settings::default()
        };
        let checked = settings.check().map_err(|error| Failure::usage(error.to_string()))?;
        out::line(&format!("everything is in {}; it is removed at the end", folder.0.display()))?;
        if self.path.is_none() && !block_on(prepare(source.clone()))? {
            return Ok(());
        }
        let client = Client::new(&format!("http://{}", checked.config.listen), None)?;
        let (over, ended) = oneshot::channel();
        let end = self.minutes.map(|minutes| Instant::now() + Duration::from_secs(minutes * 60));
        let demo = DemoClient::new(client, source, content);
        let thread = std::thread::spawn(move || block_on(demo.run(ended, end)));
        let served = serve::start(checked);
        drop(over);
        match thread.join() {
            Ok(submitted) => served.and(submitted),
            Err(_) => served,
        }
    }
}

/// An address with a port that is free now: the client must know it before the server prints it.
fn address(wanted: Option<&str>) -> Result<String, Failure> {
    let free = |address: &str| TcpListener::bind(address).and_then(|socket| socket.local_addr());
    let found = match wanted {
        Some(address) => free(address),
        None => free("127.0.0.1:7070").or_else(|_| free("127.0.0.1:0")),
    };
    let found = found.map_err(|error| Failure::usage(format!("--listen {}: {error}", wanted.unwrap_or_default())))?;
    Ok(found.to_string())
}

/// Writes the tree; false if a signal interrupted it.
async fn prepare(source: PathBuf) -> Result<bool, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let began = Instant::now();
    let mut writing = tokio::task::spawn_blocking(move || tree::generate(&source, &seen));
    let written = tokio::select! {
        written = &mut writing => written,
        _ = tokio::signal::ctrl_c() => { stop.store(true, Ordering::Relaxed); writing.await }
        _ = terminate.recv() => { stop.store(true, Ordering::Relaxed); writing.await }
    };
    let written = written.map_err(io::Error::from)??;
    if !stop.load(Ordering::Relaxed) {
        let (files, mb) = (out::thousands(written.files), written.bytes / 1_000_000);
        out::line(&format!("wrote a website of {files} files, {mb} MB, in {}", out::duration(began.elapsed())))?;
    }
    Ok(!stop.load(Ordering::Relaxed))
}

/// A client that submits tasks to the demo's server.
struct DemoClient {
    client: Client,
    source: PathBuf,
    content: PathBuf,
    /// How many tasks were submitted; the folders of each are named by its number.
    count: usize,
    /// The tasks and the folders that they write, the oldest first.
    copies: VecDeque<(TaskId, Vec<PathBuf>)>,
}

/// A distribution: title, folder within the source, number of mirrors, whether to verify.
type Piece = (&'static str, &'static str, usize, bool);

/// The distributions of the generated tree, in the order in which they are submitted.
const PIECES: [Piece; 6] = [
    ("Website to two mirrors", "", 2, false),
    ("Documentation to three mirrors, verified", "docs", 3, true),
    ("Videos to Oslo", "videos", 1, false),
    ("Press photos to two mirrors", "press", 2, false),
    ("Product sheets everywhere", "shop", 5, false),
    ("Icons and fonts to three mirrors", "assets", 3, true),
];

/// The distributions of a tree that `--path` names.
const WHOLE: [Piece; 3] = [
    ("All of it to two mirrors", "", 2, false),
    ("All of it to one mirror, verified", "", 1, true),
    ("All of it everywhere", "", 5, false),
];

impl DemoClient {
    const fn new(client: Client, source: PathBuf, content: PathBuf) -> Self {
        Self { client, source, content, count: 0, copies: VecDeque::new() }
    }

    /// Submits tasks from the time the server is ready until it has ended, or until `end`, when it ends the process.
    async fn run(mut self, mut over: oneshot::Receiver<()>, end: Option<Instant>) -> Result<(), Failure> {
        let Some(ready) = self.ready(&mut over).await else { return Ok(()) };
        let mut submitted = match ready {
            Ok(()) => self.submit_first_tasks().await,
            Err(failure) => Err(failure),
        };
        while submitted.is_ok() && end.is_none_or(|end| Instant::now() < end) {
            let pause = end.map_or(ROUND, |end| end.saturating_duration_since(Instant::now()).min(ROUND));
            if tokio::time::timeout(pause, &mut over).await.is_ok() {
                return Ok(());
            }
            submitted = self.keep_busy().await;
        }
        // A server that is stopping refuses requests; that is no failure of the demo.
        if submitted.is_err() && tokio::time::timeout(START, &mut over).await.is_ok() {
            return Ok(());
        }
        end_this_process()?;
        submitted
    }

    /// Waits until the server answers; `None` if it ended first.
    async fn ready(&self, over: &mut oneshot::Receiver<()>) -> Option<Result<(), Failure>> {
        let since = Instant::now();
        loop {
            match self.client.get("/v1/counters", &[]).await {
                Ok(_) => return Some(Ok(())),
                Err(failure) if since.elapsed() > START => return Some(Err(failure)),
                Err(_) => {}
            }
            if tokio::time::timeout(Duration::from_millis(50), &mut *over).await.is_ok() {
                return None;
            }
        }
    }

    /// Submits the first tasks, and prints what a person can do now.
    async fn submit_first_tasks(&mut self) -> Result<(), Failure> {
        for piece in self.pieces() {
            self.distribute(*piece, json!({})).await?;
        }
        let missing = ("Catalogue 2031 to Riga (fails: there is no such folder)", "catalogue-2031", 1, false);
        self.distribute(missing, json!({"max_attempts": 1, "priority": 10})).await?;
        let soon = jiff::Timestamp::now().as_microsecond();
        let soon = Timestamp::from_micros(soon).plus(Duration::from_mins(1));
        let piece = self.pieces()[1];
        self.distribute(("Starts in a minute", piece.1, 1, false), json!({"run_at": soon})).await?;
        let id = self.distribute(("Sent to the wrong mirror", "", 1, false), json!({})).await?;
        let reason = json!({"reason": "the wrong mirror"});
        self.client.post(&format!("/v1/tasks/{id}/cancel"), &reason).await?;
        self.print_invitation()
    }

    fn print_invitation(&self) -> Result<(), Failure> {
        let server = self.client.server();
        let here = std::env::current_exe().unwrap_or_else(|_| "taskbell".into());
        let folder = std::env::current_dir().unwrap_or_default();
        let taskbell = here.strip_prefix(&folder).unwrap_or(&here).display().to_string();
        let to = if server == "http://127.0.0.1:7070" { String::new() } else { format!(" --server {server}") };
        out::line(&format!(
            "\n  Open {server}/ and press the red cross on something that runs.\n\n  \
             Or in another terminal:\n    \
             {taskbell} watch{to}\n    \
             {taskbell} list --status running,queued{to}\n    \
             {taskbell} cancel ID --wait{to}\n    \
             {taskbell} log tail --follow{to}\n\n  \
             Ctrl-C ends it.\n"
        ))
    }

    fn pieces(&self) -> &'static [Piece] {
        if self.source.starts_with(&self.content) { &PIECES } else { &WHOLE }
    }

    async fn distribute(&mut self, piece: Piece, more: Value) -> Result<TaskId, Failure> {
        let (title, folder, mirrors, verify) = piece;
        self.count += 1;
        let name = format!("release-{:03}", self.count);
        let targets: Vec<PathBuf> = (0..mirrors)
            .map(|n| self.content.join("mirrors").join(MIRRORS[(self.count + n) % MIRRORS.len()]).join(&name))
            .collect();
        let source = if folder.is_empty() { self.source.clone() } else { self.source.join(folder) };
        let mut body = json!({
            "kind": "content.distribute",
            "title": title,
            "input": {"source": source, "targets": targets, "verify": verify},
            "labels": {"from": "demo"},
        });
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        let answer = self.client.submit(&body, None).await?;
        let id = super::watch::id_of(&answer)?;
        self.copies.push_back((id, targets));
        Ok(id)
    }

    /// Submits a task if few are open, and removes the copies of old ones.
    async fn keep_busy(&mut self) -> Result<(), Failure> {
        let counters = self.client.get("/v1/counters", &[]).await?;
        let count = |status: &str| counters.body["counts"][status].as_u64().unwrap_or_default();
        let open = ["scheduled", "queued", "running", "cancelling", "retrying"].map(count);
        if open.iter().sum::<u64>() < OPEN_MIN {
            let pieces = self.pieces();
            self.distribute(pieces[self.count % pieces.len()], json!({})).await?;
        }
        let mut ended = Vec::new();
        for (id, _) in &self.copies {
            let task = self.client.task(*id, 0).await?.body;
            if matches!(task["status"].as_str(), Some("succeeded" | "failed" | "cancelled")) {
                ended.push(*id);
            }
        }
        ended.truncate(ended.len().saturating_sub(KEPT));
        let (old, kept) = self.copies.drain(..).partition(|(id, _)| ended.contains(id));
        self.copies = kept;
        let old: VecDeque<(TaskId, Vec<PathBuf>)> = old;
        for folder in old.iter().flat_map(|(_, folders)| folders) {
            // The folder doesn't exist if the task failed or never started.
            let _ = std::fs::remove_dir_all(folder);
        }
        Ok(())
    }
}

/// Sends SIGTERM to this process, so that the server stops in the usual order.
fn end_this_process() -> Result<(), Failure> {
    let kill = format!("kill -TERM {}", std::process::id());
    std::process::Command::new("sh").args(["-c", &kill]).status().map(drop).map_err(Failure::from)
}
