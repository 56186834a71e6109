//! Ends a loop of the client that never yields.
//!
//! Where a server ends a subscription without an error, the client's `Subscription` polls the ended stream for ever, inside
//! one `poll`: the thread is lost, and neither a timeout nor the end of the runtime gets it back. All that the loop does is
//! to log the same warning each time. So the threads that own a client log through [`LoopBreaker`], which hands everything
//! on to the process's own subscriber and unwinds the loop at that warning. The task of the subscription ends as after a
//! panic, without a panic message.

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

/// The payload of the unwinding.
pub(super) struct SubscriptionEnded;

/// Runs `body` so that the client's loop ends instead of blocking the thread.
pub(super) fn without_spinning<T>(body: impl FnOnce() -> T) -> T {
    let process = dispatcher::get_default(Dispatch::clone);
    dispatcher::with_default(&Dispatch::new(LoopBreaker(process)), body)
}

struct LoopBreaker(Dispatch);

fn may_be_the_warning(metadata: &Metadata<'_>) -> bool {
    metadata.target() == TARGET && *metadata.level() == Level::WARN
}

impl Subscriber for LoopBreaker {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if may_be_the_warning(metadata) { Interest::always() } else { self.0.register_callsite(metadata) }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // What the process's subscriber needs beyond that, it says itself.
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
        without_spinning(|| {
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
