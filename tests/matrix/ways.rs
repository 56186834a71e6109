//! How the requests of the tables say who their caller is: the credentials of each caller.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::row::{Effect, Row, Who};
use super::world::{ABSENT_KIND, OTHER_KIND, WORKERS_KIND, World};
use crate::jwt::issuer::{AUDIENCE, ISSUER, Issuer};

/// How a request says who its caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// By a token in a header.
    Token,
    /// By the cookie of a session that the token has opened.
    Session,
    /// By a JWT in a header.
    Jwt,
    /// By the headers of a proxy that authenticates.
    Proxy,
}

impl Way {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "",
            Self::Session => " with a session",
            Self::Jwt => " with a JWT",
            Self::Proxy => " through the proxy",
        }
    }

    /// Whether this cell is tried in this way. What changes nothing is tried in every way, and the rest with every credential
    /// but the session, which has the subject, the role and the kinds of its token.
    pub fn tries(self, row: &Row, who: Who, is_quiet: bool) -> bool {
        let is_known = Who::ROLES.contains(&who);
        match self {
            Self::Token => true,
            // The end of its own session is what that row is about.
            Self::Session => is_known && is_quiet && (row.route, row.case) != ("DELETE /v1/session", ""),
            Self::Jwt | Self::Proxy if is_known => is_quiet || row.effect == Effect::OfEachRequest,
            Self::Jwt | Self::Proxy => who == Who::Impostor,
        }
    }

    /// Whose column of the tables says what this caller must get. A proxy names no kinds: then a worker gets the leases of all
    /// kinds, as an admin does.
    pub fn column(self, row: &Row, who: Who) -> Who {
        let is_about_kinds = row.route.starts_with("POST /v1/leases");
        if self == Self::Proxy && who == Who::Worker && is_about_kinds { Who::Admin } else { who }
    }
}

/// The secret of the proxy.
const SECRET: &str = "a-secret-of-the-proxy";

/// The JWT of each caller. Those of the impostor are signed by another issuer.
pub type Jwts = BTreeMap<Who, String>;

/// Writes the settings for JWTs and for a proxy into this folder, and makes the JWTs.
pub fn configure(folder: &Path) -> Jwts {
    let settings = format!(
        "[auth.jwt]\nissuer = \"{ISSUER}\"\naudience = \"{AUDIENCE}\"\njwks_file = \"keys.json\"\n\
         kinds_claim = \"kinds\"\n\n\
         [auth.proxy]\naddresses = [\"127.0.0.1\"]\nsubject_header = \"X-Matrix-User\"\nrole_header = \"X-Matrix-Role\"\n\
         secret = \"{SECRET}\"\nsecret_header = \"X-Matrix-Secret\"\n"
    );
    let (issuer, other) = (Issuer::new(), Issuer::other());
    std::fs::write(folder.join("keys.json"), issuer.key_set().to_string()).expect("a file for the keys");
    std::fs::write(folder.join("auth.toml"), settings).expect("a file for the settings");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs();
    let jwt = |who: Who| {
        let role = if who == Who::Impostor { Who::Admin.name() } else { who.name() };
        let kinds: &[&str] = match who {
            Who::Worker => &[WORKERS_KIND],
            Who::Admin => &[WORKERS_KIND, OTHER_KIND, ABSENT_KIND],
            _ => &[],
        };
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": who.subject(), "exp": now + 3600, "taskbell_role": role, "kinds": kinds,
        });
        let signer = if who == Who::Impostor { &other } else { &issuer };
        (who, signer.token("ES256", &claims))
    };
    Who::ROLES.into_iter().chain([Who::Impostor]).map(jwt).collect()
}

impl World {
    /// The bearer and the further headers with which this caller says who it is.
    pub fn credential(&self, way: Way, who: Who) -> (Option<String>, Vec<(&'static str, String)>) {
        match way {
            Way::Token => (self.token(who), Vec::new()),
            // As the server's own page sends it.
            Way::Session => {
                (None, vec![("cookie", self.sessions[&who].clone()), ("sec-fetch-site", "same-origin".to_owned())])
            }
            Way::Jwt => (Some(self.jwts[&who].clone()), Vec::new()),
            // The impostor doesn't know the secret of the proxy.
            Way::Proxy => {
                let (role, secret) = if who == Who::Impostor {
                    (Who::Admin.name(), "a-secret-of-the-proxz")
                } else {
                    (who.name(), SECRET)
                };
                let headers = [("x-matrix-user", who.subject()), ("x-matrix-role", role), ("x-matrix-secret", secret)];
                (None, headers.map(|(name, value)| (name, value.to_owned())).into())
            }
        }
    }
}
