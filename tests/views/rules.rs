//! Each rule of the read side, as a sentence.
