//! A checkpoint: a signed statement about the whole log up to a position. The signature is Ed25519 (RFC 8032) over these lines,
//! each with a line feed: `taskbell checkpoint 1`, the position, the hash of the last event, the root of the tree over all events,
//! the time.

use std::fs;
use std::path::Path;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use taskbell::Timestamp;

use super::command_error::CommandError;

/// What comes before the 32 bytes of a public Ed25519 key in its DER form (RFC 8410).
const PUBLIC_KEY_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// How a key is made.
const MAKE_KEY: &str = "make one with `openssl genpkey -algorithm ed25519 -out FILE`";

/// A signed statement about the log; see the module.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checkpoint {
    /// The number of events.
    pub(super) position: u64,
    /// The hash of the last event, in hexadecimal.
    pub(super) hash: String,
    /// The root of the tree over all events, in hexadecimal.
    pub(super) root: String,
    /// When it was signed.
    pub(super) time: Timestamp,
    /// The public key, in hexadecimal.
    pub(super) key: String,
    /// The signature, in hexadecimal.
    pub(super) signature: String,
}

impl Checkpoint {
    /// Signs the statement with this key.
    pub(super) fn sign(position: u64, hash: String, root: String, time: Timestamp, key: &SigningKey) -> Self {
        let unsigned =
            Self { position, hash, root, time, key: hex(key.0.public_key().as_ref()), signature: String::new() };
        let signature = hex(key.0.sign(unsigned.message().as_bytes()).as_ref());
        Self { signature, ..unsigned }
    }

    fn message(&self) -> String {
        let Self { position, hash, root, time, .. } = self;
        format!("taskbell checkpoint 1\n{position}\n{hash}\n{root}\n{time}\n")
    }

    /// Checks the signature by this key.
    ///
    /// # Errors
    /// The checkpoint was signed with another key, or was changed.
    pub(super) fn check(&self, key: &[u8; 32]) -> Result<(), CommandError> {
        if self.key != hex(key) {
            return Err(CommandError::failed(format!("the checkpoint was signed with another key: {}", self.key)));
        }
        let signature = from_hex(&self.signature).unwrap_or_default();
        let is_valid = UnparsedPublicKey::new(&ED25519, key).verify(self.message().as_bytes(), &signature).is_ok();
        if is_valid {
            Ok(())
        } else {
            Err(CommandError::failed("the signature of the checkpoint is not valid".to_owned()))
        }
    }

    /// Reads the file of a checkpoint.
    pub(super) fn read(path: &Path) -> Result<Self, CommandError> {
        serde_json::from_slice(&read_file(path)?)
            .map_err(|error| CommandError::usage(format!("{}: not a checkpoint: {error}", path.display())))
    }
}

/// The key of an operator.
pub(super) struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Reads a key in PEM (PKCS #8), as `openssl` writes it.
    pub(super) fn read(path: &Path) -> Result<Self, CommandError> {
        use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
        use tokio_rustls::rustls::pki_types::pem::PemObject as _;
        let invalid =
            |why: String| CommandError::usage(format!("{}: no Ed25519 key: {why}; {MAKE_KEY}", path.display()));
        let key = PrivatePkcs8KeyDer::from_pem_slice(&read_file(path)?).map_err(|error| invalid(error.to_string()))?;
        let key = Ed25519KeyPair::from_pkcs8(key.secret_pkcs8_der()).map_err(|error| invalid(error.to_string()))?;
        Ok(Self(key))
    }
}

/// Reads a public key in PEM, as `openssl pkey -pubout` writes it.
pub(super) fn read_public_key(path: &Path) -> Result<[u8; 32], CommandError> {
    use tokio_rustls::rustls::pki_types::SubjectPublicKeyInfoDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    let invalid = || {
        CommandError::usage(format!(
            "{}: no public Ed25519 key; make one with `openssl pkey -in KEY -pubout`",
            path.display()
        ))
    };
    let key = SubjectPublicKeyInfoDer::from_pem_slice(&read_file(path)?).map_err(|_| invalid())?;
    let key = key.as_ref().strip_prefix(&PUBLIC_KEY_PREFIX).ok_or_else(invalid)?;
    key.try_into().map_err(|_| invalid())
}

fn read_file(path: &Path) -> Result<Vec<u8>, CommandError> {
    fs::read(path).map_err(|error| CommandError::usage(format!("{}: {error}", path.display())))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let digits = [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or_default());
        text.extend(digits);
        text
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
