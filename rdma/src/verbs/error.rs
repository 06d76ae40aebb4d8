//! What goes wrong, as the sockets of an operating system would say it, with what RDMA says of it inside.

use std::fmt;
use std::io::{self, ErrorKind};

use super::raw::ibv_wc_status;

/// How a work request ended that has failed (`enum ibv_wc_status`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Status {
    /// More bytes came than the receive has room for, or more are to be sent than a message may have.
    LocalLength,
    /// The queue pair was given what it cannot do.
    LocalOperation,
    /// Memory of this side that is not registered, not any more, or not for this.
    LocalProtection,
    /// The queue pair was in its error state before this was carried out.
    Flushed,
    /// The peer answers what it should not.
    BadResponse,
    /// The peer's write with immediate met memory of this side that it cannot be put in.
    LocalAccess,
    /// The peer finds the request invalid: not enabled there, or longer than its receive.
    RemoteInvalidRequest,
    /// The peer has no such memory, or does not let it be used like this: a stale or wrong key, or out of bounds.
    RemoteAccess,
    /// The peer could not carry it out.
    RemoteOperation,
    /// The peer does not answer.
    RetryExceeded,
    /// The peer answers, but has had no receive posted for too long.
    ReceiverNotReady,
    /// The peer has given up.
    RemoteAborted,
    /// The device has failed.
    Fatal,
    /// An answer took too long.
    ResponseTimeout,
    /// The device says that something else is wrong.
    General,
    /// Another one, by its number.
    Other(u32),
}

impl Status {
    /// None for success.
    pub(super) fn of(raw: ibv_wc_status::Type) -> Option<Status> {
        use ibv_wc_status::*;
        Some(match raw {
            IBV_WC_SUCCESS => return None,
            IBV_WC_LOC_LEN_ERR => Status::LocalLength,
            IBV_WC_LOC_QP_OP_ERR => Status::LocalOperation,
            IBV_WC_LOC_PROT_ERR => Status::LocalProtection,
            IBV_WC_WR_FLUSH_ERR => Status::Flushed,
            IBV_WC_BAD_RESP_ERR => Status::BadResponse,
            IBV_WC_LOC_ACCESS_ERR => Status::LocalAccess,
            IBV_WC_REM_INV_REQ_ERR => Status::RemoteInvalidRequest,
            IBV_WC_REM_ACCESS_ERR => Status::RemoteAccess,
            IBV_WC_REM_OP_ERR => Status::RemoteOperation,
            IBV_WC_RETRY_EXC_ERR => Status::RetryExceeded,
            IBV_WC_RNR_RETRY_EXC_ERR => Status::ReceiverNotReady,
            IBV_WC_REM_ABORT_ERR => Status::RemoteAborted,
            IBV_WC_FATAL_ERR => Status::Fatal,
            IBV_WC_RESP_TIMEOUT_ERR => Status::ResponseTimeout,
            IBV_WC_GENERAL_ERR => Status::General,
            other => Status::Other(other),
        })
    }

