//! The server that is measured: a process that is started for this, or the server that `--server` names.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::place::LogPlace;
use super::wire::ServerAddress;
use crate::cli::demo::Folder;
use crate::cli::failure::Failure;

/// How long the server may take to start.
const START: Duration = Duration::from_secs(30);
/// The last lines of the server's stderr that a failure shows.
const LAST_LINES: usize = 5;

/// The server that is measured. Dropping it ends a process that was started, and removes its folder.
pub(super) struct Server {
    pub(super) address: ServerAddress,
    own: Option<Own>,
}

struct Own {
    // Fields are dropped in this order: first the process ends, then its folder is removed.
    child: Child,
    folder: Folder,
}

/// The memory and disk space of the server, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) rss: u64,
    pub(super) pss: u64,
    pub(super) disk: u64,
}

impl Server {
    pub(super) const fn given(address: ServerAddress) -> Self {
        Self { address, own: None }
    }

    /// Starts this binary with the default settings.
    pub(super) async fn start(place: &LogPlace) -> Result<Self, Failure> {
        let folder =
            Folder::fresh("bench").map_err(|error| Failure::failed(format!("no temporary folder: {error}")))?;
        let stderr = std::fs::File::create(folder.0.join("stderr"))?;
        let mut command = Command::new(std::env::current_exe()?);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TASKBELL_")) {
            command.env_remove(name);
        }
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", "warn"]);
        match place {
            LogPlace::Own(kind) => command.args(["--data", "data", "--store", kind.name()]),
            // Flags are shown by `ps`.
            LogPlace::Shared(url) => command.env("TASKBELL_STORE", url),
        };
        command.current_dir(&folder.0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).kill_on_drop(true);
        let mut child = command.spawn()?;
        let stdout = child.stdout.take();
        let mut own = Own { child, folder };
        let listens = async {
            let mut lines = BufReader::new(stdout?).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(url) = line.strip_prefix("listening on ") {
                    return Some(url.trim().to_owned());
                }
            }
            None
        };
        let url = tokio::time::timeout(START, listens).await.ok().flatten();
        let Some(url) = url else { return Err(own.ended("the server did not start").await) };
        Ok(Self { address: ServerAddress::new(&url, None)?, own: Some(own) })
    }

    /// The failure, or the end of the server with its last lines if it has ended.
    pub(super) async fn explain(&mut self, failure: Failure) -> Failure {
        let Some(own) = &mut self.own else { return failure };
        if matches!(own.child.try_wait(), Ok(Some(_))) {
            return own.ended("the server has ended").await;
        }
        failure
    }

    /// Whether this process started the server, so that its memory and CPU time can be read.
    pub(super) const fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// The process id of a server that was started and runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.own.as_ref()?.child.id()
    }

    /// Its memory and disk space now; none for a server that was given.
    pub(super) fn usage(&self) -> Option<Usage> {
        let (pid, own) = (self.pid()?, self.own.as_ref()?);
        let (rss, pss) = memory(pid)?;
        Some(Usage { rss, pss, disk: size(&own.data()) })
    }

    /// Ends a server that was started, and removes its folder.
    pub(super) async fn stop(self) {
        if let Some(mut own) = self.own {
            // If this fails, the drop kills it again.
            let _ = own.child.kill().await;
        }
    }
}

impl Own {
    fn data(&self) -> PathBuf {
        self.folder.0.join("data")
    }

    async fn ended(&mut self, what: &str) -> Failure {
        let _ = self.child.kill().await;
        let words = std::fs::read_to_string(self.folder.0.join("stderr")).unwrap_or_default();
        let lines: Vec<&str> = words.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join(" / ");
        Failure::failed(format!("{what}: {last}"))
    }
}

/// RSS and PSS of a process, in bytes.
pub(super) fn memory(pid: u32) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    Some((field("Rss:")?, field("Pss:")?))
}

/// User and system CPU time of a process. Linux counts it in hundredths of a second.
pub(super) fn cpu(pid: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may contain blanks and parentheses; the fields after the last parenthesis don't.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (ticks()?, ticks()?);
    Some(Duration::from_millis((user + system) * 10))
}

/// The disk space of the folder's files, in bytes.
fn size(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) => found.blocks() * 512,
        // The file was removed meanwhile.
        Err(_) => 0,
    });
    sizes.sum()
}
