//! Wire formats: one module per protocol, each with a checked view of bytes and a small valid value.
//!
//! Parsing takes bytes from outside: it never panics, allocates nothing, and what it refuses it refuses with a
//! [`Malformed`] that a counter can name. A parser returns a value and where what it carries begins, or is. Emitting
//! writes a value to the beginning of bytes that have room for it, of which there must be as many as the value's
//! `header_len` says: a packet's headers are written one behind the other into headroom.
//!
//! - [`ethernet`], [`arp`]: the link.
//! - [`ipv4`], [`ipv6`] with its extension headers, and what they have in common in [`ip`].
//! - [`icmpv4`], [`icmpv6`], [`ndp`]: errors, echoes, and neighbours.
//! - [`igmp`], [`mld`], and what they have in common in [`multicast`]: groups that somebody listens to.
//! - [`udp`], [`mod@tcp`]: transports.
//! - [`dhcp`]: addresses that servers give.
//! - `plain`: nearly every segment, with all its headers at once.
//! - [`checksum`]: the sum that most of them share.
//!
//! ```
//! use demikernel_net::wire::ethernet::{self, MacAddress, ether_type};
//! use demikernel_net::wire::{Malformed, checksum::Sum, ip::protocol, ipv4, udp};
//! use std::net::Ipv4Addr;
//!
//! let (here, there, payload) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2), b"hello");
//! let ethernet = ethernet::Header {
//!     destination: MacAddress([2, 0, 0, 0, 0, 2]),
//!     source: MacAddress([2, 0, 0, 0, 0, 1]),
//!     vlan: None,
//!     ether_type: ether_type::IPV4,
//! };
//! let udp = udp::Header { source: 1234, destination: 53, payload_len: 5 };
//! let ip = ipv4::Header {
//!     source: here,
//!     destination: there,
//!     protocol: protocol::UDP,
//!     payload_len: 13,
//!     ..ipv4::Header::default()
//! };
//! let mut frame = vec![0; ethernet.header_len() + ip.header_len() + udp.header_len()];
//! frame.extend_from_slice(payload);
//! ethernet.emit(&mut frame);
//! ip.emit(&mut frame[14..]);
//! let sum = udp.emit(&mut frame[34..]).then(Sum::of(payload));
//! let pseudo_header = Sum::pseudo_header_v4(here, there, protocol::UDP, 13);
//! udp::set_checksum(&mut frame[34..], pseudo_header.then(sum).checksum());
//!
//! // And back: each parser says where the next one begins.
//! let (link, packet) = ethernet::Header::parse(&frame)?;
//! let (network, datagram) = ipv4::Header::parse(&frame[packet..])?;
//! let datagram = &frame[packet..][datagram];
//! let (transport, text) = udp::Header::parse(datagram)?;
//! assert_eq!((link, network, transport), (ethernet, ip, udp));
//! assert_eq!(&datagram[text], payload);
//! # Ok::<(), Malformed>(())
//! ```

pub mod arp;
pub mod checksum;
pub mod dhcp;
pub mod ethernet;
pub mod icmpv4;
pub mod icmpv6;
pub mod igmp;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod mld;
pub mod multicast;
pub mod ndp;
pub(crate) mod plain;
pub mod tcp;
pub mod udp;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

/// Why bytes are not what they should be.
///
/// ```
/// use demikernel_net::wire::{Malformed, ipv4};
///
/// let mut packet = [0; 20];
/// ipv4::Header::default().emit(&mut packet);
/// // A hop fewer to go, but the checksum is still the old one.
/// packet[8] -= 1;
/// assert_eq!(ipv4::Header::parse(&packet), Err(Malformed::Checksum));
/// assert_eq!(ipv4::Header::parse(&packet[..19]), Err(Malformed::Truncated));
/// assert_eq!(Malformed::Checksum.to_string(), "wrong checksum");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// There are fewer bytes than the header, or a length in it, needs.
    #[error("truncated")]
    Truncated,
    /// A length field contradicts another, or is below the least that there can be.
    #[error("wrong length")]
    Length,
    /// A checksum does not match.
    #[error("wrong checksum")]
    Checksum,
    /// The version field is of another protocol.
    #[error("wrong version")]
    Version,
    /// An option's length or place is impossible.
    #[error("malformed option")]
    Option,
    /// A field has a value that the protocol forbids.
    #[error("forbidden value")]
    Value,
}
