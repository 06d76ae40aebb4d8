//! What users of sockets call: as BSD's calls on non-blocking sockets, with the errors of Linux.

mod bind;
mod datagram;
mod option;
mod stream;

use super::socket::{Bound, Fresh, Holder, Socket, SocketId, UdpSocket, shown};
use super::{Stack, errno};
use crate::tcp::{Connection, Events, Info, State};
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::{Domain, SocketKind};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// What `shutdown` ends.
///
/// ```
/// # use demikernel_net::device::{Capabilities, Medium};
/// use demikernel_net::stack::{Shutdown, Stack, StackConfig};
/// # use demikernel_runtime::{buffer::{Buffer, Sga}, time::Instant, transport::{Domain, SocketKind}};
/// # let config = StackConfig::new(Capabilities::new(Medium::Ip, 1500), [7; 32]);
/// # let now = Instant::from_nanos(1);
/// # let mut stack = Stack::new(now, config.address("192.0.2.1".parse().unwrap(), 24));
/// # let address = "192.0.2.1:80".parse().unwrap();
/// # let listener = stack.socket(Domain::V4, SocketKind::Stream)?;
/// # stack.bind(listener, address)?;
/// # stack.listen(listener, 8)?;
/// # let client = stack.socket(Domain::V4, SocketKind::Stream)?;
/// # let _in_progress = stack.connect(now, client, address);
/// # fn settle(now: Instant, stack: &mut Stack) {
/// #     while stack.is_busy() {
/// #         stack.transmit(now, &mut vec![]);
/// #         stack.receive(now, &mut vec![]);
/// #     }
/// # }
/// # settle(now, &mut stack);
/// # let (server, _) = stack.accept(listener)?;
///
/// // The client has asked all it wants to know.
/// stack.shutdown(now, client, Shutdown::Write)?;
/// settle(now, &mut stack);
/// assert!(stack.recv(now, server, 100)?.is_empty(), "the end");
/// stack.send(now, server, &mut Sga::from(Buffer::from("the answer")))?;
/// settle(now, &mut stack);
/// assert_eq!(&stack.recv(now, client, 100)?[..], b"the answer");
/// let more = stack.send(now, client, &mut Sga::from(Buffer::from("more")));
/// assert_eq!(more.unwrap_err().raw_os_error(), Some(libc::EPIPE));
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Shutdown {
    /// Receiving.
    Read,
    /// Sending.
    Write,
    /// Both.
    Both,
}

impl Shutdown {
    fn reads(self) -> bool {
        self != Shutdown::Write
    }

    fn writes(self) -> bool {
        self != Shutdown::Read
    }
}

/// What `poll` would say of a socket.
///
/// ```
/// # use demikernel_net::device::{Capabilities, Medium};
/// use demikernel_net::stack::{Readiness, Stack, StackConfig};
/// # use demikernel_runtime::{time::Instant, transport::{Domain, SocketKind}};
/// # let config = StackConfig::new(Capabilities::new(Medium::Ip, 1500), [7; 32]);
/// # let now = Instant::from_nanos(1);
///
/// let mut stack = Stack::new(now, config.address("192.0.2.1".parse().unwrap(), 24));
/// let datagrams = stack.socket(Domain::V4, SocketKind::Datagram)?;
/// assert_eq!(stack.readiness(datagrams)?, Readiness { writable: true, ..Readiness::default() });
/// let stream = stack.socket(Domain::V4, SocketKind::Stream)?;
/// let _in_progress = stack.connect(now, stream, "192.0.2.2:80".parse().unwrap());
/// assert_eq!(stack.readiness(stream)?, Readiness::default(), "neither, while it is being connected");
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Readiness {
    /// There is something to receive, or to accept, or it is the end.
    pub readable: bool,
    /// There is room to send, or sending would fail at once.
    pub writable: bool,
    /// The peer sends no more, or the user receives no more.
    pub peer_closed: bool,
    /// Nothing goes either way.
    pub hang_up: bool,
    /// An error waits.
    pub error: bool,
    /// There are urgent data that were not received yet.
    pub urgent: bool,
}

