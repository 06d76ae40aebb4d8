//! Errors of the stack, with what they are about and what to do.
//!
//! As of kernel sockets: where a hint helps, which is when sockets are made, the error is a wrapper whose `source` is
//! the stack's error. Everything else, above all what pushes and pops give, keeps its `raw_os_error` and costs no
//! allocation.

use std::io;
use std::net::SocketAddr;

#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}; {hint}")]
struct Explained {
    what: String,
    source: io::Error,
    hint: String,
}

fn explained(source: io::Error, what: String, hint: impl Into<String>) -> io::Error {
    io::Error::new(source.kind(), Explained { what, source, hint: hint.into() })
}

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

/// What a destructor gets that comes here while the stack lets go of its memory.
#[cold]
pub(super) fn busy() -> io::Error {
    let text = "the network stack is busy: it was called by the destructor of memory that was sent";
    io::Error::new(io::ErrorKind::WouldBlock, text)
}

/// Of a Unix socket.
pub(super) fn unix(name: &str) -> io::Error {
    let text = format!("{name} has no Unix sockets: a socket of this machine is one of io_uring or epoll");
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// Of `socket` and `accept`.
pub(super) fn socket_error(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENFILE) => explained(
            error,
            "cannot make a socket".into(),
            "the stack has as many as its limit of sockets allows, connections in TIME-WAIT included",
        ),
        _ => error,
    }
}

/// Of `bind` and `listen`.
pub(super) fn bind_error(error: io::Error, local: SocketAddr) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            "another socket of this program has it: choose another port, or set reuse_port on both sockets to share it"
        }
        Some(libc::EADDRNOTAVAIL) => {
            "the stack does not have the address: its addresses are those of its configuration, not the kernel's"
        }
        Some(libc::EINVAL) => "the socket may be bound already",
        _ => return error,
    };
    explained(error, format!("cannot bind to {local}"), hint)
}

/// Of `connect`. A refusal, the common case, stays the stack's own error.
pub(super) fn connect_error(error: io::Error, peer: SocketAddr) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL) => {
            "no local port is left (closed connections keep theirs for a minute), or the socket is bound to an address \
             that cannot reach the peer"
        }
        Some(libc::ENETUNREACH) => {
            "the stack has no route to that network, or no address of that family: see its configuration"
        }
        _ => return error,
    };
    explained(error, format!("cannot connect to {peer}"), hint)
}
