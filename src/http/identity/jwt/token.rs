//! The parts of a JWT in the compact form (RFC 7515), and its header.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::JwtAlgorithm;
use super::refusal::JwtRefusal;
use crate::task::json::value_of;

/// The longest token. The header `Authorization` of a request can't be much longer.
const TOKEN_MAX: usize = 16_384;

/// A JWT in the compact form. Nothing of it is checked yet.
pub struct Token<'t> {
    /// The two first parts, which the signature is about.
    pub message: &'t str,
    /// The signature.
    pub signature: Vec<u8>,
    header: Map<String, Value>,
    claims: &'t str,
}

impl<'t> Token<'t> {
    /// Splits a token into its parts, and reads its header.
    ///
    /// # Errors
    /// The text has another form.
    pub fn read(text: &'t str) -> Result<Self, JwtRefusal> {
        if text.len() > TOKEN_MAX {
            return Err(JwtRefusal::TooLong);
        }
        let (message, signature) = text.rsplit_once('.').ok_or(JwtRefusal::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(JwtRefusal::Malformed)?;
        if claims.contains('.') {
            return Err(JwtRefusal::Malformed);
        }
        Ok(Self { message, signature: decode(signature)?, header: object(header)?, claims })
    }

    /// The algorithm that the header names, if the settings allow it. Refuses a token that isn't a plain JWT.
    ///
    /// # Errors
    /// The algorithm is not allowed, or the header says that the token isn't a JWT or needs an extension.
    pub fn algorithm(&self, allowed: &[JwtAlgorithm]) -> Result<JwtAlgorithm, JwtRefusal> {
        if self.header.contains_key("crit") {
            return Err(JwtRefusal::Critical);
        }
        let is_jwt = |typ: &str| ["JWT", "at+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known));
        if !self.header_text("typ")?.is_none_or(is_jwt) {
            return Err(JwtRefusal::Type);
        }
        let algorithm = self.header_text("alg")?.and_then(|name| name.parse().ok());
        algorithm.filter(|algorithm| allowed.contains(algorithm)).ok_or(JwtRefusal::Algorithm)
    }

    /// The id of the key that the header names. Keys in the header (`jwk`, `x5c`) and addresses of keys (`jku`, `x5u`) are
    /// never used, because the client that made the token chose them.
    ///
    /// # Errors
    /// The id is not a text.
    pub fn key_id(&self) -> Result<Option<&str>, JwtRefusal> {
        self.header_text("kid")
    }

    /// The claims. They prove nothing before the signature is checked.
    ///
    /// # Errors
    /// The claims are not a JSON object without repeated names.
    pub fn claims(&self) -> Result<Map<String, Value>, JwtRefusal> {
        object(self.claims)
    }

    fn header_text(&self, name: &str) -> Result<Option<&str>, JwtRefusal> {
        self.header.get(name).map(|value| value.as_str().ok_or(JwtRefusal::Header)).transpose()
    }
}

fn decode(part: &str) -> Result<Vec<u8>, JwtRefusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtRefusal::Malformed)
}

fn object(part: &str) -> Result<Map<String, Value>, JwtRefusal> {
    let text = String::from_utf8(decode(part)?).map_err(|_| JwtRefusal::Malformed)?;
    match value_of(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) | Err(_) => Err(JwtRefusal::Malformed),
    }
}
