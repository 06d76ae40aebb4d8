//! Shared receive queues: receives for whichever queue pair a message comes on.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::ptr::{self, NonNull};
use std::rc::Rc;

use demikernel_runtime::buffer::BufferMut;

use super::completion::CompletionQueue;
use super::device::Device;
use super::domain::ProtectionDomain;
use super::error::{Refused, check, last, refusal};
use super::raw::*;
use super::work::{Held, Side};

/// Receives that are given to a driver in one call.
const BATCH: usize = 16;

/// A shared receive queue. A clone is the same.
///
/// ```
/// use demikernel_rdma::verbs::{ProtectionDomain, SharedReceiveQueue, double};
/// use demikernel_runtime::buffer::BufferMut;
///
/// let device = double::device()?;
/// let domain = ProtectionDomain::new(&device)?;
/// let receives = SharedReceiveQueue::new(&domain, 16)?;
/// receives.post(BufferMut::with_capacity(2048)?)?;
/// assert_eq!((receives.posted(), receives.depth()), (1, 16));
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct SharedReceiveQueue(Rc<Inner>);

struct Inner {
    queue: NonNull<ibv_srq>,
    /// Its place among what is under way.
    slot: u32,
    depth: u32,
    /// The completion queues where its receives complete, and for how many queue pairs.
    completions: RefCell<Vec<(*mut ibv_cq, u32)>>,
    domain: ProtectionDomain,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let device = self.domain.device();
        // SAFETY: the queue pairs that receive from it hold it, so there are none.
        let failed = unsafe { (device.provider().destroy_srq)(self.queue.as_ptr()) };
        if failed != 0 {
            // It may still be received into: what it has is never given back.
            tracing::warn!(device = device.name(), errno = failed, "a shared receive queue stays");
            std::mem::forget(self.domain.clone());
            return;
        }
        release(device, self.slot, None);
    }
}

/// Lets go of what was under way on a queue that is gone.
pub(super) fn release(device: &Device, slot: u32, number: Option<u32>) {
    loop {
        // Not borrowed when buffers are dropped, which may run anybody's code.
        let held = device.work().borrow_mut().drain(slot);
        if held.is_none() {
            break;
        }
    }
    device.work().borrow_mut().remove_queue(slot, number);
}

impl SharedReceiveQueue {
    /// A queue of as many receives at most.
    ///
    /// # Errors
    /// If the device cannot have it.
    pub fn new(domain: &ProtectionDomain, depth: u32) -> io::Result<SharedReceiveQueue> {
        let device = domain.device();
        device.limit("receives in a shared queue", device.limits().shared_receives, depth)?;
        let attributes = ibv_srq_attr { max_wr: depth.max(1), max_sge: 1, srq_limit: 0 };
        let mut attributes = ibv_srq_init_attr { srq_context: ptr::null_mut(), attr: attributes };
        // SAFETY: the domain is open.
        let queue = unsafe { (device.provider().create_srq)(domain.raw().as_ptr(), &mut attributes) };
        let queue = NonNull::new(queue).ok_or_else(|| last("make a shared receive queue"))?;
        let slot = device.work().borrow_mut().add_queue(0, None, false);
        let completions = RefCell::new(Vec::new());
        let inner = Inner { queue, slot, depth: depth.max(1), completions, domain: domain.clone() };
        Ok(SharedReceiveQueue(Rc::new(inner)))
    }

