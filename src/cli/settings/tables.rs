//! The settings of single kinds and queues: `[kind."image.build"]` and `[queue.imports]` in the file, `--kind` and
//! `--queue` on the command line.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use taskbell::event::CancelPolicy;
use taskbell::internal::{ATTEMPTS_MAX, TIMEOUT_MAX_S, is_name, is_reserved};
use taskbell::{KindPolicies, KindPolicy, Limits};

use super::{SettingsError, refuse};

/// The longest lease, and the longest rung of a ladder, in seconds: a day.
const SPAN_MAX_S: f64 = 86_400.0;
/// The shortest lease, in seconds: a worker sends at least three heartbeats in that time.
const LEASE_MIN_S: f64 = 0.3;

/// The settings of one kind.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct KindTable {
    #[serde(skip)]
    name: String,
    max_running: Option<u32>,
    lease_s: Option<f64>,
    ask_for_s: Option<f64>,
    interrupt_for_s: Option<f64>,
    max_attempts: Option<u32>,
    timeout_s: Option<u64>,
}

/// The settings of one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct QueueTable {
    #[serde(skip)]
    name: String,
    max_running: Option<u32>,
}

impl Eq for KindTable {}

/// Reads the `[kind.<name>]` tables of a file.
pub(super) fn kinds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<KindTable>>, D::Error> {
    let tables = BTreeMap::<String, KindTable>::deserialize(from)?;
    Ok(Some(tables.into_iter().map(|(name, table)| KindTable { name, ..table }).collect()))
}

/// Reads the `[queue.<name>]` tables of a file.
pub(super) fn queues<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<QueueTable>>, D::Error> {
    let tables = BTreeMap::<String, QueueTable>::deserialize(from)?;
    Ok(Some(tables.into_iter().map(|(name, table)| QueueTable { name, ..table }).collect()))
}

/// Reads `name:setting=value,…` as the table that a file would hold.
fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> Result<(String, T), String> {
    let (name, settings) = text.split_once(':').ok_or("a name, a colon and settings are needed")?;
    let lines: Vec<String> = settings.split(',').map(|setting| setting.replacen('=', " = ", 1)).collect();
    let table = toml::from_str(&lines.join("\n")).map_err(|error| error.message().to_owned())?;
    Ok((name.to_owned(), table))
}

impl FromStr for KindTable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).map(|(name, table)| Self { name, ..table })
    }
}

impl FromStr for QueueTable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).map(|(name, table)| Self { name, ..table })
    }
}

/// The policies and limits that these tables set.
///
/// # Errors
/// The first setting that can't be used.
pub(super) fn check(
    kinds: Vec<KindTable>,
    queues: Vec<QueueTable>,
    per_key: Option<u32>,
) -> Result<(KindPolicies, Limits), SettingsError> {
    let (mut policies, mut limits) = (HashMap::new(), Limits { per_key, ..Limits::default() });
    if per_key == Some(0) {
        return refuse("max_running_per_key", "0 would let nothing with a key run");
    }
    for kind in kinds {
        check_name("kind", &kind.name)?;
        limits.kinds.extend(kind.max_running.map(|most| (kind.name.clone(), most)));
        policies.insert(kind.name.clone(), kind.policy()?);
    }
    for queue in queues {
        check_name("queue", &queue.name)?;
        limits.queues.extend(queue.max_running.map(|most| (queue.name.clone(), most)));
    }
    if limits.kinds.values().chain(limits.queues.values()).any(|most| *most == 0) {
        return refuse("max_running", "0 would let nothing run; to hold a queue back, pause it");
    }
    Ok((KindPolicies::new(policies), limits))
}

fn check_name(setting: &'static str, name: &str) -> Result<(), SettingsError> {
    if is_name(name) && !is_reserved(name) {
        return Ok(());
    }
    refuse(setting, format!("{name:?} is no name: 1 to 64 of a-z, 0-9, '.', '_', '-', and not one of the server's own"))
}

impl KindTable {
    fn policy(&self) -> Result<KindPolicy, SettingsError> {
        let span = |setting, seconds: Option<f64>, least: f64| match seconds {
            None => Ok(None),
            Some(s) if (least..=SPAN_MAX_S).contains(&s) => Ok(Some(Duration::from_secs_f64(s))),
            Some(s) => refuse(setting, format!("{}: {s} is not within {least} to {SPAN_MAX_S} seconds", self.name)),
        };
        let ms = |span: Option<Duration>| span.and_then(|span| u64::try_from(span.as_millis()).ok());
        let lease = span("lease_s", self.lease_s, LEASE_MIN_S)?;
        let ask_for_ms = ms(span("ask_for_s", self.ask_for_s, 0.0)?);
        let interrupt_for_ms = ms(span("interrupt_for_s", self.interrupt_for_s, 0.0)?);
        if self.max_attempts.is_some_and(|most| !(1..=ATTEMPTS_MAX).contains(&most)) {
            return refuse("max_attempts", format!("{}: 1 to {ATTEMPTS_MAX}", self.name));
        }
        if self.timeout_s.is_some_and(|bound| !(1..=TIMEOUT_MAX_S).contains(&bound)) {
            return refuse("timeout_s", format!("{}: 1 to {TIMEOUT_MAX_S} seconds", self.name));
        }
        let cancel = CancelPolicy { ask_for_ms, interrupt_for_ms };
        Ok(KindPolicy {
            lease,
            cancel: (cancel != CancelPolicy::default()).then_some(cancel),
            max_attempts: self.max_attempts,
            timeout_s: self.timeout_s,
        })
    }
}
