//! Which of the heap's regions the device reaches, and where.

use super::dma::Space;
use crate::queue::Piece;
use demikernel_runtime::buffer::pool::{Region, RegionTable, RegionUser};
use std::io;
use std::sync::Arc;

/// The regions of this thread's heap, as the device has them.
pub(super) struct Reach(RegionTable<Mapper>);

struct Mapper {
    space: Arc<Space>,
    failure: Option<(io::ErrorKind, String)>,
}

impl Reach {
    pub(super) fn new(space: &Arc<Space>) -> Reach {
        Reach(RegionTable::new(Mapper { space: space.clone(), failure: None }))
    }

    /// The device's address of a piece of memory.
    #[inline]
    pub(super) fn address(&self, piece: &Piece) -> Option<u64> {
        let (_, offset) = piece.region?;
        let (_, iova) = self.0.get(piece.region)?;
        Some(iova + offset as u64)
    }

    /// Why memory of the heap is not reached.
    #[cold]
    pub(super) fn failure(&self) -> io::Error {
        match &self.0.user().failure {
            Some((kind, text)) => io::Error::new(*kind, text.clone()),
            None => io::Error::new(io::ErrorKind::InvalidInput, "the device does not reach this memory"),
        }
    }
}

impl RegionUser for Mapper {
    /// Its first byte, and where the device has it.
    type Entry = (*mut u8, u64);

    fn mapped(&mut self, region: &Region) -> Option<(*mut u8, u64)> {
        let base = region.base.as_ptr();
        // SAFETY: a region stays mapped until its hooks have heard that it goes. Queues hand out buffers only, and give
        // them to the device as their owner.
        match unsafe { self.space.map(base, region.len) } {
            Ok(iova) => Some((base, iova)),
            Err(error) => {
                tracing::warn!(%error, region = region.id, "an NVMe device does not reach a region of the heap");
                self.failure = Some((error.kind(), error.to_string()));
                None
            }
        }
    }

    fn unmapping(&mut self, (base, _): (*mut u8, u64)) {
        if let Err(error) = self.space.unmap(base) {
            // The pages stay pinned, so the device writes into what is nobody's any more.
            tracing::error!(%error, "a region of the heap is still mapped for an NVMe device");
        }
    }
}
