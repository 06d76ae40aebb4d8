//! A pair of queues: bursts of packets in and out.

use std::os::fd::RawFd;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use demikernel_runtime::buffer::{Buffer, BufferMut, Sga};

use crate::BURST;
use crate::control;
use crate::ffi::{self, SegmentIn, SegmentOut};
use crate::interrupt::Interrupt;
use crate::log;
use crate::pool::{ReceivePool, TransmitPool};
use crate::port::Port;
use crate::reach::Reach;

/// Segments that one burst has at most, in either direction.
const SEGMENTS: usize = 4 * BURST;

/// How many calls that receive nothing are made between looks whether a link is to be brought up.
const RECONNECT: u32 = 256;

/// A packet that has arrived.
#[derive(Debug)]
#[non_exhaustive]
pub struct Packet {
    /// Its first bytes, and mostly all.
    pub head: Buffer,
    /// What follows.
    pub rest: Sga,
    /// The device says that the checksum of its IPv4 header is right.
    pub ip_checksum_good: bool,
    /// The device says that the checksum of TCP or UDP is right.
    pub l4_checksum_good: bool,
    /// The hash by which the device has chosen the queue.
    pub hash: Option<u32>,
}

/// A packet that is to be sent.
pub trait Outgoing {
    /// Its first bytes, with all headers.
    fn head(&self) -> &Buffer;
    /// What follows.
    fn rest(&self) -> &Sga;
    /// What is left to the device; lengths count only if something is.
    fn checksum(&self) -> Checksum;
}

/// A packet by its first bytes and what follows, whose checksums are all filled in: such as one that is sent on as it came.
impl Outgoing for (Buffer, Sga) {
    fn head(&self) -> &Buffer {
        &self.0
    }

    fn rest(&self) -> &Sga {
        &self.1
    }

    fn checksum(&self) -> Checksum {
        Checksum::default()
    }
}

/// What a device is to fill in and cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Checksum {
    /// The checksum of the IPv4 header.
    pub ip: bool,
    /// That of TCP; the field holds the sum of the pseudo-header.
    pub tcp: bool,
    /// That of UDP; the field holds the sum of the pseudo-header.
    pub udp: bool,
    /// The packet is IPv6.
    pub v6: bool,
    /// Bytes in front of the IP header.
    pub l2_length: u16,
    /// Bytes of IP headers.
    pub l3_length: u16,
    /// Bytes of the TCP or UDP header.
    pub l4_length: u16,
    /// Payload of each segment that the device cuts a TCP segment into; 0 if it does not.
    pub segment: u16,
}

/// What a queue has counted.
#[derive(Clone, Copy, Default, Debug)]
#[non_exhaustive]
pub struct QueueCounters {
    /// Packets received.
    pub received: u64,
    /// Packets transmitted.
    pub transmitted: u64,
    /// Packets whose bytes were lost as there was no other buffer for the next.
    pub no_buffer: u64,
    /// Packets that the driver delivered in more pieces than a burst has room for.
    pub pieces: u64,
    /// Packets that were received with a wrong checksum, as the device says.
    pub bad_checksum: u64,
    /// Packets copied as they arrived in memory that is the driver's.
    pub copied_in: u64,
    /// Packets copied as the device does not reach the memory they are in, or cannot take so many pieces.
    pub copied_out: u64,
    /// Packets whose checksums were left to the device.
    pub offloaded: u64,
    /// TCP segments that were left to the device to cut.
    pub segmented: u64,
    /// Packets that the device cannot send for what they are.
    pub refused: u64,
    /// Packets dropped while the link was down.
    pub link_down: u64,
    /// Bursts that did not go out in full.
    pub full: u64,
}

