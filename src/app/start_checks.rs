//! What a server checks and says about its settings at its start: whether any client could use it.

#[cfg(feature = "eventstore")]
use super::Taskbell;
use super::{Options, StartError};
use crate::http::PublicAddress;
#[cfg(feature = "eventstore")]
use crate::store::StoreUrl;
use crate::store::now;
use crate::views::Views;

/// Refuses to start a server that would refuse every client: it requires authentication, and its log holds no valid token. A
/// server on a cluster is not checked here, because its views are empty at the start; see [`warn_without_token`].
pub(super) fn require_a_credential(options: &Options, views: &Views) -> Result<(), StartError> {
    if !needs_token(options) || views.credentials().has_valid_token(now()) {
        return Ok(());
    }
    Err(options.data.clone().map_or(StartError::NoTokenInMemory, StartError::NoToken))
}

/// Whether every client needs a token, or a session that was opened with one.
pub(super) const fn needs_token(options: &Options) -> bool {
    options.auth_required && !options.identity_sources.is_set()
}

/// Waits until the server has received the log of its cluster. Then it writes a warning if the log holds no valid token. The
/// server goes on: as soon as a token is created in the cluster, the server accepts it.
#[cfg(feature = "eventstore")]
pub(super) fn warn_without_token(taskbell: &Taskbell, cluster: StoreUrl) -> impl Future<Output = ()> + use<> {
    let (freshness, reader) = (taskbell.state.freshness.clone(), taskbell.state.reader.clone());
    async move {
        freshness.wait_until_caught_up().await;
        if !reader.views().credentials().has_valid_token(now()) {
            tracing::warn!(
                "authentication is required, and the log has no valid token: every request is refused until one is created: \
                 {}",
                command_on(&cluster)
            );
        }
    }
}

/// The command that creates the first token in this cluster. It contains no password.
#[cfg(feature = "eventstore")]
fn command_on(cluster: &StoreUrl) -> String {
    let (url, hint) = match cluster.without_credentials() {
        Some(url) => (format!(" {}", shell_word(url)), ""),
        None => (String::new(), ", with the TASKBELL_STORE or the settings file of this server"),
    };
    format!("`taskbell token create --store{url} --role admin --subject NAME`{hint}")
}

/// Warns if no header `Host` is accepted: the server listens on all addresses of the machine, and has no name.
pub(super) fn warn_without_host(address: &PublicAddress) {
    if address.hosts.is_empty() && !address.allows_loopback_hosts {
        tracing::warn!(
            "every request is refused with 403, because this server has no name: set --allow-host NAME \
             (TASKBELL_ALLOW_HOSTS, allow_hosts) to each name or address that clients use"
        );
    }
}

/// The text as one word of a shell's command line.
pub(super) fn shell_word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:,@%+=".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_a_shell_is_quoted_if_it_has_to_be() {
        for (text, word) in [
            ("/var/lib/taskbell", "/var/lib/taskbell"),
            ("esdb://db1:2113,db2", "esdb://db1:2113,db2"),
            ("esdb://db?tls=false&prefix=a", "'esdb://db?tls=false&prefix=a'"),
            ("/my data", "'/my data'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(text), word);
        }
    }
}
