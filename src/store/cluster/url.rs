//! The address of a cluster, and how streams are named in its database.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use eventstore::{ClientSettings, NodePreference};

use super::index::DatabasePosition;
use crate::secret::Secret;
use crate::store::StreamName;

/// The prefix of an address without the key `prefix`.
const DEFAULT_PREFIX: &str = "taskbell";
/// The keys that an address may have, in lower case. The client ignores unknown keys, so `StoreUrl` refuses them: otherwise
/// a misspelt key would have no effect and no error.
const KNOWN_KEYS: [&str; 14] = [
    "tls",
    "tlsverifycert",
    "tlscafile",
    "usercertfile",
    "userkeyfile",
    "nodepreference",
    "maxdiscoverattempts",
    "discoveryinterval",
    "gossiptimeout",
    "keepaliveinterval",
    "keepalivetimeout",
    "defaultdeadline",
    "connectionname",
    "prefix",
];

/// The address of a cluster: `esdb://[user:password@]host[:2113][,host…][?key=value&…]`, or `esdb+discover://…` where one
/// DNS name stands for all nodes. The client doesn't know the key `prefix`: Taskbell uses it so that installations with
/// different prefixes can share a database. `Display` and `Debug` leave out the credentials.
///
/// The client of the database installs the process's default crypto provider of `rustls`. A program that embeds Taskbell
/// can't use a cluster if it has already installed another provider.
#[derive(Clone)]
pub struct StoreUrl {
    pub(super) settings: ClientSettings,
    pub(super) names: StreamNames,
    /// The database's log is read after this position; `None`: from its beginning. All events of this log must come later.
    pub(super) read_after: Option<DatabasePosition>,
    /// The address without credentials.
    redacted: String,
    /// The address as the operator has written it, with the credentials.
    original: Secret,
}

#[cfg(any(feature = "testing", feature = "cli"))]
impl StoreUrl {
    pub(super) fn prefix(&self) -> &str {
        &self.names.prefix
    }

    /// The same database with another prefix, which must be valid.
    pub(super) fn with_prefix(&self, prefix: String) -> Self {
        Self { names: StreamNames { prefix }, ..self.clone() }
    }

    /// The same log, read after this position of the database's log. All events of the log must come later.
    pub(super) fn read_after(self, position: Option<DatabasePosition>) -> Self {
        Self { read_after: position, ..self }
    }
}

impl StoreUrl {
    /// The address as the operator has written it; `None` if it has credentials.
    pub(crate) fn without_credentials(&self) -> Option<&str> {
        let text = self.original.reveal();
        let authority = text.split_once('?').map_or(text, |(authority, _)| authority);
        (!authority.contains('@')).then_some(text)
    }
}

impl PartialEq for StoreUrl {
    fn eq(&self, other: &Self) -> bool {
        self.original == other.original
    }
}

impl Eq for StoreUrl {}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted)
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreUrl").field(&self.redacted).finish()
    }
}

/// Why a text is not the address of a cluster. The reason contains no credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidUrl(String);

fn invalid<T>(reason: impl Into<String>) -> Result<T, InvalidUrl> {
    Err(InvalidUrl(reason.into()))
}

impl FromStr for StoreUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        if !matches!(scheme, "esdb" | "esdb+discover") {
            return invalid("the address of a cluster begins with esdb:// or esdb+discover://");
        }
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        if hosts.is_empty() {
            return invalid("the address names no host");
        }
        let query = Query::parse(query)?;
        let names = StreamNames::new(query.prefix.as_deref().unwrap_or(DEFAULT_PREFIX))?;
        let settings = format!("{scheme}://{authority}?{}", query.others).parse::<ClientSettings>();
        let settings = settings.map_err(|error| InvalidUrl(parse_error_text(&error, credentials)))?;
        if settings.max_discover_attempts() < 2 {
            return invalid("maxDiscoverAttempts must be at least 2: the client never connects with fewer");
        }
        if settings.node_preference() != NodePreference::Leader {
            return invalid("nodePreference must be leader: other nodes may not have the last events yet");
        }
        check_certificates(&settings)?;
        let redacted = format!("{scheme}://{hosts}?prefix={}", names.prefix);
        Ok(Self { settings, redacted, names, read_after: None, original: Secret::from(text.to_owned()) })
    }
}

