//! The two queues shared with the kernel, and the one system call.

use super::key::Key;
use super::setup::{self, Features};
use super::{Config, Kind};
use io_uring::squeue::Entry;
use io_uring::{EnterFlags, IoUring, Submitter, cqueue, opcode, types};
use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;
use std::time::Duration;

/// How many completions are taken from the queue at a time.
pub(super) const BATCH: usize = 32;

/// A completion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completed {
    pub(super) key: Key,
    pub(super) result: i32,
    pub(super) flags: u32,
}

impl Completed {
    /// Whether the operation goes on and will give further completions.
    #[inline(always)]
    pub(super) fn more(self) -> bool {
        cqueue::more(self.flags)
    }
}

/// Figures for people.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RingCounters {
    pub(super) enters: u64,
    pub(super) waits: u64,
    pub(super) submitted: u64,
    pub(super) completed: u64,
    pub(super) postponed: u64,
}

pub(super) struct Ring {
    /// Borrows from `ring`, and does not use it any more when `ring` is dropped.
    submitter: Submitter<'static>,
    /// From a box; freed by `drop`. It is a pointer because the submitter's borrow may not be disturbed by
    /// moving a box.
    ring: NonNull<IoUring>,
    pub(super) features: Features,
    /// Submissions for which the queue had no room although it was submitted.
    postponed: VecDeque<Entry>,
    /// Operations in the kernel, or on their way there, that will give another completion.
    outstanding: usize,
    pub(super) counters: RingCounters,
}

impl Ring {
    pub(super) fn new(config: &Config) -> io::Result<Ring> {
        let (ring, features) = setup::make(config)?;
        let ring = NonNull::from(Box::leak(Box::new(ring)));
        // SAFETY: the ring stays in place until `drop`, and is only used by shared reference meanwhile.
        let mut submitter = unsafe { ring.as_ref() }.submitter();
        // 5.18; without it the kernel looks the descriptor up at each call.
        let registered = submitter.register_ring_fd().is_ok();
        let ring = Ring {
            submitter,
            ring,
            features,
            postponed: VecDeque::new(),
            outstanding: 0,
            counters: RingCounters::default(),
        };
        let parameters = ring.ring().params();
        tracing::debug!(
            submissions = parameters.sq_entries(),
            completions = parameters.cq_entries(),
            registered,
            ?features,
            "io_uring"
        );
        Ok(ring)
    }

