//! What a runtime does when no task is ready.

use super::core::Core;
use crate::transport::{Device, Interest, Parker};
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::rc::{Rc, Weak};
use std::str::FromStr;
use std::time::Duration;

/// What a runtime does when no task is ready.
///
/// ```
/// use demikernel_runtime::Idle;
/// use std::time::Duration;
/// assert_eq!("adaptive(20us)".parse(), Ok(Idle::Adaptive(Duration::from_micros(20))));
/// assert_eq!("spin".parse(), Ok(Idle::Spin));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Idle {
    /// Polls its devices until something happens: the lowest latency, at the price of the whole core.
    Spin,
    /// Blocks at once: the lowest use of the processor. Timers are late by as much as the kernel allows itself for
    /// the thread, 50 us unless the program has chosen otherwise (PR_SET_TIMERSLACK in prctl(2)).
    Block,
    /// Spins for so long, then blocks; blocks at once while nothing but timers can make a task ready. Timers are
    /// late as with [`Block`](Idle::Block).
    Adaptive(Duration),
}

impl Default for Idle {
    /// Spins for 50 microseconds: about what a blocked thread's wake-up costs both sides, so that neither
    /// choice can have been much worse.
    fn default() -> Self {
        Idle::Adaptive(Duration::from_micros(50))
    }
}

/// Why a text is not an [`Idle`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "unknown idle policy {0:?}: expected \"spin\", \"block\", \"adaptive\" or \"adaptive(50us)\" (ns, us, ms, s)"
)]
pub struct ParseIdleError(String);

impl FromStr for Idle {
    type Err = ParseIdleError;

    fn from_str(text: &str) -> Result<Idle, ParseIdleError> {
        let error = || ParseIdleError(text.to_owned());
        match text {
            "spin" => Ok(Idle::Spin),
            "block" => Ok(Idle::Block),
            "adaptive" => Ok(Idle::default()),
            _ => {
                let time = text.strip_prefix("adaptive(").and_then(|rest| rest.strip_suffix(')'));
                let time = time.ok_or_else(error)?.trim();
                let digits = time.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
                let number: u64 = time[..digits].parse().map_err(|_| error())?;
                let unit = match time[digits..].trim() {
                    "ns" => 1,
                    "us" | "µs" => 1_000,
                    "ms" => 1_000_000,
                    "s" => 1_000_000_000,
                    _ => return Err(error()),
                };
                number.checked_mul(unit).map(|ns| Idle::Adaptive(Duration::from_nanos(ns))).ok_or_else(error)
            }
        }
    }
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Idle::Spin => f.write_str("spin"),
            Idle::Block => f.write_str("block"),
            Idle::Adaptive(time) => {
                let nanos = time.as_nanos();
                let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"), (1, "ns")];
                let whole = |(unit, _): &(u128, &str)| nanos >= *unit && nanos.is_multiple_of(*unit);
                let (unit, name) = units.into_iter().find(whole).unwrap_or((1, "ns"));
                write!(f, "adaptive({}{name})", nanos / unit)
            }
        }
    }
}

/// Blocks with ppoll(2), for runtimes whose devices cannot.
#[derive(Debug, Default)]
pub(super) struct PollParker {
    watched: RefCell<Vec<RawFd>>,
}

impl Parker for PollParker {
    fn watch(&self, fd: RawFd) -> io::Result<()> {
        self.watched.borrow_mut().push(fd);
        Ok(())
    }

    fn park(&self, timeout: Option<Duration>) -> io::Result<()> {
        let watched = self.watched.borrow();
        let mut fds: Vec<libc::pollfd> =
            watched.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
        let timeout = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs().min(i32::MAX as u64) as libc::time_t,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the array has as many elements as said; the timeout is null or valid; no signal mask.
        let result = unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as _, timeout, std::ptr::null()) };
        if result < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// A descriptor that the parker watches, and whose it was.
pub(super) type Watched = (RawFd, Weak<dyn Device>);

/// How long the runtime may block as far as its devices are concerned, other than the one that parks it, at most
/// `limit`; what they want watched is added to `watched` and to the parker.
pub(super) fn may_block(
    core: &Core,
    parker: &dyn Parker,
    watched: &RefCell<Vec<Watched>>,
    mut limit: Option<Duration>,
) -> io::Result<Option<Duration>> {
    // The descriptor of a device that is gone may be another's by now, which nobody watches.
    watched.borrow_mut().retain(|(_, device)| device.strong_count() > 0);
    let mut index = 0;
    while let Some(device) = core.device(index) {
        match device.interest() {
            Interest::None | Interest::Parker => {}
            Interest::Polling => return Ok(Some(Duration::ZERO)),
            Interest::Pause(time) => limit = Some(limit.map_or(time, |limit| limit.min(time))),
            Interest::Descriptor(fd) => {
                if !watched.borrow().iter().any(|(other, _)| *other == fd) {
                    parker.watch(fd)?;
                    watched.borrow_mut().push((fd, Rc::downgrade(&device)));
                }
                if !device.arm() {
                    return Ok(Some(Duration::ZERO));
                }
            }
        }
        index += 1;
    }
    Ok(limit)
}

/// The first device that can park the runtime.
pub(super) fn parking_device(core: &Core) -> Option<Rc<dyn Device>> {
    (0..).map_while(|index| core.device(index)).find(|device| device.parker().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_parsed_and_printed() {
        for (text, idle) in [
            ("spin", Idle::Spin),
            ("block", Idle::Block),
            ("adaptive", Idle::default()),
            ("adaptive(20us)", Idle::Adaptive(Duration::from_micros(20))),
            ("adaptive( 3 ms )", Idle::Adaptive(Duration::from_millis(3))),
        ] {
            assert_eq!(text.parse(), Ok(idle), "{text}");
            assert_eq!(idle.to_string().parse(), Ok(idle), "{idle}");
        }
        for text in ["", "Spin", "adaptive()", "adaptive(20)", "adaptive(us)", "adaptive(99999999999999s)"] {
            let error = text.parse::<Idle>().unwrap_err();
            assert!(error.to_string().contains("expected \"spin\""), "{error}");
        }
    }
}
