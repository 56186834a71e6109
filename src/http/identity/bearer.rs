//! The text of API tokens and of sessions: a prefix that secret scanners recognise, the id, and 256 random bits.
//!
//! ```text
//! tb_0190f3c2a4b87def8123456789abcdef_uq0…   an API token
//! tbs_0190f3c2a4b87def8123456789abcdef_uq0…  a session
//! ```
//!
//! The log holds BLAKE3 of the whole text. A slow hash is not needed, because no client can try 2^256 secrets.

use std::fmt;

use uuid::Uuid;

use crate::http::plumbing::error::{Problem, Refusal};

/// The random part of the text, in bytes.
const SECRET_BYTES: usize = 32;
/// The random part as hexadecimal digits.
const SECRET_DIGITS: usize = 2 * SECRET_BYTES;

/// What a bearer text stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BearerKind {
    /// An API token.
    Token,
    /// A session.
    Session,
}

impl BearerKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Token => "tb_",
            Self::Session => "tbs_",
        }
    }
}

/// The text of a new token or session. It is shown once, to the client that gets it. `Debug` doesn't show it.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerText(String);

impl BearerText {
    /// Makes the text for this id with new random bits.
    ///
    /// # Errors
    /// 503 `busy` if the operating system gives no random bits.
    pub fn generate(kind: BearerKind, id: Uuid) -> Result<Self, Problem> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(|error| {
            tracing::error!(%error, "the operating system gives no random bits");
            Problem::new(Refusal::Busy, "the server has no random bits now")
        })?;
        let secret = blake3::Hash::from_bytes(secret).to_hex();
        Ok(Self(format!("{}{}_{secret}", kind.prefix(), id.simple())))
    }

    /// The text, for the response to the client that gets it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The hash that the log holds, in hexadecimal.
    #[must_use]
    pub fn hash(&self) -> String {
        blake3::hash(self.0.as_bytes()).to_hex().to_string()
    }
}

impl fmt::Debug for BearerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerText(…)")
    }
}

/// A text that has the form of a token or session, and that may be none.
pub struct ClaimedBearer {
    /// What it claims to be.
    pub kind: BearerKind,
    /// The id that it names.
    pub id: Uuid,
    hash: blake3::Hash,
}

impl ClaimedBearer {
    /// Reads the text of a token or session. Returns `None` if the text has another form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = |digits: &str| digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let (kind, rest) = [BearerKind::Session, BearerKind::Token]
            .into_iter()
            .find_map(|kind| Some((kind, text.strip_prefix(kind.prefix())?)))?;
        let (id, secret) = rest.split_once('_')?;
        if id.len() != 32 || secret.len() != SECRET_DIGITS || !is_hex(id) || !is_hex(secret) {
            return None;
        }
        Some(Self { kind, id: id.parse().ok()?, hash: blake3::hash(text.as_bytes()) })
    }

    /// Whether this is the text whose hash the log holds. The comparison takes the same time for each hash.
    #[must_use]
    pub fn has_hash(&self, stored: &str) -> bool {
        blake3::Hash::from_hex(stored).is_ok_and(|stored| stored == self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::new_id;

    #[test]
    fn a_new_text_is_read_as_what_it_is_and_its_hash_fits_no_other() {
        for (kind, prefix) in [(BearerKind::Token, "tb_"), (BearerKind::Session, "tbs_")] {
            let id = new_id();
            let [one, other] = [(); 2].map(|()| BearerText::generate(kind, id).unwrap());
            assert!(one.reveal().starts_with(prefix));
            assert_ne!(one, other);
            let claimed = ClaimedBearer::parse(one.reveal()).unwrap();
            assert_eq!((claimed.kind, claimed.id), (kind, id));
            assert!(claimed.has_hash(&one.hash()));
            assert!(!claimed.has_hash(&other.hash()) && !claimed.has_hash("") && !claimed.has_hash("zz"));
            assert_eq!(format!("{one:?}"), "BearerText(…)");
        }
    }

    #[test]
    fn a_text_of_another_form_is_no_bearer() {
        let good = BearerText::generate(BearerKind::Token, new_id()).unwrap();
        let good = good.reveal();
        let upper = good.to_uppercase();
        let longer = format!("{good}0");
        let spaced = format!(" {good}");
        for text in ["", "tb_", "tb__", &good[..good.len() - 1], &longer, &spaced, &upper, &good[3..]] {
            assert!(ClaimedBearer::parse(text).is_none(), "{text}");
        }
    }
}
