//! Addresses of sockets as the C library has them.

use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// As C has it.
pub(in crate::verbs) fn to_raw(address: SocketAddr) -> libc::sockaddr_storage {
    // SAFETY: it is numbers, all of which may be zero.
    let mut raw: libc::sockaddr_storage = unsafe { mem::zeroed() };
    match address {
        SocketAddr::V4(address) => {
            let v4 = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is for this, too.
            unsafe { (&raw mut raw).cast::<libc::sockaddr_in>().write(v4) };
        }
        SocketAddr::V6(address) => {
            let v6 = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: the storage is for this, too.
            unsafe { (&raw mut raw).cast::<libc::sockaddr_in6>().write(v6) };
        }
    }
    raw
}

/// The address, if there is one of IP.
pub(in crate::verbs) fn of_raw(raw: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let pointer: *const libc::sockaddr_storage = raw;
    match i32::from(raw.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is one, and any bytes are.
            let v4 = unsafe { &*pointer.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that it is one, and any bytes are.
            let v6 = unsafe { &*pointer.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_to_c_and_back() {
        for address in ["10.9.0.1:7471", "[fe80::1%3]:80", "[::]:0"] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(of_raw(&to_raw(address)), Some(address));
        }
        // SAFETY: it is numbers, all of which may be zero.
        assert_eq!(of_raw(&unsafe { mem::zeroed() }), None);
    }
}
