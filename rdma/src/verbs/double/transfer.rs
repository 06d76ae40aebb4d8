//! What the double carries out.

use std::ffi::c_int;
use std::ptr::{self, NonNull};

use super::super::raw::*;
use super::queues::{Completion, Pair, Receive, break_pair, complete, take_receive};
use super::{ADDRESS, device, world};

use ibv_wc_status::*;

/// Buffers of a request.
const SEGMENTS: usize = 30;

/// Bytes of the header before a datagram.
const HEADER: usize = 40;

/// A request of a send queue.
pub(super) struct Request {
    raw: ibv_send_wr,
    segments: [ibv_sge; SEGMENTS],
    count: usize,
    /// What was inline, if it has to wait.
    inline: Vec<u8>,
}

/// How far it has come.
enum Progress {
    Done,
    Failed(ibv_wc_status::Type),
    /// The peer has no receive.
    Waits,
}

pub(super) unsafe extern "C" fn post_send(
    pair: *mut ibv_qp,
    mut request: *mut ibv_send_wr,
    bad: *mut *mut ibv_send_wr,
) -> c_int {
    // SAFETY: the queue pair and the list with what it points to are there.
    unsafe {
        let this = NonNull::new_unchecked(pair.cast::<Pair>());
        while let Some(next) = request.as_ref() {
            let is_ready =
                (*pair).state == ibv_qp_state::IBV_QPS_RTS || (*pair).state == ibv_qp_state::IBV_QPS_ERR;
            let errno = world(|world| world.refusal.take()).or((!is_ready).then_some(libc::EINVAL));
            let count = next.num_sge as usize;
            if let Some(errno) = errno.or((count > SEGMENTS).then_some(libc::EINVAL)) {
                *bad = request;
                return errno;
            }
            let mut segments = [ibv_sge::default(); SEGMENTS];
            (0..count).for_each(|index| segments[index] = *next.sg_list.add(index));
            take(this, Request { raw: *next, segments, count, inline: Vec::new() });
            request = next.next;
        }
    }
    0
}

/// # Safety
/// The queue pair and the memory of the request are there.
unsafe fn take(pair: NonNull<Pair>, mut request: Request) {
    // SAFETY: as the caller promises.
    unsafe {
        let this = pair.as_ptr();
        if (*this).raw.state == ibv_qp_state::IBV_QPS_ERR {
            return finish(pair, &request, IBV_WC_WR_FLUSH_ERR, 0);
        }
        let mut has_to_wait = world(|world| world.held.get()) || !(*this).waiting.is_empty();
        if !has_to_wait {
            has_to_wait = !attempt(pair, &request);
        }
        if has_to_wait {
            request.keep();
            (*this).waiting.push_back(request);
        }
    }
}

impl Request {
    fn is_inline(&self) -> bool {
        self.raw.send_flags & ibv_send_flags::IBV_SEND_INLINE.0 != 0
    }

    /// Takes inline bytes along.
    ///
    /// # Safety
    /// They are there.
    unsafe fn keep(&mut self) {
        if !self.is_inline() {
            return;
        }
        for segment in &self.segments[..self.count] {
            // SAFETY: as the caller promises.
            let bytes =
                unsafe { std::slice::from_raw_parts(segment.addr as *const u8, segment.length as usize) };
            self.inline.extend_from_slice(bytes);
        }
        self.segments[0] =
            ibv_sge { addr: self.inline.as_ptr() as u64, length: self.inline.len() as u32, lkey: 0 };
        self.count = 1;
    }

    fn len(&self) -> usize {
        self.segments[..self.count].iter().map(|segment| segment.length as usize).sum()
    }

    /// Whether all buffers are registered for this.
    fn is_local_right(&self, access: u32) -> bool {
        let is_right = |segment: &ibv_sge| {
            device::reach(segment.lkey, segment.addr, segment.length.into(), access, None).is_some()
        };
        self.is_inline() || self.segments[..self.count].iter().all(is_right)
    }
}

/// Goes on with all that waits.
pub(super) fn go_on() {
    let numbers: Vec<u32> = world(|world| world.pairs.borrow().keys().copied().collect());
    numbers.into_iter().for_each(run);
}

