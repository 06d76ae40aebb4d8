//! A look at a whole burst before any of it is received.
//!
//! Of very many connections, those that a burst is for are in no cache, and one after the other would wait for memory
//! several times. So all are looked up first, in two passes without dependencies between frames: their waits overlap.

use super::Stack;
use super::socket::Socket;
use crate::device::{BURST, Frame, Medium};
use crate::prefetch::prefetch;
use crate::table::Flow;
use crate::wire::ethernet;
use crate::wire::ip::protocol;
use crate::wire::{ipv4, ipv6};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Connections that stay in a cache without help. Tests look ahead always.
const FEW: usize = if cfg!(test) { 0 } else { 2048 };

/// Connections whose lists and deadlines stay in a cache as well.
const SEVERAL: usize = if cfg!(test) { 0 } else { 512 };

impl Stack {
    /// Whether there are so many connections that they had better share what they need in turn. Those in TIME-WAIT need
    /// nothing.
    #[inline]
    pub(super) fn are_several(&self) -> bool {
        self.flows.len().saturating_sub(self.waiting.len()) > SEVERAL
    }

    /// Whether there are so many connections that looking ahead pays.
    #[inline]
    pub(super) fn are_many(&self) -> bool {
        self.flows.len() > FEW
    }

    /// Starts loading the connections that these frames are for.
    #[inline(never)]
    pub(super) fn look_ahead(&self, burst: &[Frame]) {
        let at = match self.interface.capabilities.medium {
            Medium::Ethernet(_) => ethernet::MINIMUM_HEADER,
            Medium::Ip => 0,
        };
        for frames in burst.chunks(BURST) {
            let mut slots = [u32::MAX; BURST];
            for (frame, place) in frames.iter().zip(&mut slots) {
                if let Some(slot) = flow_of(frame, at).and_then(|flow| self.flows.guess(&flow)) {
                    *place = slot;
                    self.sockets.prefetch(slot);
                }
            }
            for slot in &slots[..frames.len()] {
                if let Some(Socket::Tcp(tcp)) = self.sockets.get(*slot) {
                    prefetch(&**tcp);
                }
            }
        }
    }
}

/// The flow of a segment, from the places where its parts nearly always are. Nothing is verified: it is a guess.
#[inline]
fn flow_of(frame: &Frame, at: usize) -> Option<Flow> {
    let bytes = frame.head.get(at..)?;
    let (source, destination, ports) = match bytes.first()? {
        0x45 => {
            let header: &[u8; ipv4::MINIMUM_HEADER + 4] = bytes.first_chunk()?;
            let [.., s0, s1, s2, s3, d0, d1, d2, d3, p0, p1, p2, p3] = *header;
            if header[9] != protocol::TCP {
                return None;
            }
            let (source, destination) = (Ipv4Addr::new(s0, s1, s2, s3), Ipv4Addr::new(d0, d1, d2, d3));
            (source.into(), destination.into(), [p0, p1, p2, p3])
        }
        0x60..=0x6f => {
            let header: &[u8; ipv6::HEADER + 4] = bytes.first_chunk()?;
            if header[6] != protocol::TCP {
                return None;
            }
            let source: [u8; 16] = *header[8..].first_chunk()?;
            let destination: [u8; 16] = *header[24..].first_chunk()?;
            let ports = *header[ipv6::HEADER..].first_chunk()?;
            (Ipv6Addr::from(source).into(), Ipv6Addr::from(destination).into(), ports)
        }
        _ => return None,
    };
    let [p0, p1, p2, p3] = ports;
    Some(Flow::of(destination, u16::from_be_bytes([p2, p3]), source, u16::from_be_bytes([p0, p1])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use demikernel_runtime::buffer::Buffer;

    fn guess(bytes: &[u8], at: usize) -> Option<Flow> {
        flow_of(&Frame::new(Buffer::copy_from_slice(bytes).unwrap()), at)
    }

    fn flow(local: &str, remote: &str) -> Option<Flow> {
        Some(Flow::new(local.parse().unwrap(), remote.parse().unwrap()))
    }

    #[test]
    fn the_flow_of_a_segment_is_found_in_its_place_and_nothing_is_read_beyond_the_frame() {
        let mut v4 = [0; ipv4::MINIMUM_HEADER + 4];
        (v4[0], v4[9]) = (0x45, protocol::TCP);
        v4[12..].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2, 0, 80, 1, 0]);
        assert_eq!(guess(&v4, 0), flow("10.0.0.2:256", "10.0.0.1:80"));
        let mut v6 = [0; 14 + ipv6::HEADER + 4];
        (v6[14], v6[14 + 6], v6[14 + 23], v6[14 + 39]) = (0x60, protocol::TCP, 1, 2);
        v6[14 + ipv6::HEADER..].copy_from_slice(&[0, 80, 1, 0]);
        assert_eq!(guess(&v6, 14), flow("[::2]:256", "[::1]:80"));
        for end in 0..v4.len() {
            assert_eq!(guess(&v4[..end], 0), None);
        }
        for end in 0..v6.len() {
            assert_eq!(guess(&v6[..end], 14), None);
        }
        v4[9] = protocol::UDP;
        assert_eq!(guess(&v4, 0), None);
    }
}
