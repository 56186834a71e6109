//! Tokens that are refused, each of them different from a good token in one respect.

use ring::hmac;
use serde_json::{Value, json};
use taskbell::http::identity::jwt::{JwtRefusal, JwtVerifier};
use taskbell::{JwtSettings, Role};

use super::issuer::{AUDIENCE, ISSUER, Issuer, NOW_S, base64, claims, claims_with, now, verifier_of};

/// A token, what is wrong with it, and the reason that the log gets.
struct Bad {
    what: String,
    token: String,
    why: Option<JwtRefusal>,
}

fn bad(what: impl Into<String>, token: impl Into<String>, why: JwtRefusal) -> Bad {
    Bad { what: what.into(), token: token.into(), why: Some(why) }
}

/// The header of a good token with these changes.
fn header_with(changes: &Value) -> Value {
    let mut header = json!({"alg": "RS256", "typ": "JWT", "kid": "rsa"});
    header.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    header
}

fn header_without(name: &str) -> Value {
    let mut header = header_with(&json!({}));
    header.as_object_mut().unwrap().remove(name);
    header
}

/// Tokens whose header names an algorithm that isn't configured, with every signature that could be taken for right.
fn algorithms(issuer: &Issuer) -> Vec<Bad> {
    let mut found = Vec::new();
    let message = |alg: &Value| {
        format!("{}.{}", base64(header_with(&json!({"alg": alg})).to_string()), base64(claims().to_string()))
    };
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let message = message(&json!(alg));
        let signature = issuer.token("RS256", &claims()).rsplit_once('.').unwrap().1.to_owned();
        found.push(bad(format!("alg {alg:?} without a signature"), format!("{message}."), JwtRefusal::Algorithm));
        found.push(bad(
            format!("alg {alg:?} with a signature"),
            format!("{message}.{signature}"),
            JwtRefusal::Algorithm,
        ));
    }
    let public = issuer.rsa_jwk();
    let keys =
        [public.to_string(), public["n"].as_str().unwrap().to_owned(), issuer.key_set().to_string(), String::new()];
    for (name, algorithm) in [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
    {
        for key in &keys {
            let message = message(&json!(name));
            let signature = hmac::sign(&hmac::Key::new(algorithm, key.as_bytes()), message.as_bytes());
            let token = format!("{message}.{}", base64(signature.as_ref()));
            found.push(bad(format!("{name} with a public text as its key"), token, JwtRefusal::Algorithm));
        }
    }
    for name in ["RS384", "RS512", "PS256", "PS384", "PS512", "ES384"] {
        let token = issuer.token(name, &claims());
        found.push(bad(
            format!("{name}, which isn't configured, with its right signature"),
            token,
            JwtRefusal::Algorithm,
        ));
    }
    for alg in
        ["RS1", "rs256", "RS256 ", "ES256K", "ES512", "Ed25519", "Ed448", "RSA1_5", "dir", "A128KW", "RS256,none"]
    {
        let token = issuer.token_with_header(&header_with(&json!({"alg": alg})));
        found.push(bad(format!("alg {alg:?}"), token, JwtRefusal::Algorithm));
    }
    for alg in [json!(null), json!(256), json!(["RS256"]), json!({"name": "RS256"}), json!(true)] {
        let token = issuer.token_with_header(&header_with(&json!({"alg": alg})));
        found.push(bad(format!("alg {alg}"), token, JwtRefusal::Header));
    }
    found.push(bad("no alg", issuer.token_with_header(&header_without("alg")), JwtRefusal::Algorithm));
    found
}

