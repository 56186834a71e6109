//! The error of a command: an exit code and one sentence for stderr. `console` prints it.

use std::io;

use serde_json::Value;
use taskbell::internal::json_value;

/// Why a command did not succeed, or why it ended early. The library's `Failure` is another type: the end of a handler.
#[derive(Debug)]
pub struct CommandError {
    exit_code: u8,
    /// The sentence for stderr. `None` after it was printed, or if the command prints none.
    message: Option<String>,
    /// The body of the server's error response, if there is one. `--json` prints it on stdout.
    response_body: Option<String>,
}

impl CommandError {
    fn new(exit_code: u8, message: impl Into<String>) -> Self {
        Self { exit_code, message: Some(message.into()), response_body: None }
    }

    /// Exit code 1: the command was executed and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(1, message)
    }

    /// Exit code 2: the command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(2, message)
    }

    /// Exit code 4: the command was refused because of the present state.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(4, message)
    }

    /// Exit code 3: what the command names does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(3, message)
    }

    /// Exit code 5: the server did not respond, or it is unavailable now.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(5, message)
    }

    /// Exit code 1 without a sentence: the command has already printed the outcome on stdout.
    #[must_use]
    pub const fn already_printed() -> Self {
        Self { exit_code: 1, message: None, response_body: None }
    }

    /// Not an error for the user: exit code 0 without a sentence. The reader of stdout has closed the pipe (`| head`), so
    /// the command ends early.
    #[must_use]
    pub const fn stdout_closed() -> Self {
        Self { exit_code: 0, message: None, response_body: None }
    }

    /// The error for a response with an error status: the exit code of that status, and the sentence in the response
    /// body.
    #[must_use]
    pub fn from_error_response(status: u16, text: &str, server: &str) -> Self {
        let exit_code = match status {
            404 => 3,
            502..=504 => 5,
            400..500 => 4,
            _ => 1,
        };
        let problem = json_value(text).unwrap_or_default();
        let Some(code) = problem["code"].as_str() else {
            return Self::new(exit_code, format!("the response ({status}) is not from a Taskbell server: {server}"));
        };
        let mut message = problem["detail"].as_str().or(problem["title"].as_str()).unwrap_or("refused").to_owned();
        for field_error in problem["errors"].as_array().into_iter().flatten().map(field_error) {
            // The `detail` of the response already contains the first field error.
            if !message.contains(&field_error) {
                message = format!("{}; {field_error}", message.trim_end_matches(['.', ':']));
            }
        }
        Self { response_body: Some(text.to_owned()), ..Self::new(exit_code, format!("{message} ({code})")) }
    }

    /// The exit code of the process.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// Takes the sentence, so that it is printed only once. Later calls return `None`.
    pub const fn take_message(&mut self) -> Option<String> {
        self.message.take()
    }

    /// Takes the body of the server's error response. Later calls return `None`.
    pub const fn take_response_body(&mut self) -> Option<String> {
        self.response_body.take()
    }
}

/// An element of the response's `errors`, like `/title: is too long`.
fn field_error(error: &Value) -> String {
    let part = |name: &str| error[name].as_str().unwrap_or_default();
    format!("{}: {}", part("pointer"), part("detail"))
}

impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::stdout_closed();
        }
        Self::failed(error.to_string())
    }
}
