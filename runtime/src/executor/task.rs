//! Tasks: operations of the slab whose result is what a future returns.
//!
//! ```text
//!   spawn ─▶ Pending ──(1) poll gives Ready, or panics──▶ Done ──(3) handle awaited or dropped──▶ Free
//!               │  └───(2) polled with ABORT set─────────▶ Done
//!               └──(1),(2) with the handle gone ──────────────────────────────────────────────▶ Free
//!   (1) Core::poll_task   (2) Core::cancel_task   (3) JoinHandle::poll, JoinHandle::drop
//! ```
//!
//! The future lives in a cell of the [`TaskStore`](super::store::TaskStore), and its output later takes its
//! place there. The slot's body has the pointer to the cell, the functions for the future's type, and the
//! joiner's waker.

use super::context;
use super::core::Core;
use super::page::Page;
use super::slot::{Kind, Slot, State};
use super::store::Place;
use super::waker::{self, contained, discard_stored, store_waker, wake_stored};
use futures_core::FusedFuture;
use std::alloc::Layout;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

/// The handle exists.
const JOINED: u8 = 1;
/// The future is to be dropped instead of polled.
const ABORT: u8 = 2;
/// How a `Done` task ended; neither means with an output.
const CANCELLED: u8 = 4;
const PANICKED: u8 = 8;
/// The cell is the slot's own.
const IN_SLOT: u8 = 16;

type Payload = Box<dyn Any + Send>;

/// The body of a task's slot.
#[repr(C)]
pub(super) struct TaskBody {
    joiner: Option<Waker>,
    cell: *mut u8,
    functions: &'static Functions,
    panic: Option<Payload>,
}

/// What differs by the type of a future.
struct Functions {
    /// Polls; on `Ready` the cell has the output in place of the future, on a panic it has nothing and the
    /// payload is put into the last argument.
    poll: unsafe fn(*mut u8, &mut Context<'_>, *mut Option<Payload>) -> Polled,
    drop_future: unsafe fn(*mut u8),
    drop_output: unsafe fn(*mut u8),
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Polled {
    Pending,
    Ready,
    Panicked,
}

struct Of<F>(PhantomData<F>);

impl<F: Future> Of<F> {
    const PLACE: Place = {
        let (future, output) = (Layout::new::<F>(), Layout::new::<F::Output>());
        let size = if future.size() > output.size() { future.size() } else { output.size() };
        let align = if future.align() > output.align() { future.align() } else { output.align() };
        match Layout::from_size_align(size, align) {
            Ok(layout) => Place::of(layout),
            Err(_) => panic!("a future of impossible size"),
        }
    };
    const FUNCTIONS: &'static Functions = &Functions {
        poll: Self::poll,
        drop_future: drop_as::<F>,
        drop_output: drop_as::<F::Output>,
        place: Self::PLACE,
    };

    /// # Safety
    /// The cell has the future, pinned there; the place for a payload is valid.
    unsafe fn poll(cell: *mut u8, cx: &mut Context<'_>, payload: *mut Option<Payload>) -> Polled {
        let future = cell.cast::<F>();
        // SAFETY: the caller's; the reference ends with the call.
        let polled = catch_unwind(AssertUnwindSafe(|| unsafe { Pin::new_unchecked(&mut *future) }.poll(cx)));
        let panic = match polled {
            Ok(Poll::Pending) => return Polled::Pending,
            Ok(Poll::Ready(output)) => {
                // SAFETY: the future is dropped once, in place. If its drop panics it is gone all the same.
                match catch_unwind(AssertUnwindSafe(|| unsafe { future.drop_in_place() })) {
                    Ok(()) => {
                        // SAFETY: the cell is free now, and large enough for the output.
                        unsafe { cell.cast::<F::Output>().write(output) };
                        return Polled::Ready;
                    }
                    Err(panic) => {
                        contained(|| drop(output));
                        panic
                    }
                }
            }
            Err(panic) => {
                // SAFETY: dropped once. The first panic is the one that is reported.
                contained(|| unsafe { future.drop_in_place() });
                panic
            }
        };
        // SAFETY: the caller's.
        unsafe { *payload = Some(panic) };
        Polled::Panicked
    }
}

/// # Safety
/// The cell has a `T`, which nobody uses again.
unsafe fn drop_as<T>(cell: *mut u8) {
    // SAFETY: the caller's.
    unsafe { cell.cast::<T>().drop_in_place() }
}

/// Starts a task on this thread's runtime. It runs when the present task next waits.
///
/// Allocates nothing once the runtime has had as many tasks as it ever has at once, for futures of up to
/// 4 KiB; one allocation for larger ones.
///
/// # Panics
/// Outside of a runtime.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let handle = demikernel_runtime::spawn(async { 6 * 7 });
/// assert_eq!(handle.await.unwrap(), 42);
/// # });
/// ```
#[inline]
#[track_caller]
pub fn spawn<F: Future + 'static>(future: F) -> JoinHandle<F::Output> {
    context::current().spawn(future)
}

