//! The Internet checksum (RFC 1071, 1624): partial sums over pieces of a packet, put together in any way.
//!
//! A [`Sum`] is the one's complement sum of bytes so far. It is kept in the machine's byte order in 64 bits, since
//! the sum does not depend on the order of bytes in a word, nor on when carries are added [rfc1071 2].
//!
//! ```
//! use demikernel_net::wire::checksum::Sum;
//!
//! let whole = Sum::of(b"odd pieces, too");
//! assert_eq!(Sum::of(b"odd").then(Sum::of(b" pieces, too")).checksum(), whole.checksum());
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[cfg_attr(target_arch = "x86_64", path = "checksum_avx2.rs")]
#[cfg_attr(not(target_arch = "x86_64"), path = "checksum_none.rs")]
mod wide;

/// Up to here the loop over words is expanded where it is called: headers with a short message are about this long.
const SHORT: usize = 96;

/// Bytes that one step of a loop takes.
const STEP: usize = 32;

/// A one's complement sum of bytes.
///
/// ```
/// use demikernel_net::wire::checksum::Sum;
///
/// // The example of RFC 1071 section 3.
/// let sum = Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
/// assert_eq!((sum.fold(), sum.checksum()), (0xddf2, 0x220d));
/// ```
#[derive(Clone, Copy, Default, Debug)]
#[must_use]
pub struct Sum {
    /// 16-bit words in the machine's byte order, with 48 bits of carries.
    words: u64,
    /// Whether what follows begins in the middle of a word.
    odd: bool,
}

impl Sum {
    /// Of no bytes.
    pub const ZERO: Sum = Sum { words: 0, odd: false };

    /// Of some bytes. 1460 of them take 36 ns, or 25 with AVX2; 64 take 3 (`cargo bench -p demikernel-net --bench wire`).
    ///
    /// ```
    /// use demikernel_net::wire::checksum::Sum;
    ///
    /// assert_eq!(Sum::of(&[0x12, 0x34, 0x56]).fold(), 0x1234 + 0x5600, "a zero stands behind the odd one");
    /// ```
    #[inline]
    pub fn of(bytes: &[u8]) -> Sum {
        let words = if bytes.len() <= SHORT { sum_words(0, bytes) } else { sum_long(bytes) };
        Sum { words, odd: bytes.len() % 2 == 1 }
    }

    /// Of a field of 16 bits.
    ///
    /// ```
    /// use demikernel_net::wire::checksum::Sum;
    ///
    /// assert_eq!(Sum::of_u16(0x0800).fold(), Sum::of(&[0x08, 0x00]).fold());
    /// ```
    #[inline]
    pub const fn of_u16(field: u16) -> Sum {
        Sum { words: field.to_be() as u64, odd: false }
    }

    /// Of a field of 32 bits.
    ///
    /// ```
    /// use demikernel_net::wire::checksum::Sum;
    ///
    /// assert_eq!(Sum::of_u32(0xffff_0002).fold(), 2, "the carry of 0xffff + 2 is added again");
    /// ```
    #[inline]
    pub const fn of_u32(field: u32) -> Sum {
        Sum { words: field.to_be() as u64, odd: false }
    }

    /// Of fields of 16 and 32 bits that begin at even places, given their plain sum as numbers.
    ///
    /// ```
    /// use demikernel_net::wire::checksum::Sum;
    ///
    /// let (source, destination, length) = (1234u16, 53u16, 13u16);
    /// let bytes = [source, destination, length].map(u16::to_be_bytes).concat();
    /// let fields = u64::from(source) + u64::from(destination) + u64::from(length);
    /// assert_eq!(Sum::of_fields(fields).fold(), Sum::of(&bytes).fold());
    /// ```
    #[inline]
    pub const fn of_fields(sum: u64) -> Sum {
        // That sum is of another byte order: its bytes have changed places in all words at once.
        Sum { words: if cfg!(target_endian = "little") { sum.rotate_left(8) } else { sum }, odd: false }
    }

