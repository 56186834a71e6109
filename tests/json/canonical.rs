//! When two requests are the same.

use taskbell::http::plumbing::body_hash::{body_hash, is_hash_of};
use taskbell::task::json::canonical::{Numbers, canonical};

/// Bodies, and the hashes that a server recorded for them whose hashes had no version yet.
const RECORDED: [(&str, &str); 3] = [
    (
        r#"{"kind":"a","input":{"b":[1.50,1E5,-0,-0.0,100000000000000000000,18446744073709551615,-9223372036854775808,-9223372036854775809,0.1],"a":"\u0041\/\u00fc\n\u2028ü"},"labels":{"z":"1","a":"2"}}"#,
        "e70e9eeb2a001af603590aeb4273e543a04502a20d4ce26619cf87ff7ae80c66",
    ),
    (r#" { "kind" : "a" } "#, "f615a40c287aedbc66eb1da343d99911a00d73578b37a1a4cfb8db4754de9662"),
    (
        r#"{"kind":"a","input":{}, "title":"t","priority":3}"#,
        "c633751b11ececc53597f2be7666764dcc6ada020679464489ad689885707e25",
    ),
];

#[test]
fn a_hash_of_an_older_log_still_matches_its_body() {
    for (body, hash) in RECORDED {
        assert!(is_hash_of(hash, body), "{body}");
        assert!(!is_hash_of(hash, &body.replace('a', "c")), "{body}");
    }
    // In such a hash the spelling of a number did not count.
    assert!(is_hash_of(RECORDED[0].1, &RECORDED[0].0.replace("1.50", "1.5")));
}

#[test]
fn a_hash_says_by_its_beginning_how_it_was_made() {
    for (body, hash) in RECORDED {
        let new = body_hash(body);
        assert!(new.starts_with("2:") && new.len() == 66, "{new}");
        assert!(is_hash_of(&new, body) && !is_hash_of(&new, &body.replace('a', "c")), "{new}");
        assert_eq!(new[2..] == *hash, !body.contains("1.50"), "{new}: they differ in their numbers alone");
    }
    assert!(!is_hash_of(&body_hash(RECORDED[0].0), &RECORDED[0].0.replace("1.50", "1.5")));
    assert!(!is_hash_of("3:0", "{}") && !is_hash_of("", "{}"));
}

#[test]
fn space_order_and_escapes_make_no_difference_and_numbers_do() {
    let same = [
        r#"{"a":[1.50,{"x":null,"y":"A\n/"}],"b":{}}"#,
        r#" { "b" : { } , "a" : [ 1.50 , { "y" : "\u0041\u000a\/" , "x" : null } ] } "#,
        r#"{"\u0062":{},"a":[1.50,{"y":"A\n/","\u0078":null}]}"#,
    ];
    for body in same {
        assert_eq!(canonical(body, Numbers::AsWritten, "key"), same[0], "{body}");
    }
    assert_eq!(canonical(same[1], Numbers::Rounded, "key"), same[0].replace("1.50", "1.5"));
}

#[test]
fn the_key_beside_the_body_is_left_out_and_only_there() {
    for (body, rest) in [
        (r#"{"key":"k","a":1}"#, r#"{"a":1}"#),
        (r#"{"a":1,"key":"k"}"#, r#"{"a":1}"#),
        (r#"{"b":1,"key":[{}],"a":{"key":1}}"#, r#"{"a":{"key":1},"b":1}"#),
        (r#"{"key":1}"#, "{}"),
        (r#"[{"key":1}]"#, r#"[{"key":1}]"#),
    ] {
        assert_eq!(canonical(body, Numbers::AsWritten, "key"), rest, "{body}");
    }
}
