//! The credentials of others that the server accepts: the tables `[auth.jwt]` and `[auth.proxy]`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use taskbell::{
    JwtAlgorithm, JwtSettings, KeySource, Network, ProxySecret, ProxySettings, Role, Secret, UnknownAlgorithm,
};

use super::{SettingsError, invalid};

/// The largest difference of the clocks, in seconds.
const LEEWAY_MAX_S: u64 = 300;
/// The shortest secret of a proxy, in bytes.
const SECRET_MIN: usize = 16;
/// How long it counts what a proxy has said about a request, in seconds, if nothing else is set.
const PROXY_VALID_S: u64 = 900;
/// The shortest and the longest such time. A page connects again after each of them; no session lasts longer than the longest.
const PROXY_VALID_BOUNDS_S: RangeInclusive<u64> = 5..=43_200;
/// The header of the proxy's secret, if no other is set.
const SECRET_HEADER: &str = "X-Taskbell-Proxy-Secret";

/// The unchecked table `[auth.jwt]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct JwtTable {
    /// Accept JWTs whose claim `iss` is this text; more settings are in the file
    #[arg(long = "jwt-issuer", env = "TASKBELL_JWT_ISSUER", value_name = "ISSUER", help_heading = "JWTs of an issuer")]
    issuer: Option<String>,
    /// The claim `aud` of each JWT is this text, or a list that contains it
    #[arg(
        long = "jwt-audience",
        env = "TASKBELL_JWT_AUDIENCE",
        value_name = "AUDIENCE",
        help_heading = "JWTs of an issuer"
    )]
    audience: Option<String>,
    /// Address of the issuer's keys: https, or http on this machine
    #[arg(long = "jwks-url", env = "TASKBELL_JWKS_URL", value_name = "URL", help_heading = "JWTs of an issuer")]
    jwks_url: Option<String>,
    /// File with the issuer's keys, which is read again when it changes
    #[arg(long = "jwks-file", env = "TASKBELL_JWKS_FILE", value_name = "FILE", help_heading = "JWTs of an issuer")]
    jwks_file: Option<PathBuf>,
    #[arg(skip)]
    algorithms: Option<Vec<String>>,
    #[arg(skip)]
    subject_claim: Option<String>,
    #[arg(skip)]
    role_claim: Option<String>,
    #[arg(skip)]
    roles: Option<BTreeMap<String, String>>,
    #[arg(skip)]
    default_role: Option<String>,
    #[arg(skip)]
    kinds_claim: Option<String>,
    #[arg(skip)]
    leeway_s: Option<u64>,
}

/// The unchecked table `[auth.proxy]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct ProxyTable {
    /// Address of a proxy that authenticates, like 10.0.0.1 or 10.0.0.0/8; may be repeated
    #[arg(
        long = "auth-proxy",
        env = "TASKBELL_AUTH_PROXY",
        value_name = "ADDRESS",
        value_delimiter = ',',
        help_heading = "A proxy that authenticates"
    )]
    addresses: Option<Vec<String>>,
    /// The header in which this proxy names the subject, like X-Forwarded-User; more settings are in the file
    #[arg(
        long = "auth-proxy-subject-header",
        env = "TASKBELL_AUTH_PROXY_SUBJECT_HEADER",
        value_name = "NAME",
        help_heading = "A proxy that authenticates"
    )]
    subject_header: Option<String>,
    /// Seconds after which sockets, followed logs, waiting requests and sessions through this proxy end [default: 900]
    #[arg(
        long = "auth-proxy-valid-s",
        env = "TASKBELL_AUTH_PROXY_VALID_S",
        value_name = "SECONDS",
        help_heading = "A proxy that authenticates"
    )]
    valid_s: Option<u64>,
    #[arg(skip)]
    role_header: Option<String>,
    #[arg(skip)]
    default_role: Option<String>,
    #[arg(skip)]
    secret_header: Option<String>,
    #[arg(skip)]
    secret: Option<Secret>,
}

