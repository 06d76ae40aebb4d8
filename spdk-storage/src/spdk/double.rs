//! Controllers in memory behind SPDK's functions, and what can go wrong with them.

use super::environment::Environment;
use super::functions::{
    Done, Functions, NextSge, Overdue, RawCompletion, RawController, RawNamespace, RawQueuePair, RawRange,
    RawTransportId, ResetSgl,
};
use demikernel_runtime::random::Random;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One controller. It lives as long as the process.
pub(super) struct Double {
    name: String,
    state: Mutex<State>,
    namespaces: Vec<Namespace>,
    /// As the controller identifies itself.
    identity: [u8; 4096],
}

/// What it has, and what is to go wrong.
pub(super) struct State {
    pub(super) random: Random,
    /// Commands that it has room for.
    pub(super) room: usize,
    /// Completions are held back.
    pub(super) is_silent: bool,
    /// Commands that can be aborted.
    pub(super) aborts: bool,
    /// Queue pairs made before have failed.
    pub(super) has_failed: bool,
    /// How many resets fail.
    pub(super) resets_to_fail: u32,
    pub(super) resets: u32,
    /// What the next submissions return, and the next commands' status.
    pub(super) refusals: Vec<c_int>,
    pub(super) statuses: Vec<u16>,
    /// No queue pair is given.
    pub(super) is_exhausted: bool,
    pub(super) queue_pairs: usize,
    pub(super) admin_polls: u32,
    pub(super) is_attached: bool,
    life: u32,
    overdue: Option<(Overdue, usize)>,
}

struct Namespace {
    controller: usize,
    block: u32,
    data: Mutex<Vec<u8>>,
    identity: [u8; 4096],
    /// The most bytes of one part.
    transfer: usize,
}

struct QueuePair {
    controller: &'static Double,
    life: u32,
    under_way: Vec<Pending>,
}

/// A command that was taken.
struct Pending {
    work: Work,
    done: Done,
    context: *mut c_void,
    namespace: &'static Namespace,
}

enum Work {
    /// Where on the medium, and the memory.
    Read(usize, Vec<(*mut u8, usize)>),
    Write(usize, Vec<(*mut u8, usize)>),
    Zero(usize, usize),
    Flush,
}

static DOUBLES: Mutex<Option<HashMap<String, &'static Double>>> = Mutex::new(None);
static REGISTERED: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is registered of the memory around an address.
fn is_registered(address: usize, length: usize) -> bool {
    let registered = lock(&REGISTERED);
    let before = registered.range(..=address).next_back();
    before.is_some_and(|(base, size)| address + length <= base + size)
}

pub(super) fn registered() -> BTreeMap<usize, usize> {
    lock(&REGISTERED).clone()
}

impl Double {
    /// A controller at this address, with namespaces of so large blocks, and so many.
    pub(super) fn new(name: &str, namespaces: &[(u32, usize)]) -> &'static Double {
        let double: &'static mut Double = Box::leak(Box::new(Double {
            name: name.to_owned(),
            state: Mutex::new(State {
                random: Random::new(7, 0),
                room: usize::MAX,
                is_silent: false,
                aborts: true,
                has_failed: false,
                resets_to_fail: 0,
                resets: 0,
                refusals: Vec::new(),
                statuses: Vec::new(),
                is_exhausted: false,
                queue_pairs: 0,
                admin_polls: 0,
                is_attached: false,
                life: 0,
                overdue: None,
            }),
            namespaces: Vec::new(),
            identity: [0; 4096],
        }));
        // A volatile cache, and eight blocks that are written together.
        double.identity[525] = 1;
        double.identity[528] = 7;
        let controller = std::ptr::from_ref::<Double>(double) as usize;
        double.namespaces = namespaces
            .iter()
            .map(|&(block, blocks)| {
                let data = Mutex::new(vec![0; block as usize * blocks]);
                let mut identity = [0; 4096];
                identity[128 + 2] = block.trailing_zeros() as u8;
                Namespace { controller, block, data, identity, transfer: 2 * block as usize }
            })
            .collect();
        let double: &'static Double = double;
        lock(&DOUBLES).get_or_insert_default().insert(name.to_owned(), double);
        double
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The content of a namespace.
    pub(super) fn data(&self, number: u32) -> MutexGuard<'_, Vec<u8>> {
        lock(&self.namespaces[number as usize - 1].data)
    }
}

pub(super) fn environment() -> &'static Environment {
    Environment::of(FUNCTIONS)
}

