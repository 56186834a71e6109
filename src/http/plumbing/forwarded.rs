//! Who has sent a request, and to which address: as the connection says, or as a trusted proxy says.
//!
//! A client can send the headers `X-Forwarded-*` itself. So they count only if the connection comes from a proxy that the
//! settings name. Each proxy appends the address from which it got the request to `X-Forwarded-For`: the last addresses are
//! those of trusted proxies, the one before them is the client's, and all before that one is only what the client says.

use std::net::IpAddr;

use actix_web::http::header::{HOST, HeaderMap, HeaderName};

use super::public_address::PublicAddress;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Who has sent a request, and to which address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client's IP address. `None` for a call inside this process.
    pub address: Option<IpAddr>,
    /// Whether the client speaks TLS, with this server or with the proxy.
    pub is_https: bool,
    /// The host and port that the client has connected to, as the client or the proxy writes it. Empty if it is missing.
    pub host: String,
}

impl Client {
    /// The client of a request with these headers, on a connection from this peer.
    #[must_use]
    pub fn of(public: &PublicAddress, peer: Option<IpAddr>, headers: &HeaderMap) -> Self {
        let is_forwarded = peer.is_some_and(|peer| public.trusts(peer));
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
        if !is_forwarded {
            return Self { address: peer, is_https: public.is_https, host };
        }
        let is_https = match last(headers, &PROTO) {
            Some(proto) if proto.eq_ignore_ascii_case("https") => true,
            Some(proto) if proto.eq_ignore_ascii_case("http") => false,
            Some(_) | None => public.is_https,
        };
        let host = last(headers, &FORWARDED_HOST).unwrap_or(host);
        Self { address: peer.map(|peer| client_address(public, peer, headers)), is_https, host }
    }

    /// The origin of this server's own pages, as this client sees it.
    #[must_use]
    pub fn own_origin(&self) -> String {
        format!("{}{}", self.scheme(), self.without_default_port(&self.host))
    }

    /// Whether this is the origin of this server's own pages.
    #[must_use]
    pub fn is_own_origin(&self, origin: &str) -> bool {
        let host = origin.strip_prefix(self.scheme()).map(|host| self.without_default_port(host));
        host.is_some_and(|host| !host.is_empty() && host == self.without_default_port(&self.host))
    }

    const fn scheme(&self) -> &'static str {
        if self.is_https { "https://" } else { "http://" }
    }

    /// Browsers leave the default port of the scheme out. A proxy may write it.
    fn without_default_port<'a>(&self, host: &'a str) -> &'a str {
        host.strip_suffix(if self.is_https { ":443" } else { ":80" }).unwrap_or(host)
    }
}

/// The last value of a list header: the one that the nearest proxy has written.
fn last(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get_all(name).last()?.to_str().ok()?;
    value.rsplit(',').next().map(|value| value.trim().to_owned())
}

/// The last address that isn't a trusted proxy's. An entry that is no address ends the search: only the proxies behind it are
/// known.
fn client_address(public: &PublicAddress, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let lines: Vec<&str> = headers.get_all(FOR).map(|value| value.to_str().unwrap_or_default()).collect();
    let mut client = peer.to_canonical();
    for entry in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        let Some(address) = parse_entry(entry.trim()) else { break };
        client = address;
        if !public.trusts(address) {
            break;
        }
    }
    client
}

/// An address, which may have a port.
fn parse_entry(entry: &str) -> Option<IpAddr> {
    let with_port = || entry.parse().ok().map(|address: std::net::SocketAddr| address.ip());
    let in_brackets = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    entry.parse().ok().or_else(with_port).or_else(in_brackets).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let parse = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(parse).collect()
    }

    fn behind_proxies() -> PublicAddress {
        let proxies = ["127.0.0.1", "10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        PublicAddress { proxies: proxies.to_vec(), ..PublicAddress::default() }
    }

    fn address(peer: &str, lines: &[(&'static str, &'static str)]) -> String {
        let client = Client::of(&behind_proxies(), Some(peer.parse().unwrap()), &headers(lines));
        client.address.unwrap().to_string()
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_trusted_proxy_s() {
        let of = |peer, value| address(peer, &[("x-forwarded-for", value)]);
        assert_eq!(address("127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(of("127.0.0.1", "203.0.113.9"), "203.0.113.9");
        assert_eq!(of("::ffff:127.0.0.1", "203.0.113.9"), "203.0.113.9");
        assert_eq!(of("127.0.0.1", "1.1.1.1, 203.0.113.9, 10.1.2.3"), "203.0.113.9", "1.1.1.1 is the client's own");
        assert_eq!(of("127.0.0.1", "10.0.0.1,10.0.0.2"), "10.0.0.1");
        assert_eq!(of("127.0.0.1", "203.0.113.9:1234"), "203.0.113.9");
        assert_eq!(of("127.0.0.1", "[2001:db8::1]:80"), "2001:db8::1");
        assert_eq!(of("fd00::1", "[2001:db8::1]"), "2001:db8::1");
        assert_eq!(of("127.0.0.1", "1.1.1.1, unknown, 10.1.2.3"), "10.1.2.3");
        assert_eq!(of("127.0.0.1", ""), "127.0.0.1");
        let lines = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "203.0.113.9, 10.0.0.1")];
        assert_eq!(address("127.0.0.1", &lines), "203.0.113.9");
    }

    #[test]
    fn another_peer_is_the_client_whatever_it_says() {
        let lines = [
            ("host", "tasks.example"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
        ];
        for peer in ["203.0.113.9", "11.0.0.1", "2001:db8::1"] {
            let peer = peer.parse().unwrap();
            let expected = Client { address: Some(peer), is_https: false, host: "tasks.example".into() };
            assert_eq!(Client::of(&behind_proxies(), Some(peer), &headers(&lines)), expected);
            assert_eq!(Client::of(&PublicAddress::default(), Some(peer), &headers(&lines)), expected);
        }
    }

    #[test]
    fn a_proxy_says_which_address_the_client_has_used() {
        let of = |lines: &[_]| Client::of(&behind_proxies(), Some("10.0.0.1".parse().unwrap()), &headers(lines));
        let client = of(&[("host", "127.0.0.1:7070"), ("x-forwarded-proto", "https")]);
        assert_eq!((client.is_https, client.host.as_str()), (true, "127.0.0.1:7070"));
        let lines = [
            ("host", "127.0.0.1:7070"),
            ("x-forwarded-proto", "http, HTTPS"),
            ("x-forwarded-host", "evil.example, tasks.example"),
        ];
        let client = of(&lines);
        assert_eq!((client.is_https, client.host.as_str()), (true, "tasks.example"));
        for (origin, is_own) in [
            ("https://tasks.example", true),
            ("https://tasks.example:443", true),
            ("http://tasks.example", false),
            ("https://tasks.example:80", false),
            ("https://evil.example", false),
            ("null", false),
        ] {
            assert_eq!(client.is_own_origin(origin), is_own, "{origin}");
        }
        assert_eq!(client.own_origin(), "https://tasks.example");
    }
}
