//! Work for threads: calls that may block, and how their results come back.
//!
//! A job's memory and its promise stay in a table here; the thread gets plain pointers and a number. It
//! leaves its result in a list and signals an eventfd, which epoll watches. So a job whose operation was
//! cancelled keeps its buffers until its thread is done with them.

use crate::buffer::Sga;
use crate::executor::EventFd;
use slab::Slab;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// What a thread gives back.
pub(super) enum Outcome {
    /// The return value of a call.
    Number(io::Result<usize>),
    Opened(io::Result<OwnedFd>),
    /// The thread has failed, and nothing is known.
    Lost,
}

/// What is shared with the threads.
struct Shared {
    finished: Mutex<VecDeque<(usize, Outcome)>>,
    /// Whether `finished` has anything in it, to be looked at without the lock. Changed under the lock, which
    /// also orders what is in the list.
    any: AtomicBool,
    one_finished: Condvar,
    eventfd: EventFd,
    /// The buffer pool, which also calls from other threads, has memory again.
    memory: AtomicBool,
}

impl Shared {
    fn finished(&self) -> MutexGuard<'_, VecDeque<(usize, Outcome)>> {
        // Nothing that can panic leaves the list half changed.
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, number: usize, outcome: Outcome) {
        let mut finished = self.finished();
        finished.push_back((number, outcome));
        self.any.store(true, Ordering::Relaxed);
        let first = finished.len() == 1;
        drop(finished);
        self.one_finished.notify_one();
        // Whoever made the list non-empty has signalled, and all of it is taken at once.
        if first {
            self.eventfd.signal();
        }
    }
}

/// Called by the buffer pool.
impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.memory.store(true, Ordering::Release);
        self.eventfd.signal();
    }
}

/// The jobs of a device, each with a `J` that says what to do with the result.
pub(super) struct Jobs<J> {
    shared: Arc<Shared>,
    table: RefCell<Slab<J>>,
    memory_waker: Waker,
}

impl<J> Jobs<J> {
    pub(super) fn new() -> io::Result<Jobs<J>> {
        let shared = Arc::new(Shared {
            finished: Mutex::default(),
            any: AtomicBool::new(false),
            one_finished: Condvar::new(),
            eventfd: EventFd::new()?,
            memory: AtomicBool::new(false),
        });
        let memory_waker = Waker::from(shared.clone());
        Ok(Jobs { shared, table: RefCell::default(), memory_waker })
    }

    /// Has `run` called on a thread. `job` keeps alive what it uses, and comes back with its result.
    pub(super) fn start(&self, job: J, run: impl FnOnce() -> Outcome + Send + 'static) {
        let number = self.table.borrow_mut().insert(job);
        let report = Report { shared: self.shared.clone(), number, outcome: None };
        let run = move || {
            let mut report = report;
            report.outcome = Some(run());
        };
        crate::blocking::unblock(run).detach();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.borrow().is_empty()
    }

    /// Whether a job is finished. One that finishes just now may not be seen yet; its signal is.
    #[inline]
    pub(super) fn has_finished(&self) -> bool {
        self.shared.any.load(Ordering::Relaxed)
    }

    /// The next job that is finished.
    pub(super) fn take(&self) -> Option<(J, Outcome)> {
        let mut finished = self.shared.finished();
        let next = finished.pop_front();
        self.shared.any.store(!finished.is_empty(), Ordering::Relaxed);
        drop(finished);
        let (number, outcome) = next?;
        let job = self.table.borrow_mut().remove(number);
        Some((job, outcome))
    }

    /// Blocks until a job is finished.
    pub(super) fn wait(&self) {
        let mut finished = self.shared.finished();
        while finished.is_empty() {
            finished = self.shared.one_finished.wait(finished).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// For the buffer pool, to tell that it has memory again.
    pub(super) fn memory_waker(&self) -> &Waker {
        &self.memory_waker
    }

    /// Whether the pool has told since the last call.
    pub(super) fn take_memory_back(&self) -> bool {
        self.shared.memory.load(Ordering::Relaxed) && self.shared.memory.swap(false, Ordering::Acquire)
    }
}

impl<J> AsRawFd for Jobs<J> {
    fn as_raw_fd(&self) -> RawFd {
        self.shared.eventfd.as_raw_fd()
    }
}

/// Brings back the result of a job, come what may: whoever waits for it would wait for ever.
struct Report {
    shared: Arc<Shared>,
    number: usize,
    outcome: Option<Outcome>,
}

impl Drop for Report {
    fn drop(&mut self) {
        self.shared.finish(self.number, self.outcome.take().unwrap_or(Outcome::Lost));
    }
}

/// Memory of buffers, for a thread to read or write.
pub(super) struct Memory(Vec<libc::iovec>);

// SAFETY: plain addresses. Whoever uses them is told when that is sound, see `of_data` and `of_room`.
unsafe impl Send for Memory {}

impl Memory {
    /// The bytes of `data`. They may be read while `data` lives: buffers do not move their bytes, and nobody
    /// writes to them.
    pub(super) fn of_data(data: &Sga) -> Memory {
        let piece =
            |piece: &[u8]| libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() };
        Memory(data.iter().map(|buffer| piece(buffer)).collect())
    }

    /// Room for bytes. It may be written to while whoever it belongs to lives and leaves it alone.
    pub(super) fn of_room(room: &mut [std::mem::MaybeUninit<u8>]) -> Memory {
        Memory(vec![libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() }])
    }

    pub(super) fn pieces(&mut self) -> &mut [libc::iovec] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(outcome: &Outcome) -> Option<usize> {
        match outcome {
            Outcome::Number(Ok(number)) => Some(*number),
            _ => None,
        }
    }

    #[test]
    fn every_job_comes_back_once_with_its_result() {
        let jobs = Jobs::<usize>::new().unwrap();
        for number in 0..100 {
            jobs.start(number, move || Outcome::Number(Ok(number * 2)));
        }
        let mut seen = [false; 100];
        for _ in 0..100 {
            let (job, outcome) = loop {
                match jobs.take() {
                    Some(finished) => break finished,
                    None => jobs.wait(),
                }
            };
            assert_eq!(number(&outcome), Some(job * 2));
            assert!(!std::mem::replace(&mut seen[job], true));
        }
        assert!(jobs.is_empty() && jobs.take().is_none());
    }

    #[test]
    fn a_job_that_panics_comes_back_too() {
        let jobs = Jobs::<()>::new().unwrap();
        jobs.start((), || panic!("expected by the test"));
        jobs.wait();
        let (_, outcome) = jobs.take().unwrap();
        assert!(matches!(outcome, Outcome::Lost));
    }

    #[test]
    fn the_pool_is_heard_from_any_thread() {
        let jobs = Jobs::<()>::new().unwrap();
        assert!(!jobs.take_memory_back());
        let waker = jobs.memory_waker().clone();
        std::thread::spawn(move || waker.wake()).join().unwrap();
        assert!(jobs.take_memory_back());
        assert!(!jobs.take_memory_back());
        assert!(jobs.shared.eventfd.clear(), "the wait is ended");
    }
}
