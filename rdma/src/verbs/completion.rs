//! Completion queues, and what comes out of them.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ptr::{self, NonNull};
use std::rc::Rc;

use demikernel_runtime::buffer::{BufferMut, Sga};

use super::address::{HEADER, Source, sender};
use super::channel::CompletionChannel;
use super::device::Device;
use super::error::{Error, Status, WorkError, check, last};
use super::raw::*;
use super::work::{Done, Found, Held};

/// Completions that are taken from a device at once.
const BATCH: usize = 32;

/// A completion queue. A clone is the same.
///
/// It is always long enough for all that can complete there: queues that are to complete there make it longer, up to the
/// [limit](super::Limits::completions) of the device.
///
/// ```
/// use demikernel_rdma::verbs::{CompletionQueue, double};
///
/// let device = double::device()?;
/// let completions = CompletionQueue::new(&device, 64, None)?;
/// assert_eq!(completions.poll()?, 0, "nothing is under way");
/// assert!(completions.take().is_none());
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct CompletionQueue(Rc<Inner>);

struct Inner {
    queue: NonNull<ibv_cq>,
    batch: Batch,
    /// Taken from the device while a queue pair was destroyed, and to be handed out before what comes later.
    early: RefCell<VecDeque<ibv_wc>>,
    has_early: Cell<bool>,
    /// How many can be unread at once, of all queues that complete here.
    expected: Cell<u32>,
    /// How many there is room for.
    capacity: Cell<u32>,
    device: Device,
    channel: Option<CompletionChannel>,
}

/// What there is a limit of.
const COMPLETIONS: &str = "completions in a queue";

/// Completions as the device has written them.
///
/// They are written by [`Inner::fill`] alone and copied out one by one, so that no reference to them is ever held.
struct Batch {
    completions: UnsafeCell<[ibv_wc; BATCH]>,
    /// Those from here to `end` have not been taken.
    next: Cell<usize>,
    end: Cell<usize>,
}

impl Batch {
    /// The next one, which stays as it is until the batch is filled anew.
    #[inline(always)]
    fn next(&self) -> Option<*const ibv_wc> {
        let next = self.next.get();
        if next == self.end.get() {
            return None;
        }
        self.next.set(next + 1);
        // SAFETY: less than `end`, which is no more than there are.
        Some(unsafe { self.completions.get().cast::<ibv_wc>().add(next) })
    }

    /// The same, copied.
    fn take(&self) -> Option<ibv_wc> {
        // SAFETY: it is there, and nobody writes meanwhile.
        self.next().map(|next| unsafe { next.read() })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: the queues that complete here hold this, and notifications are acknowledged when they are read.
        unsafe { (self.device.provider().destroy_cq)(self.queue.as_ptr()) };
    }
}

impl CompletionQueue {
    /// As many are taken from the device at once.
    pub const BATCH: usize = BATCH;

    /// A queue with room for so many completions at first, which notifies on a channel when it is
    /// [armed](CompletionQueue::arm).
    ///
    /// # Errors
    /// If the device cannot have it.
    ///
    /// # Panics
    /// If the channel is another device's.
    pub fn new(
        device: &Device,
        capacity: u32,
        channel: Option<&CompletionChannel>,
    ) -> io::Result<CompletionQueue> {
        assert!(channel.is_none_or(|channel| channel.device().is(device)), "a channel of another device");
        device.limit(COMPLETIONS, device.limits().completions, capacity)?;
        let raw_channel = channel.map_or(ptr::null_mut(), CompletionChannel::raw);
        // SAFETY: context and channel are there, the latter as long as the queue.
        let queue = unsafe {
            let count = capacity.max(1) as i32;
            (device.provider().create_cq)(device.context(), count, ptr::null_mut(), raw_channel, 0)
        };
        let queue = NonNull::new(queue).ok_or_else(|| last("make a completion queue"))?;
        let completions = UnsafeCell::new([ibv_wc::default(); BATCH]);
        let batch = Batch { completions, next: Cell::new(0), end: Cell::new(0) };
        Ok(CompletionQueue(Rc::new(Inner {
            queue,
            batch,
            early: RefCell::new(VecDeque::new()),
            has_early: Cell::new(false),
            expected: Cell::new(0),
            capacity: Cell::new(capacity.max(1)),
            device: device.clone(),
            channel: channel.cloned(),
        })))
    }

