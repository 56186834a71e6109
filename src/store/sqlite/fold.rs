//! Folds the log from a position on: some threads read and decode, the calling thread applies.
//!
//! The positions are divided into blocks of [`BLOCK_EVENTS`]. With two decoders, the first one decodes the blocks 0, 2, 4, … and
//! the second one the blocks 1, 3, 5, …, each over a connection of its own. The calling thread takes the blocks in turn, so it
//! gets the events in their order, and of several damaged events the first one is reported.
//!
//! A decoder is at most one part of a block ahead of the calling thread, so the memory is bounded. What the calling thread
//! has applied goes back to its decoder, which drops it: memory is freed fastest on the thread that has allocated it.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, Scope};

use super::read::ReadConnection;
use crate::store::{Fact, ReadError};
use crate::task::Position;

/// The number of consecutive events that one decoder reads before it continues after the blocks of the others.
const BLOCK_EVENTS: u64 = 2048;
/// A part of a block is sent when the `data` of its events has this length in bytes.
const PART_BYTES: usize = 1 << 20;
/// The largest number of decoders. The thread that applies isn't faster than so many.
const DECODERS_MAX: u64 = 4;

/// Events that follow each other.
struct Part {
    facts: Vec<Fact>,
    ends_block: bool,
}

/// A decoder, as the calling thread sees it.
struct Decoder {
    parts: Receiver<Result<Part, ReadError>>,
    /// Takes back what was applied.
    applied: Sender<Vec<Fact>>,
}

/// Calls `apply` with what each event says, from the one after the position `after` to the one at the position `upto`. Blocks until
/// it is done.
///
/// # Errors
/// The first event that can't be read, or [`ReadError::Unavailable`].
pub(super) fn fold(
    path: &Path,
    (after, upto): (Position, Position),
    mut apply: impl FnMut(&Fact),
) -> Result<(), ReadError> {
    let count = thread::available_parallelism().map_or(1, |cores| cores.get() as u64).min(DECODERS_MAX);
    thread::scope(|scope| {
        let start = |index| Decoder::start(scope, path, (index, count), (after, upto));
        let decoders = (0..count).map(start).collect::<io::Result<Vec<_>>>();
        let decoders =
            decoders.map_err(|error| ReadError::Unavailable(format!("can't start a thread that reads: {error}")))?;
        let blocks = upto.0.saturating_sub(after.0).div_ceil(BLOCK_EVENTS);
        (0..blocks).zip(decoders.iter().cycle()).try_for_each(|(_, decoder)| decoder.apply_block(&mut apply))
    })
}

impl Decoder {
    fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        path: &'scope Path,
        (first_block, decoders): (u64, u64),
        (after, upto): (Position, Position),
    ) -> io::Result<Self> {
        let ((part_sender, parts), (applied, applied_receiver)) = (sync_channel(1), channel());
        let after = Position(after.0 + first_block * BLOCK_EVENTS);
        let thread = DecoderThread { after, decoders, upto, parts: part_sender, applied: applied_receiver };
        let run = move || thread.run(path);
        thread::Builder::new().name("taskbell-read".to_owned()).spawn_scoped(scope, run)?;
        Ok(Self { parts, applied })
    }

    /// Applies the decoder's next block.
    fn apply_block(&self, apply: &mut impl FnMut(&Fact)) -> Result<(), ReadError> {
        loop {
            let ended = |_| ReadError::Unavailable("a thread that reads the log has ended".to_owned());
            let Part { facts, ends_block } = self.parts.recv().map_err(ended)??;
            facts.iter().for_each(&mut *apply);
            // The decoder may have ended already; then this thread drops them.
            drop(self.applied.send(facts));
            if ends_block {
                return Ok(());
            }
        }
    }
}

/// The calling thread receives no further parts, because it has stopped at an error.
struct NotTaken;

/// The thread of a decoder.
struct DecoderThread {
    /// The position before its first block.
    after: Position,
    /// The number of decoders.
    decoders: u64,
    /// The position of the last event.
    upto: Position,
    parts: SyncSender<Result<Part, ReadError>>,
    applied: Receiver<Vec<Fact>>,
}

impl DecoderThread {
    /// Decodes this thread's blocks. Ends after the last block, at the first error, or when the calling thread receives no
    /// further parts.
    fn run(&self, path: &Path) {
        let reader = match ReadConnection::open(path) {
            Ok(reader) => reader,
            Err(error) => return drop(self.parts.send(Err(error))),
        };
        let mut after = self.after;
        while after < self.upto {
            match self.decode_block(&reader, after) {
                Ok(Ok(())) => after = Position(after.0 + self.decoders * BLOCK_EVENTS),
                Ok(Err(NotTaken)) => return,
                Err(error) => return drop(self.parts.send(Err(error))),
            }
        }
    }

    /// Decodes and sends the block after this position.
    fn decode_block(&self, reader: &ReadConnection, after: Position) -> Result<Result<(), NotTaken>, ReadError> {
        let last = Position(self.upto.0.min(after.0 + BLOCK_EVENTS));
        let (mut facts, mut bytes, mut position) = (self.empty(), 0, after.0);
        let mut sent = Ok(());
        reader.scan_range(after, last, |event| {
            position += 1;
            if event.position.0 != position {
                return Err(lost(position));
            }
            bytes += event.data.len();
            facts.push(event.decode_fact()?);
            if bytes >= PART_BYTES {
                bytes = 0;
                sent = self.send(std::mem::replace(&mut facts, self.empty()), false);
            }
            Ok(sent.is_ok())
        })?;
        if sent.is_ok() && position < last.0 {
            return Err(lost(position + 1));
        }
        Ok(sent.and_then(|()| self.send(facts, true)))
    }

    fn send(&self, facts: Vec<Fact>, ends_block: bool) -> Result<(), NotTaken> {
        self.parts.send(Ok(Part { facts, ends_block })).map_err(|_| NotTaken)
    }

    /// An empty list. Drops what was applied meanwhile, and uses the memory of its list again.
    fn empty(&self) -> Vec<Fact> {
        let mut list = Vec::new();
        while let Ok(mut applied) = self.applied.try_recv() {
            applied.clear();
            list = applied;
        }
        list
    }
}

fn lost(position: u64) -> ReadError {
    ReadError::Damaged(format!("the log has lost event {position}"))
}
