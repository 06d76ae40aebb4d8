//! The sending direction of a connection: messages, cut into frames.

use super::config::LinkConfig;
use super::frame::{Flags, HEADER};
use demikernel_runtime::buffer::Sga;
use demikernel_runtime::transport::stream::Fifo;

/// How far the end of the direction has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fin {
    /// Nobody has asked for it.
    No,
    /// To be sent behind what is queued.
    Queued,
    /// Sent, in the frame of this number.
    Sent(u32),
}

#[derive(Debug)]
pub(super) struct Sending {
    messages: Fifo<Sga>,
    bytes: usize,
    pub(super) fin: Fin,
    /// Data frames that the peer has room for.
    pub(super) credits: u16,
    /// Bytes of payload that the peer takes in a frame.
    pub(super) payload: u32,
    /// The number of the next frame.
    next: u32,
    /// The device is done with all frames before this.
    completed: u32,
    /// Frames since the last of whose completion the device will tell.
    unsignalled: u16,
    /// One of those has memory that the device reads.
    pinned: bool,
}

impl Sending {
    pub(super) fn new() -> Sending {
        Sending {
            messages: Fifo::new(),
            bytes: 0,
            fin: Fin::No,
            credits: 0,
            payload: 0,
            next: 0,
            completed: 0,
            unsignalled: 0,
            pinned: false,
        }
    }

    /// Queues a message.
    pub(super) fn push(&mut self, message: Sga) {
        self.bytes += message.len();
        self.messages.push_back(message);
    }

    /// The next data frame's payload and flags: there are data, or an end, and a credit for it.
    pub(super) fn take(&mut self, config: &LinkConfig) -> (Sga, Flags) {
        debug_assert!(self.credits > 0 && self.has_data());
        let (payload, end) = match self.messages.pop_front() {
            None => (Sga::new(), false),
            Some(whole) if self.fits(&whole, config) => (whole, true),
            Some(mut message) => {
                let part = cut(&mut message, self.payload as usize, config.pieces);
                let end = message.is_empty();
                if !end {
                    self.messages.push_front(message);
                }
                (part, end)
            }
        };
        self.bytes -= payload.len();
        self.credits -= 1;
        let fin = self.fin == Fin::Queued && self.messages.is_empty();
        if fin {
            self.fin = Fin::Sent(self.next);
        }
        let flags = Flags::default().with_if(Flags::END, end).with_if(Flags::FIN, fin);
        (payload, flags.with_if(Flags::WANT, self.credits == 0 && self.has_data()))
    }

    /// Whether a message fits into a frame.
    fn fits(&self, message: &Sga, config: &LinkConfig) -> bool {
        let length = message.len();
        length <= self.payload as usize
            && (message.segments() <= config.pieces.into() || length <= config.small as usize)
    }

    /// The number of a frame that is sent now, and whether the device is to tell of its completion: often enough that
    /// the queue never fills up with frames of which it does not tell, and behind the last frame whose memory it reads.
    pub(super) fn number(&mut self, payload: usize, config: &LinkConfig) -> (u32, bool) {
        let sequence = self.next;
        self.next = self.next.wrapping_add(1);
        self.unsignalled += 1;
        self.pinned |= HEADER + payload > config.inline as usize;
        let last = self.messages.is_empty() || self.credits == 0;
        let signalled = self.unsignalled >= (config.send_depth / 4).max(1)
            || last && self.pinned
            || self.fin == Fin::Sent(sequence);
        if signalled {
            (self.unsignalled, self.pinned) = (0, false);
        }
        (sequence, signalled)
    }

    /// The device is done with the frame of this number and all before it.
    pub(super) fn complete(&mut self, sequence: u32) {
        let done = sequence.wrapping_add(1);
        // Completions come in order; one that does not is none of this connection's.
        if done.wrapping_sub(self.completed) <= self.in_flight().into() {
            self.completed = done;
        }
    }

    /// Drops what is queued.
    pub(super) fn clear(&mut self) -> Fifo<Sga> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }

    /// Whether there is anything to send that takes a credit.
    pub(super) fn has_data(&self) -> bool {
        !self.messages.is_empty() || self.fin == Fin::Queued
    }

    /// Whether the device is done with everything, the end included.
    pub(super) fn is_finished(&self) -> bool {
        matches!(self.fin, Fin::Sent(sequence) if self.completed.wrapping_sub(sequence) as i32 > 0)
    }

    /// Frames that the device has.
    pub(super) fn in_flight(&self) -> u16 {
        self.next.wrapping_sub(self.completed) as u16
    }

    /// Bytes that no frame has been made of.
    pub(super) fn queued(&self) -> usize {
        self.bytes
    }
}

/// Takes the front of a message, so many bytes and pieces at most.
fn cut(message: &mut Sga, bytes: usize, pieces: u16) -> Sga {
    let mut part = Sga::new();
    while part.segments() < pieces.into() {
        let Some(first) = message.first() else { break };
        let count = first.len().min(bytes - part.len());
        if count == 0 {
            break;
        }
        part.push(first.slice(..count));
        message.advance(count);
    }
    part
}
