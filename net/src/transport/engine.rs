//! The stack and its device, and bursts between them.

use crate::device::{BURST, Frame, FrameDevice, Tracer, wall_clock};
use crate::stack::Stack;
use demikernel_runtime::time::Instant;
use std::io::{self, Write};
use std::time::Duration;

/// Bursts that one turn sends at most, so that what has come is looked at in between.
const BURSTS: usize = 8;

pub(super) struct Engine {
    pub(super) stack: Stack,
    /// Captures while somebody wants it.
    pub(super) device: Tracer<Box<dyn FrameDevice>, Box<dyn Write>>,
    inbound: Vec<Frame>,
    /// What the device has not taken: while there is something, the stack is not asked for more than fills a burst.
    outbound: Vec<Frame>,
    /// What was due with the last burst was put off until the next.
    put_off: bool,
}

impl Engine {
    pub(super) fn new(stack: Stack, device: Box<dyn FrameDevice>) -> Engine {
        let burst = || Vec::with_capacity(BURST);
        let device = Tracer::silent(device, wall_clock);
        Engine { stack, device, inbound: burst(), outbound: burst(), put_off: false }
    }

    /// Takes what has come, and does what is due. Returns how many frames have come.
    ///
    /// # Errors
    /// If the device is gone.
    #[inline]
    pub(super) fn take_in(&mut self, now: Instant) -> io::Result<usize> {
        let count = self.device.receive(&mut self.inbound)?;
        if count > 0 || self.stack.is_busy() {
            self.stack.receive(now, &mut self.inbound);
        }
        // Who waits for a frame does not wait for this, too.
        let puts_off = count == 1 && !self.put_off;
        if !puts_off {
            self.stack.handle_deadlines(now);
        }
        self.put_off = puts_off;
        Ok(count)
    }

    /// Gives the device what there is to send, as far as it takes it. Returns whether it took any.
    ///
    /// # Errors
    /// If the device is gone.
    #[inline]
    pub(super) fn send_out(&mut self, now: Instant) -> io::Result<bool> {
        if self.is_busy() { self.send_bursts(now) } else { Ok(false) }
    }

    fn send_bursts(&mut self, now: Instant) -> io::Result<bool> {
        let mut any = false;
        for _ in 0..BURSTS {
            self.stack.transmit(now, &mut self.outbound);
            if self.outbound.is_empty() {
                break;
            }
            any |= self.device.transmit(&mut self.outbound)? > 0;
            if !self.outbound.is_empty() || !self.stack.is_busy() {
                break;
            }
        }
        Ok(any)
    }

    /// Whether there is something to be done without waiting for anything.
    pub(super) fn is_busy(&self) -> bool {
        !self.outbound.is_empty() || self.stack.is_busy()
    }

    /// Blocks the thread until something comes or is due, for at most `limit`.
    pub(super) fn wait(&mut self, limit: Duration) {
        /// A device that cannot be waited for is asked as often as this.
        const ASK: Duration = Duration::from_micros(50);
        if self.is_busy() {
            return;
        }
        let due = self.stack.next_deadline().map(|at| at - Instant::now());
        let time = due.map_or(limit, |due| due.min(limit));
        let Some(fd) = self.device.descriptor() else { return std::thread::sleep(time.min(ASK)) };
        if !self.device.arm() {
            return;
        }
        let mut fd = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let milliseconds = time.as_millis().min(1000) as libc::c_int + 1;
        // SAFETY: one descriptor, as is said; an error means to look at once.
        unsafe { libc::poll(&raw mut fd, 1, milliseconds) };
    }
}
