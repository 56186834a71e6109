//! The lines that a command writes to stdout and stderr: progress, the result, and output to keep.

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::task::JsonText;
use crate::task::limits::RESULT_MAX;
use crate::work::worker::context::Context;
use crate::work::worker::handler::Failure;

/// A line is interpreted up to this many bytes, so that the largest result fits. A longer one is plain output, in pieces.
const LINE_MAX: usize = RESULT_MAX + 64 * 1024;
const READ: usize = 16 * 1024;

/// Interprets a command's output as it comes.
pub(super) struct CommandOutput {
    ctx: Context,
    /// The last line with visible text of each stream: of stdout, of stderr.
    last_lines: [Option<String>; 2],
    /// The last line of stdout, if it says that it is a result.
    result: Option<LastResult>,
}

/// A line `::result …` of stdout. It is the result if no other line follows, and output otherwise.
struct LastResult {
    /// None where it is already kept as output, because it was too long.
    line: Option<String>,
    value: Result<JsonText, Failure>,
}

/// A line that has not ended yet.
#[derive(Default)]
struct PartialLine {
    bytes: Vec<u8>,
    /// Its beginning was passed on as output because it was too long.
    is_continued: bool,
    /// That beginning says that the line is a result.
    is_result: bool,
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

    /// The message for people, from stdout rather than stderr, and the result. A result that can't be read is kept as output
    /// too, so that people see it.
    pub fn into_outcome(mut self) -> (Option<String>, Result<Option<JsonText>, Failure>) {
        let [out, err] = std::mem::take(&mut self.last_lines);
        let result = match self.result.take() {
            None => Ok(None),
            Some(LastResult { value: Ok(value), .. }) => Ok(Some(value)),
            Some(LastResult { line, value: Err(failure) }) => {
                if let Some(line) = line {
                    self.keep(Stream::Stdout, &line, "\n");
                }
                Err(failure)
            }
        };
        (out.or(err), result)
    }

    /// The message of a failure, from stderr rather than stdout. The result of a command that failed becomes output like
    /// any other line.
    pub fn into_error_message(mut self) -> Option<String> {
        self.keep_former_result();
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
                self.take_piece(stream, line);
            }
        }
    }

    /// Passes on a line that is too long as far as it has come.
    fn take_piece(&mut self, stream: Stream, line: &mut PartialLine) {
        let begins_result = !line.is_continued && stream == Stream::Stdout && result_text(&line.bytes).is_some();
        let is_result = line.is_result || begins_result;
        self.keep_line(stream, &line.bytes, "");
        *line = PartialLine { bytes: Vec::new(), is_continued: true, is_result };
    }

    fn take_line(&mut self, stream: Stream, line: &mut PartialLine, end: &str) {
        let PartialLine { bytes, is_continued, is_result } = std::mem::take(line);
        if is_result {
            self.keep_line(stream, &bytes, end);
            let message = format!("the line of the result has more than {LINE_MAX} bytes");
            self.result = Some(LastResult { line: None, value: Err(Failure::fatal("result_too_large", message)) });
            return;
        }
        if bytes.is_empty() && end.is_empty() || !is_continued && self.take_progress(&String::from_utf8_lossy(&bytes)) {
            return;
        }
        match result_text(&bytes).filter(|_| stream == Stream::Stdout && !is_continued) {
            Some(text) => {
                self.keep_former_result();
                let line = Some(String::from_utf8_lossy(&bytes).into_owned());
                self.result = Some(LastResult { line, value: read_result(text) });
            }
            None => self.keep_line(stream, &bytes, end),
        }
    }

    /// Keeps a line or a piece of one. A result that is followed by another line of stdout is output.
    fn keep_line(&mut self, stream: Stream, bytes: &[u8], end: &str) {
        if stream == Stream::Stdout {
            self.keep_former_result();
        }
        // A character that is cut between two pieces becomes two replacement characters.
        self.keep(stream, &String::from_utf8_lossy(bytes), end);
    }

    fn keep_former_result(&mut self) {
        if let Some(line) = self.result.take().and_then(|former| former.line) {
            self.keep(Stream::Stdout, &line, "\n");
        }
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

/// What stands behind the word in a line `::result …`; none in other lines.
fn result_text(line: &[u8]) -> Option<&[u8]> {
    let text = line.strip_prefix(b"::result")?;
    (text.starts_with(b" ") || text.trim_ascii().is_empty()).then_some(text)
}

fn read_result(text: &[u8]) -> Result<JsonText, Failure> {
    let invalid = |why: &str| Failure::fatal("invalid_result", format!("the last line is no ::result: {why}"));
    let text = std::str::from_utf8(text).map_err(|_| invalid("it is not UTF-8"))?;
    JsonText::parse(text).map_err(|fault| invalid(&fault.to_string()))
}

/// The number of bytes read; 0 at the end of the stream and after an error. Never resolves without a stream.
async fn read_some(stream: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> usize {
    match stream {
        Some(stream) => stream.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}
