//! Calls on TCP sockets.

use super::super::interface::Path;
use super::super::segments::note;
use super::super::socket::{Bound, Flags, Fresh, Holder, Listening, Socket, SocketId, TcpSocket, shown};
use super::super::{Stack, errno};
use super::bind::{any, check_family};
use super::{Shutdown, is_connected};
use crate::pooled::Pooled;
use crate::prefetch::prefetch;
use crate::table::{Ends, Flow};
use crate::tcp::{Connection, Events, Listener, Receiving, Start, State, Tuple};
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::Domain;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

impl Stack {
    /// Lets a TCP socket take connections, as many as `backlog` before they are accepted.
    ///
    /// # Errors
    /// `EADDRINUSE`, `EINVAL` if it is connected, `EOPNOTSUPP` for UDP, `EBADF`.
    pub fn listen(&mut self, id: SocketId, backlog: u32) -> io::Result<()> {
        let slot = self.slot(id)?;
        let backlog = backlog.clamp(1, self.limits.backlog) as usize;
        match self.sockets.get_mut(slot) {
            Some(Socket::Listener(listening)) => {
                listening.listener.set_backlog(backlog);
                return Ok(());
            }
            Some(Socket::Fresh(_)) => {}
            Some(Socket::Udp(_)) => return Err(errno(libc::EOPNOTSUPP)),
            _ => return Err(errno(libc::EINVAL)),
        }
        let Some(Socket::Fresh(fresh)) = self.sockets.get(slot) else { return Err(errno(libc::EBADF)) };
        let (domain, options) = (fresh.domain, fresh.options.clone());
        let bound = match fresh.bound {
            Some(bound) => bound,
            None => self.take_port(slot, any(domain), 0)?,
        };
        // Somebody else may listen there by now.
        let binding = self.binding(slot, bound.address, true);
        self.tcp_ports.release(bound.port, slot);
        let free = self.tcp_ports.may_bind(bound.port, &binding);
        self.tcp_ports.bind(bound.port, super::super::ports::Binding { listens: free, ..binding });
        if !free {
            return Err(errno(libc::EADDRINUSE));
        }
        let half_open = self.limits.half_open as usize;
        let listener = Listener::new(backlog, half_open, self.cookies.is_some());
        let flooded_until = Instant::from_nanos(0);
        let listening = Listening { listener, domain, bound, options, told: false, flooded_until };
        if let Some(place) = self.sockets.get_mut(slot) {
            *place = Socket::Listener(Box::new(listening));
        }
        Ok(())
    }

