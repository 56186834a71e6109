//! `JsonText`: a value as its text.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use taskbell::JsonText;
use taskbell::task::json::text::{scanned, scanned_or_none};
use taskbell::task::json::value_of;

use super::*;

fn compact(text: &str) -> String {
    JsonText::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}")).as_str().to_owned()
}

#[test]
fn white_space_goes_and_everything_else_stays_byte_for_byte() {
    for (text, kept) in [
        (" 1.50\n", "1.50"),
        ("\"a b\"", "\"a b\""),
        (" [ 1 ,\t2 ,\r\n[ ] , { } ] ", "[1,2,[],{}]"),
        (r#"{ "b c" : " \" x " , "a" : "\\" , "\u0041" : "\/" }"#, r#"{"b c":" \" x ","a":"\\","\u0041":"\/"}"#),
        ("{\"ü\" : \"\u{1F514} \u{2028}\" }", "{\"ü\":\"\u{1F514} \u{2028}\"}"),
    ] {
        assert_eq!(compact(text), kept);
        assert_eq!(compact(kept), kept);
    }
}

#[test]
fn a_text_of_more_than_32_levels_is_refused() {
    assert_eq!(JsonText::parse(&nested(32)).unwrap().depth(), 32);
    for levels in [33, 200, 1_000_000] {
        let fault = JsonText::parse(&nested(levels)).unwrap_err();
        assert_eq!(fault, Fault::TooDeep { pointer: "/0".repeat(32), levels: 32 }, "{levels}");
    }
    let deep = (1..40).fold(json!([]), |inner, _| json!([inner]));
    assert_eq!(JsonText::from(deep).depth(), 40, "a value from inside the process says how deep it is");
}

/// As the body of a request, which is scanned as a whole.
#[derive(Debug, Deserialize)]
struct Body {
    #[serde(default, deserialize_with = "scanned")]
    input: JsonText,
    #[serde(default, deserialize_with = "scanned_or_none")]
    result: Option<JsonText>,
}

#[test]
fn a_value_of_a_scanned_body_is_the_same_as_if_it_were_scanned_again() {
    for text in [
        " 1.50",
        "null",
        r#" "[{\\\"]" "#,
        r#"{ "b c" : " \" x " , "a" : [ [ ] , { } , "\\" , [[1]] ] }"#,
        "[\"\u{2028}\", -0.0, 1e400, 123456789012345678901234567890]",
        &nested(32),
    ] {
        let body: Body = serde_json::from_str(&format!(r#"{{"input": {text}, "result": {text}}}"#)).unwrap();
        let parsed = JsonText::parse(text).unwrap();
        assert_eq!((&body.input, body.input.depth()), (&parsed, parsed.depth()), "{text}");
        assert_eq!(body.result, Some(parsed).filter(|result| !result.is_null()), "{text}");
    }
    let absent: Body = serde_json::from_str("{}").unwrap();
    assert!(absent.input.is_null() && absent.result.is_none());
    let error = |text: String| serde_json::from_str::<Body>(&text).unwrap_err().to_string();
    let again = |text: &str| JsonText::parse(text).unwrap_err().to_string();
    let too_deep = format!(r#"{{"input":{}}}"#, nested(33));
    assert!(error(too_deep).starts_with(&again(&nested(33))));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Holder {
    first: u32,
    value: JsonText,
    more: Option<JsonText>,
}

#[test]
fn inside_another_value_it_is_read_and_written_as_its_text() {
    let text = r#"{"first":1,"value":{"n":1.50,"$serde_json::private::RawValue":"[1]"},"more":1e400}"#;
    let spaced =
        r#"{ "value" : { "n" : 1.50 , "$serde_json::private::RawValue" : "[1]" } , "more" : 1e400 , "first" : 1 }"#;
    let holder: Holder = serde_json::from_str(spaced).unwrap();
    assert_eq!(serde_json::to_string(&holder).unwrap(), text);
    assert_eq!(serde_json::from_str::<Holder>(text).unwrap(), holder);
    let without: Holder = serde_json::from_str(r#"{"first":1,"value":null,"more":null}"#).unwrap();
    assert!(without.value.is_null() && without.more.is_none());
    for wrong in [nested(33), r#"{"a":1,"a":2}"#.to_owned(), "\"\\ud800\"".to_owned()] {
        let error = serde_json::from_str::<Holder>(&format!(r#"{{"first":1,"value":{wrong},"more":null}}"#));
        assert!(error.is_err(), "{wrong}");
    }
}

#[test]
fn a_tree_of_it_has_the_same_numbers_as_far_as_a_tree_can_hold_them() {
    for text in ["0", "-1", "18446744073709551615", "-9223372036854775808", "1.5", "-0.0", "0.1", "5e-324", "1e308"] {
        assert_eq!(JsonText::parse(text).unwrap().to_value(), serde_json::from_str::<Value>(text).unwrap(), "{text}");
    }
    let value = |text: &str| JsonText::parse(text).unwrap().to_value();
    assert_eq!(value("-0").to_string(), "-0.0");
    assert_eq!(value("18446744073709551616").as_f64(), Some(18_446_744_073_709_551_616.0));
    assert_eq!((value("1e400").as_f64(), value("-1e400").as_f64()), (Some(f64::MAX), Some(f64::MIN)));
}

#[test]
fn no_key_has_a_meaning_in_a_tree() {
    for key in ["$serde_json::private::RawValue", "$serde_json::private::Number"] {
        let text = format!(r#"{{"{key}":"[1]","more":{{"{key}":"1"}}}}"#);
        let value = JsonText::parse(&text).unwrap().to_value();
        assert_eq!((&value[key], &value["more"][key]), (&json!("[1]"), &json!("1")));
        assert_eq!(value_of(&text), Ok(value));
    }
}

#[test]
fn a_key_of_the_librarys_own_is_found_where_it_is_a_key() {
    let has = |text: &str| JsonText::parse(text).unwrap().has_private_key();
    for text in [
        r#"{"$serde_json::private::RawValue":1}"#,
        r#"[{"a":{"\u0024serde_json::private::Number":"1"}}]"#,
        r#"{"x":"\"","$serde_json::private::":1}"#,
    ] {
        assert!(has(text), "{text}");
    }
    for text in
        [r#"["$serde_json::private::RawValue"]"#, r#"{"a":"$serde_json::private::RawValue"}"#, r#"{"\u0024":1}"#]
    {
        assert!(!has(text), "{text}");
    }
}

#[test]
fn a_text_for_the_command_line_may_be_deeper_than_an_input() {
    assert!(value_of(&nested(128)).is_ok());
    assert!(value_of(&nested(129)).is_err() && value_of("1,").is_err());
}
