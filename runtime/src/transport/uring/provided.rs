//! The ring of buffers from which the kernel picks one when a receive has data.
//!
//! A connection that waits for data so holds no memory. The buffers that wait in the ring are few, and are
//! replaced by those that were freed last: few connections cycle through few buffers, which stay in the
//! cache. Their number follows the receives under way, and how many of them were found to get data at once;
//! when it was too small, the receive ends with ENOBUFS and is started again when there are more.

use super::ring::Ring;
use crate::buffer::{Buffer, BufferMut};
use io_uring::types::BufRingEntry;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// The one group of buffers.
pub(super) const GROUP: u16 = 0;

/// Up to so many bytes are copied to a small buffer, and the large one goes back into the ring at once: the
/// copy costs less than touching a cold buffer next time, and what the program keeps is not mostly unused.
pub(super) const COPIED: usize = 256;

/// The least number of buffers that wait, unless fewer receives are under way.
const LEAST: usize = 16;

/// After how many looks the number of buffers may shrink.
const PERIOD: u32 = 256;

/// Memory shared with the kernel: entries, and in the first of them the tail.
struct Shared {
    base: NonNull<BufRingEntry>,
    bytes: usize,
}

impl Shared {
    fn map(entries: u16) -> io::Result<Shared> {
        let bytes = usize::from(entries) * size_of::<BufRingEntry>();
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a successful mapping is not at 0. A child process must not share these pages.
        let base = unsafe {
            libc::madvise(base, bytes, libc::MADV_DONTFORK);
            NonNull::new_unchecked(base.cast())
        };
        Ok(Shared { base, bytes })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length. The kernel holds the pages themselves while it uses them.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

pub(super) struct Provided {
    shared: Shared,
    mask: u16,
    tail: u16,
    /// The buffer of each number that the kernel has. It writes there, so nobody looks at the contents
    /// before the completion says that the kernel is done.
    slots: Box<[Option<BufferMut>]>,
    /// Numbers that the kernel does not have.
    free: Vec<u16>,
    /// Bytes of a buffer.
    size: usize,
    /// Receives under way.
    pub(super) armed: usize,
    /// How many buffers are to wait if at least so many receives are under way.
    target: usize,
    /// Receives that used a buffer since the last look, and that found none.
    used: usize,
    short: usize,
    /// The most that used one, or would have, at one look of the present period.
    most_needed: usize,
    /// Looks of the present period that found anything.
    looks: u32,
    /// Receives that found no buffer.
    pub(super) shortages: u64,
    /// The pool gave no buffer.
    pub(super) exhausted: bool,
}

impl Provided {
    /// Registers a ring of `entries` buffers of `size` bytes. It is empty at first.
    ///
    /// # Errors
    /// Those of the kernel, which has this since 5.19.
    pub(super) fn new(ring: &Ring, entries: u16, size: usize) -> io::Result<Provided> {
        let entries = entries.clamp(1, 32_768).next_power_of_two();
        let shared = Shared::map(entries)?;
        let address = shared.base.addr().get() as u64;
        // SAFETY: the mapping has that many entries, and stays until `unregister`, or until the ring is
        // gone: the device drops its ring before this.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, entries, GROUP, 0)? };
        Ok(Provided {
            shared,
            mask: entries - 1,
            tail: 0,
            slots: (0..entries).map(|_| None).collect(),
            free: (0..entries).rev().collect(),
            size,
            armed: 0,
            target: LEAST.min(usize::from(entries)),
            used: 0,
            short: 0,
            most_needed: 0,
            looks: 0,
            shortages: 0,
            exhausted: false,
        })
    }

    /// Bytes of a buffer.
    #[inline]
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Buffers that wait.
    #[inline]
    pub(super) fn posted(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Brings the number of waiting buffers to what the receives under way are likely to need, and those
    /// that are about to start with data there already.
    #[inline]
    pub(super) fn refill(&mut self, starting: usize) {
        let wanted = self.target.min(self.armed).saturating_add(starting);
        if self.posted() < wanted && !self.exhausted {
            self.post_up_to(wanted);
        }
    }

    fn post_up_to(&mut self, wanted: usize) {
        while self.posted() < wanted {
            let Some(&number) = self.free.last() else { break };
            let Ok(buffer) = BufferMut::with_capacity(self.size) else {
                self.exhausted = true;
                break;
            };
            self.free.pop();
            self.post(number, buffer);
        }
        self.publish();
    }

    /// Puts a buffer in the ring; the kernel sees it after [`publish`](Self::publish).
    #[inline]
    fn post(&mut self, number: u16, mut buffer: BufferMut) {
        let spare = buffer.spare_capacity_mut();
        let (address, length) = (spare.as_mut_ptr().addr() as u64, spare.len().min(self.size) as u32);
        // SAFETY: the index is within the mapping. The kernel reads only entries before the tail that it
        // has seen, and as there are no more buffers than entries, this one is not among them.
        unsafe {
            let entry = self.shared.base.add(usize::from(self.tail & self.mask)).as_mut();
            entry.set_addr(address);
            entry.set_len(length);
            entry.set_bid(number);
        }
        self.tail = self.tail.wrapping_add(1);
        self.slots[usize::from(number)] = Some(buffer);
    }

    #[inline]
    fn publish(&mut self) {
        // SAFETY: the tail lies in a part of the first entry that `post` does not touch; the kernel only
        // reads it. The reference ends here.
        let tail = unsafe { &*BufRingEntry::tail(self.shared.base.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }

    /// A receive has put `length` bytes into buffer `number`.
    #[inline]
    pub(super) fn take(&mut self, number: u16, length: usize) -> Option<Buffer> {
        let Some(mut buffer) = self.slots.get_mut(usize::from(number)).and_then(Option::take) else {
            tracing::error!(number, "the kernel used a buffer that it did not have");
            return None;
        };
        self.used += 1;
        // SAFETY: the kernel has written that many bytes from the start of the spare capacity, which it was
        // told in `post`, and has given the buffer back.
        unsafe { buffer.set_len(length.min(self.size)) };
        if length <= COPIED
            && let Ok(small) = Buffer::copy_from_slice(&buffer)
        {
            buffer.clear();
            self.post(number, buffer);
            self.publish();
            return Some(small);
        }
        self.free.push(number);
        Some(buffer.freeze())
    }

    /// A receive has used a buffer, but brought nothing.
    pub(super) fn put_back(&mut self, number: u16) {
        if let Some(buffer) = self.slots.get_mut(usize::from(number)).and_then(Option::take) {
            self.post(number, buffer);
            self.publish();
        }
    }

    /// A receive found no buffer.
    #[cold]
    pub(super) fn shortage(&mut self) {
        self.shortages += 1;
        self.short += 1;
    }

    /// Adapts the number of buffers; called once for each time that the kernel was looked at.
    #[inline]
    pub(super) fn looked(&mut self) {
        let needed = self.used + self.short;
        if needed == 0 {
            return;
        }
        self.exhausted = false;
        self.most_needed = self.most_needed.max(needed);
        self.looks += 1;
        if self.short > 0 || self.looks == PERIOD {
            self.adapt();
        }
        self.used = 0;
        self.short = 0;
    }

    /// A quarter more than were needed at once.
    fn adapt(&mut self) {
        let wanted = (self.most_needed + self.most_needed / 4).max(LEAST).min(self.slots.len());
        if self.looks < PERIOD {
            self.target = self.target.max(wanted);
        } else {
            self.target = wanted;
            self.most_needed = 0;
            self.looks = 0;
        }
    }

    /// Takes the ring away from the kernel. No receive may be under way.
    pub(super) fn unregister(&mut self, ring: &Ring) {
        if let Err(error) = ring.submitter().unregister_buf_ring(GROUP) {
            tracing::debug!(%error, "the ring of buffers stays until the io_uring is gone");
        }
    }

    /// Gives up the buffers without freeing them, because the kernel may still write there.
    pub(super) fn leak(&mut self) {
        for buffer in self.slots.iter_mut().filter_map(Option::take) {
            std::mem::forget(buffer);
        }
    }
}
