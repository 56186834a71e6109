//! The threads on which the actors run, without the threads of the HTTP server.

use actix::Arbiter;

/// The arbiters of the actors. Each arbiter has one thread.
pub(super) struct Threads {
    /// For the projector and the dispatcher. The dispatcher gets the events of each batch, so on a thread of its own it would
    /// have to be woken after each commit. No timer of it waits for more than the events of one batch.
    pub(super) projection: Arbiter,
    /// For replays, because a replay may take long.
    pub(super) replay: Arbiter,
    /// For the hub, so that a busy hub delays only the pushes.
    pub(super) push: Arbiter,
    /// For the cascade and the scheduler.
    pub(super) reactions: Arbiter,
    /// For the shards of the streams: one for each core.
    pub(super) shards: Vec<Arbiter>,
}

impl Threads {
    pub(super) fn start() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            projection: Arbiter::new(),
            replay: Arbiter::new(),
            push: Arbiter::new(),
            reactions: Arbiter::new(),
            shards: (0..cores).map(|_| Arbiter::new()).collect(),
        }
    }

    /// Stops all arbiters and their actors. Blocks until all threads have ended.
    pub(super) fn stop(self) {
        let Self { projection, replay, push, reactions, shards } = self;
        for arbiter in [projection, replay, push, reactions].into_iter().chain(shards) {
            arbiter.stop();
            // An error says that the thread panicked. Then it has ended too.
            let _ = arbiter.join();
        }
    }
}
