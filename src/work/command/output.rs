//! The lines that a command writes to stdout and stderr: progress, the result, and output to keep.

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::task::limits::RESULT_MAX;
use crate::work::worker::context::Context;

/// A line is interpreted up to this many bytes, so that the largest result fits. A longer one is plain output, in pieces.
const LINE_MAX: usize = RESULT_MAX + 64 * 1024;
const READ: usize = 16 * 1024;

/// Interprets a command's output as it comes.
pub(super) struct CommandOutput {
    ctx: Context,
    /// The last line with visible text of each stream: of stdout, of stderr.
    last_lines: [Option<String>; 2],
    /// The last line of stdout and its value, if it is a result.
    result: Option<(String, Value)>,
}

/// A line that has not ended yet.
#[derive(Default)]
struct PartialLine {
    bytes: Vec<u8>,
    /// Its beginning was passed on as output because it was too long.
    is_continued: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

impl CommandOutput {
    pub const fn new(ctx: Context) -> Self {
        Self { ctx, last_lines: [None, None], result: None }
    }

    /// Reads both streams to their ends.
    pub async fn read(&mut self, stdout: Option<impl AsyncRead + Unpin>, stderr: Option<impl AsyncRead + Unpin>) {
        let (mut stdout, mut stderr) = (stdout, stderr);
        let (mut out, mut err) = (PartialLine::default(), PartialLine::default());
        let (mut out_buffer, mut err_buffer) = (vec![0; READ], vec![0; READ]);
        while stdout.is_some() || stderr.is_some() {
            tokio::select! {
                n = read_some(&mut stdout, &mut out_buffer) => match n {
                    0 => stdout = None,
                    n => self.take_bytes(Stream::Stdout, &mut out, &out_buffer[..n]),
                },
                n = read_some(&mut stderr, &mut err_buffer) => match n {
                    0 => stderr = None,
                    n => self.take_bytes(Stream::Stderr, &mut err, &err_buffer[..n]),
                },
            }
        }
        self.take_line(Stream::Stdout, &mut out, "");
        self.take_line(Stream::Stderr, &mut err, "");
    }

    /// The message for people, from stdout rather than stderr, and the result.
    pub fn into_outcome(self) -> (Option<String>, Option<Value>) {
        let [out, err] = self.last_lines;
        (out.or(err), self.result.map(|(_, value)| value))
    }

    /// The message of a failure, from stderr rather than stdout. The result of a command that failed becomes output like
    /// any other line.
    pub fn into_error_message(mut self) -> Option<String> {
        if let Some((line, _)) = self.result.take() {
            self.keep(Stream::Stdout, &line, "\n");
        }
        let [out, err] = self.last_lines;
        err.or(out)
    }

    fn take_bytes(&mut self, stream: Stream, line: &mut PartialLine, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(end) => {
                    line.bytes.extend_from_slice(end);
                    self.take_line(stream, line, "\n");
                }
                None => line.bytes.extend_from_slice(piece),
            }
            if line.bytes.len() > LINE_MAX {
                // A character that is cut here becomes two replacement characters.
                self.take_line(stream, line, "");
                line.is_continued = true;
            }
        }
    }

    fn take_line(&mut self, stream: Stream, line: &mut PartialLine, end: &str) {
        let PartialLine { bytes, is_continued } = std::mem::take(line);
        if bytes.is_empty() && end.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&bytes);
        if !is_continued && self.take_progress(&text) {
            return;
        }
        if stream == Stream::Stdout {
            // A result that is followed by another line is output.
            if let Some((previous, _)) = self.result.take() {
                self.keep(Stream::Stdout, &previous, "\n");
            }
            let result = text.strip_prefix("::result ").filter(|_| !is_continued);
            if let Some(value) = result.and_then(|json| serde_json::from_str(json).ok()) {
                self.result = Some((text.into_owned(), value));
                return;
            }
        }
        self.keep(stream, &text, end);
    }

    fn keep(&mut self, stream: Stream, text: &str, end: &str) {
        self.ctx.output(text);
        self.ctx.output(end);
        // What a terminal shows of the line: a progress bar is redrawn after each carriage return.
        let visible = text.rsplit('\r').map(str::trim).find(|part| !part.is_empty());
        if let Some(visible) = visible {
            self.last_lines[usize::from(stream == Stream::Stderr)] = Some(visible.to_owned());
        }
    }

    /// Whether the line reports progress.
    fn take_progress(&self, text: &str) -> bool {
        let Some(progress) = text.strip_prefix("::progress ") else { return false };
        let (number, message) = progress.trim().split_once(' ').unwrap_or((progress.trim(), ""));
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

/// The number of bytes read; 0 at the end of the stream and after an error. Never resolves without a stream.
async fn read_some(stream: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> usize {
    match stream {
        Some(stream) => stream.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}
