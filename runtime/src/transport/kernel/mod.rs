//! What the transports on kernel sockets and files share: making and naming them, their options, and errors
//! that say what to do. How data moves is each transport's own.

mod address;
mod errors;
mod files;
mod info;
mod options;

pub(crate) use address::{to_endpoint, to_sockaddr};
pub(crate) use errors::{accept_error, bind_error, closed, connect_error, open_error, unaligned};
pub(crate) use files::{c_path, file_offset, open_flags};
pub(crate) use info::connection;
pub(crate) use options::{option, set_option};

use super::{Domain, Endpoint, SocketKind};
use socket2::{Socket, Type};
use std::io;
use std::time::Duration;

/// How the calls of a socket wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// They wait for the kernel. io_uring sleeps in the kernel on such sockets without a thread.
    #[cfg_attr(not(feature = "io-uring"), allow(dead_code))]
    Blocking,
    /// They give `WouldBlock`.
    NonBlocking,
}

/// How long the rest of what was pushed may take to leave a socket that the program has closed.
const BACKGROUND: Duration = Duration::from_secs(60);

/// A socket that is closed on exec.
///
/// # Errors
/// As socket(2), and `Unsupported` for Unix datagrams.
pub(crate) fn socket(domain: Domain, kind: SocketKind, mode: Mode) -> io::Result<Socket> {
    let family = match domain {
        Domain::V4 => socket2::Domain::IPV4,
        Domain::V6 => socket2::Domain::IPV6,
        Domain::Unix => socket2::Domain::UNIX,
    };
    let kind = match kind {
        SocketKind::Stream => Type::STREAM,
        SocketKind::Datagram if domain == Domain::Unix => {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "Unix sockets carry streams only"));
        }
        SocketKind::Datagram => Type::DGRAM,
    };
    let kind = if mode == Mode::NonBlocking { kind.nonblocking() } else { kind };
    Socket::new_raw(family, kind.cloexec(), None).map_err(errors::socket_error)
}

/// As bind(2). The file of a Unix socket is neither replaced nor, later, removed: as in the standard
/// library, a file that is left from an earlier run is `AddrInUse`.
pub(crate) fn bind(socket: &Socket, local: &Endpoint) -> io::Result<()> {
    socket.bind(&to_sockaddr(local)?).map_err(|error| bind_error(error, local))
}

/// As listen(2).
pub(crate) fn listen(socket: &Socket, backlog: u32) -> io::Result<()> {
    let backlog = backlog.min(i32::MAX as u32) as i32;
    // With SO_REUSEADDR two sockets may be bound to one address; the second one's listen fails.
    socket.listen(backlog).map_err(|error| match local(socket) {
        Ok(local) => bind_error(error, &local),
        Err(_) => error,
    })
}

/// As getsockname(2).
pub(crate) fn local(socket: &Socket) -> io::Result<Endpoint> {
    to_endpoint(&socket.local_addr()?)
}

/// As getpeername(2).
pub(crate) fn peer(socket: &Socket) -> io::Result<Endpoint> {
    to_endpoint(&socket.peer_addr()?)
}

/// Bounds how long a socket lives on that the program has closed while pushes were under way: a peer that
/// neither reads nor acknowledges does not keep it for ever. What the program set itself stays.
pub(crate) fn finish_in_background(socket: &Socket) {
    // Not every socket has the timeout (Unix sockets do not); then the peer's own end is the bound.
    if let Ok(None) = socket.tcp_user_timeout() {
        let _ = socket.set_tcp_user_timeout(Some(BACKGROUND));
    }
}

#[cfg(test)]
mod tests;
