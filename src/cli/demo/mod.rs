//! `taskbell demo`: runs a server, and submits tasks to it that copy real files, so that a person can watch and cancel
//! them.

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
use super::command_error::CommandError;
use super::runtime::block_on;
use super::settings::Settings;
use super::{console, serve};

/// The most bytes that all distributions together copy per second, so that they take long enough to be watched and
/// cancelled.
const BYTES_PER_S: u64 = 12_000_000;
/// The number of tasks that run at the same time. The others are queued.
const SLOTS: usize = 3;
/// A new task is submitted when fewer tasks than this are open.
const OPEN_MIN: u64 = 5;
/// How often the number of open tasks is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(4);
/// The number of ended tasks whose copies stay on the disk. The copies of older tasks are removed, so that the disk doesn't
/// become full.
const ENDED_TASKS_WITH_COPIES: usize = 4;
/// The longest time that the server may take to start or to stop.
const START_STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// The mirrors to which content is copied; each is a folder.
const MIRRORS: [&str; 5] = ["berlin", "oslo", "porto", "riga", "turin"];

/// Runs a server with example tasks that copy real files, until Ctrl-C.
#[derive(Debug, Args)]
pub struct Demo {
    /// Copy this tree to the mirrors instead of a generated one; the tree itself is not changed
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// Stop after this many minutes [default: never]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    minutes: Option<u64>,
    /// Address to listen on [default: 127.0.0.1:7070, or another port if that is in use]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

/// A temporary folder. It is removed, with everything in it, when this value is dropped.
pub(super) struct TemporaryFolder {
    pub(super) path: PathBuf,
}

impl TemporaryFolder {
    /// Creates a folder that only this user can read. It is in `TMPDIR` if that variable is set, else in /var/tmp,
    /// because /tmp may be in memory. `purpose` is a part of its name.
    pub(super) fn create(purpose: &str) -> io::Result<Self> {
        let var_tmp = Path::new("/var/tmp");
        let base = match std::env::var_os("TMPDIR") {
            Some(folder) => PathBuf::from(folder),
            None if var_tmp.is_dir() => var_tmp.to_owned(),
            None => std::env::temp_dir(),
        };
        let path = base.canonicalize()?.join(format!("taskbell-{purpose}-{}", Uuid::new_v4().simple()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            console::print_to_stderr(&format!("{} could not be removed: {error}", self.path.display()));
        }
    }
}

impl Demo {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let folder = TemporaryFolder::create("demo")
            .map_err(|error| CommandError::failed(format!("the temporary folder can't be created: {error}")))?;
        let content = folder.path.join("content");
        let source = match &self.path {
            Some(path) => {
                path.canonicalize().map_err(|e| CommandError::usage(format!("--path {}: {e}", path.display())))?
            }
            None => content.join("website"),
        };
        for mirror in MIRRORS {
            let created = std::fs::create_dir_all(content.join("mirrors").join(mirror));
            created
                .map_err(|error| CommandError::failed(format!("the folder of a mirror can't be created: {error}")))?;
        }
        let mut roots = vec![content.clone()];
        roots.extend(self.path.is_some().then(|| source.clone()));
        let settings = Settings {
            listen: Some(find_free_address(self.listen.as_deref())?),
            data: Some(folder.path.join("data")),
            content_roots: Some(roots),
            content_bytes_per_s: Some(BYTES_PER_S),
            slots: Some(SLOTS),
            log_filter: Some(std::env::var("TASKBELL_LOG").unwrap_or_else(|_| "warn".into())),
            ..Settings::default()
        };
        let checked_settings = settings.check().map_err(|error| CommandError::usage(error.to_string()))?;
        console::print_line(&format!("all files are in {}; it is removed at the end", folder.path.display()))?;
        if self.path.is_none() && !block_on(generate_content(source.clone()))? {
            return Ok(());
        }
        let client = Client::new(&format!("http://{}", checked_settings.config.listen), None, None)?;
        let (server_end_sender, server_end) = oneshot::channel();
        let deadline = self.minutes.map(|minutes| Instant::now() + Duration::from_secs(minutes * 60));
        let demo = DemoClient::new(client, source, content);
        let thread = std::thread::spawn(move || block_on(demo.run(server_end, deadline)));
        let server_result = serve::run_server(checked_settings);
        drop(server_end_sender);
        match thread.join() {
            Ok(client_result) => server_result.and(client_result),
            Err(_) => server_result,
        }
    }
}

/// An address with a port that is free now. `None` means the default port, or any other port if that is taken. The demo's
/// client needs the port before the server starts.
fn find_free_address(wanted: Option<&str>) -> Result<String, CommandError> {
    let bind = |address: &str| TcpListener::bind(address).and_then(|socket| socket.local_addr());
    let found = match wanted {
        Some(address) => bind(address),
        None => bind("127.0.0.1:7070").or_else(|_| bind("127.0.0.1:0")),
    };
    let found =
        found.map_err(|error| CommandError::usage(format!("--listen {}: {error}", wanted.unwrap_or_default())))?;
    Ok(found.to_string())
}

/// Generates the content tree in `source`. Returns false if a signal interrupted it.
async fn generate_content(source: PathBuf) -> Result<bool, CommandError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = Arc::new(AtomicBool::new(false));
    let stop_flag = Arc::clone(&stop);
    let started_at = Instant::now();
    let mut writing = tokio::task::spawn_blocking(move || tree::generate(&source, &stop_flag));
    let written = tokio::select! {
        written = &mut writing => written,
        _ = tokio::signal::ctrl_c() => { stop.store(true, Ordering::Relaxed); writing.await }
        _ = terminate.recv() => { stop.store(true, Ordering::Relaxed); writing.await }
    };
    let written = written.map_err(io::Error::from)??;
    if !stop.load(Ordering::Relaxed) {
        let (files, mb) = (console::format_count(written.files), written.bytes / 1_000_000);
        console::print_line(&format!(
            "wrote a website of {files} files, {mb} MB, in {}",
            console::format_duration(started_at.elapsed())
        ))?;
    }
    Ok(!stop.load(Ordering::Relaxed))
}

