//! The stream of requests between a socket and the HTTP library.
//!
//! The library reads a connection through a [`RequestStream`](stream::RequestStream). The stream recognises where each request
//! ends ([`head`], [`framing`]) and passes one request at a time: the next one is passed when the response to the former is
//! complete ([`exchange`]). So the library never mixes up two pipelined requests, and a client that closes after a request gets
//! nothing executed that it has sent behind it. The stream itself refuses what the library would refuse without a body
//! ([`refusal`]), and it ends connections whose bytes arrive too slowly. [`connections`] counts the open connections and keeps
//! their number below the limit of open files. A connection is a [`socket`], or TLS over it ([`transport`]).

pub mod connections;
pub mod exchange;
pub mod framing;
pub mod head;
pub mod limits;
pub mod refusal;
pub mod socket;
pub mod stream;
pub mod transport;
