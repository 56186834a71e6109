//! Which cookies count, and for which requests.

use reqwest::Method;
use serde_json::json;
use taskbell::task::access::Role;

use super::{APP, Known, OWN_PAGE, bearer, site};

#[actix_rt::test]
async fn a_cookie_that_is_no_session_is_refused_and_forgotten() {
    let (site, [mira]) = site([Known::of("mira", Role::User)]).await;
    let good = site.sign_in(&mira).await;
    let unknown = format!("taskbell=tbs_{}_{}", "0".repeat(32), "0".repeat(64));
    let other_secret = format!("{}{}", &good[..good.len() - 1], if good.ends_with('0') { '1' } else { '0' });
    for bad in [
        "taskbell=",
        "taskbell=x",
        "taskbell=\"\"",
        &unknown,
        &other_secret,
        &format!("taskbell={mira}"),
        &format!("{good}; {good}"),
        &format!("taskbell=x; {good}"),
        &format!("{good}; {unknown}"),
    ] {
        let refused = site.send(Method::GET, "/v1/session", &[("cookie", bad)]).await;
        refused.assert_problem(401, "unauthenticated");
        assert!(refused.header("set-cookie").starts_with("taskbell=; Path=/; Max-Age=0;"), "{bad}");
        let by_token = [("cookie", bad), ("authorization", &bearer(&mira))];
        assert_eq!(site.whoami(&by_token).await, "mira", "the header counts before the cookie");
    }
    let bad_header = [("cookie", good.as_str()), ("authorization", "Bearer nonsense")];
    assert_eq!(site.whoami(&bad_header).await, "unauthenticated", "a good cookie doesn't mend a bad header");
    assert_eq!(site.whoami(&[("cookie", &format!("a=b; {good}; c=d"))]).await, "mira");
    assert_eq!(site.whoami(&[("cookie", &good.replace("taskbell", "__Host-taskbell"))]).await, "unauthenticated");
    site.stop().await;
}

#[actix_rt::test]
async fn a_change_by_a_cookie_needs_a_browser_that_says_which_page_has_sent_it() {
    let (site, [mira]) = site([Known::of("mira", Role::User)]).await;
    let (cookie, own) = (site.sign_in(&mira).await, site.url.clone());
    let by_cookie = |more: &[(&'static str, &'static str)]| {
        let headers = std::iter::once(("cookie", cookie.clone()));
        headers.chain(more.iter().map(|(name, value)| (*name, (*value).to_owned()))).collect::<Vec<_>>()
    };
    let own_origin = vec![("cookie", cookie.clone()), ("origin", own)];
    for (headers, status) in [
        (by_cookie(&[]), 403),
        (by_cookie(&[("sec-fetch-site", "same-site")]), 403),
        (by_cookie(&[("sec-fetch-site", "cross-site")]), 403),
        (by_cookie(&[("origin", "null")]), 403),
        (by_cookie(&[("origin", "https://evil.example")]), 403),
        (by_cookie(&[("origin", APP)]), 401),
        (by_cookie(&[("sec-fetch-site", "cross-site"), ("origin", APP)]), 401),
        (by_cookie(&[OWN_PAGE]), 201),
        (by_cookie(&[("sec-fetch-site", "none")]), 201),
        (own_origin, 201),
    ] {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = site.send_json("/v1/tasks", &headers, &json!({"kind": "a"})).await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text);
    }
    site.stop().await;
}

#[actix_rt::test]
async fn a_page_of_another_origin_sends_its_credential_in_a_header_and_gets_no_cookie() {
    let (site, [mira]) = site([Known::of("mira", Role::Operator)]).await;
    let cookie = site.sign_in(&mira).await;
    let page = [("sec-fetch-site", "cross-site"), ("origin", APP)];
    let authorization = bearer(&mira);
    let with = |more| page.into_iter().chain([more]).collect::<Vec<_>>();
    assert_eq!(site.whoami(&with(("authorization", &authorization))).await, "mira");
    let by_cookie = site.send(Method::GET, "/v1/session", &with(("cookie", &cookie))).await;
    by_cookie.assert_problem(401, "unauthenticated");
    assert_eq!(by_cookie.header("access-control-allow-origin"), APP, "the page can read the refusal");
    assert_eq!(by_cookie.header("access-control-allow-credentials"), "");
    let opened = site.send(Method::POST, "/v1/session", &with(("authorization", &authorization))).await;
    opened.assert_problem(403, "forbidden_origin");
    assert_eq!(opened.header("set-cookie"), "");
    assert_eq!(site.whoami(&[("cookie", &cookie)]).await, "mira", "the cookie is still good");
    site.stop().await;
}
