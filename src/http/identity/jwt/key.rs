//! The public keys of an issuer, from a JSON Web Key Set (RFC 7517), and the check of a signature with one of them.

use aws_lc_rs::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::algorithm::JwtAlgorithm;
use super::refusal::JwtRefusal;
use crate::task::json::value_of;

/// The longest text of a key set, in bytes.
pub(super) const KEY_SET_MAX: usize = 256 * 1024;
/// The most keys of a set. Issuers have a handful.
const KEYS_MAX: usize = 100;

/// A key with which tokens are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    id: Option<String>,
    /// The only algorithm that the key is for, if the set names one.
    algorithm: Option<JwtAlgorithm>,
    material: Material,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point of P-256.
    P256(Vec<u8>),
    /// An uncompressed point of P-384.
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// The text is no key set, or none of its keys can verify a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidKeySet(&'static str);

/// Reads a key set. Keys that aren't for signatures, and keys of unknown types, are left out.
///
/// # Errors
/// The text is no key set, has too many keys, or has no key that can verify a token.
pub fn read_keys(text: &str) -> Result<Vec<Key>, InvalidKeySet> {
    let set = value_of(text).map_err(|_| InvalidKeySet("it is not JSON"))?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or(InvalidKeySet("it has no list `keys`"))?;
    if keys.len() > KEYS_MAX {
        return Err(InvalidKeySet("it has more than 100 keys"));
    }
    let keys: Vec<Key> = keys.iter().filter_map(Key::read).collect();
    if keys.is_empty() { Err(InvalidKeySet("it has no key that can verify a token")) } else { Ok(keys) }
}

/// The key of a token with this `kid`. A token without a `kid` has the only key of the set.
///
/// # Errors
/// No key has the `kid`, the key doesn't fit to the algorithm, or there are several keys and the token names none.
pub fn find_key<'k>(keys: &'k [Key], algorithm: JwtAlgorithm, kid: Option<&str>) -> Result<&'k Key, JwtRefusal> {
    let Some(kid) = kid else {
        return match keys {
            [key] if key.fits(algorithm) => Ok(key),
            [_] => Err(JwtRefusal::KeyOfOtherAlgorithm),
            [] => Err(JwtRefusal::UnknownKey),
            [_, _, ..] => Err(JwtRefusal::NoKeyId),
        };
    };
    let mut with_id = keys.iter().filter(|key| key.id.as_deref() == Some(kid)).peekable();
    with_id.peek().ok_or(JwtRefusal::UnknownKey)?;
    with_id.find(|key| key.fits(algorithm)).ok_or(JwtRefusal::KeyOfOtherAlgorithm)
}

impl Key {
    /// Reads one key; `None` if it isn't one that verifies signatures.
    fn read(jwk: &Value) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let is_for_signatures = jwk.get("use").is_none_or(|it| it == "sig");
        let verifies =
            jwk.get("key_ops").is_none_or(|ops| ops.as_array().is_some_and(|ops| ops.contains(&"verify".into())));
        if !is_for_signatures || !verifies {
            return None;
        }
        let algorithm = text("alg").map(str::parse).transpose().ok()?;
        let key = Self { id: text("kid").map(str::to_owned), algorithm, material: Material::read(jwk)? };
        Some(key)
    }

    fn fits(&self, algorithm: JwtAlgorithm) -> bool {
        self.algorithm.is_none_or(|only| only == algorithm) && self.material.fits(algorithm)
    }

    /// Whether the signature of this message was made with the private part of this key.
    #[must_use]
    pub fn verifies(&self, algorithm: JwtAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        self.fits(algorithm) && self.material.verifies(algorithm, message, signature)
    }
}

impl Material {
    fn read(jwk: &Value) -> Option<Self> {
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok();
        let of_length = |name: &str, length: usize| bytes(name).filter(|bytes| bytes.len() == length);
        let point = |length| Some([vec![4], of_length("x", length)?, of_length("y", length)?].concat());
        match (jwk.get("kty")?.as_str()?, jwk.get("crv").and_then(Value::as_str)) {
            ("RSA", None) => Some(Self::Rsa { n: without_zeros(bytes("n")?), e: without_zeros(bytes("e")?) }),
            ("EC", Some("P-256")) => point(32).map(Self::P256),
            ("EC", Some("P-384")) => point(48).map(Self::P384),
            ("OKP", Some("Ed25519")) => of_length("x", 32).map(Self::Ed25519),
            _ => None,
        }
    }

    const fn fits(&self, algorithm: JwtAlgorithm) -> bool {
        match algorithm {
            JwtAlgorithm::Rs256
            | JwtAlgorithm::Rs384
            | JwtAlgorithm::Rs512
            | JwtAlgorithm::Ps256
            | JwtAlgorithm::Ps384
            | JwtAlgorithm::Ps512 => matches!(self, Self::Rsa { .. }),
            JwtAlgorithm::Es256 => matches!(self, Self::P256(_)),
            JwtAlgorithm::Es384 => matches!(self, Self::P384(_)),
            JwtAlgorithm::EdDsa => matches!(self, Self::Ed25519(_)),
        }
    }

    fn verifies(&self, algorithm: JwtAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        let with = |parameters: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(parameters, key).verify(message, signature).is_ok()
        };
        match self {
            Self::Rsa { n, e } => rsa_parameters(algorithm).is_some_and(|parameters| {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }),
            Self::P256(point) => with(&signature::ECDSA_P256_SHA256_FIXED, point),
            Self::P384(point) => with(&signature::ECDSA_P384_SHA384_FIXED, point),
            Self::Ed25519(key) => with(&signature::ED25519, key),
        }
    }
}

/// The parameters of an RSA algorithm. Keys of less than 2048 bits verify nothing.
fn rsa_parameters(algorithm: JwtAlgorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        JwtAlgorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        JwtAlgorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        JwtAlgorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        JwtAlgorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        JwtAlgorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        JwtAlgorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        JwtAlgorithm::Es256 | JwtAlgorithm::Es384 | JwtAlgorithm::EdDsa => None,
    }
}

/// Some issuers write a number with zeros before it, which the library refuses.
fn without_zeros(number: Vec<u8>) -> Vec<u8> {
    number.into_iter().skip_while(|byte| *byte == 0).collect()
}
