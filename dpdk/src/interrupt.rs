//! Interrupts of a receive queue, for threads that sleep.

use std::os::fd::RawFd;
use std::sync::Arc;

use crate::ffi;
use crate::log;
use crate::port::Port;

/// Drivers that offer interrupts which do not come: this one leaves it to chance which vector of MSI-X they have, and
/// mostly none.
const WITHOUT: [&str; 1] = ["net_e1000_em"];

/// The interrupts of a queue, of a device that has them.
///
/// They are off while the thread polls. [Armed](Interrupt::arm), one is left on until something has come.
pub(crate) struct Interrupt {
    port: Arc<Port>,
    queue: u16,
    descriptor: RawFd,
    armed: bool,
}

impl Interrupt {
    /// `None` if the device has none, as most in software.
    pub(crate) fn open(port: &Arc<Port>, queue: u16) -> Option<Interrupt> {
        if WITHOUT.contains(&port.driver()) {
            return None;
        }
        // Drivers complain where they only have to say no.
        let (descriptor, reason) = log::quietly(|| ffi::dk_interrupt_open(port.id(), queue));
        if descriptor < 0 {
            tracing::debug!(port = port.name(), queue, ?reason, "no interrupts: a thread that is idle asks");
            return None;
        }
        Some(Interrupt { port: port.clone(), queue, descriptor, armed: false })
    }

    /// Readable after something has come while it was armed.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.descriptor
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.armed
    }

    /// Has the device interrupt. False if something may have come before it did, or since: then the queue is to be
    /// looked at before this is called again.
    pub(crate) fn arm(&mut self) -> bool {
        if self.armed && !self.take() {
            return true;
        }
        // Devices may switch interrupts off themselves when one has come. One that fails is asked again.
        self.armed = ffi::dk_interrupt_arm(self.port.id(), self.queue) == 0;
        false
    }

    /// Has the device be silent.
    pub(crate) fn disarm(&mut self) {
        ffi::dk_interrupt_disarm(self.port.id(), self.queue);
        self.take();
        self.armed = false;
    }

    /// Whether one has come that nobody has taken.
    fn take(&mut self) -> bool {
        // SAFETY: the descriptor is open, and was made by `dk_interrupt_open`.
        unsafe { ffi::dk_interrupt_take(self.descriptor) > 0 }
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        // SAFETY: it is open, used by nobody afterwards, and the port runs, as its queue is dropped later.
        unsafe { ffi::dk_interrupt_close(self.port.id(), self.queue, self.descriptor) }
    }
}
