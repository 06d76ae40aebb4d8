//! Which port and address a socket has.

use super::super::ports::Binding;
use super::super::socket::{Bound, Socket, SocketId, plain};
use super::super::{Stack, errno};
use crate::ip::addresses::Kind;
use crate::tcp::Tuple;
use demikernel_runtime::transport::Domain;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The address that stands for any.
pub(super) fn any(domain: Domain) -> IpAddr {
    if domain == Domain::V6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// Whether a socket of this family takes the address; as IPv4 if it is one that is mapped.
pub(super) fn check_family(domain: Domain, address: SocketAddr) -> io::Result<IpAddr> {
    match (domain, address) {
        (Domain::V4, SocketAddr::V6(_)) => Err(errno(libc::EAFNOSUPPORT)),
        // A `sockaddr_in` is too short.
        (Domain::V6, SocketAddr::V4(_)) => Err(errno(libc::EINVAL)),
        _ => Ok(plain(address.ip())),
    }
}

impl Stack {
    /// Gives a socket an address and a port; port 0 is any that is free.
    ///
    /// # Errors
    /// `EADDRINUSE`, `EADDRNOTAVAIL`, `EINVAL` if it has one already, `EAFNOSUPPORT`, `EBADF`.
    pub fn bind(&mut self, id: SocketId, address: SocketAddr) -> io::Result<()> {
        let slot = self.slot(id)?;
        let (domain, bound, v6_only) = match self.sockets.get(slot) {
            Some(Socket::Fresh(fresh)) => (fresh.domain, fresh.bound.is_some(), fresh.options.v6_only),
            Some(Socket::Udp(udp)) => (udp.domain, udp.bound.is_some(), udp.options.v6_only),
            _ => return Err(errno(libc::EINVAL)),
        };
        let ip = check_family(domain, address)?;
        if bound {
            return Err(errno(libc::EINVAL));
        }
        let datagrams = matches!(self.sockets.get(slot), Some(Socket::Udp(_)));
        let may_be = match self.interface.addresses.kind(ip) {
            Kind::Local => true,
            Kind::Multicast | Kind::Broadcast => datagrams,
            Kind::Other => ip.is_unspecified(),
        };
        let mapped = domain == Domain::V6 && v6_only && ip.is_ipv4();
        if !may_be || mapped {
            return Err(errno(libc::EADDRNOTAVAIL));
        }
        let bound = self.take_port(slot, ip, address.port())?;
        match self.sockets.get_mut(slot) {
            Some(Socket::Fresh(fresh)) => fresh.bound = Some(bound),
            Some(Socket::Udp(udp)) => (udp.bound, udp.explicit) = (Some(bound), Some(bound)),
            _ => {}
        }
        Ok(())
    }

    /// What a socket says in the table of ports.
    pub(super) fn binding(&self, slot: u32, address: IpAddr, listens: bool) -> Binding {
        let (reuse_address, reuse_port, v6_only) = match self.sockets.get(slot) {
            Some(Socket::Fresh(fresh)) => {
                (fresh.options.reuse_address, fresh.options.reuse_port, fresh.options.v6_only)
            }
            Some(Socket::Udp(udp)) => {
                (udp.options.reuse_address, udp.options.reuse_port, udp.options.v6_only)
            }
            _ => (false, false, false),
        };
        Binding { socket: slot, address, v6_only, reuse_address, reuse_port, listens }
    }

    /// Takes a port, or any that is free.
    pub(super) fn take_port(&mut self, slot: u32, address: IpAddr, port: u16) -> io::Result<Bound> {
        self.take_port_among(slot, address, port, |_| true)
    }

    /// The same; of those that are free, only one that `fits`.
    pub(super) fn take_port_among(
        &mut self,
        slot: u32,
        address: IpAddr,
        port: u16,
        fits: impl Fn(u16) -> bool,
    ) -> io::Result<Bound> {
        let binding = self.binding(slot, address, false);
        self.forget_last_datagram();
        let datagrams = matches!(self.sockets.get(slot), Some(Socket::Udp(_)));
        let ports = if datagrams { &mut self.udp_ports } else { &mut self.tcp_ports };
        let port = if port == 0 {
            let tuple =
                Tuple { local: address, local_port: 0, remote: address, remote_port: datagrams.into() };
            // One that nobody else has, even if it could be shared.
            let alone = Binding { reuse_address: false, reuse_port: false, ..binding };
            let found = self
                .ephemeral
                .choose(&tuple, |port| fits(port) && ports.may_bind(port, &alone) && ports.claim(port));
            found.ok_or_else(|| errno(libc::EADDRINUSE))?
        } else {
            port
        };
        if !ports.may_bind(port, &binding) {
            return Err(errno(libc::EADDRINUSE));
        }
        ports.bind(port, binding);
        Ok(Bound { address, port })
    }
}