/// Submits tasks to the demo's server.
struct DemoClient {
    client: Client,
    /// The tree that is copied to the mirrors.
    source: PathBuf,
    /// The folder of the mirrors and of the generated tree.
    content: PathBuf,
    /// The number of tasks submitted so far. Each task writes into folders that have its number in their name.
    submitted_count: usize,
    /// The submitted tasks, the oldest first, with the folders into which each writes.
    copies: VecDeque<(TaskId, Vec<PathBuf>)>,
}

/// What one task copies.
#[derive(Clone, Copy)]
struct Distribution {
    title: &'static str,
    /// The folder within the source; empty for the whole source.
    folder: &'static str,
    /// The number of mirrors.
    mirrors: usize,
    /// Whether the task compares each copy with its source.
    verify: bool,
}

impl Distribution {
    const fn new(title: &'static str, folder: &'static str, mirrors: usize, verify: bool) -> Self {
        Self { title, folder, mirrors, verify }
    }
}

/// The distributions of the generated tree, in the order in which they are submitted.
const DISTRIBUTIONS_OF_GENERATED_TREE: [Distribution; 6] = [
    Distribution::new("Website to two mirrors", "", 2, false),
    Distribution::new("Documentation to three mirrors, verified", "docs", 3, true),
    Distribution::new("Videos to Oslo", "videos", 1, false),
    Distribution::new("Press photos to two mirrors", "press", 2, false),
    Distribution::new("Product sheets everywhere", "shop", 5, false),
    Distribution::new("Icons and fonts to three mirrors", "assets", 3, true),
];

/// The distributions of a tree that `--path` names, in the order in which they are submitted.
const DISTRIBUTIONS_OF_NAMED_TREE: [Distribution; 3] = [
    Distribution::new("All of it to two mirrors", "", 2, false),
    Distribution::new("All of it to one mirror, verified", "", 1, true),
    Distribution::new("All of it everywhere", "", 5, false),
];

impl DemoClient {
    const fn new(client: Client, source: PathBuf, content: PathBuf) -> Self {
        Self { client, source, content, submitted_count: 0, copies: VecDeque::new() }
    }

