//! When two requests with one idempotency key are the same: their bodies have the same hash.
//!
//! A recorded hash says by its beginning how it was computed, so that a hash in an older log still matches its body.

use crate::task::json::canonical::{Numbers, canonical};

/// Hashes of numbers as they are written begin with it. A hash without it is of numbers as `serde_json` rounds them.
const AS_WRITTEN: &str = "2:";
/// The member that is left out of the hash. In a batch the idempotency key is a member of the item, in a single request it is a
/// header, and both must have the same hash.
const KEY: &str = "idempotency_key";

/// The hash of a scanned body, as it is recorded: BLAKE3 in hexadecimal behind the version. White space, the order of members
/// and the spelling of escapes don't change it; the spelling of a number does.
#[must_use]
pub fn body_hash(body: &str) -> String {
    format!("{AS_WRITTEN}{}", digest(body, Numbers::AsWritten))
}

/// Whether this hash was recorded for this scanned body.
#[must_use]
pub fn is_hash_of(recorded: &str, body: &str) -> bool {
    match recorded.strip_prefix(AS_WRITTEN) {
        Some(hash) => hash == digest(body, Numbers::AsWritten),
        None => recorded == digest(body, Numbers::Rounded),
    }
}

fn digest(body: &str, numbers: Numbers) -> String {
    blake3::hash(canonical(body, numbers, KEY).as_bytes()).to_hex().to_string()
}