    /// Of an IPv4 address.
    ///
    /// ```
    /// use demikernel_net::wire::checksum::Sum;
    ///
    /// assert_eq!(Sum::of_ipv4("192.0.2.1".parse().unwrap()).fold(), 0xc000 + 0x0201);
    /// ```
    #[inline]
    pub const fn of_ipv4(address: Ipv4Addr) -> Sum {
        Sum { words: u32::from_ne_bytes(address.octets()) as u64, odd: false }
    }

    /// Of an IPv6 address.
    ///
    /// ```
    /// use demikernel_net::wire::checksum::Sum;
    ///
    /// assert_eq!(Sum::of_ipv6("2001:db8::1".parse().unwrap()).fold(), 0x2001 + 0x0db8 + 1);
    /// ```
    #[inline]
    pub fn of_ipv6(address: Ipv6Addr) -> Sum {
        Sum { words: sum_words(0, &address.octets()), odd: false }
    }

    /// Of the pseudo-header of IPv4: TCP's and UDP's [rfc768 checksum].
    ///
    /// With a length of 0 it is the same for all segments of a connection; the length is then added as a field.
    ///
    /// ```
    /// use demikernel_net::wire::{checksum::Sum, ip::protocol};
    ///
    /// let (here, there) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    /// let of_connection = Sum::pseudo_header_v4(here, there, protocol::TCP, 0);
    /// let of_segment = Sum::pseudo_header_v4(here, there, protocol::TCP, 1480);
    /// assert_eq!(of_connection.then(Sum::of_u16(1480)).fold(), of_segment.fold());
    /// ```
    #[inline]
    pub const fn pseudo_header_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u16) -> Sum {
        Sum::of_ipv4(source)
            .then(Sum::of_ipv4(destination))
            .then(Sum::of_u16(protocol as u16))
            .then(Sum::of_u16(length))
    }

    /// Of the pseudo-header of IPv6 [rfc8200 8.1].
    ///
    /// ```
    /// use demikernel_net::wire::{checksum::Sum, ip::protocol};
    /// use std::net::Ipv6Addr;
    ///
    /// let (here, there): (Ipv6Addr, Ipv6Addr) = ("fe80::1".parse().unwrap(), "fe80::2".parse().unwrap());
    /// // Addresses, the length in 32 bits, and the protocol behind three zeros.
    /// let bytes = [&here.octets()[..], &there.octets(), &[0, 0, 0, 64], &[0, 0, 0, protocol::ICMPV6]].concat();
    /// let sum = Sum::pseudo_header_v6(here, there, protocol::ICMPV6, 64);
    /// assert_eq!(sum.fold(), Sum::of(&bytes).fold());
    /// ```
    #[inline]
    pub fn pseudo_header_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, length: u32) -> Sum {
        Sum::of_ipv6(source)
            .then(Sum::of_ipv6(destination))
            .then(Sum::of_u16(u16::from(protocol)))
            .then(Sum::of_u32(length))
    }

    /// Of the pseudo-header of the addresses' version.
    ///
    /// Addresses of two versions are summed as they are: no packet has such, and nothing matches the sum.
    ///
    /// ```
    /// use demikernel_net::wire::{checksum::Sum, ip::protocol};
    /// use std::net::Ipv4Addr;
    ///
    /// let (here, there) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
    /// let sum = Sum::pseudo_header(here.into(), there.into(), protocol::UDP, 13);
    /// assert_eq!(sum.fold(), Sum::pseudo_header_v4(here, there, protocol::UDP, 13).fold());
    /// ```
    #[inline]
    pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: u32) -> Sum {
        let address = |address| match address {
            IpAddr::V4(address) => Sum::of_ipv4(address),
            IpAddr::V6(address) => Sum::of_ipv6(address),
        };
        address(source)
            .then(address(destination))
            .then(Sum::of_u16(u16::from(protocol)))
            .then(Sum::of_u32(length))
    }

    /// Of these bytes with others behind them.
    ///
    /// ```
    /// use demikernel_net::wire::checksum::Sum;
    ///
    /// // What lies in several pieces of memory is summed piece by piece, whatever their lengths.
    /// let pieces: [&[u8]; 3] = [b"one", b"byte is odd", b"!"];
    /// let sum = pieces.iter().fold(Sum::ZERO, |sum, piece| sum.then(Sum::of(piece)));
    /// assert_eq!(sum.checksum(), Sum::of(b"onebyte is odd!").checksum());
    /// ```
    #[inline]
    pub const fn then(self, next: Sum) -> Sum {
        // In the middle of a word the other bytes change places, and so they do in their sum [rfc1071 2].
        let words = if self.odd { next.words.rotate_left(8) } else { next.words };
        Sum { words: add_with_carry(self.words, words), odd: self.odd != next.odd }
    }

    /// The sum itself as a field: what a device that completes a checksum wants to find in its place.
    ///
    /// ```
    /// use demikernel_net::wire::checksum::Sum;
    ///
    /// let (pseudo_header, segment) = (Sum::of_u32(0xc000_0201), b"a segment, its checksum still zero");
    /// // The device finds the folded sum in the field, as a part of what it adds up.
    /// let in_field = Sum::of_u16(pseudo_header.fold());
    /// let by_device = in_field.then(Sum::of(segment)).checksum();
    /// assert_eq!(by_device, pseudo_header.then(Sum::of(segment)).checksum());
    /// ```
    #[inline]
    #[must_use]
    pub const fn fold(self) -> u16 {
        // Each half plus the other: the upper half of the result has got the carry of the lower.
        let words = (self.words.wrapping_add(self.words.rotate_left(32)) >> 32) as u32;
        let words = (words.wrapping_add(words.rotate_left(16)) >> 16) as u16;
        u16::from_be(words)
    }

    /// The field that makes these bytes valid, if it was zero in the sum.
    ///
    /// ```
    /// use demikernel_net::wire::checksum::Sum;
    ///
    /// // The header of a datagram from 192.0.2.1 to 192.0.2.2.
    /// let mut header = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    /// let checksum = Sum::of(&header).checksum();
    /// header[10..12].copy_from_slice(&checksum.to_be_bytes());
    /// assert!(Sum::of(&header).is_valid());
    /// ```
    #[inline]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }

    /// Whether the bytes, with their checksum among them, are as they were sent [rfc1071 1-verify].
    ///
    /// ```
    /// use demikernel_net::wire::checksum::Sum;
    ///
    /// let checksum = Sum::of(b"data").checksum();
    /// let mut bytes = [&b"data"[..], &checksum.to_be_bytes()].concat();
    /// assert!(Sum::of(&bytes).is_valid());
    /// bytes[2] ^= 1;
    /// assert!(!Sum::of(&bytes).is_valid());
    /// bytes[2] ^= 1;
    /// bytes.swap(0, 2);
    /// assert!(Sum::of(&bytes).is_valid(), "that words have changed places goes unnoticed");
    /// ```
    #[inline]
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }
}