/// One pair of queues of a port, for one thread.
///
/// Dropped, it leaves the port; the last one closes it.
pub struct Queue {
    port: Arc<Port>,
    index: u16,
    /// `None` only while it is dropped.
    pools: Option<(ReceivePool, TransmitPool)>,
    arrived: Box<[SegmentIn; SEGMENTS]>,
    leaving: Vec<SegmentOut>,
    reach: Reach,
    counters: QueueCounters,
    /// Whether the port had no room the last time.
    is_full: bool,
    /// Whether the link was ever up.
    was_up: bool,
    interrupt: Option<Interrupt>,
    /// Whether that is armed.
    armed: bool,
    /// Whether the port has to be started again when its link is down.
    reconnects: bool,
    /// Whether that has failed so far: then the port is stopped.
    stopped: bool,
    /// Calls that have received nothing.
    idle: u32,
}

impl Queue {
    pub(crate) fn new(
        port: Arc<Port>,
        index: u16,
        pools: (ReceivePool, TransmitPool),
        reach: Reach,
    ) -> Queue {
        let none = SegmentIn { mbuf: ptr::null_mut(), data: ptr::null(), length: 0, flags: 0, hash: 0 };
        Queue {
            interrupt: Interrupt::open(&port, index),
            armed: false,
            reconnects: port.reconnects(),
            stopped: false,
            idle: 0,
            port,
            index,
            pools: Some(pools),
            arrived: Box::new([none; SEGMENTS]),
            leaving: Vec::with_capacity(SEGMENTS),
            reach,
            counters: QueueCounters::default(),
            is_full: false,
            was_up: false,
        }
    }

    /// The port.
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// Which of the port's pairs it is.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Where mbufs to receive in come from; null while the queue is dropped.
    pub(crate) fn receive_mempool(&self) -> *mut ffi::Mempool {
        self.pools.as_ref().map_or(ptr::null_mut(), |(receive, _)| receive.mempool())
    }

    /// What was counted.
    pub fn counters(&self) -> QueueCounters {
        self.counters
    }

    /// Packet buffers that the driver has: to receive in, and with what is under way.
    pub fn held(&self) -> (usize, usize) {
        self.pools.as_ref().map_or((0, 0), |(receive, transmit)| (receive.held(), transmit.held()))
    }

    /// Gives `take` what has arrived, [`BURST`] packets at most. Returns how many.
    #[inline]
    pub fn receive(&mut self, mut take: impl FnMut(Packet)) -> usize {
        if self.stopped {
            self.reconnect();
            return 0;
        }
        let Some((pool, transmit)) = &mut self.pools else { return 0 };
        transmit.settle();
        let mut dropped = 0;
        // SAFETY: room for as many as is said; the port runs, and this thread alone uses this queue of it.
        let filled = unsafe {
            ffi::dk_receive(
                self.port.id(),
                self.index,
                self.arrived.as_mut_ptr(),
                SEGMENTS as u16,
                &raw mut dropped,
                pool.mempool(),
            )
        };
        self.counters.pieces += u64::from(dropped);
        let mut packets = 0;
        let mut at = 0;
        while at < usize::from(filled) {
            let first = self.arrived[at];
            let packet = if first.flags & ffi::IN_KIND == ffi::IN_LAST | ffi::IN_OWN {
                at += 1;
                // SAFETY: the shim sets IN_OWN only for mbufs of this pool that hold the only count of their memory, with
                // data and length within that; this segment was filled in above, and `at` has passed it, so it is taken
                // once.
                let head = unsafe {
                    let mbuf = NonNull::new_unchecked(first.mbuf);
                    let copied = &mut self.counters.copied_in;
                    pool.take(mbuf, first.data, first.length as usize, &self.reach, copied)
                };
                self.counters.no_buffer += u64::from(head.is_none());
                head.map(|head| (head, Sga::new()))
            } else {
                let count =
                    1 + self.arrived[at..].iter().take_while(|it| it.flags & ffi::IN_LAST == 0).count();
                let segments = &self.arrived[at..at + count];
                at += count;
                // SAFETY: the call above has filled them in, and each is taken once.
                unsafe { pieces(segments, pool, &self.reach, &mut self.counters) }
            };
            if let Some((head, rest)) = packet {
                packets += 1;
                take(Packet {
                    head,
                    rest,
                    ip_checksum_good: first.flags & ffi::IN_IP_GOOD != 0,
                    l4_checksum_good: first.flags & ffi::IN_L4_GOOD != 0,
                    hash: (first.flags & ffi::IN_HASH != 0).then_some(first.hash),
                });
            }
        }
        self.counters.received += packets as u64;
        if packets == 0 {
            self.idle = self.idle.wrapping_add(1);
            if self.reconnects && self.idle.is_multiple_of(RECONNECT) {
                self.reconnect();
            }
        } else if self.armed {
            self.disarm();
        }
        packets
    }

