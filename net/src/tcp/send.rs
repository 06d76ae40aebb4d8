//! What the user has sent and the peer has not acknowledged: shared slices with their sequence numbers.

#![expect(
    clippy::box_collection,
    reason = "what is idle has a pointer, and not a list in which there is nothing"
)]

use std::collections::VecDeque;

use demikernel_runtime::buffer::{Buffer, Sga};

use super::spares::Spares;
use crate::wire::tcp::SequenceNumber;

/// The data from SND.UNA up to the end of what the user has sent.
///
/// Each buffer knows the number of its first octet, so a retransmission finds its place by bisection, and new data
/// find theirs by a hint. Segments share the buffers: nothing is copied.
#[derive(Default)]
pub(crate) struct SendQueue {
    /// Made when there is something. An idle connection has none.
    chunks: Option<Box<VecDeque<Chunk>>>,
    end: SequenceNumber,
    /// Index of the buffer from which the last segment was cut: where the next one is most likely cut from.
    hint: u32,
}

struct Chunk {
    start: SequenceNumber,
    buffer: Buffer,
}

/// Lists with more memory are not kept.
const LARGE: usize = 32;

thread_local! {
    static SPARE: Spares<VecDeque<Chunk>> = const { Spares::new() };
}

#[cold]
fn begin() -> Box<VecDeque<Chunk>> {
    SPARE.try_with(Spares::take).ok().flatten().unwrap_or_default()
}

/// Keeps the memory of a list in which there is nothing.
fn keep(list: Option<Box<VecDeque<Chunk>>>) {
    if let Some(list) = list
        && list.is_empty()
        && list.capacity() <= LARGE
    {
        // A thread that is ending keeps none.
        let _ = SPARE.try_with(|spares| spares.keep(list));
    }
}

impl SendQueue {
    /// Empty; the next octet has the number `start`.
    pub(crate) fn new(start: SequenceNumber) -> SendQueue {
        SendQueue { end: start, ..SendQueue::default() }
    }

    /// Adds at the end.
    #[inline]
    pub(crate) fn push(&mut self, buffer: Buffer) {
        if buffer.is_empty() {
            return;
        }
        let start = self.end;
        self.end += buffer.len() as u32;
        self.chunks.get_or_insert_with(begin).push_back(Chunk { start, buffer });
    }

    /// Drops everything before `number`, which is not behind the end.
    #[inline]
    pub(crate) fn acknowledge(&mut self, number: SequenceNumber) {
        debug_assert!(number.is_at_or_before(self.end));
        let Some(chunks) = &mut self.chunks else { return };
        while let Some(first) = chunks.front_mut() {
            let count = (number - first.start) as usize;
            if count < first.buffer.len() {
                first.buffer.advance(count);
                first.start = number;
                break;
            }
            chunks.pop_front();
            self.hint = self.hint.saturating_sub(1);
        }
    }

    /// The octets `[from, from + length)`, all of which are here.
    #[inline]
    pub(crate) fn slice(&mut self, from: SequenceNumber, mut length: usize) -> Sga {
        let mut list = Sga::new();
        let mut index = self.index_of(from);
        let mut offset = 0;
        if let Some(chunk) = self.get(index) {
            offset = (from - chunk.start) as usize;
        }
        while length > 0 {
            let Some(chunk) = self.get(index) else {
                debug_assert!(false, "{length} octets from {from} are not in the queue");
                break;
            };
            let rest = chunk.buffer.len() - offset;
            let count = rest.min(length);
            list.push(chunk.buffer.slice(offset..offset + count));
            length -= count;
            if count == rest {
                index += 1;
                offset = 0;
            }
        }
        self.hint = index as u32;
        list
    }