    /// Looks for completions, and says how many there are to [take](CompletionQueue::take): the device is asked when all
    /// that it gave before have been taken.
    ///
    /// # Errors
    /// If the device has failed.
    #[inline]
    pub fn poll(&self) -> io::Result<usize> {
        let batch = &self.0.batch;
        if batch.next.get() == batch.end.get() {
            self.0.fill()?;
        }
        Ok(batch.end.get() - batch.next.get())
    }

    /// The next completion that [`poll`](CompletionQueue::poll) has found. Fewer may come than it said, as of queue pairs
    /// that were dropped nothing is reported.
    pub fn take(&self) -> Option<Completion> {
        loop {
            let next = self.0.batch.next()?;
            // SAFETY: it stays as it is until the batch is filled anew, for which somebody else's code must run.
            let (id, number) = unsafe { ((*next).wr_id(), (*next).qp_num) };
            let found = self.0.device.work().borrow_mut().complete(id, number);
            if let Found::It(done) = found {
                // SAFETY: it is as it was, since nobody else's code has run.
                return Some(Completion::new(done, unsafe { &*next }));
            }
            // SAFETY: it is as it was, since nobody else's code runs before it is copied.
            let copy = unsafe { next.read() };
            if let Some(completion) = self.0.resolve(found, &copy) {
                return Some(completion);
            }
        }
    }

    /// Has the channel notified once of the next completion, or of the next one that the sender has marked so. Whoever
    /// waits then polls once more before, as what came just now notifies nobody.
    ///
    /// # Errors
    /// If the device has failed.
    pub fn arm(&self, solicited_only: bool) -> io::Result<()> {
        let notify = self.0.device.operations().req_notify_cq.expect("all drivers have it");
        // SAFETY: the queue is there.
        let failed = unsafe { notify(self.0.queue.as_ptr(), solicited_only.into()) };
        check("ask for a notification of completions", failed)
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// Whether a queue pair could not be made because no more completions fit into one queue: then it can be with another.
    pub fn is_full(error: &io::Error) -> bool {
        let error = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
        matches!(error, Some(Error::Limit { what: COMPLETIONS, .. }))
    }

    /// How many completions there is room for.
    pub fn capacity(&self) -> u32 {
        self.0.capacity.get()
    }

    pub(super) fn raw(&self) -> *mut ibv_cq {
        self.0.queue.as_ptr()
    }

    /// Makes room for as many completions more.
    pub(super) fn expect(&self, count: u32) -> io::Result<()> {
        let inner = &*self.0;
        let wanted = inner.expected.get().saturating_add(count);
        if wanted > inner.capacity.get() {
            let limit = inner.device.limits().completions;
            inner.device.limit(COMPLETIONS, limit, wanted)?;
            let capacity = wanted.checked_next_power_of_two().unwrap_or(limit).min(limit);
            // SAFETY: the queue is there, and nothing in it is lost.
            let failed =
                unsafe { (inner.device.provider().resize_cq)(inner.queue.as_ptr(), capacity as i32) };
            check("make a completion queue longer", failed)?;
            inner.capacity.set(capacity);
        }
        inner.expected.set(wanted);
        Ok(())
    }

    /// As many will not come any more.
    pub(super) fn expect_less(&self, count: u32) {
        self.0.expected.set(self.0.expected.get() - count);
    }

    /// Takes all that the device has, and lets go of what is of a queue pair that is being destroyed: its number may be
    /// another's soon.
    pub(super) fn forget(&self, number: u32) {
        self.0.forget(number);
    }
}

impl Inner {
    /// Has the batch filled anew, of which all have been taken.
    #[inline]
    fn fill(&self) -> io::Result<()> {
        self.batch.next.set(0);
        self.batch.end.set(0);
        if self.has_early.get() {
            self.fill_early();
            return Ok(());
        }
        let Some(poll) = self.device.operations().poll_cq else { unreachable!("all drivers have it") };
        // SAFETY: the queue is there, as many have room, and nobody has a reference.
        let count = unsafe { poll(self.queue.as_ptr(), BATCH as i32, self.batch.completions.get().cast()) };
        let Ok(end) = usize::try_from(count) else {
            return Err(Error::call("poll a completion queue", count.abs()).into());
        };
        self.batch.end.set(end.min(BATCH));
        Ok(())
    }

