//! THE EDGE.
