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

/// Connections that stay in a cache without help.
const FEW: usize = 2048;

impl Stack {
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
                if let Some(slot) = flow_of(frame, at).and_then(|flow| self.flows.find(&flow)) {
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
