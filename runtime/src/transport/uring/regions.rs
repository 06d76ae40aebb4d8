//! The memory of the buffer pool, registered with a ring.

use crate::buffer::pool::{self, Region, RegionEvent, RegionHook};
use io_uring::Submitter;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

/// The most regions that can be registered.
const MOST: u32 = 1024;

enum Change {
    Mapped(Region),
    Unmapping(u32),
}

/// What the pool has told, and the ring has not been told yet. The pool's hook may run at any time, also while a device
/// is at work, so it only takes notes.
#[derive(Default)]
struct Notes {
    any: Cell<bool>,
    changes: RefCell<Vec<Change>>,
}

/// The regions of this thread's buffer pool in the table of registered buffers of a ring of io_uring, so that reads and
/// writes with [`Buffer`](crate::buffer::Buffer)s can name memory that the kernel has pinned already
/// (`io_uring_register(2)`, `IORING_REGISTER_BUFFERS2`). The transport has one; so has every device with a ring of its
/// own. Regions that the kernel does not take, or more than it takes, are used without a name.
///
/// Each call wants the submitter of the same ring. With another one's, operations name what they should not, and
/// fail.
///
/// ```
/// use demikernel_runtime::buffer::BufferMut;
/// use demikernel_runtime::transport::uring::RegisteredRegions;
///
/// let Ok(ring) = io_uring::IoUring::new(8) else { return }; // a sandbox may forbid it
/// let mut regions = RegisteredRegions::new(&ring.submitter(), true);
/// let buffer = BufferMut::with_capacity(4096).unwrap();
/// if let Some(number) = regions.number(&ring.submitter(), buffer.region()) {
///     assert_eq!(Some(u32::from(number)), buffer.region().map(|(id, _)| id)); // for `IORING_OP_READ_FIXED`
/// }
/// assert_eq!(regions.number(&ring.submitter(), None), None, "memory that is not the pool's has no name");
/// ```
pub struct RegisteredRegions {
    notes: Rc<Notes>,
    registered: Vec<bool>,
    _hook: Option<RegionHook>,
}

impl RegisteredRegions {
    /// Registers all regions, those that exist and those to come, if `wanted`.
    pub fn new(submitter: &Submitter<'_>, wanted: bool) -> RegisteredRegions {
        let notes = Rc::new(Notes::default());
        let mut hook = None;
        if wanted {
            match submitter.register_buffers_sparse(MOST) {
                Ok(()) => {
                    let notes = notes.clone();
                    hook = Some(pool::on_region(move |event| {
                        let change = match event {
                            RegionEvent::Mapped(region) => Change::Mapped(*region),
                            RegionEvent::Unmapping(region) => Change::Unmapping(region.id),
                        };
                        notes.changes.borrow_mut().push(change);
                        notes.any.set(true);
                    }));
                }
                Err(error) => tracing::debug!(%error, "no table of registered buffers"),
            }
        }
        RegisteredRegions { notes, registered: Vec::new(), _hook: hook }
    }

    #[inline(always)]
    pub(super) fn have_changed(&self) -> bool {
        self.notes.any.get()
    }

    /// Tells the ring what the pool has told.
    #[cold]
    pub(super) fn follow(&mut self, submitter: &Submitter<'_>) {
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
            // SAFETY: the pool keeps a region mapped until it has said that it will unmap it, which is
            // heard here before any operation names a region of that number again.
            let result = unsafe { submitter.register_buffers_update(id, &[memory], None) };
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

    /// The number by which operations name the memory of a buffer, if it is registered.
    pub fn number(&mut self, submitter: &Submitter<'_>, region: Option<(u32, usize)>) -> Option<u16> {
        let (id, _) = region?;
        if self.have_changed() {
            self.follow(submitter);
        }
        let registered = self.registered.get(id as usize).copied().unwrap_or(false);
        registered.then_some(id as u16)
    }
}

impl fmt::Debug for RegisteredRegions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.registered.iter().filter(|registered| **registered).count();
        f.debug_struct("RegisteredRegions").field("registered", &count).finish_non_exhaustive()
    }
}
