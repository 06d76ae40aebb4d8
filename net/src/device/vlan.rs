//! One VLAN of a link (IEEE 802.1Q): a device around another that tags what is sent, and receives only what has the tag.
//!
//! The stack knows nothing of it, and nothing costs those who have none. What is sent is copied as far as it lies in its
//! first piece of memory, since there is no room in front of it.

use super::{BURST, Capabilities, ChecksumOffload, Frame, FrameDevice, Segmentation};
use crate::wire::ethernet::ether_type;
use demikernel_runtime::buffer::{Buffer, BufferMut};
use std::io;
use std::os::fd::RawFd;

/// Where the tag stands: behind the addresses.
const PLACE: usize = 12;

/// Bytes of a tag.
const TAG: usize = 4;

/// Bits of the identifier in a tag; above are priorities.
const IDENTIFIER: u16 = 0x0fff;

/// One VLAN of a device.
///
/// Devices that take tags off what they receive are to leave them: `ethtool -K INTERFACE rxvlan off`.
///
/// ```
/// use demikernel_net::device::{Capabilities, Frame, FrameDevice, MacAddress, Medium, Pair, Vlan};
/// use demikernel_runtime::buffer::Buffer;
///
/// let capabilities = Capabilities::new(Medium::Ethernet(MacAddress([2, 0, 0, 0, 0, 1])), 1500);
/// let (near, mut far) = Pair::new(capabilities, capabilities, 8);
/// let mut vlan = Vlan::new(near, 42);
/// let untagged = b"addressesof2\x08\0packet";
/// vlan.transmit(&mut vec![Frame::new(Buffer::from(&untagged[..]))])?;
///
/// let mut burst = vec![];
/// far.receive(&mut burst)?;
/// assert_eq!(burst[0].head[12..16], [0x81, 0, 0, 42]);
/// // The same frame comes back, and then one without the tag, which is none of ours.
/// burst.push(Frame::new(Buffer::from(&untagged[..])));
/// far.transmit(&mut burst)?;
/// burst.clear();
/// assert_eq!(vlan.receive(&mut burst)?, 1);
/// assert_eq!(burst[0].head[..], untagged[..]);
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Vlan<D> {
    device: D,
    identifier: u16,
    arrived: Vec<Frame>,
    tagged: Vec<Frame>,
    others: u64,
    no_buffer: u64,
}

impl<D: FrameDevice> Vlan<D> {
    /// The VLAN of this identifier, of which the lower 12 bits count.
    pub fn new(device: D, identifier: u16) -> Vlan<D> {
        Vlan {
            device,
            identifier: identifier & IDENTIFIER,
            arrived: Vec::with_capacity(BURST),
            tagged: Vec::with_capacity(BURST),
            others: 0,
            no_buffer: 0,
        }
    }

    /// A frame without its tag, if it has ours.
    fn take(&mut self, mut frame: Frame) -> Option<Frame> {
        if identifier(&frame.head) != Some(self.identifier) {
            self.others += 1;
            return None;
        }
        let stripped = strip(frame.head);
        self.no_buffer += u64::from(stripped.is_none());
        frame.head = stripped?;
        Some(frame)
    }

    /// The same with the tag; `None` if there is no memory for it.
    fn tag(&self, frame: &Frame) -> Option<Frame> {
        let (addresses, others) = frame.head.split_at_checked(PLACE)?;
        let mut head = BufferMut::with_capacity(frame.head.len() + TAG).ok()?;
        head.extend_from_slice(addresses);
        head.extend_from_slice(&ether_type::VLAN.to_be_bytes());
        head.extend_from_slice(&self.identifier.to_be_bytes());
        head.extend_from_slice(others);
        let ChecksumOffload { ip, l4 } = frame.checksum;
        let behind = |place: u16| place + TAG as u16;
        Some(Frame {
            head: head.freeze(),
            rest: frame.rest.clone(),
            checksum: ChecksumOffload {
                ip: ip.map(behind),
                l4: l4.map(|(start, field)| (behind(start), field)),
            },
            segmentation: frame
                .segmentation
                .map(|cut| Segmentation { headers: cut.headers + TAG as u16, ..cut }),
            received: frame.received,
        })
    }
}

/// Of the tag of a frame, if it has one.
fn identifier(head: &[u8]) -> Option<u16> {
    let [t0, t1, c0, c1] = *head.get(PLACE..)?.first_chunk()?;
    (u16::from_be_bytes([t0, t1]) == ether_type::VLAN).then(|| u16::from_be_bytes([c0, c1]) & IDENTIFIER)
}

/// Takes out the tag, which there is; `None` if that takes memory and there is none.
fn strip(head: Buffer) -> Option<Buffer> {
    match head.try_into_mut() {
        Ok(mut head) => {
            head.copy_within(..PLACE, TAG);
            head.advance(TAG);
            Some(head.freeze())
        }
        Err(shared) => {
            let mut head = BufferMut::with_capacity(shared.len() - TAG).ok()?;
            head.extend_from_slice(&shared[..PLACE]);
            head.extend_from_slice(&shared[PLACE + TAG..]);
            Some(head.freeze())
        }
    }
}