impl Stack {
    /// Makes a socket.
    ///
    /// # Errors
    /// `EAFNOSUPPORT`; `ENFILE` if there are as many as there may be.
    pub fn socket(&mut self, domain: Domain, kind: SocketKind) -> io::Result<SocketId> {
        if domain == Domain::Unix {
            return Err(errno(libc::EAFNOSUPPORT));
        }
        let socket = match kind {
            SocketKind::Stream => {
                let options = self.stream_options.clone();
                Socket::Fresh(Box::new(Fresh { domain, bound: None, options }))
            }
            SocketKind::Datagram => {
                let mut socket = UdpSocket::new(domain, self.datagram_options.clone());
                socket.socket.set_limit(self.limits.datagrams);
                Socket::Udp(Box::new(socket))
            }
        };
        self.sockets.insert(socket).map(SocketId).map_err(|_| errno(libc::ENFILE))
    }

    /// The slot of a user's socket.
    #[inline]
    pub(super) fn slot(&mut self, id: SocketId) -> io::Result<u32> {
        match self.sockets.named(id.0) {
            Some(socket) if socket.is_users() => Ok(id.0.index),
            _ => Err(errno(libc::EBADF)),
        }
    }

    #[inline]
    pub(super) fn of_user(&mut self, id: SocketId) -> io::Result<&mut Socket> {
        match self.sockets.named(id.0) {
            Some(socket) if socket.is_users() => Ok(socket),
            _ => Err(errno(libc::EBADF)),
        }
    }

    /// Gives a socket up. What a connection was given to send is still sent, unless it lingers for no time.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn close(&mut self, now: Instant, id: SocketId) -> io::Result<()> {
        let slot = self.slot(id)?;
        match self.sockets.get_mut(slot) {
            Some(Socket::Tcp(tcp)) => {
                let reset = tcp.options.linger == Some(Duration::ZERO);
                self.give_up(now, slot, reset);
            }
            Some(Socket::Fresh(fresh)) => {
                let bound = fresh.bound;
                self.sockets.remove(slot);
                if let Some(bound) = bound {
                    self.tcp_ports.release(bound.port, slot);
                }
            }
            Some(Socket::Listener(_)) => self.close_listener(now, slot),
            Some(Socket::Udp(_)) => self.close_datagrams(now, slot),
            _ => {}
        }
        Ok(())
    }

    /// Gives a socket up at once: the peer of a connection gets a reset.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn abort(&mut self, now: Instant, id: SocketId) -> io::Result<()> {
        let slot = self.slot(id)?;
        if let Some(Socket::Tcp(_)) = self.sockets.get(slot) {
            self.give_up(now, slot, true);
            return Ok(());
        }
        self.close(now, id)
    }

    /// Nobody has the connection any more.
    pub(super) fn give_up(&mut self, now: Instant, slot: u32, reset: bool) {
        let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) else { return };
        if reset {
            tcp.connection.abort();
        } else {
            tcp.connection.close(now);
        }
        tcp.holder = Holder::Nobody;
        tcp.flags.told = false;
        super::segments::note(tcp, slot, &mut self.ready, &mut self.events);
    }

    /// The address that a socket has here.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn local(&mut self, id: SocketId) -> io::Result<SocketAddr> {
        let show = |domain, bound: Option<Bound>| match (bound, domain) {
            (Some(bound), _) => shown_bound(domain, bound),
            (None, Domain::V6) => SocketAddr::from(([0u16; 8], 0)),
            (None, _) => SocketAddr::from(([0u8; 4], 0)),
        };
        Ok(match self.of_user(id)? {
            Socket::Tcp(tcp) => {
                let flow = tcp.flow.get();
                shown(tcp.domain, flow.local(), flow.local_port())
            }
            Socket::Fresh(fresh) => show(fresh.domain, fresh.bound),
            Socket::Listener(listening) => show(listening.domain, Some(listening.bound)),
            Socket::Udp(udp) => show(udp.domain, udp.bound),
            Socket::TimeWait(_) => return Err(errno(libc::EBADF)),
        })
    }

    /// The address of the peer.
    ///
    /// # Errors
    /// `ENOTCONN`, `EBADF`.
    pub fn peer(&mut self, id: SocketId) -> io::Result<SocketAddr> {
        match self.of_user(id)? {
            Socket::Tcp(tcp) if is_connected(&tcp.connection) => {
                let flow = tcp.flow.get();
                Ok(shown(tcp.domain, flow.remote(), flow.remote_port()))
            }
            Socket::Udp(udp) => {
                let peer = udp.peer.ok_or_else(|| errno(libc::ENOTCONN))?;
                Ok(shown(udp.domain, peer.ip(), peer.port()))
            }
            _ => Err(errno(libc::ENOTCONN)),
        }
    }

    /// Figures of a connection.
    ///
    /// # Errors
    /// `ENOTCONN` without one, `EBADF`.
    pub fn tcp_info(&mut self, now: Instant, id: SocketId) -> io::Result<Info> {
        match self.of_user(id)? {
            Socket::Tcp(tcp) => Ok(tcp.connection.info(now)),
            _ => Err(errno(libc::ENOTCONN)),
        }
    }

    /// What `poll` would say.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn readiness(&mut self, id: SocketId) -> io::Result<Readiness> {
        let room = self.interface.has_room();
        Ok(match self.of_user(id)? {
            Socket::Tcp(tcp) => tcp_readiness(&tcp.connection, tcp.flags.shut),
            Socket::Fresh(_) => Readiness { writable: true, hang_up: true, ..Readiness::default() },
            Socket::Listener(listening) => {
                Readiness { readable: listening.listener.ready() > 0, ..Readiness::default() }
            }
            Socket::Udp(udp) => {
                let shut = udp.socket.is_shut();
                let readable = udp.socket.queued() > 0 || shut || udp.socket.has_error();
                let error = udp.socket.has_error();
                Readiness {
                    readable,
                    writable: room,
                    peer_closed: shut,
                    hang_up: shut && udp.shut_write,
                    error,
                    urgent: false,
                }
            }
            Socket::TimeWait(_) => return Err(errno(libc::EBADF)),
        })
    }

    /// The error that waits, if there is one; it is told once (SO_ERROR).
    ///
    /// # Errors
    /// `EBADF`.
    pub fn take_error(&mut self, id: SocketId) -> io::Result<Option<io::Error>> {
        Ok(match self.of_user(id)? {
            Socket::Tcp(tcp) => tcp.connection.take_error().map(io::Error::from),
            Socket::Udp(udp) => udp.socket.take_error().map(errno),
            _ => None,
        })
    }
}

