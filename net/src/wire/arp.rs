//! ARP between Ethernet and IPv4 addresses (RFC 826).

use super::Malformed;
use super::ethernet::{MacAddress, ether_type};
use std::net::Ipv4Addr;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a packet.
pub const PACKET: usize = 28;

/// What RFC 826 calls `ares_hrd$Ethernet`.
const ETHERNET: u16 = 1;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    hardware: U16,
    protocol: U16,
    hardware_length: u8,
    protocol_length: u8,
    operation: U16,
    sender_hardware: [u8; 6],
    sender_protocol: [u8; 4],
    target_hardware: [u8; 6],
    target_protocol: [u8; 4],
}

const _: () = assert!(size_of::<Layout>() == PACKET);

/// Whether somebody asks or answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum Operation {
    /// Who has the target's protocol address?
    Request = 1,
    /// The sender has its protocol address.
    Reply = 2,
}

/// A packet, as a value.
///
/// ```
/// use demikernel_net::wire::arp::{Operation, PACKET, Packet};
/// use demikernel_net::wire::ethernet::MacAddress;
/// use std::net::Ipv4Addr;
///
/// let question = Packet {
///     operation: Operation::Request,
///     sender_hardware: MacAddress([2, 0, 0, 0, 0, 1]),
///     sender_protocol: Ipv4Addr::new(192, 0, 2, 1),
///     target_hardware: MacAddress::default(),
///     target_protocol: Ipv4Addr::new(192, 0, 2, 2),
/// };
/// let mut bytes = [0; PACKET];
/// question.emit(&mut bytes);
/// assert_eq!(Packet::parse(&bytes), Ok(question));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Question or answer.
    pub operation: Operation,
    /// The sender's Ethernet address.
    pub sender_hardware: MacAddress,
    /// The sender's IPv4 address; 0.0.0.0 in a probe (RFC 5227).
    pub sender_protocol: Ipv4Addr,
    /// The target's Ethernet address; of no meaning in a question.
    pub target_hardware: MacAddress,
    /// The target's IPv4 address; the sender's own in an announcement (RFC 5227).
    pub target_protocol: Ipv4Addr,
}

impl Packet {
    /// A packet; what is behind it pads the frame.
    ///
    /// ```
    /// use demikernel_net::ip::conflict;
    /// use demikernel_net::wire::{Malformed, arp::{PACKET, Packet}, ethernet::MacAddress};
    ///
    /// let probe = conflict::probe(MacAddress([2, 0, 0, 0, 0, 1]), "192.0.2.7".parse().unwrap());
    /// // Ethernet frames have 46 bytes at least: what is behind the packet is padding.
    /// let mut bytes = [0xff; 46];
    /// probe.emit(&mut bytes);
    /// assert_eq!(Packet::parse(&bytes), Ok(probe));
    ///
    /// assert_eq!(Packet::parse(&bytes[..PACKET - 1]), Err(Malformed::Truncated));
    /// bytes[5] = 16;
    /// assert_eq!(Packet::parse(&bytes), Err(Malformed::Length), "no protocol address has 16 bytes");
    /// ```
    ///
    /// # Errors
    /// If it does not fit into the bytes, or it is not about Ethernet and IPv4, or does neither ask nor answer
    /// [rfc826 reception].
    pub fn parse(bytes: &[u8]) -> Result<Packet, Malformed> {
        let (layout, _) = Layout::ref_from_prefix(bytes).map_err(|_| Malformed::Truncated)?;
        if layout.hardware.get() != ETHERNET || layout.protocol.get() != ether_type::IPV4 {
            return Err(Malformed::Value);
        }
        if (layout.hardware_length, layout.protocol_length) != (6, 4) {
            return Err(Malformed::Length);
        }
        Ok(Packet {
            operation: match layout.operation.get() {
                1 => Operation::Request,
                2 => Operation::Reply,
                _ => return Err(Malformed::Value),
            },
            sender_hardware: MacAddress(layout.sender_hardware),
            sender_protocol: layout.sender_protocol.into(),
            target_hardware: MacAddress(layout.target_hardware),
            target_protocol: layout.target_protocol.into(),
        })
    }

    /// Bytes that [`emit`](Packet::emit) writes.
    #[must_use]
    pub const fn header_len(&self) -> usize {
        PACKET
    }

    /// Writes the packet to the beginning of `bytes` [rfc826 generation].
    ///
    /// ```
    /// use demikernel_net::ip::conflict;
    /// use demikernel_net::wire::{arp::PACKET, ethernet::MacAddress};
    ///
    /// let mut bytes = [0; PACKET];
    /// conflict::probe(MacAddress([2, 0, 0, 0, 0, 1]), "192.0.2.7".parse().unwrap()).emit(&mut bytes);
    /// assert_eq!(bytes[..8], [0, 1, 8, 0, 6, 4, 0, 1], "Ethernet, IPv4, their lengths, a request");
    /// assert_eq!(bytes[24..], [192, 0, 2, 7], "the address that is asked for");
    /// ```
    ///
    /// # Panics
    /// If there are fewer than [`PACKET`] bytes.
    pub fn emit(&self, bytes: &mut [u8]) {
        let layout = Layout {
            hardware: ETHERNET.into(),
            protocol: ether_type::IPV4.into(),
            hardware_length: 6,
            protocol_length: 4,
            operation: (self.operation as u16).into(),
            sender_hardware: self.sender_hardware.0,
            sender_protocol: self.sender_protocol.octets(),
            target_hardware: self.target_hardware.0,
            target_protocol: self.target_protocol.octets(),
        };
        layout.write_to_prefix(bytes).expect("there is room for the packet");
    }

