//! TCP: connections as state machines without I/O, clock or randomness of their own.
