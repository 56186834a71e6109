//! Opening and ending sessions, and who the caller is.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use taskbell::store::now;
use taskbell::task::access::Role;

use super::{Known, OWN_PAGE, Site, assert_expires_in, bearer, for_user, site, time};

const TWELVE_HOURS: Duration = Duration::from_hours(12);
const FIVE_MINUTES: Duration = Duration::from_mins(5);

#[actix_rt::test]
async fn a_token_opens_a_session_whose_cookie_stands_for_its_subject_until_the_session_is_ended() {
    let (site, [mira, root]) = site([Known::of("mira", Role::Operator), Known::of("root", Role::Admin)]).await;
    let opened = site.send(Method::POST, "/v1/session", &[("authorization", &bearer(&mira))]).await;
    assert_eq!(opened.status, 201, "{}", opened.text);
    let set = opened.header("set-cookie");
    let (cookie, attributes) = set.split_once(';').unwrap();
    let seconds: u64 = attributes.split_once("Max-Age=").unwrap().1.split(';').next().unwrap().parse().unwrap();
    assert!((43_140..=43_200).contains(&seconds), "{set}");
    assert_eq!(attributes, format!(" Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict"));
    assert!(cookie.starts_with("taskbell=tbs_") && !opened.text.contains("tbs_"), "only the cookie has the secret");
    assert_expires_in(&opened.body["expires_at"], TWELVE_HOURS);

    let shown = site.send(Method::GET, "/v1/session", &[("cookie", cookie)]).await;
    let expected = json!({
        "subject": "mira", "role": "operator", "kinds": null, "expires_at": opened.body["expires_at"],
        "default_owner": "mira", "may_see_everyone": true, "credential": "session",
    });
    assert_eq!((shown.status, &shown.body), (200, &expected));
    assert_eq!(opened.body, expected);
    let by_token = site.send(Method::GET, "/v1/session", &[("authorization", &bearer(&mira))]).await;
    assert_eq!((&by_token.body["credential"], &by_token.body["expires_at"]), (&json!("token"), &Value::Null));

    let ended = site.send(Method::DELETE, "/v1/session", &[("cookie", cookie), OWN_PAGE]).await;
    let cleared = "taskbell=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict";
    assert_eq!((ended.status, ended.text.as_str(), ended.header("set-cookie")), (204, "", cleared));
    let refused = site.send(Method::GET, "/v1/session", &[("cookie", cookie)]).await;
    refused.assert_problem(401, "unauthenticated");
    assert_eq!(refused.header("set-cookie"), cleared, "the browser forgets the cookie");

    let events = site.session_events(&root).await;
    let names: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(names, ["SessionOpened", "SessionEnded"]);
    let token_id = mira[3..35].parse::<uuid::Uuid>().unwrap().to_string();
    assert_eq!((&events[0]["data"]["subject"], &events[0]["data"]["token"]), (&json!("mira"), &json!(token_id)));
    assert_eq!((&events[0]["meta"]["actor"], &events[1]["meta"]["actor"]), (&json!("mira"), &json!("mira")));
    let secret = cookie.rsplit('_').next().unwrap();
    assert!(!json!(events).to_string().contains(secret), "the log has no secret");
    site.stop().await;
}

#[actix_rt::test]
async fn a_session_is_never_valid_for_longer_than_what_has_opened_it() {
    let expires_at = now().plus(Duration::from_hours(1));
    let short = Known { subject: "mira", role: Role::Operator, expires_at: Some(expires_at) };
    let soon = Known { subject: "noa", role: Role::Admin, expires_at: Some(now().plus(Duration::from_mins(2))) };
    let (site, [mira, noa]) = site([short, soon]).await;
    let opened = site.send(Method::POST, "/v1/session", &[("authorization", &bearer(&mira))]).await;
    assert_eq!(time(&opened.body["expires_at"]), expires_at);
    let of_anna = site.send_json("/v1/session", &[("authorization", &bearer(&noa))], &for_user("anna")).await;
    assert!(time(&of_anna.body["expires_at"]) < now().plus(Duration::from_mins(2)), "{}", of_anna.text);

    // A session that opens another one ends, and the other one is valid for no longer.
    let cookie = opened.header("set-cookie").split(';').next().unwrap().to_owned();
    let again = site.send(Method::POST, "/v1/session", &[("cookie", &cookie), OWN_PAGE]).await;
    assert_eq!((again.status, time(&again.body["expires_at"])), (201, expires_at));
    assert_eq!(site.whoami(&[("cookie", &cookie)]).await, "unauthenticated");
    let new_cookie = again.header("set-cookie").split(';').next().unwrap();
    assert_eq!(site.whoami(&[("cookie", new_cookie)]).await, "mira");
    let events = site.session_events(&noa).await;
    let tokens: Vec<&Value> = events.iter().map(|event| &event["data"]["token"]).collect();
    assert_eq!(tokens[0], tokens[2], "both sessions end with the token: {tokens:?}");
    site.stop().await;
}

