//! The HTTP API, against a real server on port 0.
