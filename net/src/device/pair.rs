//! Two devices in memory, joined by a cable that loses nothing.

use super::{BURST, Capabilities, ChecksumOffload, Frame, FrameDevice, Received};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// Frames under way in one direction, and how many there may be.
#[derive(Debug)]
struct Wire {
    frames: RefCell<VecDeque<Frame>>,
    limit: usize,
}

/// One end of a cable in memory. Frames are handed over as they are, without a copy.
#[derive(Debug)]
pub struct Pair {
    capabilities: Capabilities,
    inbound: Rc<Wire>,
    outbound: Rc<Wire>,
}

impl Pair {
    /// The two ends of a cable with room for `limit` frames in each direction.
    ///
    /// What they are capable of is up to the caller, since nothing is done about it: with
    /// [`transmit_l4_checksum`](Capabilities::transmit_l4_checksum), for example, checksums are neither computed nor
    /// looked at.
    pub fn new(first: Capabilities, second: Capabilities, limit: usize) -> (Pair, Pair) {
        let wire = || Rc::new(Wire { frames: RefCell::new(VecDeque::new()), limit });
        let (there, back) = (wire(), wire());
        let one = Pair { capabilities: first, inbound: back.clone(), outbound: there.clone() };
        let two = Pair { capabilities: second, inbound: there, outbound: back };
        (one, two)
    }
}

impl FrameDevice for Pair {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn receive(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        let mut frames = self.inbound.frames.borrow_mut();
        let count = frames.len().min(BURST);
        // One by one: a frame is moved once, where draining moves it twice.
        for _ in 0..count {
            burst.extend(frames.pop_front());
        }
        Ok(count)
    }

    fn transmit(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        let mut frames = self.outbound.frames.borrow_mut();
        let count = burst.len().min(self.outbound.limit.saturating_sub(frames.len()));
        for frame in burst.drain(..count) {
            let received = Received {
                ip_checksum_good: frame.checksum.ip.is_some(),
                l4_checksum_good: frame.checksum.l4.is_some(),
                hash: None,
            };
            let (checksum, segmentation) = (ChecksumOffload::default(), None);
            frames.push_back(Frame { head: frame.head, rest: frame.rest, checksum, segmentation, received });
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Medium;
    use demikernel_runtime::buffer::Buffer;

    #[test]
    fn frames_arrive_in_order_as_far_as_there_is_room() {
        let capabilities = Capabilities::new(Medium::Ip, 1500);
        let (mut one, mut two) = Pair::new(capabilities, capabilities, 2);
        let mut burst: Vec<_> =
            [&b"a"[..], b"b", b"c"].into_iter().map(|bytes| Frame::new(Buffer::from_static(bytes))).collect();
        assert_eq!(one.transmit(&mut burst).unwrap(), 2);
        assert_eq!(burst.len(), 1);
        let mut received = Vec::new();
        assert_eq!(two.receive(&mut received).unwrap(), 2);
        assert_eq!(one.transmit(&mut burst).unwrap(), 1);
        assert_eq!(two.receive(&mut received).unwrap(), 1);
        assert_eq!(one.receive(&mut received).unwrap(), 0);
        let bytes: Vec<_> = received.iter().map(|frame| frame.head.to_vec()).collect();
        assert_eq!(bytes, [b"a", b"b", b"c"]);
    }
}
