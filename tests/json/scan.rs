//! The scanner: the grammar, repeated keys, limits, and where a fault is.

use super::*;

#[track_caller]
fn assert_malformed(text: &str, at: (usize, usize)) {
    match facts(text) {
        Err(Fault::Malformed { line, column, .. }) => assert_eq!((line, column), at, "{text}"),
        other => panic!("{text}: {other:?}"),
    }
}

#[track_caller]
fn assert_repeated(text: &str, pointer: &str) {
    assert_eq!(facts(text), Err(Fault::RepeatedKey { pointer: pointer.to_owned() }), "{text}");
}

#[test]
fn every_form_of_a_value_is_accepted() {
    for text in [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "10",
        "0.5",
        "1e5",
        "1E+05",
        "-1.50e-400",
        "\"\"",
        r#""\"\\\/\b\f\n\r\t\u00fc\ud83d\udd14""#,
        "\"ü\u{1F514}\u{2028}\u{7f}\"",
        "[]",
        "{}",
        "[[],{},[1,2]]",
        r#"{"a":{"b":[{"":null}]},"b":1}"#,
        " \t\r\n[ 1 , { \"a\" : 2 } ]\n",
    ] {
        assert!(facts(text).is_ok(), "{text}: {:?}", facts(text));
    }
}

#[test]
fn what_breaks_the_grammar_is_refused_where_it_breaks() {
    for (text, column) in [
        ("", 1),
        (" ", 2),
        ("nul", 1),
        ("nulL", 1),
        ("tru", 1),
        ("+1", 1),
        ("01", 2),
        ("-", 2),
        ("1.", 3),
        (".5", 1),
        ("1e", 3),
        ("1e+", 4),
        ("NaN", 1),
        ("'a'", 1),
        ("\"", 2),
        ("\"a", 3),
        ("\"\n\"", 2),
        ("\"\u{1f}\"", 2),
        (r#""\x""#, 3),
        (r#""\u12g4""#, 4),
        (r#""\u12"#, 4),
        ("[", 2),
        ("[1", 3),
        ("[1,", 4),
        ("[1,]", 4),
        ("[,1]", 2),
        ("[1 2]", 4),
        ("[1}", 3),
        ("]", 1),
        ("{", 2),
        ("{a:1}", 2),
        ("{1:1}", 2),
        (r#"{"a"}"#, 5),
        (r#"{"a":}"#, 6),
        (r#"{"a":1,}"#, 8),
        (r#"{"a":1 "b":2}"#, 8),
        (r#"{"a":1]"#, 7),
        ("1 2", 3),
        ("{}{}", 3),
        ("null\0", 5),
        ("\u{feff}1", 1),
        ("// c\n1", 1),
    ] {
        assert_malformed(text, (1, column));
    }
    assert_malformed("{\"a\":\n [1,\n  x]}", (3, 3));
}

#[test]
fn half_a_character_is_refused() {
    for text in
        [r#""\ud800""#, r#""\udc00""#, r#""\ud800a""#, r#""\ud800\n""#, r#""\ud800\ud800""#, r#""\udc00\ud800""#]
    {
        assert!(matches!(facts(text), Err(Fault::Malformed { .. })), "{text}");
        assert!(matches!(facts(&format!("{{{text}:1}}")), Err(Fault::Malformed { .. })), "{text} as a key");
    }
}

#[test]
fn a_repeated_key_is_refused_on_every_level_and_however_it_is_escaped() {
    assert_repeated(r#"{"a":1,"a":1}"#, "/a");
    assert_repeated(r#"{"a":1,"\u0061":2}"#, "/a");
    assert_repeated(r#"{"ü":1,"b":0,"\u00fc":2}"#, "/ü");
    assert_repeated(r#"{"\ud83d\udd14":1,"🔔":2}"#, "/🔔");
    assert_repeated(r#"{"\n":1,"\u000a":2}"#, "/\n");
    assert_repeated(r#"[0,{"x":{"a/b":1,"~":0,"a/b":2}}]"#, "/1/x/a~1b");
    assert_repeated(r#"{"x":1,"y":[[],{"z":0}],"w":{"":1,"":2}}"#, "/w/");
    assert_repeated(r#"{"b":1,"a":1,"b":2,"a":2}"#, "/b");
    for text in
        [r#"{"a":{"a":{"a":1}}}"#, r#"[{"a":1},{"a":1}]"#, r#"{"a":1,"A":1,"a ":1}"#, r#"{"a":{"b":1},"b":{"a":1}}"#]
    {
        assert!(facts(text).is_ok(), "{text}");
    }
}

#[test]
fn one_repeated_key_among_very_many_is_found() {
    let keys: Vec<String> = (0..200_000).map(|n| format!("\"{n}\":0")).collect();
    assert!(facts(&format!("{{{}}}", keys.join(","))).is_ok());
    assert_repeated(&format!("{{{},\"77\":1}}", keys.join(",")), "/77");
}

#[test]
fn depth_is_counted_from_the_value_and_refused_where_it_begins_to_be_too_deep() {
    for (text, depth) in [("1", 0), ("[]", 1), ("{}", 1), ("[1,[2],{\"a\":[]}]", 3)] {
        assert_eq!(facts(text).unwrap().depth, depth, "{text}");
    }
    let limits = Limits { depth: 3, ..Limits::NONE };
    assert_eq!(scan(&nested(3), limits).unwrap().depth, 3);
    let too_deep = Fault::TooDeep { pointer: "/a/1/b".to_owned(), levels: 3 };
    assert_eq!(scan(r#"{"a":[0,{"b":{}}]}"#, limits), Err(too_deep));
    // Without recursion, no depth of the text exhausts the stack.
    assert_eq!(facts(&nested(3_000_000)).unwrap().depth, 3_000_000);
    assert!(facts(&"[".repeat(3_000_000)).is_err());
}

#[test]
fn values_are_counted_on_all_levels() {
    let limits = Limits { values: 5, ..Limits::NONE };
    assert!(scan(r#"{"a":[1,2],"b":3}"#, limits).is_ok());
    let too_many = Fault::TooManyValues { pointer: "/c".to_owned(), values: 5 };
    assert_eq!(scan(r#"{"a":[1,2],"b":3,"c":4}"#, limits), Err(too_many));
}

#[test]
fn only_the_space_between_tokens_is_counted() {
    for (text, spaces) in [("1", 0), (" 1\n", 2), (r#"" ""#, 0), (r#"{ " " : [ ] , "\" ":	1 }"#, 8)] {
        assert_eq!(facts(text).unwrap().spaces, spaces, "{text}");
    }
}
