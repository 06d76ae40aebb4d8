//! Controllers: one in a process for all cores, each of which has queue pairs of its own.
//!
//! A controller that does not answer is reset by a thread that this makes, as SPDK's call for that blocks. Until it has
//! tried once, commands under way are the controller's still; their queue pairs are given up after that, and made anew
//! when it is there again.

use super::driver::SpdkDriver;
use super::environment::{Environment, SpdkConfig};
use super::error::SpdkError;
use super::functions::{
    EXTENDED_BLOCKS, RawCompletion, RawController, RawNamespace, RawQueuePair, RawTransportId,
};
use crate::{Geometry, Queue};
use std::ffi::{CString, c_void};
use std::fmt;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::Duration;

/// How long a command may take.
const TIME_OUT: Duration = Duration::from_secs(10);

/// Between attempts to reset a controller, at first and in the end.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// An NVMe controller. Clones are the same one, also for other threads.
///
/// ```no_run
/// use demikernel_spdk_storage::{Volume, spdk::{Controller, SpdkConfig}};
///
/// # async fn read() -> std::io::Result<()> {
/// let controller = Controller::connect("0000:01:00.0", &SpdkConfig::default())?;
/// let volume = Volume::attach(controller.open(1)?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Controller(Arc<Shared>);

/// What SPDK's callbacks touch. It is shared even while its controller is being detached, which calls back.
struct Watch {
    environment: &'static Environment,
    address: String,
    /// A command is overdue and could not be aborted.
    is_silent: AtomicBool,
}

/// What its queue pairs share.
pub(super) struct Shared {
    watch: Arc<Watch>,
    raw: ptr::NonNull<RawController>,
    /// Held during whatever may take long, so that no core waits for it.
    busy: Mutex<()>,
    /// How often it was reset, or that was tried in vain.
    attempts: AtomicU64,
    is_lost: AtomicBool,
    is_recovering: AtomicBool,
}

// SAFETY: SPDK's functions on controllers lock them, and whatever it does to a queue pair its owner does.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Controller {
    /// The controller at an address: that of a PCI device, such as `0000:01:00.0`, or a transport as SPDK writes it, such
    /// as `trtype:TCP adrfam:IPv4 traddr:10.0.0.1 trsvcid:4420 subnqn:nqn.2016-06.io.spdk:disk`.
    ///
    /// SPDK is loaded and its environment started if they are not: as `config` says. A PCI device is allowed to it then;
    /// of several, `config` has to [allow](SpdkConfig::allow) the others, too.
    ///
    /// This waits for the controller, and is for the beginning of a program.
    ///
    /// # Errors
    /// If SPDK cannot be used, or there is no such controller.
    pub fn connect(address: &str, config: &SpdkConfig) -> Result<Controller, SpdkError> {
        let mut config = config.clone();
        let transport = match pci_address(address) {
            Some(device) => {
                if !config.allow.contains(&device) {
                    config.allow.push(device.clone());
                }
                format!("trtype:PCIe traddr:{device}")
            }
            None => address.to_owned(),
        };
        Controller::connect_in(Environment::start(&config)?, address, &transport)
    }

    pub(super) fn connect_in(
        environment: &'static Environment,
        address: &str,
        transport: &str,
    ) -> Result<Controller, SpdkError> {
        let functions = &environment.functions;
        let unknown = || SpdkError::Address { address: address.to_owned() };
        let text = CString::new(transport).map_err(|_| unknown())?;
        let mut id = Box::new(RawTransportId([0; 4096]));
        // SAFETY: zeros, larger than the structure, and a string with its zero.
        if unsafe { (functions.spdk_nvme_transport_id_parse)(&raw mut *id, text.as_ptr()) } != 0 {
            return Err(unknown());
        }
        // SAFETY: what was parsed, and no options.
        let raw = unsafe { (functions.spdk_nvme_connect)(&raw const *id, ptr::null(), 0) };
        let raw = ptr::NonNull::new(raw).ok_or_else(|| SpdkError::Connect { address: address.to_owned() })?;
        let watch = Watch { environment, address: address.to_owned(), is_silent: AtomicBool::new(false) };
        let shared = Arc::new(Shared {
            watch: Arc::new(watch),
            raw,
            busy: Mutex::new(()),
            attempts: AtomicU64::new(0),
            is_lost: AtomicBool::new(false),
            is_recovering: AtomicBool::new(false),
        });
        let micros = TIME_OUT.as_micros() as u64;
        let argument = Arc::as_ptr(&shared.watch).cast_mut().cast();
        // SAFETY: the argument outlives the controller, which `Shared` detaches before it lets go of it; callbacks read it
        // and set its flag, nothing else.
        unsafe {
            (functions.spdk_nvme_ctrlr_register_timeout_callback)(
                raw.as_ptr(),
                micros,
                micros,
                overdue,
                argument,
            );
        }
        Ok(Controller(shared))
    }

    /// The numbers of its active namespaces.
    pub fn namespaces(&self) -> Vec<u32> {
        let functions = self.0.functions();
        let raw = self.0.raw.as_ptr();
        // SAFETY: the controller is attached.
        let first = unsafe { (functions.spdk_nvme_ctrlr_get_first_active_ns)(raw) };
        let next = |&last: &u32| {
            // SAFETY: the controller is attached.
            let next = unsafe { (functions.spdk_nvme_ctrlr_get_next_active_ns)(raw, last) };
            Some(next).filter(|&number| number != 0)
        };
        std::iter::successors(Some(first).filter(|&number| number != 0), next).collect()
    }

    /// A queue pair for this thread's runtime, to one of the namespaces.
    ///
    /// # Errors
    /// If there is no such namespace, its format is not of plain blocks, or there is no queue pair left.
    pub fn open(&self, namespace: u32) -> Result<Rc<Queue<SpdkDriver>>, SpdkError> {
        let geometry = self.0.geometry(namespace)?;
        Ok(Queue::new(SpdkDriver::new(self.0.clone(), namespace, geometry)?))
    }
}