/// Goes on with what waits on a queue pair.
pub(super) fn run(number: u32) {
    loop {
        if world(|world| world.held.get()) {
            return;
        }
        let Some(pair) = find(number) else { return };
        // SAFETY: those in the table are there, and their requests' memory as well, as they are not completed.
        unsafe {
            let this = pair.as_ptr();
            let Some(request) = (*this).waiting.pop_front() else { return };
            if !attempt(pair, &request) {
                return (*this).waiting.push_front(request);
            }
        }
    }
}

fn find(number: u32) -> Option<NonNull<Pair>> {
    world(|world| world.pairs.borrow().get(&number).copied())
}

/// Carries out a request, unless it has to wait.
///
/// # Safety
/// The queue pair and the memory of the request are there.
unsafe fn attempt(pair: NonNull<Pair>, request: &Request) -> bool {
    let failure = world(|world| world.failure.take());
    // SAFETY: as the caller promises.
    unsafe {
        let progress = match failure {
            Some(status) => Progress::Failed(status),
            None if (*pair.as_ptr()).raw.qp_type == ibv_qp_type::IBV_QPT_UD => datagram(pair, request),
            None => reliable(pair, request),
        };
        match progress {
            Progress::Done => finish(pair, request, IBV_WC_SUCCESS, request.len()),
            Progress::Failed(status) => {
                finish(pair, request, status, 0);
                break_pair(pair, None);
            }
            Progress::Waits if (*pair.as_ptr()).is_patient => return false,
            Progress::Waits => {
                finish(pair, request, IBV_WC_RNR_RETRY_EXC_ERR, 0);
                break_pair(pair, None);
            }
        }
    }
    true
}

/// # Safety
/// The queue pair and the memory of the request are there.
unsafe fn reliable(pair: NonNull<Pair>, request: &Request) -> Progress {
    use ibv_wr_opcode::*;
    // SAFETY: as the caller promises, and what is in the table is there.
    unsafe {
        let this = pair.as_ptr();
        let number = (*this).raw.qp_num;
        let is_mine = |peer: &NonNull<Pair>| {
            let peer = peer.as_ptr();
            let state = (*peer).raw.state;
            let is_ready = state == ibv_qp_state::IBV_QPS_RTR || state == ibv_qp_state::IBV_QPS_RTS;
            (*peer).peer == number && is_ready
        };
        let Some(peer) = find((*this).peer).filter(is_mine) else {
            return Progress::Failed(IBV_WC_RETRY_EXC_ERR);
        };
        let is_fetched = matches!(
            request.raw.opcode,
            IBV_WR_RDMA_READ | IBV_WR_ATOMIC_FETCH_AND_ADD | IBV_WR_ATOMIC_CMP_AND_SWP
        );
        if !request.is_local_right(u32::from(is_fetched)) {
            return Progress::Failed(IBV_WC_LOC_PROT_ERR);
        }
        match request.raw.opcode {
            IBV_WR_SEND | IBV_WR_SEND_WITH_IMM => {
                let Some(receive) = take_receive(peer, number) else { return Progress::Waits };
                deliver(peer, request, receive, None)
            }
            IBV_WR_RDMA_WRITE | IBV_WR_RDMA_WRITE_WITH_IMM => write(peer, request, number),
            _ => fetch(peer, request),
        }
    }
}

/// # Safety
/// The queue pair and the memory of the request are there.
unsafe fn deliver(peer: NonNull<Pair>, request: &Request, receive: Receive, sender: Option<u32>) -> Progress {
    let header = if sender.is_some() { HEADER } else { 0 };
    let Receive { id, segment } = receive;
    // SAFETY: as the caller promises; the receiver's memory is registered, and kept until it is completed.
    unsafe {
        if request.len() + header > segment.length as usize {
            if sender.is_some() {
                return Progress::Done;
            }
            failed(peer, id, IBV_WC_LOC_LEN_ERR);
            break_pair(peer, None);
            return Progress::Failed(IBV_WC_REM_INV_REQ_ERR);
        }
        let Some(to) = device::reach(segment.lkey, segment.addr, segment.length.into(), 1, None) else {
            failed(peer, id, IBV_WC_LOC_PROT_ERR);
            break_pair(peer, None);
            return Progress::Failed(IBV_WC_REM_OP_ERR);
        };
        if sender.is_some() {
            let mut bytes = [0; HEADER];
            bytes[20] = 0x45;
            bytes[32..36].copy_from_slice(&ADDRESS.octets());
            ptr::copy_nonoverlapping(bytes.as_ptr(), to, HEADER);
        }
        gather(request, to.add(header));
        arrived(peer, request, id, request.len() + header, sender);
    }
    Progress::Done
}

