//! `taskbell store check`: whether a cluster does what Taskbell relies on.

use clap::{Args, Subcommand};
use serde_json::json;
use taskbell::internal::store_check::{Finding, LeftStreams, check};

use super::client::Connect;
use super::failure::Failure;
use super::log_import::parsed;
use super::out;

const CLUSTER: &str =
    "The cluster, like esdb://db1,db2,db3; the checks use names of their own beside those of its prefix";

/// Looks after a cluster.
#[derive(Debug, Subcommand)]
pub enum Store {
    /// Check that a cluster does what Taskbell relies on; writes about 4,500 small events to it
    Check(Check),
}

/// Checks a cluster.
#[derive(Debug, Args)]
pub struct Check {
    #[arg(long, env = "TASKBELL_STORE", hide_env_values = true, value_name = "URL", help = CLUSTER)]
    store: String,
    #[arg(skip)]
    connect: Connect,
}

impl Store {
    pub(super) const fn connect(&mut self) -> &mut Connect {
        match self {
            Self::Check(check) => &mut check.connect,
        }
    }

    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Check(check) => check.run().await,
        }
    }
}

impl Check {
    async fn run(self) -> Result<(), Failure> {
        let Self { store, connect } = self;
        let store = parsed("--store", &store)?;
        let (mut findings, mut printed) = (Vec::new(), Ok(()));
        if !connect.json {
            out::line(&row("operation", "needed", "time", "seen"))?;
        }
        let mut report = |finding| {
            if !connect.json && printed.is_ok() {
                printed = out::line(&shown(&finding));
            }
            findings.push(finding);
        };
        let left = check(&store, &mut report).await;
        let left = left.map_err(|why| Failure::unreachable(format!("{store}: {why}")))?;
        printed?;
        let failed = findings.iter().filter(|finding| finding.seen.is_err()).count();
        if connect.json {
            out::json(&answer(&findings, &left).to_string())?;
        } else {
            let verdict = if failed == 0 { "all hold".to_owned() } else { format!("{failed} do not hold") };
            out::line(&format!("{} checks, {verdict}", findings.len()))?;
            out::line(&rest(&left))?;
        }
        if failed == 0 { Ok(()) } else { Err(Failure::printed()) }
    }
}

fn row(operation: &str, needed: &str, time: &str, seen: &str) -> String {
    format!("{operation:<15}  {needed:<79}  {time:>9}  {seen}")
}

fn shown(finding: &Finding) -> String {
    let Finding { operation, needed, seen, took } = finding;
    let seen = match seen {
        Ok(seen) => seen.clone(),
        Err(seen) => format!("FAILED: {seen}"),
    };
    row(operation, needed, &format!("{} ms", out::thousands(millis(*took))), &out::escape(&seen))
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What is left in the database.
fn rest(left: &LeftStreams) -> String {
    let LeftStreams { prefix, streams, events, failure } = left;
    let (streams, events) = (out::thousands(streams.len() as u64), out::thousands(*events));
    let made = format!("left behind: {streams} streams with {events} events, whose names begin with {prefix}");
    match failure {
        None => format!("{made}; they are soft-deleted, and a scavenge removes all but the last event of each"),
        Some(why) => format!("{made}; not all are soft-deleted: {}", out::escape(why)),
    }
}

fn answer(findings: &[Finding], left: &LeftStreams) -> serde_json::Value {
    let checks: Vec<_> = findings
        .iter()
        .map(|Finding { operation, needed, seen, took }| {
            let (holds, seen) = match seen {
                Ok(seen) => (true, seen),
                Err(seen) => (false, seen),
            };
            json!({"operation": operation, "needed": needed, "holds": holds, "seen": seen, "time_ms": millis(*took)})
        })
        .collect();
    let LeftStreams { prefix, streams, events, failure } = left;
    json!({
        "holds": findings.iter().all(|finding| finding.seen.is_ok()),
        "checks": checks,
        "left": {"prefix": prefix, "streams": streams, "events": events, "failure": failure},
    })
}