    #[cold]
    fn fill_early(&self) {
        let mut early = self.early.borrow_mut();
        let count = early.len().min(BATCH);
        // SAFETY: nobody else has a reference during this function, which calls nobody else's code.
        let completions = unsafe { &mut *self.batch.completions.get() };
        early.drain(..count).zip(completions).for_each(|(from, to)| *to = from);
        self.batch.end.set(count);
        self.has_early.set(!early.is_empty());
    }

    fn forget(&self, number: u32) {
        // In order: first what was handed over, then what came early before, then what the device has.
        let mut all: VecDeque<ibv_wc> = std::iter::from_fn(|| self.batch.take()).collect();
        all.append(&mut self.early.borrow_mut());
        self.has_early.set(false);
        while self.fill().is_ok() && self.batch.end.get() > 0 {
            all.extend(std::iter::from_fn(|| self.batch.take()));
        }
        let (mine, others): (VecDeque<_>, VecDeque<_>) =
            all.into_iter().partition(|completion| completion.qp_num == number);
        self.has_early.set(!others.is_empty());
        *self.early.borrow_mut() = others;
        // Without a borrow: buffers may run anybody's code when they are dropped.
        for completion in &mine {
            let found = self.device.work().borrow_mut().complete(completion.wr_id(), number);
            drop(self.resolve(found, completion));
        }
    }

    /// Lets go of what was posted before a send that is done.
    fn release_earlier(&self, id: u64) {
        loop {
            // Not borrowed when something is dropped.
            let earlier = self.device.work().borrow_mut().earlier(id);
            if earlier.is_none() {
                return;
            }
        }
    }

    /// What a completion of the device is of, of which this was found first; none if it is of a queue pair that is gone.
    fn resolve(&self, mut found: Found, raw: &ibv_wc) -> Option<Completion> {
        loop {
            match found {
                Found::It(done) => return Some(Completion::new(done, raw)),
                Found::Earlier(held) => {
                    drop(held);
                    self.release_earlier(raw.wr_id());
                }
                Found::Orphan(held) => {
                    drop(held);
                    return None;
                }
                Found::Stale => return None,
            }
            // Not borrowed when something is dropped.
            found = self.device.work().borrow_mut().complete(raw.wr_id(), raw.qp_num);
        }
    }
}

impl fmt::Debug for CompletionQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionQueue")
            .field("device", &self.0.device)
            .field("capacity", &self.0.capacity.get())
            .field("expected", &self.0.expected.get())
            .field("notifies", &self.0.channel.is_some())
            .finish_non_exhaustive()
    }
}

/// A request that is done, or has failed.
#[derive(Debug)]
pub struct Completion {
    /// The tag of the queue pair, of a receive that which has taken it.
    pub tag: u64,
    /// What the request was given.
    pub token: u64,
    /// How it went.
    pub outcome: Outcome,
}

