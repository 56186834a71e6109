//! The settings, checked once.
