//! Queues of the double.

use std::collections::VecDeque;
use std::ffi::{c_int, c_uint, c_void};
use std::ptr::{self, NonNull};

use super::super::raw::*;
use super::transfer::{self, Request};
use super::{Bell, INLINE, device, make, set_errno, unmake, world};

/// A completion as it is handed out: an `ibv_wc`, some of whose fields only its own crate can write.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Completion {
    pub(super) id: u64,
    pub(super) status: u32,
    pub(super) opcode: u32,
    pub(super) vendor: u32,
    pub(super) len: u32,
    pub(super) immediate: u32,
    pub(super) number: u32,
    pub(super) source: u32,
    pub(super) flags: u32,
    pub(super) pkey_index: u16,
    pub(super) slid: u16,
    pub(super) sl: u8,
    pub(super) path_bits: u8,
}

const _: () = assert!(size_of::<Completion>() == size_of::<ibv_wc>());

#[repr(C)]
struct Channel {
    raw: ibv_comp_channel,
    bell: Bell,
    ready: VecDeque<*mut ibv_cq>,
}

#[derive(Clone, Copy, PartialEq)]
enum Armed {
    No,
    Solicited,
    Any,
}

#[repr(C)]
struct Completions {
    raw: ibv_cq,
    queue: VecDeque<Completion>,
    armed: Armed,
}

/// A receive that is posted.
#[derive(Clone, Copy)]
pub(super) struct Receive {
    pub(super) id: u64,
    pub(super) segment: ibv_sge,
}

#[repr(C)]
pub(super) struct Shared {
    raw: ibv_srq,
    receives: VecDeque<Receive>,
    depth: u32,
    limit: u32,
    /// Queue pairs whose sends wait for receives here.
    starved: Vec<u32>,
}

#[repr(C)]
pub(super) struct Pair {
    pub(super) raw: ibv_qp,
    /// The number of the queue pair that it is joined with.
    pub(super) peer: u32,
    /// Of datagrams.
    pub(super) key: u32,
    pub(super) access: u32,
    /// How many routers its packets would pass.
    pub(super) hops: u8,
    /// Whether sends wait without end for the peer's receives.
    pub(super) is_patient: bool,
    pub(super) receives: VecDeque<Receive>,
    pub(super) waiting: VecDeque<Request>,
    depths: (u32, u32),
}

pub(super) unsafe extern "C" fn create_channel(context: *mut ibv_context) -> *mut ibv_comp_channel {
    let Ok(bell) = Bell::new() else { return ptr::null_mut() };
    let raw = ibv_comp_channel { context, fd: bell.0, refcnt: 0 };
    make(Channel { raw, bell, ready: VecDeque::new() }).cast()
}

pub(super) unsafe extern "C" fn destroy_channel(channel: *mut ibv_comp_channel) -> c_int {
    // SAFETY: made above, and given back.
    unsafe { unmake(channel.cast::<Channel>()) };
    0
}

pub(super) unsafe extern "C" fn get_notification(
    channel: *mut ibv_comp_channel,
    queue: *mut *mut ibv_cq,
    context: *mut *mut c_void,
) -> c_int {
    // SAFETY: it is there.
    let channel = unsafe { &mut *channel.cast::<Channel>() };
    let Some(next) = channel.ready.pop_front() else {
        set_errno(libc::EAGAIN);
        return -1;
    };
    if channel.ready.is_empty() {
        channel.bell.quiet();
    }
    // SAFETY: the caller has room for both.
    unsafe {
        queue.write(next);
        context.write(ptr::null_mut());
    }
    0
}

pub(super) unsafe extern "C" fn acknowledge_notifications(_: *mut ibv_cq, _: c_uint) {}

pub(super) unsafe extern "C" fn create_completions(
    context: *mut ibv_context,
    count: c_int,
    cq_context: *mut c_void,
    channel: *mut ibv_comp_channel,
    _: c_int,
) -> *mut ibv_cq {
    let raw = ibv_cq { context, channel, cq_context, cqe: count, ..Default::default() };
    make(Completions { raw, queue: VecDeque::with_capacity(count as usize), armed: Armed::No }).cast()
}