#[actix_rt::test]
async fn an_operator_and_an_admin_get_a_bearer_of_five_minutes_for_a_user_and_others_dont() {
    let roles = [Role::User, Role::Operator, Role::Auditor, Role::Worker, Role::Admin];
    let (site, tokens) = site(roles.map(|role| Known::of("mira", role))).await;
    for (role, token) in roles.into_iter().zip(&tokens) {
        let authorization = bearer(token);
        let answer = site.send_json("/v1/session", &[("authorization", &authorization)], &for_user("anna")).await;
        if !matches!(role, Role::Operator | Role::Admin) {
            answer.assert_problem(403, "forbidden");
            continue;
        }
        assert_eq!((answer.status, answer.header("set-cookie")), (201, ""), "{}", answer.text);
        assert_eq!((&answer.body["subject"], &answer.body["role"]), (&json!("anna"), &json!("user")));
        assert_expires_in(&answer.body["expires_at"], FIVE_MINUTES);
        let of_anna = bearer(answer.body["token"].as_str().unwrap());
        let shown = site.send(Method::GET, "/v1/session", &[("authorization", &of_anna)]).await;
        assert_eq!((&shown.body["subject"], &shown.body["may_see_everyone"]), (&json!("anna"), &json!(false)));
        let further = site.send_json("/v1/session", &[("authorization", &of_anna)], &for_user("bea")).await;
        further.assert_problem(403, "forbidden");
    }
    let authorization = bearer(&tokens[1]);
    for bad in ["", " ", "*", "a,b", "local", "system", "\u{202e}anna", &"x".repeat(129)] {
        let answer = site.send_json("/v1/session", &[("authorization", &authorization)], &for_user(bad)).await;
        answer.assert_problem(422, "invalid_request");
        assert_eq!(answer.body["errors"][0]["pointer"], "/subject");
    }
    for bad in [json!({"subject": 7}), json!({"role": "admin"}), json!([])] {
        let answer = site.send_json("/v1/session", &[("authorization", &authorization)], &bad).await;
        assert!(matches!(answer.status, 400 | 422), "{}", answer.text);
    }
    site.stop().await;
}

#[actix_rt::test]
async fn without_a_session_there_is_none_to_end() {
    let (site, [mira]) = site([Known::of("mira", Role::User)]).await;
    let ended = site.send(Method::DELETE, "/v1/session", &[("authorization", &bearer(&mira))]).await;
    ended.assert_problem(404, "not_found");
    for method in [Method::GET, Method::POST, Method::DELETE] {
        let refused = site.send(method, "/v1/session", &[]).await;
        refused.assert_problem(401, "unauthenticated");
        assert_eq!((refused.header("www-authenticate"), refused.header("set-cookie")), ("Bearer", ""));
    }
    site.stop().await;
}

#[actix_rt::test]
async fn the_local_user_needs_no_session_and_can_try_what_a_user_sees() {
    let site = Site::start(tempfile::tempdir().unwrap(), false).await;
    let shown = site.send(Method::GET, "/v1/session", &[]).await;
    let expected = json!({
        "subject": "local", "role": "admin", "kinds": null, "expires_at": null,
        "default_owner": "*", "may_see_everyone": true, "credential": "local",
    });
    assert_eq!((shown.status, shown.body), (200, expected));
    site.send(Method::POST, "/v1/session", &[]).await.assert_problem(409, "session_not_needed");
    site.send(Method::DELETE, "/v1/session", &[]).await.assert_problem(404, "not_found");
    let of_anna = site.send_json("/v1/session", &[], &for_user("anna")).await;
    let of_anna = bearer(of_anna.body["token"].as_str().unwrap());
    assert_eq!(site.whoami(&[("authorization", &of_anna)]).await, "anna");
    site.stop().await;
}
