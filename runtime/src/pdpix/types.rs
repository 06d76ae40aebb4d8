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
    /// [`async_close`](super::async_close).
    Close,
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

    /// The number of the error that the operation failed with, as [`error_number`] has it; 0 if it has not.
    ///
    /// ```
    /// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
    /// use demikernel_runtime::pdpix;
    ///
    /// let queue = pdpix::queue()?;
    /// let waits = pdpix::pop(queue, None)?;
    /// pdpix::close(queue)?;
    /// assert_eq!(pdpix::wait(waits, None).await?.errno(), libc::ECANCELED);
    /// # std::io::Result::Ok(())
    /// # }).unwrap();
    /// ```
    pub fn errno(&self) -> i32 {
        self.value.error().map_or(0, error_number)
    }
}

/// The number of an error, of a call or of an operation, for programs that compare numbers. Errors that the system has not
/// made have the number of their kind, and `EIO` if there is none for it.
///
/// ```
/// use demikernel_runtime::pdpix::error_number;
///
/// let error = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "the peer has vanished");
/// assert_eq!(error_number(&error), libc::ECONNRESET);
/// ```
pub fn error_number(error: &io::Error) -> i32 {
    use io::ErrorKind::*;
    error.raw_os_error().unwrap_or_else(|| match error.kind() {
        AddrInUse => libc::EADDRINUSE,
        AddrNotAvailable => libc::EADDRNOTAVAIL,
        AlreadyExists => libc::EEXIST,
        BrokenPipe => libc::EPIPE,
        ConnectionAborted => libc::ECONNABORTED,
        ConnectionRefused => libc::ECONNREFUSED,
        ConnectionReset => libc::ECONNRESET,
        HostUnreachable => libc::EHOSTUNREACH,
        Interrupted => libc::EINTR,
        InvalidInput => libc::EINVAL,
        NetworkDown => libc::ENETDOWN,
        NetworkUnreachable => libc::ENETUNREACH,
        NotConnected => libc::ENOTCONN,
        NotFound => libc::ENOENT,
        OutOfMemory => libc::ENOMEM,
        PermissionDenied => libc::EACCES,
        ResourceBusy => libc::EBUSY,
        StorageFull => libc::ENOSPC,
        TimedOut => libc::ETIMEDOUT,
        Unsupported => libc::EOPNOTSUPP,
        WouldBlock => libc::EAGAIN,
        _ => libc::EIO,
    })
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
