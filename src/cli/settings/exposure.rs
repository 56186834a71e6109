//! Which settings a server needs to listen on an address that other machines can reach.

use std::net::SocketAddr;

use taskbell::server::AuthMode;

/// The settings that decide who reaches a server, and how.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools)] // each is a setting of its own
pub(super) struct Exposure {
    pub(super) listen: SocketAddr,
    /// The server has a certificate.
    pub(super) has_tls: bool,
    /// Proxies are named whose forwarded headers are believed. They speak TLS with the clients.
    pub(super) trusts_proxy: bool,
    /// Clear text was asked for.
    pub(super) plain_http: bool,
    pub(super) auth: Option<AuthMode>,
    /// Another way to authenticate than tokens is configured.
    pub(super) has_identity_source: bool,
}

impl Exposure {
    /// Accepts every loopback address. Any other address needs authentication, and something that keeps credentials secret on
    /// their way.
    ///
    /// # Errors
    /// What to set.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.listen.ip().is_loopback() {
            return Ok(());
        }
        let (address, port) = (self.listen, self.listen.port());
        let needs_credentials = match self.auth {
            Some(AuthMode::Required) => true,
            Some(AuthMode::None) => false,
            None => self.has_identity_source,
        };
        if !needs_credentials {
            return Err(format!(
                "{address} can be reached from other machines, so requests need credentials: set --auth required \
                 (TASKBELL_AUTH=required, [auth] mode = \"required\"), or listen on a loopback address, like 127.0.0.1:{port}"
            ));
        }
        if self.has_tls || self.trusts_proxy || self.plain_http {
            return Ok(());
        }
        Err(format!(
            "{address} can be reached from other machines, and credentials must not pass the network in clear text: set \
             --tls-cert and --tls-key, or --trust-proxy ADDRESS if a proxy there speaks TLS with the clients, or --plain-http \
             if the network protects them"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTSIDE: &str = "0.0.0.0:7070";
    const REQUIRED: Option<AuthMode> = Some(AuthMode::Required);
    const NONE: Option<AuthMode> = Some(AuthMode::None);

    /// The setting that the refusal asks for first; `None` if the server may start.
    fn asks_for(listen: &str, set: &[&str], auth: Option<AuthMode>) -> Option<&'static str> {
        let refusal = Exposure {
            listen: listen.parse().unwrap(),
            has_tls: set.contains(&"tls"),
            trusts_proxy: set.contains(&"proxy"),
            plain_http: set.contains(&"plain"),
            auth,
            has_identity_source: set.contains(&"jwt"),
        }
        .check()
        .err()?;
        assert!(refusal.starts_with(listen), "{refusal}");
        let names = ["--auth required", "--tls-cert and --tls-key"];
        names.into_iter().find(|name| refusal.contains(&format!("set {name}"))).or(Some("something else"))
    }

    #[test]
    fn off_loopback_a_server_needs_authentication_and_something_that_protects_the_credentials() {
        let (auth, tls) = (Some("--auth required"), Some("--tls-cert and --tls-key"));
        for (listen, set, mode, expected) in [
            ("127.0.0.1:7070", &[][..], None, None),
            ("127.8.9.10:7070", &[][..], NONE, None),
            ("[::1]:7070", &[][..], REQUIRED, None),
            ("127.0.0.1:7070", &["proxy"], None, None),
            ("127.0.0.1:7070", &["tls"], None, None),
            (OUTSIDE, &[][..], None, auth),
            (OUTSIDE, &["tls"], None, auth),
            (OUTSIDE, &["proxy"], None, auth),
            (OUTSIDE, &["plain"], None, auth),
            (OUTSIDE, &["tls"], NONE, auth),
            (OUTSIDE, &["tls", "jwt"], NONE, auth),
            (OUTSIDE, &[][..], REQUIRED, tls),
            (OUTSIDE, &["jwt"], None, tls),
            (OUTSIDE, &["jwt"], REQUIRED, tls),
            (OUTSIDE, &["tls"], REQUIRED, None),
            (OUTSIDE, &["proxy"], REQUIRED, None),
            (OUTSIDE, &["plain"], REQUIRED, None),
            (OUTSIDE, &["tls", "jwt"], None, None),
            (OUTSIDE, &["plain", "jwt"], None, None),
            ("10.0.0.5:7070", &[][..], None, auth),
            ("10.0.0.5:7070", &["tls"], REQUIRED, None),
            ("[::]:7070", &[][..], None, auth),
            ("[fd00::5]:7070", &[][..], REQUIRED, tls),
            ("[::ffff:127.0.0.1]:7070", &[][..], None, auth),
        ] {
            let row = format!("{listen} {set:?} {mode:?}");
            assert_eq!(asks_for(listen, set, mode), expected, "{row}");
        }
    }
}
