//! The settings of single kinds and queues: `[kind."image.build"]` and `[queue.imports]` in the file, `--kind` and
//! `--queue` on the command line.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use taskbell::event::CancelLadder;
use taskbell::internal::{ATTEMPTS_MAX, TIMEOUT_MAX_S, is_name, is_reserved};
use taskbell::{KindPolicies, KindPolicy, Limits};

use super::{SettingsError, invalid};

/// The longest lease, and the longest rung of a cancel ladder, in seconds: one day.
const DURATION_MAX_S: f64 = 86_400.0;
/// The shortest lease, in seconds. A worker sends at least three heartbeats in the time of a lease.
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
pub(super) fn deserialize_kinds<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<KindTable>>, D::Error> {
    let tables = BTreeMap::<String, KindTable>::deserialize(deserializer)?;
    Ok(Some(tables.into_iter().map(|(name, table)| KindTable { name, ..table }).collect()))
}

/// Reads the `[queue.<name>]` tables of a file.
pub(super) fn deserialize_queues<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<QueueTable>>, D::Error> {
    let tables = BTreeMap::<String, QueueTable>::deserialize(deserializer)?;
    Ok(Some(tables.into_iter().map(|(name, table)| QueueTable { name, ..table }).collect()))
}

/// Parses `name:setting=value,…` into the name and the table of the settings, by the rules of the settings file.
fn parse_named_table<T: for<'de> Deserialize<'de>>(text: &str) -> Result<(String, T), String> {
    let (name, settings) = text.split_once(':').ok_or("must be a name, a colon and settings")?;
    let lines: Vec<String> = settings.split(',').map(|setting| setting.replacen('=', " = ", 1)).collect();
    let table = toml::from_str(&lines.join("\n")).map_err(|error| error.message().to_owned())?;
    Ok((name.to_owned(), table))
}

impl FromStr for KindTable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_named_table(text).map(|(name, table)| Self { name, ..table })
    }
}

impl FromStr for QueueTable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_named_table(text).map(|(name, table)| Self { name, ..table })
    }
}

/// Checks the tables and returns the policies and limits that they set. `per_key` is the setting `max_running_per_key`.
///
/// # Errors
/// The first invalid setting.
pub(super) fn policies_and_limits(
    kinds: Vec<KindTable>,
    queues: Vec<QueueTable>,
    per_key: Option<u32>,
) -> Result<(KindPolicies, Limits), SettingsError> {
    let (mut policies, mut limits) = (HashMap::new(), Limits { per_key, ..Limits::default() });
    if per_key == Some(0) {
        return invalid("max_running_per_key", "must be at least 1");
    }
    for kind in kinds {
        check_name("kind", &kind.name)?;
        limits.kinds.extend(kind.max_running.map(|limit| (kind.name.clone(), limit)));
        policies.insert(kind.name.clone(), kind.policy()?);
    }
    for queue in queues {
        check_name("queue", &queue.name)?;
        limits.queues.extend(queue.max_running.map(|limit| (queue.name.clone(), limit)));
    }
    if limits.kinds.values().chain(limits.queues.values()).any(|limit| *limit == 0) {
        return invalid("max_running", "must be at least 1; to stop a queue for some time, pause it");
    }
    Ok((KindPolicies::new(policies), limits))
}

fn check_name(setting: &'static str, name: &str) -> Result<(), SettingsError> {
    if is_name(name) && !is_reserved(name) {
        return Ok(());
    }
    invalid(
        setting,
        format!("{name:?} is not a valid name (1 to 64 of the characters a-z, 0-9, '.', '_', '-'), or is reserved"),
    )
}

impl KindTable {
    /// Checks the settings of the kind and returns them as a policy.
    fn policy(&self) -> Result<KindPolicy, SettingsError> {
        let checked_duration = |setting, seconds: Option<f64>, min: f64| match seconds {
            None => Ok(None),
            Some(s) if (min..=DURATION_MAX_S).contains(&s) => Ok(Some(Duration::from_secs_f64(s))),
            Some(s) => invalid(setting, format!("{}: {s} is not within {min} to {DURATION_MAX_S} seconds", self.name)),
        };
        let ms = |duration: Option<Duration>| duration.and_then(|duration| u64::try_from(duration.as_millis()).ok());
        let lease = checked_duration("lease_s", self.lease_s, LEASE_MIN_S)?;
        let ask_for_ms = ms(checked_duration("ask_for_s", self.ask_for_s, 0.0)?);
        let interrupt_for_ms = ms(checked_duration("interrupt_for_s", self.interrupt_for_s, 0.0)?);
        if self.max_attempts.is_some_and(|attempts| !(1..=ATTEMPTS_MAX).contains(&attempts)) {
            return invalid("max_attempts", format!("{}: must be within 1 to {ATTEMPTS_MAX}", self.name));
        }
        if self.timeout_s.is_some_and(|seconds| !(1..=TIMEOUT_MAX_S).contains(&seconds)) {
            return invalid("timeout_s", format!("{}: must be within 1 to {TIMEOUT_MAX_S} seconds", self.name));
        }
        let cancel = CancelLadder { ask_for_ms, interrupt_for_ms };
        Ok(KindPolicy {
            lease,
            cancel: (cancel != CancelLadder::default()).then_some(cancel),
            max_attempts: self.max_attempts,
            timeout_s: self.timeout_s,
        })
    }
}
