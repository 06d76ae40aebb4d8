//! Calls on UDP sockets.

use super::super::emit::{COPY, Envelope};
use super::super::interface::{Interface, Path};
use super::super::socket::{Bound, Socket, SocketId, Target, UdpSocket, plain, shown};
use super::super::{Stack, errno};
use super::bind::any;
use crate::cores::Protocol;
use crate::table::Flow;
use crate::udp::{self, Datagram};
use crate::wire::ip::{TrafficClass, protocol};
use crate::wire::ipv4;
use crate::wire::plain::Around;
use crate::wire::udp::HEADER;
use demikernel_runtime::buffer::Sga;
use demikernel_runtime::time::Instant;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Octets of the headers of IPv4 and UDP.
const HEADERS: usize = ipv4::MINIMUM_HEADER + HEADER;

/// Groups of one socket: as Linux (igmp_max_memberships).
const MOST_GROUPS: usize = 20;

/// Sends a small datagram to the target that was prepared, if the way is known and there is room. Whether it did.
#[inline]
fn send_plain(interface: &mut Interface, udp: &UdpSocket, data: &Sga, length: usize) -> bool {
    let Some(target) = &udp.target else { return false };
    let Some(around) = target.around else { return false };
    let payload = data.first().map_or(&[][..], |first| &first[..]);
    let fits = payload.len() == length && length <= COPY.min(usize::from(target.mtu).saturating_sub(HEADERS));
    if !fits || !interface.has_room() {
        return false;
    }
    let Some(link) = interface.out(&udp.path).copied() else { return false };
    let around = Around { class: udp.options.class, ..around };
    let ports = u32::from(target.port) << 16 | u32::from(target.peer.port());
    interface.send_plain(&link, &around, ports, payload)
}

impl Stack {
    /// Sends a datagram to `address`, or to the peer; returns how many bytes.
    ///
    /// # Errors
    /// `EAGAIN` if too much waits for the device, `EDESTADDRREQ` without an address, `EMSGSIZE`, `EACCES` to everybody
    /// without the option to, `ENETUNREACH`, `EPIPE` after a shutdown, what ICMP has reported, `EBADF`.
    pub fn send_to(
        &mut self,
        now: Instant,
        id: SocketId,
        data: &Sga,
        address: Option<SocketAddr>,
    ) -> io::Result<usize> {
        let Some(Socket::Udp(udp)) = self.sockets.named(id.0) else {
            self.of_user(id)?;
            return match address {
                Some(_) => self.send(now, id, &mut data.clone()),
                None => Err(errno(libc::EOPNOTSUPP)),
            };
        };
        if let Some(error) = udp.socket.take_error() {
            return Err(errno(error));
        }
        if udp.shut_write {
            return Err(errno(libc::EPIPE));
        }
        let length = data.len();
        if length > udp::LONGEST {
            return Err(errno(libc::EMSGSIZE));
        }
        // The one before, most likely.
        let is_prepared = match (address, &udp.target) {
            (Some(address), Some(target)) => target.shown == address,
            (None, Some(target)) => udp.peer == Some(target.peer),
            (_, None) => false,
        };
        if !is_prepared {
            self.prepare(now, id.0.index, address)?;
        } else if send_plain(&mut self.interface, udp, data, length) {
            return Ok(length);
        }
        self.send_datagram(now, id.0.index, data, length)
    }

    /// Looks up what is to be known of a destination: of the peer without an address.
    #[cold]
    fn prepare(&mut self, now: Instant, slot: u32, address: Option<SocketAddr>) -> io::Result<()> {
        let Some(Socket::Udp(udp)) = self.sockets.get(slot) else { return Err(errno(libc::EBADF)) };
        let Some(address) = address else {
            let peer = udp.peer.ok_or_else(|| errno(libc::EDESTADDRREQ))?;
            return self.prepare_plain(now, slot, peer, peer);
        };
        if address.port() == 0 {
            return Err(errno(libc::EINVAL));
        }
        let remote = self.destination(udp.domain, address, udp.options.v6_only)?;
        if self.interface.addresses.is_broadcast(remote) && !udp.options.broadcast {
            return Err(errno(libc::EACCES));
        }
        self.prepare_plain(now, slot, address, SocketAddr::new(remote, address.port()))
    }

