//! One queue of an interface: a socket and its four rings.

use super::kernel::{self, Mapping};
use super::ring::{Consumer, Offsets, Producer};
use super::umem::Umem;
use crate::device::{Frame, interface};
use demikernel_runtime::buffer::{Buffer, BufferMut};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;

/// Pieces of a frame at most: drivers take eight, more or less, and a frame of more is copied.
const PIECES: usize = 6;

/// Bytes of a buffer within one chunk, and where they are.
#[derive(Clone, Copy, Debug)]
struct Piece<'a> {
    offset: usize,
    len: u32,
    buffer: &'a Buffer,
}

/// Bytes that an Ethernet frame has at least.
const SHORTEST: usize = 14;

/// Frames that the kernel sends at a time in copy mode.
const PORTION: u32 = 32;

/// How a queue is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    /// The number of the interface.
    pub(super) index: u32,
    /// How many frames can wait to be received here, and so many chunks are lent.
    pub(super) receive: u32,
    /// How many can wait to be sent.
    pub(super) transmit: u32,
    /// XDP_COPY, XDP_ZEROCOPY, XDP_USE_NEED_WAKEUP, XDP_USE_SG.
    pub(super) flags: u16,
}

/// What became of frames, beside what the kernel counts.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Counters {
    pub(super) received: u64,
    pub(super) transmitted: u64,
    /// They lay outside of the shared memory, or in too many pieces.
    pub(super) copied: u64,
    /// They were received while the program had all of the shared memory.
    pub(super) received_copied: u64,
    pub(super) oversized: u64,
    /// The interface was down, or they are no frames.
    pub(super) refused: u64,
    /// There was no memory at all for them.
    pub(super) no_buffer: u64,
    /// The device had no room for them.
    pub(super) dropped: u64,
    pub(super) wakeups: u64,
}

/// A socket on one queue.
#[derive(Debug)]
pub(super) struct Queue {
    fill: Producer<u64>,
    completion: Consumer<u64>,
    receive: Consumer<libc::xdp_desc>,
    transmit: Producer<libc::xdp_desc>,
    socket: OwnedFd,
    flags: u16,
    /// What is being received is the rest of a frame that was too long.
    in_pieces: bool,
}

/// What became of a frame that was to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    Yes,
    /// There is no room now.
    Full,
}

/// Whether frames can be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kick {
    Done,
    /// The kernel has left some, and nothing will tell when it takes them.
    Later,
    /// The interface is down.
    Down,
}

impl Queue {
    /// A socket on a queue, with rings; one of several that share memory says who has it.
    pub(super) fn open(setup: &Setup, queue: u32, umem: &Umem, shared: Option<RawFd>) -> io::Result<Queue> {
        let socket = interface::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC)?;
        if shared.is_none() {
            let range = umem.range();
            // SAFETY: a range of the heap is mapped, and `Umem` keeps the only handle to what the fill ring names.
            unsafe { kernel::register(&socket, range.base(), range.len(), umem.chunk())? };
        }
        // The kernel tells of a frame before it gives the place of its chunk in the fill ring back: with twice as many
        // places as chunks there is always one.
        let chunks = 2 * setup.receive;
        for (name, entries) in [
            (libc::XDP_UMEM_FILL_RING, chunks),
            (libc::XDP_UMEM_COMPLETION_RING, setup.transmit),
            (libc::XDP_RX_RING, setup.receive),
            (libc::XDP_TX_RING, setup.transmit),
        ] {
            kernel::make_ring(&socket, name, entries)?;
        }
        let offsets = kernel::offsets(&socket)?;
        let fill = map::<u64>(&socket, libc::XDP_UMEM_PGOFF_FILL_RING, &offsets.fr, chunks)?;
        let completion =
            map::<u64>(&socket, libc::XDP_UMEM_PGOFF_COMPLETION_RING, &offsets.cr, setup.transmit)?;
        let receive =
            map::<libc::xdp_desc>(&socket, libc::XDP_PGOFF_RX_RING as u64, &offsets.rx, setup.receive)?;
        let transmit =
            map::<libc::xdp_desc>(&socket, libc::XDP_PGOFF_TX_RING as u64, &offsets.tx, setup.transmit)?;
        let flags = if shared.is_some() { libc::XDP_SHARED_UMEM } else { setup.flags };
        kernel::bind(&socket, setup.index, queue, flags, shared)?;
        Ok(Queue {
            fill: Producer::new(fill, &offsets.fr, chunks),
            completion: Consumer::new(completion, &offsets.cr, setup.transmit),
            receive: Consumer::new(receive, &offsets.rx, setup.receive),
            transmit: Producer::new(transmit, &offsets.tx, setup.transmit),
            socket,
            flags: setup.flags,
            in_pieces: false,
        })
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Lends the kernel so many chunks, as many as frames can wait; whether there were enough. It never has fewer from
    /// then on.
    pub(super) fn fill(&mut self, chunks: u32, umem: &mut Umem) -> bool {
        for _ in 0..chunks {
            let Some(buffer) = umem.allocate() else { return false };
            self.fill.push(umem.lend(buffer));
        }
        self.publish_fill(&mut Counters::default());
        true
    }

