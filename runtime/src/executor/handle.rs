//! Spawning on a runtime from other threads.

use super::context;
use super::core::Core;
use super::task::{JoinError, spawn};
use super::waker::contained;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub(super) type Job = Box<dyn FnOnce() + Send>;

/// What other threads want done on a core's thread.
pub(super) struct Inbox {
    /// `None` once the runtime has ended.
    jobs: Mutex<Option<Vec<Job>>>,
    outside: Arc<Outside>,
    core: CoreRef,
}

/// How much is done on other threads for a runtime, or for all those of a lockstep: see [`OutsideWork`].
#[derive(Debug, Default)]
pub(super) struct Outside(AtomicUsize);

impl Outside {
    pub(super) fn is_any(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }
}

/// A core that is only used through what is for every thread.
struct CoreRef(&'static Core);

// SAFETY: `Inbox` uses nothing of the core but `remote`, which every thread may.
unsafe impl Send for CoreRef {}
// SAFETY: as above.
unsafe impl Sync for CoreRef {}

impl Inbox {
    pub(super) fn new(core: &'static Core, outside: Arc<Outside>) -> Inbox {
        Inbox { jobs: Mutex::new(Some(Vec::new())), outside, core: CoreRef(core) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the job back if the runtime has ended.
    fn send(&self, job: Job) -> Result<(), Job> {
        match &mut *self.lock() {
            Some(jobs) => jobs.push(job),
            None => return Err(job),
        }
        self.core.0.remote.knock();
        Ok(())
    }

    /// Owner: runs what there is.
    pub(super) fn run(&self) {
        let jobs = self.lock().as_mut().map(std::mem::take);
        for job in jobs.into_iter().flatten() {
            job();
        }
    }

    /// Owner: whether something is done for the runtime on other threads.
    pub(super) fn has_outside_work(&self) -> bool {
        self.outside.is_any()
    }

    /// Owner: from now on nothing is taken.
    pub(super) fn close(&self) {
        let jobs = self.lock().take();
        for job in jobs.into_iter().flatten() {
            // It has what a user wants run, the drop of which may panic.
            if !contained(|| drop(job)) {
                tracing::error!(
                    "what was to be spawned on a runtime that has ended panicked when it was dropped"
                );
            }
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

/// Spawns tasks on a runtime from any thread. Does not keep the runtime alive.
///
/// ```
/// let runtime = demikernel_runtime::Runtime::new().unwrap();
/// let handle = runtime.handle();
/// let thread = std::thread::spawn(move || handle.spawn(async { 6 * 7 }));
/// let sum = runtime.block_on(async { thread.join().unwrap().await.unwrap() });
/// assert_eq!(sum, 42);
/// ```
#[derive(Clone, Debug)]
pub struct Handle {
    inbox: Arc<Inbox>,
}

impl Handle {
    pub(super) fn new(inbox: Arc<Inbox>) -> Handle {
        Handle { inbox }
    }

    /// Starts a task on the runtime's thread. If the runtime has ended, or ends before the task, the
    /// handle gives [`JoinError::is_cancelled`].
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> RemoteJoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        self.spawn_with(move || future)
    }

    /// Starts a task whose future is made on the runtime's thread, and so need not be `Send`.
    ///
    /// ```
    /// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
    /// use std::rc::Rc;
    /// let handle = demikernel_runtime::handle();
    /// let task = handle.spawn_with(|| async { *Rc::new(5) }); // an Rc could not be sent there
    /// assert_eq!(task.await.unwrap(), 5);
    /// # });
    /// ```
    #[track_caller]
    pub fn spawn_with<F, Fut>(&self, make: F) -> RemoteJoinHandle<Fut::Output>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future + 'static,
        Fut::Output: Send,
    {
        let (job, joint) = remote(make);
        self.send(job);
        joint
    }

    /// A job that is not taken is dropped, and with it the guard, which ends the joint.
    pub(super) fn send(&self, job: Job) {
        drop(self.inbox.send(job));
    }
}

/// What starts a task on the thread that runs it, and the other end of the task.
#[track_caller]
pub(super) fn remote<F, Fut>(make: F) -> (Job, RemoteJoinHandle<Fut::Output>)
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future + 'static,
    Fut::Output: Send,
{
    let location = Location::caller();
    let joint = Arc::new(Joint(Mutex::new(JoinState::Waiting { waker: None, abort: None })));
    let guard = JointGuard(joint.clone());
    let job = move || {
        // A panic of `make` is the task's.
        let task = context::current().spawn_at(async move { make().await }, location);
        spawn(async move {
            let ended = AbortableJoin { task, joint: guard.0.clone() }.await;
            guard.finish(ended);
        })
        .detach();
    };
    (Box::new(job), RemoteJoinHandle { joint })
}

impl Handle {
    /// Has the runtime do something between two turns, or at once if this thread is running it. The channel is closed
    /// without an answer when the runtime has ended.
    pub(crate) fn ask_later<T: Send + 'static>(
        &self,
        what: impl FnOnce() -> T + Send + 'static,
    ) -> async_channel::Receiver<T> {
        let (sender, receiver) = async_channel::bounded(1);
        // Whoever asked may not wait any more.
        let job = move || drop(sender.try_send(what()));
        if context::is_current(NonNull::from(self.inbox.core.0)) {
            job();
        } else {
            drop(self.inbox.send(Box::new(job)));
        }
        receiver
    }

    /// Has the runtime do something between two turns, and waits for what comes of it.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        patience: Duration,
        what: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        if context::is_current(NonNull::from(self.inbox.core.0)) {
            return Ok(what());
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        // Whoever has lost patience does not hear the answer.
        let job = move || drop(sender.send(what()));
        // A job that is not taken is dropped, and with it the sender.
        drop(self.inbox.send(Box::new(job)));
        receiver.recv_timeout(patience).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => {
                let text = format!("the runtime has not come to it within {patience:?}");
                io::Error::new(io::ErrorKind::TimedOut, text)
            }
            mpsc::RecvTimeoutError::Disconnected => {
                io::Error::new(io::ErrorKind::NotConnected, "the runtime has ended")
            }
        })
    }

    /// Says that another thread is at work for the runtime.
    pub(crate) fn outside_work(self) -> OutsideWork {
        self.inbox.outside.0.fetch_add(1, Ordering::Relaxed);
        OutsideWork(self.inbox)
    }
}

/// While it lives, something is done for a runtime on another thread: its virtual time stands still.
#[derive(Debug)]
pub(crate) struct OutsideWork(Arc<Inbox>);

impl Drop for OutsideWork {
    fn drop(&mut self) {
        self.0.outside.0.fetch_sub(1, Ordering::Release);
        // It may be blocked until this happens.
        self.0.core.0.remote.knock();
    }
}

enum JoinState<T> {
    Waiting { waker: Option<Waker>, abort: Option<Abort> },
    Ended(Option<Result<T, JoinError>>),
}

/// Wakes the task that watches over the join, or says that it need not start waiting.
enum Abort {
    Wake(Waker),
    Wanted,
}

struct Joint<T>(Mutex<JoinState<T>>);

impl<T> Joint<T> {
    fn lock(&self) -> MutexGuard<'_, JoinState<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, result: Result<T, JoinError>) {
        let before = {
            let mut state = self.lock();
            if matches!(*state, JoinState::Ended(_)) {
                return;
            }
            std::mem::replace(&mut *state, JoinState::Ended(Some(result)))
        };
        if let JoinState::Waiting { waker: Some(waker), .. } = before {
            waker.wake();
        }
    }
}

/// The runtime's side: whatever becomes of it, the joint ends.
struct JointGuard<T>(Arc<Joint<T>>);

impl<T> JointGuard<T> {
    fn finish(self, result: Result<T, JoinError>) {
        self.0.end(result);
    }
}

impl<T> Drop for JointGuard<T> {
    fn drop(&mut self) {
        self.0.end(Err(JoinError::cancelled()));
    }
}

/// Waits for a task, and passes an abort on to it.
struct AbortableJoin<T> {
    task: super::task::JoinHandle<T>,
    joint: Arc<Joint<T>>,
}

impl<T> Future for AbortableJoin<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let wanted = match &mut *self.joint.lock() {
            JoinState::Waiting { abort: Some(Abort::Wanted), .. } => true,
            JoinState::Waiting { abort, .. } => {
                *abort = Some(Abort::Wake(cx.waker().clone()));
                false
            }
            JoinState::Ended(_) => false,
        };
        if wanted {
            self.task.abort();
        }
        Pin::new(&mut self.task).poll(cx)
    }
}

