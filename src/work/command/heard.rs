//! What a command says on its outputs.

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::task::limits::RESULT_MAX;
use crate::work::worker::context::Context;

/// A line is looked at as a whole up to here: a result fits in. What is longer is output, piece by piece.
const LINE_MAX: usize = RESULT_MAX + 64 * 1024;
const READ: usize = 16 * 1024;

/// What was heard so far.
pub(super) struct Heard {
    ctx: Context,
    /// The last line of each output in which there is something to see: of stdout, of stderr.
    last: [Option<String>; 2],
    /// The last line of stdout, where it is a result.
    result: Option<(String, Value)>,
}

/// The line of one output that has not ended yet.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    /// Its beginning was passed on already: it is too long to be looked at.
    torn: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Stdout,
    Stderr,
}

impl Heard {
    pub const fn new(ctx: Context) -> Self {
        Self { ctx, last: [None, None], result: None }
    }

    /// Reads both outputs to their end, and passes on what comes as it comes.
    pub async fn read(&mut self, stdout: Option<impl AsyncRead + Unpin>, stderr: Option<impl AsyncRead + Unpin>) {
        let (mut stdout, mut stderr) = (stdout, stderr);
        let (mut out, mut err) = (Line::default(), Line::default());
        let (mut from_out, mut from_err) = (vec![0; READ], vec![0; READ]);
        while stdout.is_some() || stderr.is_some() {
            tokio::select! {
                n = some(&mut stdout, &mut from_out) => match n {
                    0 => stdout = None,
                    n => self.hear(From::Stdout, &mut out, &from_out[..n]),
                },
                n = some(&mut stderr, &mut from_err) => match n {
                    0 => stderr = None,
                    n => self.hear(From::Stderr, &mut err, &from_err[..n]),
                },
            }
        }
        self.line(From::Stdout, &mut out, "");
        self.line(From::Stderr, &mut err, "");
    }

    /// A message for people, the last word of stdout where there is one, and the result.
    pub fn end(self) -> (Option<String>, Option<Value>) {
        let [out, err] = self.last;
        (out.or(err), self.result.map(|(_, value)| value))
    }

    /// A message about what went wrong, the last word of stderr where there is one. A result that nobody takes is output
    /// like any other line.
    pub fn end_without_result(mut self) -> Option<String> {
        if let Some((line, _)) = self.result.take() {
            self.keep(From::Stdout, &line, "\n");
        }
        let [out, err] = self.last;
        err.or(out)
    }

    fn hear(&mut self, from: From, line: &mut Line, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(end) => {
                    line.bytes.extend_from_slice(end);
                    self.line(from, line, "\n");
                }
                None => line.bytes.extend_from_slice(piece),
            }
            if line.bytes.len() > LINE_MAX {
                // A character that is cut here is kept as two marks of what can't be read.
                self.line(from, line, "");
                line.torn = true;
            }
        }
    }

    fn line(&mut self, from: From, line: &mut Line, end: &str) {
        let Line { bytes, torn } = std::mem::take(line);
        if bytes.is_empty() && end.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&bytes);
        if !torn && self.is_progress(&text) {
            return;
        }
        if from == From::Stdout {
            // It was not the last line.
            if let Some((former, _)) = self.result.take() {
                self.keep(From::Stdout, &former, "\n");
            }
            let result = text.strip_prefix("::result ").filter(|_| !torn);
            if let Some(value) = result.and_then(|json| serde_json::from_str(json).ok()) {
                self.result = Some((text.into_owned(), value));
                return;
            }
        }
        self.keep(from, &text, end);
    }

    fn keep(&mut self, from: From, text: &str, end: &str) {
        self.ctx.output(text);
        self.ctx.output(end);
        // What a terminal would show: bars are drawn over and over in one line.
        let shown = text.rsplit('\r').map(str::trim).find(|part| !part.is_empty());
        if let Some(shown) = shown {
            self.last[usize::from(from == From::Stderr)] = Some(shown.to_owned());
        }
    }

    fn is_progress(&self, text: &str) -> bool {
        let Some(said) = text.strip_prefix("::progress ") else { return false };
        let (number, message) = said.trim().split_once(' ').unwrap_or((said.trim(), ""));
        let fraction = match number {
            "-" => None,
            number => match number.parse::<f64>() {
                Ok(fraction) if fraction.is_finite() => Some(fraction),
                _ => return false,
            },
        };
        self.ctx.progress(fraction, message.trim());
        true
    }
}

/// What there is to read; 0 at the end, and where it can't be read. Never comes where there is no pipe.
async fn some(pipe: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> usize {
    match pipe {
        Some(pipe) => pipe.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}
