//! Folds of the whole log.

use super::{EventStore, Fact, ReadError, StoreBackend};
use crate::task::Position;

/// The largest number of events in one read.
const PAGE_EVENTS: usize = 10_000;

impl EventStore {
    /// Calls `apply` with the state and what each event says, from the event after the position `after` to the one at the position
    /// `upto`, and returns the state. The events of a log in a folder are decoded on several threads, and applied on one of the runtime's
    /// threads for blocking work.
    ///
    /// # Errors
    /// See [`ReadError`]: that of the first event that can't be read or doesn't continue the chain of hashes. If the fold reaches
    /// the head, that of an index which doesn't lead to each event. [`ReadError::Unavailable`] if the log doesn't reach
    /// that position.
    pub async fn fold<T: Send + 'static>(
        &self,
        (after, upto): (Position, Position),
        mut state: T,
        apply: fn(&mut T, &Fact),
    ) -> Result<T, ReadError> {
        if self.head().position < upto {
            return Err(too_short(upto));
        }
        if let StoreBackend::Sqlite(store) = &self.0 {
            let folded = store.fold((after, upto), state, apply).await;
            // The caller says what it was reading for, and so writes the better line.
            if let Err(ReadError::Damaged(what)) = &folded {
                store.note_damage(what);
            }
            return folded;
        }
        let mut position = after;
        while position < upto {
            let rest = usize::try_from(upto.0 - position.0).unwrap_or(PAGE_EVENTS);
            let page = self.read_all(position, rest.min(PAGE_EVENTS)).await?;
            position = page.last().ok_or_else(|| too_short(upto))?.position;
            for recorded in &page {
                apply(&mut state, recorded);
            }
        }
        Ok(state)
    }
}

fn too_short(upto: Position) -> ReadError {
    ReadError::Unavailable(format!("the log does not reach position {upto} yet"))
}
