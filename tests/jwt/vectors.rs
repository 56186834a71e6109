//! The examples of the standards: signatures that another implementation has made.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use taskbell::JwtAlgorithm;
use taskbell::http::identity::jwt::key::{find_key, read_keys};

fn verifies(algorithm: JwtAlgorithm, jwk: &Value, token: &str) -> bool {
    let keys = read_keys(&json!({"keys": [jwk]}).to_string()).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    find_key(&keys, algorithm, None).unwrap().verifies(algorithm, message.as_bytes(), &signature)
}

/// The claims of RFC 7515, appendix A.
const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

#[test]
fn the_examples_of_the_standards_are_verified() {
    let rsa = json!({"kty": "RSA", "e": "AQAB", "n": concat!(
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMs",
        "D1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdV",
        "MTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    )});
    let signature = concat!(
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZ",
        "cAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-e",
        "OkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    );
    assert!(verifies(JwtAlgorithm::Rs256, &rsa, &format!("eyJhbGciOiJSUzI1NiJ9.{CLAIMS}.{signature}")), "RFC 7515 A.2");
    let mut with_zeros = rsa.clone();
    with_zeros["n"] = json!(
        URL_SAFE_NO_PAD.encode([vec![0, 0], URL_SAFE_NO_PAD.decode(rsa["n"].as_str().unwrap()).unwrap()].concat())
    );
    assert!(verifies(JwtAlgorithm::Rs256, &with_zeros, &format!("eyJhbGciOiJSUzI1NiJ9.{CLAIMS}.{signature}")));

    let p256 = json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    assert!(
        verifies(JwtAlgorithm::Es256, &p256, &format!("eyJhbGciOiJFUzI1NiJ9.{CLAIMS}.{signature}")),
        "RFC 7515 A.3"
    );

    let ed = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhi\
        jcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert!(verifies(JwtAlgorithm::EdDsa, &ed, token), "RFC 8037 A.4");
}

#[test]
fn a_text_without_a_usable_key_is_no_key_set() {
    let with = |jwk: Value| json!({"keys": [jwk]}).to_string();
    let many = json!({"keys": vec![json!({"kty": "oct"}); 101]}).to_string();
    for (text, why) in [
        (String::new(), "it is not JSON"),
        ("{\"keys\":[],\"keys\":[]}".into(), "it is not JSON"),
        ("[]".into(), "it has no list `keys`"),
        (json!({"keys": {}}).to_string(), "it has no list `keys`"),
        (many, "it has more than 100 keys"),
        (json!({"keys": []}).to_string(), "it has no key that can verify a token"),
        (with(json!({"kty": "oct", "k": "AAAA"})), "it has no key that can verify a token"),
        (with(json!({"kty": "RSA", "n": "!", "e": "AQAB"})), "it has no key that can verify a token"),
        (with(json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"})), "it has no key that can verify a token"),
        (with(json!({"kty": "OKP", "crv": "Ed25519", "x": "AA"})), "it has no key that can verify a token"),
        (with(json!("key")), "it has no key that can verify a token"),
    ] {
        assert_eq!(read_keys(&text).map_err(|error| error.to_string()), Err(why.to_owned()), "{text}");
    }
}