    /// Adds what has arrived to `burst`, up to `most` frames of at most `longest` bytes.
    pub(super) fn receive(
        &mut self,
        umem: &mut Umem,
        burst: &mut Vec<Frame>,
        (most, longest): (usize, usize),
        counters: &mut Counters,
    ) -> usize {
        let before = burst.len();
        let mut taken = 0;
        while taken < most {
            let Some(entry) = self.receive.pop() else { break };
            taken += 1;
            let Some(bytes) = umem.received(entry.addr, entry.len) else { continue };
            // Frames that this interface may carry fit a chunk: one in several is too long.
            let goes_on = entry.options & libc::XDP_PKT_CONTD != 0;
            let is_part = std::mem::replace(&mut self.in_pieces, goes_on) || goes_on;
            if is_part || bytes.len() > longest {
                counters.oversized += u64::from(!goes_on);
                self.fill.push(umem.lend(bytes));
            } else if let Some(fresh) = umem.allocate() {
                self.fill.push(umem.lend(fresh));
                burst.push(Frame::new(bytes.freeze()));
            } else {
                self.receive_copy(bytes, umem, burst, counters);
            }
        }
        if taken > 0 {
            self.receive.release();
            self.publish_fill(counters);
        }
        let count = burst.len() - before;
        counters.received += count as u64;
        count
    }

    /// Copies a frame to other memory, if there is any, and lends its chunk again.
    #[cold]
    fn receive_copy(
        &mut self,
        bytes: BufferMut,
        umem: &mut Umem,
        burst: &mut Vec<Frame>,
        counters: &mut Counters,
    ) {
        match Buffer::copy_from_slice(&bytes) {
            Ok(copy) => {
                counters.received_copied += 1;
                burst.push(Frame::new(copy));
            }
            Err(_) => counters.no_buffer += 1,
        }
        self.fill.push(umem.lend(bytes));
    }

    fn publish_fill(&mut self, counters: &mut Counters) {
        self.fill.publish();
        self.wake(counters);
    }

    /// Has the driver take chunks to receive into, if it says that it does not by itself.
    pub(super) fn wake(&self, counters: &mut Counters) {
        if self.fill.needs_wakeup() && self.flags & libc::XDP_USE_NEED_WAKEUP != 0 {
            counters.wakeups += 1;
            kernel::wake_receive(&self.socket);
        }
    }

    /// Takes back what the kernel has sent.
    #[inline]
    pub(super) fn reap(&mut self, umem: &mut Umem) {
        if umem.sending() == 0 {
            return;
        }
        let mut any = false;
        while let Some(address) = self.completion.pop() {
            umem.sent(address);
            any = true;
        }
        if any {
            self.completion.release();
        }
    }