pub(super) unsafe extern "C" fn resize_completions(queue: *mut ibv_cq, count: c_int) -> c_int {
    // SAFETY: it is there.
    let this = unsafe { &mut *queue.cast::<Completions>() };
    if this.queue.len() > count as usize {
        return libc::EINVAL;
    }
    this.queue.reserve(count as usize - this.queue.len());
    this.raw.cqe = count;
    0
}

pub(super) unsafe extern "C" fn destroy_completions(queue: *mut ibv_cq) -> c_int {
    // SAFETY: both are there, as the queue holds the channel.
    unsafe {
        if let Some(channel) = (*queue).channel.cast::<Channel>().as_mut() {
            channel.ready.retain(|ready| *ready != queue);
        }
        unmake(queue.cast::<Completions>());
    }
    0
}

pub(super) unsafe extern "C" fn arm(queue: *mut ibv_cq, solicited_only: c_int) -> c_int {
    // SAFETY: it is there.
    let this = unsafe { &mut *queue.cast::<Completions>() };
    this.armed = match solicited_only {
        0 => Armed::Any,
        _ if this.armed == Armed::Any => Armed::Any,
        _ => Armed::Solicited,
    };
    0
}

pub(super) unsafe extern "C" fn poll(queue: *mut ibv_cq, count: c_int, to: *mut ibv_wc) -> c_int {
    // SAFETY: it is there.
    let this = unsafe { &mut *queue.cast::<Completions>() };
    let count = this.queue.len().min(count as usize);
    for (index, completion) in this.queue.drain(..count).enumerate() {
        // SAFETY: there is room for as many, of the same layout.
        unsafe { to.add(index).cast::<Completion>().write(completion) };
    }
    count as c_int
}

/// Puts a completion into a queue, and notifies.
///
/// # Safety
/// The queue is there.
pub(super) unsafe fn complete(queue: *mut ibv_cq, completion: Completion, is_solicited: bool) {
    // SAFETY: as the caller promises.
    let this = unsafe { &mut *queue.cast::<Completions>() };
    if this.queue.len() >= this.raw.cqe as usize {
        let event = ibv_async_event {
            element: ibv_async_event__bindgen_ty_1 { cq: queue },
            event_type: IBV_EVENT_CQ_ERR,
        };
        // SAFETY: the context lives longer than the queue.
        unsafe { device::report(this.raw.context, event) };
        return;
    }
    this.queue.push_back(completion);
    let is_wanted = match this.armed {
        Armed::No => false,
        Armed::Any => true,
        Armed::Solicited => is_solicited || completion.status != 0,
    };
    // SAFETY: the channel lives longer than the queue.
    if let (true, Some(channel)) = (is_wanted, unsafe { this.raw.channel.cast::<Channel>().as_mut() }) {
        this.armed = Armed::No;
        channel.ready.push_back(queue);
        channel.bell.ring();
    }
}

pub(super) unsafe extern "C" fn create_shared(
    pd: *mut ibv_pd,
    attributes: *mut ibv_srq_init_attr,
) -> *mut ibv_srq {
    // SAFETY: both are there.
    let (context, depth) = unsafe { ((*pd).context, (*attributes).attr.max_wr) };
    let raw = ibv_srq { context, pd, ..Default::default() };
    let receives = VecDeque::with_capacity(depth as usize);
    make(Shared { raw, receives, depth, limit: 0, starved: Vec::new() }).cast()
}

pub(super) unsafe extern "C" fn modify_shared(
    queue: *mut ibv_srq,
    attributes: *mut ibv_srq_attr,
    _: c_int,
) -> c_int {
    // SAFETY: both are there.
    unsafe { (*queue.cast::<Shared>()).limit = (*attributes).srq_limit };
    0
}

pub(super) unsafe extern "C" fn destroy_shared(queue: *mut ibv_srq) -> c_int {
    // SAFETY: made above, and given back.
    unsafe { unmake(queue.cast::<Shared>()) };
    0
}

