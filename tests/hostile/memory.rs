//! A limit on the memory of one process.

use std::fs;
use std::path::{Path, PathBuf};

/// A control group with one process. Dropping this value removes the group; the process must have ended before.
pub struct MemoryLimit(PathBuf);

impl MemoryLimit {
    /// Limits the process to so many MiB; `None` if this machine doesn't allow it. The kernel kills a process that needs more.
    pub fn of(pid: u32, mib: u64) -> Option<Self> {
        let name = format!("taskbell-hostile-{pid}");
        [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")]
            .into_iter()
            .find_map(|(root, file)| limit(&Path::new(root).join(&name), file, pid, mib))
    }
}

fn limit(group: &Path, file: &str, pid: u32, mib: u64) -> Option<MemoryLimit> {
    fs::create_dir(group).ok()?;
    // Only a folder of control groups has this file, and only where they limit memory.
    let group = MemoryLimit(group.to_owned());
    if !group.0.join(file).exists() {
        return None;
    }
    fs::write(group.0.join(file), (mib * 1024 * 1024).to_string()).ok()?;
    fs::write(group.0.join("cgroup.procs"), pid.to_string()).ok()?;
    Some(group)
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
