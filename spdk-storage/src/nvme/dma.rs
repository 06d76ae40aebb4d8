//! Memory that the device reaches: the heap's regions, and what queues are made of.
//!
//! The device is given addresses of its own, which the IOMMU translates; what is not mapped it cannot touch. So memory
//! may be freed when it is unmapped, whatever the device does, and if it cannot be unmapped it is never freed.

use super::bus::Bus;
use super::iova::Addresses;
use std::collections::BTreeMap;
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What large mappings are aligned to, so that the IOMMU needs one entry for each.
const LARGE: u64 = 2 << 20;

/// The device's view of memory.
pub(super) struct Space {
    bus: Arc<dyn Bus>,
    state: Mutex<State>,
}

struct State {
    free: Addresses,
    /// By the address in the process.
    mapped: BTreeMap<usize, Mapping>,
}

struct Mapping {
    iova: u64,
    length: usize,
    /// The same memory is mapped once, for however many.
    users: usize,
}

impl Space {
    pub(super) fn new(bus: Arc<dyn Bus>) -> Arc<Space> {
        let free = Addresses::new(bus.addresses());
        Arc::new(Space { bus, state: Mutex::new(State { free, mapped: BTreeMap::new() }) })
    }

    /// Has the device reach whole pages, and returns where.
    ///
    /// # Safety
    /// As [`Bus::map`]. If the same memory is mapped several times, it is with the same length.
    pub(super) unsafe fn map(&self, memory: *mut u8, length: usize) -> io::Result<u64> {
        let mut state = self.lock();
        if let Some(mapping) = state.mapped.get_mut(&(memory as usize)).filter(|known| known.length == length)
        {
            mapping.users += 1;
            return Ok(mapping.iova);
        }
        let alignment = if length as u64 >= LARGE { LARGE } else { 64 << 10 };
        let iova = state.free.take(length as u64, alignment).ok_or_else(|| {
            io::Error::new(io::ErrorKind::OutOfMemory, "the IOMMU has no addresses left for the device")
        })?;
        // SAFETY: the caller keeps the memory mapped until its last use is unmapped, and allows for the device's using
        // it.
        if let Err(error) = unsafe { self.bus.map(iova, memory, length) } {
            state.free.give_back(iova, length as u64);
            return Err(error);
        }
        state.mapped.insert(memory as usize, Mapping { iova, length, users: 1 });
        Ok(iova)
    }

    /// Ends one use of a mapping. If that was the last, the device does not reach the memory any more, unless this is an
    /// error.
    pub(super) fn unmap(&self, memory: *mut u8) -> io::Result<()> {
        let mut state = self.lock();
        let Some(mapping) = state.mapped.get_mut(&(memory as usize)) else { return Ok(()) };
        mapping.users -= 1;
        if mapping.users > 0 {
            return Ok(());
        }
        let (iova, length) = (mapping.iova, mapping.length);
        state.mapped.remove(&(memory as usize));
        // An address that the device may still use is never handed out again.
        self.bus.unmap(iova, length)?;
        state.free.give_back(iova, length as u64);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Zeroed memory, whole pages, that the device and this process both use, so only through volatile or by turns.
pub(super) struct Dma {
    memory: NonNull<u8>,
    length: usize,
    iova: u64,
    space: Arc<Space>,
}

// SAFETY: it owns the memory; nothing about it belongs to a thread.
unsafe impl Send for Dma {}

impl Dma {
    pub(super) fn new(space: &Arc<Space>, bytes: usize) -> io::Result<Dma> {
        let length = bytes.next_multiple_of(4096);
        // SAFETY: new anonymous memory, at an address that the kernel chooses.
        let memory = unsafe {
            let (protection, flags) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0)
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // A child would share the pages until either writes, and the device go on with the wrong ones.
        // SAFETY: the memory of above, whose content this does not touch. Old kernels that refuse lose nothing but that.
        unsafe { libc::madvise(memory, length, libc::MADV_DONTFORK) };
        // SAFETY: it stays mapped until `drop`, which unmaps it for the device first; users of it allow for the device.
        match unsafe { space.map(memory.cast(), length) } {
            Ok(iova) => {
                // SAFETY: mmap(2) gives no null pointer without being asked to.
                let memory = unsafe { NonNull::new_unchecked(memory.cast()) };
                Ok(Dma { memory, length, iova, space: space.clone() })
            }
            Err(error) => {
                // SAFETY: of above, and nobody has it.
                unsafe { libc::munmap(memory, length) };
                Err(error)
            }
        }
    }

    /// Where the device has it.
    pub(super) fn iova(&self) -> u64 {
        self.iova
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Its first byte, aligned to a page.
    pub(super) fn pointer(&self) -> NonNull<u8> {
        self.memory
    }
}

impl Drop for Dma {
    fn drop(&mut self) {
        match self.space.unmap(self.memory.as_ptr()) {
            // SAFETY: it is this one's, and the device does not reach it any more.
            Ok(()) => unsafe {
                libc::munmap(self.memory.as_ptr().cast(), self.length);
            },
            Err(error) => {
                tracing::error!(%error, bytes = self.length, "memory of an NVMe queue is left to the device")
            }
        }
    }
}
