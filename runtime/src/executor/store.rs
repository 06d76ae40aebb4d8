//! Memory for the futures of tasks: the smallest are in their slots; for others there are free lists by size
//! class, so that spawning allocates nothing once a runtime has had as many tasks of a size as it ever has at
//! once. Larger futures take one allocation.

use super::memory::{allocate_chunk, next_layout};
use super::slot::{FUTURE, FUTURE_ALIGN, Slot};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::ptr::{self, NonNull};

/// Cells of a class have 128 << class bytes, up to 4 KiB.
const CLASSES: usize = 6;
const SMALLEST: usize = 128;

/// Where a task's memory comes from; a constant of its type.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// In the task's slot.
    Slot,
    Class(u8),
    Allocator(Layout),
}

impl Place {
    pub(super) const fn of(layout: Layout) -> Place {
        if layout.align() > SMALLEST {
            return Place::Allocator(layout);
        }
        if layout.size() <= FUTURE && layout.align() <= FUTURE_ALIGN {
            return Place::Slot;
        }
        let mut class = 0;
        while class < CLASSES {
            if layout.size() <= SMALLEST << class {
                return Place::Class(class as u8);
            }
            class += 1;
        }
        Place::Allocator(layout)
    }
}

struct FreeCell {
    next: *mut FreeCell,
}

pub(super) struct TaskStore {
    free: [Cell<*mut FreeCell>; CLASSES],
    /// Cells of the classes that are handed out.
    live: Cell<usize>,
    chunks: RefCell<Vec<(*mut u8, Layout)>>,
}

impl TaskStore {
    pub(super) const fn new() -> TaskStore {
        TaskStore {
            free: [const { Cell::new(ptr::null_mut()) }; CLASSES],
            live: Cell::new(0),
            chunks: RefCell::new(Vec::new()),
        }
    }

    /// Memory for the task of a slot, uninitialised, aligned for it.
    #[inline(always)]
    pub(super) fn allocate(&self, slot: NonNull<Slot>, place: Place) -> *mut u8 {
        match place {
            Place::Slot => Slot::future_cell(slot),
            Place::Class(class) => {
                self.live.set(self.live.get() + 1);
                let head = &self.free[class as usize];
                let mut cell = head.get();
                if cell.is_null() {
                    cell = self.refill(class);
                }
                // SAFETY: cells in the free list start with the link.
                head.set(unsafe { (*cell).next });
                cell.cast()
            }
            Place::Allocator(layout) => allocate(layout),
        }
    }

    /// # Safety
    /// `cell` came from `allocate` with the same place, and its contents are gone.
    #[inline(always)]
    pub(super) unsafe fn free(&self, cell: *mut u8, place: Place) {
        match place {
            Place::Slot => {}
            Place::Class(class) => {
                self.live.set(self.live.get() - 1);
                let head = &self.free[class as usize];
                let cell = cell.cast::<FreeCell>();
                // SAFETY: the caller's cell is ours again; it is at least 128 bytes and aligned to that.
                unsafe { cell.write(FreeCell { next: head.get() }) };
                head.set(cell);
            }
            // SAFETY: the caller's cell is from `allocate` with this place, so from the allocator with this layout.
            Place::Allocator(layout) => unsafe { dealloc(cell, layout) },
        }
    }

    /// A list of new cells of a class.
    #[cold]
    #[inline(never)]
    fn refill(&self, class: u8) -> *mut FreeCell {
        let size = SMALLEST << class;
        let mut chunks = self.chunks.borrow_mut();
        let layout = next_layout(chunks.len(), size);
        let chunk = allocate_chunk(layout).as_ptr();
        chunks.push((chunk, layout));
        let mut head = ptr::null_mut();
        for index in (0..layout.size() / size).rev() {
            // SAFETY: within the new chunk, aligned to 128.
            unsafe {
                let cell = chunk.add(index * size).cast::<FreeCell>();
                cell.write(FreeCell { next: head });
                head = cell;
            }
        }
        head
    }

    /// Gives the memory back to the allocator, unless some of it is in use still.
    pub(super) fn trim(&self) {
        if self.live.get() != 0 {
            return;
        }
        for head in &self.free {
            head.set(ptr::null_mut());
        }
        for (chunk, layout) in self.chunks.borrow_mut().drain(..) {
            // SAFETY: allocated with this layout, and no cell of it is handed out or in a list.
            unsafe { dealloc(chunk, layout) };
        }
    }
}

fn allocate(layout: Layout) -> *mut u8 {
    debug_assert_ne!(layout.size(), 0);
    // SAFETY: no task's layout is of size 0: there is room for a panic's payload.
    let memory = unsafe { alloc(layout) };
    if memory.is_null() {
        handle_alloc_error(layout)
    }
    memory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_by_size_and_alignment() {
        let place = |size, align| Place::of(Layout::from_size_align(size, align).unwrap());
        assert!(matches!(place(0, 1), Place::Slot));
        assert!(matches!(place(80, 8), Place::Slot));
        assert!(matches!(place(81, 8), Place::Class(0)));
        assert!(matches!(place(8, 16), Place::Class(0)));
        assert!(matches!(place(8, 128), Place::Class(0)));
        assert!(matches!(place(4096, 8), Place::Class(5)));
        assert!(matches!(place(4097, 8), Place::Allocator(_)));
        assert!(matches!(place(8, 256), Place::Allocator(_)));
    }

    #[test]
    fn cells_are_reused_last_in_first_out() {
        let store = TaskStore::new();
        let place = Place::Class(1);
        let slot = NonNull::dangling();
        let (a, b) = (store.allocate(slot, place), store.allocate(slot, place));
        assert_ne!(a, b);
        assert_eq!(a.addr() % SMALLEST, 0);
        // SAFETY: both were just allocated with this place.
        unsafe {
            store.free(a, place);
            store.free(b, place);
        }
        assert_eq!(store.allocate(slot, place), b);
        assert_eq!(store.allocate(slot, place), a);
        assert_eq!(store.chunks.borrow().len(), 1);
        // SAFETY: both were allocated anew with this place.
        unsafe {
            store.free(a, place);
            store.trim();
            assert_eq!(store.chunks.borrow().len(), 1, "one cell is still out");
            store.free(b, place);
        }
        store.trim();
        assert_eq!(store.chunks.borrow().len(), 0);
    }
}