impl Core {
    #[inline]
    pub(super) fn spawn<F: Future + 'static>(&self, future: F) -> JoinHandle<F::Output> {
        let slot = self.allocate_slot(Kind::Task);
        let cell = self.store.allocate(slot, Of::<F>::PLACE);
        // SAFETY: slot and cell are new, and the cell is large enough for the future.
        unsafe {
            cell.cast::<F>().write(future);
            let it = slot.as_ref();
            it.flags.set(if matches!(Of::<F>::PLACE, Place::Slot) { JOINED | IN_SLOT } else { JOINED });
            let functions = Of::<F>::FUNCTIONS;
            it.body::<TaskBody>().write(TaskBody { joiner: None, cell, functions, panic: None });
            self.wake_local(Page::of(slot), Page::bit(slot));
            if self.closing() {
                self.cancel_task(slot);
            }
        }
        JoinHandle { slot: Some(slot), _output: PhantomData }
    }

    /// Runs a task once.
    ///
    /// # Safety
    /// `slot` is a pending task of this core, the core is current, and the task is not being polled.
    #[inline]
    pub(super) unsafe fn poll_task(&self, slot: NonNull<Slot>) {
        // SAFETY: a pending task's body is a `TaskBody` whose cell has the future; the copies of its fields
        // stay good, since only this function's end frees them.
        unsafe {
            let it = slot.as_ref();
            if it.flags.get() & ABORT != 0 {
                return self.cancel_task(slot);
            }
            let body = it.body::<TaskBody>();
            let functions = (*body).functions;
            // Not read from the body: see `Slot`.
            let in_slot = it.flags.get() & IN_SLOT != 0;
            let cell = if in_slot { Slot::inline_cell(slot) } else { (*body).cell };
            let waker = waker::waker(slot);
            match (functions.poll)(cell, &mut Context::from_waker(&waker), &raw mut (*body).panic) {
                Polled::Pending => {}
                Polled::Ready => self.finish_task(slot, 0),
                Polled::Panicked => self.finish_task(slot, PANICKED),
            }
        }
    }

    /// Drops a task's future, and ends the task.
    ///
    /// # Safety
    /// As for `poll_task`.
    pub(super) unsafe fn cancel_task(&self, slot: NonNull<Slot>) {
        // SAFETY: the caller's; the future is dropped once, since the state leaves `Pending`.
        unsafe {
            let body = slot.as_ref().body::<TaskBody>();
            let (cell, functions) = ((*body).cell, (*body).functions);
            match catch_unwind(AssertUnwindSafe(|| (functions.drop_future)(cell))) {
                Ok(()) => self.finish_task(slot, CANCELLED),
                Err(panic) => {
                    (&raw mut (*body).panic).replace(Some(panic));
                    self.finish_task(slot, PANICKED);
                }
            }
        }
    }

    /// # Safety
    /// `slot` is a pending task of this core; its cell has the output if `outcome` is 0, and nothing
    /// otherwise.
    #[inline]
    unsafe fn finish_task(&self, slot: NonNull<Slot>, outcome: u8) {
        // SAFETY: the caller's.
        unsafe {
            let it = slot.as_ref();
            let body = it.body::<TaskBody>();
            it.state.set(State::Done);
            it.flags.set((it.flags.get() & (JOINED | IN_SLOT)) | outcome);
            if it.flags.get() & JOINED != 0 {
                wake_stored(&raw mut (*body).joiner);
            } else if !contained(|| self.discard_task(slot)) {
                tracing::error!("the output of a detached task panicked when it was dropped");
            }
        }
    }

    /// Frees a task, and drops what it returned.
    ///
    /// # Safety
    /// `slot` is a done task of this core without a handle.
    unsafe fn discard_task(&self, slot: NonNull<Slot>) {
        /// Frees even if the output's drop panics.
        struct Free<'a>(&'a Core, NonNull<Slot>);
        impl Drop for Free<'_> {
            fn drop(&mut self) {
                // SAFETY: what the cell had is gone, by the function around this.
                unsafe { self.0.free_task(self.1) }
            }
        }
        // SAFETY: a done task's body is a `TaskBody`; without an outcome flag its cell has the output.
        unsafe {
            let body = slot.as_ref().body::<TaskBody>();
            let _free = Free(self, slot);
            drop((&raw mut (*body).panic).replace(None));
            if slot.as_ref().flags.get() & (CANCELLED | PANICKED) == 0 {
                ((*body).functions.drop_output)((*body).cell);
            }
        }
    }

    /// # Safety
    /// `slot` is a done task of this core whose cell and body have nothing that must be dropped.
    #[inline]
    unsafe fn free_task(&self, slot: NonNull<Slot>) {
        // SAFETY: the caller's.
        unsafe {
            let body = slot.as_ref().body::<TaskBody>();
            self.store.free((*body).cell, (*body).functions.place);
            Slot::release(slot);
        }
    }
}

