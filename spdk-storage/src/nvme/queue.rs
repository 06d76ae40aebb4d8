//! A submission queue and its completion queue.
//!
//! Both are rings in memory that the device reads and writes by itself. Each side tells how far it has come: we by
//! doorbells, the device by the head in each completion, and by the phase of completions, a bit that it inverts with each
//! round through the ring.

use super::barrier;
use super::bus::Bus;
use super::command::{Completion, Submission};
use super::dma::{Dma, Space};
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

/// Where in the memory of a queue its parts are.
struct Layout {
    completions: usize,
    bytes: usize,
}

/// A pair of queues with as many entries each.
pub(super) struct QueuePair {
    number: u16,
    entries: u32,
    memory: Dma,
    layout: Layout,
    doorbells: Doorbells,
    /// Where the next command goes, and how far the device has been told.
    tail: u32,
    told: u32,
    /// How far the device has taken commands, as far as is known.
    taken: u32,
    /// Where the next completion comes, and how far the device has been told.
    head: u32,
    freed: u32,
    phase: bool,
}

/// Two registers.
struct Doorbells {
    submission: NonNull<u32>,
    completion: NonNull<u32>,
    #[expect(dead_code, reason = "the registers are mapped as long as it lives")]
    bus: Arc<dyn Bus>,
}

// SAFETY: registers belong to no thread, and a pair of queues is one thread's at a time.
unsafe impl Send for QueuePair {}

impl Doorbells {
    fn new(bus: Arc<dyn Bus>, number: u16, stride: usize) -> io::Result<Doorbells> {
        let (base, length) = bus.doorbells();
        let place = |index: usize| {
            let offset = index * stride;
            // SAFETY: within the registers, which are memory.
            let register = (offset + 4 <= length).then(|| unsafe { base.byte_add(offset) });
            register.and_then(NonNull::new).ok_or_else(|| {
                io::Error::other(format!(
                    "the controller has no doorbells for queue {number} in its registers"
                ))
            })
        };
        let (submission, completion) = (place(2 * usize::from(number))?, place(2 * usize::from(number) + 1)?);
        Ok(Doorbells { submission, completion, bus })
    }
}

impl Layout {
    /// Each of them begins at a page, of the device's size.
    fn new(entries: u32, page: usize) -> Layout {
        let completions = (entries as usize * size_of::<Submission>()).next_multiple_of(page);
        let bytes = completions + (entries as usize * size_of::<Completion>()).next_multiple_of(page);
        Layout { completions, bytes }
    }
}

impl QueuePair {
    /// Memory for a pair of queues; the device is yet to be told of it.
    pub(super) fn new(
        bus: &Arc<dyn Bus>,
        space: &Arc<Space>,
        (page, stride): (u32, usize),
        number: u16,
        entries: u32,
    ) -> io::Result<QueuePair> {
        assert!(entries >= 2, "one entry always stays free");
        let layout = Layout::new(entries, page as usize);
        let memory = Dma::new(space, layout.bytes)?;
        assert!(memory.len() >= layout.bytes);
        let doorbells = Doorbells::new(bus.clone(), number, stride)?;
        let state = (0, 0, 0);
        let (tail, told, taken) = state;
        let (head, freed) = (0, 0);
        Ok(QueuePair {
            number,
            entries,
            memory,
            layout,
            doorbells,
            tail,
            told,
            taken,
            head,
            freed,
            phase: true,
        })
    }

    /// Begins anew, with a device that has forgotten these queues.
    pub(super) fn clear(&mut self) {
        // SAFETY: all of the memory is this one's, and the device does not use it.
        unsafe { self.memory.pointer().write_bytes(0, self.layout.bytes) };
        (self.tail, self.told, self.taken, self.head, self.freed) = (0, 0, 0, 0, 0);
        self.phase = true;
    }

    /// Puts a command in, without telling the device. The caller sees to it that commands under way are fewer than
    /// entries.
    #[inline]
    pub(super) fn push(&mut self, command: Submission) {
        let next = self.after(self.tail);
        assert_ne!(next, self.taken, "an NVMe queue is overrun");
        // SAFETY: `tail` is below `entries`, and the layout has room for so many. The device reads only what it has been
        // told of and has not taken, which ends before the tail.
        unsafe { self.memory.pointer().cast::<Submission>().add(self.tail as usize).write_volatile(command) };
        self.tail = next;
    }

    /// Tells the device of new commands, if there are any.
    #[inline]
    pub(super) fn ring(&mut self) -> bool {
        if self.told == self.tail {
            return false;
        }
        barrier::before_doorbell();
        // SAFETY: a register, which is mapped as long as the bus lives.
        unsafe { self.doorbells.submission.write_volatile(self.tail) };
        self.told = self.tail;
        true
    }

    /// The next completion, if there is one.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Completion> {
        // SAFETY: `head` is below `entries`, and the layout has room for so many. It is memory of numbers, whatever the
        // device writes.
        let entry = unsafe {
            self.memory.pointer().add(self.layout.completions).cast::<Completion>().add(self.head as usize)
        };
        // SAFETY: the same. The device writes the status last.
        let status = unsafe { (&raw const (*entry.as_ptr()).status).read_volatile() };
        if status.phase() != self.phase {
            return None;
        }
        barrier::after_phase();
        // SAFETY: the same.
        let completion = unsafe { entry.read_volatile() };
        self.head = self.after(self.head);
        self.phase ^= self.head == 0;
        // A device that says nonsense here must not have us write outside, or into what it has not taken.
        if self.is_under_way(u32::from(completion.head)) {
            self.taken = u32::from(completion.head);
        }
        Some(completion)
    }

    /// Tells the device how far completions have been taken, if that is news.
    #[inline]
    pub(super) fn acknowledge(&mut self) {
        if self.freed != self.head {
            // SAFETY: a register, which is mapped as long as the bus lives.
            unsafe { self.doorbells.completion.write_volatile(self.head) };
            self.freed = self.head;
        }
    }

    /// Whether a head is one that the device may have come to.
    #[inline]
    fn is_under_way(&self, head: u32) -> bool {
        let distance = |to: u32| (to + self.entries - self.taken) % self.entries;
        head < self.entries && distance(head) <= distance(self.told)
    }

    #[inline]
    fn after(&self, index: u32) -> u32 {
        if index + 1 == self.entries { 0 } else { index + 1 }
    }

    /// Whether there is room for a command.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.after(self.tail) != self.taken
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }

    pub(super) fn entries(&self) -> u32 {
        self.entries
    }

    /// Where the device has the submission queue, and the completion queue.
    pub(super) fn addresses(&self) -> (u64, u64) {
        (self.memory.iova(), self.memory.iova() + self.layout.completions as u64)
    }
}
