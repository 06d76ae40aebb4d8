//! Which of the heap's regions the device reaches, and where.

use super::dma::Space;
use crate::queue::Piece;
use demikernel_runtime::buffer::pool::{self, RegionEvent, RegionHook};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// The regions of this thread's heap, as the device has them.
pub(super) struct Reach {
    table: Rc<RefCell<Table>>,
    space: Arc<Space>,
    #[expect(dead_code, reason = "held for its destructor")]
    hook: RegionHook,
}

#[derive(Default)]
struct Table {
    /// By the number of a region: its first byte, and where the device has it.
    regions: Vec<Option<(*mut u8, u64)>>,
    failure: Option<(io::ErrorKind, String)>,
}

impl Reach {
    pub(super) fn new(space: &Arc<Space>) -> Reach {
        let table = Rc::new(RefCell::new(Table::default()));
        let (told, through) = (table.clone(), space.clone());
        let hook = pool::on_region(move |event| told.borrow_mut().hear(event, &through));
        Reach { table, space: space.clone(), hook }
    }

    /// The device's address of a piece of memory.
    #[inline]
    pub(super) fn address(&self, piece: &Piece) -> Option<u64> {
        let (region, offset) = piece.region?;
        let (_, iova) = (*self.table.borrow().regions.get(region as usize)?)?;
        Some(iova + offset as u64)
    }

    /// Why memory of the heap is not reached.
    #[cold]
    pub(super) fn failure(&self) -> io::Error {
        match &self.table.borrow().failure {
            Some((kind, text)) => io::Error::new(*kind, text.clone()),
            None => io::Error::new(io::ErrorKind::InvalidInput, "the device does not reach this memory"),
        }
    }
}

impl Table {
    fn hear(&mut self, event: RegionEvent<'_>, space: &Space) {
        match event {
            RegionEvent::Mapped(region) => {
                let base = region.base.as_ptr();
                // SAFETY: a region stays mapped until its hooks have heard that it goes. Queues hand out buffers only, and
                // give them to the device as their owner.
                let result = unsafe { space.map(base, region.len) };
                let index = region.id as usize;
                if index >= self.regions.len() {
                    self.regions.resize(index + 1, None);
                }
                self.regions[index] = match result {
                    Ok(iova) => Some((base, iova)),
                    Err(error) => {
                        tracing::warn!(%error, region = region.id, "an NVMe device does not reach a region of the heap");
                        self.failure = Some((error.kind(), error.to_string()));
                        None
                    }
                };
            }
            RegionEvent::Unmapping(region) => {
                let entry = self.regions.get_mut(region.id as usize).and_then(Option::take);
                if let Some((base, _)) = entry {
                    release(space, base);
                }
            }
        }
    }
}

fn release(space: &Space, base: *mut u8) {
    if let Err(error) = space.unmap(base) {
        // The pages stay pinned, so the device writes into what is nobody's any more.
        tracing::error!(%error, "a region of the heap is still mapped for an NVMe device");
    }
}

impl Drop for Reach {
    fn drop(&mut self) {
        let regions = std::mem::take(&mut self.table.borrow_mut().regions);
        regions.into_iter().flatten().for_each(|(base, _)| release(&self.space, base));
    }
}