    /// What a socket's error would be.
    pub fn kind(self) -> ErrorKind {
        match self {
            Status::LocalLength | Status::LocalOperation | Status::LocalProtection => ErrorKind::InvalidInput,
            Status::Flushed => ErrorKind::ConnectionAborted,
            Status::RemoteAccess => ErrorKind::PermissionDenied,
            Status::RetryExceeded | Status::ReceiverNotReady | Status::ResponseTimeout => ErrorKind::TimedOut,
            Status::RemoteInvalidRequest
            | Status::RemoteOperation
            | Status::RemoteAborted
            | Status::BadResponse
            | Status::LocalAccess => ErrorKind::ConnectionReset,
            Status::Fatal | Status::General | Status::Other(_) => ErrorKind::Other,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Status::LocalLength => "a message is longer than the receive, or than allowed (LOC_LEN_ERR)",
            Status::LocalOperation => "the queue pair cannot do this (LOC_QP_OP_ERR)",
            Status::LocalProtection => "memory of this side is not registered for this (LOC_PROT_ERR)",
            Status::Flushed => "the connection had failed before (WR_FLUSH_ERR)",
            Status::BadResponse => "the peer answers nonsense (BAD_RESP_ERR)",
            Status::LocalAccess => "the peer wrote where it may not (LOC_ACCESS_ERR)",
            Status::RemoteInvalidRequest => "the peer finds the request invalid (REM_INV_REQ_ERR)",
            Status::RemoteAccess => "the peer does not give access to this memory (REM_ACCESS_ERR)",
            Status::RemoteOperation => "the peer could not carry it out (REM_OP_ERR)",
            Status::RetryExceeded => "the peer does not answer (RETRY_EXC_ERR)",
            Status::ReceiverNotReady => "the peer posts no receives (RNR_RETRY_EXC_ERR)",
            Status::RemoteAborted => "the peer has given up (REM_ABORT_ERR)",
            Status::Fatal => "the device has failed (FATAL_ERR)",
            Status::ResponseTimeout => "an answer took too long (RESP_TIMEOUT_ERR)",
            Status::General => "the device reports an error (GENERAL_ERR)",
            Status::Other(number) => return write!(f, "work status {number}"),
        };
        f.write_str(text)
    }
}

/// Why a work request has failed. As an [`io::Error`] it has the [kind](Status::kind) of its status.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{status}, vendor's code {vendor:#x}")]
pub struct WorkError {
    /// What every device says alike.
    pub status: Status,
    /// What only its vendor knows.
    pub vendor: u32,
}

impl WorkError {
    /// That of an error, if it came of a work request.
    ///
    /// ```
    /// # use demikernel_rdma::verbs::{Status, WorkError};
    /// let error = std::io::Error::from(WorkError { status: Status::RetryExceeded, vendor: 0 });
    /// assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    /// assert_eq!(WorkError::of(&error).unwrap().status, Status::RetryExceeded);
    /// ```
    pub fn of(error: &io::Error) -> Option<WorkError> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl From<WorkError> for io::Error {
    fn from(error: WorkError) -> io::Error {
        io::Error::new(error.status.kind(), error)
    }
}

/// A work request that was not taken, with the buffers that were to go with it.
#[derive(Debug)]
pub struct Refused<T> {
    /// Why. [`ErrorKind::WouldBlock`] if the queue is full.
    pub error: io::Error,
    /// What comes back.
    pub work: T,
}

impl<T> From<Refused<T>> for io::Error {
    fn from(refused: Refused<T>) -> io::Error {
        refused.error
    }
}

/// What is wrong with the machine, or with how it is asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such device.
    #[error(
        "no RDMA device {wanted}; there {found}; `rdma link` shows them, and \
         `rdma link add rxe0 type rxe netdev INTERFACE` makes one in software of an Ethernet interface"
    )]
    NoDevice {
        /// What was looked for.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// A port through which nothing goes.
    #[error("port {port} of {device} is {state}: plug in its cable, or `ip link set INTERFACE up`")]
    PortDown {
        /// The device.
        device: String,
        /// Its port.
        port: u8,
        /// In which state it is.
        state: &'static str,
    },
    /// The device has no address, of the type wanted, where one was looked for.
    #[error("GID {index} of port {port} of {device} is {found}, not {wanted}: `ibv_devinfo -v` lists them")]
    Gid {
        /// The device.
        device: String,
        /// Its port.
        port: u8,
        /// The index in the port's table.
        index: u32,
        /// What is there.
        found: String,
        /// What should be.
        wanted: &'static str,
    },
    /// The system does not let this process lock memory, which devices access at any time.
    #[error(
        "cannot register {bytes} bytes with {device}: the process may lock {limit} (`ulimit -l`, in KiB): raise that, as \
         root with `ulimit -l unlimited`, for a user in /etc/security/limits.conf (memlock), for a service with \
         LimitMEMLOCK="
    )]
    LockedMemory {
        /// What was to be registered.
        bytes: usize,
        /// With which device.
        device: String,
        /// The limit.
        limit: String,
    },
    /// Memory that the device does not reach.
    #[error(
        "the buffer is not in memory that {device} reaches: buffers of this thread's heap are \
         (BufferMut::with_capacity, Buffer::copy_from_slice), static or foreign ones are not, if they do not go inline"
    )]
    Unregistered {
        /// The device.
        device: String,
    },
    /// More is asked for than the device has or allows.
    #[error("{device} has {limit} {what} at most, {wanted} were asked for")]
    Limit {
        /// The device.
        device: String,
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// What was asked for.
        wanted: u64,
    },
    /// What cannot be done, whatever the device.
    #[error("{what}")]
    Invalid {
        /// What is wrong.
        what: &'static str,
    },
    /// A call has failed.
    #[error("cannot {what}: {reason}")]
    Call {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        reason: String,
        /// Its number.
        errno: i32,
    },
}