/// # Safety
/// There is room for all of the request's bytes, which are there.
unsafe fn gather(request: &Request, mut to: *mut u8) {
    for segment in &request.segments[..request.count] {
        // SAFETY: as the caller promises. They may be the same memory.
        unsafe {
            ptr::copy(segment.addr as *const u8, to, segment.length as usize);
            to = to.add(segment.length as usize);
        }
    }
}

/// # Safety
/// The queue pair and the memory of the request are there.
unsafe fn write(peer: NonNull<Pair>, request: &Request, sender: u32) -> Progress {
    let flag = ibv_access_flags::IBV_ACCESS_REMOTE_WRITE.0;
    // SAFETY: as the caller promises; what is registered for this is there.
    unsafe {
        let remote = request.raw.wr.rdma;
        let Some(to) = remote_memory(peer, remote.rkey, remote.remote_addr, request.len(), flag) else {
            break_pair(peer, Some(IBV_EVENT_QP_ACCESS_ERR));
            return Progress::Failed(IBV_WC_REM_ACCESS_ERR);
        };
        if request.raw.opcode == ibv_wr_opcode::IBV_WR_RDMA_WRITE_WITH_IMM {
            let Some(receive) = take_receive(peer, sender) else { return Progress::Waits };
            gather(request, to);
            arrived(peer, request, receive.id, request.len(), None);
        } else {
            gather(request, to);
        }
    }
    Progress::Done
}

/// # Safety
/// The queue pair is there.
unsafe fn remote_memory(
    peer: NonNull<Pair>,
    key: u32,
    address: u64,
    len: usize,
    flag: u32,
) -> Option<*mut u8> {
    // SAFETY: as the caller promises.
    let (access, domain) = unsafe { ((*peer.as_ptr()).access, (*peer.as_ptr()).raw.pd) };
    (access & flag != 0).then(|| device::reach(key, address, len as u64, flag, Some(domain))).flatten()
}

/// # Safety
/// The queue pair and the memory of the request are there.
unsafe fn fetch(peer: NonNull<Pair>, request: &Request) -> Progress {
    // SAFETY: as the caller promises; what is registered for this is there, and for atomic operations aligned.
    unsafe {
        let to = request.segments[0].addr as *mut u8;
        if request.raw.opcode == ibv_wr_opcode::IBV_WR_RDMA_READ {
            let remote = request.raw.wr.rdma;
            let flag = ibv_access_flags::IBV_ACCESS_REMOTE_READ.0;
            if let Some(from) = remote_memory(peer, remote.rkey, remote.remote_addr, request.len(), flag) {
                ptr::copy(from, to, request.len());
                return Progress::Done;
            }
        } else {
            let remote = request.raw.wr.atomic;
            let flag = ibv_access_flags::IBV_ACCESS_REMOTE_ATOMIC.0;
            let word =
                remote_memory(peer, remote.rkey, remote.remote_addr, 8, flag).map(|word| word.cast::<u64>());
            if let Some(word) = word.filter(|word| word.is_aligned()) {
                let former = word.read_volatile();
                if request.raw.opcode == ibv_wr_opcode::IBV_WR_ATOMIC_FETCH_AND_ADD {
                    word.write_volatile(former.wrapping_add(remote.compare_add));
                } else if former == remote.compare_add {
                    word.write_volatile(remote.swap);
                }
                to.cast::<u64>().write_unaligned(former);
                return Progress::Done;
            }
        }
        break_pair(peer, Some(IBV_EVENT_QP_ACCESS_ERR));
    }
    Progress::Failed(IBV_WC_REM_ACCESS_ERR)
}