impl JwtTable {
    /// Relative paths start at this folder.
    pub(super) fn resolve_in(&mut self, folder: &Path) {
        if let Some(path) = &mut self.jwks_file {
            *path = folder.join(&*path);
        }
    }

    pub(super) fn with_fallback(self, fallback: Self) -> Self {
        // The keys are one setting with two forms.
        let has_keys = self.jwks_url.is_some() || self.jwks_file.is_some();
        let keys = if has_keys { (self.jwks_url, self.jwks_file) } else { (fallback.jwks_url, fallback.jwks_file) };
        Self {
            issuer: self.issuer.or(fallback.issuer),
            audience: self.audience.or(fallback.audience),
            jwks_url: keys.0,
            jwks_file: keys.1,
            algorithms: self.algorithms.or(fallback.algorithms),
            subject_claim: self.subject_claim.or(fallback.subject_claim),
            role_claim: self.role_claim.or(fallback.role_claim),
            roles: self.roles.or(fallback.roles),
            default_role: self.default_role.or(fallback.default_role),
            kinds_claim: self.kinds_claim.or(fallback.kinds_claim),
            leeway_s: self.leeway_s.or(fallback.leeway_s),
        }
    }

    pub(super) fn check(self) -> Result<JwtSettings, SettingsError> {
        let leeway_s = self.leeway_s.unwrap_or(30);
        if leeway_s > LEEWAY_MAX_S {
            return invalid("auth.jwt.leeway_s", format!("{leeway_s} is not within 0 to {LEEWAY_MAX_S}"));
        }
        let roles = self.roles.unwrap_or_default().into_iter().map(|(value, name)| {
            let role = parse_role("auth.jwt.roles", &name)?;
            Ok((value, role))
        });
        Ok(JwtSettings {
            issuer: required("auth.jwt.issuer", self.issuer)?,
            audience: required("auth.jwt.audience", self.audience)?,
            algorithms: parse_algorithms(self.algorithms)?,
            keys: parse_keys(self.jwks_url, self.jwks_file)?,
            subject_claim: required("auth.jwt.subject_claim", self.subject_claim.or_else(|| Some("sub".into())))?,
            role_claim: required("auth.jwt.role_claim", self.role_claim.or_else(|| Some("taskbell_role".into())))?,
            roles: roles.collect::<Result<_, _>>()?,
            default_role: self.default_role.map(|name| parse_role("auth.jwt.default_role", &name)).transpose()?,
            kinds_claim: self.kinds_claim.map(|name| required("auth.jwt.kinds_claim", Some(name))).transpose()?,
            leeway: Duration::from_secs(leeway_s),
        })
    }
}

impl ProxyTable {
    pub(super) fn with_fallback(self, fallback: Self) -> Self {
        Self {
            addresses: self.addresses.or(fallback.addresses),
            subject_header: self.subject_header.or(fallback.subject_header),
            valid_s: self.valid_s.or(fallback.valid_s),
            role_header: self.role_header.or(fallback.role_header),
            default_role: self.default_role.or(fallback.default_role),
            secret_header: self.secret_header.or(fallback.secret_header),
            secret: self.secret.or(fallback.secret),
        }
    }

    pub(super) fn check(self) -> Result<ProxySettings, SettingsError> {
        let addresses = self.addresses.unwrap_or_default();
        if addresses.is_empty() {
            return invalid("auth.proxy.addresses", "must name the addresses of the proxy, like [\"10.0.0.1\"]");
        }
        let addresses = addresses.iter().map(|text| parse_network(text)).collect::<Result<_, _>>()?;
        let subject_header = required("auth.proxy.subject_header", self.subject_header)?;
        Ok(ProxySettings {
            addresses,
            subject_header: check_header("auth.proxy.subject_header", subject_header)?,
            role_header: self.role_header.map(|name| check_header("auth.proxy.role_header", name)).transpose()?,
            default_role: self.default_role.map(|name| parse_role("auth.proxy.default_role", &name)).transpose()?,
            valid: check_valid_s(self.valid_s.unwrap_or(PROXY_VALID_S))?,
            secret: check_secret(self.secret_header, self.secret)?,
        })
    }
}