    /// The next connection that waits, and its peer.
    ///
    /// ```
    /// # use demikernel_net::device::{Capabilities, Medium};
    /// # use demikernel_net::stack::{Stack, StackConfig};
    /// # use demikernel_runtime::{buffer::{Buffer, Sga}, time::Instant, transport::{Domain, SocketKind}};
    /// # let config = StackConfig::new(Capabilities::new(Medium::Ip, 1500), [7; 32]);
    /// # let now = Instant::from_nanos(1);
    /// let mut stack = Stack::new(now, config.address("192.0.2.1".parse().unwrap(), 24));
    /// let address = "192.0.2.1:80".parse().unwrap();
    /// let listener = stack.socket(Domain::V4, SocketKind::Stream)?;
    /// stack.bind(listener, address)?;
    /// stack.listen(listener, 8)?;
    /// let socket = stack.socket(Domain::V4, SocketKind::Stream)?;
    /// let error = stack.connect(now, socket, address).unwrap_err();
    /// assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS));
    ///
    /// // Segments go from here to here, without a device.
    /// fn settle(now: Instant, stack: &mut Stack) {
    ///     while stack.is_busy() {
    ///         stack.transmit(now, &mut vec![]);
    ///         stack.receive(now, &mut vec![]);
    ///     }
    /// }
    /// settle(now, &mut stack);
    /// let (accepted, peer) = stack.accept(listener)?;
    /// assert_eq!(peer, stack.local(socket)?);
    /// assert_eq!(stack.send(now, socket, &mut Sga::from(Buffer::from("hello")))?, 5);
    /// settle(now, &mut stack);
    /// assert_eq!(&stack.recv(now, accepted, 100)?[..], b"hello");
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// `EAGAIN` if none does, `EINVAL` if the socket does not listen, `EOPNOTSUPP` for UDP, `EBADF`.
    pub fn accept(&mut self, id: SocketId) -> io::Result<(SocketId, SocketAddr)> {
        let listening = match self.of_user(id)? {
            Socket::Listener(listening) => listening,
            Socket::Udp(_) => return Err(errno(libc::EOPNOTSUPP)),
            _ => return Err(errno(libc::EINVAL)),
        };
        let slot = listening.listener.accept().ok_or_else(|| errno(libc::EAGAIN))?;
        let id = self.sockets.id(slot).ok_or_else(|| errno(libc::EAGAIN))?;
        let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) else { return Err(errno(libc::EAGAIN)) };
        tcp.holder = Holder::User;
        if !std::mem::replace(&mut tcp.flags.told, true) {
            self.events.push(slot);
        }
        let flow = tcp.flow.get();
        Ok((SocketId(id), shown(tcp.domain, flow.remote(), flow.remote_port())))
    }

    /// Connects: TCP begins to, and says so with `EINPROGRESS`; UDP is connected at once.
    ///
    /// # Errors
    /// `EINPROGRESS`, `EALREADY`, `EISCONN`, `ENETUNREACH`, `EADDRNOTAVAIL`, `EADDRINUSE`, `EAFNOSUPPORT`, `EBADF`, and why
    /// an attempt before has failed.
    pub fn connect(&mut self, now: Instant, id: SocketId, address: SocketAddr) -> io::Result<()> {
        let slot = self.slot(id)?;
        match self.sockets.get_mut(slot) {
            Some(Socket::Fresh(_)) => self.begin_connect(now, slot, address),
            Some(Socket::Tcp(_)) => self.connect_again(slot),
            Some(Socket::Udp(_)) => self.connect_datagrams(now, slot, address),
            Some(Socket::Listener(_)) => Err(errno(libc::EISCONN)),
            _ => Err(errno(libc::EBADF)),
        }
    }

    fn begin_connect(&mut self, now: Instant, slot: u32, address: SocketAddr) -> io::Result<()> {
        let Some(Socket::Fresh(fresh)) = self.sockets.get(slot) else { return Err(errno(libc::EBADF)) };
        let Fresh { domain, bound, options } = &**fresh;
        let (domain, bound, options) = (*domain, *bound, options.clone());
        let remote = self.destination(domain, address, options.v6_only)?;
        // [rfc9293 MUST-46]
        if remote.is_multicast() || self.interface.addresses.is_broadcast(remote) {
            return Err(errno(libc::ENETUNREACH));
        }
        let local = self.source_for(now, bound.map(|bound| bound.address), remote)?;
        let tuple = Tuple { local, local_port: 0, remote, remote_port: address.port() };
        let flow = |port| Flow::of(local, port, remote, address.port());
        let port = match bound {
            Some(bound) if self.connection_of(&flow(bound.port)).is_none() => bound.port,
            Some(_) => return Err(errno(libc::EADDRNOTAVAIL)),
            None => {
                let (flows, ports) = (&self.flows, &self.tcp_ports);
                // Of several cores, one for which the answers come to this one.
                let own = |port| self.place.as_ref().is_none_or(|place| place.is_own(&flow(port)));
                // That a port is passed over for another flow's is no harm.
                let free = |port| own(port) && !ports.is_bound(port) && flows.guess(&flow(port)).is_none();
                self.ephemeral.choose(&tuple, free).ok_or_else(|| errno(libc::EADDRNOTAVAIL))?
            }
        };
        let start = Start {
            local: port,
            remote: address.port(),
            initial: self.initial_numbers(now, &Tuple { local_port: port, ..tuple }),
            mtu: self.interface.mtu(remote),
            ip_header: if remote.is_ipv4() { 20 } else { 40 },
        };
        let mut connection = Connection::connect(self.shared.clone(), now, start);
        // What other connections have found out. [rfc8201 5.2] [rfc1191 6.2]
        connection.handle_mtu(now, self.interface.path_mtu(now, remote));
        options.apply(now, &mut connection);
        let (flow, reuse) = (flow(port), options.reuse_address);
        let mut tcp = Pooled::new(TcpSocket {
            connection,
            flow: Ends::new(flow),
            deadline: Instant::MAX,
            holder: Holder::User,
            path: Path::UNKNOWN,
            domain,
            hops: self.interface.hops(options.hops, remote),
            class: options.class,
            options,
            events: Events::NONE,
            flags: Flags::default(),
            bound: bound.is_some(),
        });
        note(&mut tcp, slot, &mut self.ready, &mut self.events);
        if let Some(place) = self.sockets.get_mut(slot) {
            *place = Socket::Tcp(tcp);
        }
        self.list(slot, flow, reuse);
        Err(errno(libc::EINPROGRESS))
    }

    /// The address that is meant: any stands for ourselves, as in Linux.
    pub(super) fn destination(
        &self,
        domain: Domain,
        address: SocketAddr,
        v6_only: bool,
    ) -> io::Result<IpAddr> {
        let remote = check_family(domain, address)?;
        if domain == Domain::V6 && remote.is_ipv4() && v6_only {
            return Err(errno(libc::ENETUNREACH));
        }
        Ok(match remote {
            IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            other => other,
        })
    }

    /// From which of our addresses a packet to `remote` goes: from the one that the user has chosen, or that the layer below
    /// chooses. A flow keeps it. [rfc9293 MUST-43] [rfc9293 MUST-44] [rfc9293 MUST-45]
    pub(super) fn source_for(
        &self,
        now: Instant,
        bound: Option<IpAddr>,
        remote: IpAddr,
    ) -> io::Result<IpAddr> {
        if !self.interface.has_route(now, remote) {
            return Err(errno(libc::ENETUNREACH));
        }
        match bound.filter(|address| !address.is_unspecified()) {
            Some(address) if address.is_ipv4() == remote.is_ipv4() => Ok(address),
            Some(_) => Err(errno(libc::ENETUNREACH)),
            None => {
                let source = self.interface.addresses.select_source(now, remote);
                source.ok_or_else(|| errno(libc::ENETUNREACH))
            }
        }
    }

    /// What has become of the attempt.
    fn connect_again(&mut self, slot: u32) -> io::Result<()> {
        let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) else { return Err(errno(libc::EBADF)) };
        match tcp.connection.state() {
            State::SynSent | State::SynReceived(_) => Err(errno(libc::EALREADY)),
            State::Closed if Self::has_failed_to_connect(tcp) => {
                let error = tcp.connection.take_error().map_or(errno(libc::ECONNABORTED), io::Error::from);
                self.make_fresh(slot);
                Err(error)
            }
            _ if std::mem::replace(&mut tcp.flags.said, true) => Err(errno(libc::EISCONN)),
            _ => Ok(()),
        }
    }

    /// A socket whose connection did not become can be used again.
    fn make_fresh(&mut self, slot: u32) {
        self.unlist(slot);
        let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) else { return };
        let flow = tcp.flow.get();
        let bound = tcp.bound.then(|| Bound { address: flow.local(), port: flow.local_port() });
        let fresh = Fresh { domain: tcp.domain, bound, options: tcp.options.clone() };
        if let Some(place) = self.sockets.get_mut(slot) {
            *place = Socket::Fresh(Box::new(fresh));
        }
    }

    /// Queues what there is room for, and leaves the rest in `data`; returns how many bytes. A datagram goes whole, to
    /// the peer.
    ///
    /// # Errors
    /// `EAGAIN` if there is room for nothing, `EPIPE` if nothing can be sent, why the connection has failed, `EBADF`; for UDP
    /// see [`send_to`](Stack::send_to).
    #[inline]
    pub fn send(&mut self, now: Instant, id: SocketId, data: &mut Sga) -> io::Result<usize> {
        let many = self.are_many();
        match self.sockets.named(id.0) {
            Some(Socket::Tcp(tcp)) if tcp.holder == Holder::User => {
                if many {
                    // Soon it is transmitted, too.
                    prefetch(&**tcp);
                }
                let count = tcp.connection.send(now, data)?;
                note(tcp, id.0.index, &mut self.ready, &mut self.events);
                if count == 0 && !data.is_empty() { Err(errno(libc::EAGAIN)) } else { Ok(count) }
            }
            Some(Socket::Udp(_)) => {
                let count = self.send_to(now, id, data, None)?;
                *data = Sga::new();
                Ok(count)
            }
            Some(Socket::Fresh(_) | Socket::Listener(_)) => Err(errno(libc::EPIPE)),
            _ => Err(errno(libc::EBADF)),
        }
    }

    /// [Sends](Stack::send), and says that what was queued ends urgent data (MSG_OOB). The peer receives them in line or
    /// not, as it likes; new protocols do without (RFC 6093).
    ///
    /// # Errors
    /// As [`send`](Stack::send); `EOPNOTSUPP` for UDP.
    pub fn send_urgent(&mut self, now: Instant, id: SocketId, data: &mut Sga) -> io::Result<usize> {
        if let Socket::Udp(_) = self.of_user(id)? {
            return Err(errno(libc::EOPNOTSUPP));
        }
        let count = self.send(now, id, data)?;
        if let Socket::Tcp(tcp) = self.of_user(id)? {
            tcp.connection.mark_urgent();
        }
        Ok(count)
    }

    /// How many bytes there are up to the end of urgent data, if any were announced and not received yet: 0 is never
    /// returned. What is urgent is received in line.
    ///
    /// # Errors
    /// `EINVAL` for what is no connection, `EBADF`.
    pub fn urgent(&mut self, id: SocketId) -> io::Result<Option<u32>> {
        match self.of_user(id)? {
            Socket::Tcp(tcp) => Ok(tcp.connection.urgent()),
            _ => Err(errno(libc::EINVAL)),
        }
    }

    /// Takes at most `most` bytes of what has come: none at the end. Of a datagram the rest is lost.
    ///
    /// # Errors
    /// `EAGAIN` if nothing has come, `ENOTCONN`, why the connection has failed, `EBADF`.
    #[inline]
    pub fn recv(&mut self, now: Instant, id: SocketId, most: usize) -> io::Result<Buffer> {
        match self.sockets.named(id.0) {
            Some(Socket::Tcp(tcp)) if tcp.holder == Holder::User => {
                let received = tcp.connection.receive(now, most)?;
                if tcp.connection.may_answer() {
                    note(tcp, id.0.index, &mut self.ready, &mut self.events);
                }
                match received {
                    Receiving::Data(data) => Ok(data),
                    Receiving::End => Ok(Buffer::new()),
                    Receiving::Nothing if tcp.flags.shut => Ok(Buffer::new()),
                    Receiving::Nothing => Err(errno(libc::EAGAIN)),
                }
            }
            Some(Socket::Udp(_)) => {
                let mut datagram = self.recv_from(id)?;
                datagram.payload.truncate(most);
                Ok(datagram.payload)
            }
            Some(Socket::Fresh(_) | Socket::Listener(_)) => Err(errno(libc::ENOTCONN)),
            _ => Err(errno(libc::EBADF)),
        }
    }

    /// Whether a call that takes something may give anything but `EAGAIN`. If not, an event tells when it does again.
    #[inline]
    pub fn may_be_readable(&mut self, id: SocketId) -> bool {
        match self.sockets.named(id.0) {
            Some(Socket::Tcp(tcp)) => {
                let open = tcp.connection.state() == State::Established && !tcp.flags.shut;
                !open || tcp.connection.has_received()
            }
            Some(Socket::Udp(udp)) => {
                udp.socket.queued() > 0 || udp.socket.has_error() || udp.socket.is_shut()
            }
            _ => true,
        }
    }

    /// Ends one direction, or both.
    ///
    /// # Errors
    /// `ENOTCONN`, `EBADF`.
    pub fn shutdown(&mut self, now: Instant, id: SocketId, how: Shutdown) -> io::Result<()> {
        let slot = self.slot(id)?;
        match self.sockets.get_mut(slot) {
            Some(Socket::Tcp(tcp)) => {
                let state = tcp.connection.state();
                if matches!(state, State::SynSent) {
                    // Linux gives the attempt up.
                    tcp.connection.abort();
                    self.make_fresh(slot);
                    return Ok(());
                }
                if !is_connected(&tcp.connection) && !matches!(state, State::SynReceived(_)) {
                    return Err(errno(libc::ENOTCONN));
                }
                tcp.flags.shut |= how.reads();
                if how.writes() {
                    tcp.connection.shutdown_write(now)?;
                }
                note(tcp, slot, &mut self.ready, &mut self.events);
                Ok(())
            }
            Some(Socket::Listener(listening)) if how.reads() => {
                let (domain, bound, options) = (listening.domain, listening.bound, listening.options.clone());
                self.end_listening(now, slot);
                self.tcp_ports.change(bound.port, slot, |binding| binding.listens = false);
                if let Some(place) = self.sockets.get_mut(slot) {
                    *place = Socket::Fresh(Box::new(Fresh { domain, bound: Some(bound), options }));
                }
                Ok(())
            }
            Some(Socket::Listener(_)) => Ok(()),
            Some(Socket::Udp(udp)) => {
                if how.reads() {
                    udp.socket.shut();
                }
                udp.shut_write |= how.writes();
                if udp.peer.is_some() { Ok(()) } else { Err(errno(libc::ENOTCONN)) }
            }
            _ => Err(errno(libc::ENOTCONN)),
        }
    }

    /// Connections that nobody will accept are reset; those that are not complete are forgotten.
    fn end_listening(&mut self, now: Instant, slot: u32) {
        let Some(Socket::Listener(listening)) = self.sockets.get_mut(slot) else { return };
        let listener = std::mem::replace(&mut listening.listener, Listener::new(1, 1, false));
        for connection in listener.into_connections() {
            match self.sockets.get(connection) {
                Some(Socket::Tcp(tcp)) if matches!(tcp.holder, Holder::HalfOpen { .. }) => {
                    self.remove_connection(connection);
                }
                Some(Socket::Tcp(_)) => self.give_up(now, connection, true),
                _ => {}
            }
        }
    }

    pub(super) fn close_listener(&mut self, now: Instant, slot: u32) {
        self.end_listening(now, slot);
        if let Some(Socket::Listener(listening)) = self.sockets.remove(slot) {
            self.tcp_ports.release(listening.bound.port, slot);
        }
    }
}
