//! Operations on sockets, as the runtime calls them.

use super::Memory;
use super::errors::code;
use super::options;
use super::socket::{DatagramPop, Role, Socket};
use crate::buffer::{Buffer, Sga};
use crate::executor::Completion;
use crate::transport::{Accepted, Domain, Endpoint, Network, OptionName, Qd, SocketKind, SocketOption};
use std::io;
use std::net::{Shutdown, SocketAddr};

impl Network for Memory {
    fn socket(&self, domain: Domain, kind: SocketKind) -> io::Result<Qd> {
        self.with(|state| state.new_socket(domain, kind))
    }

    fn bind(&self, qd: Qd, local: &Endpoint) -> io::Result<()> {
        self.with(|state| state.bind(qd, local))
    }

    fn listen(&self, qd: Qd, backlog: u32) -> io::Result<()> {
        self.with(|state| state.listen(qd, backlog))
    }

    fn accept(&self, qd: Qd, done: Completion<io::Result<Accepted>>) {
        self.with(|state| state.accept(qd, done));
    }

    fn connect(&self, qd: Qd, peer: &Endpoint, done: Completion<io::Result<()>>) {
        self.with(|state| state.connect(qd, peer, done));
    }

    fn push(&self, qd: Qd, data: Sga, done: Completion<io::Result<()>>) {
        self.with(|state| match state.socket(qd) {
            Ok(Socket { role: Role::Datagram(_), .. }) => state.push_datagram(qd, data, None, done),
            _ => state.push_stream(qd, data, done),
        });
    }

    fn pop(&self, qd: Qd, limit: usize, done: Completion<io::Result<Buffer>>) {
        self.with(|state| match state.socket(qd) {
            Ok(Socket { role: Role::Datagram(_), .. }) => {
                state.pop_datagram(qd, DatagramPop::Data(limit, done));
            }
            _ => state.pop_stream(qd, limit, done),
        });
    }

    fn push_to(&self, qd: Qd, data: Sga, peer: SocketAddr, done: Completion<io::Result<()>>) {
        self.with(|state| match state.socket(qd) {
            Ok(Socket { role: Role::Datagram(_), .. }) => state.push_datagram(qd, data, Some(peer), done),
            // As on Linux, a stream that has a peer takes no notice of another.
            _ => state.push_stream(qd, data, done),
        });
    }

    fn pop_from(&self, qd: Qd, limit: usize, done: Completion<io::Result<(Buffer, SocketAddr)>>) {
        self.with(|state| state.pop_datagram(qd, DatagramPop::DataFrom(limit, done)));
    }

    fn shutdown_socket(&self, qd: Qd, how: Shutdown) -> io::Result<()> {
        self.with(|state| match &state.socket(qd)?.role {
            Role::Connected(_) => state.shutdown_stream(qd, how),
            // Nothing is said to the peer of a datagram socket.
            Role::Datagram(datagram) if datagram.peer.is_some() => Ok(()),
            _ => Err(code(libc::ENOTCONN)),
        })
    }

    fn close(&self, qd: Qd) {
        self.with(|state| state.close(qd));
    }

    fn local(&self, qd: Qd) -> io::Result<Endpoint> {
        self.with(|state| state.socket(qd).map(|socket| socket.local.shown(socket.domain)))
    }

    fn peer(&self, qd: Qd) -> io::Result<Endpoint> {
        self.with(|state| {
            let socket = state.socket(qd)?;
            match &socket.role {
                Role::Connected(stream) => Ok(stream.remote.shown(socket.domain)),
                Role::Datagram(datagram) => {
                    let peer = datagram.peer.map(|peer| Endpoint::Inet(peer.shown(socket.domain)));
                    peer.ok_or_else(|| code(libc::ENOTCONN))
                }
                _ => Err(code(libc::ENOTCONN)),
            }
        })
    }

    fn set_option(&self, qd: Qd, option: SocketOption) -> io::Result<()> {
        self.with(|state| {
            let socket = state.socket(qd)?;
            options::check(socket.domain, socket.kind, option.name())?;
            socket.options.set(option);
            if let SocketOption::ReceiveBuffer(bytes) = option {
                state.resize_window(qd, bytes);
            }
            Ok(())
        })
    }

    fn option(&self, qd: Qd, name: OptionName) -> io::Result<SocketOption> {
        self.with(|state| {
            let socket = state.socket(qd)?;
            options::check(socket.domain, socket.kind, name)?;
            Ok(socket.options.get(name))
        })
    }
}
