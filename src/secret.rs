//! Texts that prove who sends a request, or that open a connection: tokens, passwords, the secrets of leases.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use zeroize::Zeroizing;

/// A text that is never printed: `Debug` writes `…`, and there is no `Display`. Its memory is overwritten when it is dropped.
///
/// `==` takes longer for a longer equal beginning, so it must not compare a secret with a text that a client has sent.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text itself, for the one place that sends or checks it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::from(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_only_to_those_who_ask_for_its_text() {
        #[derive(Debug)]
        #[allow(dead_code)]
        struct Settings {
            token: Option<Secret>,
        }
        let secret = Secret::from("hunter2".to_owned());
        assert_eq!(secret.reveal(), "hunter2");
        let settings = Settings { token: Some(secret) };
        assert_eq!(format!("{settings:?}"), "Settings { token: Some(…) }");
    }
}