/// A checksum after a field that it covers has changed, by equation 3 of RFC 1624 [rfc1624 3].
///
/// That one gives 0 where summing anew gives 0, and never 0xffff for bytes that are not all zero.
///
/// ```
/// use demikernel_net::wire::checksum::{Sum, update};
///
/// let checksum = |time_to_live| Sum::of(&[0x45, 0, 0, 20, 0, 0, 0, 0, time_to_live, 17]).checksum();
/// // A router takes one off the time to live, which shares a word with the protocol.
/// assert_eq!(update(checksum(64), 0x4011, 0x3f11), checksum(63));
/// ```
#[inline]
#[must_use]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::of_u16(!checksum).then(Sum::of_u16(!old)).then(Sum::of_u16(new)).checksum()
}

/// [`update`] for a field of 32 bits.
///
/// ```
/// use demikernel_net::wire::checksum::{Sum, update_u32};
///
/// // A translator puts another address into a packet, of which it knows nothing else.
/// let (private, public) = ([10, 0, 0, 1], [192, 0, 2, 1]);
/// let checksum = |source: [u8; 4]| Sum::of(b"the rest").then(Sum::of(&source)).checksum();
/// let updated = update_u32(checksum(private), u32::from_be_bytes(private), u32::from_be_bytes(public));
/// assert_eq!(updated, checksum(public));
/// ```
#[inline]
#[must_use]
pub const fn update_u32(checksum: u16, old: u32, new: u32) -> u16 {
    Sum::of_u16(!checksum).then(Sum::of_u32(!old)).then(Sum::of_u32(new)).checksum()
}

