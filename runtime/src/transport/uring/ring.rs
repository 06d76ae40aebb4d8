//! The two queues shared with the kernel, and the one system call.

use super::key::Key;
use super::setup::{self, Features};
use super::{Config, Kind};
use io_uring::squeue::Entry;
use io_uring::{CompletionQueue, EnterFlags, IoUring, SubmissionQueue, Submitter, cqueue, opcode, types};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;
use std::time::Duration;

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

/// The ring itself, in a place of its own. The queues and the submitter borrow from it for as long as it is
/// there, and stand before it among the fields of [`Ring`], so that they are dropped first.
struct Place(NonNull<IoUring>);

impl Place {
    fn new(ring: IoUring) -> Place {
        Place(NonNull::from(Box::leak(Box::new(ring))))
    }

    #[inline(always)]
    fn ring(&self) -> &'static IoUring {
        // SAFETY: from a box, freed by `drop` only; this reference and what borrows from it stay in `Ring`.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a box, and everything that borrowed from it is dropped.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

pub(super) struct Ring {
    submitter: Submitter<'static>,
    /// The only views of the two queues. Each has its own copy of head and tail, which it brings in line with
    /// the kernel's when it is synchronised.
    submissions: SubmissionQueue<'static>,
    completions: CompletionQueue<'static>,
    place: Place,
    pub(super) features: Features,
    /// Submissions for which the queue had no room although it was submitted.
    postponed: VecDeque<Entry>,
    /// Operations in the kernel, or on their way there, that will give another completion.
    outstanding: usize,
    pub(super) counters: RingCounters,
    /// By how much a wait for a time is prolonged, so that timers which are due within it cost one awakening.
    slack: Duration,
}

impl Ring {
    pub(super) fn new(config: &Config) -> io::Result<Ring> {
        let (ring, features) = setup::make(config)?;
        let place = Place::new(ring);
        let mut submitter = place.ring().submitter();
        // 5.18; without it the kernel looks the descriptor up at each call.
        let registered = submitter.register_ring_fd().is_ok();
        let parameters = place.ring().params();
        tracing::debug!(
            submissions = parameters.sq_entries(),
            completions = parameters.cq_entries(),
            registered,
            ?features,
            "io_uring"
        );
        Ok(Ring {
            submitter,
            // SAFETY: there are no other views.
            submissions: unsafe { place.ring().submission_shared() },
            // SAFETY: there are no other views of these, either.
            completions: unsafe { place.ring().completion_shared() },
            place,
            features,
            postponed: VecDeque::new(),
            outstanding: 0,
            counters: RingCounters::default(),
            slack: timer_slack(),
        })
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
    /// the operation's last completion has been [taken](Self::next).
    #[inline]
    pub(super) unsafe fn submit(&mut self, entry: &Entry) {
        self.outstanding += 1;
        self.counters.submitted += 1;
        // SAFETY: the memory is the caller's matter.
        if !self.postponed.is_empty() || unsafe { self.submissions.push(entry) }.is_err() {
            self.submit_slowly(entry);
        }
    }

    /// The queue is full, or others are waiting for room in it.
    #[cold]
    fn submit_slowly(&mut self, entry: &Entry) {
        self.postponed.push_back(entry.clone());
        self.counters.postponed += 1;
        if let Err(error) = self.enter(None) {
            tracing::error!(%error, "io_uring_enter");
        }
    }

    #[cold]
    fn push_postponed(&mut self) {
        while let Some(entry) = self.postponed.front() {
            // SAFETY: the caller of `submit` answers for the memory.
            if unsafe { self.submissions.push(entry) }.is_err() {
                return;
            }
            self.postponed.pop_front();
        }
    }

    /// Whether something is waiting to be submitted, or the kernel asks to be entered.
    #[inline]
    pub(super) fn wants_enter(&mut self) -> bool {
        let queue = &mut self.submissions;
        if self.features.sqpoll {
            queue.sync();
            let asleep = !queue.is_empty() && queue.need_wakeup();
            return asleep || queue.cq_overflow() || !self.postponed.is_empty();
        }
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow() || !self.postponed.is_empty()
    }

    /// Submits what is waiting, and lets the kernel do what it has put off; then waits for a completion, if
    /// told to.
    ///
    /// # Errors
    /// Those after which the ring is of no use.
    #[inline]
    pub(super) fn enter(&mut self, wait: Option<Wait>) -> io::Result<()> {
        let queue = &mut self.submissions;
        queue.sync();
        let submissions = queue.len() as u32;
        let mut flags = EnterFlags::empty();
        if self.features.deferred || wait.is_some() || queue.taskrun() || queue.cq_overflow() {
            flags |= EnterFlags::GETEVENTS;
        }
        if self.features.sqpoll && queue.need_wakeup() {
            flags |= EnterFlags::SQ_WAKEUP;
        }
        self.counters.enters += 1;
        let result = match wait {
            // SAFETY: there is no argument; the submissions' memory is valid by the contract of `submit`.
            None => unsafe { self.submitter.enter::<libc::sigset_t>(submissions, 0, flags.bits(), None) },
            Some(wait) => self.enter_and_wait(submissions, flags, wait),
        };
        // What the kernel has taken is free again.
        self.submissions.sync();
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
                let slack = if timeout.is_zero() { timeout } else { self.slack };
                let timeout = types::Timespec::from(timeout.saturating_add(slack));
                let arguments = types::SubmitArgs::new().timespec(&timeout);
                let flags = flags | EnterFlags::EXT_ARG;
                // SAFETY: as in `enter`; the arguments are of the type that goes with EXT_ARG, and they
                // and the time live until the call returns.
                unsafe { self.submitter.enter(submissions, 1, flags.bits(), Some(&arguments)) }
            }
        }
    }

    /// Gives back to the kernel the places of completions that were taken, and looks for new ones, with no
    /// system call.
    #[inline]
    pub(super) fn look(&mut self) {
        self.completions.sync();
    }

    /// Takes the next of the completions that were there at the last [`look`](Self::look).
    #[inline]
    pub(super) fn next(&mut self) -> Option<Completed> {
        let entry = self.completions.next()?;
        let completed = Completed {
            key: Key::from_bits(entry.user_data()),
            result: entry.result(),
            flags: entry.flags(),
        };
        self.counters.completed += 1;
        self.outstanding -= usize::from(!completed.more());
        Some(completed)
    }

    /// Asks the kernel to end an operation early.
    pub(super) fn cancel(&mut self, key: Key) {
        let entry = opcode::AsyncCancel::new(key.bits()).build();
        let entry = entry.user_data(Key::new(Kind::Cancel, 0, 0).bits());
        // SAFETY: the operation names no memory.
        unsafe { self.submit(&entry) };
    }
}

/// What the kernel adds to the time-outs of poll(2) and its kin for this thread, but not to those of io_uring: 50 us
/// unless the program has chosen otherwise, and nothing with real-time priority (PR_SET_TIMERSLACK in prctl(2)).
fn timer_slack() -> Duration {
    // SAFETY: a question about this thread, without arguments.
    let nanos = unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) };
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

/// How long to wait for a completion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// Without one, for ever.
    pub(super) timeout: Option<Duration>,
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.place.ring().as_raw_fd()
    }
}