impl Error {
    pub(super) fn call(what: &'static str, errno: i32) -> Error {
        Error::Call { what, reason: io::Error::from_raw_os_error(errno).to_string(), errno }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Error::NoDevice { .. } => ErrorKind::NotFound,
            Error::PortDown { .. } => ErrorKind::NetworkDown,
            Error::Gid { .. } => ErrorKind::AddrNotAvailable,
            Error::LockedMemory { .. } => ErrorKind::OutOfMemory,
            Error::Unregistered { .. } | Error::Limit { .. } | Error::Invalid { .. } => {
                ErrorKind::InvalidInput
            }
            Error::Call { errno, .. } => io::Error::from_raw_os_error(*errno).kind(),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}

/// The result of a function that gives an errno.
pub(super) fn check(what: &'static str, errno: i32) -> io::Result<()> {
    match errno {
        0 => Ok(()),
        // Those of librdmacm, and some of libibverbs in some versions, set the thread's.
        -1 => Err(last(what)),
        errno => Err(Error::call(what, errno.abs()).into()),
    }
}

/// Why a driver has not taken a request.
#[cold]
pub(super) fn refusal(what: &'static str, errno: i32) -> io::Error {
    match errno.abs() {
        // The driver's own count of its queue.
        libc::ENOMEM => ErrorKind::WouldBlock.into(),
        errno => Error::call(what, errno).into(),
    }
}

/// The error of a function that has set the thread's errno.
pub(super) fn last(what: &'static str) -> io::Error {
    Error::call(what, io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_the_kind_of_a_socket_and_is_found_in_the_error() {
        for (raw, kind) in [
            (ibv_wc_status::IBV_WC_RETRY_EXC_ERR, ErrorKind::TimedOut),
            (ibv_wc_status::IBV_WC_WR_FLUSH_ERR, ErrorKind::ConnectionAborted),
            (ibv_wc_status::IBV_WC_REM_ACCESS_ERR, ErrorKind::PermissionDenied),
            (ibv_wc_status::IBV_WC_REM_OP_ERR, ErrorKind::ConnectionReset),
            (ibv_wc_status::IBV_WC_LOC_PROT_ERR, ErrorKind::InvalidInput),
            (77, ErrorKind::Other),
        ] {
            let error = WorkError { status: Status::of(raw).unwrap(), vendor: 7 };
            let outer = io::Error::from(error);
            assert_eq!((outer.kind(), WorkError::of(&outer)), (kind, Some(error)));
        }
        assert_eq!(Status::of(ibv_wc_status::IBV_WC_SUCCESS), None);
        assert_eq!(WorkError::of(&ErrorKind::WouldBlock.into()), None);
    }

    #[test]
    fn the_errno_of_a_call_decides_its_kind_and_is_said() {
        let error = check("bind an address", libc::EADDRINUSE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with("cannot bind an address: Address already in use"), "{error}");
        assert!(check("nothing", 0).is_ok());
    }
}
