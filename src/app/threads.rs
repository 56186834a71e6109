//! The threads on which the actors run, without the threads of the HTTP server.

use actix::Arbiter;

/// The arbiters of the actors. Each arbiter has one thread.
pub(super) struct Threads {
    pub(super) projection: Arbiter,
    /// For replays, because a replay may take long.
    pub(super) replay: Arbiter,
    /// For the dispatcher, so that its timers wait for no other actor.
    pub(super) dispatch: Arbiter,
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
            dispatch: Arbiter::new(),
            push: Arbiter::new(),
            reactions: Arbiter::new(),
            shards: (0..cores).map(|_| Arbiter::new()).collect(),
        }
    }

    /// Stops all arbiters and their actors. Blocks until all threads have ended.
    pub(super) fn stop(self) {
        let Self { projection, replay, dispatch, push, reactions, shards } = self;
        for arbiter in [projection, replay, dispatch, push, reactions].into_iter().chain(shards) {
            arbiter.stop();
            // An error says that the thread panicked. Then it has ended too.
            let _ = arbiter.join();
        }
    }
}
