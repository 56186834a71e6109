//! Which pages may send requests to this server. A page is known by its origin: its scheme, host and port.
//!
//! A browser sends a request of any page to any server, and adds the cookies of that server to it. Two headers, which a page
//! can't set, say where the request comes from: `Origin`, and `Sec-Fetch-Site`, which all browsers since 2023 send. A request
//! with neither comes from a program.
//!
//! A page can't read the response to a request that it may not send. But the request costs work, or waits and takes one of a
//! limited number of places. So reads are refused too, except that a user may follow a link.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, HeaderName, ORIGIN, UPGRADE};
use actix_web::{HttpMessage as _, HttpRequest};
use url::Url;

use super::error::{Problem, Refusal};
use super::forwarded::Client;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// The origin of pages that may use this server, as browsers write it in the header `Origin`: `https://app.example`, or
/// `http://127.0.0.1:8080`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AllowedOrigin(Arc<str>);

impl AllowedOrigin {
    /// The text of the origin.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AllowedOrigin {
    type Err = String;

    /// Reads an origin. Only the form that browsers send is accepted, because it is compared byte by byte. The error says what
    /// is wrong, and which form is right.
    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(url) = url.filter(|_| !text.contains('*')) else {
            return Err(format!(
                "{text:?} is no origin: write the scheme, the host and the port, like https://app.example"
            ));
        };
        let browsers_form = url.origin().ascii_serialization();
        if text == browsers_form {
            return Ok(Self(text.into()));
        }
        Err(format!("{text:?} is not the form that browsers send: write {browsers_form}"))
    }
}

/// Where a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A program, which is no browser; or a browser whose user has followed a link of another site. A safe request (`GET`,
    /// `HEAD`) of an old browser looks like that of a program.
    Program,
    /// A page of this server, or the user of a browser, by the address bar or a bookmark.
    OwnPage,
    /// A page of an allowed origin.
    AllowedPage(AllowedOrigin),
}

impl Sender {
    /// The origin of the page.
    #[must_use]
    pub fn allowed_origin(&self) -> Option<&AllowedOrigin> {
        match self {
            Self::AllowedPage(origin) => Some(origin),
            Self::Program | Self::OwnPage => None,
        }
    }
}

/// Finds out where this request comes from, and keeps the answer in the request's extensions for the handler.
///
/// # Errors
/// 403 `forbidden_origin` if it comes from a page of another origin that is not allowed.
pub fn check_sender(request: &HttpRequest, client: &Client, allowed: &[AllowedOrigin]) -> Result<Sender, Problem> {
    let sender = find_sender(request.method(), request.headers(), client, allowed)?;
    request.extensions_mut().insert(sender.clone());
    Ok(sender)
}

/// Finds out where a request with this method and these headers comes from.
///
/// # Errors
/// 403 `forbidden_origin` if the request comes from a page of another origin that is not allowed.
fn find_sender(
    method: &Method,
    headers: &HeaderMap,
    client: &Client,
    allowed: &[AllowedOrigin],
) -> Result<Sender, Problem> {
    let page = match only_value(headers, &ORIGIN)? {
        None => None,
        Some(origin) if client.is_own_origin(origin) => Some(Sender::OwnPage),
        Some(origin) => match allowed.iter().find(|allowed| allowed.as_str() == origin) {
            Some(allowed) => Some(Sender::AllowedPage(allowed.clone())),
            None => return Err(forbidden()),
        },
    };
    match (only_value(headers, &SEC_FETCH_SITE)?, page) {
        (None, page) => Ok(page.unwrap_or(Sender::Program)),
        (Some("same-origin" | "none"), page) => Ok(page.unwrap_or(Sender::OwnPage)),
        (Some("same-site" | "cross-site"), Some(page @ Sender::AllowedPage(_))) => Ok(page),
        (Some("same-site" | "cross-site"), None) if is_link(method, headers)? => Ok(Sender::Program),
        (Some(_), _) => Err(forbidden()),
    }
}

/// Whether the user of a browser has followed a link to this resource, which the browser then shows as a page of its own. The
/// page with the link can't read it, and has asked for nothing else.
fn is_link(method: &Method, headers: &HeaderMap) -> Result<bool, Problem> {
    let is = |name: &HeaderName, value| Ok::<_, Problem>(only_value(headers, name)? == Some(value));
    Ok(!changes_something(method, headers) && is(&SEC_FETCH_MODE, "navigate")? && is(&SEC_FETCH_DEST, "document")?)
}

/// Whether the request may change something, or opens a websocket, which browsers open for pages of every origin.
#[must_use]
pub fn changes_something(method: &Method, headers: &HeaderMap) -> bool {
    !method.is_safe() || headers.contains_key(UPGRADE)
}

fn forbidden() -> Problem {
    Problem::new(Refusal::ForbiddenOrigin, "requests from pages of another origin are refused")
}