    /// Puts a frame, which fits a chunk, into the ring: where it is, if that can be. The kernel does not see it before
    /// [`publish`](Self::publish).
    pub(super) fn send(&mut self, frame: &Frame, umem: &mut Umem, counters: &mut Counters) -> Taken {
        if frame.len() < SHORTEST {
            counters.refused += 1;
            return Taken::Yes;
        }
        let scatter = self.flags & libc::XDP_USE_SG != 0;
        if let Some((pieces, count)) = locate(frame, umem, scatter) {
            if !self.transmit.has_room(count as u32) {
                return Taken::Full;
            }
            self.push(pieces.iter().flatten(), umem);
        } else {
            if !self.transmit.has_room(1) {
                return Taken::Full;
            }
            let parts = std::iter::once(&frame.head).chain(frame.rest.iter());
            let Some(offset) = umem.send_copy(parts) else { return Taken::Full };
            counters.copied += 1;
            let len = frame.len() as u32;
            self.transmit.push(libc::xdp_desc { addr: offset as u64, len, options: 0 });
        }
        counters.transmitted += 1;
        Taken::Yes
    }

    /// Adds the pieces of one frame, for which there is room.
    #[inline]
    fn push<'a>(&mut self, pieces: impl Iterator<Item = &'a Piece<'a>>, umem: &mut Umem) {
        let mut pieces = pieces.peekable();
        while let Some(&Piece { offset, len, buffer }) = pieces.next() {
            umem.send(offset, buffer);
            let options = if pieces.peek().is_some() { libc::XDP_PKT_CONTD } else { 0 };
            self.transmit.push(libc::xdp_desc { addr: offset as u64, len, options });
        }
    }

    /// Lets the kernel see what is in the ring.
    pub(super) fn publish(&mut self) {
        self.transmit.publish();
    }

    /// Has the kernel send what is in the ring, if it does not by itself.
    ///
    /// # Errors
    /// If the interface is gone.
    pub(super) fn kick(&mut self, umem: &mut Umem, counters: &mut Counters) -> io::Result<Kick> {
        // An older kernel moves its index when it has seen the end of the ring, and not with each portion: only what is
        // left at last says whether it got there.
        let mut frames = self.transmit.pending();
        let mut portions = frames.div_ceil(PORTION) + 1;
        while self.transmit.pending() > 0 && self.asks() {
            if portions == 0 || frames == 0 {
                return Ok(Kick::Later);
            }
            counters.wakeups += 1;
            let woken = kernel::wake_transmit(&self.socket);
            match woken.as_ref().map_err(io::Error::raw_os_error) {
                Ok(()) if self.flags & libc::XDP_ZEROCOPY != 0 => break,
                // It sends a portion at a time, and needs room for completions.
                Ok(()) | Err(Some(libc::EAGAIN | libc::EINTR | libc::ENOBUFS)) => portions -= 1,
                Err(Some(libc::EBUSY)) => {
                    counters.dropped += 1;
                    frames -= 1;
                }
                Err(Some(libc::ENETDOWN)) => return Ok(Kick::Down),
                Err(_) => woken?,
            }
            self.reap(umem);
        }
        Ok(Kick::Done)
    }

    /// Whether the kernel sends only when it is asked to.
    fn asks(&self) -> bool {
        self.flags & libc::XDP_USE_NEED_WAKEUP == 0 || self.transmit.needs_wakeup()
    }
}

/// Maps a ring.
fn map<T>(socket: &OwnedFd, place: u64, offsets: &Offsets, entries: u32) -> io::Result<Rc<Mapping>> {
    let len = offsets.desc as usize + entries as usize * size_of::<T>();
    Ok(Rc::new(Mapping::ring(socket, place, len)?))
}

/// The pieces of a frame, each within one chunk, and how many; `None` if the kernel cannot take it as it is.
#[inline]
fn locate<'a>(frame: &'a Frame, umem: &Umem, scatter: bool) -> Option<([Option<Piece<'a>>; PIECES], usize)> {
    // The kernel wants the Ethernet header in the first.
    if frame.head.len() < SHORTEST || !(scatter || frame.rest.is_empty()) {
        return None;
    }
    let (mut pieces, mut count) = ([None; PIECES], 0);
    for buffer in std::iter::once(&frame.head).chain(frame.rest.iter()).filter(|part| !part.is_empty()) {
        let (mut offset, mut left) = (umem.offset_of(buffer)?, buffer.len());
        while left > 0 {
            let len = left.min(umem.chunk() - offset % umem.chunk());
            *pieces.get_mut(count)? = Some(Piece { offset, len: len as u32, buffer });
            (offset, left, count) = (offset + len, left - len, count + 1);
        }
    }
    (scatter || count == 1).then_some((pieces, count))
}