/// # Safety
/// The queue pair and the memory of the request are there.
unsafe fn datagram(pair: NonNull<Pair>, request: &Request) -> Progress {
    if !request.is_local_right(0) {
        return Progress::Failed(IBV_WC_LOC_PROT_ERR);
    }
    // SAFETY: as the caller promises, and what is in the table is there.
    unsafe {
        let (to, number) = (request.raw.wr.ud, (*pair.as_ptr()).raw.qp_num);
        let is_there = |peer: &NonNull<Pair>| {
            let peer = peer.as_ptr();
            (*peer).raw.qp_type == ibv_qp_type::IBV_QPT_UD && (*peer).key == to.remote_qkey
        };
        // Without a receiver, or a receive of its, it is lost.
        let receiver = find(to.remote_qpn).filter(is_there);
        let receive = receiver.and_then(|peer| Some((peer, take_receive(peer, number)?)));
        match receive {
            Some((peer, receive)) => deliver(peer, request, receive, Some(number)),
            None => Progress::Done,
        }
    }
}

/// Completes a send.
///
/// # Safety
/// The queue pair is there.
pub(super) unsafe fn finish(pair: NonNull<Pair>, request: &Request, status: ibv_wc_status::Type, len: usize) {
    let is_signalled = request.raw.send_flags & ibv_send_flags::IBV_SEND_SIGNALED.0 != 0;
    if !is_signalled && status == IBV_WC_SUCCESS {
        return;
    }
    // SAFETY: as the caller promises; its queues live longer.
    unsafe {
        let raw = &raw const (*pair.as_ptr()).raw;
        let completion = completion(request.raw.wr_id, status, 0, len, (*raw).qp_num);
        complete((*raw).send_cq, completion, false);
    }
}

/// A message has arrived.
///
/// # Safety
/// The queue pair is there.
unsafe fn arrived(peer: NonNull<Pair>, request: &Request, id: u64, len: usize, sender: Option<u32>) {
    use ibv_wr_opcode::*;
    let has_immediate = matches!(request.raw.opcode, IBV_WR_SEND_WITH_IMM | IBV_WR_RDMA_WRITE_WITH_IMM);
    // SAFETY: as the caller promises; its queues live longer, and any bytes are a number.
    unsafe {
        let raw = &raw const (*peer.as_ptr()).raw;
        let opcode = match request.raw.opcode {
            IBV_WR_RDMA_WRITE_WITH_IMM => ibv_wc_opcode::IBV_WC_RECV_RDMA_WITH_IMM,
            _ => ibv_wc_opcode::IBV_WC_RECV,
        };
        let mut completion = completion(id, IBV_WC_SUCCESS, opcode, len, (*raw).qp_num);
        if has_immediate {
            completion.immediate = request.raw.__bindgen_anon_1.imm_data;
            completion.flags |= ibv_wc_flags::IBV_WC_WITH_IMM.0;
        }
        if let Some(sender) = sender {
            completion.source = sender;
            completion.flags |= ibv_wc_flags::IBV_WC_GRH.0;
        }
        let is_solicited = request.raw.send_flags & ibv_send_flags::IBV_SEND_SOLICITED.0 != 0;
        complete((*raw).recv_cq, completion, is_solicited);
    }
}

/// A receive has failed.
///
/// # Safety
/// The queue pair is there.
pub(super) unsafe fn failed(pair: NonNull<Pair>, id: u64, status: ibv_wc_status::Type) {
    // SAFETY: as the caller promises; its queues live longer.
    unsafe {
        let raw = &raw const (*pair.as_ptr()).raw;
        let completion = completion(id, status, ibv_wc_opcode::IBV_WC_RECV, 0, (*raw).qp_num);
        complete((*raw).recv_cq, completion, false);
    }
}

fn completion(id: u64, status: u32, opcode: u32, len: usize, number: u32) -> Completion {
    Completion {
        id,
        status,
        opcode,
        vendor: 0,
        len: len as u32,
        immediate: 0,
        number,
        source: 0,
        flags: 0,
        pkey_index: 0,
        slid: 0,
        sl: 0,
        path_bits: 0,
    }
}
