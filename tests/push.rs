//! The bell, frame by frame.
