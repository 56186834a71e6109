//! Why a command did not do what was asked: an exit code and one sentence.

use std::io;

use serde_json::Value;

use super::out;

/// A command's end other than "done".
#[derive(Debug)]
pub struct Failure {
    exit: u8,
    sentence: Option<String>,
    /// The server's answer, where there is one: what `--json` prints.
    answer: Option<String>,
}

impl Failure {
    fn new(exit: u8, sentence: impl Into<String>) -> Self {
        Self { exit, sentence: Some(sentence.into()), answer: None }
    }

    /// It was tried and went wrong: 1.
    pub fn failed(sentence: impl Into<String>) -> Self {
        Self::new(1, sentence)
    }

    /// What was typed can't be meant: 2.
    pub fn usage(sentence: impl Into<String>) -> Self {
        Self::new(2, sentence)
    }

    /// No server answered, or it can't serve now: 5.
    pub fn unreachable(sentence: impl Into<String>) -> Self {
        Self::new(5, sentence)
    }

    /// The outcome has been printed already and was not the wished one: 1, without a further word.
    #[must_use]
    pub const fn said() -> Self {
        Self { exit: 1, sentence: None, answer: None }
    }

    /// Nobody reads stdout any more (`| head`): there is nothing left to do, and nothing went wrong.
    #[must_use]
    pub const fn closed() -> Self {
        Self { exit: 0, sentence: None, answer: None }
    }

    /// What the server's refusal means here, in its own words.
    #[must_use]
    pub fn from_answer(status: u16, text: &str, server: &str) -> Self {
        let exit = match status {
            404 => 3,
            502..=504 => 5,
            400..500 => 4,
            _ => 1,
        };
        let problem: Value = serde_json::from_str(text).unwrap_or_default();
        let Some(code) = problem["code"].as_str() else {
            return Self::new(exit, format!("{server} answered {status}, and not as a Taskbell server does"));
        };
        let mut sentence = problem["detail"].as_str().or(problem["title"].as_str()).unwrap_or("refused").to_owned();
        for field in problem["errors"].as_array().into_iter().flatten().map(field) {
            // The server names the first in its detail already.
            if !sentence.contains(&field) {
                sentence = format!("{}; {field}", sentence.trim_end_matches(['.', ':']));
            }
        }
        Self { answer: Some(text.to_owned()), ..Self::new(exit, format!("{sentence} ({code})")) }
    }

    /// The code that the process ends with.
    #[must_use]
    pub const fn exit(&self) -> u8 {
        self.exit
    }

    /// Says it on stderr, once; with `json` what the API answered goes to stdout.
    pub fn say(&mut self, json: bool) {
        self.say_about("", json);
    }

    /// The same, beginning with what it is about.
    pub fn say_about(&mut self, about: &str, json: bool) {
        if let Some(answer) = self.answer.take().filter(|_| json) {
            let _ = out::json(&answer);
        }
        if let Some(sentence) = self.sentence.take() {
            let colon = if about.is_empty() { "" } else { ": " };
            out::note(&format!("error: {about}{colon}{sentence}"));
        }
    }
}

fn field(error: &Value) -> String {
    let part = |name: &str| error[name].as_str().unwrap_or_default();
    format!("{}: {}", part("pointer"), part("detail"))
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::closed();
        }
        Self::failed(error.to_string())
    }
}
