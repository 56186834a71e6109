//! How clients reach the server: addresses, certificate, proxies and path prefix.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use taskbell::server::{AuthMode, TlsFiles};
use taskbell::{HostName, Network, PublicAddress};

use super::auth::{JwtTable, ProxyTable};
use super::exposure::Exposure;
use super::{Settings, SettingsError, invalid};

/// The table `[tls]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct TlsSettings {
    /// File with the server's certificate and those between it and a root, in PEM; with it the server speaks https
    #[arg(id = "tls_cert", long = "tls-cert", env = "TASKBELL_TLS_CERT", value_name = "FILE")]
    cert: Option<PathBuf>,
    /// File with the private key of the certificate, in PEM; both files are read again when they change
    #[arg(id = "tls_key", long = "tls-key", env = "TASKBELL_TLS_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
}

impl TlsSettings {
    pub(super) fn with_fallback(self, fallback: Self) -> Self {
        Self { cert: self.cert.or(fallback.cert), key: self.key.or(fallback.key) }
    }

    /// Relative paths start at this folder.
    pub(super) fn resolve_in(&mut self, folder: &Path) {
        for path in self.cert.iter_mut().chain(&mut self.key) {
            *path = folder.join(&*path);
        }
    }

    pub(super) fn check(self) -> Result<Option<TlsFiles>, SettingsError> {
        match (self.cert, self.key) {
            (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert, key })),
            (None, None) => Ok(None),
            (Some(_), None) => invalid("tls", "the certificate needs its key: set --tls-key too"),
            (None, Some(_)) => invalid("tls", "the key needs its certificate: set --tls-cert too"),
        }
    }
}

/// The table `[auth]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct AuthSettings {
    /// Whether requests need credentials [default: none on a loopback address]
    #[arg(id = "auth_mode", long = "auth", env = "TASKBELL_AUTH", value_name = "MODE")]
    mode: Option<Mode>,
    #[command(flatten)]
    #[serde(default)]
    jwt: JwtTable,
    #[command(flatten)]
    #[serde(default)]
    proxy: ProxyTable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Mode {
    None,
    Required,
}

impl AuthSettings {
    pub(super) fn with_fallback(self, fallback: Self) -> Self {
        Self {
            mode: self.mode.or(fallback.mode),
            jwt: self.jwt.with_fallback(fallback.jwt),
            proxy: self.proxy.with_fallback(fallback.proxy),
        }
    }

    /// Relative paths start at this folder.
    pub(super) fn resolve_in(&mut self, folder: &Path) {
        self.jwt.resolve_in(folder);
    }

    /// Which credentials of others the server accepts. A table without any setting is not there.
    ///
    /// # Errors
    /// The first invalid setting.
    pub(super) fn sources(&self) -> Result<taskbell::AuthSettings, SettingsError> {
        let jwt = (self.jwt != JwtTable::default()).then(|| self.jwt.clone().check()).transpose()?;
        let proxy = (self.proxy != ProxyTable::default()).then(|| self.proxy.clone().check()).transpose()?;
        Ok(taskbell::AuthSettings { jwt, proxy })
    }

    pub(super) fn mode(&self) -> Option<AuthMode> {
        self.mode.map(|mode| match mode {
            Mode::None => AuthMode::None,
            Mode::Required => AuthMode::Required,
        })
    }
}

/// How clients reach the server, after the check.
pub(super) struct CheckedNetwork {
    pub(super) listen: SocketAddr,
    #[cfg(feature = "eventstore")]
    pub(super) log_listen: Option<SocketAddr>,
    pub(super) public_address: PublicAddress,
}