    #[inline(always)]
    fn ring(&self) -> &'static IoUring {
        // SAFETY: freed by `drop` only, and no such reference leaves this module.
        unsafe { self.ring.as_ref() }
    }

    /// For registrations.
    pub(super) fn submitter(&self) -> &Submitter<'static> {
        &self.submitter
    }

    /// Operations that will give another completion.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Hands an operation in. It reaches the kernel with the next [`enter`](Self::enter).
    ///
    /// # Safety
    /// The memory that the operation names stays valid, and untouched as far as the kernel writes it, until
    /// the operation's last completion has been [reaped](Self::reap).
    #[inline]
    pub(super) unsafe fn submit(&mut self, entry: &Entry) {
        self.outstanding += 1;
        self.counters.submitted += 1;
        if self.postponed.is_empty() {
            // SAFETY: this is the only view of the queue at the time; the memory is the caller's matter.
            if unsafe { self.ring().submission_shared().push(entry) }.is_ok() {
                return;
            }
        }
        self.submit_slowly(entry);
    }

    /// The queue is full, or others are waiting for room in it.
    #[cold]
    fn submit_slowly(&mut self, entry: &Entry) {
        self.postponed.push_back(entry.clone());
        self.counters.postponed += 1;
        if let Err(error) = self.enter(None) {
            tracing::error!(%error, "io_uring_enter");
        }
        self.push_postponed();
    }

    #[cold]
    fn push_postponed(&mut self) {
        // SAFETY: the only view of the queue at the time.
        let mut queue = unsafe { self.ring().submission_shared() };
        while let Some(entry) = self.postponed.front() {
            // SAFETY: the caller of `submit` answers for the memory.
            if unsafe { queue.push(entry) }.is_err() {
                return;
            }
            self.postponed.pop_front();
        }
    }

    /// Whether something is waiting to be submitted, or the kernel asks to be entered.
    #[inline]
    pub(super) fn wants_enter(&self) -> bool {
        // SAFETY: the only view of the queue at the time.
        let queue = unsafe { self.ring().submission_shared() };
        if self.features.sqpoll {
            return queue.need_wakeup() && !queue.is_empty()
                || queue.cq_overflow()
                || !self.postponed.is_empty();
        }
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow() || !self.postponed.is_empty()
    }

    /// Submits what is waiting, and lets the kernel do what it has put off.
    #[inline]
    pub(super) fn enter(&mut self, wait: Option<Wait>) -> io::Result<()> {
        let mut flags = EnterFlags::empty();
        let submissions = {
            // SAFETY: the only view of the queue at the time.
            let queue = unsafe { self.ring().submission_shared() };
            if self.features.deferred || wait.is_some() || queue.taskrun() || queue.cq_overflow() {
                flags |= EnterFlags::GETEVENTS;
            }
            if self.features.sqpoll && queue.need_wakeup() {
                flags |= EnterFlags::SQ_WAKEUP;
            }
            queue.len() as u32
        };
        self.counters.enters += 1;
        let result = match wait {
            // SAFETY: there is no argument; the submissions' memory is valid by the contract of `submit`.
            None => unsafe { self.submitter.enter::<libc::sigset_t>(submissions, 0, flags.bits(), None) },
            Some(wait) => self.enter_and_wait(submissions, flags, wait),
        };
        if !self.postponed.is_empty() {
            self.push_postponed();
        }
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // A signal; the time is over; the kernel wants its completions taken first; it is short of
                // memory for a moment. What was not submitted stays in the queue.
                Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn enter_and_wait(&mut self, submissions: u32, flags: EnterFlags, wait: Wait) -> io::Result<usize> {
        self.counters.waits += 1;
        match wait.timeout {
            // SAFETY: as in `enter`.
            None => unsafe { self.submitter.enter::<libc::sigset_t>(submissions, 1, flags.bits(), None) },
            Some(timeout) => {
                let timeout = types::Timespec::from(timeout);
                let arguments = types::SubmitArgs::new().timespec(&timeout);
                let flags = flags | EnterFlags::EXT_ARG;
                // SAFETY: as in `enter`; the arguments are of the type that goes with EXT_ARG, and they
                // and the time live until the call returns.
                unsafe { self.submitter.enter(submissions, 1, flags.bits(), Some(&arguments)) }
            }
        }
    }

    /// Takes completions from the shared memory, with no system call. Returns those that there were.
    #[inline]
    pub(super) fn reap(&mut self, batch: &mut [MaybeUninit<Completed>; BATCH]) -> usize {
        // SAFETY: the only view of the queue at the time.
        let mut queue = unsafe { self.ring().completion_shared() };
        let mut count = 0;
        for (place, entry) in batch.iter_mut().zip(&mut queue) {
            let completed = Completed {
                key: Key::from_bits(entry.user_data()),
                result: entry.result(),
                flags: entry.flags(),
            };
            if !completed.more() {
                self.outstanding -= 1;
            }
            place.write(completed);
            count += 1;
        }
        self.counters.completed += count as u64;
        count
    }

    /// Asks the kernel to end an operation early.
    pub(super) fn cancel(&mut self, key: Key) {
        let entry = opcode::AsyncCancel::new(key.bits()).build();
        let entry = entry.user_data(Key::new(Kind::Cancel, 0, 0).bits());
        // SAFETY: the operation names no memory.
        unsafe { self.submit(&entry) };
    }
}

/// How long to wait for a completion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// Without one, for ever.
    pub(super) timeout: Option<Duration>,
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.ring().as_raw_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a box in `new`. The submitter still borrows from it, but has no
        // destructor and is not used again.
        drop(unsafe { Box::from_raw(self.ring.as_ptr()) });
    }
}
