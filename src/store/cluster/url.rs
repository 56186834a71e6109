//! The address of a cluster, and how streams are named in its database.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use eventstore::{ClientSettings, NodePreference};

use super::index::Place;
use crate::store::StreamName;

/// The prefix of an address that names none.
const PREFIX: &str = "taskbell";
/// The keys that the client knows. It ignores any other, so that a misspelt one would go unnoticed.
const KEYS: [&str; 14] = [
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
/// DNS name stands for all nodes. The key `prefix` is Taskbell's own: installations with different prefixes share a
/// database. Its `Display` and `Debug` leave out the credentials.
#[derive(Clone)]
pub struct StoreUrl {
    pub(super) settings: ClientSettings,
    pub(super) names: Names,
    /// Where the database's log is read from; none: from its beginning. No event of this log may lie before.
    pub(super) start: Option<Place>,
    shown: String,
    /// As it was given, with the credentials.
    given: String,
}

#[cfg(any(feature = "testing", feature = "cli"))]
impl StoreUrl {
    pub(super) fn prefix(&self) -> &str {
        &self.names.prefix
    }

    /// The same database with another prefix, which must be valid.
    pub(super) fn with_prefix(&self, prefix: String) -> Self {
        Self { names: Names { prefix }, ..self.clone() }
    }

    /// The same log, of which no event lies at this place of the database's log or before.
    pub(super) fn after(self, start: Option<Place>) -> Self {
        Self { start, ..self }
    }
}

impl PartialEq for StoreUrl {
    fn eq(&self, other: &Self) -> bool {
        self.given == other.given
    }
}

impl Eq for StoreUrl {}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreUrl").field(&self.shown).finish()
    }
}

/// Why a text is no address of a cluster. The reason names no credentials.
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
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (credentials, hosts) = place.rsplit_once('@').unwrap_or(("", place));
        if hosts.is_empty() {
            return invalid("the address names no host");
        }
        let query = Query::parse(query)?;
        let names = Names::new(query.prefix.as_deref().unwrap_or(PREFIX))?;
        let settings = format!("{scheme}://{place}?{}", query.others).parse::<ClientSettings>();
        let settings = settings.map_err(|error| InvalidUrl(reason(&error, credentials)))?;
        if settings.max_discover_attempts() < 2 {
            return invalid("maxDiscoverAttempts must be at least 2: the client never connects with fewer");
        }
        if settings.node_preference() != NodePreference::Leader {
            return invalid("nodePreference must be leader: other nodes may not have the last events yet");
        }
        readable_certificates(&settings)?;
        let shown = format!("{scheme}://{hosts}?prefix={}", names.prefix);
        Ok(Self { settings, shown, names, start: None, given: text.to_owned() })
    }
}

/// The client's reason, without the address, which it quotes in full where it can't be parsed.
fn reason(error: &eventstore::ClientSettingsParseError, credentials: &str) -> String {
    match error.error() {
        Some(cause) => format!("the address can't be parsed: {cause}"),
        None if !credentials.is_empty() && error.message().contains(credentials) => "the address is invalid".to_owned(),
        None => error.message().to_owned(),
    }
}

struct Query {
    prefix: Option<String>,
    /// What is left for the client.
    others: String,
}

impl Query {
    fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let (mut prefix, mut others) = (None, Vec::new());
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = form_urlencoded::parse(pair.as_bytes()).next() else { continue };
            let known = key.to_lowercase();
            match known.as_str() {
                "prefix" => prefix = Some(value.into_owned()),
                known if KEYS.contains(&known) => others.push(pair),
                _ => return invalid(format!("the address has an unknown key {key:?}")),
            }
        }
        // By default the client waits 3 s for each unreachable node in turn, and 500 ms before it connects at all.
        for default in ["gossipTimeout=1000", "discoveryInterval=20"] {
            let key = default.split('=').next().unwrap_or_default().to_lowercase();
            if !text.to_lowercase().contains(&format!("{key}=")) {
                others.push(default);
            }
        }
        Ok(Self { prefix, others: others.join("&") })
    }
}

