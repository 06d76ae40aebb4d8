//! Protection domains: what memory a device reaches for this thread.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;

use demikernel_runtime::buffer::pool::{self, Region, RegionEvent, RegionHook};

use super::device::Device;
use super::error::{Error, last};
use super::provider::Provider;
use super::raw::*;

/// A protection domain, with which the thread's heap is registered. A clone is the same.
///
/// Its queues send buffers from where they are, and receive into where they stay. Each region of the heap is registered
/// once, when it is mapped, for this side alone: no key for it is ever given to a peer.
#[derive(Clone)]
pub struct ProtectionDomain(Rc<Inner>);

struct Inner {
    /// Dropped first: from then on no region is registered.
    hook: Option<RegionHook>,
    heap: Rc<Heap>,
    device: Device,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.hook = None;
        for region in self.heap.regions.borrow_mut().drain(..).flatten() {
            self.heap.deregister(region);
        }
        // SAFETY: what was made in it is gone, as it holds this.
        unsafe { (self.device.provider().dealloc_pd)(self.heap.domain.as_ptr()) };
    }
}

/// The registered regions of the heap.
struct Heap {
    domain: NonNull<ibv_pd>,
    provider: &'static Provider,
    /// By the number of the region.
    regions: RefCell<Vec<Option<Registered>>>,
    /// Why the last one could not be registered that could not.
    failure: RefCell<Option<io::Error>>,
    device: String,
}

#[derive(Clone, Copy)]
struct Registered {
    key: u32,
    region: NonNull<ibv_mr>,
}

impl Heap {
    fn tell(&self, event: RegionEvent<'_>) {
        match event {
            RegionEvent::Mapped(region) => match self.register(region) {
                Ok(registered) => {
                    let mut regions = self.regions.borrow_mut();
                    let index = region.id as usize;
                    if index >= regions.len() {
                        regions.resize(index + 1, None);
                    }
                    regions[index] = Some(registered);
                }
                Err(error) => {
                    tracing::error!(device = self.device, %error, "a region of the heap is out of reach");
                    *self.failure.borrow_mut() = Some(error);
                }
            },
            RegionEvent::Unmapping(region) => {
                let registered = self.regions.borrow_mut().get_mut(region.id as usize).and_then(Option::take);
                if let Some(registered) = registered {
                    self.deregister(registered);
                }
            }
        }
    }

    fn register(&self, region: &Region) -> io::Result<Registered> {
        let access = ibv_access_flags::IBV_ACCESS_LOCAL_WRITE;
        // SAFETY: the domain is open while the hook is in place, and the memory is mapped until the hook hears otherwise.
        unsafe { register(self.provider, self.domain, &self.device, region.base, region.len, access) }
            .map(|region| Registered { key: key_of(region), region })
    }

    fn deregister(&self, registered: Registered) {
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
        let heap = Rc::new(Heap {
            domain: domain.ok_or_else(|| last("allocate a protection domain"))?,
            provider: device.provider(),
            regions: RefCell::new(Vec::new()),
            failure: RefCell::new(None),
            device: device.name().to_owned(),
        });
        let mut inner = Inner { hook: None, heap, device: device.clone() };
        let told = inner.heap.clone();
        inner.hook = Some(pool::on_region(move |event| told.tell(event)));
        if let Some(error) = inner.heap.failure.take() {
            return Err(error);
        }
        Ok(ProtectionDomain(Rc::new(inner)))
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
        let (id, _) = region?;
        self.0.heap.regions.borrow().get(id as usize)?.map(|registered| registered.key)
    }

    /// The error for a buffer that is out of reach.
    #[cold]
    pub(super) fn out_of_reach(&self) -> io::Error {
        match self.0.heap.failure.borrow().as_ref().and_then(|error| error.get_ref()?.downcast_ref()) {
            // It may be one of these, which is said again.
            Some(error) => Error::clone(error).into(),
            None => Error::Unregistered { device: self.device().name().into() }.into(),
        }
    }

    pub(super) fn raw(&self) -> NonNull<ibv_pd> {
        self.0.heap.domain
    }

    pub(super) fn is(&self, other: &ProtectionDomain) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for ProtectionDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtectionDomain")
            .field("device", &self.0.device)
            .field("regions", &self.0.heap.regions.borrow().iter().flatten().count())
            .finish()
    }
}