    /// Starts the port again if its link is down and nobody else would bring it up.
    #[cold]
    fn reconnect(&mut self) {
        if ffi::dk_port_is_down(self.port.id()) == 0 {
            return;
        }
        // SAFETY: the port has one queue, which this thread uses, and which is not in a call of the driver while this waits.
        let restart = || control::call(self.port.id(), |id| unsafe { ffi::dk_port_restart(id) });
        // Mostly there is nobody yet.
        let (result, reason) = log::quietly(restart);
        self.stopped = result != 0;
        tracing::debug!(
            port = self.port.name(),
            ?reason,
            started = !self.stopped,
            "started again for its link"
        );
    }

    /// What becomes readable when something comes, if the device has interrupts; it must be [armed](Self::arm).
    pub fn descriptor(&self) -> Option<RawFd> {
        self.interrupt.as_ref().map(Interrupt::descriptor)
    }

    /// Has the device interrupt until something is [received](Self::receive). False if something may have come before
    /// it does, or since it does: then receive before this is called again.
    pub fn arm(&mut self) -> bool {
        let Some(interrupt) = &mut self.interrupt else { return true };
        let is_armed = interrupt.arm();
        self.armed = interrupt.is_armed();
        is_armed
    }

    #[cold]
    fn disarm(&mut self) {
        self.interrupt.iter_mut().for_each(Interrupt::disarm);
        self.armed = false;
    }

    /// Sends packets from the front of `packets`, [`BURST`] at most; those that the device has no room for stay.
    /// Returns how many are gone.
    #[inline]
    pub fn transmit<P: Outgoing>(&mut self, packets: &mut Vec<P>) -> usize {
        if self.stopped {
            return self.lose(packets);
        }
        let mut gone = 0;
        if self.is_full {
            // One packet tells whether there is room again; to make others ready would be for nothing.
            gone = self.transmit_some(packets, 1);
            if self.is_full {
                return gone;
            }
        }
        gone + self.transmit_some(packets, BURST - gone)
    }

    #[inline]
    fn transmit_some<P: Outgoing>(&mut self, packets: &mut Vec<P>, burst: usize) -> usize {
        let Some((_, pool)) = &mut self.pools else { return 0 };
        pool.settle();
        self.leaving.clear();
        // Many drivers name no limit, and one packet of more pieces than a burst may have would never go.
        let most = self.port.max_segments().min(SEGMENTS);
        for packet in packets.iter().take(burst) {
            let pieces = 1 + packet.rest().segments();
            if self.leaving.len() + pieces.min(most) > SEGMENTS || pieces.min(most) > pool.available() {
                break;
            }
            if pieces <= most && reaches(&self.reach, packet) {
                add(pool, &mut self.leaving, packet, &mut self.counters);
            } else if !add_copy(pool, &mut self.leaving, packet, &mut self.counters) {
                break;
            } else {
                self.counters.copied_out += 1;
            }
        }
        if self.leaving.is_empty() {
            return 0;
        }
        let gone = self.send(packets.len().min(burst));
        packets.drain(..gone);
        gone
    }