/// Tokens that name a wrong key, or that bring their own.
fn keys(issuer: &Issuer, other: &Issuer) -> Vec<Bad> {
    let mut found = Vec::new();
    for alg in ["RS256", "ES256", "EdDSA"] {
        found.push(bad(
            format!("{alg} by a key of another issuer"),
            other.token(alg, &claims()),
            JwtRefusal::Signature,
        ));
        let without_kid = json!({"alg": alg}).to_string();
        let token = issuer.token_of_text(alg, without_kid, claims().to_string());
        found.push(bad(format!("{alg} without a kid"), token, JwtRefusal::NoKeyId));
        for kid in ["rsa", "p256", "p384", "ed"].into_iter().filter(|kid| *kid != Issuer::kid(alg)) {
            let token = issuer.token_of_text(alg, json!({"alg": alg, "kid": kid}).to_string(), claims().to_string());
            found.push(bad(format!("{alg} with the key {kid}"), token, JwtRefusal::KeyOfOtherAlgorithm));
        }
    }
    let long = "rsa".repeat(1000);
    for kid in ["unknown", "RSA", "rsa ", "", "../rsa", "for-encryption", "for-signing-only", "p521", "shared", &long] {
        let token = issuer.token_with_header(&header_with(&json!({"kid": kid})));
        found.push(bad(format!("kid {kid:?}"), token, JwtRefusal::UnknownKey));
    }
    for kid in [json!(null), json!(1), json!(["rsa"]), json!({"rsa": 1})] {
        let token = issuer.token_with_header(&header_with(&json!({"kid": kid})));
        found.push(bad(format!("kid {kid}"), token, JwtRefusal::Header));
    }
    for own in
        [json!({"jwk": other.rsa_jwk()}), json!({"jku": "http://127.0.0.1:1/"}), json!({"x5u": "http://127.0.0.1:1/"})]
    {
        let token = other.token_with_header(&header_with(&own));
        found.push(bad(format!("a key of its own: {own}"), token, JwtRefusal::Signature));
    }
    found
}

/// Tokens that say that they are something else than a JWT, or that need an extension.
fn headers(issuer: &Issuer) -> Vec<Bad> {
    let mut found = Vec::new();
    for typ in ["JWS", "JOSE", "id_token", "logout+jwt", "dpop+jwt", "application/jwt", "JWT ", ""] {
        let token = issuer.token_with_header(&header_with(&json!({"typ": typ})));
        found.push(bad(format!("typ {typ:?}"), token, JwtRefusal::Type));
    }
    for typ in [json!(null), json!(1), json!(["JWT"])] {
        let token = issuer.token_with_header(&header_with(&json!({"typ": typ})));
        found.push(bad(format!("typ {typ}"), token, JwtRefusal::Header));
    }
    for crit in [json!([]), json!(["exp"]), json!(["b64"]), json!(null), json!("exp")] {
        let token = issuer.token_with_header(&header_with(&json!({"crit": crit, "b64": false})));
        found.push(bad(format!("crit {crit}"), token, JwtRefusal::Critical));
    }
    found
}

