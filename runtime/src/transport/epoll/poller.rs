//! epoll(7) itself.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Events taken from the kernel at once. Few, so that what is received for them is still in the cache when
/// tasks send it on: with 256 events, 256 connections of 16 KiB had 0.77 of the messages.
const BATCH: usize = 32;

/// Room for events, which is reused from call to call.
pub(super) struct Events(Box<[libc::epoll_event; BATCH]>);

impl Events {
    pub(super) fn new() -> Events {
        Events(Box::new([libc::epoll_event { events: 0, u64: 0 }; BATCH]))
    }

    /// Key and flags of an event.
    pub(super) fn get(&self, index: usize) -> (u64, u32) {
        let event = self.0[index];
        (event.u64, event.events)
    }
}

pub(super) struct Poller {
    fd: OwnedFd,
    /// Whether the kernel has (and a sandbox allows) epoll_pwait2, which is 5.11 and newer.
    has_pwait2: Cell<bool>,
}

impl Poller {
    pub(super) fn new() -> io::Result<Poller> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor.
        let poller = Poller { fd: unsafe { OwnedFd::from_raw_fd(fd) }, has_pwait2: Cell::new(true) };
        // Finds out what the kernel has.
        poller.wait(&mut Events::new(), Some(Duration::from_nanos(1)))?;
        Ok(poller)
    }

    /// Whether timeouts are exact to the nanosecond rather than the millisecond.
    pub(super) fn is_exact(&self) -> bool {
        self.has_pwait2.get()
    }

    /// Has `flags` of `fd` reported with `key` until the descriptor is closed.
    pub(super) fn add(&self, fd: RawFd, flags: i32, key: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: flags as u32, u64: key };
        // SAFETY: the event is valid for the call, and the kernel copies it.
        let result = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Takes events, waiting for the first for at most `timeout`. An interruption by a signal is no event.
    pub(super) fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<usize> {
        let exact = matches!(timeout, Some(timeout) if timeout.subsec_nanos() % 1_000_000 != 0);
        let result = if exact && self.has_pwait2.get() {
            match self.wait_exact(events, timeout) {
                // A seccomp filter that does not know the call says EPERM.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    self.has_pwait2.set(false);
                    self.wait_milliseconds(events, timeout)
                }
                result => result,
            }
        } else {
            self.wait_milliseconds(events, timeout)
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            result => result,
        }
    }

    fn wait_exact(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs().min(i32::MAX as u64) as libc::time_t,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: there is room for BATCH events; the timeout is null or valid; no signal mask is passed.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                events.0.as_mut_ptr(),
                BATCH as libc::c_int,
                timeout,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        if count < 0 { Err(io::Error::last_os_error()) } else { Ok(count as usize) }
    }

    fn wait_milliseconds(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<usize> {
        // Rounded up: waking early would spin until the deadline.
        let timeout = timeout.map_or(-1, |timeout| {
            timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as libc::c_int
        });
        // SAFETY: there is room for BATCH events.
        let count = unsafe {
            libc::epoll_wait(self.fd.as_raw_fd(), events.0.as_mut_ptr(), BATCH as libc::c_int, timeout)
        };
        if count < 0 { Err(io::Error::last_os_error()) } else { Ok(count as usize) }
    }
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::EventFd;
    use std::time::Instant;

    #[test]
    fn events_are_reported_with_their_key() {
        let (poller, mut events) = (Poller::new().unwrap(), Events::new());
        let (a, b) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        poller.add(a.as_raw_fd(), libc::EPOLLIN | libc::EPOLLET, 7).unwrap();
        poller.add(b.as_raw_fd(), libc::EPOLLIN, u64::MAX).unwrap();
        assert_eq!(poller.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0);
        b.signal();
        assert_eq!(poller.wait(&mut events, None).unwrap(), 1);
        assert_eq!(events.get(0), (u64::MAX, libc::EPOLLIN as u32));
        assert_eq!(poller.wait(&mut events, None).unwrap(), 1, "not an edge: reported again");
        b.clear();
        a.signal();
        assert_eq!(poller.wait(&mut events, Some(Duration::from_secs(5))).unwrap(), 1);
        assert_eq!(events.get(0).0, 7);
        assert_eq!(poller.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0, "an edge");
    }

    #[test]
    fn waits_are_never_short() {
        for exact in [true, false] {
            let poller = Poller::new().unwrap();
            poller.has_pwait2.set(exact && poller.is_exact());
            for micros in [1, 300, 1000, 1700] {
                let (timeout, start) = (Duration::from_micros(micros), Instant::now());
                assert_eq!(poller.wait(&mut Events::new(), Some(timeout)).unwrap(), 0);
                assert!(start.elapsed() >= timeout, "{timeout:?} exact: {exact}");
            }
        }
    }
}
