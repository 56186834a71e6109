//! The settings of the credentials that others issue: JWTs, and the header of a proxy that authenticates.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::jwt::algorithm::JwtAlgorithm;
use super::jwt::key_url::KeyUrl;
use crate::http::plumbing::public_address::Network;
use crate::secret::Secret;
use crate::task::access::Role;

/// Which credentials of others the server accepts, besides its own tokens and sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthSettings {
    /// JWTs of one issuer. `None`: no JWT is accepted.
    pub jwt: Option<JwtSettings>,
    /// The header of a proxy that authenticates. `None`: no such header is accepted.
    pub proxy: Option<ProxySettings>,
}

impl AuthSettings {
    /// Whether the server accepts credentials of others.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        self.jwt.is_some() || self.proxy.is_some()
    }
}

/// The JWTs that the server accepts, and who their bearers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtSettings {
    /// The claim `iss` of each token.
    pub issuer: String,
    /// The claim `aud` of each token is this text, or a list that contains it.
    pub audience: String,
    /// The algorithms with which a token may be signed.
    pub algorithms: Vec<JwtAlgorithm>,
    /// Where the keys of the issuer are.
    pub keys: KeySource,
    /// The claim with the subject.
    pub subject_claim: String,
    /// The claim with the role: one text.
    pub role_claim: String,
    /// The role for each value of the role claim. If it is empty, the claim contains the name of a role.
    pub roles: BTreeMap<String, Role>,
    /// The role of a token without the role claim. `None`: such a token is refused.
    pub default_role: Option<Role>,
    /// The claim with the kinds whose leases a worker may take: a list of texts. A token without the claim is for no kind.
    /// `None`: every token is for all kinds.
    pub kinds_claim: Option<String>,
    /// How far the clocks of the issuer and of this server may differ.
    pub leeway: Duration,
}

/// Where the public keys of an issuer are, as a JSON Web Key Set (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The server fetches the keys.
    Url(KeyUrl),
    /// The server reads the keys from a file, again when it changes.
    File(PathBuf),
}

/// The header of a proxy that authenticates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySettings {
    /// The addresses of the proxy. In requests from other addresses, its headers are ignored.
    pub addresses: Vec<Network>,
    /// The name of the header with the subject.
    pub subject_header: String,
    /// The name of the header with the name of the role. `None`: every subject has the default role.
    pub role_header: Option<String>,
    /// The role of a request without the role header. `None`: such a request is refused.
    pub default_role: Option<Role>,
    /// How long it counts what the proxy has said about a request, for what outlives the request: a websocket, a followed log, a
    /// request that waits, a session.
    pub valid: Duration,
    /// What the proxy proves itself with besides its address. `None`: the address is enough.
    pub secret: Option<ProxySecret>,
}

/// A secret that the proxy sends with each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySecret {
    /// The name of the header with the secret.
    pub header: String,
    /// The secret.
    pub secret: Secret,
}