    /// Receives into a buffer, all of which may be overwritten: what it holds is forgotten.
    ///
    /// # Errors
    /// If the queue is full, or the device does not reach the buffer.
    #[inline]
    pub fn post(&self, mut buffer: BufferMut) -> Result<(), Refused<BufferMut>> {
        let mut segment = match whole(&self.0.domain, &mut buffer) {
            Ok(segment) => segment,
            Err(error) => return Err(Refused { error, work: buffer }),
        };
        // Drivers do not call back, so it may stay borrowed meanwhile.
        let mut work = self.0.domain.device().work().borrow_mut();
        let Some(wr_id) = work.reserve_below(self.0.slot, Side::Receive, self.0.depth) else {
            return Err(Refused { error: io::ErrorKind::WouldBlock.into(), work: buffer });
        };
        let mut request = ibv_recv_wr { wr_id, next: ptr::null_mut(), sg_list: &mut segment, num_sge: 1 };
        // SAFETY: the request and what it points to are there, and its entry keeps the memory until it is completed.
        let (failed, _) = unsafe { self.give(&mut request) };
        if failed != 0 {
            return Err(Refused { error: refusal("post a receive", failed), work: buffer });
        }
        work.begin(self.0.slot, Side::Receive, 0, Held::Receive(buffer));
        Ok(())
    }

    /// Receives into buffers, as long as there is [room](SharedReceiveQueue::room), and says into how many. It asks for no
    /// more than that.
    ///
    /// # Errors
    /// If the device does not reach a buffer. What was asked for and not posted is dropped.
    pub fn post_many(&self, buffers: impl IntoIterator<Item = BufferMut>) -> io::Result<usize> {
        let mut buffers = buffers.into_iter();
        let mut posted = 0;
        while self.room() > 0 {
            let mut batch = Batch::new(self);
            // Whoever gives the buffers may post others meanwhile, therefore it is looked at each time.
            while batch.count < BATCH && self.room() > 0 {
                let Some(buffer) = buffers.next() else { break };
                if let Err(error) = batch.add(buffer) {
                    batch.post()?;
                    return Err(error);
                }
            }
            let is_full = batch.count == BATCH;
            posted += batch.post()?;
            if !is_full {
                break;
            }
        }
        Ok(posted)
    }

    /// Gives a list of receives to the driver. If it does not take all, it says which is the first.
    ///
    /// # Safety
    /// The list is there, with what it points to, and the memory that it names is kept until the requests are completed.
    #[inline]
    unsafe fn give(&self, first: *mut ibv_recv_wr) -> (i32, *mut ibv_recv_wr) {
        let Some(post) = self.0.domain.device().operations().post_srq_recv else {
            unreachable!("all drivers have it")
        };
        let mut bad = ptr::null_mut();
        // SAFETY: the queue is there, and the caller vouches for the list.
        let failed = unsafe { post(self.0.queue.as_ptr(), first, &mut bad) };
        (failed, bad)
    }

    /// Has [`DeviceEvent::ReceivesLow`](super::DeviceEvent::ReceivesLow) reported once when fewer receives are left.
    ///
    /// # Errors
    /// If the device does not do so.
    pub fn warn_below(&self, count: u32) -> io::Result<()> {
        let mut attributes = ibv_srq_attr { max_wr: 0, max_sge: 0, srq_limit: count };
        let provider = self.0.domain.device().provider();
        let mask = IBV_SRQ_LIMIT as i32;
        // SAFETY: the queue is there.
        let failed = unsafe { (provider.modify_srq)(self.0.queue.as_ptr(), &mut attributes, mask) };
        check("set the limit of a shared receive queue", failed)
    }

    /// How many receives can be posted.
    #[inline]
    pub fn room(&self) -> u32 {
        self.0.depth - self.posted()
    }

    /// How many are posted, or completed and not yet [taken](CompletionQueue::take).
    #[inline]
    pub fn posted(&self) -> u32 {
        self.0.domain.device().work().borrow().count(self.0.slot, Side::Receive)
    }

    /// How many can be posted at once.
    pub fn depth(&self) -> u32 {
        self.0.depth
    }

    pub(super) fn raw(&self) -> *mut ibv_srq {
        self.0.queue.as_ptr()
    }

    pub(super) fn domain(&self) -> &ProtectionDomain {
        &self.0.domain
    }

