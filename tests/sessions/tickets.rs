//! Tickets for websockets.

use reqwest::Method;
use serde_json::json;
use taskbell::task::access::Role;

use super::{APP, Known, OWN_PAGE, Site, assert_expires_in, bearer, site};

/// A ticket for a socket with this origin, got by a program.
async fn ticket(site: &Site, token: &str, origin: Option<&str>) -> String {
    let body = origin.map_or_else(|| json!({}), |origin| json!({"origin": origin}));
    let answer = site.send_json("/v1/tickets", &[("authorization", &bearer(token))], &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_expires_in(&answer.body["expires_at"], std::time::Duration::from_secs(30));
    format!("?ticket={}", answer.body["ticket"].as_str().unwrap())
}

#[actix_rt::test]
async fn a_ticket_opens_one_socket_of_its_origin() {
    let (site, [mira]) = site([Known::of("mira", Role::User)]).await;
    let own = site.url.clone();
    for (origin, headers) in
        [(None, vec![]), (Some(APP), vec![("origin", APP)]), (Some(own.as_str()), vec![("origin", own.as_str())])]
    {
        let query = ticket(&site, &mira, origin).await;
        assert_eq!(site.socket(&query, &headers).await.unwrap()["type"], "hello", "{origin:?}");
        assert_eq!(site.socket(&query, &headers).await, Err("401".into()), "{origin:?}: used before");
    }
    for (origin, headers, status) in [
        (None, vec![("origin", APP)], "401"),
        (None, vec![("origin", own.as_str())], "401"),
        (Some(APP), vec![], "401"),
        (Some(APP), vec![("origin", own.as_str())], "401"),
        (Some(APP), vec![("origin", "https://evil.example")], "403"),
        (Some(APP), vec![("origin", "null")], "403"),
    ] {
        let query = ticket(&site, &mira, origin).await;
        assert_eq!(site.socket(&query, &headers).await, Err(status.into()), "{origin:?} {headers:?}");
    }
    for query in ["", "?ticket=", "?ticket=x", "?ticket=a&ticket=b", &format!("?ticket={mira}")] {
        assert_eq!(site.socket(query, &[("origin", APP)]).await, Err("401".into()), "{query}");
    }
    site.stop().await;
}

#[actix_rt::test]
async fn a_page_gets_tickets_for_its_own_origin_only() {
    let (site, [mira]) = site([Known::of("mira", Role::User)]).await;
    let (own, authorization) = (site.url.clone(), bearer(&mira));
    let of_app = [("authorization", authorization.as_str()), ("origin", APP), ("sec-fetch-site", "cross-site")];
    let of_own = [("authorization", authorization.as_str()), ("origin", own.as_str()), OWN_PAGE];
    let of_program = [("authorization", authorization.as_str())];
    for (headers, origin, is_given) in [
        (&of_app[..], APP, true),
        (&of_app, &own, false),
        (&of_app, "https://evil.example", false),
        (&of_own, &own, true),
        (&of_own, APP, false),
        (&of_program, APP, true),
        (&of_program, &own, true),
        (&of_program, "https://evil.example", false),
        (&of_program, "null", false),
        (&of_program, "", false),
    ] {
        let answer = site.send_json("/v1/tickets", headers, &json!({"origin": origin})).await;
        if is_given {
            assert_eq!(answer.status, 201, "{headers:?} {origin}: {}", answer.text);
        } else {
            answer.assert_problem(422, "invalid_request");
        }
    }
    let by_default = site.send(Method::POST, "/v1/tickets", &of_app).await;
    let query = format!("?ticket={}", by_default.body["ticket"].as_str().unwrap());
    assert_eq!(site.socket(&query, &[("origin", APP)]).await.unwrap()["type"], "hello");
    site.send(Method::POST, "/v1/tickets", &[]).await.assert_problem(401, "unauthenticated");
    site.stop().await;
}

#[actix_rt::test]
async fn a_ticket_is_worth_nothing_once_the_session_that_got_it_has_ended() {
    let (site, [mira]) = site([Known::of("mira", Role::User)]).await;
    let (cookie, own) = (site.sign_in(&mira).await, site.url.clone());
    let page = [("cookie", cookie.as_str()), ("origin", own.as_str()), OWN_PAGE];
    let issued = site.send(Method::POST, "/v1/tickets", &page).await;
    let query = format!("?ticket={}", issued.body["ticket"].as_str().unwrap());
    assert_eq!(site.send(Method::DELETE, "/v1/session", &page).await.status, 204);
    assert_eq!(site.socket(&query, &[("origin", &own)]).await, Err("401".into()));
    site.stop().await;
}

#[actix_rt::test]
async fn an_own_page_opens_its_socket_by_its_cookie_and_another_page_does_not() {
    let (site, [mira]) = site([Known::of("mira", Role::User)]).await;
    let (cookie, own) = (site.sign_in(&mira).await, site.url.clone());
    let of_own = [("cookie", cookie.as_str()), ("origin", own.as_str())];
    assert_eq!(site.socket("", &of_own).await.unwrap()["type"], "hello");
    assert_eq!(site.socket("", &[("cookie", &cookie), ("origin", APP)]).await, Err("401".into()));
    assert_eq!(site.socket("", &[("cookie", &cookie), ("origin", "https://evil.example")]).await, Err("403".into()));
    assert_eq!(site.socket("", &[("cookie", &cookie)]).await, Err("403".into()), "no header says which page");
    site.stop().await;
}