const FUNCTIONS: Functions = Functions {
    rte_eal_init,
    rte_version,
    spdk_env_dpdk_post_init,
    spdk_mem_register,
    spdk_mem_unregister,
    spdk_nvme_transport_id_parse,
    spdk_nvme_connect,
    spdk_nvme_detach,
    spdk_nvme_ctrlr_reset,
    spdk_nvme_ctrlr_get_data,
    spdk_nvme_ctrlr_process_admin_completions,
    spdk_nvme_ctrlr_register_timeout_callback,
    spdk_nvme_ctrlr_cmd_abort,
    spdk_nvme_ctrlr_get_first_active_ns,
    spdk_nvme_ctrlr_get_next_active_ns,
    spdk_nvme_ctrlr_get_ns,
    spdk_nvme_ctrlr_alloc_io_qpair,
    spdk_nvme_ctrlr_free_io_qpair,
    spdk_nvme_qpair_process_completions,
    spdk_nvme_ns_get_data,
    spdk_nvme_ns_get_sector_size,
    spdk_nvme_ns_get_num_sectors,
    spdk_nvme_ns_get_flags,
    spdk_nvme_ns_cmd_read,
    spdk_nvme_ns_cmd_write,
    spdk_nvme_ns_cmd_readv,
    spdk_nvme_ns_cmd_writev,
    spdk_nvme_ns_cmd_flush,
    spdk_nvme_ns_cmd_dataset_management,
    spdk_nvme_ns_cmd_write_zeroes,
};

fn controller(raw: *mut RawController) -> &'static Double {
    // SAFETY: made by `spdk_nvme_connect` of one that lives for ever.
    unsafe { &*raw.cast::<Double>() }
}

fn namespace(raw: *mut RawNamespace) -> &'static Namespace {
    // SAFETY: one of a controller's, which live for ever.
    unsafe { &*raw.cast::<Namespace>() }
}

unsafe extern "C" fn rte_eal_init(_: c_int, _: *mut *mut c_char) -> c_int {
    0
}

unsafe extern "C" fn rte_version() -> *const c_char {
    c"DPDK 22.11.4".as_ptr()
}

unsafe extern "C" fn spdk_env_dpdk_post_init(_: bool) -> c_int {
    0
}

unsafe extern "C" fn spdk_mem_register(base: *mut c_void, length: usize) -> c_int {
    assert!((base as usize).is_multiple_of(2 << 20) && length.is_multiple_of(2 << 20));
    if is_registered(base as usize, 1) {
        return -libc::EBUSY;
    }
    lock(&REGISTERED).insert(base as usize, length);
    0
}

unsafe extern "C" fn spdk_mem_unregister(base: *mut c_void, length: usize) -> c_int {
    assert_eq!(lock(&REGISTERED).remove(&(base as usize)), Some(length), "it was registered like this");
    0
}

unsafe extern "C" fn spdk_nvme_transport_id_parse(id: *mut RawTransportId, text: *const c_char) -> c_int {
    // SAFETY: a string, and room for it.
    let (id, text) = unsafe { (&mut *id, CStr::from_ptr(text)) };
    let Some(name) = text.to_str().ok().and_then(|text| text.strip_prefix("trtype:DOUBLE traddr:")) else {
        return -libc::EINVAL;
    };
    id.0[..name.len()].copy_from_slice(name.as_bytes());
    0
}

unsafe extern "C" fn spdk_nvme_connect(
    id: *const RawTransportId,
    _: *const c_void,
    _: usize,
) -> *mut RawController {
    // SAFETY: what was parsed.
    let id = unsafe { &*id };
    let name = CStr::from_bytes_until_nul(&id.0).unwrap().to_str().unwrap();
    match lock(&DOUBLES).as_ref().and_then(|doubles| doubles.get(name)) {
        Some(double) => {
            double.state().is_attached = true;
            std::ptr::from_ref(*double).cast_mut().cast()
        }
        None => std::ptr::null_mut(),
    }
}

unsafe extern "C" fn spdk_nvme_detach(raw: *mut RawController) -> c_int {
    let mut state = controller(raw).state();
    assert_eq!(state.queue_pairs, 0, "a controller is detached after its queue pairs");
    state.is_attached = false;
    0
}

unsafe extern "C" fn spdk_nvme_ctrlr_reset(raw: *mut RawController) -> c_int {
    let mut state = controller(raw).state();
    state.resets += 1;
    if state.resets_to_fail > 0 {
        state.resets_to_fail -= 1;
        return -libc::ENXIO;
    }
    state.life += 1;
    state.has_failed = false;
    state.is_silent = false;
    0
}

