//! Reads the lines that a command writes to stdout and stderr: progress, the result, and output.

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::task::limits::RESULT_MAX;
use crate::work::worker::context::Context;

/// The longest line that may be progress or a result, in bytes. The largest result fits into it. A longer line is
/// output, and is appended in several parts.
const LINE_MAX: usize = RESULT_MAX + 64 * 1024;
/// How many bytes are read at once.
const BUFFER_SIZE: usize = 16 * 1024;

/// Interprets a command's output while the command runs.
pub(super) struct CommandOutput {
    ctx: Context,
    /// The last line with visible text, of stdout and of stderr.
    last_lines: [Option<String>; 2],
    /// The last line of stdout and the value in it, if this line is a result.
    result: Option<(String, Value)>,
}

/// A line that has not ended yet.
#[derive(Default)]
struct PartialLine {
    bytes: Vec<u8>,
    /// Whether the beginning of the line was already appended to the output, because the line is too long.
    is_continued: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OutputStream {
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
        let (mut out_buffer, mut err_buffer) = (vec![0; BUFFER_SIZE], vec![0; BUFFER_SIZE]);
        while stdout.is_some() || stderr.is_some() {
            tokio::select! {
                n = read_some(&mut stdout, &mut out_buffer) => match n {
                    0 => stdout = None,
                    n => self.add_bytes(OutputStream::Stdout, &mut out, &out_buffer[..n]),
                },
                n = read_some(&mut stderr, &mut err_buffer) => match n {
                    0 => stderr = None,
                    n => self.add_bytes(OutputStream::Stderr, &mut err, &err_buffer[..n]),
                },
            }
        }
        self.handle_line(OutputStream::Stdout, &mut out, "");
        self.handle_line(OutputStream::Stderr, &mut err, "");
    }

    /// Returns the message for people and the result. The message is from stdout, or from stderr if stdout has no
    /// visible line.
    pub fn into_message_and_result(self) -> (Option<String>, Option<Value>) {
        let [out, err] = self.last_lines;
        (out.or(err), self.result.map(|(_, value)| value))
    }

    /// Returns the message of a failure. It is from stderr, or from stdout if stderr has no visible line. The line with
    /// the result of a failed command is appended to the output like any other line.
    pub fn into_error_message(mut self) -> Option<String> {
        if let Some((line, _)) = self.result.take() {
            self.append_output(OutputStream::Stdout, &line, "\n");
        }
        let [out, err] = self.last_lines;
        err.or(out)
    }

    /// Adds bytes to the current line, and handles each line that is complete.
    fn add_bytes(&mut self, stream: OutputStream, line: &mut PartialLine, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(end) => {
                    line.bytes.extend_from_slice(end);
                    self.handle_line(stream, line, "\n");
                }
                None => line.bytes.extend_from_slice(piece),
            }
            if line.bytes.len() > LINE_MAX {
                // If a character is split here, its two parts become replacement characters.
                self.handle_line(stream, line, "");
                line.is_continued = true;
            }
        }
    }

    /// Handles a line, which ends with `end`: progress, a result, or output.
    fn handle_line(&mut self, stream: OutputStream, line: &mut PartialLine, end: &str) {
        let PartialLine { bytes, is_continued } = std::mem::take(line);
        if bytes.is_empty() && end.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&bytes);
        if !is_continued && self.report_progress(&text) {
            return;
        }
        if stream == OutputStream::Stdout {
            // If another line follows a result, the line with the result is output.
            if let Some((previous, _)) = self.result.take() {
                self.append_output(OutputStream::Stdout, &previous, "\n");
            }
            let result = text.strip_prefix("::result ").filter(|_| !is_continued);
            if let Some(value) = result.and_then(|json| serde_json::from_str(json).ok()) {
                self.result = Some((text.into_owned(), value));
                return;
            }
        }
        self.append_output(stream, &text, end);
    }

    /// Appends a line to the attempt's output and remembers its visible text.
    fn append_output(&mut self, stream: OutputStream, text: &str, end: &str) {
        self.ctx.output(text);
        self.ctx.output(end);
        // A terminal shows only the text after the last carriage return, with which programs redraw a progress bar.
        let visible = text.rsplit('\r').map(str::trim).find(|part| !part.is_empty());
        if let Some(visible) = visible {
            self.last_lines[usize::from(stream == OutputStream::Stderr)] = Some(visible.to_owned());
        }
    }

    /// Reports the progress in the line. Returns false if the line isn't progress.
    fn report_progress(&self, text: &str) -> bool {
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

/// Reads into the buffer and returns the number of bytes; 0 at the end of the stream and after an error. Without a
/// stream it waits for ever.
async fn read_some(stream: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> usize {
    match stream {
        Some(stream) => stream.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}