/// The client's reason why the address is invalid. The client's text may quote the whole address with its credentials; then
/// it is replaced.
fn parse_error_text(error: &eventstore::ClientSettingsParseError, credentials: &str) -> String {
    match error.error() {
        Some(cause) => format!("the address can't be parsed: {cause}"),
        None if !credentials.is_empty() && error.message().contains(credentials) => "the address is invalid".to_owned(),
        None => error.message().to_owned(),
    }
}

/// The part of an address after `?`.
struct Query {
    prefix: Option<String>,
    /// The other keys and their values, for the client.
    others: String,
}

impl Query {
    fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let (mut prefix, mut others) = (None, Vec::new());
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = form_urlencoded::parse(pair.as_bytes()).next() else { continue };
            let lower_case_key = key.to_lowercase();
            match lower_case_key.as_str() {
                "prefix" => prefix = Some(value.into_owned()),
                known if KNOWN_KEYS.contains(&known) => others.push(pair),
                _ => return invalid(format!("the address has an unknown key {key:?}")),
            }
        }
        // The client's own defaults are slow: it waits 3 s for each unreachable node, one after the other, and 500 ms before
        // it connects for the first time.
        for default in ["gossipTimeout=1000", "discoveryInterval=20"] {
            let key = default.split('=').next().unwrap_or_default().to_lowercase();
            if !text.to_lowercase().contains(&format!("{key}=")) {
                others.push(default);
            }
        }
        Ok(Self { prefix, others: others.join("&") })
    }
}

/// Checks that the certificates can be read, because the client panics if it can't read one. The client reads the system's
/// certificates even without TLS.
fn check_certificates(settings: &ClientSettings) -> Result<(), InvalidUrl> {
    let check_file = |what: &str, path: &str, marker: &str| match std::fs::read_to_string(Path::new(path)) {
        Ok(text) if text.contains(marker) => Ok(()),
        Ok(_) => invalid(format!("{what} {path} holds no {marker:?}")),
        Err(error) => invalid(format!("{what} {path} can't be read: {error}")),
    };
    if let Some(path) = settings.tls_ca_file() {
        check_file("tlsCaFile", path, "BEGIN CERTIFICATE")?;
    } else if let Some(path) = std::env::var_os("SSL_CERT_FILE") {
        check_file("SSL_CERT_FILE", &path.to_string_lossy(), "BEGIN")?;
    }
    if let Some((certificate, key)) = settings.user_certificate() {
        check_file("userCertFile", certificate, "BEGIN CERTIFICATE")?;
        check_file("userKeyFile", key, "PRIVATE KEY")?;
    }
    Ok(())
}

/// The names of the streams of one installation in the database. A stream of the log is named `<prefix>.<name>`, for example
/// `<prefix>.task-<uuid>`. An auxiliary stream is named `<prefix>_aux.<name>`.
#[derive(Clone)]
pub(super) struct StreamNames {
    prefix: String,
}

impl StreamNames {
    fn new(prefix: &str) -> Result<Self, InvalidUrl> {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(is_word) || prefix.ends_with("_aux") {
            return invalid("prefix must be 1 to 64 ASCII letters, digits or '_', and not end in \"_aux\"");
        }
        Ok(Self { prefix: prefix.to_owned() })
    }

    /// The name in the database of a stream of the log.
    pub(super) fn database_name(&self, stream: &StreamName) -> String {
        format!("{}.{stream}", self.prefix)
    }

    /// The name in the database of an auxiliary stream.
    pub(super) fn auxiliary_name(&self, name: &str) -> String {
        format!("{}_aux.{name}", self.prefix)
    }

