//! Runtimes of one thread that somebody runs in turn, in one virtual time: what simulations are made of.
//!
//! A [`Runtime`] in [virtual time](super::Time::Virtual) moves its own clock. Several that talk to each other cannot: the
//! one that jumps first is ahead of what the others still have to say. Here whoever owns them has each do what it can
//! at the present time, and moves the time when all of them have.

use super::context::Entered;
use super::handle::Outside;
use super::idle::PollParker;
use super::remote::EventFd;
use super::runtime::{Builder, Runtime, VIRTUAL_START};
use super::task::JoinHandle;
use crate::inspect::Metrics;
use crate::time::clock::CurrentClock;
use crate::time::{Clock, Instant};
use crate::transport::{Parker, Transport, Turn};
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The time of runtimes that are run in turn, and what wakes them from other threads: one descriptor for all of them.
///
/// ```
/// use demikernel_runtime::{Lockstep, time};
/// use std::time::Duration;
///
/// let lockstep = Lockstep::new()?;
/// let (one, other) = (lockstep.runtime()?, lockstep.runtime()?);
/// let nap = one.spawn(async { time::sleep(Duration::from_secs(1)).await });
/// let answer = other.spawn(async move {
///     nap.await.unwrap(); // of the other runtime
///     time::Instant::now()
/// });
/// let start = lockstep.now();
/// while !answer.is_finished() {
///     while !(one.run() & other.run()) {}
///     let next = [&one, &other].into_iter().filter_map(|runtime| runtime.next_deadline()).min();
///     next.into_iter().for_each(|next| lockstep.advance_to(next));
///     one.run();
///     other.run();
/// }
/// assert_eq!(lockstep.now() - start, Duration::from_secs(1));
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct Lockstep(Rc<Shared>);

struct Shared {
    now: Cell<Instant>,
    eventfd: Arc<EventFd>,
    outside: Arc<Outside>,
    parker: PollParker,
}

impl Lockstep {
    /// A time that begins where virtual time does.
    ///
    /// # Errors
    /// If the kernel gives no descriptor for wake-ups.
    pub fn new() -> io::Result<Lockstep> {
        let eventfd = Arc::new(EventFd::new()?);
        let parker = PollParker::default();
        parker.watch(eventfd.as_raw_fd())?;
        let outside = Arc::default();
        Ok(Lockstep(Rc::new(Shared { now: Cell::new(VIRTUAL_START), eventfd, outside, parker })))
    }

    /// A runtime in this time, without any device.
    ///
    /// # Errors
    /// Those of [`Builder::build`].
    pub fn runtime(&self) -> io::Result<Stepped> {
        let shared = &self.0;
        let clock = Clock::virtual_at(self.now());
        let runtime = Builder::new().build_with(clock, shared.eventfd.clone(), shared.outside.clone());
        // From here on a wake by another thread, or by a task of another runtime, leaves word in the descriptor.
        runtime.core.remote.prepare_to_block();
        Ok(Stepped { runtime, lockstep: self.clone() })
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.0.now.get()
    }

    /// Moves the time forward, or leaves it where it is if it is past that. A runtime follows when it is next run.
    pub fn advance_to(&self, time: Instant) {
        self.0.now.set(self.now().max(time));
    }

    /// Whether a runtime has been woken, other than by itself, since the last call: by another one's task, or by another
    /// thread. [`Stepped::is_woken`] tells which. Costs no system call.
    pub fn take_woken(&self) -> bool {
        self.0.eventfd.take_signalled()
    }

    /// Whether another thread is at work for a task of any of the runtimes: time must not pass meanwhile.
    pub fn has_outside_work(&self) -> bool {
        self.0.outside.is_any()
    }

    /// Blocks the thread until a runtime is woken from another one, in real time; for at most `timeout`.
    ///
    /// # Errors
    /// Those of ppoll(2).
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        let parked = self.0.parker.park(timeout);
        self.0.eventfd.clear();
        parked
    }
}

impl fmt::Debug for Lockstep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lockstep").field("now", &self.now()).finish_non_exhaustive()
    }
}

