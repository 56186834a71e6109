//! The failure of a command: an exit code and one sentence. `out` prints it.

use std::io;

use serde_json::Value;
use taskbell::internal::json_value;

/// Why a command did not succeed.
#[derive(Debug)]
pub struct Failure {
    exit: u8,
    /// None once it is printed, or if there is nothing to print.
    sentence: Option<String>,
    /// The server's answer, if there is one: what `--json` prints.
    answer: Option<String>,
}

impl Failure {
    fn new(exit: u8, sentence: impl Into<String>) -> Self {
        Self { exit, sentence: Some(sentence.into()), answer: None }
    }

    /// Exit code 1: the command was executed and failed.
    pub fn failed(sentence: impl Into<String>) -> Self {
        Self::new(1, sentence)
    }

    /// Exit code 2: the command line is wrong.
    pub fn usage(sentence: impl Into<String>) -> Self {
        Self::new(2, sentence)
    }

    /// Exit code 4: what is there already forbids it.
    #[cfg(feature = "eventstore")]
    pub fn refused(sentence: impl Into<String>) -> Self {
        Self::new(4, sentence)
    }

    /// Exit code 5: no server answered, or it is not available now.
    pub fn unreachable(sentence: impl Into<String>) -> Self {
        Self::new(5, sentence)
    }

    /// Exit code 1 without a sentence: the outcome is on stdout already.
    #[must_use]
    pub const fn printed() -> Self {
        Self { exit: 1, sentence: None, answer: None }
    }

    /// Exit code 0 without a sentence: the reader of stdout has closed the pipe (`| head`), so the command ends early.
    #[must_use]
    pub const fn stdout_closed() -> Self {
        Self { exit: 0, sentence: None, answer: None }
    }

    /// The failure for an answer with an error status: its exit code, and the server's own sentence.
    #[must_use]
    pub fn from_answer(status: u16, text: &str, server: &str) -> Self {
        let exit = match status {
            404 => 3,
            502..=504 => 5,
            400..500 => 4,
            _ => 1,
        };
        let problem = json_value(text).unwrap_or_default();
        let Some(code) = problem["code"].as_str() else {
            return Self::new(exit, format!("{server} answered {status}, and not as a Taskbell server does"));
        };
        let mut sentence = problem["detail"].as_str().or(problem["title"].as_str()).unwrap_or("refused").to_owned();
        for field in problem["errors"].as_array().into_iter().flatten().map(field) {
            // The server's detail names the first field already.
            if !sentence.contains(&field) {
                sentence = format!("{}; {field}", sentence.trim_end_matches(['.', ':']));
            }
        }
        Self { answer: Some(text.to_owned()), ..Self::new(exit, format!("{sentence} ({code})")) }
    }

    /// The exit code of the process.
    #[must_use]
    pub const fn exit(&self) -> u8 {
        self.exit
    }

    /// The sentence, the first time: it is printed once.
    pub const fn take_sentence(&mut self) -> Option<String> {
        self.sentence.take()
    }

    /// The server's answer, the first time.
    pub const fn take_answer(&mut self) -> Option<String> {
        self.answer.take()
    }
}

fn field(error: &Value) -> String {
    let part = |name: &str| error[name].as_str().unwrap_or_default();
    format!("{}: {}", part("pointer"), part("detail"))
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::stdout_closed();
        }
        Self::failed(error.to_string())
    }
}
