//! PUSHES: what is sent on open websockets. [`hub`] (what is pending for each socket, and when it is sent), `socket` (an open
//! socket), `sockets` (all open sockets), `bells` (which sockets show which counters), `push_queue` (which socket gets frames next), `socket_thread` and
//! [`pusher`] (the turns of a thread on which sockets run), [`frames`] (the text of a frame), `shared_frames` (frames that
//! sockets share), [`messages`] (the messages between the hub and the sockets), [`backlog`] (the frames that wait for a client
//! which reads slowly), [`open_sockets`] (how many sockets are open).

pub mod backlog;
mod bells;
pub mod frames;
pub mod hub;
pub mod messages;
pub mod open_sockets;
mod push_queue;
pub mod pusher;
mod shared_frames;
mod socket;
mod socket_thread;
mod sockets;