#[inline]
const fn add_with_carry(one: u64, other: u64) -> u64 {
    let (sum, carry) = one.overflowing_add(other);
    sum + carry as u64
}

#[inline]
fn sum_words(mut sum: u64, bytes: &[u8]) -> u64 {
    // A step of four words has no test between them: of a short message there are one or two.
    let (steps, rest) = bytes.as_chunks::<STEP>();
    for step in steps {
        let (words, _) = step.as_chunks::<8>();
        sum = words.iter().fold(sum, |sum, word| add_with_carry(sum, u64::from_ne_bytes(*word)));
    }
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        sum = add_with_carry(sum, u64::from_ne_bytes(*word));
    }
    if rest.is_empty() { sum } else { add_with_carry(sum, sum_rest(rest)) }
}

/// Of fewer than eight bytes. The last one of an odd number has a zero behind it [rfc1071 1-odd].
#[inline]
fn sum_rest(bytes: &[u8]) -> u64 {
    let (double_words, bytes) = bytes.as_chunks::<4>();
    let (words, bytes) = bytes.as_chunks::<2>();
    let mut sum = 0;
    if let [double_word] = double_words {
        sum += u64::from(u32::from_ne_bytes(*double_word));
    }
    if let [word] = words {
        sum += u64::from(u16::from_ne_bytes(*word));
    }
    if let [byte] = bytes {
        sum += u64::from(u16::from_ne_bytes([*byte, 0]));
    }
    sum
}

/// Of many bytes, with the widest registers that the processor has.
#[inline(never)]
fn sum_long(bytes: &[u8]) -> u64 {
    wide::sum(bytes).unwrap_or_else(|| sum_lanes::<STEP, { STEP / 4 }>(bytes))
}

