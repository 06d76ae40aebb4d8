//! Rings in memory that is shared with the kernel: one side writes entries and a producer's index, the other reads
//! them and writes a consumer's index (Documentation/networking/af_xdp.rst, "Rings").
//!
//! Indices run on without end, and count modulo the size of the ring, a power of two. An entry belongs to the producer
//! until its index has been published, and to the consumer until that has released it; the release of one side and the
//! acquire of the other order the accesses to it. What the other side writes is not trusted with memory: positions are
//! masked, and an index that cannot be counts as no entry.

use super::kernel::Mapping;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where the parts of a ring are in its mapping, in bytes.
pub(super) type Offsets = libc::xdp_ring_offset;

/// A ring, as both sides see it.
#[derive(Debug)]
struct Ring<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    mask: u32,
    /// What the pointers point into.
    _mapping: Rc<Mapping>,
}

impl<T: Copy> Ring<T> {
    /// # Panics
    /// If the offsets are outside of the mapping or not aligned: then it is not what was asked for.
    fn new(mapping: Rc<Mapping>, offsets: &Offsets, size: u32) -> Ring<T> {
        assert!(size.is_power_of_two());
        Ring {
            producer: mapping.at(offsets.producer as usize, 1),
            consumer: mapping.at(offsets.consumer as usize, 1),
            flags: mapping.at(offsets.flags as usize, 1),
            entries: mapping.at(offsets.desc as usize, size as usize),
            mask: size - 1,
            _mapping: mapping,
        }
    }

    fn size(&self) -> u32 {
        self.mask + 1
    }

    fn word(&self, word: NonNull<AtomicU32>) -> &AtomicU32 {
        // SAFETY: in the mapping, which lives as long as this; both sides access it as an atomic only.
        unsafe { word.as_ref() }
    }

    fn entry(&self, index: u32) -> NonNull<T> {
        // SAFETY: the masked index is less than the number of entries, which are inside the mapping.
        unsafe { self.entries.add((index & self.mask) as usize) }
    }
}

/// The side that adds entries: of the fill ring and the transmit ring.
#[derive(Debug)]
pub(super) struct Producer<T> {
    ring: Ring<T>,
    /// Behind the last entry that was written.
    next: u32,
    /// What the consumer's index was when it was last looked at.
    consumed: u32,
}

impl<T: Copy> Producer<T> {
    pub(super) fn new(mapping: Rc<Mapping>, offsets: &Offsets, size: u32) -> Producer<T> {
        let ring = Ring::new(mapping, offsets, size);
        let next = ring.word(ring.producer).load(Ordering::Relaxed);
        Producer { ring, next, consumed: next }
    }

    /// Whether there is room for so many entries.
    #[inline]
    pub(super) fn has_room(&mut self, count: u32) -> bool {
        self.ring.size() - self.written() >= count || {
            self.look();
            self.ring.size() - self.written() >= count
        }
    }

    /// Adds an entry, which the other side does not see before [`publish`](Self::publish).
    ///
    /// # Panics
    /// If there is no room, of which the caller has made sure.
    #[inline]
    pub(super) fn push(&mut self, entry: T) {
        assert!(self.has_room(1), "the ring is full");
        // SAFETY: an entry that the consumer has released, or that was never published, is ours to write.
        unsafe { self.ring.entry(self.next).write(entry) };
        self.next = self.next.wrapping_add(1);
    }

    /// Lets the other side see what was added.
    #[inline]
    pub(super) fn publish(&mut self) {
        self.ring.word(self.ring.producer).store(self.next, Ordering::Release);
    }

    /// How many entries the consumer has not taken.
    #[inline]
    pub(super) fn pending(&mut self) -> u32 {
        if self.next != self.consumed {
            self.look();
        }
        self.written()
    }

    /// Whether the kernel asks to be woken.
    #[inline]
    pub(super) fn needs_wakeup(&self) -> bool {
        self.ring.word(self.ring.flags).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    fn look(&mut self) {
        let consumed = self.ring.word(self.ring.consumer).load(Ordering::Acquire);
        // An index that is neither between the last one and ours cannot be.
        if self.next.wrapping_sub(consumed) <= self.written() {
            self.consumed = consumed;
        }
    }

    /// Entries that were written and, as far as is known, not consumed. At most the size.
    fn written(&self) -> u32 {
        self.next.wrapping_sub(self.consumed)
    }
}

/// The side that takes entries: of the receive ring and the completion ring.
#[derive(Debug)]
pub(super) struct Consumer<T> {
    ring: Ring<T>,
    /// The next entry to take.
    next: u32,
    /// What the producer's index was when it was last looked at.
    produced: u32,
}

impl<T: Copy> Consumer<T> {
    pub(super) fn new(mapping: Rc<Mapping>, offsets: &Offsets, size: u32) -> Consumer<T> {
        let ring = Ring::new(mapping, offsets, size);
        let next = ring.word(ring.consumer).load(Ordering::Relaxed);
        Consumer { ring, next, produced: next }
    }

