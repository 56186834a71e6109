//! `taskbell store check`: checks that a cluster behaves as Taskbell needs.

use clap::{Args, Subcommand};
use serde_json::json;
use taskbell::internal::store_check::{Finding, LeftoverStreams, check};

use super::client::ConnectionArgs;
use super::command_error::CommandError;
use super::console;
use super::log_import::parse_store_url;

const CLUSTER_HELP: &str =
    "The cluster, like esdb://db1,db2,db3; the checks write only streams whose names begin with `<prefix>check`";

/// Checks a cluster.
#[derive(Debug, Subcommand)]
pub enum Store {
    /// Check that a cluster does what Taskbell relies on; writes about 4,500 small events to it
    Check(Check),
}

/// Checks a cluster.
#[derive(Debug, Args)]
pub struct Check {
    #[arg(long, env = "TASKBELL_STORE", hide_env_values = true, value_name = "URL", help = CLUSTER_HELP)]
    store: String,
    #[arg(skip)]
    connection: ConnectionArgs,
}

impl Store {
    pub(super) const fn connection(&mut self) -> &mut ConnectionArgs {
        match self {
            Self::Check(check) => &mut check.connection,
        }
    }

    pub(super) async fn run(self) -> Result<(), CommandError> {
        match self {
            Self::Check(check) => check.run().await,
        }
    }
}

impl Check {
    async fn run(self) -> Result<(), CommandError> {
        let Self { store, connection } = self;
        let store = parse_store_url("--store", &store)?;
        let (mut findings, mut print_result) = (Vec::new(), Ok(()));
        if !connection.json {
            console::print_line(&table_row("operation", "expected", "time", "observed"))?;
        }
        let mut report = |finding| {
            if !connection.json && print_result.is_ok() {
                print_result = console::print_line(&finding_row(&finding));
            }
            findings.push(finding);
        };
        let leftovers = check(&store, &mut report).await;
        let leftovers = leftovers.map_err(|why| CommandError::unreachable(format!("{store}: {why}")))?;
        print_result?;
        let failed = findings.iter().filter(|finding| finding.observed.is_err()).count();
        if connection.json {
            console::print_json(&json_report(&findings, &leftovers).to_string())?;
        } else {
            let verdict = if failed == 0 { "all hold".to_owned() } else { format!("{failed} do not hold") };
            console::print_line(&format!("{} checks, {verdict}", findings.len()))?;
            console::print_line(&leftovers_line(&leftovers))?;
        }
        if failed == 0 { Ok(()) } else { Err(CommandError::already_printed()) }
    }
}

fn table_row(operation: &str, expected: &str, time: &str, observed: &str) -> String {
    format!("{operation:<15}  {expected:<82}  {time:>9}  {observed}")
}

fn finding_row(finding: &Finding) -> String {
    let Finding { operation, expected, observed, took } = finding;
    let observed = match observed {
        Ok(observed) => observed.clone(),
        Err(observed) => format!("FAILED: {observed}"),
    };
    table_row(operation, expected, &format!("{} ms", console::format_count(millis(*took))), &console::escape(&observed))
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One line about the streams that the checks leave in the database.
fn leftovers_line(leftovers: &LeftoverStreams) -> String {
    let LeftoverStreams { prefix, streams, events, failure } = leftovers;
    let (streams, events) = (console::format_count(streams.len() as u64), console::format_count(*events));
    let description = format!("left behind: {streams} streams with {events} events, whose names begin with {prefix}");
    match failure {
        None => format!("{description}; they are soft-deleted, and a scavenge removes all but the last event of each"),
        Some(why) => format!("{description}; not all are soft-deleted: {}", console::escape(why)),
    }
}

/// What `--json` prints.
fn json_report(findings: &[Finding], leftovers: &LeftoverStreams) -> serde_json::Value {
    let checks: Vec<_> = findings
        .iter()
        .map(|Finding { operation, expected, observed, took }| {
            let (holds, observed) = match observed {
                Ok(observed) => (true, observed),
                Err(observed) => (false, observed),
            };
            json!({"operation": operation, "needed": expected, "holds": holds, "seen": observed, "time_ms": millis(*took)})
        })
        .collect();
    let LeftoverStreams { prefix, streams, events, failure } = leftovers;
    json!({
        "holds": findings.iter().all(|finding| finding.observed.is_ok()),
        "checks": checks,
        "left": {"prefix": prefix, "streams": streams, "events": events, "failure": failure},
    })
}
