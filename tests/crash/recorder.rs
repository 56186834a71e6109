//! A recorder of the writes and syncs of a server: `strace` writes each of these system calls to a pipe.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;

use tempfile::TempDir;

use crate::support::Server;

/// A system call that has ended without an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Bytes were written to a file: so many, from this offset on. `text` is how they begin.
    Write { file: String, offset: u64, length: u64, text: String },
    /// The file's data is durable.
    Sync { file: String },
    /// The file has this length.
    Truncate { file: String, length: u64 },
}

impl Call {
    /// The name of the file, without its folder.
    pub fn file(&self) -> &str {
        match self {
            Self::Write { file, .. } | Self::Sync { file } | Self::Truncate { file, .. } => file,
        }
    }
}

/// A server whose writes and syncs are recorded.
pub struct Recorded {
    pub server: Server,
    lines: JoinHandle<String>,
}

impl Recorded {
    /// Starts a server on the data in the folder `data` of this folder. `None` if this system doesn't let a process be traced.
    pub fn start(dir: TempDir) -> Option<Self> {
        let can_trace = Command::new("strace").args(["-D", "-qq", "-o", "/dev/null", "true"]).status();
        if !can_trace.is_ok_and(|status| status.success()) {
            eprintln!("not run: strace is missing, or this user may not trace a process");
            return None;
        }
        let pipe = dir.path().join("calls");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let calls = "trace=pwrite64,pwritev,write,fsync,fdatasync,ftruncate";
        let starter = ["strace", "-D", "-f", "-y", "-qq", "-s", "200", "-e", calls, "-e", "signal=none", "-o"];
        let mut starter: Vec<OsString> = starter.into_iter().map(OsString::from).collect();
        starter.push(pipe.clone().into());
        let lines = std::thread::spawn(move || std::fs::read_to_string(pipe).unwrap());
        Some(Self { server: Server::started_by(&starter, dir), lines })
    }

    /// Stops the server with SIGTERM. Returns its calls on files of its data folder, in the order in which they ended.
    pub fn stop(mut self) -> Vec<Call> {
        assert!(self.server.stop().success(), "{}", self.server.stderr());
        let folder = self.server.data();
        calls(&self.lines.join().unwrap(), &folder)
    }
}

/// The calls in what `strace` has written.
fn calls(lines: &str, folder: &Path) -> Vec<Call> {
    let mut unfinished = std::collections::HashMap::new();
    let mut calls = Vec::new();
    for line in lines.lines() {
        let (process, call) = line.split_once(' ').unwrap_or((line, ""));
        let call = call.trim_start();
        if let Some(begin) = call.strip_suffix(" <unfinished ...>") {
            unfinished.insert(process, begin);
        } else if let Some(resumed) = call.strip_prefix("<... ") {
            let begin = unfinished.remove(process).unwrap_or_default();
            let end = resumed.split_once("resumed>").map_or("", |(_, end)| end);
            calls.extend(call_of(&format!("{begin}{end}"), folder));
        } else {
            calls.extend(call_of(call, folder));
        }
    }
    calls
}

/// One call: `pwrite64(11</path/log.db>, "text"..., 8192, 0) = 8192`. `None` if it has failed or concerns another file.
fn call_of(line: &str, folder: &Path) -> Option<Call> {
    let (call, returned) = line.rsplit_once(" = ")?;
    let (call, returned) = (call.trim_end().strip_suffix(')')?, returned.trim());
    let (name, arguments) = call.split_once('(')?;
    let (path, arguments) = arguments.split_once('<')?.1.split_once('>')?;
    let file = Path::new(path).strip_prefix(folder).ok()?.to_str()?.to_owned();
    let numbers = |count: usize| -> Option<Vec<u64>> {
        arguments.rsplitn(count + 1, ", ").take(count).map(|number| number.parse().ok()).collect()
    };
    match name {
        "pwrite64" => {
            let [offset, asked] = numbers(2)?[..] else { return None };
            let length = returned.parse().ok()?;
            assert!(length <= asked);
            let text = arguments.split_once('"').map_or("", |(_, text)| text).to_owned();
            Some(Call::Write { file, offset, length, text })
        }
        // Only new files are written from their beginning.
        "write" => {
            let length = returned.parse().ok()?;
            Some(Call::Write { file, offset: 0, length, text: arguments.to_owned() })
        }
        "fsync" | "fdatasync" => (returned == "0").then_some(Call::Sync { file }),
        "ftruncate" => (returned == "0").then_some(Call::Truncate { file, length: numbers(1)?[0] }),
        other => panic!("the recorder doesn't know how this call writes: {other}: {line}"),
    }
}

#[test]
fn the_recorder_reads_calls_that_other_calls_interrupt() {
    let lines = "\
12 pwrite64(9</d/log.db>, \"a, b) = 5\"..., 8192, 16384) = 8192
12 fsync(9</d/log.db> <unfinished ...>
13 write(2</d2/err>, \"x\", 1) = 1
12 <... fsync resumed>)              = 0
12 fsync(9</d/log.db-wal>)                = -1 EIO (Input/output error)
12 ftruncate(10</d/log.db-wal>, 0)   = 0
";
    let write =
        Call::Write { file: "log.db".into(), offset: 16384, length: 8192, text: "a, b) = 5\"..., 8192, 16384".into() };
    let sync = Call::Sync { file: "log.db".into() };
    let truncate = Call::Truncate { file: "log.db-wal".into(), length: 0 };
    assert_eq!(calls(lines, Path::new("/d")), [write, sync, truncate]);
}
