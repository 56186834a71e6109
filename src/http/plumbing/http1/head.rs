//! The head of a request: the request line and the headers. The stream reads it before the HTTP library does, and refuses
//! what the library would refuse without saying why.

use actix_web::http::Uri;

use super::framing::Framing;
use super::limits::{ConnectionLimits, HEADERS_MAX};
use crate::http::plumbing::error::{Problem, Refusal};

/// What the stream needs to know of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// The body of the request.
    pub framing: Framing,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// The client sends no more requests after this one, or expects the server to close the connection.
    pub is_last: bool,
    /// The request asks whether the server lives: it is accepted however many connections are open.
    pub is_probe: bool,
}

/// The length of a complete head at the beginning of these bytes; none if the head is not complete. The first `checked` bytes
/// were checked before.
///
/// # Errors
/// 400 where this is no HTTP, 414 and 431 where the head is too large already.
pub fn find_end(bytes: &[u8], checked: usize, limits: &ConnectionLimits) -> Result<Option<usize>, Problem> {
    if bytes.first().is_some_and(|byte| !byte.is_ascii_graphic()) {
        return Err(bad_request("this is not HTTP; this server does not support TLS"));
    }
    check_target_length(bytes, limits)?;
    let from = checked.saturating_sub(3);
    let end = bytes[from..].windows(4).position(|four| four == b"\r\n\r\n").map(|at| from + at + 4);
    let head = &bytes[..end.unwrap_or(bytes.len())];
    if head.len() > limits.head_max {
        return Err(too_large(format!("the head of a request has at most {} bytes", limits.head_max)));
    }
    if head[from..].windows(2).any(|two| two[1] == b'\n' && two[0] != b'\r') {
        return Err(bad_request("each line of the head ends with CR LF"));
    }
    Ok(end)
}

fn check_target_length(bytes: &[u8], limits: &ConnectionLimits) -> Result<(), Problem> {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let target = line.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
    if target.len() <= limits.target_max {
        return Ok(());
    }
    let detail = format!("the target of a request (its path and query) has at most {} bytes", limits.target_max);
    Err(Problem::new(Refusal::UriTooLong, detail))
}

/// Reads a complete head.
///
/// # Errors
/// 400, 417, 431, 501, 505.
pub fn parse(head: &[u8]) -> Result<Head, Problem> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(head).map_err(refuse_syntax)?;
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(bad_request("the head of the request is incomplete"));
    };
    let fields = Fields { headers: request.headers, version };
    check_target(method, target, fields.host()?)?;
    let framing = fields.framing(method)?;
    let expects_continue = fields.expects_continue()?;
    let path = target.split('?').next().unwrap_or_default();
    Ok(Head {
        framing,
        expects_continue,
        is_last: fields.is_last(),
        is_probe: matches!(method, "GET" | "HEAD") && matches!(path, "/healthz" | "/readyz"),
    })
}

/// The head without `Expect`, which the stream handles itself: the HTTP library would send `100 Continue` before it runs the
/// handler.
#[must_use]
pub fn without_expect(head: &[u8]) -> Vec<u8> {
    let lines = head.split_inclusive(|&byte| byte == b'\n');
    let is_other = |line: &&[u8]| !line.get(..7).is_some_and(|name| name.eq_ignore_ascii_case(b"expect:"));
    lines.filter(is_other).flatten().copied().collect()
}

/// The head of a request after which the server closes the connection.
#[must_use]
pub fn with_close(head: &[u8]) -> Vec<u8> {
    let lines = head.strip_suffix(b"\r\n").unwrap_or(head);
    [lines, b"Connection: close\r\n\r\n"].concat()
}

fn refuse_syntax(error: httparse::Error) -> Problem {
    match error {
        httparse::Error::TooManyHeaders => too_large(format!("a request has at most {HEADERS_MAX} headers")),
        httparse::Error::Version => {
            Problem::new(Refusal::HttpVersionNotSupported, "this server supports only HTTP/1.1 and HTTP/1.0")
        }
        error => bad_request(format!("the head of the request is not HTTP/1.1: {error}")),
    }
}