    /// The octets `[from, from + length)`, if they are in the buffer from which the last segment was cut.
    #[inline(always)]
    pub(crate) fn part(&self, from: SequenceNumber, length: usize) -> Option<Buffer> {
        let chunk = self.get(self.hint as usize)?;
        let offset = (from - chunk.start) as usize;
        let fits = offset < chunk.buffer.len() && length <= chunk.buffer.len() - offset;
        fits.then(|| chunk.buffer.slice(offset..offset + length))
    }

    /// All octets from `from` on, if they are there and in one buffer, the one from which the last segment was not cut.
    #[inline(always)]
    pub(crate) fn rest(&mut self, from: SequenceNumber) -> Option<&[u8]> {
        let chunk = self.chunks.as_ref()?.get(self.hint as usize)?;
        let rest = chunk.buffer.as_slice().get((from - chunk.start) as usize..)?;
        if rest.len() as u32 != self.end - from {
            return None;
        }
        self.hint += 1;
        Some(rest)
    }

    /// Index of the buffer in which the octet `number` is.
    #[inline]
    fn index_of(&self, number: SequenceNumber) -> usize {
        if let Some(chunk) = self.get(self.hint as usize)
            && number.is_within(chunk.start, chunk.buffer.len() as u32)
        {
            return self.hint as usize;
        }
        let before = |chunks: &VecDeque<Chunk>| {
            chunks.partition_point(|chunk| chunk.start.is_at_or_before(number)).saturating_sub(1)
        };
        self.chunks.as_deref().map_or(0, before)
    }

    #[inline]
    fn get(&self, index: usize) -> Option<&Chunk> {
        self.chunks.as_ref()?.get(index)
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        if let Some(chunks) = &mut self.chunks {
            chunks.clear();
        }
        self.release();
    }

    /// Whether there is memory that holds nothing.
    #[inline]
    pub(crate) fn has_spare(&self) -> bool {
        self.chunks.as_ref().is_some_and(|chunks| chunks.is_empty())
    }

    /// Gives back the memory of the list, if it is empty.
    pub(crate) fn release(&mut self) {
        if self.has_spare() {
            keep(self.chunks.take());
            self.hint = 0;
        }
    }

    /// Octets that are not acknowledged.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.get(0).map_or(0, |first| self.end - first.start)
    }

    /// The number behind the last octet.
    #[inline]
    pub(crate) fn end(&self) -> SequenceNumber {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(start: u32, parts: &[&'static str]) -> SendQueue {
        let mut queue = SendQueue::new(SequenceNumber::new(start));
        parts.iter().for_each(|part| queue.push(Buffer::from(*part)));
        queue
    }

    #[test]
    fn segments_are_cut_across_buffers_without_copies() {
        let mut queue = queue(u32::MAX - 2, &["abcd", "efg", "h"]);
        let at = |offset: u32| SequenceNumber::new(u32::MAX - 2) + offset;
        for (from, length, expected) in
            [(0, 8, "abcdefgh"), (2, 3, "cde"), (4, 3, "efg"), (7, 1, "h"), (3, 0, "")]
        {
            assert_eq!(queue.slice(at(from), length).to_vec(), expected.as_bytes());
        }
        let address = queue.slice(at(4), 2).first().map(|buffer| buffer.as_ptr());
        assert_eq!(queue.slice(at(4), 3).first().map(|buffer| buffer.as_ptr()), address);
    }

    #[test]
    fn what_is_acknowledged_goes() {
        let mut queue = queue(10, &["abcd", "efg", "h"]);
        queue.acknowledge(SequenceNumber::new(12));
        assert_eq!((queue.len(), queue.slice(SequenceNumber::new(12), 6).to_vec()), (6, b"cdefgh".to_vec()));
        queue.acknowledge(SequenceNumber::new(14));
        assert_eq!(queue.slice(SequenceNumber::new(16), 2).to_vec(), b"gh");
        queue.acknowledge(SequenceNumber::new(18));
        assert_eq!(queue.len(), 0);
        queue.push(Buffer::from("i"));
        assert_eq!(queue.slice(SequenceNumber::new(18), 1).to_vec(), b"i");
    }
}