/// A runtime of a [`Lockstep`]. Dropping it is as dropping a [`Runtime`].
#[derive(Debug)]
pub struct Stepped {
    runtime: Runtime,
    lockstep: Lockstep,
}

impl Stepped {
    /// Turns of one [`run`](Self::run), so that a runtime that is never done cannot keep the others from running.
    const TURNS: u32 = 64;

    /// Adds a device; see [`Runtime::attach`].
    pub fn attach(&self, transport: Transport) {
        self.runtime.attach(transport);
    }

    /// Starts a task, from outside of the runtime.
    #[track_caller]
    pub fn spawn<F: Future + 'static>(&self, future: F) -> JoinHandle<F::Output> {
        self.runtime.core.spawn_at(future, Location::caller())
    }

    /// Does what can be done at the present time, without blocking. `false` if there is more to do.
    ///
    /// # Panics
    /// On a thread that is running a runtime already.
    #[track_caller]
    pub fn run(&self) -> bool {
        let core = self.runtime.core;
        let _entered = Entered::new(core);
        // SAFETY: dropped when this function ends, which borrows the runtime and so keeps its core's clock.
        let _clock = unsafe { CurrentClock::enter(core.clock()) };
        core.clock().advance_to(self.lockstep.now());
        core.remote.unblocked();
        let mut is_done = false;
        for _ in 0..Self::TURNS {
            let any = self.turn();
            is_done = !any && !self.is_woken() && !self.is_due();
            if is_done {
                break;
            }
        }
        core.remote.prepare_to_block() && is_done
    }

    /// Returns whether a device has done something: then it may have more to do.
    fn turn(&self) -> bool {
        let (runtime, core) = (&self.runtime, self.runtime.core);
        let mut polls = 0;
        while polls < runtime.budget {
            // SAFETY: the core is current, as `run` has entered it, and `run` does not nest.
            match unsafe { core.run_next_page() } {
                0 => break,
                ran => polls += ran,
            }
        }
        core.turns.set(core.turns.get() + 1);
        core.spans.look();
        if core.remote.pending() {
            runtime.take_remote();
        }
        core.hand_back();
        let turn = if core.is_ready() { Turn::Busy } else { Turn::Idle };
        let devices = (0..).map_while(|index| core.device(index));
        let any = devices.fold(false, |any, device| device.poll(turn) | any);
        core.expire_timers();
        core.hand_back() | any
    }

    fn is_due(&self) -> bool {
        self.next_deadline().is_some_and(|deadline| deadline <= self.lockstep.now())
    }

    /// Whether a task is ready.
    pub fn is_woken(&self) -> bool {
        let core = self.runtime.core;
        core.is_ready() || core.remote.pending() || core.untaken.is_any()
    }

    /// Whether there is a [`Handle`](crate::Handle) by which another thread may spawn on it at any time.
    pub fn has_handles(&self) -> bool {
        self.runtime.has_handles()
    }

    /// When a timer or a device of it is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.runtime.core.next_deadline().map(Instant::from_nanos)
    }

    /// Tasks, and other operations, that are not done.
    pub fn pending(&self) -> (usize, usize) {
        self.runtime.core.pending()
    }

    /// See [`Runtime::metrics`].
    pub fn metrics(&self) -> Metrics {
        self.runtime.metrics()
    }
}

