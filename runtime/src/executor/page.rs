//! Pages of operation slots, and the bits that say which of them are ready.
//!
//! A page is 8 KiB: 63 slots of 128 bytes and one header in a cell of the same size. The header's words have
//! one bit per cell. Its own cell is not always the first: it moves with the page's number, because headers
//! that all lay on page boundaries would share one set of the level-1 cache.
//!
//! Pages are never given back to the allocator. A [`Core`] keeps its pages for life and is itself recycled,
//! so a waker that outlives its task, or its whole runtime, still points at a page: at worst it wakes
//! whoever has the slot now, which the contract of `Future` allows.

use super::core::Core;
use super::slot::Slot;
use crate::sync::{AtomicPtr, AtomicU64};
use std::cell::Cell;
use std::ptr::NonNull;

pub(crate) const PAGE_SIZE: usize = 8192;
const CELL: usize = 128;
const CELLS: usize = PAGE_SIZE / CELL;
/// Slots of a page: every cell but the header's.
pub(crate) const SLOTS: u32 = CELLS as u32 - 1;

/// The header of a page.
///
/// Who may touch what: the two `remote` fields belong to every thread; everything else to the thread that
/// runs `core`, whoever that is at the time.
#[repr(C, align(64))]
pub(crate) struct Page {
    /// Slots to run when the page's turn comes. The page is in the ready queue exactly while this is not 0.
    pub(super) ready: Cell<u64>,
    /// Slots of the present turn that have not run yet.
    pub(super) running: Cell<u64>,
    /// Slots nobody uses.
    pub(super) free: Cell<u64>,
    /// The next page of the ready queue.
    pub(super) next_ready: Cell<*const Page>,
    /// The next page with a free slot; the page is in that list exactly while `free` is not 0.
    pub(super) next_free: Cell<*const Page>,
    pub(super) core: NonNull<Core>,
    /// Slots woken by other threads. The page is in the core's remote stack, or about to be put there by
    /// the thread that changed this from 0, while this is not 0.
    pub(super) remote: AtomicU64,
    /// The next page of the remote stack.
    pub(super) next_remote: AtomicPtr<Page>,
}

const _: () = assert!(size_of::<Slot>() == CELL && align_of::<Slot>() == CELL);
#[cfg(not(demikernel_loom))]
const _: () = assert!(size_of::<Page>() == 64, "a header is one cache line");
const _: () = assert!(size_of::<Page>() <= CELL && align_of::<Page>() <= CELL);

impl Page {
    /// Makes a page for `core` of a block of memory, all of its slots free.
    ///
    /// # Safety
    /// The block is of `PAGE_SIZE`, aligned to that, unused, and never freed.
    pub(super) unsafe fn new(base: NonNull<u8>, core: NonNull<Core>) -> NonNull<Page> {
        let header = header_cell(base.as_ptr().addr());
        let page = Page {
            ready: Cell::new(0),
            running: Cell::new(0),
            free: Cell::new(!(1 << header)),
            next_ready: Cell::new(std::ptr::null()),
            next_free: Cell::new(std::ptr::null()),
            core,
            remote: AtomicU64::new(0),
            next_remote: AtomicPtr::new(std::ptr::null_mut()),
        };
        // SAFETY: the caller's block has CELLS cells, each aligned for and as large as a slot or a header
        // (asserted above).
        unsafe {
            for cell in (0..CELLS).filter(|&cell| cell != header) {
                base.cast::<Slot>().add(cell).write(Slot::new());
            }
            let at = base.add(header * CELL).cast::<Page>();
            at.write(page);
            at
        }
    }

    /// The page of a slot.
    ///
    /// # Safety
    /// `slot` came from [`Page::slot`].
    #[inline(always)]
    pub(crate) unsafe fn of(slot: NonNull<Slot>) -> NonNull<Page> {
        let address = slot.as_ptr().addr();
        let base = address & !(PAGE_SIZE - 1);
        let header = base + header_cell(base) * CELL;
        // SAFETY: slots are cells of a page; the header lies in the same allocation, for which the slot's
        // pointer has provenance, since both were derived from the block's own pointer.
        unsafe { NonNull::new_unchecked(slot.as_ptr().cast::<Page>().with_addr(header)) }
    }

    /// The bit of a slot in its page's words.
    #[inline(always)]
    pub(crate) fn bit(slot: NonNull<Slot>) -> u64 {
        1 << ((slot.as_ptr().addr() / CELL) & (CELLS - 1))
    }

    /// The slot at a bit's index.
    ///
    /// # Safety
    /// `page` came from [`Page::new`], and `index` is not the header's: every word of the header keeps
    /// that bit 0.
    #[inline(always)]
    pub(super) unsafe fn slot(page: NonNull<Page>, index: u32) -> NonNull<Slot> {
        let base = page.as_ptr().addr() & !(PAGE_SIZE - 1);
        let address = base + index as usize * CELL;
        // SAFETY: within the page's allocation, hence not null.
        unsafe { NonNull::new_unchecked(page.as_ptr().cast::<Slot>().with_addr(address)) }
    }

    /// The bit of the header's own cell, which is nobody's slot.
    pub(super) fn header_bit(&self) -> u64 {
        1 << header_cell(std::ptr::from_ref(self).addr() & !(PAGE_SIZE - 1))
    }

    /// Slots in use.
    pub(super) fn live(&self) -> u32 {
        SLOTS - self.free.get().count_ones()
    }
}

#[inline(always)]
fn header_cell(address: usize) -> usize {
    (address / PAGE_SIZE) & (CELLS - 1)
}

#[cfg(all(test, not(demikernel_loom)))]
mod tests {
    use super::*;

    #[test]
    fn slots_and_header_find_each_other() {
        let layout = std::alloc::Layout::from_size_align(PAGE_SIZE, PAGE_SIZE).unwrap();
        // SAFETY: the layout has a size.
        let memory = NonNull::new(unsafe { std::alloc::alloc(layout) }).unwrap();
        // SAFETY: a block of that layout, which is freed at the end.
        let page = unsafe { Page::new(memory, NonNull::dangling()) };
        let header = header_cell(page.as_ptr().addr()) as u32;
        // SAFETY: just made, and freed last; the header's own index is left out.
        unsafe {
            assert_eq!(page.as_ref().free.get().count_ones(), SLOTS);
            for index in (0..64).filter(|&index| index != header) {
                let slot = Page::slot(page, index);
                assert_eq!(Page::of(slot), page);
                assert_eq!(Page::bit(slot), 1 << index);
                assert_ne!(page.as_ref().free.get() & Page::bit(slot), 0);
            }
            assert_eq!(page.as_ref().live(), 0);
            std::alloc::dealloc(memory.as_ptr(), layout);
        }
    }
}
