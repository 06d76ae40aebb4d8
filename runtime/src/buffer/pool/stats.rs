//! Figures of a pool.

use super::class::Class;
use super::local::Pool;
use super::retire;
use serde::{Deserialize, Serialize};

/// What [`stats`](super::stats) reports: the state of this thread's pool.
///
/// ```
/// use demikernel_runtime::buffer::{BufferMut, pool};
/// let before = pool::stats().in_use();
/// let buffer = BufferMut::with_capacity(100)?;
/// assert_eq!(pool::stats().in_use(), before + 256); // the smallest class
/// # drop(buffer);
/// # Ok::<(), pool::PoolExhausted>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes that the pool may map.
    pub limit: usize,
    /// Bytes that it has mapped.
    pub mapped: usize,
    /// Number of regions that it has mapped.
    pub regions: usize,
    /// Of those, how many are made of reserved huge pages.
    pub huge_regions: usize,
    /// The size classes, smallest first; the last is of chunks with a region of their own.
    pub classes: [ClassStats; 7],
    /// Buffers on memory that came from elsewhere (`Bytes`, `Vec`, `'static`), counted by piece of
    /// memory.
    pub foreign: usize,
    /// Who waits for memory ([`on_available`](super::on_available)).
    pub waiting: usize,
    /// In the whole process, the pools of ended threads that still have memory, which waits for
    /// `Bytes` to be dropped, or for a thread that inherits the pool.
    pub stranded: usize,
}

impl Stats {
    /// Bytes of chunks that are in use.
    pub fn in_use(&self) -> usize {
        self.classes.iter().map(|class| class.in_use_bytes).sum()
    }
}

/// Figures of a size class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ClassStats {
    /// Bytes in a chunk; 0 for the class of chunks that have a region of their own.
    pub size: usize,
    /// Chunks that exist.
    pub total: usize,
    /// Chunks in use.
    pub in_use: usize,
    /// Bytes of the chunks in use.
    pub in_use_bytes: usize,
    /// The most chunks that were in use at once.
    pub high_water: usize,
    /// Allocations since the pool was made.
    pub allocations: u64,
    /// Requests that ended in [`PoolExhausted`](super::PoolExhausted).
    pub exhausted: u64,
}

impl Pool {
    /// See [`stats`](super::stats).
    pub(super) fn stats(&self) -> Stats {
        let memory = self.memory.borrow();
        let mut classes = [ClassStats::default(); 7];
        let counted = Class::SIZED.into_iter().chain([Class::Large]);
        for (stats, class) in classes.iter_mut().zip(counted) {
            let list = self.list(class);
            *stats = ClassStats {
                size: class.size(),
                total: list.total.get() as usize,
                in_use: list.in_use.get() as usize,
                in_use_bytes: list.in_use.get() as usize * class.size(),
                high_water: list.high_water.get() as usize,
                allocations: list.allocations.get(),
                exhausted: list.exhausted.get(),
            };
        }
        classes[Class::Large as usize].in_use_bytes = memory.large_in_use();
        Stats {
            limit: memory.limit,
            mapped: memory.mapped,
            regions: memory.regions.len(),
            huge_regions: memory.regions.iter().filter(|(id, r)| r.mapping.describe(*id as u32).huge).count(),
            classes,
            foreign: self.list(Class::Foreign).in_use.get() as usize,
            waiting: self.shared.waiters.len(),
            stranded: retire::stranded(),
        }
    }

    /// Bytes of the pool's chunks that are in use.
    pub(super) fn in_use_bytes(&self) -> usize {
        let sized: usize =
            Class::SIZED.into_iter().map(|class| self.list(class).in_use.get() as usize * class.size()).sum();
        sized + self.memory.borrow().large_in_use()
    }
}