impl Settings {
    /// Checks the addresses together with the settings that they need.
    pub(super) fn check_network(
        &self,
        default_listen: SocketAddr,
        has_tls: bool,
    ) -> Result<CheckedNetwork, SettingsError> {
        let listen = self.listen.as_deref().map_or(Ok(default_listen), |text| parse_address("listen", text))?;
        let proxies = parse_all::<Network>("trust_proxies", self.trust_proxies.as_deref(), "10.0.0.5 or 10.0.0.0/8")?;
        let exposure = Exposure {
            listen,
            has_tls,
            trusts_proxy: !proxies.is_empty(),
            plain_http: self.plain_http.unwrap_or(false),
            auth: self.auth.mode(),
            has_identity_source: self.auth.sources()?.is_set(),
        };
        exposure.check().or_else(|why| invalid("listen", why))?;
        let hosts = parse_all("allow_hosts", self.allow_hosts.as_deref(), "tasks.example or 10.0.0.5")?;
        Ok(CheckedNetwork {
            listen,
            #[cfg(feature = "eventstore")]
            log_listen: self.check_log_listen(exposure)?,
            public_address: PublicAddress {
                hosts: hosts.into_iter().chain(own_address(listen)).collect(),
                allows_loopback_hosts: listen.ip().is_loopback(),
                is_https: has_tls,
                proxies,
                path_prefix: self.path_prefix.as_deref().map_or(Ok(String::new()), check_prefix)?,
            },
        })
    }

    /// A proxy in front of the HTTP server doesn't protect the log.
    #[cfg(feature = "eventstore")]
    fn check_log_listen(&self, exposure: Exposure) -> Result<Option<SocketAddr>, SettingsError> {
        let Some(text) = &self.log_listen else { return Ok(None) };
        let listen = parse_address("log_listen", text)?;
        let exposure = Exposure { listen, trusts_proxy: false, plain_http: false, ..exposure };
        exposure.check().or_else(|why| invalid("log_listen", why))?;
        if exposure.has_tls || listen.ip().is_loopback() {
            return Ok(Some(listen));
        }
        invalid("log_listen", format!("{listen} can be reached from other machines: set --tls-cert and --tls-key"))
    }
}

/// The address itself is a name of the server, unless it stands for all addresses of the machine.
fn own_address(listen: SocketAddr) -> Option<HostName> {
    let ip = listen.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(HostName::Ip(ip))
}

/// Parses an address with a port.
fn parse_address(setting: &'static str, text: &str) -> Result<SocketAddr, SettingsError> {
    let localhost = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    match localhost.as_deref().unwrap_or(text).parse() {
        Ok(address) => Ok(address),
        Err(_) => invalid(setting, format!("{text:?} is not an address with a port, like 127.0.0.1:7070")),
    }
}

fn parse_all<T: std::str::FromStr>(
    setting: &'static str,
    texts: Option<&[String]>,
    example: &str,
) -> Result<Vec<T>, SettingsError> {
    let parse = |text: &String| text.parse().or_else(|_| invalid(setting, format!("{text:?} is not like {example}")));
    texts.unwrap_or_default().iter().map(parse).collect()
}

/// A path without a slash at its end; empty for the root.
fn check_prefix(text: &str) -> Result<String, SettingsError> {
    let path = text.strip_suffix('/').unwrap_or(text);
    let is_segment = |segment: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
        !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(is_plain)
    };
    if path.is_empty() || path.strip_prefix('/').is_some_and(|path| path.split('/').all(is_segment)) {
        return Ok(path.to_owned());
    }
    invalid("path_prefix", format!("{text:?} is not a path like /taskbell"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_prefix_is_a_plain_path() {
        for (text, expected) in [
            ("/taskbell", "/taskbell"),
            ("/taskbell/", "/taskbell"),
            ("/a/b-c_d.e~f", "/a/b-c_d.e~f"),
            ("/", ""),
            ("", ""),
        ] {
            assert_eq!(check_prefix(text).unwrap(), expected);
        }
        for text in
            ["taskbell", "//", "/a//b", "/..", "/a/./b", "/{id}", "/a b", "/%61", "http://a/b", "/a?b", "/\u{fc}"]
        {
            assert!(check_prefix(text).is_err(), "{text}");
        }
    }
}
