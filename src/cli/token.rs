//! `taskbell token`: creates, lists and revokes API tokens.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
#[cfg(feature = "eventstore")]
use taskbell::internal::create_token_on_cluster;
use taskbell::internal::{
    OfflineToken, OfflineTokenError, Role, TokenRequest, create_token_offline, is_subject, json_value,
};
use taskbell::{OpenError, Timestamp};
#[cfg(feature = "eventstore")]
use taskbell::{Secret, StoreUrl};
use uuid::Uuid;

use super::client::ConnectionArgs;
use super::command_error::CommandError;
use super::console::{self, text_field, time_field};
#[cfg(feature = "eventstore")]
use super::log_import::parse_store_url;
#[cfg(feature = "eventstore")]
use super::settings::cluster_of_server;

#[cfg(feature = "eventstore")]
const CLUSTER_HELP: &str = "Cluster of the servers, like esdb://db1,db2,db3: create the token in its log, also while they run. \
    Without URL: the cluster of TASKBELL_STORE or of the settings file, which `ps` doesn't show";

/// Creates, lists and revokes API tokens.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Create a token, and print it; it can't be shown again
    Create(Create),
    /// List the tokens, the newest first
    List(List),
    /// Revoke a token: what it has opened ends within a second
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub struct Create {
    /// What the token may do: user, operator, auditor, worker, admin
    #[arg(long, value_parser = PossibleValuesParser::new(Role::ALL.map(Role::name)), hide_possible_values = true)]
    role: String,
    /// The person or program that uses the token: the actor of its requests and the owner of its tasks
    #[arg(long, value_name = "NAME")]
    subject: String,
    /// With the role worker: take only tasks of this kind; may be repeated [default: all kinds]
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// When the token expires: a time (RFC 3339), or a duration like 90d, 12h, 30m or 45s [default: never]
    #[arg(long, value_name = "TIME")]
    expires: Option<Expiry>,
    /// Data folder of a stopped server: create the token in its log, without a server
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[cfg(feature = "eventstore")]
    #[command(flatten)]
    cluster: ClusterArgs,
    #[arg(skip)]
    connection: ConnectionArgs,
}

/// The cluster in whose log a token is created.
#[cfg(feature = "eventstore")]
#[derive(Debug, Args)]
struct ClusterArgs {
    /// Empty without URL. A secret, because an address may contain a password.
    #[arg(
        long,
        value_name = "URL",
        num_args = 0..=1,
        default_missing_value = "",
        conflicts_with = "data",
        help = CLUSTER_HELP
    )]
    store: Option<Secret>,
    /// With --store without URL: the settings file of the servers [default: the one that `serve` reads]
    #[arg(long, value_name = "FILE", requires = "store")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct List {
    /// Number of tokens [default: 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: Option<u16>,
    /// Cursor of the next page, from the output of the previous command
    #[arg(long)]
    cursor: Option<String>,
    #[arg(skip)]
    connection: ConnectionArgs,
}

#[derive(Debug, Args)]
pub struct Revoke {
    /// Id of the token
    id: Uuid,
    /// Reason, recorded in the log
    #[arg(long)]
    reason: Option<String>,
    #[arg(skip)]
    connection: ConnectionArgs,
}

/// When a token expires, as the command line says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    At(Timestamp),
    In(Duration),
}

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("d", 24 * 3600), ("h", 3600), ("m", 60), ("s", 1)];
        let parse_in = |(suffix, seconds): (&str, u64)| {
            let count: u64 = text.strip_suffix(suffix)?.parse().ok()?;
            Some(Duration::from_secs(count.checked_mul(seconds)?))
        };
        if let Some(duration) = units.into_iter().find_map(parse_in) {
            return Ok(Self::In(duration));
        }
        text.parse().map(Self::At).map_err(|_| "must be like 90d, 12h, 30m, 45s or 2027-01-31T00:00:00Z".to_owned())
    }
}

impl Token {
    pub(super) const fn connection(&mut self) -> &mut ConnectionArgs {
        match self {
            Self::Create(create) => &mut create.connection,
            Self::List(list) => &mut list.connection,
            Self::Revoke(revoke) => &mut revoke.connection,
        }
    }

    pub(super) async fn run(self) -> Result<(), CommandError> {
        match self {
            Self::Create(create) => create.run().await,
            Self::List(list) => list.run().await,
            Self::Revoke(revoke) => revoke.run().await,
        }
    }
}

impl Create {
    async fn run(self) -> Result<(), CommandError> {
        let text = match self.create_in_log().await? {
            Some(created) => created.document.get().to_owned(),
            None => self.connection.client()?.post("/v1/tokens", &self.body()).await?.text,
        };
        if self.connection.json {
            return console::print_json(&text);
        }
        let token = json_value(&text).map_err(|error| CommandError::failed(format!("not JSON: {error}")))?;
        console::print_line(&text_field(&token, "token"))?;
        // On a pipe the token is printed alone.
        if std::io::stdout().is_terminal() {
            let id = text_field(&token, "id");
            console::print_to_stderr(&format!(
                "Keep it now: it can't be shown again. To revoke it: taskbell token revoke {id}"
            ));
        }
        Ok(())
    }

