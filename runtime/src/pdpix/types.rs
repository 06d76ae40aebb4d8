//! Descriptors, tokens, and the results of operations.

use crate::buffer::Sga;
use crate::transport::Endpoint;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// A queue descriptor: a socket, a file, a log, or a queue in memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Qd(pub(super) u32);

/// The token of an operation. No two operations of the process have the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Qt(pub(super) u64);

impl Qd {
    /// The integer, for programs that keep descriptors as such.
    pub const fn as_raw(self) -> u32 {
        self.0
    }

    /// The descriptor of an integer. If there is no such queue, calls fail with `EBADF`.
    pub const fn from_raw(raw: u32) -> Qd {
        Qd(raw)
    }
}

impl Qt {
    /// The integer, for programs that keep tokens as such.
    pub const fn as_raw(self) -> u64 {
        self.0
    }

    /// The token of an integer. If there is no such operation, waiting fails with `EINVAL`.
    pub const fn from_raw(raw: u64) -> Qt {
        Qt(raw)
    }
}

impl fmt::Display for Qd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Qt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an operation was, or that it failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Opcode {
    /// [`push`](super::push) or [`pushto`](super::pushto).
    Push,
    /// [`pop`](super::pop).
    Pop,
    /// [`accept`](super::accept).
    Accept,
    /// [`connect`](super::connect).
    Connect,
    /// [`open`](super::open) or [`creat`](super::creat).
    Open,
    /// [`truncate`](super::truncate).
    Truncate,
    /// Any of them; the value says why.
    Failed,
}

/// The end of an operation.
#[derive(Debug)]
pub struct QResult {
    /// What it was, or that it failed.
    pub opcode: Opcode,
    /// The queue that it was started on.
    pub qd: Qd,
    /// Its token, which is used up.
    pub qt: Qt,
    /// What came of it.
    pub value: Value,
}

/// What came of an operation.
#[derive(Debug)]
#[non_exhaustive]
pub enum Value {
    /// It is done.
    None,
    /// What was popped.
    Popped {
        /// The bytes. There are none at the end of a stream, a file or a log.
        sga: Sga,
        /// Who sent them, of a datagram.
        from: Option<SocketAddr>,
    },
    /// A connection that was accepted.
    Accepted {
        /// Its queue.
        qd: Qd,
        /// Where it came from.
        address: Endpoint,
    },
    /// Why it failed.
    Failed(io::Error),
}

impl QResult {
    /// The value, or why the operation failed, for use with `?`.
    ///
    /// # Errors
    /// Those of the operation.
    pub fn ok(self) -> io::Result<Value> {
        match self.value {
            Value::Failed(error) => Err(error),
            value => Ok(value),
        }
    }
}

impl Value {
    /// What was popped.
    pub fn sga(&self) -> Option<&Sga> {
        match self {
            Value::Popped { sga, .. } => Some(sga),
            _ => None,
        }
    }

    /// What was popped, to keep.
    pub fn into_sga(self) -> Option<Sga> {
        match self {
            Value::Popped { sga, .. } => Some(sga),
            _ => None,
        }
    }

    /// The queue of a connection that was accepted.
    pub fn accepted(&self) -> Option<Qd> {
        match self {
            Value::Accepted { qd, .. } => Some(*qd),
            _ => None,
        }
    }

    /// Why the operation failed.
    pub fn error(&self) -> Option<&io::Error> {
        match self {
            Value::Failed(error) => Some(error),
            _ => None,
        }
    }
}

/// An error of a call, by its number.
pub(super) fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}