unsafe extern "C" fn spdk_nvme_ctrlr_get_data(raw: *mut RawController) -> *const u8 {
    controller(raw).identity.as_ptr()
}

unsafe extern "C" fn spdk_nvme_ctrlr_process_admin_completions(raw: *mut RawController) -> i32 {
    let mut state = controller(raw).state();
    state.admin_polls += 1;
    if state.has_failed { -libc::ENXIO } else { 0 }
}

unsafe extern "C" fn spdk_nvme_ctrlr_register_timeout_callback(
    raw: *mut RawController,
    _: u64,
    _: u64,
    overdue: Overdue,
    argument: *mut c_void,
) {
    controller(raw).state().overdue = Some((overdue, argument as usize));
}

unsafe extern "C" fn spdk_nvme_ctrlr_cmd_abort(
    raw: *mut RawController,
    queue_pair: *mut RawQueuePair,
    command: u16,
    done: Done,
    argument: *mut c_void,
) -> c_int {
    let aborts = controller(raw).state().aborts;
    let mut completion = RawCompletion { dw0: u32::from(!aborts), ..RawCompletion::default() };
    // SAFETY: as SPDK's own.
    unsafe {
        done(argument, &raw const completion);
        if aborts {
            let pending = (*queue_pair.cast::<QueuePair>()).under_way.remove(command as usize);
            completion.status = 0x07 << 1;
            (pending.done)(pending.context, &raw const completion);
        }
    }
    0
}

unsafe extern "C" fn spdk_nvme_ctrlr_get_first_active_ns(raw: *mut RawController) -> u32 {
    u32::from(!controller(raw).namespaces.is_empty())
}

unsafe extern "C" fn spdk_nvme_ctrlr_get_next_active_ns(raw: *mut RawController, last: u32) -> u32 {
    if (last as usize) < controller(raw).namespaces.len() { last + 1 } else { 0 }
}

unsafe extern "C" fn spdk_nvme_ctrlr_get_ns(raw: *mut RawController, number: u32) -> *mut RawNamespace {
    let index = (number as usize).wrapping_sub(1);
    let namespace = controller(raw).namespaces.get(index);
    namespace.map_or(std::ptr::null_mut(), |namespace| std::ptr::from_ref(namespace).cast_mut().cast())
}

unsafe extern "C" fn spdk_nvme_ctrlr_alloc_io_qpair(
    raw: *mut RawController,
    _: *const c_void,
    _: usize,
) -> *mut RawQueuePair {
    let controller = controller(raw);
    let mut state = controller.state();
    if state.is_exhausted {
        return std::ptr::null_mut();
    }
    state.queue_pairs += 1;
    let queue_pair = QueuePair { controller, life: state.life, under_way: Vec::new() };
    Box::into_raw(Box::new(queue_pair)).cast()
}

unsafe extern "C" fn spdk_nvme_ctrlr_free_io_qpair(raw: *mut RawQueuePair) -> c_int {
    // SAFETY: made by the function above, and used no more.
    let queue_pair = unsafe { Box::from_raw(raw.cast::<QueuePair>()) };
    queue_pair.controller.state().queue_pairs -= 1;
    for pending in queue_pair.under_way {
        // Aborted, as its queue is deleted.
        let completion = RawCompletion { status: 0x08 << 1, ..RawCompletion::default() };
        // SAFETY: once for each command.
        unsafe { (pending.done)(pending.context, &raw const completion) };
    }
    0
}

unsafe extern "C" fn spdk_nvme_qpair_process_completions(raw: *mut RawQueuePair, _: u32) -> i32 {
    // SAFETY: the queue pair, of which callbacks see nothing while this is borrowed.
    let queue_pair = unsafe { &mut *raw.cast::<QueuePair>() };
    let controller = queue_pair.controller;
    let mut state = controller.state();
    if state.has_failed || state.life != queue_pair.life {
        return -libc::ENXIO;
    }
    if state.is_silent {
        let overdue = state.overdue.filter(|_| !queue_pair.under_way.is_empty());
        drop(state);
        if let Some((overdue, argument)) = overdue {
            let controller = std::ptr::from_ref(controller).cast_mut().cast();
            // SAFETY: as was registered.
            unsafe { overdue(argument as *mut c_void, controller, raw, 0) };
        }
        return 0;
    }
    // Some of them, in any order.
    let mut over = Vec::new();
    for _ in 0..state.random.below(queue_pair.under_way.len() as u64 + 1) {
        let index = state.random.below(queue_pair.under_way.len() as u64) as usize;
        over.push((queue_pair.under_way.swap_remove(index), state.statuses.pop().unwrap_or(0)));
    }
    drop(state);
    for (pending, status) in &over {
        let status = if *status == 0 { pending.run() } else { *status };
        let completion = RawCompletion { status: status << 1 | 1, ..RawCompletion::default() };
        // SAFETY: once for each command.
        unsafe { (pending.done)(pending.context, &raw const completion) };
    }
    over.len() as i32
}