/// Awaits a task's end; made by [`spawn`].
///
/// Dropping the handle lets the task run on, as with threads. [`abort`](Self::abort) ends it early.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let task = demikernel_runtime::spawn(async { "done" });
/// assert!(!task.is_finished());
/// assert_eq!(task.await.unwrap(), "done");
/// # });
/// ```
pub struct JoinHandle<T> {
    slot: Option<NonNull<Slot>>,
    _output: PhantomData<(*const (), T)>,
}

impl<T> Unpin for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// Ends the task: its future is dropped before anything else of it runs, unless it is done. The
    /// handle then gives [`JoinError::is_cancelled`].
    ///
    /// ```
    /// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
    /// let task = demikernel_runtime::spawn(std::future::pending::<()>());
    /// task.abort();
    /// assert!(task.await.unwrap_err().is_cancelled());
    /// # });
    /// ```
    pub fn abort(&self) {
        let Some(slot) = self.slot else { return };
        // SAFETY: the handle keeps the slot a task, and is on its thread. Waking goes through the waker
        // because the core may not be running.
        unsafe {
            let it = slot.as_ref();
            if it.state.get() == State::Pending {
                it.flags.set(it.flags.get() | ABORT);
                waker::waker(slot).wake_by_ref();
            }
        }
    }

    /// Lets the task run on, as dropping the handle does.
    ///
    /// ```
    /// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
    /// let (sender, receiver) = demikernel_runtime::channel::oneshot();
    /// demikernel_runtime::spawn(async { sender.send(1) }).detach();
    /// assert_eq!(receiver.await, Ok(1));
    /// # });
    /// ```
    pub fn detach(self) {
        drop(self);
    }

    /// Whether the task has ended, by itself, by [`abort`](Self::abort) or by a panic.
    pub fn is_finished(&self) -> bool {
        // SAFETY: as in `abort`.
        self.slot.is_none_or(|slot| unsafe { slot.as_ref() }.state.get() == State::Done)
    }

    /// Takes the end of a task that is done.
    ///
    /// # Safety
    /// `slot` is this handle's, it is `Done`, and the handle has let go of it.
    #[inline]
    unsafe fn take(slot: NonNull<Slot>) -> Result<T, JoinError> {
        // SAFETY: the caller's; by the flags the cell has the output, which is moved out before the cell is
        // freed.
        unsafe {
            let it = slot.as_ref();
            let body = it.body::<TaskBody>();
            let end = match it.flags.get() & (CANCELLED | PANICKED) {
                0 => Ok((*body).cell.cast::<T>().read()),
                _ => Err(JoinError { panic: (&raw mut (*body).panic).replace(None) }),
            };
            Page::of(slot).as_ref().core.as_ref().free_task(slot);
            end
        }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let slot = self.slot.expect("a JoinHandle was polled after it had given its result");
        // SAFETY: the handle keeps the slot a task, and is on its thread; the body starts with the waker.
        unsafe {
            if slot.as_ref().state.get() == State::Done {
                self.slot = None;
                return Poll::Ready(Self::take(slot));
            }
            store_waker(slot, cx.waker());
        }
        Poll::Pending
    }
}

