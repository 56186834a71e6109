//! Where the servers that are measured keep their log.

use std::str::FromStr;

use clap::ValueEnum as _;

use crate::cli::settings::StoreKind;

/// Where the servers that are measured keep their log.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum LogPlace {
    /// Each server has its own.
    Own(StoreKind),
    /// In a database that they share. The address may hold a password.
    Shared(String),
}

impl FromStr for LogPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match StoreKind::from_str(text, false) {
            Ok(kind) => Ok(Self::Own(kind)),
            Err(_) if text.contains("://") => Ok(Self::Shared(text.to_owned())),
            Err(_) => Err("sqlite, memory, or the address of a cluster is needed".to_owned()),
        }
    }
}

impl std::fmt::Debug for LogPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Own(kind) => kind.name(),
            Self::Shared(_) => "a cluster",
        })
    }
}

impl LogPlace {
    /// What is durable when this log acknowledges a write.
    pub(super) const fn durability(&self) -> &'static str {
        match self {
            Self::Own(StoreKind::Sqlite) => "sqlite, WAL, synchronous=FULL: on disk before the answer",
            Self::Own(StoreKind::Memory) => "none: the log is in memory",
            Self::Shared(_) => "the cluster's: what it acknowledges",
        }
    }
}

/// The address with another prefix for the names of the streams.
pub(super) fn with_prefix(url: &str, prefix: &str) -> String {
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let others = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("prefix="));
    let pairs: Vec<&str> = others.collect();
    let own = format!("prefix={prefix}");
    format!("{place}?{}", pairs.into_iter().chain([own.as_str()]).collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_replaces_the_one_that_was_there_and_leaves_the_rest() {
        assert_eq!(with_prefix("esdb://a:2113", "x"), "esdb://a:2113?prefix=x");
        assert_eq!(with_prefix("esdb://a?tls=false&prefix=p&k=v", "x"), "esdb://a?tls=false&k=v&prefix=x");
    }
}
