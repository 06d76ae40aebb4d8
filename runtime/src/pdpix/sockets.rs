//! Calls on sockets.

use super::operation::Action;
use super::table::{Queue, table};
use super::types::{Qd, Qt, errno};
use crate::executor::default_network_for;
use crate::net::Socket;
use crate::transport::{Domain, Endpoint, OptionName, SocketKind, SocketOption};
use std::io;
use std::rc::Rc;

/// Makes a socket.
///
/// # Errors
/// As socket(2); `Unsupported` if the runtime has no transport for sockets, or not for this kind.
pub fn socket(domain: Domain, kind: SocketKind) -> io::Result<Qd> {
    let socket = Socket::new(&default_network_for(domain)?, domain, kind)?;
    table().add(Queue::Socket(Rc::new(socket), kind))
}

/// Gives a socket its address.
///
/// # Errors
/// As bind(2).
pub fn bind(qd: Qd, local: impl Into<Endpoint>) -> io::Result<()> {
    table().socket(qd)?.0.bind(&local.into())
}

/// Lets peers connect to a socket.
///
/// # Errors
/// As listen(2).
pub fn listen(qd: Qd, backlog: u32) -> io::Result<()> {
    table().socket(qd)?.0.listen(backlog)
}

/// Takes the next connection of a listening socket: [`Value::Accepted`](super::Value::Accepted).
///
/// # Errors
/// `EBADF`, `ENOTSOCK`; `EOPNOTSUPP` for datagrams.
pub fn accept(qd: Qd) -> io::Result<Qt> {
    let table = table();
    match table.socket(qd)? {
        (_, SocketKind::Datagram) => Err(errno(libc::EOPNOTSUPP)),
        (socket, SocketKind::Stream) => {
            table.start(qd, || Ok(Action::Accept(socket.accept(), socket.network().clone())))
        }
    }
}

/// Connects a socket. For datagrams, sets the peer of [`push`](super::push).
///
/// # Errors
/// `EBADF`, `ENOTSOCK`.
pub fn connect(qd: Qd, peer: impl Into<Endpoint>) -> io::Result<Qt> {
    let table = table();
    let (socket, _) = table.socket(qd)?;
    table.start(qd, || Ok(Action::Connect(socket.connect(&peer.into()))))
}

/// The address of a socket.
///
/// # Errors
/// As getsockname(2).
pub fn getsockname(qd: Qd) -> io::Result<Endpoint> {
    table().socket(qd)?.0.local()
}

/// The address of a socket's peer.
///
/// # Errors
/// As getpeername(2).
pub fn getpeername(qd: Qd) -> io::Result<Endpoint> {
    table().socket(qd)?.0.peer()
}

/// Sets an option of a socket.
///
/// # Errors
/// As setsockopt(2); `Unsupported` for what the transport does not have.
pub fn setsockopt(qd: Qd, option: SocketOption) -> io::Result<()> {
    table().socket(qd)?.0.set_option(option)
}

/// Reads an option of a socket.
///
/// # Errors
/// As getsockopt(2); `Unsupported` for what the transport does not have.
pub fn getsockopt(qd: Qd, name: OptionName) -> io::Result<SocketOption> {
    table().socket(qd)?.0.option(name)
}
