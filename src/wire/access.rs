//! Who may read the log over this protocol. Clients send the name and the password of a user with each request (HTTP Basic). The
//! password is an API token, and the name is not looked at.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tonic::metadata::MetadataMap;

use super::refusal::Refusal;

/// Finds the reader that a password stands for.
pub trait LogAuthenticator: Send + Sync + 'static {
    /// The reader with this password, for a client at this address. `None` is a client without a password.
    ///
    /// # Errors
    /// [`LogAccessError`] if there is none, or if it may not read the log.
    fn authenticate(
        &self,
        password: Option<&str>,
        client: Option<IpAddr>,
    ) -> Result<Arc<dyn LogReader>, LogAccessError>;
}

/// An authenticated reader of the log.
#[async_trait]
pub trait LogReader: Send + Sync + 'static {
    /// Whether the reader may see the inputs, results and outputs of tasks.
    fn sees_everything(&self) -> bool;

    /// Waits until the reader's credential is no longer valid.
    async fn wait_for_end(&self);
}

/// Why a client may not read the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogAccessError {
    /// The password is no valid credential.
    Unauthenticated,
    /// The role of the credential may not read the log.
    Denied,
    /// The address sends wrong passwords too often, or the reader sends requests too often. The text names the limit.
    TooOften(String),
}

impl From<LogAccessError> for Refusal {
    fn from(error: LogAccessError) -> Self {
        match error {
            LogAccessError::Unauthenticated => Self::Unauthenticated,
            LogAccessError::Denied => Self::AccessDenied,
            LogAccessError::TooOften(limit) => Self::TooOften(limit),
        }
    }
}

/// The password in the header `authorization` of a request; `None` if the request has no such header. A header that is no valid
/// one of the scheme Basic counts as an empty password, which is wrong.
pub(super) fn password(metadata: &MetadataMap) -> Option<String> {
    let mut values = metadata.get_all("authorization").iter();
    let (value, another) = (values.next()?, values.next());
    let text = value.to_str().ok().filter(|_| another.is_none());
    Some(text.and_then(password_in).unwrap_or_default())
}

/// The password in a header of the scheme Basic.
fn password_in(header: &str) -> Option<String> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let user_and_password = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    Some(user_and_password.split_once(':')?.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_what_stands_behind_the_first_colon_of_one_basic_header() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for (headers, expected) in [
            (vec![basic("auditor:tb_1")], Some("tb_1")),
            (vec![basic(":tb:1")], Some("tb:1")),
            (vec![basic("auditor:").replace("Basic", "bAsIc")], Some("")),
            (vec![basic("tb_1")], Some("")),
            (vec![basic("a:b"), basic("a:b")], Some("")),
            (vec!["Basic".to_owned()], Some("")),
            (vec!["Basic %%%".to_owned()], Some("")),
            (vec!["Bearer tb_1".to_owned()], Some("")),
            (vec![], None),
        ] {
            let mut metadata = MetadataMap::new();
            for header in &headers {
                metadata.append("authorization", header.parse().unwrap());
            }
            assert_eq!(password(&metadata).as_deref(), expected, "{headers:?}");
        }
    }
}
