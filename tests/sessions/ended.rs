//! An admin ends the sessions of a subject, whatever credential has opened them.

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use taskbell::task::access::Role;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::{Known, OWN_PAGE, Site, bearer, for_user, response, site};
use crate::support::{HttpResponse, TEST_TIMEOUT};

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn end(site: &Site, authorization: &str, body: &Value) -> HttpResponse {
    response(site.request(Method::DELETE, "/v1/session", &[("authorization", authorization)]).json(body)).await
}

/// The text of a bearer that an operator has got for this subject.
async fn bearer_for(site: &Site, operator: &str, subject: &str) -> String {
    let opened = site.send_json("/v1/session", &[("authorization", &bearer(operator))], &for_user(subject)).await;
    assert_eq!(opened.status, 201, "{}", opened.text);
    bearer(opened.body["token"].as_str().unwrap())
}

/// Opens a websocket with these headers, and waits for its first frame.
async fn open_socket(site: &Site, headers: &[(&'static str, &str)]) -> Socket {
    let mut request = format!("{}/v1/live", site.url.replacen("http", "ws", 1)).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let (mut socket, _) = Box::pin(tokio_tungstenite::connect_async(request)).await.unwrap();
    assert!(matches!(socket.next().await, Some(Ok(Message::Text(_)))));
    socket
}

/// The code with which the server closes the websocket.
async fn close_code(mut socket: Socket) -> u16 {
    loop {
        match tokio::time::timeout(TEST_TIMEOUT, socket.next()).await.expect("the socket is closed in time") {
            Some(Ok(Message::Close(close))) => return close.expect("a close frame").code.into(),
            Some(Ok(_)) => {}
            other => panic!("the server closes in order: {other:?}"),
        }
    }
}

#[actix_rt::test]
async fn an_admin_ends_all_sessions_of_a_subject_and_no_others() {
    let known = [Known::of("root", Role::Admin), Known::of("mira", Role::Operator), Known::of("anna", Role::User)];
    let (site, [root, mira, anna]) = site(known).await;
    let (of_admin, cookie) = (bearer(&root), site.sign_in(&anna).await);
    let (of_page, of_bea) = (bearer_for(&site, &mira, "anna").await, bearer_for(&site, &mira, "bea").await);
    let of_mira = site.sign_in(&mira).await;
    let reason = json!({"subject": "anna", "reason": "left the team"});
    let by_cookie = open_socket(&site, &[("cookie", &cookie), OWN_PAGE]).await;
    let by_page = open_socket(&site, &[("authorization", &of_page)]).await;
    let ended = end(&site, &of_admin, &reason).await;
    assert_eq!((ended.status, &ended.body), (200, &json!({"ended": 2})), "{}", ended.text);
    assert_eq!(ended.header("set-cookie"), "", "the admin's own cookie stays");
    assert_eq!((close_code(by_cookie).await, close_code(by_page).await), (1008, 1008));
    assert_eq!(site.whoami(&[("cookie", &cookie)]).await, "unauthenticated");
    assert_eq!(site.whoami(&[("authorization", &of_page)]).await, "unauthenticated");
    assert_eq!(site.whoami(&[("authorization", &of_bea)]).await, "bea");
    assert_eq!(site.whoami(&[("cookie", &of_mira)]).await, "mira");
    assert_eq!(site.whoami(&[("authorization", &bearer(&anna))]).await, "anna", "the token is another credential");

    let events = site.session_events(&root).await;
    let ends: Vec<&Value> = events.iter().filter(|event| event["type"] == "SessionEnded").collect();
    assert_eq!(ends.len(), 2);
    for event in ends {
        assert_eq!((&event["meta"]["actor"], &event["data"]), (&json!("root"), &json!({"reason": "left the team"})));
    }
    // Nothing is left to end, and what was never there is not an error either.
    for subject in ["anna", "nobody-knows"] {
        let again = end(&site, &of_admin, &json!({"subject": subject})).await;
        assert_eq!((again.status, &again.body), (200, &json!({"ended": 0})), "{}", again.text);
    }
    assert_eq!(site.session_events(&root).await.len(), events.len());
    // The subject may begin again with the credential that it still has.
    assert_eq!(site.whoami(&[("cookie", &site.sign_in(&anna).await)]).await, "anna");
    site.stop().await;
}

#[actix_rt::test]
async fn only_an_admin_ends_the_sessions_of_a_subject_also_if_it_is_the_callers_own() {
    let roles = [Role::User, Role::Operator, Role::Auditor, Role::Worker, Role::Admin];
    let (site, tokens) = site(roles.map(|role| Known::of("mira", role))).await;
    let cookie = site.sign_in(&tokens[1]).await;
    for token in &tokens[..4] {
        for subject in ["mira", "anna"] {
            end(&site, &bearer(token), &json!({"subject": subject})).await.assert_problem(403, "forbidden");
        }
    }
    end(&site, "Bearer tb_00", &json!({"subject": "mira"})).await.assert_problem(401, "unauthenticated");
    let admin = bearer(&tokens[4]);
    for (body, pointer) in [
        (json!({"subject": ""}), "/subject"),
        (json!({"subject": "a,b"}), "/subject"),
        (json!({"subject": "local"}), "/subject"),
        (json!({"subject": "mira", "reason": "x".repeat(5000)}), "/reason"),
    ] {
        let refused = end(&site, &admin, &body).await;
        refused.assert_problem(422, "invalid_request");
        assert_eq!(refused.body["errors"][0]["pointer"], pointer, "{}", refused.text);
    }
    for body in [json!({"subject": 7}), json!({"subjects": ["mira"]}), json!({"subject": ["mira"]})] {
        assert!(matches!(end(&site, &admin, &body).await.status, 400 | 422));
    }
    assert_eq!(site.whoami(&[("cookie", &cookie)]).await, "mira", "the session goes on");
    let ended = end(&site, &admin, &json!({"subject": "mira"})).await;
    assert_eq!((ended.status, &ended.body), (200, &json!({"ended": 1})), "{}", ended.text);
    assert_eq!(site.whoami(&[("cookie", &cookie)]).await, "unauthenticated");
    site.stop().await;
}
