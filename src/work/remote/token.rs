//! The bearer token that a worker sends. If it comes from a file, the file is read again when the server refuses the token. So a
//! worker that runs for a long time goes on with the next token, if that is in the file before the former one ends.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use reqwest::header::HeaderValue;

use super::event::RemoteError;
use crate::secret::Secret;

/// The token of a worker, as the header `Authorization`.
pub(super) struct WorkerToken {
    file: Option<PathBuf>,
    /// `None` without a token.
    header: Mutex<Option<HeaderValue>>,
}

impl WorkerToken {
    /// A token that never changes; `None` for a worker without a token.
    pub fn fixed(token: Option<&Secret>) -> Result<Self, RemoteError> {
        let header = token.map(|token| header(token.reveal())).transpose()?;
        Ok(Self { file: None, header: Mutex::new(header) })
    }

    /// The token in this file.
    pub fn in_file(path: PathBuf) -> Result<Self, RemoteError> {
        let header = Mutex::new(Some(read(&path)?));
        Ok(Self { file: Some(path), header })
    }

    /// The header of the next request.
    pub fn header(&self) -> Option<HeaderValue> {
        self.header.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file again, after the server has refused this header. Returns the header to send instead; `None` if there is no
    /// file, or if it holds the same token.
    ///
    /// # Errors
    /// The file can't be used. Perhaps it is just being replaced.
    pub fn next_header(&self, refused: Option<&HeaderValue>) -> Result<Option<HeaderValue>, RemoteError> {
        let Some(path) = &self.file else { return Ok(None) };
        let next = read(path)?;
        if refused == Some(&next) {
            return Ok(None);
        }
        *self.header.lock().unwrap_or_else(PoisonError::into_inner) = Some(next.clone());
        Ok(Some(next))
    }
}

/// The header for the token in this file, without the line break at its end.
fn read(path: &std::path::Path) -> Result<HeaderValue, RemoteError> {
    let unusable = |reason: String| RemoteError::TokenFile { path: path.display().to_string(), reason };
    let text = fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    let text = Secret::from(text);
    let token = text.reveal().trim_end_matches(['\r', '\n']);
    if token.is_empty() {
        return Err(unusable("it is empty".to_owned()));
    }
    header(token).map_err(|error| unusable(error.to_string()))
}

fn header(token: &str) -> Result<HeaderValue, RemoteError> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| RemoteError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}
