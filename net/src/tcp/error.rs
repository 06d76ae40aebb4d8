//! What becomes of calls and connections.

use std::io;

/// Why a call, or the connection, has failed; as the error numbers of Linux.
///
/// ```
/// use demikernel_net::tcp::Error;
/// use std::io;
///
/// assert_eq!(io::Error::from(Error::Refused).kind(), io::ErrorKind::ConnectionRefused);
/// assert_eq!(Error::TimedOut.to_string(), "connection timed out");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer answered our SYN with a reset.
    #[error("connection refused")]
    Refused,
    /// The peer reset the connection.
    #[error("connection reset by peer")]
    Reset,
    /// It was aborted here.
    #[error("connection aborted")]
    Aborted,
    /// The peer does not answer.
    #[error("connection timed out")]
    TimedOut,
    /// A router reports that the host cannot be reached.
    #[error("no route to host")]
    HostUnreachable,
    /// A router reports that the network cannot be reached.
    #[error("network is unreachable")]
    NetworkUnreachable,
    /// The host speaks no TCP.
    #[error("protocol not available")]
    ProtocolUnreachable,
    /// There is no connection.
    #[error("not connected")]
    NotConnected,
    /// Nothing can be sent any more.
    #[error("broken pipe")]
    BrokenPipe,
}

impl Error {
    /// The `errno` of Linux.
    pub const fn errno(self) -> i32 {
        match self {
            Error::Refused => libc::ECONNREFUSED,
            Error::Reset => libc::ECONNRESET,
            Error::Aborted => libc::ECONNABORTED,
            Error::TimedOut => libc::ETIMEDOUT,
            Error::HostUnreachable => libc::EHOSTUNREACH,
            Error::NetworkUnreachable => libc::ENETUNREACH,
            Error::ProtocolUnreachable => libc::ENOPROTOOPT,
            Error::NotConnected => libc::ENOTCONN,
            Error::BrokenPipe => libc::EPIPE,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::from_raw_os_error(error.errno())
    }
}