impl<D: FrameDevice> FrameDevice for Vlan<D> {
    fn capabilities(&self) -> Capabilities {
        self.device.capabilities()
    }

    fn receive(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        let before = burst.len();
        let mut arrived = std::mem::take(&mut self.arrived);
        let result = self.device.receive(&mut arrived);
        burst.extend(arrived.iter_mut().map(std::mem::take).filter_map(|frame| self.take(frame)));
        arrived.clear();
        self.arrived = arrived;
        result.map(|_| burst.len() - before)
    }

    fn transmit(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        // What the device does not take is tagged again the next time.
        let mut tagged = std::mem::take(&mut self.tagged);
        tagged.extend(burst.iter().take(BURST).map_while(|frame| self.tag(frame)));
        let gone = if tagged.is_empty() { Ok(0) } else { self.device.transmit(&mut tagged) };
        tagged.clear();
        self.tagged = tagged;
        let gone = gone?;
        burst.drain(..gone);
        Ok(gone)
    }

    fn descriptor(&self) -> Option<RawFd> {
        self.device.descriptor()
    }

    fn arm(&mut self) -> bool {
        self.device.arm()
    }

    fn is_awaited(&self) -> bool {
        self.device.is_awaited()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let own = [
            ("frames of other VLANs, or of none", self.others),
            ("frames without memory to take out the tag", self.no_buffer),
        ];
        own.into_iter().chain(self.device.counters()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{MacAddress, Medium, Pair};
    use demikernel_runtime::buffer::Sga;

    fn pair(limit: usize) -> (Vlan<Pair>, Pair) {
        let capabilities = Capabilities {
            scatter: true,
            ..Capabilities::new(Medium::Ethernet(MacAddress([2, 0, 0, 0, 0, 1])), 1500)
        };
        let (near, far) = Pair::new(capabilities, capabilities, limit);
        (Vlan::new(near, 7), far)
    }

    fn bytes(frame: &Frame) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame.copy_to(&mut bytes);
        bytes
    }

    const PLAIN: &[u8] = b"addressesof2\x08\x00packet";
    const TAGGED: &[u8] = b"addressesof2\x81\x00\x00\x07\x08\x00packet";

    #[test]
    fn what_is_sent_has_the_tag_and_offsets_are_behind_it() {
        let (mut vlan, mut far) = pair(8);
        let mut frame = Frame::new(Buffer::from(PLAIN.to_vec()));
        frame.rest = Sga::from(Buffer::from_static(b" and more"));
        let tagged = vlan.tag(&Frame {
            checksum: ChecksumOffload { ip: Some(14), l4: Some((34, 16)) },
            segmentation: Some(Segmentation { segment: 1448, headers: 66 }),
            ..Frame::new(frame.head.clone())
        });
        let tagged = tagged.unwrap();
        assert_eq!(tagged.checksum, ChecksumOffload { ip: Some(18), l4: Some((38, 16)) });
        assert_eq!(tagged.segmentation, Some(Segmentation { segment: 1448, headers: 70 }));
        assert_eq!(vlan.transmit(&mut vec![frame]).unwrap(), 1);
        let mut received = Vec::new();
        far.receive(&mut received).unwrap();
        assert_eq!(bytes(&received[0]), [TAGGED, b" and more"].concat());
    }

    #[test]
    fn what_there_is_no_room_for_stays_as_it_was() {
        let (mut vlan, _far) = pair(1);
        let mut burst: Vec<_> = (0..3).map(|_| Frame::new(Buffer::from(PLAIN.to_vec()))).collect();
        assert_eq!(vlan.transmit(&mut burst).unwrap(), 1);
        assert_eq!(burst.iter().map(bytes).collect::<Vec<_>>(), [PLAIN, PLAIN]);
    }

    #[test]
    fn only_what_has_the_tag_is_received_and_without_it() {
        let (mut vlan, mut far) = pair(16);
        let other = [&TAGGED[..15], b"\x08", &TAGGED[16..]].concat();
        let with_priority = [&TAGGED[..14], b"\xe0\x07", &TAGGED[16..]].concat();
        let shared = Buffer::from(TAGGED.to_vec());
        let mut burst: Vec<_> = [&other[..], PLAIN, &PLAIN[..12], &TAGGED[..16], &with_priority]
            .map(|frame| Frame::new(Buffer::copy_from_slice(frame).unwrap()))
            .into();
        burst.push(Frame::new(shared.clone()));
        far.transmit(&mut burst).unwrap();
        let mut received = Vec::new();
        assert_eq!(vlan.receive(&mut received).unwrap(), 3);
        let received: Vec<_> = received.iter().map(bytes).collect();
        assert_eq!(received, [&PLAIN[..12], PLAIN, PLAIN]);
        assert_eq!((&shared[..], vlan.others), (TAGGED, 3));
    }
}