/// Awaits a task that was spawned through a [`Handle`], on any thread and under any executor. Dropping it
/// lets the task run on.
///
/// ```
/// let runtime = demikernel_runtime::Runtime::new()?;
/// let task = runtime.handle().spawn(async { 5 });
/// assert!(!task.is_finished());
/// drop(runtime); // before it has run anything
/// assert!(futures::executor::block_on(task).unwrap_err().is_cancelled());
/// # std::io::Result::Ok(())
/// ```
#[must_use = "dropping the handle detaches the task"]
pub struct RemoteJoinHandle<T> {
    joint: Arc<Joint<T>>,
}

impl<T> RemoteJoinHandle<T> {
    /// Ends the task, unless it is done, as [`JoinHandle::abort`](super::JoinHandle::abort).
    pub fn abort(&self) {
        let wake = match &mut *self.joint.lock() {
            JoinState::Waiting { abort, .. } => abort.replace(Abort::Wanted),
            JoinState::Ended(_) => None,
        };
        if let Some(Abort::Wake(waker)) = wake {
            waker.wake();
        }
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        matches!(*self.joint.lock(), JoinState::Ended(_))
    }
}

impl<T> Future for RemoteJoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self.joint.lock() {
            JoinState::Waiting { waker, .. } => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            JoinState::Ended(result) => Poll::Ready(
                result.take().expect("a RemoteJoinHandle was polled after it had given its result"),
            ),
        }
    }
}

impl<T> fmt::Debug for RemoteJoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteJoinHandle").field("finished", &self.is_finished()).finish()
    }
}