    /// The next entry. The producer does not have its place before [`release`](Self::release).
    #[inline]
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.next == self.produced {
            let produced = self.ring.word(self.ring.producer).load(Ordering::Acquire);
            let more = produced.wrapping_sub(self.next);
            // More than the ring has cannot be.
            if more == 0 || more > self.ring.size() {
                return None;
            }
            self.produced = produced;
        }
        // SAFETY: published, and not released yet, so the producer does not write it. Entries are plain numbers.
        let entry = unsafe { self.ring.entry(self.next).read() };
        self.next = self.next.wrapping_add(1);
        Some(entry)
    }

    /// Gives the places of what was taken back to the producer.
    #[inline]
    pub(super) fn release(&mut self) {
        self.ring.word(self.ring.consumer).store(self.next, Ordering::Release);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const OFFSETS: Offsets = Offsets { producer: 0, consumer: 64, desc: 128, flags: 4 };

    /// Both sides of a ring in memory whose indices begin at `start`, and its words.
    pub(in super::super) fn joined<T: Copy>(
        size: u32,
        start: u32,
    ) -> (Producer<T>, Consumer<T>, Rc<Mapping>) {
        let mapping = Rc::new(Mapping::anonymous(128 + size as usize * size_of::<T>()).unwrap());
        for offset in [OFFSETS.producer, OFFSETS.consumer] {
            word(&mapping, offset).store(start, Ordering::Relaxed);
        }
        let producer = Producer::new(mapping.clone(), &OFFSETS, size);
        (producer, Consumer::new(mapping.clone(), &OFFSETS, size), mapping)
    }

    fn word(mapping: &Mapping, offset: u64) -> &AtomicU32 {
        // SAFETY: in the mapping, and accessed as an atomic only.
        unsafe { mapping.at::<AtomicU32>(offset as usize, 1).as_ref() }
    }

    proptest! {
        /// Against a queue, past the end of the indices.
        #[test]
        fn entries_come_out_in_order_and_no_more_than_fit(
            steps in prop::collection::vec((0..2_u8, 1..12_u32), 1..60),
            before_end in 0..20_u32,
        ) {
            let (mut producer, mut consumer, _) = joined::<u64>(8, u32::MAX - before_end);
            let (mut model, mut number) = (VecDeque::new(), 0);
            for (kind, count) in steps {
                if kind == 0 {
                    prop_assert_eq!(producer.has_room(count), model.len() + count as usize <= 8);
                    let count = count.min(8 - model.len() as u32);
                    for _ in 0..count {
                        number += 1;
                        producer.push(number);
                        model.push_back(number);
                    }
                    producer.publish();
                } else {
                    for _ in 0..count {
                        prop_assert_eq!(consumer.pop(), model.pop_front());
                    }
                    consumer.release();
                }
                prop_assert_eq!(producer.pending() as usize, model.len());
            }
        }
    }

    #[test]
    fn nothing_is_seen_before_it_is_published_nor_overwritten_before_it_is_released() {
        let (mut producer, mut consumer, _) = joined::<u64>(2, 0);
        producer.push(7);
        assert_eq!(consumer.pop(), None);
        producer.push(8);
        producer.publish();
        assert_eq!(consumer.pop(), Some(7));
        assert!(!producer.has_room(1), "taken, and not released");
        consumer.release();
        assert!(producer.has_room(1) && !producer.has_room(2));
    }

    #[test]
    fn an_index_that_cannot_be_is_not_believed() {
        let (mut producer, mut consumer, mapping) = joined::<u64>(4, 10);
        word(&mapping, OFFSETS.producer).store(10 + 5, Ordering::Relaxed);
        assert_eq!(consumer.pop(), None, "five entries of four");
        word(&mapping, OFFSETS.consumer).store(11, Ordering::Relaxed);
        assert!(producer.has_room(4) && producer.pending() == 0, "consumed what was not produced");
        word(&mapping, OFFSETS.flags).store(1, Ordering::Relaxed);
        assert!(producer.needs_wakeup());
    }
}
