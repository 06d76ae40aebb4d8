//! Two devices in memory, joined by a cable that loses nothing.

use super::{BURST, Capabilities, ChecksumOffload, Frame, FrameDevice, Received};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;

/// Frames under way in one direction, and how many there may be.
#[derive(Debug)]
struct Wire {
    bursts: RefCell<Bursts>,
    limit: usize,
}

/// A ring of lists, in which frames travel as they came. Those that are not under way are empty and keep their memory.
#[derive(Debug, Default)]
struct Bursts {
    ring: Vec<Vec<Frame>>,
    /// The first list that is under way, and how many are.
    first: usize,
    count: usize,
    frames: usize,
}

impl Bursts {
    /// Adds a list of at most [`BURST`] frames, and leaves an empty one in its place.
    #[inline]
    fn add(&mut self, burst: &mut Vec<Frame>) {
        if self.count == self.ring.len() {
            self.grow();
        }
        let place = self.first + self.count;
        let place = if place < self.ring.len() { place } else { place - self.ring.len() };
        self.frames += burst.len();
        self.count += 1;
        std::mem::swap(burst, &mut self.ring[place]);
    }

    /// The first list becomes the first of the ring, and there is room behind the last.
    #[cold]
    fn grow(&mut self) {
        self.ring.rotate_left(self.first);
        self.first = 0;
        self.ring.push(Vec::new());
    }

    /// Takes the first list; there is none only if there are no frames.
    #[inline]
    fn take(&mut self, burst: &mut Vec<Frame>) -> usize {
        if self.count == 0 {
            return 0;
        }
        let list = &mut self.ring[self.first];
        let frames = list.len();
        if burst.is_empty() {
            std::mem::swap(burst, list);
        } else {
            burst.append(list);
        }
        self.first = if self.first + 1 < self.ring.len() { self.first + 1 } else { 0 };
        self.count -= 1;
        self.frames -= frames;
        frames
    }
}

/// One end of a cable in memory. Frames are handed over as they are, without a copy.
///
/// ```
/// use demikernel_net::device::{Capabilities, Frame, FrameDevice, Medium, Pair};
/// use demikernel_runtime::buffer::Buffer;
///
/// let capabilities = Capabilities::new(Medium::Ip, 1500);
/// let (mut left, mut right) = Pair::new(capabilities, capabilities, 1);
/// let mut burst: Vec<_> = [b"first", b"other"].map(|bytes| Frame::new(Buffer::from(bytes.to_vec()))).into();
/// assert_eq!(left.transmit(&mut burst)?, 1, "there is room for one");
/// assert_eq!(burst.len(), 1, "the other stays with who sends it");
///
/// let mut received = vec![];
/// assert_eq!(right.receive(&mut received)?, 1);
/// assert_eq!(&received[0].head[..], b"first");
/// # Ok::<(), std::io::Error>(())
/// ```
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
        let wire = || Rc::new(Wire { bursts: RefCell::default(), limit });
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
        Ok(self.inbound.bursts.borrow_mut().take(burst))
    }

    fn transmit(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        let mut bursts = self.outbound.bursts.borrow_mut();
        let count = burst.len().min(self.outbound.limit.saturating_sub(bursts.frames));
        for frame in &mut burst[..count] {
            frame.received = Received {
                ip_checksum_good: frame.checksum.ip.is_some(),
                l4_checksum_good: frame.checksum.l4.is_some(),
                hash: None,
                passed: 0,
            };
            (frame.checksum, frame.segmentation) = (ChecksumOffload::default(), None);
        }
        if count == burst.len() && count <= BURST {
            if count > 0 {
                bursts.add(burst);
            }
            return Ok(count);
        }
        let mut left = count;
        while left > 0 {
            let mut some: Vec<Frame> = burst.drain(..left.min(BURST)).collect();
            left -= some.len();
            bursts.add(&mut some);
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