fn check_target(method: &str, target: &str, host: &str) -> Result<(), Problem> {
    if method == "CONNECT" {
        return Err(Problem::new(Refusal::NotImplemented, "this server is not a proxy"));
    }
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad_request("the target of the request has a character that must be percent-encoded"));
    }
    let own = target.strip_prefix("http://").and_then(|rest| rest.strip_prefix(host));
    let is_own = own.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    let is_path = target.starts_with('/') || (target == "*" && method == "OPTIONS");
    if !(is_path || is_own) || target.parse::<Uri>().is_err() {
        return Err(bad_request("the target of the request is not a path of this server"));
    }
    Ok(())
}

/// The headers that say how the connection goes on.
struct Fields<'a> {
    headers: &'a [httparse::Header<'a>],
    /// The minor version of HTTP/1.
    version: u8,
}

impl<'a> Fields<'a> {
    fn values(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// The only value of this header.
    fn only(&self, name: &'static str) -> Result<Option<&'a str>, Problem> {
        let mut values = self.values(name);
        let Some(value) = values.next() else { return Ok(None) };
        let text = std::str::from_utf8(value).map_err(|_| bad_request(format!("the header {name} is not text")))?;
        match values.next() {
            None => Ok(Some(text.trim())),
            Some(_) => Err(bad_request(format!("the header {name} is repeated"))),
        }
    }

    /// Whether a list of this name has this word.
    fn has_word(&self, name: &'static str, word: &str) -> bool {
        let words = self.values(name).flat_map(|value| value.split(|&byte| byte == b','));
        words.map(<[u8]>::trim_ascii).any(|found| found.eq_ignore_ascii_case(word.as_bytes()))
    }

    fn host(&self) -> Result<&'a str, Problem> {
        match self.only("Host")? {
            None if self.version > 0 => Err(bad_request("the header Host is missing")),
            host => Ok(host.unwrap_or_default()),
        }
    }

    /// The request's body. Where two headers contradict each other, a proxy before this server could see another end than
    /// this server does.
    fn framing(&self, method: &str) -> Result<Framing, Problem> {
        let length = self.only("Content-Length")?.map(parse_length).transpose()?;
        let coding = self.only("Transfer-Encoding")?;
        let upgrades = self.has_word("Upgrade", "websocket");
        match (length, coding) {
            (Some(_), Some(_)) => Err(bad_request("Content-Length and Transfer-Encoding contradict each other")),
            (None, Some(_)) if self.version == 0 => Err(bad_request("HTTP/1.0 has no Transfer-Encoding")),
            (None, Some(coding)) if coding.eq_ignore_ascii_case("identity") => {
                Err(bad_request("the transfer coding `identity` is not valid in HTTP/1.1"))
            }
            (None, Some(coding)) if !coding.eq_ignore_ascii_case("chunked") => {
                Err(Problem::new(Refusal::NotImplemented, "this server supports only the transfer coding `chunked`"))
            }
            (None, None) if method == "POST" && self.version == 0 => {
                Err(bad_request("a body in an HTTP/1.0 request needs Content-Length"))
            }
            (length, coding) if upgrades && (method != "GET" || length.is_some() || coding.is_some()) => {
                Err(bad_request("a websocket upgrade must be a GET request without a body"))
            }
            (None, None) if upgrades => Ok(Framing::Endless),
            (None, Some(_)) => Ok(Framing::CHUNKED),
            (length, None) => Ok(Framing::Length(length.unwrap_or_default())),
        }
    }

    fn expects_continue(&self) -> Result<bool, Problem> {
        // HTTP/1.0 has no expectations.
        let mut expectations = self.values("Expect").filter(|_| self.version > 0).peekable();
        let expects = expectations.peek().is_some();
        if expectations.all(|value| value.trim_ascii().eq_ignore_ascii_case(b"100-continue")) {
            return Ok(expects);
        }
        Err(Problem::new(Refusal::ExpectationFailed, "this server supports only the expectation 100-continue"))
    }

    fn is_last(&self) -> bool {
        let keeps_alive = self.version > 0 || self.has_word("Connection", "keep-alive");
        !keeps_alive || self.has_word("Connection", "close")
    }
}

fn parse_length(text: &str) -> Result<u64, Problem> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let length = text.parse().ok().filter(|_| digits);
    length.ok_or_else(|| bad_request("Content-Length is not a number of bytes"))
}

fn bad_request(detail: impl Into<String>) -> Problem {
    Problem::new(Refusal::BadRequest, detail)
}

fn too_large(detail: String) -> Problem {
    Problem::new(Refusal::HeadersTooLarge, detail)
}
