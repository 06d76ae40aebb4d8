//! Errors: those that the kernel would give, with more words where sockets are made and files opened.

pub(super) use crate::transport::kernel::closed;

use crate::transport::Endpoint;
use std::io;
use std::path::Path;

pub(super) fn code(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}{hint}")]
struct Explained {
    what: String,
    source: io::Error,
    hint: &'static str,
}

fn explained(source: io::Error, what: String, hint: &'static str) -> io::Error {
    io::Error::new(source.kind(), Explained { what, source, hint })
}

/// Of binding and listening.
pub(super) fn bind_error(error: io::Error, local: &Endpoint) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "; another socket of this simulated network has it",
        io::ErrorKind::InvalidInput => "; the socket may be bound already",
        _ => "",
    };
    explained(error, format!("cannot bind to {local}"), hint)
}

/// Of connecting to a name that never was one.
pub(super) fn no_such_name(peer: &Endpoint) -> io::Error {
    let hint = "; no socket of this simulated network had this name";
    explained(code(libc::ENOENT), format!("cannot connect to {peer}"), hint)
}

/// Of opening a file.
pub(super) fn open_error(error: io::Error, path: &Path) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "; it is not in the simulated file system",
        _ => "",
    };
    explained(error, format!("cannot open {}", path.display()), hint)
}

/// Why operations end when the runtime does.
pub(super) fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the runtime of the socket or file has ended")
}
