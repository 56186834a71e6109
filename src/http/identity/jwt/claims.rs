//! Checks the claims of a JWT whose signature is right, and finds out who its bearer is.

use std::time::Duration;

use serde_json::{Map, Value};

use super::refusal::JwtRefusal;
use crate::http::identity::settings::JwtSettings;
use crate::task::Timestamp;
use crate::task::access::Role;
use crate::task::limits::{is_name, is_subject};

/// The most kinds in one token.
const KINDS_MAX: usize = 1000;

/// The bearer of a JWT that is right in all respects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedJwt {
    /// The subject.
    pub subject: String,
    /// The role.
    pub role: Role,
    /// The kinds whose leases a worker may take. `None`: all kinds.
    pub kinds: Option<Vec<String>>,
    /// From this time on the token is refused: its expiry and the leeway.
    pub expires_at: Timestamp,
}

impl JwtSettings {
    /// Checks the claims of a token, and returns its bearer.
    ///
    /// # Errors
    /// The first claim that is not right.
    pub(super) fn check_claims(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<VerifiedJwt, JwtRefusal> {
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(JwtRefusal::Issuer);
        }
        if !claims.get("aud").is_some_and(|audience| self.is_for(audience)) {
            return Err(JwtRefusal::Audience);
        }
        let expires_at = self.check_times(claims, now)?;
        let subject = claims.get(&self.subject_claim).and_then(Value::as_str).filter(|subject| is_subject(subject));
        Ok(VerifiedJwt {
            subject: subject.ok_or(JwtRefusal::Subject)?.to_owned(),
            role: self.role(claims.get(&self.role_claim))?,
            kinds: self.kinds(claims)?,
            expires_at,
        })
    }

    fn is_for(&self, audience: &Value) -> bool {
        match audience {
            Value::String(one) => *one == self.audience,
            Value::Array(several) => {
                several.iter().all(Value::is_string) && several.iter().any(|one| one == self.audience.as_str())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
        }
    }

    fn check_times(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<Timestamp, JwtRefusal> {
        let expires_at = claims.get("exp").and_then(time).ok_or(JwtRefusal::NoExpiry)?.plus(self.leeway);
        if expires_at <= now {
            return Err(JwtRefusal::Expired);
        }
        let not_before = claims.get("nbf").map(|value| time(value).ok_or(JwtRefusal::NotYetValid)).transpose()?;
        if not_before.is_some_and(|not_before| now.plus(self.leeway) < not_before) {
            return Err(JwtRefusal::NotYetValid);
        }
        Ok(expires_at)
    }

    /// A claim with another value than the settings name is never the default role: the issuer has said something else.
    fn role(&self, claim: Option<&Value>) -> Result<Role, JwtRefusal> {
        let Some(claim) = claim else { return self.default_role.ok_or(JwtRefusal::NoRole) };
        let name = claim.as_str().ok_or(JwtRefusal::Role)?;
        let role = if self.roles.is_empty() { Role::from_name(name) } else { self.roles.get(name).copied() };
        role.ok_or(JwtRefusal::Role)
    }

    fn kinds(&self, claims: &Map<String, Value>) -> Result<Option<Vec<String>>, JwtRefusal> {
        let Some(claim) = &self.kinds_claim else { return Ok(None) };
        let Some(kinds) = claims.get(claim) else { return Ok(Some(Vec::new())) };
        let kinds = kinds.as_array().filter(|kinds| kinds.len() <= KINDS_MAX).ok_or(JwtRefusal::Kinds)?;
        let name = |kind: &Value| kind.as_str().filter(|kind| is_name(kind)).map(str::to_owned);
        kinds.iter().map(name).collect::<Option<_>>().map(Some).ok_or(JwtRefusal::Kinds)
    }
}

/// A time in seconds since 1970, which may have a fraction; `None` if the claim is no number. A time before 1970 is 1970.
fn time(claim: &Value) -> Option<Timestamp> {
    // No second after this one has a date.
    const LAST: f64 = 253_402_207_200.0;
    let seconds = claim.as_f64()?.clamp(0.0, LAST);
    Some(Timestamp::from_micros(0).plus(Duration::from_secs_f64(seconds)))
}