    /// Submits tasks from the time when the server is ready until the server has ended. At `deadline`, or after a
    /// failed request, it stops the server. `server_end` is closed when the server has ended.
    async fn run(
        mut self,
        mut server_end: oneshot::Receiver<()>,
        deadline: Option<Instant>,
    ) -> Result<(), CommandError> {
        let Some(started) = self.wait_until_ready(&mut server_end).await else { return Ok(()) };
        let mut result = match started {
            Ok(()) => self.submit_first_tasks().await,
            Err(failure) => Err(failure),
        };
        while result.is_ok() && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            let pause = deadline.map_or(CHECK_INTERVAL, |deadline| {
                deadline.saturating_duration_since(Instant::now()).min(CHECK_INTERVAL)
            });
            if tokio::time::timeout(pause, &mut server_end).await.is_ok() {
                return Ok(());
            }
            result = self.refill_and_clean_up().await;
        }
        // The request may have failed because the server is stopping. That is no failure of the demo.
        if result.is_err() && tokio::time::timeout(START_STOP_TIMEOUT, &mut server_end).await.is_ok() {
            return Ok(());
        }
        terminate_this_process()?;
        result
    }

    /// Waits until the server responds. Returns `None` if the server ended first, and the last failure after a timeout.
    async fn wait_until_ready(&self, server_end: &mut oneshot::Receiver<()>) -> Option<Result<(), CommandError>> {
        let since = Instant::now();
        loop {
            match self.client.get("/v1/counters", &[]).await {
                Ok(_) => return Some(Ok(())),
                Err(failure) if since.elapsed() > START_STOP_TIMEOUT => return Some(Err(failure)),
                Err(_) => {}
            }
            if tokio::time::timeout(Duration::from_millis(50), &mut *server_end).await.is_ok() {
                return None;
            }
        }
    }

    /// Submits the first tasks, and prints how a person can watch and cancel them.
    async fn submit_first_tasks(&mut self) -> Result<(), CommandError> {
        for distribution in self.distributions() {
            self.submit(*distribution, json!({})).await?;
        }
        let failing =
            Distribution::new("Catalogue 2031 to Riga (fails: there is no such folder)", "catalogue-2031", 1, false);
        self.submit(failing, json!({"max_attempts": 1, "priority": 10})).await?;
        let now = Timestamp::from_micros(jiff::Timestamp::now().as_microsecond());
        let run_at = now.plus(Duration::from_mins(1));
        let scheduled = Distribution::new("Starts in a minute", self.distributions()[1].folder, 1, false);
        self.submit(scheduled, json!({"run_at": run_at})).await?;
        let id = self.submit(Distribution::new("Sent to the wrong mirror", "", 1, false), json!({})).await?;
        let reason = json!({"reason": "the wrong mirror"});
        self.client.post(&format!("/v1/tasks/{id}/cancel"), &reason).await?;
        self.print_instructions()
    }

    fn print_instructions(&self) -> Result<(), CommandError> {
        let server = self.client.server();
        let program = std::env::current_exe().unwrap_or_else(|_| "taskbell".into());
        let folder = std::env::current_dir().unwrap_or_default();
        let taskbell = program.strip_prefix(&folder).unwrap_or(&program).display().to_string();
        let server_flag = if server == "http://127.0.0.1:7070" { String::new() } else { format!(" --server {server}") };
        console::print_line(&format!(
            "\n  Open {server}/ and press the red cross on something that runs.\n\n  \
             Or in another terminal:\n    \
             {taskbell} watch{server_flag}\n    \
             {taskbell} list --status running,queued{server_flag}\n    \
             {taskbell} cancel ID --wait{server_flag}\n    \
             {taskbell} log tail --follow{server_flag}\n\n  \
             Ctrl-C ends it.\n"
        ))
    }

    fn distributions(&self) -> &'static [Distribution] {
        if self.source.starts_with(&self.content) {
            &DISTRIBUTIONS_OF_GENERATED_TREE
        } else {
            &DISTRIBUTIONS_OF_NAMED_TREE
        }
    }

    /// Submits a task for this distribution. `further_fields` are added to the request.
    async fn submit(&mut self, distribution: Distribution, further_fields: Value) -> Result<TaskId, CommandError> {
        let Distribution { title, folder, mirrors, verify } = distribution;
        self.submitted_count += 1;
        let name = format!("release-{:03}", self.submitted_count);
        let targets: Vec<PathBuf> = (0..mirrors)
            .map(|n| self.content.join("mirrors").join(MIRRORS[(self.submitted_count + n) % MIRRORS.len()]).join(&name))
            .collect();
        let source = if folder.is_empty() { self.source.clone() } else { self.source.join(folder) };
        let mut body = json!({
            "kind": "content.distribute",
            "title": title,
            "input": {"source": source, "targets": targets, "verify": verify},
            "labels": {"from": "demo"},
        });
        if let (Some(body), Value::Object(further_fields)) = (body.as_object_mut(), further_fields) {
            body.extend(further_fields);
        }
        let response = self.client.submit(&body, None).await?;
        let id = super::watch::task_id(&response)?;
        self.copies.push_back((id, targets));
        Ok(id)
    }

    /// Submits a task if fewer than [`OPEN_MIN`] are open, and removes the copies of all but the last
    /// [`ENDED_TASKS_WITH_COPIES`] ended tasks.
    async fn refill_and_clean_up(&mut self) -> Result<(), CommandError> {
        let counters = self.client.get("/v1/counters", &[]).await?;
        let count = |status: &str| counters.body["counts"][status].as_u64().unwrap_or_default();
        let open = ["scheduled", "queued", "running", "cancelling", "retrying"].map(count);
        if open.iter().sum::<u64>() < OPEN_MIN {
            let distributions = self.distributions();
            self.submit(distributions[self.submitted_count % distributions.len()], json!({})).await?;
        }
        let mut ended = Vec::new();
        for (id, _) in &self.copies {
            let task = self.client.task(*id, 0).await?.body;
            if matches!(task["status"].as_str(), Some("succeeded" | "failed" | "cancelled")) {
                ended.push(*id);
            }
        }
        ended.truncate(ended.len().saturating_sub(ENDED_TASKS_WITH_COPIES));
        let (old, remaining) = self.copies.drain(..).partition(|(id, _)| ended.contains(id));
        self.copies = remaining;
        let old: VecDeque<(TaskId, Vec<PathBuf>)> = old;
        for folder in old.iter().flat_map(|(_, folders)| folders) {
            // The folder doesn't exist if the task failed or never started.
            let _ = std::fs::remove_dir_all(folder);
        }
        Ok(())
    }
}

/// Sends SIGTERM to this process, so that the server stops as it does for any SIGTERM.
fn terminate_this_process() -> Result<(), CommandError> {
    let kill = format!("kill -TERM {}", std::process::id());
    std::process::Command::new("sh").args(["-c", &kill]).status().map(drop).map_err(CommandError::from)
}
