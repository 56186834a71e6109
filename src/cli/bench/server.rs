//! The server that is measured. The bench starts it as a process, or `--server` names it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::connection::ServerAddress;
use super::store::BenchStore;
use crate::cli::command_error::CommandError;
use crate::cli::demo::TemporaryFolder;

/// The longest time that the server may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The settings of the phase sockets: all of them come from one address and are those of one subject.
const SOCKET_LIMITS: [&str; 6] =
    ["--max-sockets", "16000", "--max-sockets-per-subject", "16000", "--max-sockets-per-address", "16000"];
/// The number of lines from the end of the server's stderr that a failure shows.
const STDERR_LINES: usize = 5;

/// The server that is measured. If the bench started it, dropping this value kills the process and removes its folder.
pub(super) struct Server {
    pub(super) address: ServerAddress,
    /// `None` for a named server.
    process: Option<ServerProcess>,
}

struct ServerProcess {
    // Fields are dropped in the order of their declaration: first the process is killed, then its folder is removed.
    child: Child,
    folder: TemporaryFolder,
}

/// The memory and disk space of the server, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ResourceUsage {
    pub(super) rss: u64,
    pub(super) pss: u64,
    pub(super) disk: u64,
}

impl Server {
    /// The server that `--server` names.
    pub(super) const fn named(address: ServerAddress) -> Self {
        Self { address, process: None }
    }

    /// Starts this program as a server with this store, and with default settings except for the number of websockets, and waits until it listens.
    ///
    /// # Errors
    /// The process can't be started, or it did not listen within 30 s.
    pub(super) async fn start(store: &BenchStore) -> Result<Self, CommandError> {
        let folder = TemporaryFolder::create("bench")
            .map_err(|error| CommandError::failed(format!("the temporary folder can't be created: {error}")))?;
        let stderr = std::fs::File::create(folder.path.join("stderr"))?;
        let mut command = Command::new(std::env::current_exe()?);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TASKBELL_")) {
            command.env_remove(name);
        }
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", "warn"]);
        command.args(SOCKET_LIMITS);
        match store {
            BenchStore::Embedded(kind) => command.args(["--data", "data", "--store", kind.name()]),
            // The address may contain a password, and `ps` shows flags to all users.
            BenchStore::Cluster(url) => command.env("TASKBELL_STORE", url),
        };
        command.current_dir(&folder.path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).kill_on_drop(true);
        let mut child = command.spawn()?;
        let stdout = child.stdout.take();
        let mut process = ServerProcess { child, folder };
        let listening_url = async {
            let mut lines = BufReader::new(stdout?).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(url) = line.strip_prefix("listening on ") {
                    return Some(url.trim().to_owned());
                }
            }
            None
        };
        let url = tokio::time::timeout(START_TIMEOUT, listening_url).await.ok().flatten();
        let Some(url) = url else { return Err(process.end_with_failure("the server did not start").await) };
        Ok(Self { address: ServerAddress::new(&url, None)?, process: Some(process) })
    }

    /// Returns `failure`; if the server's process has ended, returns a failure with the end of its stderr instead.
    pub(super) async fn explain_failure(&mut self, failure: CommandError) -> CommandError {
        let Some(process) = &mut self.process else { return failure };
        if matches!(process.child.try_wait(), Ok(Some(_))) {
            return process.end_with_failure("the server has ended").await;
        }
        failure
    }

    /// Whether this process started the server, so that its memory and CPU time can be read.
    pub(super) const fn was_started_here(&self) -> bool {
        self.process.is_some()
    }

    /// The process id; `None` for a named server or after the process has ended.
    pub(super) fn pid(&self) -> Option<u32> {
        self.process.as_ref()?.child.id()
    }

    /// The memory and disk space that the server uses now; `None` for a named server.
    pub(super) fn usage(&self) -> Option<ResourceUsage> {
        let (pid, process) = (self.pid()?, self.process.as_ref()?);
        let (rss, pss) = process_memory(pid)?;
        Some(ResourceUsage { rss, pss, disk: folder_size(&process.data_folder()) })
    }

    /// Kills a server that the bench started, and removes its folder. Does nothing to a named server.
    pub(super) async fn stop(self) {
        if let Some(mut process) = self.process {
            // If this fails, dropping the process kills it again.
            let _ = process.child.kill().await;
        }
    }
}

impl ServerProcess {
    fn data_folder(&self) -> PathBuf {
        self.folder.path.join("data")
    }

    /// Kills the process and returns a failure that consists of `what` and the last lines of its stderr.
    async fn end_with_failure(&mut self, what: &str) -> CommandError {
        let _ = self.child.kill().await;
        let stderr = std::fs::read_to_string(self.folder.path.join("stderr")).unwrap_or_default();
        let lines: Vec<&str> = stderr.lines().collect();
        let last = lines[lines.len().saturating_sub(STDERR_LINES)..].join(" / ");
        CommandError::failed(format!("{what}: {last}"))
    }
}

/// RSS and PSS of a process, in bytes; `None` if the process doesn't run.
pub(super) fn process_memory(pid: u32) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    Some((field("Rss:")?, field("Pss:")?))
}

/// The user and system CPU time of a process together; `None` if it doesn't run. Linux counts in hundredths of a second.
pub(super) fn process_cpu_time(pid: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The process name may contain spaces and parentheses, so the fields are counted from the last parenthesis.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (ticks()?, ticks()?);
    Some(Duration::from_millis((user + system) * 10))
}

/// The disk space of all files in the folder and its subfolders, in bytes.
fn folder_size(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => folder_size(&entry.path()),
        Ok(found) => found.blocks() * 512,
        // The file was removed after the folder was read.
        Err(_) => 0,
    });
    sizes.sum()
}
