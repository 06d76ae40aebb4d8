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
