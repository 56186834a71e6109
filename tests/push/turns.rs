//! How the hub shares a thread between its sockets and the thread's other work, with actors in place of websockets.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use actix::{Actor, Context, Handler};
use serde_json::{Value, json};
use taskbell::push::backlog::Backlog;
use taskbell::push::messages::{Push, SocketId, SocketOpened, SocketRequest, bytes_of};
use taskbell::push::pusher::Pusher;
use taskbell::views::Scope;
use tokio::task::yield_now;

use crate::projection::visible::HubFixture;
use crate::streams::in_time;

/// More sockets than get a frame in one turn.
const SOCKETS: SocketId = 60;

/// What a socket has got and done.
#[derive(Clone, Default)]
struct Received {
    /// The frames that it has not shown to the test yet.
    frames: Rc<RefCell<VecDeque<Value>>>,
    /// The frames with counters of all sockets.
    counters: Rc<Cell<usize>>,
    backlog: Backlog,
    /// The bytes of frames that the connection has not taken yet.
    waiting: Rc<Cell<usize>>,
    /// Its connection takes nothing.
    is_blocked: Rc<Cell<bool>>,
}

impl Received {
    /// The next frame of this type. Skips other frames.
    async fn next(&self, kind: &str) -> Value {
        let next = async {
            loop {
                let frame = self.frames.borrow_mut().pop_front();
                match frame {
                    Some(frame) if frame["type"] == kind => return frame,
                    Some(_) => {}
                    None => yield_now().await,
                }
            }
        };
        in_time(next).await
    }

    /// The connection takes all frames that wait, and those that come later.
    fn unblock(&self) {
        self.is_blocked.set(false);
        self.backlog.note_piece();
        self.backlog.remove(self.waiting.take());
    }
}

struct FakeSocket(Received);

impl Actor for FakeSocket {
    type Context = Context<Self>;
}

impl Handler<Push> for FakeSocket {
    type Result = ();

    fn handle(&mut self, push: Push, _: &mut Context<Self>) {
        let Push::Frames(frames) = push else { panic!("{push:?}") };
        let received = &self.0;
        received.waiting.set(received.waiting.get() + bytes_of(&frames));
        if !received.is_blocked.get() {
            received.unblock();
        }
        for frame in frames {
            let frame: Value = serde_json::from_str(&frame).unwrap();
            received.counters.set(received.counters.get() + usize::from(frame["type"] == "counters"));
            received.frames.borrow_mut().push_back(frame);
        }
    }
}

/// Opens a socket with the bell of everyone. `counters` counts its frames with counters.
async fn open(fixture: &HubFixture, socket: SocketId, counters: &Rc<Cell<usize>>) -> Received {
    let received = Received { counters: Rc::clone(counters), ..Received::default() };
    let opened = SocketOpened {
        socket,
        bell: Scope::Everyone,
        viewer: "operator".into(),
        visible: Scope::Everyone,
        recipient: FakeSocket(received.clone()).start().recipient(),
        pusher: Pusher::of_this_thread(),
        backlog: received.backlog.clone(),
        abort: Box::new(|| {}),
    };
    in_time(fixture.hub.send(opened)).await.unwrap();
    received.next("snapshot").await;
    received
}

async fn open_many(fixture: &HubFixture) -> (Vec<Received>, Rc<Cell<usize>>) {
    let counters = Rc::default();
    let mut sockets = Vec::new();
    for socket in 0..SOCKETS {
        sockets.push(open(fixture, socket, &counters).await);
    }
    (sockets, counters)
}

#[actix_rt::test]
async fn after_at_most_16_frames_the_other_work_of_a_thread_has_its_turn() {
    let fixture = HubFixture::new();
    let (sockets, counters) = open_many(&fixture).await;
    // The actors and this future run on one thread. This future stands for the requests: it runs whenever it has its turn.
    let other_work = async {
        let (mut known, mut most) = (0, 0);
        while known < sockets.len() {
            yield_now().await;
            most = most.max(counters.get() - known);
            known = counters.get();
        }
        most
    };
    let (most, _) = tokio::join!(in_time(other_work), fixture.create("ann"));
    assert!(most <= 16, "{most} frames in one turn");
}

#[actix_rt::test]
async fn a_socket_that_takes_nothing_has_one_frame_waiting_and_then_gets_the_newest_counts() {
    let fixture = HubFixture::new();
    let counters = Rc::default();
    let [slow, fast] = [open(&fixture, 1, &counters).await, open(&fixture, 2, &counters).await];
    slow.is_blocked.set(true);
    for n in 1..=3 {
        fixture.create("ann").await;
        assert_eq!(fast.next("counters").await["position"], n);
    }
    let first = slow.next("counters").await;
    assert_eq!((&first["previous"], &first["position"]), (&json!(0), &json!(1)));
    assert_eq!(*slow.frames.borrow(), [] as [Value; 0]);
    slow.unblock();
    let newest = slow.next("counters").await;
    assert_eq!((&newest["previous"], &newest["position"]), (&json!(1), &json!(3)));
}

#[actix_rt::test]
async fn responses_to_requests_keep_their_place_among_the_frames_of_turns() {
    let fixture = HubFixture::new();
    let (sockets, _) = open_many(&fixture).await;
    let mut last = vec![json!(0); sockets.len()];
    for _ in 0..4 {
        fixture.create("ann").await;
        for socket in 0..SOCKETS {
            fixture.hub.do_send(SocketRequest::Resync(socket));
        }
        for (received, last) in sockets.iter().zip(&mut last) {
            let frame = loop {
                let frame = in_time(async {
                    while received.frames.borrow().is_empty() {
                        yield_now().await;
                    }
                    received.frames.borrow_mut().pop_front()
                });
                let frame = frame.await.unwrap();
                if frame["type"] == "counters" {
                    assert_eq!(frame["previous"], *last, "no gap");
                    *last = frame["position"].clone();
                } else if frame["type"] == "snapshot" {
                    break frame;
                }
            };
            *last = frame["position"].clone();
        }
    }
    assert!(last.iter().all(|last| *last == json!(4)), "{last:?}");
}