    /// The body of the request. It omits each field that the command line doesn't set.
    fn body(&self) -> Value {
        let mut body = json!({"role": self.role, "subject": self.subject});
        if !self.kinds.is_empty() {
            body["kinds"] = json!(self.kinds);
        }
        match self.expires {
            Some(Expiry::At(at)) => body["expires_at"] = json!(at),
            Some(Expiry::In(duration)) => body["expires_in_s"] = json!(duration.as_secs()),
            None => {}
        }
        body
    }

    /// Creates the token in the log that the command line names; `None` if it names none.
    async fn create_in_log(&self) -> Result<Option<OfflineToken>, CommandError> {
        #[cfg(feature = "eventstore")]
        if let Some(url) = self.cluster.url()? {
            let place = url.to_string();
            let created = create_token_on_cluster(url, self.request()?, &user_name()).await;
            return created.map(Some).map_err(|error| failure(&error, &place));
        }
        let Some(data) = &self.data else { return Ok(None) };
        let created = create_token_offline(data, self.request()?, &user_name()).await;
        created.map(Some).map_err(|error| failure(&error, &data.display().to_string()))
    }

    fn request(&self) -> Result<TokenRequest, CommandError> {
        let role = Role::from_name(&self.role).ok_or_else(|| CommandError::usage("--role: not a role"))?;
        let kinds = (!self.kinds.is_empty()).then(|| self.kinds.clone());
        let expires_at = self.expires.map(|expiry| match expiry {
            Expiry::At(at) => at,
            Expiry::In(duration) => taskbell::internal::now().plus(duration),
        });
        Ok(TokenRequest { subject: self.subject.clone(), role, kinds, expires_at })
    }
}

#[cfg(feature = "eventstore")]
impl ClusterArgs {
    /// The cluster that the flags name; `None` without --store.
    fn url(&self) -> Result<Option<StoreUrl>, CommandError> {
        match self.store.as_ref().map(Secret::reveal) {
            None => Ok(None),
            Some("") => {
                cluster_of_server(self.config.clone()).map(Some).map_err(|error| CommandError::usage(error.to_string()))
            }
            Some(url) => parse_store_url("--store", url).map(Some),
        }
    }
}

/// The error of a command that has created no token in a log. `place`: the data folder, or the address of the cluster.
fn failure(error: &OfflineTokenError, place: &str) -> CommandError {
    let sentence = error.to_string();
    match error {
        OfflineTokenError::Open(OpenError::Locked(_)) => CommandError::refused(format!(
            "a server uses the data folder {place}: stop it, or create the token without --data, with an admin's token"
        )),
        OfflineTokenError::Open(_) | OfflineTokenError::Rejected(_) => CommandError::failed(sentence),
        OfflineTokenError::Refused(_) => CommandError::refused(sentence),
        OfflineTokenError::Unreachable(_) => CommandError::unreachable(format!("{place}: {sentence}")),
        OfflineTokenError::Append(error) if error.is_transient() => {
            CommandError::unreachable(format!("{place}: {sentence}"))
        }
        OfflineTokenError::Append(_) | OfflineTokenError::Read(_) => {
            CommandError::failed(format!("{place}: {sentence}"))
        }
    }
}

/// The name of the user who runs this program; `cli` if the environment has none that can be an actor.
fn user_name() -> String {
    let names = ["USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
    names.into_iter().find(|name| is_subject(name)).unwrap_or_else(|| "cli".to_owned())
}

impl List {
    async fn run(self) -> Result<(), CommandError> {
        let limit = self.limit.map(|limit| ("limit", limit.to_string()));
        let query: Vec<_> = limit.into_iter().chain(self.cursor.map(|cursor| ("cursor", cursor))).collect();
        let response = self.connection.client()?.get("/v1/tokens", &query).await?;
        if self.connection.json {
            return console::print_json(&response.text);
        }
        let items = response.body["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        for token in items {
            console::print_line(&describe(token))?;
        }
        let more = match response.body["next"].as_str() {
            Some(next) => format!("; next page: --cursor {}", console::escape(next)),
            None => String::new(),
        };
        console::print_line(&format!("{} of {} tokens{more}", items.len(), text_field(&response.body, "total")))
    }
}

/// One line about a token.
fn describe(token: &Value) -> String {
    let [id, role, subject] = ["id", "role", "subject"].map(|field| text_field(token, field));
    let phrase = |field: &str, words: &str| {
        let time = time_field(token, field);
        (!time.is_empty()).then(|| format!("{words} {time}"))
    };
    let kinds: Vec<&str> = token["kinds"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let kinds = (!kinds.is_empty()).then(|| console::escape(&format!("kinds {}", kinds.join(", "))));
    let parts =
        [kinds, phrase("revoked_at", "revoked"), phrase("expires_at", "expires"), phrase("last_used_at", "last used")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("{id}  {role:<8}  {subject}  {}", parts.join(", ")).trim_end().to_owned()
}

impl Revoke {
    async fn run(self) -> Result<(), CommandError> {
        let body = self.reason.map_or_else(|| json!({}), |reason| json!({"reason": reason}));
        self.connection.client()?.delete(&format!("/v1/tokens/{}", self.id), &body).await?;
        let (id, json) = (self.id, self.connection.json);
        console::print_line(&if json {
            json!({"id": id, "revoked": true}).to_string()
        } else {
            format!("{id}  revoked")
        })
    }
}