    /// One more queue pair has its receives complete there.
    pub(super) fn attach(&self, queue: &CompletionQueue) -> io::Result<()> {
        let mut completions = self.0.completions.borrow_mut();
        match completions.iter_mut().find(|(raw, _)| *raw == queue.raw()) {
            Some((_, count)) => *count += 1,
            None => {
                queue.expect(self.0.depth)?;
                completions.push((queue.raw(), 1));
            }
        }
        Ok(())
    }

    /// One less.
    pub(super) fn detach(&self, queue: &CompletionQueue) {
        let mut completions = self.0.completions.borrow_mut();
        if let Some(at) = completions.iter().position(|(raw, _)| *raw == queue.raw()) {
            completions[at].1 -= 1;
            if completions[at].1 == 0 {
                completions.swap_remove(at);
                queue.expect_less(self.0.depth);
            }
        }
    }
}

/// Receives that are given to a driver in one call. Their buffers are among what is under way already.
struct Batch<'a> {
    queue: &'a SharedReceiveQueue,
    segments: [ibv_sge; BATCH],
    requests: [ibv_recv_wr; BATCH],
    /// How many have not been posted.
    count: usize,
}

impl Batch<'_> {
    fn new(queue: &SharedReceiveQueue) -> Batch<'_> {
        let (segments, requests) = ([ibv_sge::default(); BATCH], [ibv_recv_wr::default(); BATCH]);
        Batch { queue, segments, requests, count: 0 }
    }

    fn add(&mut self, mut buffer: BufferMut) -> io::Result<()> {
        let inner = &*self.queue.0;
        self.segments[self.count] = whole(&inner.domain, &mut buffer)?;
        let mut work = inner.domain.device().work().borrow_mut();
        let wr_id = work.reserve_below(inner.slot, Side::Receive, inner.depth);
        let Some(wr_id) = wr_id else { return Err(io::ErrorKind::WouldBlock.into()) };
        self.requests[self.count].wr_id = wr_id;
        work.begin(inner.slot, Side::Receive, 0, Held::Receive(buffer));
        self.count += 1;
        Ok(())
    }

    /// Says how many.
    fn post(&mut self) -> io::Result<usize> {
        let count = self.count;
        if count == 0 {
            return Ok(0);
        }
        for index in 0..count {
            let is_last = index + 1 == count;
            self.requests[index].next =
                if is_last { ptr::null_mut() } else { &raw mut self.requests[index + 1] };
            self.requests[index].sg_list = &raw mut self.segments[index];
            self.requests[index].num_sge = 1;
        }
        // SAFETY: a list in this structure, and the entries of the requests keep their memory.
        let (failed, bad) = unsafe { self.queue.give(self.requests.as_mut_ptr()) };
        let is_first = |request: &ibv_recv_wr| ptr::eq(request, bad);
        let taken =
            if failed == 0 { count } else { self.requests[..count].iter().position(is_first).unwrap_or(0) };
        // From there on nothing was taken.
        self.requests.rotate_left(taken);
        self.count = count - taken;
        check("post a receive", failed).map(|()| count)
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        for request in &self.requests[..self.count] {
            // Not borrowed when the buffer is dropped.
            let held = self.queue.0.domain.device().work().borrow_mut().cancel(request.wr_id);
            drop(held);
        }
    }
}

/// All of a buffer, to be received into.
#[inline]
pub(super) fn whole(domain: &ProtectionDomain, buffer: &mut BufferMut) -> io::Result<ibv_sge> {
    buffer.clear();
    let Some(lkey) = domain.key(buffer.region()) else { return Err(domain.out_of_reach()) };
    let length = u32::try_from(buffer.capacity()).unwrap_or(u32::MAX);
    Ok(ibv_sge { addr: buffer.as_mut_ptr() as u64, length, lkey })
}

impl fmt::Debug for SharedReceiveQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedReceiveQueue")
            .field("depth", &self.0.depth)
            .field("posted", &self.posted())
            .finish_non_exhaustive()
    }
}