#[allow(clippy::too_many_lines)] // a table
fn claim_values() -> Vec<(&'static str, JwtRefusal, Vec<Value>)> {
    let of_length = |length| json!("s".repeat(length));
    vec![
        (
            "exp",
            JwtRefusal::Expired,
            vec![
                json!(NOW_S - 30),
                json!(NOW_S - 31),
                json!(NOW_S - 600),
                json!(0),
                json!(-1),
                json!(-1e300),
                json!(1.5),
            ],
        ),
        (
            "exp",
            JwtRefusal::NoExpiry,
            vec![
                json!(null),
                json!("1900000000"),
                json!(true),
                json!([NOW_S + 600]),
                json!({}),
                json!("2030-01-01T00:00:00Z"),
            ],
        ),
        (
            "nbf",
            JwtRefusal::NotYetValid,
            vec![json!(NOW_S + 31), json!(NOW_S + 3600), json!(1e300), json!("0"), json!([0]), json!(false)],
        ),
        (
            "iss",
            JwtRefusal::Issuer,
            vec![
                json!(null),
                json!("https://issuer.example"),
                json!(format!("{ISSUER}/")),
                json!(ISSUER.to_uppercase()),
                json!([ISSUER]),
                json!(1),
                json!(""),
                json!(format!("{ISSUER}\u{0}")),
                json!(format!(" {ISSUER}")),
            ],
        ),
        (
            "aud",
            JwtRefusal::Audience,
            vec![
                json!(null),
                json!("other"),
                json!([]),
                json!(["other"]),
                json!([AUDIENCE, 1]),
                json!({AUDIENCE: true}),
                json!("Taskbell"),
                json!("taskbell "),
                json!("taskbell other"),
                json!("task"),
                json!(1),
                json!([[AUDIENCE]]),
            ],
        ),
        (
            "sub",
            JwtRefusal::Subject,
            vec![
                json!(null),
                json!(""),
                json!("   "),
                json!("anna,bea"),
                json!(","),
                of_length(129),
                of_length(5000),
                json!(1),
                json!(["anna"]),
                json!({"name": "anna"}),
                json!("an\u{0}na"),
                json!("anna\n"),
                json!("anna\u{202e}"),
                json!("an\u{2028}na"),
                json!("an\u{7f}na"),
                json!("\u{2066}anna"),
            ],
        ),
        (
            "taskbell_role",
            JwtRefusal::Role,
            vec![
                json!("root"),
                json!("Admin"),
                json!(" admin"),
                json!(""),
                json!("user,admin"),
                json!(["admin"]),
                json!(1),
                json!({"admin": true}),
                json!(true),
                json!("administrator"),
            ],
        ),
        ("taskbell_role", JwtRefusal::NoRole, vec![json!(null)]),
        (
            "kinds",
            JwtRefusal::Kinds,
            vec![
                json!("mail"),
                json!([1]),
                json!(["Mail"]),
                json!(["mail", ""]),
                json!(["a b"]),
                json!({"mail": true}),
                json!(vec!["mail"; 1001]),
            ],
        ),
    ]
}

fn claims_of_bad_tokens(issuer: &Issuer) -> Vec<Bad> {
    let mut found = Vec::new();
    for (name, why, values) in claim_values() {
        for value in values {
            let token = issuer.token("ES256", &claims_with(&json!({name: value})));
            let what: String = format!("{name} {value}").chars().take(80).collect();
            found.push(bad(what, token, why));
        }
    }
    let null_role = claims().to_string().replace("\"operator\"", "null");
    found.push(bad(
        "a role null",
        issuer.token_of_text("RS256", header_with(&json!({})).to_string(), null_role),
        JwtRefusal::Role,
    ));
    found
}

/// Texts that are no JWT, or whose parts are not what they must be.
fn texts(issuer: &Issuer) -> Vec<Bad> {
    let good = issuer.token("RS256", &claims());
    let parts: Vec<&str> = good.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    let mut found: Vec<Bad> = [
        ("an empty text", String::new()),
        ("dots only", "..".into()),
        ("more dots", "....".into()),
        ("two parts", format!("{header}.{payload}")),
        ("one part", header.into()),
        ("a fourth part", format!("{good}.{signature}")),
        ("an empty fourth part", format!("{good}.")),
        ("five parts, as an encrypted token has", format!("{good}.AAAA.AAAA")),
        ("an empty part before it", format!(".{good}")),
        ("no header", format!(".{payload}.{signature}")),
        ("padding after the signature", format!("{good}==")),
        ("padding after the header", format!("{header}=.{payload}.{signature}")),
        ("a space after it", format!("{good} ")),
        ("a space before it", format!(" {good}")),
        ("a line break in the signature", format!("{header}.{payload}.\n{signature}")),
        ("a character of another alphabet", format!("{header}.{payload}.+{}", &signature[1..])),
        ("another one", format!("{header}.{payload}./{}", &signature[1..])),
        ("a percent sign", format!("{header}.{payload}.%{}", &signature[1..])),
        ("a letter outside of ASCII", format!("{header}.{payload}.é{signature}")),
        ("a NUL", format!("{good}\0")),
        ("a comma and a second token", format!("{good},{good}")),
        ("the JSON form", json!({"protected": header, "payload": payload, "signature": signature}).to_string()),
        ("a length that no text in base64 has", format!("{header}.{payload}.{signature}AAA")),
    ]
    .into_iter()
    .map(|(what, token)| bad(what, token, JwtRefusal::Malformed))
    .collect();
    found.push(bad("an empty signature", format!("{header}.{payload}."), JwtRefusal::Signature));
    found.push(bad("a line break in the claims", format!("{header}.\n{payload}.{signature}"), JwtRefusal::Signature));
    found.push(bad("no claims", format!("{header}..{signature}"), JwtRefusal::Signature));
    found
}

