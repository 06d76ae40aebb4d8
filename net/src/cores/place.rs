//! What one core has of the port that it shares with others.

use super::course::{Course, Ends};
use super::learned::Learned;
use super::registry::Protocol;
use super::ring::{Consumer, Producer};
use super::{Cores, Seat, hash};
use crate::device::{Capabilities, ChecksumOffload, Frame, Medium, Received, Segmentation};
use crate::table::Flow;
use bytes::Bytes;
use demikernel_runtime::buffer::{Buffer, Sga};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// A frame on its way to another core. Its memory stays that of the core that it comes from, and goes back there.
pub(super) struct Parcel {
    head: Bytes,
    rest: Vec<Bytes>,
    checksum: ChecksumOffload,
    segmentation: Option<Segmentation>,
    received: Received,
    /// It begins with an IP header, whatever the medium.
    is_packet: bool,
}

impl Parcel {
    pub(super) fn new(frame: Frame, is_packet: bool) -> Parcel {
        let Frame { head, rest, checksum, segmentation, received } = frame;
        let rest = rest.into_iter().map(Buffer::into_bytes).collect();
        Parcel { head: head.into_bytes(), rest, checksum, segmentation, received, is_packet }
    }

    pub(super) fn into_frame(self) -> Frame {
        let Parcel { head, rest, checksum, segmentation, received, .. } = self;
        let rest: Sga = rest.into_iter().map(Buffer::from).collect();
        Frame { head: Buffer::from(head), rest, checksum, segmentation, received }
    }
}

/// The same bytes once more.
fn copy(frame: &Frame) -> Frame {
    let Frame { head, rest, checksum, segmentation, received } = frame;
    Frame {
        head: head.clone(),
        rest: rest.clone(),
        checksum: *checksum,
        segmentation: *segmentation,
        received: *received,
    }
}

#[derive(Clone, Copy, Default, Debug)]
struct Counters {
    handed: u64,
    taken: u64,
    dropped: u64,
    passed: u64,
    sent_through: u64,
    sent_for: u64,
}

/// One core's place. It belongs to the core's thread: its device and its stack have it.
pub(crate) struct Place {
    cores: Arc<Cores>,
    index: usize,
    is_ethernet: bool,
    toward: RefCell<Vec<Option<Producer<Parcel>>>>,
    from: RefCell<Vec<Option<Consumer<Parcel>>>>,
    out: RefCell<Producer<Parcel>>,
    /// Who sends for this core: itself, if it has a queue.
    sender: usize,
    /// IP packets without a link header, for the stack.
    packets: RefCell<VecDeque<Frame>>,
    /// Cores that something was put for, a bit each, and that are still to be told.
    untold: Cell<u64>,
    /// Which version of what was learned is known here.
    known: Cell<u64>,
    counters: Cell<Counters>,
}

impl Place {
    pub(super) fn new(
        cores: Arc<Cores>,
        index: usize,
        seat: Seat,
        sender: usize,
        device: &Capabilities,
    ) -> Place {
        Place {
            cores,
            index,
            is_ethernet: matches!(device.medium, Medium::Ethernet(_)),
            toward: RefCell::new(seat.toward),
            from: RefCell::new(seat.from),
            out: RefCell::new(seat.out),
            sender,
            packets: RefCell::default(),
            untold: Cell::new(0),
            known: Cell::new(0),
            counters: Cell::default(),
        }
    }

    /// Whether this core answers for the addresses of all.
    pub(crate) fn is_first(&self) -> bool {
        self.index == 0
    }

    pub(crate) fn cores(&self) -> &Arc<Cores> {
        &self.cores
    }

    fn count(&self, change: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }

    pub(super) fn counters(&self) -> [(&'static str, u64); 7] {
        let counters = self.counters.get();
        [
            ("frames handed to other cores", counters.handed),
            ("frames taken from other cores", counters.taken),
            ("frames dropped as another core's ring was full", counters.dropped),
            ("frames passed on as another core has the port", counters.passed),
            ("frames sent through another core", counters.sent_through),
            ("frames sent for other cores", counters.sent_for),
            ("flows of all cores that do not follow their hash", self.cores.registry.strays() as u64),
        ]
    }
}

/// Whose frames are.
impl Place {
    /// The core of a flow.
    #[inline]
    fn core_of(&self, ends: &Ends) -> usize {
        let Ends { protocol, local, local_port, remote, remote_port } = *ends;
        let registry = &self.cores.registry;
        if registry.strays() > 0 {
            let flow = Flow::of(local, local_port, remote, remote_port);
            if let Some(core) = registry.stray(protocol, &flow) {
                return core;
            }
        }
        let hash = hash::of_flow(local, local_port, remote, remote_port);
        let core = self.cores.core_of_hash(hash);
        if protocol == Protocol::Udp {
            let having = registry.cores_of(protocol, local_port);
            if having != 0 && having & 1 << core == 0 {
                return one_of(having, hash);
            }
        }
        core
    }

