//! The limits of websockets.

use std::time::Duration;

use taskbell::server::SocketLimits;

use super::{SettingsError, invalid};

/// Checks the limits: how many sockets there may be in all, of one subject and from one address, and after how many seconds
/// a stalled one is closed. A missing limit gets its default.
///
/// # Errors
/// The first limit that is 0.
pub(super) fn socket_limits(
    [all, per_subject, per_address]: [Option<usize>; 3],
    stall_s: Option<u64>,
) -> Result<SocketLimits, SettingsError> {
    let at_least_1 = |setting, value, default| match value {
        Some(0) => invalid(setting, "0 would refuse every websocket"),
        value => Ok(value.unwrap_or(default)),
    };
    let defaults = SocketLimits::default();
    Ok(SocketLimits {
        max_sockets: at_least_1("max_sockets", all, defaults.max_sockets)?,
        max_sockets_per_subject: at_least_1("max_sockets_per_subject", per_subject, defaults.max_sockets_per_subject)?,
        max_sockets_per_address: at_least_1("max_sockets_per_address", per_address, defaults.max_sockets_per_address)?,
        stall_timeout: match stall_s {
            Some(0) => return invalid("socket_stall_s", "0 would close every websocket"),
            value => value.map_or(defaults.stall_timeout, Duration::from_secs),
        },
    })
}
