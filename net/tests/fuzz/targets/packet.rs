//! Packets whose checksums are right, whatever else is not: without that, hardly any got past the first check.

use demikernel_net::wire::checksum::Sum;
use demikernel_net::wire::ip::protocol;
use demikernel_net::wire::{ipv4, ipv6, udp};
use std::net::IpAddr;

/// A packet of IPv4 or IPv6 with this payload, as it is.
pub(crate) fn wrap(source: IpAddr, destination: IpAddr, number: u8, payload: &[u8]) -> Vec<u8> {
    let payload_len = payload.len().min(65_000) as u16;
    let mut bytes = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = ipv4::Header {
                source,
                destination,
                protocol: number,
                payload_len,
                ..ipv4::Header::default()
            };
            let mut bytes = vec![0; header.header_len()];
            header.emit(&mut bytes);
            bytes
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = ipv6::Header {
                source,
                destination,
                next_header: number,
                // What neighbours, and what routers say of groups, must have.
                hop_limit: if number == protocol::ICMPV6 { 255 } else { 1 },
                payload_len,
                ..ipv6::Header::default()
            };
            let mut bytes = vec![0; header.header_len()];
            header.emit(&mut bytes);
            bytes
        }
        _ => panic!("addresses of one version"),
    };
    bytes.extend_from_slice(&payload[..payload_len.into()]);
    bytes
}

/// Makes the checksums of a packet right, as far as there are such.
pub(crate) fn repair(packet: &mut [u8]) {
    match packet.first().map(|first| first >> 4) {
        Some(4) => repair_v4(packet),
        Some(6) => repair_v6(packet),
        _ => {}
    }
}

fn repair_v4(packet: &mut [u8]) {
    let start = usize::from(packet[0] & 0xf) * 4;
    if start < 20 || start > packet.len() {
        return;
    }
    packet[10..12].fill(0);
    let checksum = Sum::of(&packet[..start]).checksum();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    let Ok((header, payload)) = ipv4::Header::parse(packet) else { return };
    let addresses = (IpAddr::V4(header.source), IpAddr::V4(header.destination));
    repair_payload(addresses, header.protocol, &mut packet[payload]);
}

fn repair_v6(packet: &mut [u8]) {
    let Ok((header, whole)) = ipv6::Header::parse(packet) else { return };
    let Ok(chain) = ipv6::Chain::walk(&header, &packet[..whole.end]) else { return };
    let addresses = (IpAddr::V6(header.source), IpAddr::V6(header.destination));
    repair_payload(addresses, chain.protocol, &mut packet[chain.payload..whole.end]);
}

pub(crate) fn repair_payload((source, destination): (IpAddr, IpAddr), number: u8, payload: &mut [u8]) {
    let (place, with_addresses) = match number {
        protocol::ICMP | protocol::IGMP => (2, false),
        protocol::ICMPV6 => (2, true),
        protocol::TCP => (16, true),
        protocol::UDP => (6, true),
        _ => return,
    };
    if payload.len() < place + 2 {
        return;
    }
    let summed = match number {
        // What is behind the datagram is not part of it.
        protocol::UDP => udp::Header::parse(payload).map_or(payload.len(), |(_, data)| data.end),
        _ => payload.len(),
    };
    payload[place..place + 2].fill(0);
    let mut sum = Sum::of(&payload[..summed]);
    if with_addresses {
        sum = Sum::pseudo_header(source, destination, number, summed as u32).then(sum);
    }
    payload[place..place + 2].copy_from_slice(&sum.checksum().to_be_bytes());
}
