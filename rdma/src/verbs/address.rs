//! Where datagrams go.

use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;

use super::domain::ProtectionDomain;
use super::error::last;
use super::raw::*;

/// The way to a port, for datagrams. A clone is the same.
#[derive(Clone)]
pub struct AddressHandle(Rc<Inner>);

struct Inner {
    handle: NonNull<ibv_ah>,
    domain: ProtectionDomain,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: made by this provider. Sends that are under way hold this.
        unsafe { (self.domain.device().provider().destroy_ah)(self.handle.as_ptr()) };
    }
}

/// Who has sent a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    /// The number of the sender's queue pair.
    pub number: u32,
    /// The sender's address: an IPv6 address, or an IPv4 address mapped to one. None if it came without, which only
    /// InfiniBand does.
    pub gid: Option<[u8; 16]>,
    /// The local identifier of its port, of InfiniBand.
    pub lid: u16,
    /// The service level of InfiniBand that it came with.
    pub service_level: u8,
}

/// From where, and where to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Route {
    /// The number of this side's port.
    pub port: u8,
    /// The index in the port's table of this side's address.
    pub gid_index: u8,
    /// The address of the other side.
    pub gid: Option<[u8; 16]>,
    /// The local identifier of the other side's port, of InfiniBand.
    pub lid: u16,
    /// The service level of InfiniBand.
    pub service_level: u8,
}

impl Route {
    /// Back to who has sent a datagram.
    pub fn back(port: u8, gid_index: u8, source: &Source) -> Route {
        Route { port, gid_index, gid: source.gid, lid: source.lid, service_level: source.service_level }
    }

    pub(super) fn attributes(&self) -> ibv_ah_attr {
        let mut attributes = ibv_ah_attr::default();
        (attributes.port_num, attributes.dlid, attributes.sl) = (self.port, self.lid, self.service_level);
        if let Some(gid) = self.gid {
            attributes.is_global = 1;
            attributes.grh = ibv_global_route {
                dgid: ibv_gid { raw: gid },
                sgid_index: self.gid_index,
                hop_limit: 64,
                ..Default::default()
            };
        }
        attributes
    }
}

impl AddressHandle {
    /// The way along a route.
    ///
    /// # Errors
    /// If there is none, or the device cannot have more.
    pub fn new(domain: &ProtectionDomain, route: &Route) -> io::Result<AddressHandle> {
        AddressHandle::of(domain, &mut route.attributes())
    }

    pub(super) fn of(domain: &ProtectionDomain, attributes: &mut ibv_ah_attr) -> io::Result<AddressHandle> {
        // SAFETY: the domain is open, and the attributes are only read.
        let handle = unsafe { (domain.device().provider().create_ah)(domain.raw().as_ptr(), attributes) };
        let handle = NonNull::new(handle).ok_or_else(|| last("make an address handle"))?;
        Ok(AddressHandle(Rc::new(Inner { handle, domain: domain.clone() })))
    }

    pub(super) fn raw(&self) -> *mut ibv_ah {
        self.0.handle.as_ptr()
    }

    pub(super) fn domain(&self) -> &ProtectionDomain {
        &self.0.domain
    }
}

impl fmt::Debug for AddressHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressHandle").finish_non_exhaustive()
    }
}

/// Bytes of the header that comes in front of each datagram in the buffer that it is received in.
pub(super) const HEADER: usize = 40;

/// The sender's address in that header: of an IPv6 header, which InfiniBand's has the form of, or of an IPv4 header
/// in its last 20 bytes. The bytes before that may be anything, also what looks like the other; an IPv4 header whose
/// checksum is right is believed then.
pub(super) fn sender(header: &[u8; HEADER]) -> [u8; 16] {
    let mut address = [0; 16];
    let v4: &[u8] = &header[20..];
    let sum: u32 = v4.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let is_right = (sum & 0xffff) + (sum >> 16) == 0xffff;
    if v4[0] == 0x45 && (header[0] >> 4 != 6 || is_right) {
        address[10..12].fill(0xff);
        address[12..].copy_from_slice(&header[32..36]);
    } else {
        address.copy_from_slice(&header[8..24]);
    }
    address
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn the_sender_of_either_version_of_ip_is_found_in_the_header() {
        let mut header = [0; HEADER];
        header[0] = 0x60;
        header[8..24].copy_from_slice(&"fe80::1".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(Ipv6Addr::from(sender(&header)).to_string(), "fe80::1");
        let mut header = [0; HEADER];
        header[20] = 0x45;
        header[32..36].copy_from_slice(&[10, 9, 0, 2]);
        assert_eq!(Ipv6Addr::from(sender(&header)).to_canonical().to_string(), "10.9.0.2");
        header[0] = 0x60;
        assert_eq!(sender(&header)[..4], [0; 4], "without a checksum it may be what lies in an IPv6 address");
        header[30..32].copy_from_slice(&(!(0x4500_u16 + 0x0a09 + 2)).to_be_bytes());
        assert_eq!(Ipv6Addr::from(sender(&header)).to_canonical().to_string(), "10.9.0.2");
    }
}
