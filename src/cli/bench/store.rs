//! The flag `--store` of `taskbell bench`: where the measured servers store their log.

use std::str::FromStr;

use clap::ValueEnum as _;

use crate::cli::settings::EmbeddedStore;

/// Where the measured servers store their log.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum BenchStore {
    /// Each server has its own log.
    Embedded(EmbeddedStore),
    /// All servers use the log in the cluster at this address. The address may contain a password.
    Cluster(String),
}

impl FromStr for BenchStore {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match EmbeddedStore::from_str(text, false) {
            Ok(kind) => Ok(Self::Embedded(kind)),
            Err(_) if text.contains("://") => Ok(Self::Cluster(text.to_owned())),
            Err(_) => Err("must be sqlite, memory, or the address of a cluster".to_owned()),
        }
    }
}

impl std::fmt::Debug for BenchStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Embedded(kind) => kind.name(),
            Self::Cluster(_) => "a cluster",
        })
    }
}

impl BenchStore {
    /// A text for people about how durable a write is when this store acknowledges it.
    pub(super) const fn durability(&self) -> &'static str {
        match self {
            Self::Embedded(EmbeddedStore::Sqlite) => "sqlite, WAL, synchronous=FULL: on disk before the response",
            Self::Embedded(EmbeddedStore::Memory) => "none: the log is in memory",
            Self::Cluster(_) => "as durable as the cluster makes an acknowledged write",
        }
    }
}

/// The address of the cluster, with another prefix for the names of the streams.
pub(super) fn with_prefix(url: &str, prefix: &str) -> String {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let other_pairs = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("prefix="));
    let pairs: Vec<&str> = other_pairs.collect();
    let prefix_pair = format!("prefix={prefix}");
    format!("{address}?{}", pairs.into_iter().chain([prefix_pair.as_str()]).collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_prefix_replaces_the_old_one_and_keeps_the_other_parameters() {
        assert_eq!(with_prefix("esdb://a:2113", "x"), "esdb://a:2113?prefix=x");
        assert_eq!(with_prefix("esdb://a?tls=false&prefix=p&k=v", "x"), "esdb://a?tls=false&k=v&prefix=x");
    }
}