    #[cold]
    fn prepare_plain(
        &mut self,
        now: Instant,
        slot: u32,
        shown: SocketAddr,
        peer: SocketAddr,
    ) -> io::Result<()> {
        let Some(Socket::Udp(udp)) = self.sockets.get(slot) else { return Err(errno(libc::EBADF)) };
        let bound = match udp.bound {
            Some(bound) => bound,
            None => self.bind_any(slot)?,
        };
        let any = bound.address.is_unspecified() || bound.address.is_multicast();
        let local = self.source_for(now, (!any).then_some(bound.address), peer.ip())?;
        let mtu = self.interface.path_mtu(now, peer.ip());
        if let Some(Socket::Udp(udp)) = self.sockets.get_mut(slot) {
            let hops = match peer.ip().is_multicast() {
                true => 1,
                false => self.interface.hops(udp.options.hops, peer.ip()),
            };
            let around = match (local, peer.ip()) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => {
                    let (source, destination) = (source.to_bits(), destination.to_bits());
                    Some(Around { source, destination, hops, class: 0 })
                }
                _ => None,
            };
            udp.target = Some(Target { shown, peer, local, port: bound.port, mtu, hops, around });
            udp.path = Path::UNKNOWN;
        }
        Ok(())
    }

    /// Sends to the target that was prepared.
    #[inline]
    fn send_datagram(&mut self, now: Instant, slot: u32, data: &Sga, length: usize) -> io::Result<usize> {
        if !self.interface.has_room() {
            return self.block(slot);
        }
        let Some(Socket::Udp(udp)) = self.sockets.get_mut(slot) else { return Err(errno(libc::EBADF)) };
        let Some(target) = &udp.target else { return Err(errno(libc::EDESTADDRREQ)) };
        let remote = target.peer.ip();
        let envelope = Envelope {
            source: target.local,
            destination: remote,
            protocol: protocol::UDP,
            hops: target.hops,
            class: TrafficClass::from_bits(udp.options.class),
            may_fragment: true,
        };
        let ports = (target.port, target.peer.port());
        let headers = if remote.is_ipv4() { 20 } else { 40 } + HEADER;
        let sent = if headers + length <= usize::from(target.mtu) {
            self.interface.send_udp(now, &mut udp.path, &envelope, ports, data, length)
        } else {
            self.interface.send_in_pieces(now, &envelope, ports, data, target.mtu)
        };
        if sent { Ok(length) } else { Err(errno(libc::ENOBUFS)) }
    }

    /// The user is told when there is room.
    #[cold]
    fn block(&mut self, slot: u32) -> io::Result<usize> {
        if let Some(Socket::Udp(udp)) = self.sockets.get_mut(slot)
            && !std::mem::replace(&mut udp.blocked, true)
        {
            self.blocked.push(slot);
        }
        Err(errno(libc::EAGAIN))
    }

    /// A port for a socket that did not ask for one.
    #[cold]
    fn bind_any(&mut self, slot: u32) -> io::Result<Bound> {
        self.bind_any_among(slot, |_| true)
    }

    fn bind_any_among(&mut self, slot: u32, fits: impl Fn(u16) -> bool) -> io::Result<Bound> {
        let Some(Socket::Udp(udp)) = self.sockets.get(slot) else { return Err(errno(libc::EBADF)) };
        let address = any(udp.domain);
        let bound = self.take_port_among(slot, address, 0, fits).map_err(|_| errno(libc::EAGAIN))?;
        if let Some(Socket::Udp(udp)) = self.sockets.get_mut(slot) {
            (udp.bound, udp.explicit) = (Some(bound), Some(bound));
        }
        Ok(bound)
    }

    /// The next datagram.
    ///
    /// # Errors
    /// `EAGAIN` if none has come, what ICMP has reported, `EBADF`.
    #[inline]
    pub fn recv_from(&mut self, id: SocketId) -> io::Result<Datagram> {
        let Socket::Udp(udp) = self.of_user(id)? else { return Err(errno(libc::EOPNOTSUPP)) };
        if let Some(error) = udp.socket.take_error() {
            return Err(errno(error));
        }
        if let Some(datagram) = udp.socket.receive() {
            return Ok(datagram);
        }
        if udp.socket.is_shut() {
            let source = shown(udp.domain, any(udp.domain), 0);
            return Ok(Datagram { payload: Default::default(), source, destination: source.ip() });
        }
        Err(errno(libc::EAGAIN))
    }

    /// From now on datagrams come from and go to this peer only.
    pub(super) fn connect_datagrams(
        &mut self,
        now: Instant,
        slot: u32,
        address: SocketAddr,
    ) -> io::Result<()> {
        let Some(Socket::Udp(udp)) = self.sockets.get(slot) else { return Err(errno(libc::EBADF)) };
        let remote = self.destination(udp.domain, address, udp.options.v6_only)?;
        if self.interface.addresses.is_broadcast(remote) && !udp.options.broadcast {
            return Err(errno(libc::EACCES));
        }
        let explicit = udp.explicit;
        let local = self.source_for(now, explicit.map(|bound| bound.address), remote)?;
        let bound = match (udp.bound, self.place.clone()) {
            (Some(bound), _) => bound,
            (None, None) => self.bind_any(slot)?,
            // Of several cores, one for which the answers come to this one.
            (None, Some(place)) => self
                .bind_any_among(slot, |port| place.is_own(&Flow::of(local, port, remote, address.port())))?,
        };
        self.disconnect(slot);
        let peer = SocketAddr::new(remote, address.port());
        let Some(Socket::Udp(udp)) = self.sockets.get_mut(slot) else { return Err(errno(libc::EBADF)) };
        udp.bound = Some(Bound { address: local, port: bound.port });
        udp.peer = Some(peer);
        udp.path = Path::UNKNOWN;
        udp.target = None;
        let flow = Flow::of(local, bound.port, remote, address.port());
        udp.flow = Some(flow);
        self.forget_last_datagram();
        // Of two that are connected the same way, the first gets what comes.
        if self.datagrams_of(&flow).is_none() {
            self.peers.insert(&flow, slot);
            if let Some(place) = &self.place {
                place.list(Protocol::Udp, &flow);
            }
        }
        Ok(())
    }

    /// It has no peer.
    fn disconnect(&mut self, slot: u32) {
        self.forget_last_datagram();
        let Some(Socket::Udp(udp)) = self.sockets.get_mut(slot) else { return };
        udp.peer = None;
        udp.bound = udp.explicit.or(udp.bound);
        if let Some(flow) = udp.flow.take() {
            self.peers.remove(&flow, slot);
            if let Some(place) = &self.place {
                place.unlist(Protocol::Udp, &flow);
            }
        }
    }

    pub(super) fn close_datagrams(&mut self, now: Instant, slot: u32) {
        self.disconnect(slot);
        let Some(Socket::Udp(udp)) = self.sockets.remove(slot) else { return };
        if !udp.groups.is_empty() {
            udp.groups.iter().for_each(|group| self.interface.leave(now, *group));
            self.run_automatic(now);
        }
        if let Some(bound) = udp.bound {
            self.udp_ports.release(bound.port, slot);
        }
    }

    /// What is sent to this group comes to the socket, too.
    ///
    /// # Errors
    /// `EINVAL` if it is no group, `EADDRINUSE` if it was joined, `ENOBUFS` if there are too many, `EBADF`.
    pub fn join(&mut self, now: Instant, id: SocketId, group: IpAddr) -> io::Result<()> {
        let group = plain(group);
        let Socket::Udp(udp) = self.of_user(id)? else { return Err(errno(libc::EPROTO)) };
        if !group.is_multicast() {
            return Err(errno(libc::EINVAL));
        }
        if udp.groups.contains(&group) {
            return Err(errno(libc::EADDRINUSE));
        }
        if udp.groups.len() >= MOST_GROUPS {
            return Err(errno(libc::ENOBUFS));
        }
        self.interface.join(now, group)?;
        if let Socket::Udp(udp) = self.of_user(id)? {
            udp.groups.push(group);
        }
        self.run_automatic(now);
        Ok(())
    }

    /// No longer.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` if it was not joined, `EBADF`.
    pub fn leave(&mut self, now: Instant, id: SocketId, group: IpAddr) -> io::Result<()> {
        let group = plain(group);
        let Socket::Udp(udp) = self.of_user(id)? else { return Err(errno(libc::EPROTO)) };
        let place = udp.groups.iter().position(|joined| *joined == group);
        let place = place.ok_or_else(|| errno(libc::EADDRNOTAVAIL))?;
        udp.groups.remove(place);
        self.interface.leave(now, group);
        self.run_automatic(now);
        Ok(())
    }
}
