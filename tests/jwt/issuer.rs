//! An issuer: its private keys, its key set, and tokens that are signed with them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RsaEncoding, RsaKeyPair,
};
use serde_json::{Value, json};
use taskbell::http::identity::jwt::JwtVerifier;
use taskbell::task::Timestamp;
use taskbell::{JwtAlgorithm, JwtSettings, KeySource};

/// The present time of the tests, in seconds since 1970.
pub const NOW_S: i64 = 1_800_000_000;
pub const ISSUER: &str = "https://issuer.example/realm";
pub const AUDIENCE: &str = "taskbell";

/// The private keys of an issuer. The id of each key in the key set is the name of its field.
pub struct Issuer {
    pub rsa: RsaKeyPair,
    pub p256: EcdsaKeyPair,
    pub p384: EcdsaKeyPair,
    pub ed: Ed25519KeyPair,
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

pub fn now() -> Timestamp {
    at(NOW_S)
}

pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The claims of a token that is right.
pub fn claims() -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "anna", "exp": NOW_S + 600, "taskbell_role": "operator"})
}

/// The claims with these changes. `null` removes a claim.
pub fn claims_with(changes: &Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// The settings with these keys and the default of every other setting.
pub fn settings(keys: KeySource) -> JwtSettings {
    JwtSettings {
        issuer: ISSUER.into(),
        audience: AUDIENCE.into(),
        algorithms: JwtAlgorithm::DEFAULT.to_vec(),
        keys,
        subject_claim: "sub".into(),
        role_claim: "taskbell_role".into(),
        roles: BTreeMap::default(),
        default_role: None,
        kinds_claim: None,
        leeway: Duration::from_secs(30),
    }
}

/// A file with a key set. It is removed with the folder.
pub fn key_file(set: &Value) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    std::fs::write(&path, set.to_string()).unwrap();
    (folder, path)
}

/// A verifier of the tokens of this key set, with changed settings.
pub fn verifier_of(set: &Value, change: impl FnOnce(&mut JwtSettings)) -> (tempfile::TempDir, JwtVerifier) {
    let (folder, path) = key_file(set);
    let mut settings = settings(KeySource::File(path));
    change(&mut settings);
    (folder, JwtVerifier::start(settings, now()))
}

impl Issuer {
    pub fn new() -> Self {
        Self::with_rsa(include_bytes!("issuer.pk8"))
    }

    /// An issuer without any key of the first.
    pub fn other() -> Self {
        Self::with_rsa(include_bytes!("other.pk8"))
    }

    fn with_rsa(pkcs8: &[u8]) -> Self {
        let random = SystemRandom::new();
        let ecdsa = |algorithm| {
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap()
        };
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            rsa: RsaKeyPair::from_pkcs8(pkcs8).unwrap(),
            p256: ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            p384: ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
        }
    }

    pub fn rsa_jwk(&self) -> Value {
        let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        json!({"kty": "RSA", "kid": "rsa", "use": "sig", "n": base64(n), "e": base64(e)})
    }

    pub fn ec_jwk(key: &EcdsaKeyPair, kid: &str, curve: &str) -> Value {
        let (x, y) = key.public_key().as_ref()[1..].split_at((key.public_key().as_ref().len() - 1) / 2);
        json!({"kty": "EC", "kid": kid, "crv": curve, "x": base64(x), "y": base64(y)})
    }

    pub fn ed_jwk(&self) -> Value {
        json!({"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": base64(self.ed.public_key().as_ref())})
    }

    /// The keys, and keys that are not for signatures.
    pub fn key_set(&self) -> Value {
        let for_encryption = json!({"kid": "for-encryption", "use": "enc"});
        let for_signing_only = json!({"kid": "for-signing-only", "key_ops": ["sign"]});
        let for_rs256 = json!({"kid": "for-rs256", "alg": "RS256"});
        let variant = |changes: Value| {
            let mut key = self.rsa_jwk();
            key.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            key
        };
        json!({"keys": [
            self.rsa_jwk(), Self::ec_jwk(&self.p256, "p256", "P-256"), Self::ec_jwk(&self.p384, "p384", "P-384"),
            self.ed_jwk(), variant(for_encryption), variant(for_signing_only), variant(for_rs256),
            {"kty": "EC", "kid": "p521", "crv": "P-521", "x": "AA", "y": "AA"}, {"kty": "oct", "kid": "shared", "k": "AAAA"},
        ]})
    }

    /// The id of the key that fits to this algorithm.
    pub fn kid(algorithm: &str) -> &'static str {
        match algorithm {
            "ES256" => "p256",
            "ES384" => "p384",
            "EdDSA" => "ed",
            _ => "rsa",
        }
    }

    /// A signature by the key that fits to this algorithm.
    pub fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |padding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            self.rsa.sign(padding, &random, message, &mut signature).unwrap();
            signature
        };
        match algorithm {
            "RS256" => rsa(&signature::RSA_PKCS1_SHA256),
            "RS384" => rsa(&signature::RSA_PKCS1_SHA384),
            "RS512" => rsa(&signature::RSA_PKCS1_SHA512),
            "PS256" => rsa(&signature::RSA_PSS_SHA256),
            "PS384" => rsa(&signature::RSA_PSS_SHA384),
            "PS512" => rsa(&signature::RSA_PSS_SHA512),
            "ES256" => self.p256.sign(&random, message).unwrap().as_ref().to_vec(),
            "ES384" => self.p384.sign(&random, message).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed.sign(message).as_ref().to_vec(),
            other => panic!("no key for {other}"),
        }
    }

    /// A token with this text as its header and its claims.
    pub fn token_of_text(&self, algorithm: &str, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
        let message = format!("{}.{}", base64(header), base64(claims));
        let signature = base64(self.sign(algorithm, message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// A token with this header, which is signed with RS256 whatever the header says.
    pub fn token_with_header(&self, header: &Value) -> String {
        self.token_of_text("RS256", header.to_string(), claims().to_string())
    }

    /// A token of this algorithm with these claims.
    pub fn token(&self, algorithm: &str, claims: &Value) -> String {
        let header = json!({"alg": algorithm, "typ": "JWT", "kid": Self::kid(algorithm)});
        self.token_of_text(algorithm, header.to_string(), claims.to_string())
    }
}