impl Pending {
    fn run(&self) -> u16 {
        let mut data = lock(&self.namespace.data);
        match &self.work {
            &Work::Read(mut at, ref memory) => {
                for &(address, length) in memory {
                    let Some(from) = data.get(at..at + length) else { return 0x80 };
                    // SAFETY: memory of a command under way.
                    unsafe { address.copy_from_nonoverlapping(from.as_ptr(), length) };
                    at += length;
                }
            }
            &Work::Write(mut at, ref memory) => {
                for &(address, length) in memory {
                    let Some(to) = data.get_mut(at..at + length) else { return 0x80 };
                    // SAFETY: memory of a command under way, which is only read.
                    unsafe { address.copy_to_nonoverlapping(to.as_mut_ptr(), length) };
                    at += length;
                }
            }
            Work::Zero(at, length) => match data.get_mut(*at..at + length) {
                Some(range) => range.fill(0),
                None => return 0x80,
            },
            Work::Flush => {}
        }
        0
    }
}

unsafe extern "C" fn spdk_nvme_ns_get_data(raw: *mut RawNamespace) -> *const u8 {
    namespace(raw).identity.as_ptr()
}

unsafe extern "C" fn spdk_nvme_ns_get_sector_size(raw: *mut RawNamespace) -> u32 {
    namespace(raw).block
}

unsafe extern "C" fn spdk_nvme_ns_get_num_sectors(raw: *mut RawNamespace) -> u64 {
    let namespace = namespace(raw);
    lock(&namespace.data).len() as u64 / u64::from(namespace.block)
}

unsafe extern "C" fn spdk_nvme_ns_get_flags(raw: *mut RawNamespace) -> u32 {
    // The first one has no way to discard.
    if namespace(raw).is_first() { 0b1010 } else { 0b1011 }
}

impl Namespace {
    fn is_first(&self) -> bool {
        // SAFETY: a controller lives for ever.
        let controller = unsafe { &*(self.controller as *const Double) };
        std::ptr::eq(self, &raw const controller.namespaces[0])
    }
}

/// Takes a command, if there is room.
///
/// # Safety
/// The namespace and the queue pair are of this double, and the latter is used from one thread. The command's memory stays
/// until `done` has been called.
unsafe fn take(
    ns: *mut RawNamespace,
    raw: *mut RawQueuePair,
    work: Work,
    done: Done,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the queue pair, which the caller uses from one thread.
    let queue_pair = unsafe { &mut *raw.cast::<QueuePair>() };
    let mut state = queue_pair.controller.state();
    if state.has_failed || state.life != queue_pair.life {
        return -libc::ENXIO;
    }
    if let Some(refusal) = state.refusals.pop() {
        return refusal;
    }
    if queue_pair.under_way.len() >= state.room {
        return -libc::ENOMEM;
    }
    if let Work::Read(_, memory) | Work::Write(_, memory) = &work {
        let is_reachable = |&(address, length): &(*mut u8, usize)| is_registered(address as usize, length);
        assert!(memory.iter().all(is_reachable), "memory that the controller does not reach");
    }
    queue_pair.under_way.push(Pending { work, done, context, namespace: namespace(ns) });
    0
}

unsafe extern "C" fn spdk_nvme_ns_cmd_read(
    ns: *mut RawNamespace,
    queue_pair: *mut RawQueuePair,
    memory: *mut c_void,
    first: u64,
    blocks: u32,
    done: Done,
    context: *mut c_void,
    _: u32,
) -> c_int {
    let block = namespace(ns).block as usize;
    let work = Work::Read(first as usize * block, vec![(memory.cast(), blocks as usize * block)]);
    // SAFETY: SPDK's caller keeps to what `take` asks for.
    unsafe { take(ns, queue_pair, work, done, context) }
}

