//! JWTs of an OIDC issuer: `Authorization: Bearer <jwt>`.
//!
//! Reading order: [`JwtVerifier`], [`token`] (the parts and the header), [`key`] (key sets and signatures), [`claims`] (who the
//! bearer is), [`keys`] (when the keys are read again), [`fetch`] (the request for the keys).
//!
//! The signature is checked by `aws_lc_rs`, which checks the certificates of TLS too. A library for JWTs isn't used: such a library
//! reads the clock itself, accepts repeated names, and chooses its cryptography for the whole process, which belongs to the
//! program that embeds this server.

use std::sync::Arc;

pub mod algorithm;
pub mod claims;
mod fetch;
pub mod key;
pub mod key_url;
mod keys;
pub mod refusal;
mod token;

pub use claims::VerifiedJwt;
pub use refusal::JwtRefusal;

use super::settings::JwtSettings;
use crate::task::Timestamp;
use keys::IssuerKeys;
use token::Token;

/// Verifies the JWTs of one issuer. A clone has the same keys.
#[derive(Clone)]
pub struct JwtVerifier {
    settings: Arc<JwtSettings>,
    keys: IssuerKeys,
}

impl JwtVerifier {
    /// A verifier that begins to read the keys at once. It needs a running tokio runtime. Tokens that arrive meanwhile wait for
    /// the keys.
    #[must_use]
    pub fn start(settings: JwtSettings, now: Timestamp) -> Self {
        let keys = IssuerKeys::start(settings.keys.clone(), now);
        Self { settings: Arc::new(settings), keys }
    }

    /// Whether the text has the form of a JWT, and so is no other bearer.
    #[must_use]
    pub fn has_form_of_jwt(text: &str) -> bool {
        text.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// Verifies a token. If the token names an unknown key, this reads the keys again, at most once a minute.
    ///
    /// # Errors
    /// The first respect in which the token is not right.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<VerifiedJwt, JwtRefusal> {
        let token = Token::read(token)?;
        let algorithm = token.algorithm(&self.settings.algorithms)?;
        let key = self.keys.find(algorithm, token.key_id()?, now).await?;
        if !key.verifies(algorithm, token.message.as_bytes(), &token.signature) {
            return Err(JwtRefusal::Signature);
        }
        self.settings.check_claims(&token.claims()?, now)
    }
}
