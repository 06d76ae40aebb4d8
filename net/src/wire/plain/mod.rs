//! What nearly every packet is, with its headers of all layers in words at known places: IPv4 without options, whole, and
//! a segment of TCP that only carries data and acknowledges, or a datagram of UDP.
//!
//! Parsers here say nothing of any other packet. What they do say is what those of each layer would.

mod datagram;
mod segment;
#[cfg(test)]
mod tests;

pub(crate) use datagram::{DATAGRAM_FRAME, datagram_frame, parse_datagram};
pub(crate) use segment::{PLAIN_FRAME, Plain};

use super::checksum::Sum;
use super::{ethernet, ipv4};

/// What is around a segment or a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Around {
    /// Addresses, as numbers.
    pub(crate) source: u32,
    pub(crate) destination: u32,
    pub(crate) hops: u8,
    /// DSCP and ECN.
    pub(crate) class: u8,
}

/// Where the IP header begins in a frame.
const LINK: usize = ethernet::MINIMUM_HEADER;

/// Version 4, and a header of five words.
const VERSION: u32 = 0x45;

const DONT_FRAGMENT: u32 = 0x4000;

/// More fragments, and the offset of this one.
const FRAGMENT: u32 = 0x3fff;

/// What addresses of the loopback network begin with.
const LOOPBACK: u32 = 127;

impl Around {
    /// What the IP header of a packet in one piece says, its protocol and where it ends, if it is such a one and its
    /// checksum is right, or known to be.
    #[inline(always)]
    pub(crate) fn parse(packet: &[u8], is_good: bool) -> Option<(Around, u8, usize)> {
        let header = words::<5>(packet)?;
        let [first, second, third, source, destination] = header;
        let end = (first & 0xffff) as usize;
        let plain = first >> 24 == VERSION
            && second & FRAGMENT == 0
            && source >> 24 != LOOPBACK
            && destination >> 24 != LOOPBACK
            && end <= packet.len()
            && (is_good || Sum::of_fields(total(header)).is_valid());
        let (hops, protocol, class) = ((third >> 24) as u8, (third >> 16) as u8, (first >> 16) as u8);
        plain.then_some((Around { source, destination, hops, class }, protocol, end))
    }

    /// The sum of the pseudo-header's fields.
    #[inline(always)]
    fn pseudo_header(&self, protocol: u8, length: usize) -> u64 {
        u64::from(self.source) + u64::from(self.destination) + u64::from(protocol) + length as u64
    }

    /// The IP header of a packet with `length` octets behind it.
    #[inline(always)]
    fn ip(&self, protocol: u8, length: usize, identification: u16, whole: bool) -> [u32; 5] {
        let Around { source, destination, hops, class } = *self;
        let first = VERSION << 24 | u32::from(class) << 16 | (ipv4::MINIMUM_HEADER + length) as u32;
        let second = u32::from(identification) << 16 | if whole { DONT_FRAGMENT } else { 0 };
        let third = u32::from(hops) << 24 | u32::from(protocol) << 16;
        let checksum = Sum::of_fields(total([first, second, third, source, destination])).checksum();
        [first, second, third | u32::from(checksum), source, destination]
    }
}

/// The first words of some bytes.
#[inline(always)]
fn words<const N: usize>(bytes: &[u8]) -> Option<[u32; N]> {
    let (words, _) = bytes.as_chunks::<4>();
    Some(words.first_chunk::<N>()?.map(u32::from_be_bytes))
}

/// The plain sum of some words: see [`Sum::of_fields`].
#[inline(always)]
fn total<const N: usize>(words: [u32; N]) -> u64 {
    words.into_iter().map(u64::from).sum()
}

/// A frame's headers, one behind the other.
#[inline(always)]
fn frame<const N: usize, const M: usize>(link: &[u8; LINK], ip: [u32; 5], words: [u32; N]) -> [u8; M] {
    const { assert!(M == LINK + ipv4::MINIMUM_HEADER + 4 * N) };
    let mut bytes = [0; M];
    bytes[..LINK].copy_from_slice(link);
    for (place, word) in bytes[LINK..].as_chunks_mut().0.iter_mut().zip(ip.into_iter().chain(words)) {
        *place = word.to_be_bytes();
    }
    bytes
}