    /// The answer to a question about an address that `hardware` has: source and target change places
    /// [rfc826 reply].
    ///
    /// ```
    /// use demikernel_net::wire::{arp::{Operation, Packet}, ethernet::MacAddress};
    /// use std::net::Ipv4Addr;
    ///
    /// let question = Packet {
    ///     operation: Operation::Request,
    ///     sender_hardware: MacAddress([2, 0, 0, 0, 0, 1]),
    ///     sender_protocol: Ipv4Addr::new(192, 0, 2, 1),
    ///     target_hardware: MacAddress::default(),
    ///     target_protocol: Ipv4Addr::new(192, 0, 2, 2),
    /// };
    /// let answer = question.reply(MacAddress([2, 0, 0, 0, 0, 2]));
    /// assert_eq!(answer.operation, Operation::Reply);
    /// assert_eq!((answer.sender_protocol, answer.sender_hardware.0[5]), (question.target_protocol, 2));
    /// assert_eq!((answer.target_protocol, answer.target_hardware.0[5]), (question.sender_protocol, 1));
    /// ```
    #[must_use]
    pub const fn reply(&self, hardware: MacAddress) -> Packet {
        Packet {
            operation: Operation::Reply,
            sender_hardware: hardware,
            sender_protocol: self.target_protocol,
            target_hardware: self.sender_hardware,
            target_protocol: self.sender_protocol,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{hex, mutations, truncate_everywhere};
    use etherparse::{ArpEthIpv4Packet, ArpOperation, ArpPacket, ArpPacketSlice};
    use proptest::prelude::*;

    const REQUEST: &str = "0001 0800 0604 0001 020000000001 c0000201 000000000000 c0000202";

    fn request() -> Packet {
        Packet {
            operation: Operation::Request,
            sender_hardware: MacAddress([2, 0, 0, 0, 0, 1]),
            sender_protocol: Ipv4Addr::new(192, 0, 2, 1),
            target_hardware: MacAddress::default(),
            target_protocol: Ipv4Addr::new(192, 0, 2, 2),
        }
    }

    fn emitted(packet: &Packet) -> Vec<u8> {
        let mut bytes = vec![0xa5; packet.header_len()];
        packet.emit(&mut bytes);
        bytes
    }

    #[test]
    fn known_bytes_both_ways() {
        // [rfc826 generation]
        assert_eq!(Packet::parse(&hex(REQUEST)), Ok(request()));
        assert_eq!(emitted(&request()), hex(REQUEST));
        truncate_everywhere(&hex(&format!("{REQUEST} 0000 0000")), 28, Packet::parse);
    }

    #[test]
    fn an_answer_goes_back_to_who_asked() {
        // [rfc826 reply]
        let reply = request().reply(MacAddress([2, 0, 0, 0, 0, 2]));
        let expected = hex("0001 0800 0604 0002 020000000002 c0000202 020000000001 c0000201");
        assert_eq!(emitted(&reply), expected);
    }

    #[test]
    fn other_hardware_protocols_lengths_and_operations_are_refused() {
        // [rfc826 reception]
        let table = [
            (1, 6, Malformed::Value),
            (3, 6, Malformed::Value),
            (4, 8, Malformed::Length),
            (5, 16, Malformed::Length),
            (7, 0, Malformed::Value),
            (7, 3, Malformed::Value),
        ];
        for (place, value, error) in table {
            let mut bytes = hex(REQUEST);
            bytes[place] = value;
            assert_eq!(Packet::parse(&bytes), Err(error));
        }
    }

    #[test]
    fn a_corpus_of_broken_packets_parses_or_is_refused() {
        for bytes in mutations(&hex(REQUEST)) {
            if let Ok(packet) = Packet::parse(&bytes) {
                assert_eq!(emitted(&packet), bytes[..PACKET]);
            }
        }
    }

    proptest! {
        #[test]
        fn etherparse_agrees_both_ways(
            asks: bool, hardware: ([u8; 6], [u8; 6]), protocol: ([u8; 4], [u8; 4]),
        ) {
            let operation = if asks { Operation::Request } else { Operation::Reply };
            let packet = Packet {
                operation,
                sender_hardware: MacAddress(hardware.0),
                sender_protocol: protocol.0.into(),
                target_hardware: MacAddress(hardware.1),
                target_protocol: protocol.1.into(),
            };
            let other = ArpEthIpv4Packet {
                operation: ArpOperation(operation as u16),
                sender_mac: hardware.0,
                sender_ipv4: protocol.0,
                target_mac: hardware.1,
                target_ipv4: protocol.1,
            };
            let bytes = emitted(&packet);
            prop_assert_eq!(&bytes, &ArpPacket::from(other.clone()).to_bytes().to_vec());
            prop_assert_eq!(ArpPacketSlice::from_slice(&bytes).unwrap().to_packet(), ArpPacket::from(other));
            prop_assert_eq!(Packet::parse(&bytes), Ok(packet));
        }

        #[test]
        fn anything_parses_or_is_refused(rest in prop::collection::vec(any::<u8>(), 0..40), known: bool) {
            let mut bytes = if known { hex("0001 0800 0604 00") } else { Vec::new() };
            bytes.extend(rest);
            let _ = Packet::parse(&bytes);
        }
    }
}
