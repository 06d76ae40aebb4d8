//! Memory that peers read and write.

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use demikernel_runtime::buffer::BufferMut;

use super::domain::{ProtectionDomain, register};
use super::error::{Error, Refused};
use super::post::RemoteMemory;
use super::queue_pair::Access;
use super::raw::*;

/// A buffer that is exported: peers use it with its key as far as its [`Access`] says, until it is
/// [revoked](MemoryRegion::revoke) or dropped.
///
/// As they may do so at any time, its bytes are copied in and out, and are no slice before it is revoked.
///
/// ```
/// use demikernel_rdma::verbs::{Access, MemoryRegion, ProtectionDomain, double};
/// use demikernel_runtime::buffer::BufferMut;
///
/// let device = double::device()?;
/// let domain = ProtectionDomain::new(&device)?;
/// let mut memory = BufferMut::with_capacity(4096)?;
/// memory.resize(4096, 0);
/// let mut region = MemoryRegion::new(&domain, memory, Access::READ)?;
/// region.copy_from(8, b"for peers");
/// let told = region.describe().to_bytes(); // what a peer has to know
/// assert!(!told.is_empty());
/// assert_eq!(&region.revoke()?[8..17], b"for peers");
/// # std::io::Result::Ok(())
/// ```
pub struct MemoryRegion {
    region: NonNull<ibv_mr>,
    /// Of the memory's bytes.
    base: NonNull<u8>,
    memory: ManuallyDrop<BufferMut>,
    access: Access,
    domain: ProtectionDomain,
}

impl MemoryRegion {
    /// Exports all of a buffer's bytes.
    ///
    /// # Errors
    /// With the buffer: if it is empty, or the process may not lock as much memory.
    pub fn new(
        domain: &ProtectionDomain,
        mut memory: BufferMut,
        access: Access,
    ) -> Result<MemoryRegion, Refused<BufferMut>> {
        if memory.is_empty() {
            let what = "an empty buffer has nothing to export";
            return Err(Refused { error: Error::Invalid { what }.into(), work: memory });
        }
        let device = domain.device();
        // Whoever lets others write must be able to write.
        let flags = ibv_access_flags(ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0 | access.raw());
        let base = NonNull::new(memory.as_mut_ptr()).expect("memory is somewhere");
        // SAFETY: the domain is open. This has the only handle to the memory, which nobody gets before the region is
        // deregistered, and makes no reference to its bytes.
        let region =
            unsafe { register(device.provider(), domain.raw(), device.name(), base, memory.len(), flags) };
        match region {
            Ok(region) => {
                let memory = ManuallyDrop::new(memory);
                Ok(MemoryRegion { region, base, memory, access, domain: domain.clone() })
            }
            Err(error) => Err(Refused { error, work: memory }),
        }
    }

    /// What peers are to be told.
    pub fn describe(&self) -> RemoteMemory {
        // SAFETY: registered until this is dropped.
        let key = unsafe { self.region.as_ref() }.rkey;
        RemoteMemory { address: self.base.as_ptr() as u64, len: self.len() as u64, key }
    }

    /// What peers may do.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Whether there are none, which is never so.
    pub fn is_empty(&self) -> bool {
        self.memory.is_empty()
    }

    /// Copies bytes out. What a peer writes meanwhile may be half there.
    ///
    /// # Panics
    /// If there are not as many at the offset.
    pub fn copy_to(&self, offset: usize, bytes: &mut [u8]) {
        self.check(offset, bytes.len());
        for (index, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: inside of the memory, as has been checked. A device may write it meanwhile, therefore each byte is
            // read once and by itself.
            *byte = unsafe { ptr::read_volatile(self.base.as_ptr().add(offset + index)) };
        }
    }

    /// Copies bytes in. A peer that reads meanwhile may get half of them.
    ///
    /// # Panics
    /// If there is no room for them at the offset.
    pub fn copy_from(&mut self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len());
        for (index, byte) in bytes.iter().enumerate() {
            // SAFETY: inside of the memory, as has been checked, and no reference to it exists.
            unsafe { ptr::write_volatile(self.base.as_ptr().add(offset + index), *byte) };
        }
    }

    /// The number of 8 bytes at an offset that is a multiple of 8, as atomic operations of peers have left it.
    ///
    /// # Panics
    /// If there is none.
    pub fn load(&self, offset: usize) -> u64 {
        self.check(offset, 8);
        let word = self.base.as_ptr().wrapping_add(offset).cast::<u64>();
        assert!(word.is_aligned(), "numbers are at multiples of 8");
        // SAFETY: inside of the memory and aligned, as has been checked; all of this process reach it through atomics or
        // byte by byte.
        unsafe { AtomicU64::from_ptr(word) }.load(Ordering::Acquire)
    }

    fn check(&self, offset: usize, len: usize) {
        let is_inside = offset.checked_add(len).is_some_and(|end| end <= self.len());
        assert!(is_inside, "{len} bytes at {offset} are outside of a region of {}", self.len());
    }

    /// Takes it back: no peer can use it when this returns.
    ///
    /// # Errors
    /// If the device does not let go of it. Then its memory is never used again.
    pub fn revoke(self) -> io::Result<BufferMut> {
        let mut this = ManuallyDrop::new(self);
        let done = this.deregister();
        // SAFETY: each is moved out or dropped once, as `this` is not dropped.
        let (memory, domain) = unsafe { (ptr::read(&this.memory), ptr::read(&this.domain)) };
        drop(domain);
        done.map(|()| ManuallyDrop::into_inner(memory))
    }

    fn deregister(&mut self) -> io::Result<()> {
        // SAFETY: registered until now, and by whoever calls this not used again.
        let failed = unsafe { (self.domain.device().provider().dereg_mr)(self.region.as_ptr()) };
        super::error::check("take back exported memory", failed)
    }
}

impl Drop for MemoryRegion {
    fn drop(&mut self) {
        match self.deregister() {
            // SAFETY: nobody uses it any more.
            Ok(()) => unsafe { ManuallyDrop::drop(&mut self.memory) },
            Err(error) => tracing::warn!(%error, "exported memory is lost"),
        }
    }
}

impl fmt::Debug for MemoryRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRegion")
            .field("memory", &self.describe())
            .field("access", &self.access)
            .finish()
    }
}