/// Tokens with a right signature over something that isn't a header and claims.
fn contents(issuer: &Issuer) -> Vec<Bad> {
    let (header, payload) = (header_with(&json!({})).to_string(), claims().to_string());
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    let mut found = Vec::new();
    let repeated = |text: &str, name: &str, value: &str| text.replacen('{', &format!("{{\"{name}\":{value},"), 1);
    for (what, text) in [
        ("no JSON", "hello".to_owned()),
        ("nothing", String::new()),
        ("a list", "[]".into()),
        ("a text", "\"RS256\"".into()),
        ("null", "null".into()),
        ("two objects", "{}{}".into()),
        ("a comma too many", "{\"alg\":\"RS256\",}".into()),
        ("deep nesting", deep),
        ("a byte order mark", format!("\u{feff}{payload}")),
    ] {
        found.push(bad(
            format!("claims: {what}"),
            issuer.token_of_text("RS256", &header, &text),
            JwtRefusal::Malformed,
        ));
        found.push(bad(
            format!("header: {what}"),
            issuer.token_of_text("RS256", &text, &payload),
            JwtRefusal::Malformed,
        ));
    }
    for (name, value) in [("sub", "\"root\""), ("exp", "9999999999"), ("taskbell_role", "\"admin\""), ("aud", "\"x\"")]
    {
        let token = issuer.token_of_text("RS256", &header, repeated(&payload, name, value));
        found.push(bad(format!("a second {name}"), token, JwtRefusal::Malformed));
    }
    for (name, value) in [("alg", "\"none\""), ("kid", "\"x\""), ("\\u0061lg", "\"none\"")] {
        let token = issuer.token_of_text("RS256", repeated(&header, name, value), &payload);
        found.push(bad(format!("a second {name}"), token, JwtRefusal::Malformed));
    }
    let utf16: Vec<u8> = payload.encode_utf16().flat_map(u16::to_le_bytes).collect();
    found.push(bad("claims in UTF-16", issuer.token_of_text("RS256", &header, utf16), JwtRefusal::Malformed));
    found.push(bad(
        "claims that aren't UTF-8",
        issuer.token_of_text("RS256", &header, b"{\"a\":\"\xff\"}"),
        JwtRefusal::Malformed,
    ));
    let huge = claims_with(&json!({"filler": "x".repeat(20_000)}));
    found.push(bad("huge claims", issuer.token("RS256", &huge), JwtRefusal::TooLong));
    let huge = issuer.token_with_header(&header_with(&json!({"filler": "x".repeat(20_000)})));
    found.push(bad("a huge header", huge, JwtRefusal::TooLong));
    found
}

/// Good tokens that were cut off, or one bit of which was changed.
fn damaged(issuer: &Issuer) -> Vec<Bad> {
    let mut found = Vec::new();
    for alg in ["RS256", "ES256", "EdDSA"] {
        let good = issuer.token(alg, &claims());
        for tenth in 1..10 {
            let token = good[..good.len() * tenth / 10].to_owned();
            found.push(Bad { what: format!("{alg}, cut off after {tenth}/10"), token, why: None });
        }
        found.push(Bad {
            what: format!("{alg}, without its last character"),
            token: good[..good.len() - 1].into(),
            why: None,
        });
        let mut start = 0;
        for (part, text) in good.split('.').enumerate() {
            for at in (0..6).map(|sixth| start + text.len() * sixth / 6).chain([start + text.len() - 1]) {
                let mut bytes = good.clone().into_bytes();
                bytes[at] ^= 1;
                let token = String::from_utf8(bytes).unwrap();
                found.push(Bad { what: format!("{alg}, a bit of part {part} at {at}"), token, why: None });
            }
            start += text.len() + 1;
        }
    }
    found
}