/// As a socket that is bound shows it: IPv4's any is that of its family.
fn shown_bound(domain: Domain, bound: Bound) -> SocketAddr {
    if domain == Domain::V6 && bound.address.is_ipv4() && bound.address.is_unspecified() {
        return SocketAddr::from(([0u16; 8], bound.port));
    }
    shown(domain, bound.address, bound.port)
}

fn is_connected(connection: &Connection) -> bool {
    !matches!(connection.state(), State::Closed | State::SynSent | State::SynReceived(_))
}

/// As `tcp_poll` of Linux.
fn tcp_readiness(connection: &Connection, shut: bool) -> Readiness {
    let state = connection.state();
    let opening = matches!(state, State::SynSent | State::SynReceived(_));
    let peer_closed = !opening && connection.is_receive_closed() || shut;
    let may_send = state.may_send();
    let roomy = connection.sendable() > connection.unacknowledged() / 2;
    Readiness {
        readable: peer_closed || connection.receivable() > 0,
        writable: if opening { false } else { !may_send || roomy },
        peer_closed,
        hang_up: state == State::Closed || peer_closed && !may_send && !opening,
        error: connection.error().is_some(),
        urgent: connection.urgent().is_some(),
    }
}

impl UdpSocket {
    fn new(domain: Domain, options: super::options::Options) -> UdpSocket {
        UdpSocket {
            socket: crate::udp::Socket::new(),
            domain,
            options,
            path: super::interface::Path::UNKNOWN,
            target: None,
            events: Events::NONE,
            told: false,
            blocked: false,
            shut_write: false,
            bound: None,
            explicit: None,
            peer: None,
            flow: None,
            groups: Vec::new(),
        }
    }
}
