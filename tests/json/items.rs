//! The items of a body, each judged by itself.

use taskbell::task::json::items::items;

use super::*;

fn split(text: &str) -> Result<Option<Vec<Result<&str, Fault>>>, Fault> {
    items(text, "items", Limits::NONE)
}

#[test]
fn each_item_is_its_own_text() {
    let found = split(r#" { "items" : [ {"a":[1, 2]} , 5,"x" ,[ ],null ] } "#).unwrap().unwrap();
    let found: Vec<&str> = found.into_iter().map(Result::unwrap).collect();
    assert_eq!(found, [r#"{"a":[1, 2]}"#, "5", "\"x\"", "[ ]", "null"]);
    assert_eq!(split(r#"{"items":[]}"#), Ok(Some(Vec::new())));
}

#[test]
fn a_repeated_key_refuses_its_item_and_points_into_it() {
    let found = split(r#"{"items":[{"a":1},{"a":1,"a":2},[{"b":[{"c":1,"c":1}]}],{"a":2}]}"#).unwrap().unwrap();
    let faults: Vec<_> = found.iter().map(|item| item.as_ref().err().and_then(Fault::pointer)).collect();
    assert_eq!(faults, [None, Some("/a"), Some("/0/b/0/c"), None]);
}

#[test]
fn a_body_that_is_not_that_list_alone_has_no_items() {
    for text in [
        "1",
        "[]",
        "{}",
        r#"{"items":{}}"#,
        r#"{"items":1}"#,
        r#"[["items"]]"#,
        r#"{"a":{"items":[1]}}"#,
        r#"{"items":[1],"more":2}"#,
        r#"{"more":[2],"items":[1]}"#,
    ] {
        assert_eq!(split(text), Ok(None), "{text}");
    }
}

#[test]
fn the_body_itself_is_refused_for_its_own_faults() {
    for text in [r#"{"items":[1,]}"#, r#"{"items":[{"a":1 "b"}]}"#, r#"{"items":[1]"#, r#"{"items":[1]}x"#] {
        assert!(matches!(split(text), Err(Fault::Malformed { .. })), "{text}");
    }
    let repeated = Fault::RepeatedKey { pointer: "/items".to_owned() };
    assert_eq!(split(r#"{"items":[{"a":1,"a":1}],"items":[]}"#), Err(repeated));
    let few = Limits { values: 4, ..Limits::NONE };
    let too_many = Fault::TooManyValues { pointer: "/items/2".to_owned(), values: 4 };
    assert_eq!(items(r#"{"items":[1,2,3]}"#, "items", few), Err(too_many));
}