/// The client panics where it can't read a certificate, and it reads those of the system even without TLS.
fn readable_certificates(settings: &ClientSettings) -> Result<(), InvalidUrl> {
    let holds = |what: &str, path: &str, marker: &str| match std::fs::read_to_string(Path::new(path)) {
        Ok(text) if text.contains(marker) => Ok(()),
        Ok(_) => invalid(format!("{what} {path} holds no {marker:?}")),
        Err(error) => invalid(format!("{what} {path} can't be read: {error}")),
    };
    if let Some(path) = settings.tls_ca_file() {
        holds("tlsCaFile", path, "BEGIN CERTIFICATE")?;
    } else if let Some(path) = std::env::var_os("SSL_CERT_FILE") {
        holds("SSL_CERT_FILE", &path.to_string_lossy(), "BEGIN")?;
    }
    if let Some((certificate, key)) = settings.user_certificate() {
        holds("userCertFile", certificate, "BEGIN CERTIFICATE")?;
        holds("userKeyFile", key, "PRIVATE KEY")?;
    }
    Ok(())
}

/// How the streams of one installation are named in the database: `<prefix>.task-<uuid>`, and `<prefix>_aux.<name>` for
/// those that are not part of the log and so have no positions.
#[derive(Clone)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    fn new(prefix: &str) -> Result<Self, InvalidUrl> {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(is_word) || prefix.ends_with("_aux") {
            return invalid("prefix must be 1 to 64 letters, digits or '_', and not end in \"_aux\"");
        }
        Ok(Self { prefix: prefix.to_owned() })
    }

    pub(super) fn in_database(&self, stream: &StreamName) -> String {
        format!("{}.{stream}", self.prefix)
    }

    /// A stream beside the log.
    pub(super) fn beside(&self, name: &str) -> String {
        format!("{}_aux.{name}", self.prefix)
    }

    /// The name as Taskbell shows it; none where the stream belongs to something else.
    pub(super) fn shown<'a>(&self, in_database: &'a str) -> Option<&'a str> {
        in_database.strip_prefix(self.prefix.as_str())?.strip_prefix('.')
    }

    /// The stream of the log that this metadata stream of the database describes.
    pub(super) fn described<'a>(&self, in_database: &'a str) -> Option<&'a str> {
        self.shown(in_database.strip_prefix("$$")?)
    }

    /// What the names of all streams of the log begin with, and those of their metadata streams.
    pub(super) fn filters(&self) -> [String; 2] {
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
    fn the_prefix_is_taken_out_and_the_rest_is_left_to_the_client() {
        let url = parse("esdb://a:1113,b:2114,c:2115?tls=false&Prefix=shop_1&defaultDeadline=2000").unwrap();
        let hosts: Vec<_> = url.settings.hosts().iter().map(|host| (host.host.as_str(), host.port)).collect();
        assert_eq!(hosts, [("a", 1113), ("b", 2114), ("c", 2115)]);
        assert!(!url.settings.is_secure_mode_enabled());
        assert_eq!(url.to_string(), "esdb://a:1113,b:2114,c:2115?prefix=shop_1");
        assert_eq!(url.names.beside("epoch"), "shop_1_aux.epoch");
        let discover = parse("esdb+discover://nodes.example:2113?tls=false").unwrap();
        assert!(discover.settings.is_dns_discovery_enabled());
        assert_eq!(discover.to_string(), "esdb+discover://nodes.example:2113?prefix=taskbell");
    }

    #[test]
    fn a_stream_is_shown_without_the_prefix_and_only_where_it_is_the_own_one() {
        let names = Names::new("shop").unwrap();
        let stream = StreamName::queue("mail");
        assert_eq!(names.in_database(&stream), "shop.queue-mail");
        assert_eq!(names.shown("shop.queue-mail"), Some("queue-mail"));
        assert_eq!(names.described("$$shop.queue-mail"), Some("queue-mail"));
        for foreign in ["shop2.queue-mail", "queue-mail", "shop_aux.epoch", "$$shop2.queue-mail"] {
            assert_eq!((names.shown(foreign), names.described(foreign)), (None, None), "{foreign}");
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
