//! Recorded logs and the views they lead to.
