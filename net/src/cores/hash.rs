//! Which core a flow is of: the Toeplitz hash of receive side scaling, and the table that it is looked up in.
//!
//! The key repeats itself every 16 bits. So both directions of a flow have one hash, and the hash of many words is that
//! of their sum (exclusive or) as one word: what devices compute bit by bit costs two look-ups here.

use std::net::IpAddr;

/// The word that the key consists of: the one with which flows that differ in little are spread best
/// (Woo and Park, Scalable TCP session monitoring with symmetric receive-side scaling, 2012).
const WORD: u16 = 0x6d5a;

/// Places of a table that no device has.
const PLACES: u16 = 128;

/// The key in the form of devices, of any length.
#[cfg_attr(not(feature = "dpdk"), allow(dead_code))]
pub(crate) fn key(length: usize) -> Vec<u8> {
    WORD.to_be_bytes().into_iter().cycle().take(length).collect()
}

/// The hash of one word under that key.
const fn of_word(word: u16) -> u32 {
    let window = (WORD as u32) << 16 | WORD as u32;
    let (mut hash, mut bit) = (0, 0);
    while bit < 16 {
        if word & 0x8000 >> bit != 0 {
            hash ^= window.rotate_left(bit);
        }
        bit += 1;
    }
    hash
}

const fn of_bytes(shift: u32) -> [u32; 256] {
    let mut hashes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        hashes[byte] = of_word((byte as u16) << shift);
        byte += 1;
    }
    hashes
}

static HIGH: [u32; 256] = of_bytes(8);
static LOW: [u32; 256] = of_bytes(0);

/// All 16-bit words of an address in one.
#[inline]
fn fold(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            let half = (bits >> 64) as u64 ^ bits as u64;
            (half >> 32) as u32 ^ half as u32
        }
    }
}

/// The hash of two ends.
#[inline]
pub(crate) fn of_flow(one: IpAddr, one_port: u16, other: IpAddr, other_port: u16) -> u32 {
    let addresses = fold(one) ^ fold(other);
    let word = (addresses >> 16) as u16 ^ addresses as u16 ^ one_port ^ other_port;
    HIGH[usize::from(word >> 8)] ^ LOW[usize::from(word & 0xff)]
}

/// Which core has which hashes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Table(Box<[u8]>);

impl Table {
    /// All in turn.
    pub(crate) fn even(cores: usize) -> Table {
        Table((0..usize::from(PLACES)).map(|place| (place % cores) as u8).collect())
    }

    /// That of a device, by the queues it names, if it is one that can be used here.
    #[cfg_attr(not(feature = "dpdk"), allow(dead_code))]
    pub(crate) fn of_device(queues: &[u16], cores: usize) -> Option<Table> {
        let names = |core: usize| queues.iter().any(|queue| usize::from(*queue) == core);
        let fits = (0..cores).all(names) && queues.iter().all(|queue| usize::from(*queue) < cores);
        fits.then(|| Table(queues.iter().map(|queue| *queue as u8).collect()))
    }

    /// The core of a hash.
    #[inline]
    pub(crate) fn core(&self, hash: u32) -> usize {
        self.0[hash as usize % self.0.len()].into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As devices do it: for each bit of the input that is set, the 32 bits of the key that begin there.
    fn bit_by_bit(input: &[u8]) -> u32 {
        let key = key(input.len() + 4);
        let bits = |from: usize| {
            let byte = |index: usize| u64::from(key.get(from / 8 + index).copied().unwrap_or(0));
            let window = (0..5).fold(0, |window, index| window << 8 | byte(index));
            (window >> (8 - from % 8)) as u32
        };
        let is_set = |bit: &usize| input[bit / 8] & 0x80 >> (bit % 8) != 0;
        (0..input.len() * 8).filter(is_set).fold(0, |hash, bit| hash ^ bits(bit))
    }

    #[test]
    fn it_is_the_hash_of_devices() {
        let (one, other) = ("10.1.2.3".parse().unwrap(), "192.168.255.9".parse().unwrap());
        let mut input = vec![10, 1, 2, 3, 192, 168, 255, 9];
        input.extend([0xc3, 0x50, 0x18, 0xeb]);
        assert_eq!(of_flow(one, 0xc350, other, 0x18eb), bit_by_bit(&input));
        let [one, other]: [std::net::Ipv6Addr; 2] =
            ["fd00::1:2:3", "2001:db8:1:2:3:4:5:6"].map(|address| address.parse().unwrap());
        let mut input = [one.octets(), other.octets()].concat();
        input.extend([0x12, 0x34, 0x56, 0x78]);
        assert_eq!(of_flow(one.into(), 0x1234, other.into(), 0x5678), bit_by_bit(&input));
    }

    #[test]
    fn both_directions_have_one_hash_and_flows_are_spread() {
        let (one, other): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        for cores in [2, 3, 5, 8] {
            let table = Table::even(cores);
            let mut flows = vec![0; cores];
            for port in 32_768..60_999 {
                let hash = of_flow(one, port, other, 80);
                assert_eq!(hash, of_flow(other, 80, one, port));
                flows[table.core(hash)] += 1;
            }
            let (least, most) = (flows.iter().min().unwrap(), flows.iter().max().unwrap());
            assert!(*least * 3 > *most * 2, "{flows:?}");
        }
    }

    #[test]
    fn a_device_that_names_other_queues_is_not_followed() {
        assert_eq!(Table::of_device(&[0, 1, 0, 1], 2).unwrap().core(5), 1);
        assert_eq!(Table::of_device(&[0, 1, 2], 2), None);
        assert_eq!(Table::of_device(&[0, 0], 2), None);
        assert_eq!(Table::of_device(&[], 2), None);
    }
}
