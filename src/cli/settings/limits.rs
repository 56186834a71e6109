//! The limits on clients: the table `[limits]` in the file, one flag and one variable each on the command line.

use std::time::Duration;

use serde::Deserialize;
use taskbell::{ClientLimits, ValueLimits};

use super::{SettingsError, invalid};

/// The largest limit on bytes. A server with larger bodies would need more memory than most machines have.
const BYTES_MAX: usize = 1 << 30;
/// The largest limit on a number of clients or tasks.
const COUNT_MAX: usize = 1_000_000_000;
/// The longest timeout, in seconds.
const TIMEOUT_MAX_S: f64 = 3600.0;

/// Declares the settings: for each the documentation (which `--help` shows), the variable, the type and the valid range.
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $variable:literal, $range:expr;)+) => {
        /// The unchecked limits from one source.
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, clap::Args)]
        #[serde(deny_unknown_fields)]
        pub(in crate::cli) struct LimitSettings {
            $(
                $(#[doc = $doc])+
                #[arg(long, env = $variable, value_name = "N", help_heading = "Limits on clients")]
                $name: Option<$type>,
            )+
        }

        impl LimitSettings {
            /// Each setting of `self`; if it is not set, the setting of `fallback`.
            pub(super) fn with_fallback(self, fallback: Self) -> Self {
                Self { $($name: self.$name.or(fallback.$name)),+ }
            }

            fn check_ranges(&self) -> Result<(), SettingsError> {
                $(check_range(stringify!($name), self.$name, $range)?;)+
                Ok(())
            }
        }
    };
}

settings! {
    /// Bytes of a request's body [default: 1048576]
    max_body_bytes: usize = "TASKBELL_MAX_BODY_BYTES", (1024, BYTES_MAX);
    /// Bytes of a body with many items or leases [default: 16777216]
    max_batch_bytes: usize = "TASKBELL_MAX_BATCH_BYTES", (1024, BYTES_MAX);
    /// Bytes of all bodies that are received and parsed at the same time [default: 33554432]
    max_bodies_in_flight_bytes: usize = "TASKBELL_MAX_BODIES_IN_FLIGHT_BYTES", (1024, 64 * BYTES_MAX);
    /// Bytes of a request line with its headers [default: 16384]
    max_header_bytes: usize = "TASKBELL_MAX_HEADER_BYTES", (1024, 65_536);
    /// Seconds within which a request line and its headers must arrive [default: 5]
    header_timeout_s: f64 = "TASKBELL_HEADER_TIMEOUT_S", (0.1, TIMEOUT_MAX_S);
    /// Seconds within which a body must arrive [default: 30]
    body_timeout_s: f64 = "TASKBELL_BODY_TIMEOUT_S", (0.1, TIMEOUT_MAX_S);
    /// Bytes of a body that must arrive per second on average; its first seconds are not counted [default: 1024]
    min_body_bytes_per_s: u64 = "TASKBELL_MIN_BODY_BYTES_PER_S", (0, 1 << 30);
    /// Levels of arrays and objects in an input or a result [default: 32]
    max_json_depth: usize = "TASKBELL_MAX_JSON_DEPTH", (1, ValueLimits::default().depth);
    /// Bytes of an input as compact JSON [default: 65536]
    max_input_bytes: usize = "TASKBELL_MAX_INPUT_BYTES", (64, ValueLimits::default().input_bytes);
    /// Bytes of a result as compact JSON [default: 262144]
    max_result_bytes: usize = "TASKBELL_MAX_RESULT_BYTES", (64, ValueLimits::default().result_bytes);
    /// Bytes of a title [default: 512]
    max_title_bytes: usize = "TASKBELL_MAX_TITLE_BYTES", (64, ValueLimits::default().title_bytes);
    /// Tasks on a page [default: 200]
    max_page_tasks: usize = "TASKBELL_MAX_PAGE_TASKS", (20, 1000);
    /// Values of one field of a filter, its labels, and the words of `q` [default: 64]
    max_filter_terms: usize = "TASKBELL_MAX_FILTER_TERMS", (8, 1000);
    /// Bytes of `q` in a filter [default: 1024]
    max_search_bytes: usize = "TASKBELL_MAX_SEARCH_BYTES", (64, 65_536);
    /// Open websockets [default: 10000]
    max_sockets: usize = "TASKBELL_MAX_SOCKETS", (0, COUNT_MAX);
    /// Open websockets of one subject [default: 5000]
    max_sockets_per_subject: usize = "TASKBELL_MAX_SOCKETS_PER_SUBJECT", (0, COUNT_MAX);
    /// Open websockets from one IP address [default: 5000]
    max_sockets_per_address: usize = "TASKBELL_MAX_SOCKETS_PER_ADDRESS", (0, COUNT_MAX);
    /// Seconds after which a websocket is closed whose client reads nothing [default: 30]
    socket_stall_s: f64 = "TASKBELL_SOCKET_STALL_S", (0.1, TIMEOUT_MAX_S);
    /// Requests that wait for a lease, a directive, a position or new events at the same time [default: 10000]
    max_long_polls: usize = "TASKBELL_MAX_LONG_POLLS", (1, COUNT_MAX);
    /// Waiting requests of one subject [default: 5000]
    max_long_polls_per_subject: usize = "TASKBELL_MAX_LONG_POLLS_PER_SUBJECT", (1, COUNT_MAX);
    /// Waiting requests from one IP address [default: 5000]
    max_long_polls_per_address: usize = "TASKBELL_MAX_LONG_POLLS_PER_ADDRESS", (1, COUNT_MAX);
    /// Requests of a token, or of a subject without one, per second, twice as many at once; 0: any number [default: 1000]
    max_requests_per_s: u32 = "TASKBELL_MAX_REQUESTS_PER_S", (0, 1_000_000);
    /// Wrong credentials from one IP address per second, five times as many at once; 0: any number [default: 20]
    max_failed_authentications_per_s: u32 = "TASKBELL_MAX_FAILED_AUTHENTICATIONS_PER_S", (0, 1_000_000);
    /// Tasks of one owner that are not final [default: any number]
    max_tasks_per_owner: u64 = "TASKBELL_MAX_TASKS_PER_OWNER", (1, COUNT_MAX as u64);
}

