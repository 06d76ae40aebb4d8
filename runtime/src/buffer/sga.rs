//! `Sga`: a short list of buffers.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::{self, Debug, Formatter};
use std::io::IoSlice;

use bytes::Buf;

use super::{Buffer, BufferMut};

/// Lists of more than one buffer whose memory a thread keeps for the next ones.
const SPARES: usize = 64;

/// A list of buffers that are sent or received as one: scatter-gather.
///
/// A list of one buffer, by far the most frequent, is hardly more than the buffer. The memory for
/// the others of a longer list is allocated once, and then reused by the lists of the thread.
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
#[derive(Default)]
pub struct Sga {
    /// If there is none, nothing follows either.
    first: Option<Buffer>,
    /// What follows the first. Once there, it stays, be it empty.
    more: Option<Box<More>>,
}

#[derive(Default)]
struct More {
    buffers: VecDeque<Buffer>,
    bytes: usize,
}

type Spare = Vec<Box<More>>;

thread_local! {
    /// Empty, with the memory that their lists have grown to.
    static SPARE: RefCell<Spare> = const { RefCell::new(Vec::new()) };
}

impl More {
    fn new() -> Box<More> {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
        spare.unwrap_or_default()
    }

    #[cold]
    fn recycle(mut self: Box<More>) {
        // Dropping buffers may run anybody's code, so nothing is borrowed meanwhile.
        self.buffers.clear();
        self.bytes = 0;
        // A thread that is ending keeps none.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARES {
                spare.push(self);
            }
        });
    }
}

impl Sga {
    /// An empty list.
    #[inline]
    pub const fn new() -> Sga {
        Sga { first: None, more: None }
    }

    /// Number of bytes in all buffers.
    #[inline]
    pub fn len(&self) -> usize {
        self.first.as_ref().map_or(0, Buffer::len) + self.more.as_ref().map_or(0, |more| more.bytes)
    }

    /// Whether there are no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Number of buffers.
    #[inline]
    pub fn segments(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.as_ref().map_or(0, |more| more.buffers.len())
    }

    /// Adds a buffer at the end; an empty one is dropped.
    ///
    /// ```
    /// use demikernel_runtime::buffer::Sga;
    /// let mut reply = Sga::new();
    /// reply.push("$2\r\n".into());
    /// reply.push("ok".into());
    /// assert_eq!((reply.segments(), reply.len()), (2, 6));
    /// ```
    #[inline]
    pub fn push(&mut self, buffer: Buffer) {
        if buffer.is_empty() {
            return;
        }
        if self.first.is_none() {
            self.first = Some(buffer);
        } else {
            let more = self.more.get_or_insert_with(More::new);
            more.bytes += buffer.len();
            more.buffers.push_back(buffer);
        }
    }

    /// Takes the first buffer.
    #[inline]
    pub fn pop_front(&mut self) -> Option<Buffer> {
        let first = self.first.take();
        if let Some(more) = &mut self.more {
            self.first = more.buffers.pop_front();
            more.bytes -= self.first.as_ref().map_or(0, Buffer::len);
        }
        first
    }

    /// The buffers.
    pub fn iter(&self) -> impl Iterator<Item = &Buffer> {
        self.first.iter().chain(self.more.iter().flat_map(|more| &more.buffers))
    }

    /// The first buffer.
    #[inline]
    pub fn first(&self) -> Option<&Buffer> {
        self.first.as_ref()
    }

    /// Drops the first `count` bytes, and the buffers that have none left.
    ///
    /// ```
    /// use demikernel_runtime::buffer::{Buffer, Sga};
    /// let mut rest: Sga = [Buffer::from("abc"), Buffer::from("def")].into_iter().collect();
    /// rest.advance(4);
    /// assert_eq!((rest.segments(), rest.to_vec()), (1, b"ef".to_vec()));
    /// ```
    ///
    /// # Panics
    ///
    /// If there are fewer.
    pub fn advance(&mut self, mut count: usize) {
        let len = self.len();
        assert!(count <= len, "position {count} is outside of a list of {len} bytes");
        while count > 0 {
            let Some(first) = &mut self.first else { return };
            if count < first.len() {
                return first.advance(count);
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

impl Drop for Sga {
    #[inline]
    fn drop(&mut self) {
        if let Some(more) = self.more.take() {
            More::recycle(more);
        }
    }
}

impl Clone for Sga {
    fn clone(&self) -> Sga {
        self.iter().cloned().collect()
    }
}

impl From<Buffer> for Sga {
    #[inline]
    fn from(buffer: Buffer) -> Sga {
        let mut list = Sga::new();
        list.push(buffer);
        list
    }
}

impl From<BufferMut> for Sga {
    fn from(buffer: BufferMut) -> Sga {
        buffer.freeze().into()
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
        self.len()
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