fn check_valid_s(seconds: u64) -> Result<Duration, SettingsError> {
    if PROXY_VALID_BOUNDS_S.contains(&seconds) {
        return Ok(Duration::from_secs(seconds));
    }
    let (shortest, longest) = (PROXY_VALID_BOUNDS_S.start(), PROXY_VALID_BOUNDS_S.end());
    invalid("auth.proxy.valid_s", format!("{seconds} is not within {shortest} to {longest}"))
}

/// A network with a prefix of 0 bits would believe everybody.
fn parse_network(text: &str) -> Result<Network, SettingsError> {
    let network = text.parse().ok().filter(|_| !text.ends_with("/0"));
    let why = || format!("{text:?} is not the address of a proxy, like 10.0.0.5 or 10.0.0.0/8");
    network.map_or_else(|| invalid("auth.proxy.addresses", why()), Ok)
}

fn required(setting: &'static str, value: Option<String>) -> Result<String, SettingsError> {
    value.filter(|value| !value.is_empty()).map_or_else(|| invalid(setting, "must be set and not be empty"), Ok)
}

fn parse_role(setting: &'static str, name: &str) -> Result<Role, SettingsError> {
    let unknown = || invalid(setting, format!("{name:?} is none of user, operator, auditor, worker, admin"));
    Role::from_name(name).map_or_else(unknown, Ok)
}

fn parse_algorithms(names: Option<Vec<String>>) -> Result<Vec<JwtAlgorithm>, SettingsError> {
    let Some(names) = names else { return Ok(JwtAlgorithm::DEFAULT.to_vec()) };
    if names.is_empty() {
        return invalid("auth.jwt.algorithms", "must not be empty; omit the setting for RS256, ES256 and EdDSA");
    }
    let algorithms = names.iter().map(|name| name.parse()).collect::<Result<_, _>>();
    algorithms.or_else(|error: UnknownAlgorithm| invalid("auth.jwt.algorithms", error.to_string()))
}

fn parse_keys(url: Option<String>, file: Option<PathBuf>) -> Result<KeySource, SettingsError> {
    match (url, file) {
        (Some(url), None) => url
            .parse()
            .map(KeySource::Url)
            .or_else(|why: taskbell::InvalidKeyUrl| invalid("auth.jwt.jwks_url", why.to_string())),
        (None, Some(file)) if file.is_file() => Ok(KeySource::File(file)),
        (None, Some(file)) => invalid("auth.jwt.jwks_file", format!("{:?} is not a file", file.display().to_string())),
        (Some(_), Some(_)) => invalid("auth.jwt.jwks_file", "set either jwks_url or jwks_file"),
        (None, None) => invalid("auth.jwt.jwks_url", "set either jwks_url or jwks_file: where the issuer's keys are"),
    }
}

/// Checks that the text can be the name of a header.
fn check_header(setting: &'static str, name: String) -> Result<String, SettingsError> {
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    // The server reads these for itself, and every client sends some of them.
    let is_taken = ["authorization", "cookie", "host"].contains(&name.to_ascii_lowercase().as_str());
    if is_name && !is_taken {
        return Ok(name);
    }
    invalid(setting, format!("{name:?} is not the name of a header of its own, like X-Forwarded-User"))
}

fn check_secret(header: Option<String>, secret: Option<Secret>) -> Result<Option<ProxySecret>, SettingsError> {
    match (header, secret) {
        (None, None) => Ok(None),
        (Some(_), None) => invalid("auth.proxy.secret", "must be set, because secret_header is set"),
        (_, Some(secret)) if secret.reveal().len() < SECRET_MIN => {
            invalid("auth.proxy.secret", format!("must have at least {SECRET_MIN} bytes"))
        }
        (header, Some(secret)) => {
            let header = header.unwrap_or_else(|| SECRET_HEADER.to_owned());
            Ok(Some(ProxySecret { header: check_header("auth.proxy.secret_header", header)?, secret }))
        }
    }
}