    /// The name without the prefix; `None` if the stream is not a stream of this log.
    pub(super) fn log_name<'a>(&self, in_database: &'a str) -> Option<&'a str> {
        in_database.strip_prefix(self.prefix.as_str())?.strip_prefix('.')
    }

    /// If `in_database` is the metadata stream (`$$…`) of a stream of this log: the name of that stream, without the prefix.
    pub(super) fn owner_of_metadata_stream<'a>(&self, in_database: &'a str) -> Option<&'a str> {
        self.log_name(in_database.strip_prefix("$$")?)
    }

    /// The two prefixes with which the names of all streams of the log and of their metadata streams begin.
    pub(super) fn filter_prefixes(&self) -> [String; 2] {
        [format!("{}.", self.prefix), format!("$${}.", self.prefix)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<StoreUrl, String> {
        text.parse().map_err(|error: InvalidUrl| error.to_string())
    }

    fn refused(text: &str) -> String {
        parse(text).map(|url| format!("{url:?}")).unwrap_err()
    }

    #[test]
    fn the_prefix_is_removed_and_the_client_gets_the_other_keys() {
        let url = parse("esdb://a:1113,b:2114,c:2115?tls=false&Prefix=shop_1&defaultDeadline=2000").unwrap();
        let hosts: Vec<_> = url.settings.hosts().iter().map(|host| (host.host.as_str(), host.port)).collect();
        assert_eq!(hosts, [("a", 1113), ("b", 2114), ("c", 2115)]);
        assert!(!url.settings.is_secure_mode_enabled());
        assert_eq!(url.to_string(), "esdb://a:1113,b:2114,c:2115?prefix=shop_1");
        assert_eq!(url.names.auxiliary_name("epoch"), "shop_1_aux.epoch");
        let discover = parse("esdb+discover://nodes.example:2113?tls=false").unwrap();
        assert!(discover.settings.is_dns_discovery_enabled());
        assert_eq!(discover.to_string(), "esdb+discover://nodes.example:2113?prefix=taskbell");
    }

    #[test]
    fn the_prefix_is_removed_only_from_the_names_of_this_logs_streams() {
        let names = StreamNames::new("shop").unwrap();
        let stream = StreamName::queue("mail");
        assert_eq!(names.database_name(&stream), "shop.queue-mail");
        assert_eq!(names.log_name("shop.queue-mail"), Some("queue-mail"));
        assert_eq!(names.owner_of_metadata_stream("$$shop.queue-mail"), Some("queue-mail"));
        for foreign in ["shop2.queue-mail", "queue-mail", "shop_aux.epoch", "$$shop2.queue-mail"] {
            assert_eq!((names.log_name(foreign), names.owner_of_metadata_stream(foreign)), (None, None), "{foreign}");
        }
    }

    #[test]
    fn credentials_are_neither_shown_nor_named_in_an_error() {
        let url = parse("esdb://admin:s3cret@db:2113?tls=false").unwrap();
        let credentials = url.settings.default_authenticated_user();
        assert!(credentials.is_some());
        let shown = [format!("{url}"), format!("{url:?}")];
        let errors = [
            refused("esdb://admin:s3cret@db:port?tls=false"),
            refused("esdb://admin:s3cret@db:1,e:2:3?tls=false"),
            refused("esdb://admin:s3cret@db/path"),
            refused("esdb://admin:s3cret@db?tls=perhaps"),
            refused("esdb://admin:s3cret@"),
        ];
        for text in shown.iter().chain(&errors) {
            assert!(!text.contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn an_invalid_address_is_refused_with_its_reason() {
        for (text, reason) in [
            ("http://db:2113", "begins with esdb://"),
            ("db:2113", "begins with esdb://"),
            ("esdb://", "names no host"),
            ("esdb://db?prefix=a-b", "prefix must be"),
            ("esdb://db?prefix=a.b", "prefix must be"),
            ("esdb://db?prefix=", "prefix must be"),
            ("esdb://db?prefix=shop_aux", "prefix must be"),
            ("esdb://db?tsl=false", "unknown key \"tsl\""),
            ("esdb://db?maxDiscoverAttempts=1", "at least 2"),
            ("esdb://db?tlsCaFile=/nowhere/ca.pem", "tlsCaFile /nowhere/ca.pem can't be read"),
            ("esdb://db?tlsCaFile=/dev/null", "holds no"),
            ("esdb://db?nodePreference=any", "node preference"),
            ("esdb://db?nodePreference=follower", "must be leader"),
        ] {
            assert!(refused(text).contains(reason), "{text}: {}", refused(text));
        }
    }
}
