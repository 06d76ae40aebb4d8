//! The memory of the buffer pool, registered with the ring.

use super::ring::Ring;
use demikernel_runtime::buffer::pool::{self, Region, RegionEvent, RegionHook};
use io_uring::{cqueue, squeue};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// The most regions that can be registered.
const MOST: u32 = 1024;

enum Change {
    Mapped(Region),
    Unmapping(u32),
}

/// What the pool has told, and the ring has not been told yet. The pool's hook may run at any time, so it takes notes.
#[derive(Default)]
struct Notes {
    any: Cell<bool>,
    changes: RefCell<Vec<Change>>,
}

/// Which regions operations can name.
pub(super) struct Regions {
    notes: Rc<Notes>,
    registered: Vec<bool>,
    _hook: Option<RegionHook>,
}

impl Regions {
    pub(super) fn new<S: squeue::EntryMarker, C: cqueue::EntryMarker>(
        ring: &Ring<S, C>,
        wanted: bool,
    ) -> Regions {
        let notes = Rc::new(Notes::default());
        let mut hook = None;
        if wanted {
            match ring.submitter().register_buffers_sparse(MOST) {
                Ok(()) => {
                    let notes = notes.clone();
                    hook = Some(pool::on_region(move |event| {
                        notes.changes.borrow_mut().push(match event {
                            RegionEvent::Mapped(region) => Change::Mapped(*region),
                            RegionEvent::Unmapping(region) => Change::Unmapping(region.id),
                        });
                        notes.any.set(true);
                    }));
                }
                Err(error) => tracing::debug!(%error, "no table of registered buffers"),
            }
        }
        Regions { notes, registered: Vec::new(), _hook: hook }
    }

    /// The number by which operations name a region, if it is registered.
    pub(super) fn number<S: squeue::EntryMarker, C: cqueue::EntryMarker>(
        &mut self,
        ring: &Ring<S, C>,
        region: Option<(u32, usize)>,
    ) -> Option<u16> {
        let (id, _) = region?;
        if self.notes.any.get() {
            self.follow(ring);
        }
        let registered = self.registered.get(id as usize).copied().unwrap_or(false);
        registered.then_some(id as u16)
    }

    /// Tells the ring what the pool has told.
    #[cold]
    fn follow<S: squeue::EntryMarker, C: cqueue::EntryMarker>(&mut self, ring: &Ring<S, C>) {
        self.notes.any.set(false);
        let changes = std::mem::take(&mut *self.notes.changes.borrow_mut());
        for change in changes {
            let (id, memory) = match change {
                Change::Mapped(region) => {
                    let base = region.base.as_ptr().cast();
                    (region.id, libc::iovec { iov_base: base, iov_len: region.len })
                }
                Change::Unmapping(id) => (id, libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }),
            };
            if id >= MOST {
                continue;
            }
            // SAFETY: the pool keeps a region mapped until it has said that it will unmap it, which is heard here before
            // any operation names a region of that number again.
            let result = unsafe { ring.submitter().register_buffers_update(id, &[memory], None) };
            if let Err(error) = &result {
                tracing::debug!(%error, id, bytes = memory.iov_len, "a region of buffers is not registered");
            }
            let index = id as usize;
            if self.registered.len() <= index {
                self.registered.resize(index + 1, false);
            }
            self.registered[index] = result.is_ok() && memory.iov_len > 0;
        }
    }
}