    /// Hands a frame over if it is another core's; gives it back if it is this one's too.
    #[inline]
    pub(super) fn steer(&self, frame: Frame) -> Option<Frame> {
        let core = match Course::of_frame(&frame.head, self.is_ethernet) {
            Course::Flow(ends) => self.core_of(&ends),
            Course::Any => return Some(frame),
            Course::Hosts(one, other) => self.core_of_hosts(one, other),
            Course::First => 0,
            Course::All => {
                let others = (0..self.cores.count).filter(|core| *core != self.index);
                others.for_each(|core| self.hand(core, Parcel::new(copy(&frame), false)));
                return Some(frame);
            }
        };
        if core == self.index {
            return Some(frame);
        }
        self.hand(core, Parcel::new(frame, false));
        None
    }

    fn core_of_hosts(&self, one: std::net::IpAddr, other: std::net::IpAddr) -> usize {
        self.cores.core_of_hash(hash::of_flow(one, 0, other, 0))
    }

    /// Hands an IP packet without a link header over if it is another core's; gives it back if not.
    #[cold]
    pub(crate) fn steer_packet(&self, packet: Frame) -> Option<Frame> {
        let core = match Course::of_packet(&packet.head, false) {
            Course::Flow(ends) => self.core_of(&ends),
            _ => self.index,
        };
        if core == self.index {
            return Some(packet);
        }
        self.hand(core, Parcel::new(packet, true));
        self.tell();
        None
    }

    /// Hands a frame to a core that has the port, as this one does not: whether there is one that was not asked yet.
    #[cold]
    pub(crate) fn pass_on(&self, protocol: Protocol, flow: &Flow, frame: &Frame, is_packet: bool) -> bool {
        let having = self.cores.registry.cores_of(protocol, flow.local_port());
        let others = having & !(1 << self.index);
        let passed = usize::from(frame.received.passed);
        if others == 0 || passed + 1 >= self.cores.count {
            return false;
        }
        // The first is chosen, and then they are asked in a ring.
        let is_first = passed == 0 && having == others;
        let core = if is_first { one_of(others, hash_of(flow)) } else { after(self.index, others) };
        let mut frame = copy(frame);
        frame.received.passed += 1;
        self.count(|counters| counters.passed += 1);
        self.hand(core, Parcel::new(frame, is_packet));
        self.tell();
        true
    }

    fn hand(&self, core: usize, parcel: Parcel) {
        let mut toward = self.toward.borrow_mut();
        let Some(producer) = toward.get_mut(core).and_then(Option::as_mut) else { return };
        match producer.push(parcel) {
            Ok(()) => {
                self.untold.set(self.untold.get() | 1 << core);
                self.count(|counters| counters.handed += 1);
            }
            // Who is too slow loses frames, as a device's queue that is full does.
            Err(_) => self.count(|counters| counters.dropped += 1),
        }
    }

    /// Wakes those that something was put for.
    #[inline]
    pub(super) fn tell(&self) {
        let mut untold = self.untold.take();
        while untold != 0 {
            let core = untold.trailing_zeros() as usize;
            self.cores.bells[core].notify();
            untold &= untold - 1;
        }
    }
}

/// One of a set of cores, which is not empty, for a hash: other bits of it than those that choose among all.
fn one_of(set: u64, hash: u32) -> usize {
    let mut left = set;
    for _ in 0..(hash >> 16) % set.count_ones() {
        left &= left - 1;
    }
    left.trailing_zeros() as usize
}

/// The next of a set of cores, which is not empty, behind this one.
fn after(core: usize, set: u64) -> usize {
    let behind = set & (u64::MAX << core << 1);
    (if behind != 0 { behind } else { set }).trailing_zeros() as usize
}

fn hash_of(flow: &Flow) -> u32 {
    hash::of_flow(flow.local(), flow.local_port(), flow.remote(), flow.remote_port())
}

/// What comes from others, and goes out through them.
impl Place {
    /// The core is awake.
    #[inline]
    pub(super) fn wake_up(&self) {
        self.cores.bells[self.index].wake_up();
    }