pub(super) unsafe extern "C" fn post_shared(
    queue: *mut ibv_srq,
    request: *mut ibv_recv_wr,
    bad: *mut *mut ibv_recv_wr,
) -> c_int {
    let this = queue.cast::<Shared>();
    // SAFETY: the queue and the list are there.
    unsafe {
        let failed = post_list(&raw mut (*this).receives, (*this).depth, request, bad);
        for number in std::mem::take(&mut (*this).starved) {
            transfer::run(number);
        }
        failed
    }
}

pub(super) unsafe extern "C" fn post_receive(
    pair: *mut ibv_qp,
    request: *mut ibv_recv_wr,
    bad: *mut *mut ibv_recv_wr,
) -> c_int {
    let this = pair.cast::<Pair>();
    // SAFETY: the queue pair and the list are there.
    unsafe {
        if (*this).raw.state == ibv_qp_state::IBV_QPS_RESET {
            *bad = request;
            return libc::EINVAL;
        }
        let failed = post_list(&raw mut (*this).receives, (*this).depths.1, request, bad);
        if (*this).raw.state == ibv_qp_state::IBV_QPS_ERR {
            flush(NonNull::new_unchecked(this));
        }
        transfer::run((*this).peer);
        failed
    }
}

/// # Safety
/// The queue and the list are there.
unsafe fn post_list(
    receives: *mut VecDeque<Receive>,
    depth: u32,
    mut request: *mut ibv_recv_wr,
    bad: *mut *mut ibv_recv_wr,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        while let Some(next) = request.as_ref() {
            let refused = world(|world| world.refusal.take());
            let is_full = (*receives).len() >= depth as usize;
            if let Some(errno) = refused.or(is_full.then_some(libc::ENOMEM)) {
                *bad = request;
                return errno;
            }
            let segment = if next.num_sge > 0 { *next.sg_list } else { ibv_sge::default() };
            (*receives).push_back(Receive { id: next.wr_id, segment });
            request = next.next;
        }
    }
    0
}

pub(super) unsafe extern "C" fn create_pair(pd: *mut ibv_pd, wanted: *mut ibv_qp_init_attr) -> *mut ibv_qp {
    // SAFETY: both are there.
    let (context, wanted) = unsafe { ((*pd).context, &mut *wanted) };
    if wanted.cap.max_inline_data > INLINE {
        set_errno(libc::EINVAL);
        return ptr::null_mut();
    }
    // A device gives what its queue entries are long enough for.
    wanted.cap.max_inline_data = INLINE;
    world(|world| {
        let number = world.numbered.take().unwrap_or_else(|| (world.number() * 0x111) & 0xff_ffff);
        let raw = ibv_qp {
            context,
            pd,
            send_cq: wanted.send_cq,
            recv_cq: wanted.recv_cq,
            srq: wanted.srq,
            qp_num: number,
            qp_type: wanted.qp_type,
            state: ibv_qp_state::IBV_QPS_RESET,
            ..Default::default()
        };
        let depths = (wanted.cap.max_send_wr, wanted.cap.max_recv_wr);
        let pair = make(Pair {
            raw,
            peer: 0,
            key: 0,
            access: 0,
            hops: 0,
            is_patient: false,
            receives: VecDeque::with_capacity(depths.1 as usize),
            waiting: VecDeque::new(),
            depths,
        });
        world.pairs.borrow_mut().insert(number, NonNull::new(pair).expect("a box is somewhere"));
        pair.cast()
    })
}

