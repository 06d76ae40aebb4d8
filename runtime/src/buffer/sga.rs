//! `Sga`: a short list of buffers.

use std::collections::VecDeque;
use std::fmt::{self, Debug, Formatter};
use std::io::IoSlice;

use bytes::Buf;

use super::Buffer;

/// Buffers that are kept without allocating.
const INLINE: usize = 8;

/// A list of buffers that are sent or received as one: scatter-gather.
///
/// Up to eight buffers are kept inline; longer lists allocate.
///
/// ```
/// use demikernel_runtime::buffer::{Buffer, Sga};
///
/// let mut reply = Sga::from(Buffer::from_static(b"HTTP/1.1 200 OK\r\n\r\n"));
/// reply.push(Buffer::from_static(b"body"));
/// assert_eq!((reply.len(), reply.segments()), (23, 2));
///
/// reply.advance(20); // as much as a device has sent
/// assert_eq!(reply.iter().next().unwrap(), b"ody");
/// ```
#[derive(Clone, Default)]
pub struct Sga {
    /// The first buffers, from `head` on. Those that are taken have not been moved down.
    inline: [Option<Buffer>; INLINE],
    head: u8,
    /// Number of buffers in `inline`.
    count: u8,
    /// What follows those in `inline`, which is full up to its end then.
    more: VecDeque<Buffer>,
    bytes: usize,
}

impl Sga {
    /// An empty list.
    pub fn new() -> Sga {
        Sga::default()
    }

    /// Number of bytes in all buffers.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there are no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Number of buffers.
    pub fn segments(&self) -> usize {
        usize::from(self.count) + self.more.len()
    }

    /// Adds a buffer at the end; an empty one is dropped.
    pub fn push(&mut self, buffer: Buffer) {
        if buffer.is_empty() {
            return;
        }
        self.bytes += buffer.len();
        if self.more.is_empty() && usize::from(self.count) < INLINE {
            self.inline.rotate_left(usize::from(self.head));
            self.head = 0;
            self.inline[usize::from(self.count)] = Some(buffer);
            self.count += 1;
        } else {
            self.more.push_back(buffer);
        }
    }

    /// Takes the first buffer.
    pub fn pop_front(&mut self) -> Option<Buffer> {
        let buffer = match self.inline.get_mut(usize::from(self.head)).and_then(Option::take) {
            Some(buffer) => {
                self.head += 1;
                self.count -= 1;
                buffer
            }
            None => self.more.pop_front()?,
        };
        self.bytes -= buffer.len();
        Some(buffer)
    }

    /// The buffers.
    pub fn iter(&self) -> impl Iterator<Item = &Buffer> {
        let end = usize::from(self.head + self.count);
        self.inline[usize::from(self.head)..end].iter().flatten().chain(&self.more)
    }

    /// The first buffer.
    pub fn first(&self) -> Option<&Buffer> {
        self.iter().next()
    }

    /// Drops the first `count` bytes, and the buffers that have none left.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    pub fn advance(&mut self, mut count: usize) {
        assert!(count <= self.bytes, "position {count} is outside of a list of {} bytes", self.bytes);
        while count > 0 {
            let inline = self.inline.get_mut(usize::from(self.head)).and_then(Option::as_mut);
            let Some(first) = inline.or_else(|| self.more.front_mut()) else { return };
            if count < first.len() {
                first.advance(count);
                self.bytes -= count;
                return;
            }
            count -= first.len();
            self.pop_front();
        }
    }

    /// Fills `slices` with the buffers, as many as there is room for, and returns how many.
    pub fn io_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(self.iter());
        filled.map(|(slice, buffer)| *slice = IoSlice::new(buffer)).count()
    }

    /// Copies all bytes, for those who need them in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        self.iter().flat_map(|buffer| buffer.as_slice()).copied().collect()
    }
}

impl From<Buffer> for Sga {
    fn from(buffer: Buffer) -> Sga {
        let mut list = Sga::new();
        list.push(buffer);
        list
    }
}

impl Extend<Buffer> for Sga {
    fn extend<I: IntoIterator<Item = Buffer>>(&mut self, buffers: I) {
        buffers.into_iter().for_each(|buffer| self.push(buffer));
    }
}

impl FromIterator<Buffer> for Sga {
    fn from_iter<I: IntoIterator<Item = Buffer>>(buffers: I) -> Sga {
        let mut list = Sga::new();
        list.extend(buffers);
        list
    }
}

impl Iterator for IntoIter {
    type Item = Buffer;

    fn next(&mut self) -> Option<Buffer> {
        self.0.pop_front()
    }
}

/// The buffers of a list, one after the other.
#[derive(Debug)]
pub struct IntoIter(Sga);

impl IntoIterator for Sga {
    type Item = Buffer;
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        IntoIter(self)
    }
}

impl Debug for Sga {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Buf for Sga {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.first().map_or(&[], Buffer::as_slice)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.io_slices(slices)
    }

    fn advance(&mut self, count: usize) {
        Sga::advance(self, count);
    }
}
