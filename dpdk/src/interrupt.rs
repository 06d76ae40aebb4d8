//! Interrupts of a receive queue, for threads that sleep.

use std::os::fd::RawFd;
use std::ptr::{self, NonNull};
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
    /// What `dk_interrupt_open` has made.
    handle: NonNull<ffi::Interrupt>,
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
        let mut handle = ptr::null_mut();
        // SAFETY: a place for a pointer.
        let open = || unsafe { ffi::dk_interrupt_open(port.id(), queue, &raw mut handle) };
        let (descriptor, reason) = log::quietly(open);
        let Some(handle) = NonNull::new(handle) else {
            tracing::debug!(port = port.name(), queue, ?reason, "no interrupts: a thread that is idle asks");
            return None;
        };
        Some(Interrupt { port: port.clone(), queue, handle, descriptor, armed: false })
    }

    /// Readable after something has come while it was armed, and when the port has changed.
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
        // Devices may switch interrupts off themselves when one has come, and vhost does when a peer comes: what came after
        // it would not have woken who sleeps since before. One that fails is asked again.
        self.armed = ffi::dk_interrupt_arm(self.port.id(), self.queue) == 0;
        false
    }

    /// Has the device be silent.
    pub(crate) fn disarm(&mut self) {
        ffi::dk_interrupt_disarm(self.port.id(), self.queue);
        self.take();
        self.armed = false;
    }

    /// Whether one has come that nobody has taken, or the port has changed.
    fn take(&mut self) -> bool {
        // SAFETY: made by `dk_interrupt_open`, and closed only when this is dropped.
        unsafe { ffi::dk_interrupt_take(self.handle.as_ptr()) > 0 }
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        // SAFETY: it is open, used by nobody afterwards, and the port runs, as its queue is dropped later.
        unsafe { ffi::dk_interrupt_close(self.handle.as_ptr()) }
    }
}