pub(super) unsafe extern "C" fn modify_pair(pair: *mut ibv_qp, to: *mut ibv_qp_attr, mask: c_int) -> c_int {
    use ibv_qp_attr_mask as bit;
    use ibv_qp_state::*;
    let this = pair.cast::<Pair>();
    // SAFETY: both are there.
    unsafe {
        let has = |flag: ibv_qp_attr_mask| mask as u32 & flag.0 != 0;
        let (from, to) = ((*this).raw.state, &*to);
        let is_way = to.qp_state == IBV_QPS_ERR
            || matches!(
                (from, to.qp_state),
                (0, IBV_QPS_INIT) | (1, IBV_QPS_INIT | IBV_QPS_RTR) | (2, IBV_QPS_RTS)
            );
        if !has(bit::IBV_QP_STATE) && mask as u32 == bit::IBV_QP_ACCESS_FLAGS.0 && from == IBV_QPS_RTS {
            (*this).access = to.qp_access_flags;
            return 0;
        }
        if !has(bit::IBV_QP_STATE) || !is_way {
            return libc::EINVAL;
        }
        if has(bit::IBV_QP_DEST_QPN) {
            (*this).peer = to.dest_qp_num;
        }
        if has(bit::IBV_QP_AV) {
            (*this).hops = to.ah_attr.grh.hop_limit;
        }
        if has(bit::IBV_QP_QKEY) {
            (*this).key = to.qkey;
        }
        if has(bit::IBV_QP_ACCESS_FLAGS) {
            (*this).access = to.qp_access_flags;
        }
        if has(bit::IBV_QP_RNR_RETRY) {
            (*this).is_patient = to.rnr_retry == 7;
        }
        (*this).raw.state = to.qp_state;
        if to.qp_state == IBV_QPS_ERR {
            flush(NonNull::new_unchecked(this));
        } else {
            transfer::run((*this).peer);
        }
    }
    0
}

pub(super) unsafe extern "C" fn destroy_pair(pair: *mut ibv_qp) -> c_int {
    world(|world| {
        // SAFETY: it is there until now.
        let number = unsafe { (*pair).qp_num };
        world.pairs.borrow_mut().remove(&number);
    });
    // SAFETY: made above, and given back; its context lives longer.
    unsafe {
        device::forget((*pair).context, pair);
        unmake(pair.cast::<Pair>());
    }
    0
}

/// The receive that the next message on a queue pair goes into.
///
/// # Safety
/// The queue pair is there.
pub(super) unsafe fn take_receive(pair: NonNull<Pair>, sender: u32) -> Option<Receive> {
    // SAFETY: as the caller promises; the shared queue lives longer.
    unsafe {
        let this = pair.as_ptr();
        let shared = (*this).raw.srq.cast::<Shared>();
        if shared.is_null() {
            return (*this).receives.pop_front();
        }
        let receive = (*shared).receives.pop_front();
        if receive.is_none() {
            (*shared).starved.push(sender);
        }
        if (*shared).receives.len() < (*shared).limit as usize {
            (*shared).limit = 0;
            let element = ibv_async_event__bindgen_ty_1 { srq: shared.cast() };
            let event = ibv_async_event { element, event_type: IBV_EVENT_SRQ_LIMIT_REACHED };
            device::report((*this).raw.context, event);
        }
        receive
    }
}

/// Puts a queue pair into its error state, with an event.
///
/// # Safety
/// The queue pair is there.
pub(super) unsafe fn break_pair(pair: NonNull<Pair>, event_type: Option<ibv_event_type>) {
    // SAFETY: as the caller promises.
    unsafe {
        let this = pair.as_ptr();
        (*this).raw.state = ibv_qp_state::IBV_QPS_ERR;
        if let Some(event_type) = event_type {
            let element = ibv_async_event__bindgen_ty_1 { qp: this.cast() };
            device::report((*this).raw.context, ibv_async_event { element, event_type });
        }
        flush(pair);
    }
}

/// Gives up what is under way.
///
/// # Safety
/// The queue pair is there.
unsafe fn flush(pair: NonNull<Pair>) {
    // SAFETY: as the caller promises; its queues live longer.
    unsafe {
        let this = pair.as_ptr();
        while let Some(request) = (*this).waiting.pop_front() {
            transfer::finish(pair, &request, ibv_wc_status::IBV_WC_WR_FLUSH_ERR, 0);
        }
        while let Some(receive) = (*this).receives.pop_front() {
            transfer::failed(pair, receive.id, ibv_wc_status::IBV_WC_WR_FLUSH_ERR);
        }
        if !(*this).raw.srq.is_null() {
            let element = ibv_async_event__bindgen_ty_1 { qp: this.cast() };
            let event = ibv_async_event { element, event_type: IBV_EVENT_QP_LAST_WQE_REACHED };
            device::report((*this).raw.context, event);
        }
    }
}
