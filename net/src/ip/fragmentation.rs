//! Datagrams larger than the path carries, sent as fragments; and the identifications that these need.
//!
//! A TCP connection never needs it. UDP does for datagrams that its user made larger than the MTU. Nothing is copied:
//! the pieces are slices.

use super::Key;
use demikernel_runtime::buffer::Sga;
use std::net::IpAddr;

/// How many counters there are: 8 KiB.
const COUNTERS: usize = 2048;

/// Identifications of packets: counters, each of some destinations, which begin at random values, and to which a
/// hash is added that only the key gives [rfc7739 5.3].
///
/// So one does not repeat within the longest time that a fragment may live as long as its counter does not go round,
/// and nobody sees from those that he gets how many another gets [rfc6864 4.3].
///
/// ```
/// use demikernel_net::ip::{Key, fragmentation::Identifications};
///
/// let mut identifications = Identifications::new(Key::new([7; 16]));
/// let (here, there) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
/// let first = identifications.next(here, there, 17);
/// assert_eq!(identifications.next(here, there, 17), first.wrapping_add(1));
/// ```
#[derive(Debug)]
pub struct Identifications {
    counters: Box<[u32]>,
    key: Key,
}

impl Identifications {
    /// All counters at values that the key gives.
    #[must_use]
    pub fn new(key: Key) -> Identifications {
        let counters = (0..COUNTERS as u32).map(|number| key.hash(PURPOSE_COUNTER, &number) as u32).collect();
        Identifications { counters, key }
    }

    /// For a packet that is about to be cut. IPv4 takes the low 16 bits, and an atomic datagram, which will never be
    /// cut, any value [rfc6864 4.1].
    pub fn next(&mut self, source: IpAddr, destination: IpAddr, protocol: u8) -> u32 {
        let hash = self.key.hash(PURPOSE_PLACE, &(source, destination, protocol));
        let place = (hash >> 32) as usize % COUNTERS;
        let counter = &mut self.counters[place];
        *counter = counter.wrapping_add(1);
        counter.wrapping_add(hash as u32)
    }
}

const PURPOSE_COUNTER: u64 = 0x6964_0001;
const PURPOSE_PLACE: u64 = 0x6964_0002;

/// A piece of a datagram.
#[derive(Debug)]
pub struct Piece {
    /// Where in the datagram it belongs: a multiple of 8.
    pub offset: u16,
    /// There are pieces behind this one.
    pub more: bool,
    /// Its bytes.
    pub payload: Sga,
}

/// The datagram is longer than IP can say, or the MTU has no room for 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the datagram cannot be cut")]
pub struct TooLong;

/// Cuts a datagram into pieces that fit behind headers of `headers` bytes into packets of `mtu`
/// [rfc791 3.2-fragmentation] [rfc8200 4.5-fragments]: all but the last have a multiple of 8 bytes, none overlaps.
/// For IPv6, `headers` counts the fragment header.
///
/// ```
/// use demikernel_net::ip::fragmentation::{TooLong, cut};
/// use demikernel_runtime::buffer::{Buffer, Sga};
///
/// let datagram = Sga::from(Buffer::from(vec![7; 3000]));
/// let pieces: Vec<_> = cut(datagram.clone(), 20, 1500)?.collect();
/// let places: Vec<_> = pieces.iter().map(|piece| (piece.offset, piece.payload.len(), piece.more)).collect();
/// assert_eq!(places, [(0, 1480, true), (1480, 1480, true), (2960, 40, false)]);
/// assert!(cut(datagram, 20, 24).is_err(), "there is no room for eight bytes");
/// # Ok::<(), TooLong>(())
/// ```
///
/// # Errors
/// If that is not possible.
pub fn cut(datagram: Sga, headers: usize, mtu: usize) -> Result<Pieces, TooLong> {
    let most = mtu.saturating_sub(headers) & !7;
    // A last fragment at the highest offset still has to end before 64 KiB, headers included.
    if most == 0 || datagram.len() + headers > usize::from(u16::MAX) {
        return Err(TooLong);
    }
    Ok(Pieces { rest: datagram, offset: 0, most, last: mtu - headers })
}

/// The pieces of a datagram, the first one first.
#[derive(Debug)]
pub struct Pieces {
    rest: Sga,
    offset: usize,
    most: usize,
    /// How much the last one may have, which need not be a multiple of 8.
    last: usize,
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if self.rest.is_empty() {
            return None;
        }
        let more = self.rest.len() > self.last;
        let length = if more { self.most } else { self.rest.len() };
        let piece = Piece { offset: self.offset as u16, more, payload: split_to(&mut self.rest, length) };
        self.offset += length;
        Some(piece)
    }
}

