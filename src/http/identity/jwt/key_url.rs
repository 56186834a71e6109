//! The address of an issuer's keys.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;

/// An address from which the keys of an issuer are fetched: `https://…`, or `http://…` on this machine.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyUrl {
    pub(super) is_https: bool,
    /// The name or address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// The host and the port as the address has them, for the header `Host`.
    pub(super) authority: String,
    /// The path and the query.
    pub(super) target: String,
}

/// Why a text is not the address of keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidKeyUrl(&'static str);

impl FromStr for KeyUrl {
    type Err = InvalidKeyUrl;

    fn from_str(text: &str) -> Result<Self, InvalidKeyUrl> {
        let uri: Uri =
            text.parse().map_err(|_| InvalidKeyUrl("it is not an address like https://issuer.example/keys"))?;
        let authority = uri.authority().map_or("", hyper::http::uri::Authority::as_str);
        if authority.contains('@') || text.contains('#') {
            return Err(InvalidKeyUrl("it must contain neither a user nor a fragment"));
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let is_https = uri.scheme_str() == Some("https");
        let is_local = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        if host.is_empty() || !(is_https || (is_local && uri.scheme_str() == Some("http"))) {
            return Err(InvalidKeyUrl("it must begin with https://; http:// is accepted only for a loopback address"));
        }
        Ok(Self {
            is_https,
            host,
            port: uri.port_u16().unwrap_or(if is_https { 443 } else { 80 }),
            authority: authority.to_owned(),
            target: uri.path_and_query().map_or("/", hyper::http::uri::PathAndQuery::as_str).to_owned(),
        })
    }
}

/// Without the query, which may contain a secret.
impl fmt::Display for KeyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, path) = (if self.is_https { "https" } else { "http" }, self.target.split('?').next());
        write!(f, "{scheme}://{}{}", self.authority, path.unwrap_or_default())
    }
}

impl fmt::Debug for KeyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        for (text, host, port, target) in [
            ("https://issuer.example/keys?v=1", "issuer.example", 443, "/keys?v=1"),
            ("https://10.0.0.1:8443", "10.0.0.1", 8443, "/"),
            ("http://127.0.0.1:81/k", "127.0.0.1", 81, "/k"),
            ("http://[::1]:82/k", "::1", 82, "/k"),
            ("http://localhost/k", "localhost", 80, "/k"),
        ] {
            let url: KeyUrl = text.parse().unwrap();
            assert_eq!((url.host.as_str(), url.port, url.target.as_str()), (host, port, target), "{text}");
        }
        for text in [
            "",
            "issuer.example/keys",
            "/keys",
            "http://issuer.example/keys",
            "http://127.0.0.1.issuer.example/",
            "ftp://127.0.0.1/",
            "https://",
            "https://user:pass@issuer.example/",
            "http://issuer.example@127.0.0.1/",
            "https://issuer.example/#keys",
        ] {
            assert!(text.parse::<KeyUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_query_of_the_address_is_not_shown() {
        let url: KeyUrl = "https://issuer.example:8443/keys?code=s3cret".parse().unwrap();
        assert_eq!(
            format!("{url} {url:?}"),
            "https://issuer.example:8443/keys KeyUrl(https://issuer.example:8443/keys)"
        );
    }
}
