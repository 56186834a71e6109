//! The message that stops an actor. It is in this room because the rooms of all actors that get it may import this room.

use actix::Message;

/// To an actor: stop, because the process or the `Taskbell` ends.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;
