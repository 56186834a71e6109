//! What the tests with hostile clients measure.

use std::io::Write as _;
use std::time::Duration;

use super::{Access, Server};

/// `full` with `TASKBELL_FULL=1`, of it a tenth with `TASKBELL_PART=10`; otherwise `small`.
pub fn sized(small: usize, full: usize) -> usize {
    if !is_full() {
        return small;
    }
    let part = std::env::var("TASKBELL_PART").ok().and_then(|part| part.parse().ok()).unwrap_or(1);
    (full / usize::max(part, 1)).max(small)
}

/// Whether `TASKBELL_FULL` asks for the full size.
pub fn is_full() -> bool {
    std::env::var_os("TASKBELL_FULL").is_some()
}

/// Prints a line of figures, and appends it to the file that `TASKBELL_FIGURES` names.
pub fn report(access: Access, figures: &str) {
    let line = format!("{}: {figures}", access.name());
    println!("{line}");
    if let Some(path) = std::env::var_os("TASKBELL_FIGURES") {
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).open(path).expect("the file of the figures");
        writeln!(file, "{line}").expect("the file takes a line");
    }
}

/// How long the requests of a healthy client took.
#[derive(Debug, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    pub fn add(&mut self, taken: Duration) {
        self.0.push(taken);
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time within which this many percent of the requests were answered; 0 without a request.
    pub fn percentile(&mut self, percent: usize) -> Duration {
        self.0.sort_unstable();
        let at = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(at).copied().unwrap_or_default()
    }

    /// `N requests: p50 …, p99 …, longest …`, in milliseconds.
    pub fn text(&mut self) -> String {
        let [p50, p99, longest] = [50, 99, 100].map(|percent| self.percentile(percent).as_secs_f64() * 1000.0);
        format!("{} requests: p50 {p50:.1}, p99 {p99:.1}, longest {longest:.1} ms", self.count())
    }
}

/// A field of the memory of the server's process, like `VmRSS` or `VmHWM`, in KiB.
pub fn memory_kib(server: &Server, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect("the field");
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
}

/// What the server's process uses now, in MiB.
pub fn memory_mib(server: &Server) -> u64 {
    memory_kib(server, "VmRSS") / 1024
}

/// The most that the server's process has used so far, in MiB.
pub fn peak_mib(server: &Server) -> u64 {
    memory_kib(server, "VmHWM") / 1024
}
