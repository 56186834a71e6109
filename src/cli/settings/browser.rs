//! The settings about pages of other origins.

use serde::Deserialize;
use taskbell::AllowedOrigin;

use super::SettingsError;

/// The unchecked settings from one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct BrowserSettings {
    /// Origin of pages that may use this server from a browser: scheme, host and port; may be repeated
    #[arg(long = "allow-origin", env = "TASKBELL_ALLOW_ORIGINS", value_name = "ORIGIN", value_delimiter = ',')]
    allow_origins: Option<Vec<String>>,
}

impl BrowserSettings {
    /// Each setting of `self`; if it is not set, the setting of `fallback`.
    pub(super) fn with_fallback(self, fallback: Self) -> Self {
        Self { allow_origins: self.allow_origins.or(fallback.allow_origins) }
    }

    /// The allowed origins.
    ///
    /// # Errors
    /// The first invalid origin.
    pub(super) fn check(self) -> Result<Vec<AllowedOrigin>, SettingsError> {
        let origins = self.allow_origins.unwrap_or_default();
        let parse = |text: String| text.parse().map_err(|why| SettingsError::Value { setting: "allow_origins", why });
        origins.into_iter().map(parse).collect()
    }
}
