//! Protection domains: what memory a device reaches for this thread.

use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;

use demikernel_runtime::buffer::pool::{Region, RegionTable, RegionUser};

use super::device::Device;
use super::error::{Error, last};
use super::provider::Provider;
use super::raw::*;

/// A protection domain, with which the thread's heap is registered. A clone is the same.
///
/// Its queues send buffers from where they are, and receive into where they stay. Each region of the heap is registered
/// once, when it is mapped, for this side alone: no key for it is ever given to a peer.
///
/// ```
/// use demikernel_rdma::verbs::{ProtectionDomain, double};
///
/// let device = double::device()?;
/// let domain = ProtectionDomain::new(&device)?;
/// assert_eq!(domain.device().name(), device.name());
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct ProtectionDomain(Rc<Inner>);

struct Inner {
    /// None only while this is dropped: what is registered goes before the domain does.
    heap: Option<RegionTable<Heap>>,
    domain: NonNull<ibv_pd>,
    device: Device,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.heap = None;
        // SAFETY: what was made in it is gone, as it holds this.
        unsafe { (self.device.provider().dealloc_pd)(self.domain.as_ptr()) };
    }
}

/// Registers the heap.
struct Heap {
    domain: NonNull<ibv_pd>,
    provider: &'static Provider,
    /// Why the last region could not be registered that could not.
    failure: Option<io::Error>,
    device: String,
}

#[derive(Clone, Copy)]
struct Registered {
    key: u32,
    region: NonNull<ibv_mr>,
}

impl RegionUser for Heap {
    type Entry = Registered;

    fn mapped(&mut self, region: &Region) -> Option<Registered> {
        let access = ibv_access_flags::IBV_ACCESS_LOCAL_WRITE;
        // SAFETY: the domain is open while its table is there, and the memory is mapped until that hears otherwise.
        match unsafe { register(self.provider, self.domain, &self.device, region.base, region.len, access) } {
            Ok(region) => Some(Registered { key: key_of(region), region }),
            Err(error) => {
                tracing::error!(device = self.device, %error, "a region of the heap is out of reach");
                self.failure = Some(error);
                None
            }
        }
    }

    fn unmapping(&mut self, registered: Registered) {
        // No buffer in it is alive, or the last queue that could use it is gone. If it failed, the pages would stay
        // locked, and nobody else would get them.
        // SAFETY: registered once and forgotten by the caller.
        let failed = unsafe { (self.provider.dereg_mr)(registered.region.as_ptr()) };
        if failed != 0 {
            tracing::warn!(device = self.device, errno = failed, "memory stays registered");
        }
    }
}

/// The key by which this side names a region to the device.
fn key_of(region: NonNull<ibv_mr>) -> u32 {
    // SAFETY: just registered.
    unsafe { region.as_ref() }.lkey
}

/// Registers memory.
///
/// # Safety
/// The domain is open and of this provider. The memory is mapped as long as the region is registered, or at least not
/// used by anybody else afterwards; what the flags allow peers to do to it, it is given away for.
pub(super) unsafe fn register(
    provider: &Provider,
    domain: NonNull<ibv_pd>,
    device: &str,
    base: NonNull<u8>,
    bytes: usize,
    access: ibv_access_flags,
) -> io::Result<NonNull<ibv_mr>> {
    // SAFETY: as the caller promises.
    let region = unsafe { (provider.reg_mr)(domain.as_ptr(), base.as_ptr().cast(), bytes, access.0 as i32) };
    NonNull::new(region).ok_or_else(|| match io::Error::last_os_error().raw_os_error() {
        // That is how the kernel says both.
        Some(libc::ENOMEM | libc::EPERM | libc::EAGAIN) => {
            Error::LockedMemory { bytes, device: device.to_owned(), limit: locked_memory() }.into()
        }
        _ => last("register memory"),
    })
}

/// How much memory this process may lock, as `ulimit -l` says it.
fn locked_memory() -> String {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it is given where to put the answer.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } != 0 {
        return "an unknown number of bytes".to_owned();
    }
    match limit.rlim_cur {
        libc::RLIM_INFINITY => "as much as it wants, so the machine has no more".to_owned(),
        bytes => format!("{} KiB", bytes / 1024),
    }
}

impl ProtectionDomain {
    /// A domain of the device, with which all memory of this thread's heap is registered.
    ///
    /// # Errors
    /// [`Error::LockedMemory`] if the process may not lock as much; what else the device says.
    pub fn new(device: &Device) -> io::Result<ProtectionDomain> {
        // SAFETY: the context is open.
        let domain = NonNull::new(unsafe { (device.provider().alloc_pd)(device.context()) });
        let domain = domain.ok_or_else(|| last("allocate a protection domain"))?;
        let mut inner = Inner { heap: None, domain, device: device.clone() };
        let heap = inner.heap.insert(RegionTable::new(Heap {
            domain,
            provider: device.provider(),
            failure: None,
            device: device.name().to_owned(),
        }));
        let failure = heap.user_mut().failure.take();
        failure.map_or_else(|| Ok(ProtectionDomain(Rc::new(inner))), Err)
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// Whether the device reaches memory of a buffer, of which this is the
    /// [region](demikernel_runtime::buffer::Buffer::region).
    #[inline]
    pub fn reaches(&self, region: Option<(u32, usize)>) -> bool {
        self.key(region).is_some()
    }

    /// The key of a region that is registered.
    #[inline]
    pub(super) fn key(&self, region: Option<(u32, usize)>) -> Option<u32> {
        Some(self.0.heap.as_ref()?.get(region)?.key)
    }

    /// The error for a buffer that is out of reach.
    #[cold]
    pub(super) fn out_of_reach(&self) -> io::Error {
        let heap = self.0.heap.as_ref().map(RegionTable::user);
        let failure = heap.as_ref().and_then(|heap| heap.failure.as_ref());
        match failure.and_then(|error| error.get_ref()?.downcast_ref()) {
            // It may be one of these, which is said again.
            Some(error) => Error::clone(error).into(),
            None => Error::Unregistered { device: self.device().name().into() }.into(),
        }
    }

    pub(super) fn raw(&self) -> NonNull<ibv_pd> {
        self.0.domain
    }

    pub(super) fn is(&self, other: &ProtectionDomain) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for ProtectionDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtectionDomain")
            .field("device", &self.0.device)
            .field("heap", &self.0.heap)
            .finish()
    }
}