/// The full address of a PCI device, if it is one.
fn pci_address(text: &str) -> Option<String> {
    let full = if text.matches(':').count() == 1 { format!("0000:{text}") } else { text.to_owned() };
    let (rest, function) = full.split_once('.')?;
    let parts: Vec<&str> = rest.split(':').collect();
    let is_hex =
        |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_address = matches!(parts[..], [domain, bus, device]
        if is_hex(domain, 4) && is_hex(bus, 2) && is_hex(device, 2) && is_hex(function, 1));
    is_address.then(|| full.to_ascii_lowercase())
}

impl Shared {
    pub(super) fn functions(&self) -> &'static super::functions::Functions {
        &self.watch.environment.functions
    }

    pub(super) fn environment(&self) -> &'static Environment {
        self.watch.environment
    }

    pub(super) fn raw(&self) -> *mut RawController {
        self.raw.as_ptr()
    }

    pub(super) fn address(&self) -> &str {
        &self.watch.address
    }

    /// One of its namespaces, which may be another after a reset.
    pub(super) fn namespace(&self, number: u32) -> Option<ptr::NonNull<RawNamespace>> {
        // SAFETY: the controller is attached.
        ptr::NonNull::new(unsafe { (self.functions().spdk_nvme_ctrlr_get_ns)(self.raw(), number) })
    }

    fn geometry(self: &Arc<Shared>, number: u32) -> Result<Geometry, SpdkError> {
        let active = Controller(self.clone()).namespaces();
        let namespace = self.namespace(number).filter(|_| active.contains(&number));
        let Some(namespace) = namespace.map(ptr::NonNull::as_ptr) else {
            return Err(SpdkError::Namespace {
                address: self.watch.address.clone(),
                namespace: number,
                active,
            });
        };
        let functions = self.functions();
        // SAFETY: an active namespace of a controller that is attached; both structures have 4,096 bytes and stay while
        // nothing is reset, which nobody does who has not begun.
        let (block, blocks, flags, of_namespace, of_controller) = unsafe {
            (
                (functions.spdk_nvme_ns_get_sector_size)(namespace),
                (functions.spdk_nvme_ns_get_num_sectors)(namespace),
                (functions.spdk_nvme_ns_get_flags)(namespace),
                &*(functions.spdk_nvme_ns_get_data)(namespace).cast::<[u8; 4096]>(),
                &*(functions.spdk_nvme_ctrlr_get_data)(self.raw()).cast::<[u8; 4096]>(),
            )
        };
        let refuse = |found: String| SpdkError::Format {
            address: self.watch.address.clone(),
            namespace: number,
            found,
        };
        let format = 128 + 4 * usize::from(of_namespace[26] & 15);
        let metadata = u16::from_le_bytes([of_namespace[format], of_namespace[format + 1]]);
        if metadata != 0 || flags & EXTENDED_BLOCKS != 0 {
            return Err(refuse(format!("{metadata} bytes of metadata with each block")));
        }
        if !block.is_power_of_two() || blocks == 0 {
            return Err(refuse(format!("{blocks} blocks of {block} bytes")));
        }
        let number_at =
            |page: &[u8; 4096], at: usize| u32::from(u16::from_le_bytes([page[at], page[at + 1]]));
        // Of the namespace (NSFEAT, NAWUPF) or else of the controller (AWUPF), one less.
        let atomic = match of_namespace[24] & 2 {
            0 => number_at(of_controller, 528),
            _ => number_at(of_namespace, 36),
        };
        Ok(Geometry {
            atomic_write: (atomic + 1).saturating_mul(block),
            // VWC of the controller.
            volatile_cache: of_controller[525] & 1 != 0,
            durable_writes: of_controller[525] & 1 != 0,
            memory_alignment: 4,
            // NSATTR of the namespace.
            read_only: of_namespace[99] & 1 != 0,
            ..Geometry::new(block, blocks * u64::from(block))
        })
    }

    /// Nothing that takes long is under way on another thread, and none begins until the result is dropped.
    pub(super) fn try_use(&self) -> Option<MutexGuard<'_, ()>> {
        match self.busy.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// A new queue pair.
    pub(super) fn queue_pair(&self) -> Option<ptr::NonNull<RawQueuePair>> {
        // SAFETY: the controller is attached; the default options.
        let raw = unsafe { (self.functions().spdk_nvme_ctrlr_alloc_io_qpair)(self.raw(), ptr::null(), 0) };
        ptr::NonNull::new(raw)
    }

    /// Serves events, and what keeps connections alive.
    pub(super) fn poll_admin(&self) {
        let Some(_used) = self.try_use() else { return };
        // SAFETY: the controller is attached.
        let code = unsafe { (self.functions().spdk_nvme_ctrlr_process_admin_completions)(self.raw()) };
        if code < 0 {
            tracing::warn!(address = self.watch.address, code, "a controller does not answer");
            self.watch.is_silent.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a command was overdue and could not be aborted.
    pub(super) fn is_silent(&self) -> bool {
        self.watch.is_silent.load(Ordering::Relaxed)
    }

    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }

    pub(super) fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Acquire)
    }

    /// Has it reset, unless that is under way, or has been tried since there were so many attempts.
    pub(super) fn recover(self: &Arc<Shared>, attempts: u64) {
        if self.attempts() != attempts || self.is_recovering.swap(true, Ordering::AcqRel) {
            return;
        }
        self.is_lost.store(true, Ordering::Release);
        let weak = Arc::downgrade(self);
        let thread = std::thread::Builder::new().name("spdk-reset".to_owned());
        if let Err(error) = thread.spawn(move || keep_resetting(&weak)) {
            tracing::error!(address = self.watch.address, %error, "no thread to reset a controller: it stays lost");
            self.attempts.fetch_add(1, Ordering::Release);
        }
    }

    /// Whether it is there again.
    fn reset(&self) -> bool {
        let guard = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        self.watch.is_silent.store(false, Ordering::Relaxed);
        // SAFETY: the controller is attached.
        let code = unsafe { (self.functions().spdk_nvme_ctrlr_reset)(self.raw()) };
        if code == 0 {
            tracing::info!(address = self.watch.address, "a controller was reset");
            self.is_recovering.store(false, Ordering::Release);
            self.is_lost.store(false, Ordering::Release);
        } else if self.attempts() == 0 {
            tracing::warn!(address = self.watch.address, code, "a controller is lost");
        }
        self.attempts.fetch_add(1, Ordering::Release);
        drop(guard);
        code == 0
    }
}

