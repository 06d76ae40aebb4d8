//! One frame, received or to be sent.

use demikernel_runtime::buffer::{Buffer, Sga};

/// A frame: its headers, and the payload, which may be in other memory.
///
/// A frame that is to be sent has all its headers in `head`, which nobody else holds, and payload behind them or in
/// `rest`, which others may hold for retransmission. So no two frames under way share bytes that anybody writes.
/// A frame that was received has at least its headers in `head`.
///
/// ```
/// use demikernel_net::device::Frame;
/// use demikernel_runtime::buffer::Buffer;
///
/// let frame = Frame::new(Buffer::from(vec![0; 60]));
/// assert_eq!((frame.len(), frame.is_empty()), (60, false));
/// ```
#[derive(Debug, Default)]
pub struct Frame {
    /// The headers, and what follows them in the same memory.
    pub head: Buffer,
    /// What follows `head`.
    pub rest: Sga,
    /// What the device is to fill in.
    pub checksum: ChecksumOffload,
    /// What the device is to cut it into.
    pub segmentation: Option<Segmentation>,
    /// What the device has found out about a frame that it received.
    pub received: Received,
}

impl Frame {
    /// A frame in one piece of memory.
    #[inline]
    pub fn new(head: Buffer) -> Frame {
        Frame { head, ..Frame::default() }
    }

    /// Bytes in all.
    #[inline]
    pub fn len(&self) -> usize {
        self.head.len() + self.rest.len()
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.rest.is_empty()
    }

    /// Copies all bytes to the end of `bytes`.
    pub fn copy_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.head);
        self.rest.iter().for_each(|part| bytes.extend_from_slice(part));
    }
}

/// Which checksums the device is to fill in; offsets are from the beginning of the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChecksumOffload {
    /// Where the IPv4 header begins whose checksum is to be filled in.
    pub ip: Option<u16>,
    /// Where the TCP or UDP header begins that is to be summed up to the end of the packet, and where in it the
    /// checksum is, which holds the sum of the pseudo-header so far.
    pub l4: Option<(u16, u16)>,
}

/// How the device is to cut a TCP segment (TSO).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segmentation {
    /// Bytes of payload in each segment but the last.
    pub segment: u16,
    /// Bytes of headers, which each segment gets.
    pub headers: u16,
}

/// What a device knows of a frame that it received.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Received {
    /// The checksum of the IPv4 header is right, or there is none.
    pub ip_checksum_good: bool,
    /// The checksum of TCP or UDP is right.
    pub l4_checksum_good: bool,
    /// The hash by which it chose the queue.
    pub hash: Option<u32>,
    /// How many cores have passed it on, as they have nobody it is for.
    pub passed: u8,
}