/// How a request went.
#[derive(Debug)]
pub enum Outcome {
    /// A send or write is done, and so are all before it on the same queue pair. This was sent; nothing if it went
    /// inline, as then it was let go of when it was posted.
    Sent(Sga),
    /// The peer's memory has been read.
    Read(BufferMut),
    /// The peer's memory has been changed, and had this value before.
    Fetched(u64),
    /// A message has come.
    Received {
        /// It.
        data: BufferMut,
        /// A number that came along.
        immediate: Option<u32>,
        /// Who has sent it, if it is a datagram.
        source: Option<Source>,
    },
    /// The peer has written to memory of this side, and says so.
    Written {
        /// The number that it has sent.
        immediate: u32,
        /// How many bytes.
        len: u32,
        /// A receive that was used up, in which nothing has come.
        unused: BufferMut,
    },
    /// It has failed, and after this one all others of the queue pair will.
    Failed {
        /// Why.
        error: WorkError,
        /// What it was.
        work: Work,
    },
}

/// What has failed, with its buffers.
#[derive(Debug)]
pub enum Work {
    /// A send or write; without what had gone inline.
    Send(Sga),
    /// A read, whose buffer holds nothing.
    Read(BufferMut),
    /// An atomic operation.
    Atomic,
    /// A receive, whose buffer holds nothing.
    Receive(BufferMut),
}

impl Completion {
    #[inline(always)]
    fn new(done: Done, raw: &ibv_wc) -> Completion {
        let Done { tag, token, held, datagrams } = done;
        let outcome = match raw.error() {
            None => succeed(held, raw, datagrams),
            Some((status, vendor)) => fail(held, status, vendor),
        };
        Completion { tag, token, outcome }
    }
}

#[inline(always)]
fn succeed(held: Held, raw: &ibv_wc, datagrams: bool) -> Outcome {
    match held {
        Held::Receive(mut data) => {
            let len = raw.len();
            let immediate = raw.imm_data().map(u32::from_be);
            if let (Some(immediate), ibv_wc_opcode::IBV_WC_RECV_RDMA_WITH_IMM) = (immediate, raw.opcode()) {
                return Outcome::Written { immediate, len: len as u32, unused: data };
            }
            // SAFETY: the device has put as many bytes there. They are no more than it was told there is room for,
            // which the minimum makes true of a device that is mistaken.
            unsafe { data.set_len(len.min(data.capacity())) };
            let source = if datagrams { Some(cut_header(&mut data, raw)) } else { None };
            Outcome::Received { data, immediate, source }
        }
        Held::Gather(data) => Outcome::Sent(data),
        Held::Behind(header, data) => {
            drop(header);
            Outcome::Sent(data)
        }
        Held::Inline | Held::Free => Outcome::Sent(Sga::new()),
        Held::Datagram(data, address) => {
            drop(address);
            Outcome::Sent(data)
        }
        Held::Read(mut data, len) => {
            // SAFETY: the device has put as many bytes there, for which there was found to be room.
            unsafe { data.set_len(len as usize) };
            Outcome::Read(data)
        }
        Held::Fetch(mut data) => {
            // SAFETY: the device has put 8 bytes there.
            unsafe { data.set_len(8) };
            Outcome::Fetched(data.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes)))
        }
    }
}

/// Takes the header off a datagram.
fn cut_header(data: &mut BufferMut, raw: &ibv_wc) -> Source {
    let header = data.first_chunk::<HEADER>().filter(|_| raw.wc_flags.0 & ibv_wc_flags::IBV_WC_GRH.0 != 0);
    let gid = header.map(sender);
    data.advance(data.len().min(HEADER));
    Source { number: raw.src_qp, gid, lid: raw.slid, service_level: raw.sl }
}

#[cold]
fn fail(held: Held, status: ibv_wc_status::Type, vendor: u32) -> Outcome {
    let status = Status::of(status).unwrap_or(Status::General);
    let work = match held {
        Held::Gather(data) | Held::Behind(_, data) | Held::Datagram(data, _) => Work::Send(data),
        Held::Inline | Held::Free => Work::Send(Sga::new()),
        Held::Read(data, _) => Work::Read(data),
        Held::Fetch(_) => Work::Atomic,
        Held::Receive(data) => Work::Receive(data),
    };
    Outcome::Failed { error: WorkError { status, vendor }, work }
}
