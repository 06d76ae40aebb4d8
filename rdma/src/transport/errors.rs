//! Errors, with what they are about and what to do.

use std::io;
use std::net::SocketAddr;

/// An error by the number that Linux has for it.
pub(super) fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// An error once more, for another operation.
pub(super) fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => errno(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// Why operations end when the runtime does.
pub(super) fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the runtime of the socket has ended")
}

/// What operations end with that still waited when their socket was closed.
pub(super) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the socket was closed while the operation waited")
}

/// What a destructor gets that comes here while its memory is let go of.
#[cold]
pub(super) fn busy() -> io::Error {
    let text = "the transport is busy: it was called by the destructor of memory that was sent";
    io::Error::new(io::ErrorKind::WouldBlock, text)
}

/// What there is not.
pub(super) fn unsupported(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// Of `bind` and `listen`.
pub(super) fn bind_error(error: io::Error, local: SocketAddr) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "another socket has it: choose another port",
        io::ErrorKind::AddrNotAvailable => {
            "no RDMA device has the address: `rdma link` shows the interfaces of those that there are"
        }
        _ => return error,
    };
    io::Error::new(error.kind(), format!("cannot bind to {local}: {error}; {hint}"))
}
