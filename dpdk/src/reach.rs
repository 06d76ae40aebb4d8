//! Which buffers a device reaches.

use std::sync::Arc;

use demikernel_runtime::buffer::pool::{Region, RegionTable, RegionUser};

use crate::eal::Eal;
use crate::memory::Memory;

/// What a port's device reaches of the thread's heap.
///
/// Regions that were mapped before EAL became their source, and memory that is not the heap's, are out of its reach.
pub(crate) struct Reach(Option<RegionTable<Reached>>);

/// The regions that lie in EAL's memory.
struct Reached(Arc<Memory>);

impl RegionUser for Reached {
    type Entry = ();

    fn mapped(&mut self, region: &Region) -> Option<()> {
        self.0.contains(region.base).then_some(())
    }

    fn unmapping(&mut self, (): ()) {}
}

impl Reach {
    /// That of a driver which copies on the processor.
    pub(crate) fn everything() -> Reach {
        Reach(None)
    }

    /// That of a device, which reaches EAL's memory.
    pub(crate) fn of(eal: &'static Eal) -> Reach {
        Reach(Some(RegionTable::new(Reached(eal.memory()))))
    }

    /// Whether it reaches any memory of the process.
    #[inline]
    pub(crate) fn is_everything(&self) -> bool {
        self.0.is_none()
    }

    /// Whether it reaches a buffer that lies there ([`Buffer::region`](demikernel_runtime::buffer::Buffer::region)).
    #[inline]
    pub(crate) fn has(&self, region: Option<(u32, usize)>) -> bool {
        self.0.as_ref().is_none_or(|table| table.get(region).is_some())
    }
}
