//! The pusher of a thread on which sockets run. The hub sends it the frames of a turn in one message; it passes them on to the
//! sockets, and says when the thread has done its other work.

use std::cell::RefCell;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Recipient, WrapFuture};

use super::messages::Turn;

/// The actor; see the module.
pub struct Pusher;

thread_local! {
    static OF_THIS_THREAD: RefCell<Option<Addr<Pusher>>> = const { RefCell::new(None) };
}

impl Pusher {
    /// The pusher of the calling thread. Starts it if there is none.
    #[must_use]
    pub fn of_this_thread() -> Recipient<Turn> {
        OF_THIS_THREAD.with_borrow_mut(|pusher| {
            // A pusher ends with the runtime on which it was started. The thread may have a new one.
            let pusher = match pusher.take().filter(Addr::connected) {
                Some(known) => pusher.insert(known),
                None => pusher.insert(Self.start()),
            };
            pusher.clone().recipient()
        })
    }
}

impl Actor for Pusher {
    type Context = Context<Self>;
}

impl Handler<Turn> for Pusher {
    type Result = ();

    fn handle(&mut self, turn: Turn, ctx: &mut Context<Self>) {
        for (socket, push) in turn.pushes {
            // The hub bounds what waits for a socket. So this needs no room in the socket's mailbox.
            socket.do_send(push);
        }
        if let Some(ended) = turn.ended {
            // Before this future goes on, the runtime polls the sockets above, and then the requests that have arrived meanwhile.
            let others = async {
                tokio::task::yield_now().await;
                // An error means that the hub has ended.
                let _ = ended.send(());
            };
            ctx.spawn(others.into_actor(self));
        }
    }
}
