//! What clients may send, and how much of this server they may use at the same time.

use std::time::Duration;

use super::plumbing::error::Problem;
use crate::task::limits::{DEPTH_MAX, INPUT_MAX, RESULT_MAX, TITLE_MAX, has_at_most_bytes};
use crate::task::{Invalid, JsonText};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// What clients may send, and how much of this server they may use at the same time. A request over a limit is refused; the
/// refusal names the limit and its number.
///
/// The settings of the command line have the names in the documentation of the fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// The largest body of a request, in bytes. Setting `max_body_bytes`.
    pub body_bytes: usize,
    /// The largest body of a request with many items or leases, in bytes. Setting `max_batch_bytes`.
    pub batch_bytes: usize,
    /// The largest sum of all bodies that are received and parsed at the same time, in bytes. It is at least `batch_bytes`.
    /// Setting `max_bodies_in_flight_bytes`.
    pub bodies_in_flight_bytes: usize,
    /// The largest head of a request (its request line and its headers), in bytes. Setting `max_header_bytes`.
    pub header_bytes: usize,
    /// The time within which the head of a request must arrive. Setting `header_timeout_s`.
    pub header_timeout: Duration,
    /// The time within which the body of a request must arrive. Setting `body_timeout_s`.
    pub body_timeout: Duration,
    /// How many bytes of a body must arrive per second on average. The first seconds of a body are not counted. Setting
    /// `min_body_bytes_per_s`.
    pub body_bytes_per_s: u64,
    /// What an input and a result may contain. Settings `max_json_depth`, `max_input_bytes`, `max_result_bytes`,
    /// `max_title_bytes`.
    pub values: ValueLimits,
    /// The maximum number of tasks on a page. Setting `max_page_tasks`.
    pub page_tasks: usize,
    /// The maximum number of values of one field of a filter, of labels of a filter, and of words of `q`. Setting
    /// `max_filter_terms`.
    pub filter_terms: usize,
    /// The longest `q` of a filter, in bytes. Setting `max_search_bytes`.
    pub search_bytes: usize,
    /// The maximum number of open websockets. Settings `max_sockets`, `max_sockets_per_subject`, `max_sockets_per_address`.
    pub sockets: SharedLimit,
    /// A websocket is closed if its client has read nothing for this long although frames wait for it. Setting
    /// `socket_stall_s`.
    pub socket_stall_timeout: Duration,
    /// The maximum number of requests that wait at the same time: for a lease, for a directive, for a position of the log, or for new
    /// events of the log. Settings `max_long_polls`, `max_long_polls_per_subject`, `max_long_polls_per_address`.
    pub long_polls: SharedLimit,
    /// How many requests may come with one API token per second, or from one subject with other credentials; twice as many at
    /// once. 0: any number. Setting `max_requests_per_s`.
    pub requests_per_s: u32,
    /// How many wrong credentials may come from one IP address per second (of IPv6: from one network with 64 bits); five times
    /// as many at once. 0: any number. Setting `max_failed_authentications_per_s`.
    pub failed_authentications_per_s: u32,
    /// The maximum number of tasks of one owner that are not final. `None`: no maximum. Setting
    /// `max_tasks_per_owner`.
    pub tasks_per_owner: Option<u64>,
}

/// What a task may contain. No limit may be above its default, because the rules of the tasks refuse more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueLimits {
    /// The maximum number of levels of arrays and objects in an input or a result.
    pub depth: usize,
    /// The largest input, in bytes of compact JSON.
    pub input_bytes: usize,
    /// The largest result, in bytes of compact JSON.
    pub result_bytes: usize,
    /// The longest title, in bytes.
    pub title_bytes: usize,
}

impl ValueLimits {
    /// Checks the input of a task.
    ///
    /// # Errors
    /// 413 `too_large`, 422.
    pub(super) fn check_input(&self, input: &JsonText) -> Result<(), Problem> {
        self.check_value(input, "/input", self.input_bytes, "max_input_bytes")
    }

    /// Checks the result of an attempt.
    ///
    /// # Errors
    /// 413 `too_large`, 422.
    pub(super) fn check_result(&self, result: &JsonText) -> Result<(), Problem> {
        self.check_value(result, "/result", self.result_bytes, "max_result_bytes")
    }

    fn check_value(&self, value: &JsonText, pointer: &str, max: usize, setting: &str) -> Result<(), Problem> {
        let depth = self.depth;
        if value.depth() > depth {
            return Err(Problem::invalid_field(pointer, format!("nested deeper than {depth} levels (max_json_depth)")));
        }
        if has_at_most_bytes(value, max) {
            return Ok(());
        }
        let errors = vec![Invalid::new(pointer, format!("at most {max} bytes as compact JSON ({setting})"))];
        Err(Problem { errors, ..Problem::too_large(format!("{pointer}: more than {max} bytes ({setting})")) })
    }

    /// Checks the length of a title. The rules of the tasks check what it contains.
    pub(super) fn check_title(&self, title: &str, invalid: &mut Vec<Invalid>) {
        let max = self.title_bytes;
        if title.len() > max {
            invalid.push(Invalid::new("/title", format!("at most {max} bytes (max_title_bytes)")));
        }
    }
}

/// The maximum number of uses of one resource at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedLimit {
    /// The maximum for all clients together.
    pub total: usize,
    /// The maximum for one subject.
    pub per_subject: usize,
    /// The maximum for one IP address.
    pub per_address: usize,
}

impl Default for ClientLimits {
    fn default() -> Self {
        // One subject, or one address, can use half of a resource and no more. An idle socket takes about 11 kB of memory, a
        // long poll less.
        let shared = SharedLimit { total: 10_000, per_subject: 5_000, per_address: 5_000 };
        Self {
            body_bytes: MIB,
            batch_bytes: 16 * MIB,
            // A batch of 14 MiB takes some 100 MiB of memory until its tasks are recorded. Two of them don't fit into this.
            bodies_in_flight_bytes: 32 * MIB,
            header_bytes: 16 * KIB,
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(30),
            body_bytes_per_s: 1024,
            values: ValueLimits::default(),
            page_tasks: 200,
            filter_terms: 64,
            search_bytes: KIB,
            sockets: shared,
            socket_stall_timeout: Duration::from_secs(30),
            long_polls: shared,
            // A worker sends some ten requests per second: finishes are batched, and heartbeats wait. A program that creates
            // tasks one by one reaches some hundreds. The rate stops a loop without a pause.
            requests_per_s: 1000,
            failed_authentications_per_s: 20,
            tasks_per_owner: None,
        }
    }
}

impl Default for ValueLimits {
    fn default() -> Self {
        Self { depth: DEPTH_MAX, input_bytes: INPUT_MAX, result_bytes: RESULT_MAX, title_bytes: TITLE_MAX }
    }
}
