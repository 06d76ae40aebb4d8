//! The protocol: requests out of bytes and replies into buffers. Nothing here does I/O.

mod parser; // requests out of bytes
mod replies; // replies into buffers
mod request; // the arguments of a request

pub(crate) use parser::{Parser, Progress, ProtocolError};
pub(crate) use replies::{Replies, Version, decimal};
pub(crate) use request::{Request, word};

/// Values from this size on are kept in a buffer of their own and pushed from there; copying a
/// shorter one into the reply costs less than a further segment of the push does.
pub(crate) const LARGE: usize = 4 * 1024;
