//! The other end of a connection: it knows what the host has sent, and writes segments that fit, or nearly so.

use super::packet::{repair_payload, wrap};
use demikernel_net::wire::checksum::Sum;
use demikernel_net::wire::ip::{Version, protocol};
use demikernel_net::wire::tcp::{Flags, Options, Segment, SequenceNumber, Timestamps};
use demikernel_net::wire::{icmpv4, icmpv6, ipv4, ipv6, tcp, udp};
use std::net::IpAddr;

pub(crate) struct Peer {
    /// The host's address, and that of this peer.
    pub(crate) here: IpAddr,
    pub(crate) there: IpAddr,
    /// The host's port, and this peer's.
    pub(crate) local: u16,
    pub(crate) port: u16,
    /// The end of what the host has sent, and what it expects.
    pub(crate) sent: SequenceNumber,
    pub(crate) expected: SequenceNumber,
    /// Options of SYNs; whether timestamps came back.
    pub(crate) syn: Options,
    timestamp: Option<u32>,
    clock: u32,
    /// The host's last packet.
    pub(crate) last: Vec<u8>,
}

impl Peer {
    pub(crate) fn new(v6: bool, syn: Options) -> Peer {
        let address = |number: u8| match v6 {
            true => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)]),
            false => IpAddr::from([10, 0, 0, number]),
        };
        let start = SequenceNumber::new(0xffff_fff0);
        Peer {
            here: address(1),
            there: address(2),
            local: 80,
            port: 5000,
            sent: start,
            expected: start,
            syn,
            timestamp: None,
            clock: 0,
            last: Vec::new(),
        }
    }

    /// Forgets the connection: another one begins, from another port.
    pub(crate) fn start_over(&mut self, local: u16, port: u16) {
        (self.local, self.port) = (local, port);
        self.timestamp = None;
    }

    /// The segment that comes next in order, with these flags.
    pub(crate) fn segment(&mut self, flags: Flags) -> Segment {
        self.clock += 1;
        let options = if flags.contains(Flags::SYN) {
            let timestamps = self
                .syn
                .timestamps
                .map(|_| Timestamps { value: self.clock, echo: self.timestamp.unwrap_or(0) });
            Options { timestamps, ..self.syn }
        } else {
            let timestamps = self.timestamp.map(|echo| Timestamps { value: self.clock, echo });
            Options { timestamps, ..Options::default() }
        };
        Segment {
            source: self.port,
            destination: self.local,
            sequence: self.expected,
            acknowledgment: if flags.contains(Flags::ACK) { self.sent } else { SequenceNumber::new(0) },
            flags,
            window: 20_000,
            urgent: 0,
            options,
        }
    }

    /// The packet of a segment; other options, if some are given, stand in the place of its own.
    pub(crate) fn packet(&self, segment: &Segment, options: Option<&[u8]>, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; segment.header_len()];
        let _ = segment.emit(&mut bytes);
        if let Some(options) = options {
            bytes.truncate(tcp::MINIMUM_HEADER);
            bytes.extend_from_slice(&options[..options.len().min(40) / 4 * 4]);
            bytes[12] = (bytes.len() / 4 * 16) as u8;
        }
        bytes.extend_from_slice(payload);
        repair_payload((self.there, self.here), protocol::TCP, &mut bytes);
        wrap(self.there, self.here, protocol::TCP, &bytes)
    }

    /// Looks at a packet of the host's, which must be as it should.
    pub(crate) fn see(&mut self, packet: Vec<u8>, mtu: usize) {
        assert!(packet.len() <= mtu, "{} bytes", packet.len());
        let (addresses, number, range) = match packet[0] >> 4 {
            4 => {
                let (header, payload) = ipv4::Header::parse(&packet).expect("a packet of IPv4");
                let addresses = (IpAddr::V4(header.source), IpAddr::V4(header.destination));
                (addresses, if header.is_fragment() { 255 } else { header.protocol }, payload)
            }
            _ => {
                let (header, payload) = ipv6::Header::parse(&packet).expect("a packet of IPv6");
                let chain = ipv6::Chain::walk(&header, &packet).expect("headers of ours");
                let addresses = (IpAddr::V6(header.source), IpAddr::V6(header.destination));
                let number = if chain.fragment.is_some() { 255 } else { chain.protocol };
                (addresses, number, chain.payload..payload.end)
            }
        };
        self.see_payload(addresses, number, &packet[range]);
        self.last = packet;
    }

    fn see_payload(&mut self, addresses: (IpAddr, IpAddr), number: u8, payload: &[u8]) {
        let pseudo_header = Sum::pseudo_header(addresses.0, addresses.1, number, payload.len() as u32);
        match number {
            protocol::TCP => {
                tcp::verify(pseudo_header, payload).expect("a checksum that is right");
                let (segment, start) = Segment::parse(payload).expect("a segment");
                if (segment.source, segment.destination) == (self.local, self.port) {
                    self.see_segment(&segment, payload.len() - start);
                }
            }
            protocol::UDP => {
                udp::verify(Version::V6, pseudo_header, payload).expect("a checksum that is right");
            }
            protocol::ICMP => drop(icmpv4::Message::parse(payload).expect("a message")),
            protocol::ICMPV6 => drop(icmpv6::Message::parse(payload, pseudo_header).expect("a message")),
            _ => {}
        }
    }

    fn see_segment(&mut self, segment: &Segment, length: usize) {
        let flag = |flag| u32::from(segment.flags.contains(flag));
        let end = segment.sequence + length as u32 + flag(Flags::SYN) + flag(Flags::FIN);
        let is_first = segment.flags.contains(Flags::SYN);
        self.sent = if is_first { end } else { self.sent.latest(end) };
        if segment.flags.contains(Flags::ACK) && !segment.flags.contains(Flags::RST) {
            self.expected = segment.acknowledgment;
        }
        self.timestamp = segment.options.timestamps.map(|timestamps| timestamps.value).or(self.timestamp);
    }
}
