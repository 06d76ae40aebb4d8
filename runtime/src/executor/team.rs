//! The cores of a program, for each other: spawning on one from another.
//!
//! A core's seat is there before its runtime is: what is to be spawned on it waits there until then. So nobody waits for the
//! slowest core to start, which a device's making may take the others' help for (an address by DHCP).

use super::cores::core_count;
use super::handle::{Handle, Job, RemoteJoinHandle, remote};
use super::{context, handle};
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The seats of all cores.
#[derive(Debug)]
pub(super) struct Team(Mutex<Vec<Seat>>);

enum Seat {
    /// Its runtime is being made; these wait for it.
    Starting(Vec<Job>),
    Running(Handle),
    Ended,
}

thread_local! {
    /// The team of this core's thread.
    static TEAM: RefCell<Option<Arc<Team>>> = const { RefCell::new(None) };
}

impl Team {
    pub(super) fn new(cores: usize) -> Arc<Team> {
        Arc::new(Team(Mutex::new((0..cores).map(|_| Seat::Starting(Vec::new())).collect())))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Seat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the job done on a core. One that has ended drops it, and so tells who waits for it.
    fn send(&self, core: usize, job: Job) {
        let handle = match &mut self.lock()[core] {
            Seat::Starting(jobs) => return jobs.push(job),
            Seat::Running(handle) => handle.clone(),
            Seat::Ended => return,
        };
        handle.send(job);
    }

    fn replace(&self, core: usize, seat: Seat) -> Seat {
        std::mem::replace(&mut self.lock()[core], seat)
    }

    /// The core will never run.
    pub(super) fn give_up(&self, core: usize) {
        // Dropped with nothing locked: what a user wants run may send further.
        drop(self.replace(core, Seat::Ended));
    }
}

/// A core's seat, for its thread.
pub(super) struct Seated {
    team: Arc<Team>,
    core: usize,
}

impl Seated {
    /// On the core's thread, before its runtime is made.
    pub(super) fn new(team: &Arc<Team>, core: usize) -> Seated {
        TEAM.set(Some(team.clone()));
        Seated { team: team.clone(), core }
    }

    /// The runtime is there: it is given what has waited for it.
    pub(super) fn runs(&self, handle: &Handle) {
        // Locked until they are sent, so that each is sent once. Nothing of a user's runs meanwhile: the runtime takes them.
        let mut seats = self.team.lock();
        if let Seat::Starting(jobs) = std::mem::replace(&mut seats[self.core], Seat::Running(handle.clone()))
        {
            jobs.into_iter().for_each(|job| handle.send(job));
        }
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        TEAM.set(None);
        self.team.give_up(self.core);
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Seat::Starting(_) => "Starting",
            Seat::Running(_) => "Running",
            Seat::Ended => "Ended",
        })
    }
}

/// Starts a task on another core of the program, or on this one. The future is made there, and so need not be `Send`; what
/// makes it does, and what it gives.
///
/// Tasks that are started together may begin in any order, there as here. If the core's program has ended, or ends before the
/// task, the handle gives [`JoinError::is_cancelled`](super::JoinError::is_cancelled).
///
/// ```
/// use demikernel_runtime::{core_count, core_index, run_on_cores, spawn_on};
///
/// let results = run_on_cores(
///     2,
///     |builder| builder.build(),
///     async || {
///         if core_index() == 1 {
///             return std::future::pending().await; // until core 0 is done
///         }
///         let other = spawn_on(1, || async { core_index() }).await.unwrap();
///         Err::<(), usize>(core_count() * 10 + other) // what is taken for a failure ends the others
///     },
///     Result::is_err,
/// );
/// assert_eq!(results[0].as_ref().unwrap(), &Some(Err(21)));
/// ```
///
/// # Panics
/// If there is no such core; outside of a runtime.
#[track_caller]
pub fn spawn_on<F, Fut>(core: usize, make: F) -> RemoteJoinHandle<Fut::Output>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future + 'static,
    Fut::Output: Send,
{
    let count = core_count();
    assert!(core < count, "there is no core {core}: the program has {count}");
    let team = if count > 1 { TEAM.with_borrow(Clone::clone) } else { None };
    match team {
        Some(team) => {
            let (job, joint) = remote(make);
            team.send(core, job);
            joint
        }
        // Alone, or one of several that somebody else keeps together.
        None => {
            let own = context::current().index.get();
            assert!(core == own || count == 1, "core {core} was not started with this one");
            handle().spawn_with(make)
        }
    }
}