/// The value of the header; `None` if it is absent.
///
/// # Errors
/// 403 if the header is repeated, or is not ASCII.
fn only_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| forbidden()),
        (Some(_), Some(_)) => Err(forbidden()),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    const ALLOWED: &str = "https://app.example";

    fn sender(method: &Method, lines: &[(&'static str, &'static str)]) -> Result<Sender, &'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let client = Client { address: None, is_https: false, host: "127.0.0.1:7070".to_owned() };
        find_sender(method, &headers, &client, &[ALLOWED.parse().unwrap()]).map_err(|problem| problem.code)
    }

    #[test]
    fn the_sender_of_a_change_is_judged_by_both_headers() {
        let (own, program, other) = (Ok(Sender::OwnPage), Ok(Sender::Program), Err("forbidden_origin"));
        let allowed = Ok(Sender::AllowedPage(ALLOWED.parse().unwrap()));
        let (own_origin, evil) = ("http://127.0.0.1:7070", "https://evil.example");
        for (site, origin, expected) in [
            (None, None, &program),
            (None, Some(own_origin), &own),
            (None, Some(ALLOWED), &allowed),
            (None, Some(evil), &other),
            (Some("same-origin"), None, &own),
            (Some("same-origin"), Some(own_origin), &own),
            (Some("same-origin"), Some(evil), &other),
            (Some("none"), None, &own),
            (Some("none"), Some(evil), &other),
            (Some("same-site"), None, &other),
            (Some("same-site"), Some(own_origin), &other),
            (Some("same-site"), Some(ALLOWED), &allowed),
            (Some("cross-site"), None, &other),
            (Some("cross-site"), Some(own_origin), &other),
            (Some("cross-site"), Some(ALLOWED), &allowed),
            (Some("cross-site"), Some("null"), &other),
            (Some("Same-Origin"), None, &other),
            (Some(""), None, &other),
        ] {
            let lines: Vec<_> = site.map(|site| ("sec-fetch-site", site)).into_iter().collect();
            let lines: Vec<_> = lines.into_iter().chain(origin.map(|origin| ("origin", origin))).collect();
            assert_eq!(&sender(&Method::POST, &lines), expected, "{lines:?}");
            assert_eq!(&sender(&Method::DELETE, &lines), expected, "{lines:?}");
            let upgrade: Vec<_> = lines.iter().copied().chain([("upgrade", "websocket")]).collect();
            assert_eq!(&sender(&Method::GET, &upgrade), expected, "{upgrade:?}");
        }
    }

    #[test]
    fn a_read_for_another_site_is_refused_unless_a_user_follows_a_link() {
        let read = |lines: &[(&'static str, &'static str)]| sender(&Method::GET, lines);
        let (program, own, other) = (Ok(Sender::Program), Ok(Sender::OwnPage), Err("forbidden_origin"));
        let (mode, dest) = (("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"));
        for site in ["cross-site", "same-site"].map(|site| ("sec-fetch-site", site)) {
            assert_eq!(read(&[site]), other);
            assert_eq!(read(&[site, mode, dest]), program);
            assert_eq!(sender(&Method::HEAD, &[site, mode, dest]), program);
            assert_eq!(read(&[site, mode, dest, ("origin", "https://evil.example")]), other);
            assert_eq!(read(&[site, mode, dest, ("upgrade", "websocket")]), other);
            assert_eq!(sender(&Method::POST, &[site, mode, dest]), other);
            assert_eq!(read(&[site, mode, ("sec-fetch-dest", "iframe")]), other);
            assert_eq!(read(&[site, ("sec-fetch-mode", "no-cors"), dest]), other);
            assert_eq!(read(&[site, mode, dest, dest]), other);
            let allowed = Ok(Sender::AllowedPage(ALLOWED.parse().unwrap()));
            assert_eq!(read(&[site, ("origin", ALLOWED)]), allowed);
        }
        assert_eq!(read(&[("sec-fetch-site", "same-origin")]), own);
        assert_eq!(read(&[("sec-fetch-site", "none"), mode, dest]), own);
        assert_eq!(read(&[("sec-fetch-site", "nonsense"), mode, dest]), other);
        assert_eq!(read(&[]), program);
        assert_eq!(read(&[("origin", "https://evil.example")]), other);
        assert_eq!(read(&[("origin", ALLOWED), ("origin", ALLOWED)]), other);
    }

    #[test]
    fn an_allowed_origin_is_written_as_browsers_send_it() {
        for good in [
            ALLOWED,
            "http://127.0.0.1:8080",
            "http://localhost:3000",
            "https://[::1]:8443",
            "https://xn--bcher-kva.example",
        ] {
            assert_eq!(good.parse::<AllowedOrigin>().unwrap().as_str(), good);
        }
        for (bad, right) in [
            ("https://app.example/", "https://app.example"),
            ("https://app.example:443", "https://app.example"),
            ("http://App.example:8080", "http://app.example:8080"),
            ("https://user@app.example", "https://app.example"),
            ("https://app.example/path", "https://app.example"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            (" https://app.example", "https://app.example"),
        ] {
            let refused = bad.parse::<AllowedOrigin>().unwrap_err();
            assert!(refused.ends_with(&format!("write {right}")), "{refused}");
        }
        for bad in ["", "*", "null", "app.example", "file:///x", "https://", "https://*.example", "data:text/html,x"] {
            let refused = bad.parse::<AllowedOrigin>();
            assert!(refused.is_err(), "{bad}");
        }
    }
}