    /// Takes frames that others have handed over, until there are `most` in `burst`. Whether there may be more.
    #[inline]
    pub(super) fn take(&self, burst: &mut Vec<Frame>, most: usize) -> bool {
        let mut from = self.from.borrow_mut();
        let mut taken = 0;
        let mut is_more = false;
        'all: for consumer in from.iter_mut().flatten() {
            loop {
                if burst.len() >= most {
                    is_more = true;
                    break 'all;
                }
                let Some(parcel) = consumer.pop() else { break };
                taken += 1;
                match parcel.is_packet {
                    true => self.packets.borrow_mut().push_back(parcel.into_frame()),
                    false => burst.push(parcel.into_frame()),
                }
            }
        }
        if taken > 0 {
            self.count(|counters| counters.taken += taken);
        }
        is_more
    }

    /// What is for the stack, beside frames: IP packets that others have handed over, and news. It is not asked to look
    /// where nothing has come.
    #[inline]
    pub(super) fn waiting(&self) -> usize {
        self.packets.borrow().len() + usize::from(self.has_news())
    }

    /// The next IP packet that others have handed over.
    pub(crate) fn take_packet(&self) -> Option<Frame> {
        self.packets.borrow_mut().pop_front()
    }

    /// Has frames from the front of `burst` sent by the core that does it for this one, as many as it has room for.
    pub(super) fn send_through(&self, burst: &mut Vec<Frame>) -> usize {
        let mut out = self.out.borrow_mut();
        let mut count = 0;
        while count < burst.len() && out.has_room() {
            let frame = std::mem::take(&mut burst[count]);
            // There is room, which only this side takes.
            let _ = out.push(Parcel::new(frame, false));
            count += 1;
        }
        burst.drain(..count);
        if count > 0 {
            self.count(|counters| counters.sent_through += count as u64);
            self.cores.bells[self.sender].notify();
        }
        count
    }

    pub(super) fn has_sent_for_others(&self, count: usize) {
        self.count(|counters| counters.sent_for += count as u64);
    }

    /// Readable when the core is to be woken.
    pub(super) fn descriptor(&self) -> RawFd {
        self.cores.bells[self.index].descriptor()
    }

    /// The core is about to sleep. False if something is there already, or `is_busy`: then it is not.
    pub(super) fn arm(&self, is_busy: impl FnOnce() -> bool) -> bool {
        let bell = &self.cores.bells[self.index];
        bell.sleep();
        let waits = self.from.borrow().iter().flatten().any(|consumer| !consumer.is_empty());
        if waits || self.has_news() || !self.packets.borrow().is_empty() || is_busy() {
            bell.wake_up();
            return false;
        }
        true
    }

    /// This core is done with its own.
    pub(crate) fn finish(&self) {
        self.cores.finish(self.index);
    }

    /// Whether no other needs it any more.
    pub(crate) fn is_free(&self) -> bool {
        self.cores.are_all_done()
    }
}

/// What the stack says and asks.
impl Place {
    /// Whether a flow that begins here comes back here.
    pub(crate) fn is_own(&self, flow: &Flow) -> bool {
        self.cores.core_of_hash(hash_of(flow)) == self.index
    }

    /// A flow is here: others are told if its hash is not this core's.
    pub(crate) fn list(&self, protocol: Protocol, flow: &Flow) {
        if !self.is_own(flow) {
            self.cores.registry.list(protocol, flow, self.index);
        }
    }

    /// It is no longer.
    pub(crate) fn unlist(&self, protocol: Protocol, flow: &Flow) {
        if !self.is_own(flow) {
            self.cores.registry.unlist(protocol, flow, self.index);
        }
    }

    /// A port can be reached here, or no longer.
    pub(crate) fn set_port(&self, protocol: Protocol, port: u16, has: bool) {
        self.cores.registry.set(protocol, port, self.index, has);
    }

    /// Takes a port that no core has: whether it was so.
    pub(crate) fn claim(&self, protocol: Protocol, port: u16) -> bool {
        self.cores.registry.claim(protocol, port, self.index)
    }

    /// Tells the other cores what the first has learned.
    pub(crate) fn publish(&self, learned: Learned) {
        let mut known = self.cores.learned.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != learned || self.cores.version.load(Ordering::Relaxed) == 0 {
            *known = learned;
            self.cores.version.fetch_add(1, Ordering::AcqRel);
            self.cores.bells.iter().for_each(|bell| bell.notify());
        }
    }

    /// Whether the first core has learned something since.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        !self.is_first() && self.cores.version.load(Ordering::Acquire) != self.known.get()
    }

    /// What it has learned.
    #[cold]
    pub(crate) fn news(&self) -> Learned {
        let learned = self.cores.learned.lock().unwrap_or_else(PoisonError::into_inner);
        self.known.set(self.cores.version.load(Ordering::Acquire));
        learned.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.finish();
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").field("index", &self.index).finish_non_exhaustive()
    }
}
