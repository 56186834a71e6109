//! Tokens that are accepted, and who their bearers are.

use serde_json::{Value, json};
use taskbell::http::identity::jwt::VerifiedJwt;
use taskbell::{JwtAlgorithm, JwtSettings, Role};

use super::issuer::{AUDIENCE, Issuer, NOW_S, at, claims, claims_with, now, verifier_of};

async fn verified(token: &str, set: &Value, change: impl FnOnce(&mut JwtSettings)) -> VerifiedJwt {
    let (_folder, verifier) = verifier_of(set, change);
    verifier.verify(token, now()).await.unwrap_or_else(|why| panic!("{why}: {token}"))
}

/// The bearer of a token with these changed claims.
async fn bearer(changes: Value) -> VerifiedJwt {
    let issuer = Issuer::new();
    verified(&issuer.token("ES256", &claims_with(&changes)), &issuer.key_set(), |_| {}).await
}

fn anna() -> VerifiedJwt {
    VerifiedJwt { subject: "anna".into(), role: Role::Operator, kinds: None, expires_at: at(NOW_S + 630) }
}

#[tokio::test]
async fn a_token_of_each_configured_algorithm_is_accepted() {
    let issuer = Issuer::new();
    for algorithm in JwtAlgorithm::ALL {
        let token = issuer.token(algorithm.name(), &claims());
        let all = |settings: &mut JwtSettings| settings.algorithms = JwtAlgorithm::ALL.to_vec();
        assert_eq!(verified(&token, &issuer.key_set(), all).await, anna(), "{algorithm}");
    }
}

#[tokio::test]
async fn a_token_without_a_key_id_is_verified_with_the_only_key() {
    let issuer = Issuer::new();
    let token = issuer.token_with_header(&json!({"alg": "RS256"}));
    assert_eq!(verified(&token, &json!({"keys": [issuer.rsa_jwk()]}), |_| {}).await, anna());
}

#[tokio::test]
async fn keys_with_the_same_id_are_told_apart_by_their_type() {
    let issuer = Issuer::new();
    let set = json!({"keys": [Issuer::ec_jwk(&issuer.p256, "rsa", "P-256"), issuer.rsa_jwk()]});
    assert_eq!(verified(&issuer.token("RS256", &claims()), &set, |_| {}).await, anna());
}

#[tokio::test]
async fn members_of_the_header_that_change_nothing_are_accepted() {
    let issuer = Issuer::new();
    for member in [
        json!({"typ": "at+jwt"}),
        json!({"typ": "jwt"}),
        json!({"x5t": "AAAA", "cty": "JWT"}),
        json!({"jku": "http://127.0.0.1:1/keys", "x5u": "http://127.0.0.1:1/", "x5c": ["AAAA"]}),
    ] {
        let mut header = json!({"alg": "RS256", "kid": "rsa"});
        header.as_object_mut().unwrap().extend(member.as_object().unwrap().clone());
        assert_eq!(verified(&issuer.token_with_header(&header), &issuer.key_set(), |_| {}).await, anna(), "{member}");
    }
}

#[tokio::test]
async fn claims_within_their_bounds_are_accepted() {
    assert_eq!(bearer(json!({"aud": [AUDIENCE]})).await, anna());
    assert_eq!(bearer(json!({"aud": ["other", AUDIENCE]})).await, anna());
    assert_eq!(bearer(json!({"nbf": NOW_S + 30, "iat": "whatever", "extra": {"a": [1]}})).await, anna());
    assert_eq!(bearer(json!({"exp": NOW_S - 29})).await.expires_at, at(NOW_S + 1));
    let fraction = bearer(json!({"exp": 1_800_000_000.5})).await.expires_at;
    assert_eq!(fraction.as_micros(), (NOW_S + 30) * 1_000_000 + 500_000);
    assert_eq!(bearer(json!({"exp": 1e300})).await.expires_at.to_string(), "9999-12-30T22:00:00.000000Z");
    assert_eq!(bearer(json!({"sub": "Zoë Æ"})).await.subject, "Zoë Æ");
    assert_eq!(bearer(json!({"taskbell_role": "auditor"})).await.role, Role::Auditor);
}

#[tokio::test]
async fn the_settings_name_the_claims_and_what_their_values_mean() {
    let issuer = Issuer::new();
    let changes = json!({"email": "anna@example.org", "group": "/staff/ops", "kinds": ["image.build", "mail"]});
    let token = issuer.token("EdDSA", &claims_with(&changes));
    let of_company = |settings: &mut JwtSettings| {
        settings.subject_claim = "email".into();
        settings.role_claim = "group".into();
        settings.roles = [("/staff/ops".into(), Role::Worker)].into();
        settings.kinds_claim = Some("kinds".into());
    };
    let bearer = verified(&token, &issuer.key_set(), of_company).await;
    assert_eq!((bearer.subject.as_str(), bearer.role), ("anna@example.org", Role::Worker));
    assert_eq!(bearer.kinds, Some(vec!["image.build".to_owned(), "mail".to_owned()]));

    let no_role = issuer.token("EdDSA", &claims_with(&json!({"taskbell_role": null})));
    let with_default = |settings: &mut JwtSettings| {
        settings.default_role = Some(Role::User);
        settings.kinds_claim = Some("kinds".into());
    };
    let bearer = verified(&no_role, &issuer.key_set(), with_default).await;
    assert_eq!((bearer.role, bearer.kinds), (Role::User, Some(Vec::new())), "no claim with kinds: no kind");
}