#[tokio::test]
async fn each_of_300_bad_tokens_is_refused_for_its_reason() {
    let (issuer, other) = (Issuer::new(), Issuer::other());
    let with_kinds = |settings: &mut JwtSettings| settings.kinds_claim = Some("kinds".into());
    let (_folder, verifier) = verifier_of(&issuer.key_set(), with_kinds);
    for alg in ["RS256", "ES256", "EdDSA"] {
        verifier.verify(&issuer.token(alg, &claims()), now()).await.expect("a good token");
    }
    let tokens = [
        algorithms(&issuer),
        keys(&issuer, &other),
        headers(&issuer),
        claims_of_bad_tokens(&issuer),
        texts(&issuer),
        contents(&issuer),
        damaged(&issuer),
    ]
    .concat_all();
    assert!(tokens.len() >= 300, "{}", tokens.len());
    let mut wrong = Vec::new();
    for Bad { what, token, why } in &tokens {
        match (verifier.verify(token, now()).await, why) {
            (Err(_), None) => {}
            (Err(found), Some(why)) if found == *why => {}
            (found, _) => wrong.push(format!("{what}: {found:?} instead of {why:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), tokens.len(), wrong.join("\n"));
}

trait ConcatAll {
    fn concat_all(self) -> Vec<Bad>;
}

impl<const N: usize> ConcatAll for [Vec<Bad>; N] {
    fn concat_all(self) -> Vec<Bad> {
        self.into_iter().flatten().collect()
    }
}

async fn refusal(verifier: &JwtVerifier, token: &str) -> JwtRefusal {
    verifier.verify(token, now()).await.expect_err("a bad token")
}

#[tokio::test]
async fn a_value_outside_of_the_table_of_roles_is_refused_even_if_it_names_a_role_and_there_is_a_default() {
    let issuer = Issuer::new();
    let (_folder, verifier) = verifier_of(&issuer.key_set(), |settings| {
        settings.roles = [("staff".into(), Role::Operator)].into();
        settings.default_role = Some(Role::User);
    });
    for value in ["admin", "operator", "Staff", ""] {
        let token = issuer.token("ES256", &claims_with(&json!({"taskbell_role": value})));
        assert_eq!(refusal(&verifier, &token).await, JwtRefusal::Role, "{value}");
    }
}

#[tokio::test]
async fn the_reason_contains_nothing_of_the_token() {
    let issuer = Issuer::new();
    let (_folder, verifier) = verifier_of(&issuer.key_set(), |_| {});
    let token = issuer.token("ES256", &claims_with(&json!({"sub": "canary,", "taskbell_role": "canary"})));
    let why = refusal(&verifier, &token).await;
    assert!(!format!("{why} {why:?}").contains("canary"));
}

#[tokio::test]
async fn the_only_key_is_not_used_for_an_algorithm_that_it_does_not_fit() {
    let issuer = Issuer::new();
    let (_folder, verifier) = verifier_of(&json!({"keys": [issuer.rsa_jwk()]}), |_| {});
    let token = issuer.token_of_text("ES256", json!({"alg": "ES256"}).to_string(), claims().to_string());
    assert_eq!(refusal(&verifier, &token).await, JwtRefusal::KeyOfOtherAlgorithm);
    let (_folder, verifier) =
        verifier_of(&issuer.key_set(), |settings| settings.algorithms = taskbell::JwtAlgorithm::ALL.to_vec());
    let header = json!({"alg": "PS256", "kid": "for-rs256"}).to_string();
    let token = issuer.token_of_text("PS256", header, claims().to_string());
    assert_eq!(refusal(&verifier, &token).await, JwtRefusal::KeyOfOtherAlgorithm);
}
