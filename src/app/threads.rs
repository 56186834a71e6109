//! The threads that actors live on, apart from those of the HTTP server.

use actix::Arbiter;

/// One arbiter, and so one thread, for each actor that must not wait for another, and one for each shard of the streams.
pub(super) struct Threads {
    pub(super) projection: Arbiter,
    /// For replays, which take their time.
    pub(super) replay: Arbiter,
    /// For the dispatcher's timers, which wait for no other actor.
    pub(super) dispatch: Arbiter,
    /// For the hub: a busy hub delays pushes and nothing else.
    pub(super) push: Arbiter,
    pub(super) reactions: Arbiter,
    /// As many as there are cores.
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

    /// Ends them all, and with them their actors. Blocks until they have ended.
    pub(super) fn stop(self) {
        let Self { projection, replay, dispatch, push, reactions, shards } = self;
        for arbiter in [projection, replay, dispatch, push, reactions].into_iter().chain(shards) {
            arbiter.stop();
            // A thread that panicked has ended as well.
            let _ = arbiter.join();
        }
    }
}