/// Until it is there, or nobody wants it any more.
fn keep_resetting(shared: &Weak<Shared>) {
    let (mut pause, longest) = PAUSES;
    loop {
        let Some(shared) = shared.upgrade() else { return };
        if shared.reset() {
            return;
        }
        drop(shared);
        std::thread::sleep(pause);
        pause = (pause * 2).min(longest);
    }
}

/// Of a command that takes longer than it may: it is aborted, or if that is in vain, the controller is reset.
unsafe extern "C" fn overdue(
    argument: *mut c_void,
    controller: *mut RawController,
    queue_pair: *mut RawQueuePair,
    command: u16,
) {
    // SAFETY: the `Watch` that was registered, which outlives the controller and is never borrowed mutably.
    let watch = unsafe { &*argument.cast::<Watch>() };
    tracing::warn!(address = watch.address, command, "a command is overdue");
    let aborted = !queue_pair.is_null() && {
        let abort = watch.environment.functions.spdk_nvme_ctrlr_cmd_abort;
        // SAFETY: a command that SPDK names.
        unsafe { abort(controller, queue_pair, command, abort_done, argument) == 0 }
    };
    if !aborted {
        watch.is_silent.store(true, Ordering::Relaxed);
    }
}

unsafe extern "C" fn abort_done(argument: *mut c_void, completion: *const RawCompletion) {
    // SAFETY: the `Watch` that was registered, as above, and a completion that is valid during the call.
    let (watch, completion) = unsafe { (&*argument.cast::<Watch>(), &*completion) };
    let was_aborted = completion.status >> 1 == 0 && completion.dw0 & 1 == 0;
    if !was_aborted {
        watch.is_silent.store(true, Ordering::Relaxed);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: attached, and its queue pairs are gone, as each holds this.
        unsafe { (self.functions().spdk_nvme_detach)(self.raw()) };
    }
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller").field("address", &self.0.watch.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_pci_devices_are_known() {
        assert_eq!(pci_address("0000:01:00.0").as_deref(), Some("0000:01:00.0"));
        assert_eq!(pci_address("AF:1f.7").as_deref(), Some("0000:af:1f.7"));
        for other in ["trtype:TCP traddr:10.0.0.1", "1:0.0", "0000:01:00", "01:00.00", "0000:01:00.0 x"] {
            assert_eq!(pci_address(other), None, "{other}");
        }
    }
}
