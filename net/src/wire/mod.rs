//! Wire formats: one module per protocol, each with a checked view of bytes and a small valid value.
//!
//! Parsing takes bytes from outside: it never panics, allocates nothing, and what it refuses it refuses with a
//! [`Malformed`] that a counter can name.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmpv4;
pub mod icmpv6;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod tcp;
pub mod udp;

#[cfg(test)]
mod testing;

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
