//! A pair of queues of a DPDK port.
//!
//! What arrives is in memory that the device wrote to, and what is sent is read from where it is; see
//! [`demikernel_dpdk`].

use super::{Capabilities, Frame, FrameDevice, MacAddress, Medium, Received};
use crate::wire::ethernet::{self, ether_type};
use demikernel_dpdk::{Checksum, Outgoing, Queue};
use demikernel_runtime::buffer::{Buffer, Sga};
use std::collections::HashSet;
use std::io;
use std::os::fd::RawFd;
use std::sync::Mutex;

/// The most that one segment may carry for a device to cut: an mbuf, which may have to hold all of a frame, has 16 bits
/// for its length, as an IP packet has.
const SEGMENTATION: usize = 65_535 - 256;

/// Where a TCP header has its checksum, and a UDP header.
const TCP_CHECKSUM: u16 = 16;
const UDP_CHECKSUM: u16 = 6;

/// A pair of queues of a DPDK port as a [`FrameDevice`].
#[derive(Debug)]
pub struct Dpdk {
    queue: Queue,
    capabilities: Capabilities,
}

impl Dpdk {
    /// The device of a queue, with another Ethernet address than the port's if one is given.
    pub fn new(queue: Queue, address: Option<MacAddress>) -> Dpdk {
        let port = queue.port();
        let address = address.unwrap_or(MacAddress(port.mac()));
        let can = port.can();
        let mut capabilities = Capabilities::new(Medium::Ethernet(address), port.mtu().into());
        capabilities.scatter = can.segments;
        capabilities.transmit_ip_checksum = can.ip_checksum && can.l4_checksum;
        capabilities.transmit_l4_checksum = can.l4_checksum;
        capabilities.segmentation = if can.segmentation && can.segments { SEGMENTATION } else { 0 };
        capabilities.queues = port.queues();
        Dpdk { queue, capabilities }
    }
}

impl FrameDevice for Dpdk {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    #[inline]
    fn receive(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        let count = self.queue.receive(|packet| {
            burst.push(Frame {
                received: Received {
                    ip_checksum_good: packet.ip_checksum_good,
                    l4_checksum_good: packet.l4_checksum_good,
                    hash: packet.hash,
                    passed: 0,
                },
                head: packet.head,
                rest: packet.rest,
                ..Frame::default()
            });
        });
        Ok(count)
    }

    #[inline]
    fn transmit(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        Ok(self.queue.transmit(burst))
    }

    fn descriptor(&self) -> Option<RawFd> {
        self.queue.descriptor()
    }

    fn arm(&mut self) -> bool {
        self.queue.arm()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let counters = self.queue.counters();
        let (receiving, under_way) = self.queue.held();
        let own = [
            ("frames received", counters.received),
            ("frames transmitted", counters.transmitted),
            ("frames without a buffer", counters.no_buffer),
            ("frames in too many pieces", counters.pieces),
            ("frames with a wrong checksum", counters.bad_checksum),
            ("frames copied in", counters.copied_in),
            ("frames copied out", counters.copied_out),
            ("checksums left to the device", counters.offloaded),
            ("segments left to the device to cut", counters.segmented),
            ("frames the device refused", counters.refused),
            ("frames lost while the link was down", counters.link_down),
            ("bursts that met a full ring", counters.full),
            ("packet buffers to receive in", receiving as u64),
            ("packet buffers under way", under_way as u64),
            ("changes of the link", self.queue.port().link_changes()),
        ];
        let of_port = self.queue.port().counters();
        own.into_iter().chain(of_port.into_iter().map(|(name, value)| (interned(name), value))).collect()
    }
}

/// A name of a counter for good: each driver has a few dozens.
fn interned(name: String) -> &'static str {
    static NAMES: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut names = NAMES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let names = names.get_or_insert_default();
    if let Some(known) = names.get(name.as_str()) {
        return known;
    }
    let name: &'static str = String::leak(name);
    names.insert(name);
    name
}

impl Outgoing for Frame {
    #[inline]
    fn head(&self) -> &Buffer {
        &self.head
    }

    #[inline]
    fn rest(&self) -> &Sga {
        &self.rest
    }

    #[inline]
    fn checksum(&self) -> Checksum {
        match (self.checksum.l4, self.checksum.ip) {
            (None, None) => Checksum::default(),
            _ => checksum(self).unwrap_or_default(),
        }
    }
}

/// Offsets and lengths in DPDK's terms. `None` if the frame does not have the headers that it names.
#[inline]
fn checksum(frame: &Frame) -> Option<Checksum> {
    let (header, l2) = ethernet::Header::parse(&frame.head).ok()?;
    let v6 = header.ether_type == ether_type::IPV6;
    let l3 = match frame.checksum.l4 {
        Some((l4, _)) => usize::from(l4).checked_sub(l2)?,
        None => usize::from(frame.head.get(l2)? & 0xf) * 4,
    };
    let mut checksum = Checksum {
        ip: frame.checksum.ip.is_some(),
        v6,
        l2_length: l2 as u16,
        l3_length: l3 as u16,
        ..Checksum::default()
    };
    match frame.checksum.l4 {
        Some((l4, TCP_CHECKSUM)) => {
            checksum.tcp = true;
            checksum.l4_length = u16::from(frame.head.get(usize::from(l4) + 12)? >> 4) * 4;
        }
        Some((_, UDP_CHECKSUM)) => {
            checksum.udp = true;
            checksum.l4_length = 8;
        }
        _ => {}
    }
    if let Some(segmentation) = frame.segmentation {
        checksum.segment = segmentation.segment;
    }
    Some(checksum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{ChecksumOffload, Segmentation};

    fn frame(ether_type: u16, l4: usize, length: usize) -> Frame {
        let mut bytes = vec![0; length];
        bytes[12..14].copy_from_slice(&ether_type.to_be_bytes());
        bytes[14] = 0x45;
        bytes[l4 + 12] = 8 << 4;
        Frame::new(Buffer::from(bytes))
    }

    #[test]
    fn the_device_is_told_where_headers_are() {
        let mut tcp = frame(0x0800, 34, 100);
        assert_eq!(Outgoing::checksum(&tcp), Checksum::default());
        tcp.checksum = ChecksumOffload { ip: Some(14), l4: Some((34, 16)) };
        let expected = Checksum {
            ip: true,
            tcp: true,
            l2_length: 14,
            l3_length: 20,
            l4_length: 32,
            ..Checksum::default()
        };
        assert_eq!(Outgoing::checksum(&tcp), expected);
        tcp.segmentation = Some(Segmentation { segment: 1448, headers: 66 });
        assert_eq!(Outgoing::checksum(&tcp), Checksum { segment: 1448, ..expected });

        let mut udp = frame(0x86dd, 54, 100);
        udp.checksum.l4 = Some((54, 6));
        let expected = Checksum {
            udp: true,
            v6: true,
            l2_length: 14,
            l3_length: 40,
            l4_length: 8,
            ..Checksum::default()
        };
        assert_eq!(Outgoing::checksum(&udp), expected);
        // What does not hold is left to nobody.
        udp.checksum.l4 = Some((7, 6));
        assert_eq!(Outgoing::checksum(&udp), Checksum::default());
    }

    #[test]
    fn names_are_kept_once() {
        let (one, other) = (interned("rx_good_packets".to_owned()), interned("rx_good_packets".to_owned()));
        assert!(std::ptr::eq(one, other));
    }
}
