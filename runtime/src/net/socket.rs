//! A socket of a transport, closed when dropped: where every operation of `net` meets its device.

use crate::buffer::{Buffer, Sga};
use crate::executor::{QToken, core_count, hand_back, operation};
use crate::transport::{Accepted, Domain, Endpoint, Network, OptionName, Qd, SocketKind, SocketOption};
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;

/// A socket and the transport that it is on. Each operation is one virtual call.
pub(crate) struct Socket {
    network: Rc<dyn Network>,
    qd: Qd,
}

impl Socket {
    pub(crate) fn new(network: &Rc<dyn Network>, domain: Domain, kind: SocketKind) -> io::Result<Socket> {
        Ok(Socket { qd: network.socket(domain, kind)?, network: network.clone() })
    }

    /// A socket of `network` that is nobody's yet.
    pub(crate) fn of(network: Rc<dyn Network>, qd: Qd) -> Socket {
        Socket { network, qd }
    }

    /// The socket of a connection that this one has accepted.
    pub(crate) fn accepted(&self, qd: Qd) -> Socket {
        Socket::of(self.network.clone(), qd)
    }

    pub(crate) fn network(&self) -> &Rc<dyn Network> {
        &self.network
    }

    pub(crate) fn qd(&self) -> Qd {
        self.qd
    }

    // Starting operations.

    #[inline]
    pub(crate) fn accept(&self) -> QToken<io::Result<Accepted>> {
        let (token, done) = operation();
        self.network.accept(self.qd, done);
        token
    }

    pub(crate) fn connect(&self, peer: &Endpoint) -> QToken<io::Result<()>> {
        let (token, done) = operation();
        self.network.connect(self.qd, peer, done);
        token
    }

    #[inline]
    pub(crate) fn push(&self, data: Sga) -> QToken<io::Result<()>> {
        let (token, done) = operation();
        self.network.push(self.qd, data, done);
        token
    }

    #[inline]
    pub(crate) fn pop(&self, limit: usize) -> QToken<io::Result<Buffer>> {
        let (token, done) = operation();
        self.network.pop(self.qd, limit, done);
        token
    }

    #[inline]
    pub(crate) fn push_to(&self, data: Sga, peer: SocketAddr) -> QToken<io::Result<()>> {
        let (token, done) = operation();
        self.network.push_to(self.qd, data, peer, done);
        token
    }

    #[inline]
    pub(crate) fn pop_from(&self, limit: usize) -> QToken<io::Result<(Buffer, SocketAddr)>> {
        let (token, done) = operation();
        self.network.pop_from(self.qd, limit, done);
        token
    }

    // What is done at once.

    pub(crate) fn bind(&self, local: &Endpoint) -> io::Result<()> {
        self.network.bind(self.qd, local)
    }

    pub(crate) fn listen(&self, backlog: u32) -> io::Result<()> {
        self.network.listen(self.qd, backlog)
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.network.shutdown_socket(self.qd, how)
    }

    pub(crate) fn local(&self) -> io::Result<Endpoint> {
        self.network.local(self.qd)
    }

    pub(crate) fn peer(&self) -> io::Result<Endpoint> {
        self.network.peer(self.qd)
    }

    pub(crate) fn set_option(&self, option: SocketOption) -> io::Result<()> {
        self.network.set_option(self.qd, option)
    }

    pub(crate) fn option(&self, name: OptionName) -> io::Result<SocketOption> {
        self.network.option(self.qd, name)
    }

    /// Each core of a program that runs on several binds a socket of its own to the same address, and the
    /// transport spreads what arrives over them.
    pub(crate) fn share_port_among_cores(&self) -> io::Result<()> {
        if core_count() > 1 { self.set_option(SocketOption::ReusePort(true)) } else { Ok(()) }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        hand_back();
        self.network.close(self.qd);
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Socket");
        text.field("transport", &self.network.name()).field("qd", &self.qd.0);
        if let Ok(local) = self.local() {
            text.field("local", &format_args!("{local}"));
        }
        if let Ok(peer) = self.peer() {
            text.field("peer", &format_args!("{peer}"));
        }
        text.finish()
    }
}