/// No setting is NaN, because a NaN is in no range.
impl Eq for LimitSettings {}

fn check_range<T: PartialOrd + std::fmt::Display>(
    setting: &'static str,
    value: Option<T>,
    (min, max): (T, T),
) -> Result<(), SettingsError> {
    match value {
        Some(value) if !(&min..=&max).contains(&&value) => {
            invalid(setting, format!("{value} is not within {min} to {max}"))
        }
        Some(_) | None => Ok(()),
    }
}

impl LimitSettings {
    /// Checks the settings. A missing setting gets its default.
    ///
    /// # Errors
    /// The first invalid setting.
    pub(super) fn check(self) -> Result<ClientLimits, SettingsError> {
        self.check_ranges()?;
        let defaults = ClientLimits::default();
        let limits = self.apply(defaults);
        if limits.bodies_in_flight_bytes < limits.batch_bytes.max(limits.body_bytes) {
            let why = format!(
                "{} is below max_batch_bytes ({}) or max_body_bytes ({}): the largest bodies could never be received",
                limits.bodies_in_flight_bytes, limits.batch_bytes, limits.body_bytes
            );
            return invalid("max_bodies_in_flight_bytes", why);
        }
        Ok(limits)
    }

    fn apply(self, mut limits: ClientLimits) -> ClientLimits {
        fn set<T>(limit: &mut T, setting: Option<T>) {
            if let Some(value) = setting {
                *limit = value;
            }
        }
        set(&mut limits.body_bytes, self.max_body_bytes);
        set(&mut limits.batch_bytes, self.max_batch_bytes);
        set(&mut limits.bodies_in_flight_bytes, self.max_bodies_in_flight_bytes);
        set(&mut limits.header_bytes, self.max_header_bytes);
        set(&mut limits.header_timeout, self.header_timeout_s.map(Duration::from_secs_f64));
        set(&mut limits.body_timeout, self.body_timeout_s.map(Duration::from_secs_f64));
        set(&mut limits.body_bytes_per_s, self.min_body_bytes_per_s);
        set(&mut limits.values.depth, self.max_json_depth);
        set(&mut limits.values.input_bytes, self.max_input_bytes);
        set(&mut limits.values.result_bytes, self.max_result_bytes);
        set(&mut limits.values.title_bytes, self.max_title_bytes);
        set(&mut limits.page_tasks, self.max_page_tasks);
        set(&mut limits.filter_terms, self.max_filter_terms);
        set(&mut limits.search_bytes, self.max_search_bytes);
        set(&mut limits.sockets.total, self.max_sockets);
        set(&mut limits.sockets.per_subject, self.max_sockets_per_subject);
        set(&mut limits.sockets.per_address, self.max_sockets_per_address);
        set(&mut limits.socket_stall_timeout, self.socket_stall_s.map(Duration::from_secs_f64));
        set(&mut limits.long_polls.total, self.max_long_polls);
        set(&mut limits.long_polls.per_subject, self.max_long_polls_per_subject);
        set(&mut limits.long_polls.per_address, self.max_long_polls_per_address);
        set(&mut limits.requests_per_s, self.max_requests_per_s);
        set(&mut limits.failed_authentications_per_s, self.max_failed_authentications_per_s);
        limits.tasks_per_owner = self.max_tasks_per_owner.or(limits.tasks_per_owner);
        limits
    }
}