impl Drop for Stepped {
    fn drop(&mut self) {
        let core = self.runtime.core;
        core.remote.unblocked();
        core.clock().advance_to(self.lockstep.now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::sleep;
    use crate::{spawn, spawn_blocking, yield_now};

    /// Runs all until none of them has anything to do but to wait for a time.
    fn settle(lockstep: &Lockstep, runtimes: &[&Stepped]) {
        while !runtimes.iter().fold(true, |done, runtime| runtime.run() & done) || lockstep.take_woken() {}
    }

    #[test]
    fn runtimes_have_one_time_which_passes_when_told() {
        let lockstep = Lockstep::new().unwrap();
        let (one, other) = (lockstep.runtime().unwrap(), lockstep.runtime().unwrap());
        let start = lockstep.now();
        let later = one.spawn(async {
            sleep(Duration::from_millis(5)).await;
            Instant::now()
        });
        settle(&lockstep, &[&one, &other]);
        let due = start.saturating_add(Duration::from_millis(5));
        assert_eq!((one.next_deadline(), other.next_deadline()), (Some(due), None));
        lockstep.advance_to(due);
        settle(&lockstep, &[&one, &other]);
        let seen = other.spawn(async { (Instant::now(), later.await.unwrap()) });
        settle(&lockstep, &[&one, &other]);
        assert!(seen.is_finished());
        let both = other.spawn(async move { assert_eq!(seen.await.unwrap(), (due, due)) });
        settle(&lockstep, &[&other]);
        assert!(both.is_finished());
    }

    #[test]
    fn a_task_of_one_wakes_that_of_another() {
        let lockstep = Lockstep::new().unwrap();
        let (one, other) = (lockstep.runtime().unwrap(), lockstep.runtime().unwrap());
        let (sender, receiver) = futures::channel::oneshot::channel();
        let waits = one.spawn(receiver);
        assert!(one.run() && !lockstep.take_woken() && !one.is_woken());
        other.spawn(async move { sender.send(7).unwrap() }).detach();
        assert!(other.run() && lockstep.take_woken() && one.is_woken());
        assert!(one.run() && waits.is_finished() && !lockstep.take_woken());
    }

    #[test]
    fn work_of_other_threads_is_known_and_waited_for() {
        let lockstep = Lockstep::new().unwrap();
        let runtime = lockstep.runtime().unwrap();
        let work = runtime.spawn(async {
            spawn_blocking(|| std::thread::sleep(Duration::from_millis(20))).await.unwrap();
        });
        assert!(runtime.run() && lockstep.has_outside_work());
        while !work.is_finished() {
            lockstep.wait(None).unwrap();
            runtime.run();
        }
        // The thread has told of its result, and then ends, which it tells of as well.
        while lockstep.has_outside_work() {
            lockstep.wait(None).unwrap();
        }
    }

    #[test]
    fn a_thread_may_spawn_by_a_handle() {
        let lockstep = Lockstep::new().unwrap();
        let runtime = lockstep.runtime().unwrap();
        assert!(!runtime.has_handles());
        let asks = runtime.spawn(async {
            let handle = crate::handle();
            std::thread::spawn(move || handle.spawn(async { 7 })).join().unwrap().await.unwrap()
        });
        runtime.run();
        assert!(asks.is_finished() && !runtime.has_handles());
        let (sender, receiver) = std::sync::mpsc::channel();
        runtime.spawn(async move { sender.send(crate::handle()).unwrap() }).detach();
        runtime.run();
        let handle = receiver.recv().unwrap();
        assert!(runtime.has_handles());
        let spawned = std::thread::spawn(move || handle.spawn(async { 8 })).join().unwrap();
        assert!(lockstep.take_woken() && runtime.is_woken() && runtime.run());
        assert!(spawned.is_finished() && !runtime.has_handles());
    }

    #[test]
    fn one_that_is_never_done_lets_others_run() {
        let lockstep = Lockstep::new().unwrap();
        let runtime = lockstep.runtime().unwrap();
        runtime
            .spawn(async {
                loop {
                    yield_now().await;
                }
            })
            .detach();
        assert!(!runtime.run() && !runtime.run());
    }

    #[test]
    fn dropping_one_drops_its_tasks() {
        let lockstep = Lockstep::new().unwrap();
        let token = Rc::new(());
        let runtime = lockstep.runtime().unwrap();
        let inside = token.clone();
        let task = runtime.spawn(async move {
            let kept = inside.clone();
            spawn(std::future::pending::<()>()).await.unwrap();
            drop((inside, kept));
        });
        runtime.run();
        drop(runtime);
        assert_eq!(Rc::strong_count(&token), 1);
        assert!(task.is_finished());
    }
}
