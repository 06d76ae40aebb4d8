//! The protocol of a connection: frames, credits and its states.