impl<T> FusedFuture for JoinHandle<T> {
    fn is_terminated(&self) -> bool {
        self.slot.is_none()
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        // SAFETY: as in `poll`; the handle goes away.
        unsafe {
            let it = slot.as_ref();
            it.flags.set(it.flags.get() & !JOINED);
            if it.state.get() == State::Done {
                Page::of(slot).as_ref().core.as_ref().discard_task(slot);
            } else {
                discard_stored(&raw mut (*it.body::<TaskBody>()).joiner);
            }
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("slot", &self.slot).field("finished", &self.is_finished()).finish()
    }
}

/// Why a task has no output: it was aborted (or its runtime ended), or it panicked.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let error = demikernel_runtime::spawn(async { panic!("no luck") }).await.unwrap_err();
/// assert!(error.is_panic());
/// assert_eq!(error.to_string(), "the task panicked: no luck");
/// # });
/// ```
pub struct JoinError {
    panic: Option<Payload>,
}

impl JoinError {
    pub(crate) fn cancelled() -> JoinError {
        JoinError { panic: None }
    }

    pub(crate) fn panicked(panic: Payload) -> JoinError {
        JoinError { panic: Some(panic) }
    }

    /// Whether the task was aborted, or its runtime ended before it.
    pub fn is_cancelled(&self) -> bool {
        self.panic.is_none()
    }

    /// Whether the task panicked.
    pub fn is_panic(&self) -> bool {
        self.panic.is_some()
    }

    /// The payload of the task's panic, for [`std::panic::resume_unwind`].
    ///
    /// # Errors
    /// Gives the error back if the task did not panic.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send>, JoinError> {
        self.panic.ok_or(JoinError { panic: None })
    }

    fn message(&self) -> Option<&str> {
        let panic = self.panic.as_ref()?;
        let text = panic.downcast_ref::<&str>().copied();
        text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_cancelled(), self.message()) {
            (true, _) => f.write_str("the task was cancelled"),
            (false, Some(message)) => write!(f, "the task panicked: {message}"),
            (false, None) => f.write_str("the task panicked"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl std::error::Error for JoinError {}

impl From<JoinError> for std::io::Error {
    fn from(error: JoinError) -> Self {
        std::io::Error::other(error.to_string())
    }
}

/// Lets every other ready task run before this one goes on.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// demikernel_runtime::yield_now().await;
/// # });
/// ```
#[inline]
pub fn yield_now() -> YieldNow {
    YieldNow(false)
}

/// The future of [`yield_now`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct YieldNow(bool);

impl Future for YieldNow {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
