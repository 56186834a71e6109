//! The cookie of a browser's session. It holds the text of the session. Scripts can't read it, and a browser sends it only with
//! requests of this server's own pages.
//!
//! `SameSite=Strict` is enough also for a page that is opened by a link in a mail: the request of that link has no cookie, but
//! the page itself is public, and the requests of its script are of this server's own page.

use actix_web::http::header::{COOKIE, HeaderMap, HeaderValue};
use actix_web::{HttpMessage as _, HttpRequest};

use super::bearer::{BearerKind, BearerText, ClaimedBearer};
use crate::http::plumbing::forwarded::Client;
use crate::http::plumbing::public_address::PublicAddress;

/// The name and the attributes of the cookie, which depend on how clients reach the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionCookie {
    /// Whether clients reach the server over TLS.
    pub is_https: bool,
    /// The path below which the server's resources are, without the last slash. Empty for the root.
    pub path_prefix: String,
}

/// Says that the response makes the browser forget this cookie, because the session in it is not valid. A request extension.
#[derive(Clone, Debug)]
pub struct ForgetCookie(pub SessionCookie);

/// What a request's cookies hold.
pub enum FoundCookie {
    /// No cookie of this name.
    None,
    /// One cookie with the text of a session.
    Session(ClaimedBearer),
    /// Several cookies of this name, or one that holds something else.
    Malformed,
}

impl SessionCookie {
    /// The cookie of the server that this request is sent to.
    #[must_use]
    pub fn of(request: &HttpRequest, public: &PublicAddress) -> Self {
        let is_https = request.extensions().get::<Client>().map_or(public.is_https, |client| client.is_https);
        Self { is_https, path_prefix: public.path_prefix.clone() }
    }

    /// Over TLS, the prefix of the name makes browsers take the cookie only over TLS, and `__Host-` also only from this host
    /// and for all its paths. Browsers take such a name only over TLS.
    fn name(&self) -> &'static str {
        match (self.is_https, self.path_prefix.as_str()) {
            (false, _) => "taskbell",
            (true, "") => "__Host-taskbell",
            (true, _) => "__Secure-taskbell",
        }
    }

    /// The value of the header `Set-Cookie` that makes a browser keep the session for this many seconds.
    #[must_use]
    pub fn set(&self, session: &BearerText, seconds: i64) -> Option<HeaderValue> {
        self.header(session.reveal(), seconds)
    }

    /// The value of the header `Set-Cookie` that makes a browser forget the cookie.
    #[must_use]
    pub fn clear(&self) -> Option<HeaderValue> {
        self.header("", 0)
    }

    fn header(&self, value: &str, seconds: i64) -> Option<HeaderValue> {
        let (name, secure) = (self.name(), if self.is_https { "; Secure" } else { "" });
        let path = if self.path_prefix.is_empty() { "/" } else { &self.path_prefix };
        let text = format!("{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
        let mut header = HeaderValue::from_str(&text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    /// Reads the cookie among these headers.
    #[must_use]
    pub fn find(&self, headers: &HeaderMap) -> FoundCookie {
        let name = self.name();
        let lines = headers.get_all(COOKIE).map(|line| String::from_utf8_lossy(line.as_bytes()));
        let mut found = FoundCookie::None;
        for line in lines {
            let pairs = line.split(';').filter_map(|pair| pair.trim().split_once('='));
            for (_, value) in pairs.filter(|(cookie, _)| *cookie == name) {
                let session = ClaimedBearer::parse(value).filter(|claimed| claimed.kind == BearerKind::Session);
                found = match (found, session) {
                    (FoundCookie::None, Some(session)) => FoundCookie::Session(session),
                    _ => return FoundCookie::Malformed,
                };
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::new_id;

    fn cookie(is_https: bool, path_prefix: &str) -> SessionCookie {
        SessionCookie { is_https, path_prefix: path_prefix.to_owned() }
    }

    #[test]
    fn the_name_and_the_path_fit_how_the_server_is_reached() {
        let session = BearerText::generate(BearerKind::Session, new_id()).unwrap();
        for (cookie, name, path, secure) in [
            (cookie(false, ""), "taskbell", "/", ""),
            (cookie(false, "/bell"), "taskbell", "/bell", ""),
            (cookie(true, ""), "__Host-taskbell", "/", "; Secure"),
            (cookie(true, "/bell"), "__Secure-taskbell", "/bell", "; Secure"),
        ] {
            let attributes = format!("; Path={path}; Max-Age=60; HttpOnly; SameSite=Strict{secure}");
            let set = cookie.set(&session, 60).unwrap();
            assert_eq!(set.to_str().unwrap(), format!("{name}={}{attributes}", session.reveal()));
            assert!(set.is_sensitive());
            let clear = cookie.clear().unwrap();
            assert_eq!(clear.to_str().unwrap(), format!("{name}={}", attributes.replace("60", "0")));
        }
    }

    #[test]
    fn a_session_is_found_among_other_cookies_and_two_of_its_name_are_malformed() {
        let session = BearerText::generate(BearerKind::Session, new_id()).unwrap();
        let token = BearerText::generate(BearerKind::Token, new_id()).unwrap();
        let (good, token) = (format!("taskbell={}", session.reveal()), format!("taskbell={}", token.reveal()));
        let is = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(COOKIE, HeaderValue::from_str(line).unwrap());
            }
            match cookie(false, "").find(&headers) {
                FoundCookie::None => "none",
                FoundCookie::Session(_) => "session",
                FoundCookie::Malformed => "malformed",
            }
        };
        for lines in [&[][..], &["a=b"], &["xtaskbell=1"], &["taskbell"], &["__Host-taskbell=1"], &["Taskbell=1"]] {
            assert_eq!(is(lines), "none", "{lines:?}");
        }
        for lines in [&[good.as_str()][..], &[&format!("a=b; {good}; c=d")], &["a=b", &good]] {
            assert_eq!(is(lines), "session", "{lines:?}");
        }
        for lines in [
            &["taskbell="][..],
            &["taskbell=x"],
            &[&token],
            &[&format!("{good}; {good}")],
            &[&good, &good],
            &[&format!("{good}; taskbell=x")],
            &[&format!("{good}0")],
        ] {
            assert_eq!(is(lines), "malformed", "{lines:?}");
        }
    }
}
