//! The two queues shared with the kernel, and the one system call.

use io_uring::{IoUring, cqueue, squeue, types};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// With entries of these sizes.
pub(super) struct Ring<S: squeue::EntryMarker, C: cqueue::EntryMarker> {
    ring: IoUring<S, C>,
    /// Whether operations name the file as the first of the ring's.
    held: bool,
    /// Whether the device does not interrupt, and is asked when the kernel is entered.
    is_polled: bool,
    pub(super) enters: u64,
}

impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> Ring<S, C> {
    /// A ring with room for so many operations on a file, with the best that the kernel has.
    ///
    /// # Errors
    /// Says why there is none.
    pub(super) fn new(entries: u32, file: RawFd, is_polled: bool) -> io::Result<Ring<S, C>> {
        // 5.19, and any kernel. Not DEFER_TASKRUN (6.1): the descriptor of such a ring, which a runtime waits for that
        // another device blocks, stays silent for good when an operation ends in a worker of the kernel (seen on 6.18).
        for cooperative in [true, false] {
            let mut builder = IoUring::<S, C>::builder();
            builder.dontfork().setup_clamp();
            if is_polled {
                builder.setup_iopoll();
            }
            if cooperative {
                builder.setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
            }
            match builder.build(entries) {
                Ok(ring) => {
                    // So that it need not be looked up for each operation.
                    let held = ring.submitter().register_files(&[file]).is_ok();
                    return Ok(Ring { ring, held, is_polled, enters: 0 });
                }
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) && cooperative => {}
                Err(error) => {
                    let text = format!("io_uring cannot be used: {error} (a sandbox may forbid it)");
                    return Err(io::Error::new(error.kind(), text));
                }
            }
        }
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Whether the kernel holds the file: then operations name it as the first of the ring's.
    pub(super) fn holds(&self) -> bool {
        self.held
    }

    pub(super) fn is_polled(&self) -> bool {
        self.is_polled
    }

    pub(super) fn submitter(&self) -> io_uring::Submitter<'_> {
        self.ring.submitter()
    }

    /// Hands an operation in; it reaches the kernel with the next [`enter`](Self::enter). The queue has as many places as
    /// operations may be under way.
    ///
    /// # Safety
    /// The memory that the operation names stays valid, and nobody else's as far as the kernel writes it, until the
    /// operation's completion has been [taken](Self::next). Lists of pieces stay until the kernel has been entered.
    pub(super) unsafe fn push(&mut self, entry: &S) -> bool {
        // SAFETY: the caller keeps the operation's memory until its completion, and lists until the kernel has been
        // entered.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// How many operations are waiting to be submitted.
    pub(super) fn waiting(&mut self) -> usize {
        self.ring.submission().len()
    }

    /// Whether something is waiting to be submitted, or the kernel asks to be entered.
    pub(super) fn wants_enter(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// Submits what is waiting, and lets the kernel do what it has put off.
    pub(super) fn enter(&mut self) {
        self.enters += 1;
        let waiting = self.ring.submission().len() as u32;
        let flags = io_uring::EnterFlags::GETEVENTS.bits();
        // SAFETY: there is no argument; the submissions' memory is valid by the contract of `push`.
        let result = unsafe { self.ring.submitter().enter::<libc::sigset_t>(waiting, 0, flags, None) };
        report(result.map(drop));
    }

    /// Submits, and waits for a completion, at most for so long.
    pub(super) fn wait(&mut self, most: Duration) {
        if self.is_polled {
            // The kernel would not look at the time.
            self.enter();
            return std::thread::yield_now();
        }
        let time = types::Timespec::from(most);
        let arguments = types::SubmitArgs::new().timespec(&time);
        report(self.ring.submitter().submit_with_args(1, &arguments).map(drop));
    }

    /// Takes the next completion: its `user_data` and result.
    pub(super) fn next(&mut self) -> Option<(u64, i32)> {
        self.ring.completion().next().map(|entry| {
            let entry: cqueue::Entry = entry.into();
            (entry.user_data(), entry.result())
        })
    }
}

impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> Drop for Ring<S, C> {
    /// The kernel takes a ring apart some time after it was closed; the file, and with it the lock, is let go of now.
    fn drop(&mut self) {
        let _ = self.ring.submitter().unregister_files();
    }
}

fn report(result: io::Result<()>) {
    let Err(error) = result else { return };
    // A signal; the time is over; the kernel is short of memory for a moment. What was not submitted stays in the queue.
    if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN)) {
        tracing::error!(%error, "io_uring_enter");
    }
}

impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> AsRawFd for Ring<S, C> {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}
