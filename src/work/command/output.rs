//! Reads the lines that a command writes to stdout and stderr: progress, the result, and output.

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::task::JsonText;
use crate::task::limits::RESULT_MAX;
use crate::work::worker::context::Context;
use crate::work::worker::handler::Failure;

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
    /// The last line of stdout, if this line says that it is a result.
    result: Option<ResultLine>,
}

/// A line `::result …` of stdout. If no other line follows, it is the result; otherwise it is output.
struct ResultLine {
    /// `None` if the line was too long and so was already appended to the output.
    line: Option<String>,
    value: Result<JsonText, Failure>,
}

/// A line that has not ended yet.
#[derive(Default)]
struct PartialLine {
    bytes: Vec<u8>,
    /// Whether the beginning of the line was already appended to the output, because the line is too long.
    is_continued: bool,
    /// Whether this beginning says that the line is a result.
    is_result: bool,
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
    /// visible line. A result that can't be read is appended to the output, so that people see it.
    pub fn into_message_and_result(mut self) -> (Option<String>, Result<Option<JsonText>, Failure>) {
        let [out, err] = std::mem::take(&mut self.last_lines);
        let result = match self.result.take() {
            None => Ok(None),
            Some(ResultLine { value: Ok(value), .. }) => Ok(Some(value)),
            Some(ResultLine { line, value: Err(failure) }) => {
                if let Some(line) = line {
                    self.append_output(OutputStream::Stdout, &line, "\n");
                }
                Err(failure)
            }
        };
        (out.or(err), result)
    }

    /// Returns the message of a failure. It is from stderr, or from stdout if stderr has no visible line. The line with
    /// the result of a failed command is appended to the output like any other line.
    pub fn into_error_message(mut self) -> Option<String> {
        self.append_former_result();
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
                self.handle_part(stream, line);
            }
        }
    }

    /// Appends the part of a line that is too long.
    fn handle_part(&mut self, stream: OutputStream, line: &mut PartialLine) {
        let begins_result =
            !line.is_continued && stream == OutputStream::Stdout && text_of_result(&line.bytes).is_some();
        let is_result = line.is_result || begins_result;
        self.append_line(stream, &line.bytes, "");
        *line = PartialLine { bytes: Vec::new(), is_continued: true, is_result };
    }

    /// Handles a line, which ends with `end`: progress, a result, or output.
    fn handle_line(&mut self, stream: OutputStream, line: &mut PartialLine, end: &str) {
        let PartialLine { bytes, is_continued, is_result } = std::mem::take(line);
        if is_result {
            self.append_line(stream, &bytes, end);
            let message = format!("the line of the result has more than {LINE_MAX} bytes");
            self.result = Some(ResultLine { line: None, value: Err(Failure::fatal("result_too_large", message)) });
            return;
        }
        if bytes.is_empty() && end.is_empty() || !is_continued && self.report_progress(&String::from_utf8_lossy(&bytes))
        {
            return;
        }
        match text_of_result(&bytes).filter(|_| stream == OutputStream::Stdout && !is_continued) {
            Some(text) => {
                self.append_former_result();
                let line = Some(String::from_utf8_lossy(&bytes).into_owned());
                self.result = Some(ResultLine { line, value: read_result(text) });
            }
            None => self.append_line(stream, &bytes, end),
        }
    }

    /// Appends a line, or a part of one, that is output. If it follows a result, the line with the result is output too.
    fn append_line(&mut self, stream: OutputStream, bytes: &[u8], end: &str) {
        if stream == OutputStream::Stdout {
            self.append_former_result();
        }
        // If a character is split between two parts, these become replacement characters.
        self.append_output(stream, &String::from_utf8_lossy(bytes), end);
    }

    fn append_former_result(&mut self) {
        if let Some(line) = self.result.take().and_then(|former| former.line) {
            self.append_output(OutputStream::Stdout, &line, "\n");
        }
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

/// Returns what follows the word in a line `::result …`; `None` for other lines.
fn text_of_result(line: &[u8]) -> Option<&[u8]> {
    let text = line.strip_prefix(b"::result")?;
    (text.starts_with(b" ") || text.trim_ascii().is_empty()).then_some(text)
}

fn read_result(text: &[u8]) -> Result<JsonText, Failure> {
    let invalid = |why: &str| Failure::fatal("invalid_result", format!("the ::result can't be read: {why}"));
    let text = std::str::from_utf8(text).map_err(|_| invalid("it is not UTF-8"))?;
    JsonText::parse(text).map_err(|fault| invalid(&fault.to_string()))
}

/// Reads into the buffer and returns the number of bytes; 0 at the end of the stream and after an error. Without a
/// stream it waits for ever.
async fn read_some(stream: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> usize {
    match stream {
        Some(stream) => stream.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}