unsafe extern "C" fn spdk_nvme_ns_cmd_write(
    ns: *mut RawNamespace,
    queue_pair: *mut RawQueuePair,
    memory: *mut c_void,
    first: u64,
    blocks: u32,
    done: Done,
    context: *mut c_void,
    _: u32,
) -> c_int {
    let block = namespace(ns).block as usize;
    let work = Work::Write(first as usize * block, vec![(memory.cast(), blocks as usize * block)]);
    // SAFETY: SPDK's caller keeps to what `take` asks for.
    unsafe { take(ns, queue_pair, work, done, context) }
}

/// All pieces of a command's memory, in parts of what is transferred at once, the last part first.
///
/// # Safety
/// The functions take this context, and give pieces of `length` bytes together.
unsafe fn pieces(
    ns: &Namespace,
    length: usize,
    context: *mut c_void,
    reset: ResetSgl,
    next: NextSge,
) -> Vec<(*mut u8, usize)> {
    let parts = (0..length).step_by(ns.transfer).collect::<Vec<_>>();
    let mut all = Vec::new();
    for &offset in parts.iter().rev() {
        // SAFETY: of a command under way.
        unsafe { reset(context, offset as u32) };
        let mut left = ns.transfer.min(length - offset);
        let mut part = Vec::new();
        while left > 0 {
            let (mut address, mut size) = (std::ptr::null_mut(), 0);
            // SAFETY: of a command under way, with room for an address and a size.
            assert_eq!(unsafe { next(context, &raw mut address, &raw mut size) }, 0);
            let size = left.min(size as usize);
            part.push((address.cast(), size));
            left -= size;
        }
        part.append(&mut all);
        all = part;
    }
    all
}

unsafe extern "C" fn spdk_nvme_ns_cmd_readv(
    ns: *mut RawNamespace,
    queue_pair: *mut RawQueuePair,
    first: u64,
    blocks: u32,
    done: Done,
    context: *mut c_void,
    _: u32,
    reset: ResetSgl,
    next: NextSge,
) -> c_int {
    let block = namespace(ns).block as usize;
    // SAFETY: SPDK's caller keeps to what `pieces` and `take` ask for.
    unsafe {
        let memory = pieces(namespace(ns), blocks as usize * block, context, reset, next);
        take(ns, queue_pair, Work::Read(first as usize * block, memory), done, context)
    }
}

unsafe extern "C" fn spdk_nvme_ns_cmd_writev(
    ns: *mut RawNamespace,
    queue_pair: *mut RawQueuePair,
    first: u64,
    blocks: u32,
    done: Done,
    context: *mut c_void,
    _: u32,
    reset: ResetSgl,
    next: NextSge,
) -> c_int {
    let block = namespace(ns).block as usize;
    // SAFETY: SPDK's caller keeps to what `pieces` and `take` ask for.
    unsafe {
        let memory = pieces(namespace(ns), blocks as usize * block, context, reset, next);
        take(ns, queue_pair, Work::Write(first as usize * block, memory), done, context)
    }
}

unsafe extern "C" fn spdk_nvme_ns_cmd_flush(
    ns: *mut RawNamespace,
    queue_pair: *mut RawQueuePair,
    done: Done,
    context: *mut c_void,
) -> c_int {
    // SAFETY: SPDK's caller keeps to what `take` asks for.
    unsafe { take(ns, queue_pair, Work::Flush, done, context) }
}

unsafe extern "C" fn spdk_nvme_ns_cmd_dataset_management(
    ns: *mut RawNamespace,
    queue_pair: *mut RawQueuePair,
    kind: u32,
    ranges: *const RawRange,
    count: u16,
    done: Done,
    context: *mut c_void,
) -> c_int {
    assert_eq!((kind, count), (4, 1));
    let block = namespace(ns).block as usize;
    // SAFETY: one range.
    let range = unsafe { *ranges };
    let work = Work::Zero(range.first as usize * block, range.blocks as usize * block);
    // SAFETY: SPDK's caller keeps to what `take` asks for.
    unsafe { take(ns, queue_pair, work, done, context) }
}

unsafe extern "C" fn spdk_nvme_ns_cmd_write_zeroes(
    ns: *mut RawNamespace,
    queue_pair: *mut RawQueuePair,
    first: u64,
    blocks: u32,
    done: Done,
    context: *mut c_void,
    _: u32,
) -> c_int {
    if !(1..=1 << 16).contains(&blocks) {
        return -libc::EINVAL;
    }
    let block = namespace(ns).block as usize;
    let work = Work::Zero(first as usize * block, blocks as usize * block);
    // SAFETY: SPDK's caller keeps to what `take` asks for.
    unsafe { take(ns, queue_pair, work, done, context) }
}
