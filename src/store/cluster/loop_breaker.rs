//! Stops a loop of the client that never yields.
//!
//! If a server ends a subscription without an error, the client's `Subscription` polls the ended stream again and again
//! within one `poll`. The loop blocks its thread for ever: neither a timeout nor the end of the runtime stops it. In each
//! pass the loop logs the same warning.
//!
//! So the threads that own a client log through [`LoopBreaker`]. It passes every event to the process's own `tracing`
//! subscriber. When the loop's warning is logged, it unwinds the stack and thereby ends the loop. The task of the
//! subscription ends as after a panic, but no panic message is printed.

use std::fmt::{self, Write as _};
use std::panic::resume_unwind;

use tracing::dispatcher::{self, Dispatch};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

const TARGET: &str = "eventstore::commands";
const WARNING: &str = "Received an unknown subscription message";

/// The panic payload with which [`LoopBreaker`] unwinds the stack.
pub(super) struct SubscriptionEnded;

/// Runs `body` on this thread with [`LoopBreaker`] as the thread's `tracing` subscriber.
pub(super) fn with_loop_breaker<T>(body: impl FnOnce() -> T) -> T {
    let process = dispatcher::get_default(Dispatch::clone);
    dispatcher::with_default(&Dispatch::new(LoopBreaker(process)), body)
}

/// The `tracing` subscriber that unwinds the client's loop. It holds the process's own subscriber.
struct LoopBreaker(Dispatch);

fn may_be_the_warning(metadata: &Metadata<'_>) -> bool {
    metadata.target() == TARGET && *metadata.level() == Level::WARN
}

impl Subscriber for LoopBreaker {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if may_be_the_warning(metadata) { Interest::always() } else { self.0.register_callsite(metadata) }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // The process's own subscriber has its own hint; `tracing` uses the most verbose one.
        Some(LevelFilter::WARN)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        may_be_the_warning(metadata) || self.0.enabled(metadata)
    }

    fn event(&self, event: &Event<'_>) {
        if may_be_the_warning(event.metadata()) && message(event) == WARNING {
            resume_unwind(Box::new(SubscriptionEnded));
        }
        if self.0.enabled(event.metadata()) {
            self.0.event(event);
        }
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.0.new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.0.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.0.record_follows_from(span, follows);
    }

    fn enter(&self, span: &Id) {
        self.0.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.0.exit(span);
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.0.clone_span(span)
    }

    fn try_close(&self, span: Id) -> bool {
        self.0.try_close(span)
    }
}

fn message(event: &Event<'_>) -> String {
    let mut message = Message(String::new());
    event.record(&mut message);
    message.0
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to a string can't fail.
            let _ = write!(self.0, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn the_warning_of_the_loop_unwinds_and_no_other_does() {
        with_loop_breaker(|| {
            tracing::warn!(target: "eventstore::commands", "another warning");
            tracing::warn!("Received an unknown subscription message");
            let unwound = catch_unwind(|| {
                tracing::warn!(target: "eventstore::commands", "Received an unknown subscription message");
            });
            assert!(unwound.is_err_and(|payload| payload.is::<SubscriptionEnded>()));
            // The thread logs as before.
            tracing::warn!("another warning");
        });
    }
}