/// The first bytes, as slices of the same memory.
fn split_to(list: &mut Sga, mut count: usize) -> Sga {
    let mut front = Sga::new();
    while let Some(first) = list.first() {
        let part = first.slice(..first.len().min(count));
        count -= part.len();
        list.advance(part.len());
        front.push(part);
        if count == 0 {
            break;
        }
    }
    front
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::reassembly::{Fragment, Id, Limits, Outcome, Reassembly};
    use crate::wire::ip::Ecn;
    use demikernel_runtime::buffer::Buffer;
    use demikernel_runtime::time::Instant;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    fn cuts(length: usize, headers: usize, mtu: usize) -> Vec<(u16, usize, bool)> {
        let pieces = cut(Buffer::from(vec![7; length]).into(), headers, mtu).unwrap();
        pieces.map(|piece| (piece.offset, piece.payload.len(), piece.more)).collect()
    }

    #[test]
    fn a_datagram_is_cut_at_multiples_of_eight() {
        // [rfc791 3.2-fragmentation] [rfc8200 4.5-fragments]
        assert_eq!(cuts(4000, 20, 1500), [(0, 1480, true), (1480, 1480, true), (2960, 1040, false)]);
        assert_eq!(cuts(1480, 20, 1500), [(0, 1480, false)]);
        assert_eq!(cuts(1481, 20, 1500), [(0, 1480, true), (1480, 1, false)]);
        assert_eq!(cuts(2000, 48, 1280), [(0, 1232, true), (1232, 768, false)]);
        // The last one needs no multiple.
        assert_eq!(cuts(71, 20, 91), [(0, 71, false)]);
        assert_eq!(cuts(72, 20, 91), [(0, 64, true), (64, 8, false)]);
    }

    #[test]
    fn what_cannot_be_cut_is_refused() {
        assert!(cut(Buffer::from(vec![7; 65516]).into(), 20, 1500).is_err());
        assert!(cut(Buffer::from(vec![7; 65515]).into(), 20, 1500).is_ok());
        assert!(cut(Buffer::from(vec![7; 100]).into(), 20, 27).is_err());
        assert!(cut(Buffer::from(vec![7; 100]).into(), 20, 0).is_err());
    }

    #[test]
    fn identifications_do_not_repeat_soon_and_say_nothing_of_others() {
        // [rfc6864 4.3] [rfc6864 4.1]
        let mut ids = Identifications::new(Key::new([1; 16]));
        let seen: HashSet<u16> = (0..65536).map(|_| ids.next(address(1), address(2), 17) as u16).collect();
        assert_eq!(seen.len(), 65536);
        // [rfc7739 5.3] For another destination they begin elsewhere, and with another key too.
        let first =
            |key: u8, to: u32| Identifications::new(Key::new([key; 16])).next(address(1), address(to), 17);
        let firsts: HashSet<u32> = (0..1000).map(|to| first(1, to)).collect();
        assert!(firsts.len() > 990);
        assert_ne!(first(1, 2), first(2, 2));
        // What goes elsewhere does not show in the next.
        let before = ids.next(address(1), address(2), 17);
        (100..120).for_each(|to| _ = ids.next(address(1), address(to), 17));
        assert_eq!(ids.next(address(1), address(2), 17), before.wrapping_add(1));
    }

    proptest! {
        #[test]
        fn what_was_cut_is_reassembled(
            lengths in prop::collection::vec(1usize..3000, 1..6), mtu in 600usize..1600,
        ) {
            let datagram: Sga = lengths.iter().enumerate()
                .map(|(number, length)| Buffer::from(vec![number as u8; *length])).collect();
            let bytes = datagram.to_vec();
            let id = Id { source: address(1), destination: address(2), identification: 1, protocol: 17 };
            let mut reassembly = Reassembly::new(Limits::default(), Key::new([1; 16]));
            let mut whole = None;
            for piece in cut(datagram, 20, mtu).unwrap() {
                prop_assert!(piece.payload.len() + 20 <= mtu);
                let fragment = Fragment {
                    offset: piece.offset,
                    more: piece.more,
                    payload: piece.payload.to_vec().into(),
                    header: Buffer::new(),
                    next_header: 17,
                    ecn: Ecn::NotEct,
                };
                if let Outcome::Complete(packet) = reassembly.insert(Instant::from_nanos(0), id, fragment) {
                    whole = Some(packet.payload.to_vec());
                }
            }
            prop_assert_eq!(whole, Some(bytes));
        }
    }
}