    /// Drops packets from the front of `packets`, as nobody is there to take them. Returns how many.
    #[cold]
    fn lose<P>(&mut self, packets: &mut Vec<P>) -> usize {
        let count = packets.len().min(BURST);
        packets.drain(..count);
        self.counters.link_down += count as u64;
        count
    }

    /// Whether there was somebody at the other end, and is no more. Until then what is sent waits: links come up some time
    /// after ports do.
    #[cold]
    fn is_link_lost(&mut self) -> bool {
        let up = self.port.link().up;
        self.was_up |= up;
        self.was_up && !up
    }

    /// Sends what is in `leaving`. Returns how many packets are gone of `count` that wait.
    fn send(&mut self, count: usize) -> usize {
        let Some((_, pool)) = &mut self.pools else { return 0 };
        let mut refused = 0;
        // SAFETY: as many as is said, with mbufs that were taken from the pool, whose records hold the memory until the
        // driver has freed them; the port runs, and this thread alone uses this queue of it.
        let sent = unsafe {
            ffi::dk_transmit(
                self.port.id(),
                self.index,
                self.leaving.as_mut_ptr(),
                self.leaving.len() as u16,
                &raw mut refused,
            )
        };
        let sent = usize::from(sent);
        self.counters.transmitted += sent as u64;
        self.was_up |= sent > 0;
        let mut passed = 0;
        for segment in &self.leaving {
            if passed >= sent {
                // SAFETY: taken from the pool above, and not null.
                pool.put_back(unsafe { NonNull::new_unchecked(segment.mbuf) });
            }
            passed += usize::from(segment.flags & ffi::OUT_LAST != 0);
        }
        self.is_full = false;
        if sent == passed {
            return sent;
        }
        pool.settle();
        if refused != 0 {
            self.counters.refused += 1;
            return sent + 1;
        }
        self.counters.full += 1;
        self.is_full = true;
        if sent == 0 && self.is_link_lost() {
            // Nobody would take them, and who waits for answers tries again in its own time.
            self.counters.link_down += count as u64;
            return count;
        }
        sent
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let Some((receive, transmit)) = self.pools.take() else { return };
        // While the port runs.
        self.interrupt = None;
        if self.port.is_last() {
            // Closed before the memory goes.
            self.port.leave(Vec::new());
            drop((receive.retire(true), transmit.retire(true)));
        } else {
            self.port.leave(vec![receive.retire(false), transmit.retire(false)]);
        }
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("port", &self.port.name())
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// Whether the device reaches all of a packet.
#[inline]
fn reaches<P: Outgoing>(reach: &Reach, packet: &P) -> bool {
    reach.is_everything()
        || reach.has(packet.head().region()) && packet.rest().iter().all(|piece| reach.has(piece.region()))
}

/// Adds the pieces of a packet; there are mbufs and room for them.
#[inline]
fn add<P: Outgoing>(
    pool: &mut TransmitPool,
    leaving: &mut Vec<SegmentOut>,
    packet: &P,
    counters: &mut QueueCounters,
) {
    let first = leaving.len();
    push(pool, leaving, packet.head().clone());
    let rest = packet.rest();
    match (rest.segments(), rest.first()) {
        (1, Some(piece)) => push(pool, leaving, piece.clone()),
        (0, _) => {}
        _ => rest.iter().for_each(|piece| push(pool, leaving, piece.clone())),
    }
    finish(leaving, first, &packet.checksum(), counters);
}

/// The same from a copy in one piece. False if there is no memory for it.
#[cold]
fn add_copy<P: Outgoing>(
    pool: &mut TransmitPool,
    leaving: &mut Vec<SegmentOut>,
    packet: &P,
    counters: &mut QueueCounters,
) -> bool {
    let length = packet.head().len() + packet.rest().len();
    let Ok(mut copy) = BufferMut::with_capacity(length) else { return false };
    copy.extend_from_slice(packet.head());
    packet.rest().iter().for_each(|piece| copy.extend_from_slice(piece));
    let first = leaving.len();
    push(pool, leaving, copy.freeze());
    finish(leaving, first, &packet.checksum(), counters);
    true
}

#[inline(always)]
fn push(pool: &mut TransmitPool, leaving: &mut Vec<SegmentOut>, buffer: Buffer) {
    let (data, length) = (buffer.as_ptr(), buffer.len() as u32);
    let Some(mbuf) = pool.take(buffer) else { unreachable!("as many are available as were asked for") };
    leaving.push(SegmentOut {
        mbuf: mbuf.as_ptr(),
        data,
        length,
        flags: 0,
        l2_length: 0,
        l3_length: 0,
        l4_length: 0,
        segment_size: 0,
    });
}

/// Marks the ends of a packet.
#[inline]
fn finish(leaving: &mut [SegmentOut], first: usize, checksum: &Checksum, counters: &mut QueueCounters) {
    let head = &mut leaving[first];
    if checksum.ip || checksum.tcp || checksum.udp {
        let bit = |is: bool, bit: u32| if is { bit } else { 0 };
        head.flags = bit(checksum.ip, ffi::OUT_IP_CHECKSUM)
            | bit(checksum.tcp, ffi::OUT_TCP_CHECKSUM)
            | bit(checksum.udp, ffi::OUT_UDP_CHECKSUM)
            | bit(checksum.v6, ffi::OUT_V6);
        (head.l2_length, head.l3_length) = (checksum.l2_length, checksum.l3_length);
        (head.l4_length, head.segment_size) = (checksum.l4_length, checksum.segment);
        counters.offloaded += 1;
        counters.segmented += u64::from(checksum.segment != 0);
    }
    if let Some(last) = leaving.last_mut() {
        last.flags |= ffi::OUT_LAST;
    }
}

/// A packet out of its segments, unless its bytes are lost. Rare, as packet buffers have room for a whole frame of the MTU:
/// drivers deliver pieces only where frames are longer than that, or buffers of their own are.
///
/// # Safety
///
/// The segments are one packet's that was received, and their mbufs were not given back.
#[cold]
unsafe fn pieces(
    segments: &[SegmentIn],
    pool: &mut ReceivePool,
    reach: &Reach,
    counters: &mut QueueCounters,
) -> Option<(Buffer, Sga)> {
    let bad = segments[0].flags & (ffi::IN_IP_BAD | ffi::IN_L4_BAD) != 0;
    let mut parts = segments.iter().map(|segment| {
        // SAFETY: as the caller promises.
        unsafe { part(segment, pool, reach, counters) }
    });
    let head = parts.next().flatten();
    let mut complete = head.is_some();
    let mut rest = Sga::default();
    for part in parts {
        match part {
            Some(part) => rest.push(part),
            None => complete = false,
        }
    }
    if bad {
        counters.bad_checksum += 1;
        return None;
    }
    if !complete {
        counters.no_buffer += 1;
        return None;
    }
    Some((head?, rest))
}

/// The bytes of a segment, whose mbuf is given back. `None` if there is no memory.
///
/// # Safety
///
/// It was received, and its mbuf was not given back.
#[inline]
unsafe fn part(
    segment: &SegmentIn,
    pool: &mut ReceivePool,
    reach: &Reach,
    counters: &mut QueueCounters,
) -> Option<Buffer> {
    let length = segment.length as usize;
    // SAFETY: the shim says so only of mbufs of the pool that hold the only count of their memory; drivers set data and
    // length within that memory.
    unsafe {
        let mbuf = NonNull::new_unchecked(segment.mbuf);
        if segment.flags & ffi::IN_OWN != 0 {
            return pool.take(mbuf, segment.data, length, reach, &mut counters.copied_in);
        }
        let bytes = std::slice::from_raw_parts(segment.data, length);
        let copy = Buffer::copy_from_slice(bytes).ok();
        counters.copied_in += 1;
        ffi::dk_mbuf_free(segment.mbuf);
        copy
    }
}
