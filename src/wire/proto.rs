//! The messages and services of the protocol. `build.rs` generates them from the files in `src/wire/proto`.

mod generated {
    #![allow(dead_code, clippy::all, clippy::pedantic, missing_docs, unreachable_pub, unused_qualifications)]
    include!(concat!(env!("OUT_DIR"), "/proto.rs"));
}

pub(super) use generated::event_store::client as shared;
pub(super) use generated::event_store::client::{gossip, server_features, streams};
pub(super) use generated::google::rpc;
