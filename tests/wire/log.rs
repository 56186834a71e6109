//! Taskbell's own log over the protocol.
