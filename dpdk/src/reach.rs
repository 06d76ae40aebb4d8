//! Which buffers a device reaches.

use std::cell::RefCell;
use std::rc::Rc;

use demikernel_runtime::buffer::pool::{self, RegionEvent, RegionHook};

use crate::eal::Eal;

/// What a port's device reaches of the thread's heap.
///
/// Regions that were mapped before EAL became their source, and memory that is not the heap's, are out of its reach.
pub(crate) struct Reach(Option<Table>);

/// By the number of a region.
struct Table {
    reached: Rc<RefCell<Vec<bool>>>,
    #[expect(dead_code, reason = "held for its destructor")]
    hook: RegionHook,
}

impl Reach {
    /// That of a driver which copies on the processor.
    pub(crate) fn everything() -> Reach {
        Reach(None)
    }

    /// That of a device, which reaches EAL's memory.
    pub(crate) fn of(eal: &'static Eal) -> Reach {
        let reached = Rc::new(RefCell::new(Vec::new()));
        let (told, memory) = (reached.clone(), eal.memory());
        let hook = pool::on_region(move |event| {
            let (region, is_reached) = match event {
                RegionEvent::Mapped(region) => (region, memory.contains(region.base)),
                RegionEvent::Unmapping(region) => (region, false),
            };
            let mut reached = told.borrow_mut();
            let index = region.id as usize;
            if index >= reached.len() {
                reached.resize(index + 1, false);
            }
            reached[index] = is_reached;
        });
        Reach(Some(Table { reached, hook }))
    }

    /// Whether it reaches any memory of the process.
    #[inline]
    pub(crate) fn is_everything(&self) -> bool {
        self.0.is_none()
    }

    /// Whether it reaches a buffer that lies there ([`Buffer::region`](demikernel_runtime::buffer::Buffer::region)).
    #[inline]
    pub(crate) fn has(&self, region: Option<(u32, usize)>) -> bool {
        let Some(table) = &self.0 else { return true };
        region.is_some_and(|(id, _)| table.reached.borrow().get(id as usize).copied().unwrap_or(false))
    }
}
