//! Two devices in memory, joined by a cable that loses nothing.

use super::{BURST, Capabilities, ChecksumOffload, Frame, FrameDevice, Received};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// Frames under way in one direction, and how many there may be. They travel in the lists that they came in.
#[derive(Debug)]
struct Wire {
    bursts: RefCell<VecDeque<Vec<Frame>>>,
    /// Empty lists, which keep their memory.
    spare: RefCell<Vec<Vec<Frame>>>,
    frames: Cell<usize>,
    limit: usize,
}

impl Wire {
    /// Adds a list of at most [`BURST`] frames, and leaves an empty one in its place.
    fn add(&self, burst: &mut Vec<Frame>) {
        self.frames.set(self.frames.get() + burst.len());
        let empty = self.spare.borrow_mut().pop().unwrap_or_default();
        self.bursts.borrow_mut().push_back(std::mem::replace(burst, empty));
    }

    /// Takes the first list; there is none only if there are no frames.
    fn take(&self, burst: &mut Vec<Frame>) -> usize {
        let Some(mut first) = self.bursts.borrow_mut().pop_front() else { return 0 };
        let count = first.len();
        self.frames.set(self.frames.get() - count);
        if burst.is_empty() {
            std::mem::swap(burst, &mut first);
        } else {
            burst.append(&mut first);
        }
        self.spare.borrow_mut().push(first);
        count
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
        let wire = || {
            let (bursts, spare, frames) = Default::default();
            Rc::new(Wire { bursts, spare, frames, limit })
        };
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
        Ok(self.inbound.take(burst))
    }

    fn transmit(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        let count = burst.len().min(self.outbound.limit.saturating_sub(self.outbound.frames.get()));
        for frame in &mut burst[..count] {
            frame.received = Received {
                ip_checksum_good: frame.checksum.ip.is_some(),
                l4_checksum_good: frame.checksum.l4.is_some(),
                hash: None,
            };
            (frame.checksum, frame.segmentation) = (ChecksumOffload::default(), None);
        }
        if count == burst.len() && count <= BURST {
            if count > 0 {
                self.outbound.add(burst);
            }
            return Ok(count);
        }
        let mut left = count;
        while left > 0 {
            let mut some: Vec<Frame> = burst.drain(..left.min(BURST)).collect();
            left -= some.len();
            self.outbound.add(&mut some);
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