/// Adds 32-bit words in 64-bit lanes, which LLVM vectorises, and which needs no carries: a slice would have to have
/// 16 GiB. A chain of 64-bit additions with carry takes more than twice as long.
#[inline(always)]
fn sum_lanes<const STEP: usize, const LANES: usize>(bytes: &[u8]) -> u64 {
    let (steps, rest) = bytes.as_chunks::<STEP>();
    let mut lanes = [0u64; LANES];
    for step in steps {
        let (double_words, _) = step.as_chunks::<4>();
        for (lane, double_word) in lanes.iter_mut().zip(double_words) {
            *lane = lane.wrapping_add(u64::from(u32::from_ne_bytes(*double_word)));
        }
    }
    sum_words(lanes.into_iter().fold(0, u64::wrapping_add), rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn registers_of_any_width_give_the_same(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let plain = Sum { words: sum_lanes::<STEP, { STEP / 4 }>(&bytes), odd: false }.fold();
            if let Some(words) = wide::sum(&bytes) {
                prop_assert_eq!(Sum { words, odd: false }.fold(), plain);
            }
            prop_assert_eq!(Sum::of(&bytes).fold(), plain);
        }
    }

    /// Word by word as RFC 1071 section 1 puts it, big-endian, carries at once.
    fn by_the_book(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn the_example_of_rfc_1071() {
        // Section 3: its sum is ddf2.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::of(&bytes).fold(), 0xddf2);
        assert_eq!(Sum::of(&bytes).checksum(), 0x220d);
        assert_eq!(
            Sum::of_u32(0x0001_f203).then(Sum::of_u16(0xf4f5)).then(Sum::of_u16(0xf6f7)).fold(),
            0xddf2
        );
    }

    #[test]
    fn a_well_known_header() {
        let mut header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00, 0xc0, 0xa8, 0x00, 0x01,
            0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert_eq!(Sum::of(&header).checksum(), 0xb861);
        header[10..12].copy_from_slice(&[0xb8, 0x61]);
        // [rfc1071 1-verify]
        assert!(Sum::of(&header).is_valid());
        header[3] ^= 1;
        assert!(!Sum::of(&header).is_valid());
    }

    #[test]
    fn the_end_of_an_odd_number_is_padded_behind() {
        // [rfc1071 1-odd]
        assert_eq!(Sum::of(&[0x12]).fold(), 0x1200);
        assert_eq!(Sum::of(&[0x12, 0x34, 0x56]).fold(), 0x1234 + 0x5600);
    }

    #[test]
    fn the_update_where_rfc_1141_was_wrong() {
        // RFC 1624 section 4: the checksum is dd2f, a word goes from 5555 to 3285, and becomes 0000, not ffff.
        // [rfc1624 3]
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn pseudo_headers_are_the_sums_of_their_bytes() {
        // [rfc768 checksum]
        let v4 = [192, 0, 2, 1, 198, 51, 100, 2, 0, 17, 0x12, 0x34];
        let sum =
            Sum::pseudo_header_v4(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 2), 17, 0x1234);
        assert_eq!(sum.fold(), by_the_book(&v4));
        // [rfc8200 8.1]
        let (one, other): (Ipv6Addr, Ipv6Addr) =
            ("2001:db8::1".parse().unwrap(), "fe80::aaaa:5".parse().unwrap());
        let mut v6 = [one.octets(), other.octets()].concat();
        v6.extend([0, 1, 0x23, 0x45, 0, 0, 0, 6]);
        assert_eq!(Sum::pseudo_header_v6(one, other, 6, 0x12345).fold(), by_the_book(&v6));
        assert_eq!(Sum::pseudo_header(one.into(), other.into(), 6, 0x12345).fold(), by_the_book(&v6));
    }

    #[test]
    fn no_length_overflows() {
        for length in 0..300 {
            let bytes = vec![0xff; length];
            assert_eq!(Sum::of(&bytes).fold(), by_the_book(&bytes), "{length}");
        }
        let bytes = vec![0xff; 1 << 20];
        assert_eq!(Sum::of(&bytes).fold(), 0xffff);
    }

    proptest! {
        #[test]
        fn sums_are_those_of_the_book(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(Sum::of(&bytes).fold(), by_the_book(&bytes));
        }

        #[test]
        fn pieces_of_any_length_make_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            mut cuts in prop::collection::vec(0usize..600, 0..8),
        ) {
            // [rfc1071 2]
            cuts.iter_mut().for_each(|cut| *cut = (*cut).min(bytes.len()));
            cuts.sort_unstable();
            let (mut sum, mut start) = (Sum::ZERO, 0);
            for cut in cuts.into_iter().chain([bytes.len()]) {
                sum = sum.then(Sum::of(&bytes[start..cut]));
                start = cut;
            }
            prop_assert_eq!(sum.fold(), by_the_book(&bytes));
        }

        #[test]
        fn updates_are_sums_anew(
            mut bytes in prop::collection::vec(any::<u8>(), 6..64),
            field: u32,
        ) {
            prop_assume!(bytes[4..].iter().any(|byte| *byte != 0));
            let checksum = Sum::of(&bytes).checksum();
            let old = u32::from_be_bytes(*bytes.first_chunk().unwrap());
            bytes[..4].copy_from_slice(&field.to_be_bytes());
            prop_assert_eq!(update_u32(checksum, old, field), Sum::of(&bytes).checksum());
            bytes[..2].copy_from_slice(&(old as u16).to_be_bytes());
            let anew = update(update_u32(checksum, old, field), (field >> 16) as u16, old as u16);
            prop_assert_eq!(anew, Sum::of(&bytes).checksum());
        }
    }
}
