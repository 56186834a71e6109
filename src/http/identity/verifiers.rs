//! What requests are authenticated with besides the credentials in the views: the keys of an issuer of JWTs, the addresses of
//! a proxy, and the rates.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::http::header::HeaderMap;

use super::jwt::{JwtRefusal, JwtVerifier};
use super::proxy_header::ProxyRefusal;
use super::request_rate::{FailedAuthentications, RequestRate};
use super::settings::{AuthSettings, ProxySettings};
use super::{Credential, Identity};
use crate::http::limits::ClientLimits;
use crate::task::Timestamp;

/// The verifiers of one server. A clone counts together with the original.
#[derive(Clone)]
pub struct Verifiers {
    jwt: Option<JwtVerifier>,
    proxy: Option<Arc<ProxySettings>>,
    /// The rate of the requests of each token, and of each subject that sends no token.
    pub requests: RequestRate,
    /// The rate of the failures of each address.
    pub failures: FailedAuthentications,
}

impl Verifiers {
    /// Begins to read the keys of the issuer of JWTs, if the settings name one. It needs a running tokio runtime.
    #[must_use]
    pub fn start(settings: AuthSettings, limits: &ClientLimits, now: Timestamp) -> Self {
        Self {
            jwt: settings.jwt.map(|settings| JwtVerifier::start(settings, now)),
            proxy: settings.proxy.map(Arc::new),
            requests: RequestRate::new(limits.requests_per_s),
            failures: FailedAuthentications::new(limits.failed_authentications_per_s),
        }
    }

    /// The bearer of a JWT. `None` if the server accepts no JWT, or the text has another form.
    ///
    /// # Errors
    /// The text is a JWT that is not right.
    pub async fn jwt_identity(&self, bearer: &str, now: Timestamp) -> Result<Option<Identity>, JwtRefusal> {
        let Some(verifier) = self.jwt.as_ref().filter(|_| JwtVerifier::has_form_of_jwt(bearer)) else {
            return Ok(None);
        };
        let user = verifier.verify(bearer, now).await?;
        Ok(Some(Identity {
            subject: user.subject,
            role: user.role,
            kinds: user.kinds.map(Arc::from),
            credential: Credential::Jwt,
            expires_at: Some(user.expires_at),
        }))
    }

    /// Who a proxy that authenticates says sends the request. `None` if no such proxy says anything. What it says counts for the
    /// time of the settings, because the proxy can't tell later that the subject has lost its access.
    ///
    /// # Errors
    /// The request comes from the proxy, and its headers are not valid.
    pub fn proxy_identity(
        &self,
        peer: Option<IpAddr>,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Option<Identity>, ProxyRefusal> {
        let Some(settings) = &self.proxy else { return Ok(None) };
        Ok(settings.user(peer, headers)?.map(|user| Identity {
            subject: user.subject,
            role: user.role,
            kinds: None,
            credential: Credential::Proxy,
            expires_at: Some(now.plus(settings.valid)),
        }))
    }

    /// The address whose failures count, for a client at this address. `None` for a proxy that authenticates and doesn't say
    /// whose requests it passes on: one of its clients must not be able to lock out the others.
    #[must_use]
    pub fn counted_address(&self, client: Option<IpAddr>) -> Option<IpAddr> {
        client.filter(|client| !self.proxy.as_ref().is_some_and(|proxy| proxy.is_at(*client)))
    }
}
