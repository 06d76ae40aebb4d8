//! Waking a core that sleeps.
//!
//! A core says that it is about to sleep and then looks once more whether there is something; one that brings something
//! puts it there and then looks whether the other sleeps. Either sees the other, as both do the two in one total order.

use super::sync::{AtomicBool, Ordering, fence};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// What a core is woken by.
#[derive(Debug)]
pub(super) struct Bell {
    sleeps: AtomicBool,
    /// It was rung since it was silenced.
    rung: AtomicBool,
    event: OwnedFd,
}

impl Bell {
    pub(super) fn new() -> io::Result<Bell> {
        // SAFETY: plain numbers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Bell { sleeps: AtomicBool::new(false), rung: AtomicBool::new(false), event })
    }

    /// Readable from when it is rung until it is silenced.
    pub(super) fn descriptor(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// Its owner is about to sleep; what is looked at after this is not overlooked.
    pub(super) fn sleep(&self) {
        self.sleeps.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Its owner is awake.
    #[inline]
    pub(super) fn wake_up(&self) {
        if self.sleeps.load(Ordering::Relaxed) {
            self.sleeps.store(false, Ordering::Relaxed);
        }
        if self.rung.load(Ordering::Relaxed) {
            self.silence();
        }
    }

    #[cold]
    fn silence(&self) {
        // In this order, as who rings does the two the other way round: so it is never readable unnoticed.
        self.rung.store(false, Ordering::SeqCst);
        let mut count = 0_u64;
        // SAFETY: eight bytes for the count; that there is none is no harm.
        unsafe { libc::read(self.event.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
    }

    /// Something was put where its owner looks: it is woken if it sleeps.
    #[inline]
    pub(super) fn notify(&self) {
        fence(Ordering::SeqCst);
        if self.sleeps.load(Ordering::Relaxed) && self.sleeps.swap(false, Ordering::AcqRel) {
            self.ring();
        }
    }

    /// Makes the descriptor readable.
    #[cold]
    pub(super) fn ring(&self) {
        let one = 1_u64;
        // SAFETY: eight bytes; a count that is full is readable too.
        unsafe { libc::write(self.event.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
        self.rung.store(true, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_readable(bell: &Bell) -> bool {
        let mut fd = libc::pollfd { fd: bell.descriptor(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, as is said.
        unsafe { libc::poll(&raw mut fd, 1, 0) == 1 }
    }

    #[cfg(not(demikernel_loom))]
    #[test]
    fn only_who_sleeps_is_woken_and_once() {
        let bell = Bell::new().unwrap();
        bell.notify();
        assert!(!is_readable(&bell));
        bell.sleep();
        bell.notify();
        bell.notify();
        assert!(is_readable(&bell));
        bell.wake_up();
        assert!(!is_readable(&bell));
        bell.notify();
        assert!(!is_readable(&bell));
    }

    /// A core that finds nothing when it has said that it sleeps is woken by what comes.
    #[cfg(demikernel_loom)]
    #[test]
    fn loom_nothing_is_overlooked() {
        use crate::cores::ring::ring;
        use crate::cores::sync::Arc;
        loom::model(|| {
            let bell = Arc::new(Bell::new().unwrap());
            let (mut here, mut there) = ring(2);
            let ringer = bell.clone();
            let producer = loom::thread::spawn(move || {
                here.push(1).unwrap();
                ringer.notify();
            });
            bell.sleep();
            let found = there.pop();
            producer.join().unwrap();
            assert!(found.is_some() || is_readable(&bell));
            bell.wake_up();
            assert!(!is_readable(&bell));
        });
    }
}
