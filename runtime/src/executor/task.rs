//! Tasks: operations of the slab whose result is what a future returns.
//!
//! ```text
//!   spawn ─▶ Pending ──(1) poll gives Ready, or panics──▶ Done ──(3) handle awaited or dropped──▶ Free
//!               │  └───(2) polled with ABORT set─────────▶ Done
//!               └──(1),(2) with the handle gone ──────────────────────────────────────────────▶ Free
//!   (1) Core::poll_task   (2) Core::cancel_task   (3) JoinHandle::poll, JoinHandle::drop
//! ```
//!
//! The future lives in a cell of the [`TaskStore`](super::store::TaskStore); its output, or the payload of its
//! panic, later takes its place there. The slot's body has the pointer to the cell, the functions for the
//! future's type, and the joiner's waker.

use super::context;
use super::core::Core;
use super::page::Page;
use super::slot::{BODY_AT, FUTURE_AT, Kind, Slot, State};
use super::store::Place;
use super::waker::{self, contained, discard_stored, store_waker, wake_stored};
use futures_core::FusedFuture;
use std::alloc::Layout;
use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
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

type Payload = Box<dyn Any + Send>;

/// The body of a task's slot.
#[repr(C)]
pub(super) struct TaskBody {
    joiner: Option<Waker>,
    functions: &'static Functions,
    cell: *mut u8,
    location: &'static Location<'static>,
}

const _: () = assert!(size_of::<TaskBody>() <= FUTURE_AT - BODY_AT, "behind it is a small task's cell");

/// What differs by the type of a future.
struct Functions {
    /// Polls; on `Ready` the cell has the output in place of the future, on a panic the payload.
    poll: unsafe fn(NonNull<Slot>) -> Polled,
    drop_future: unsafe fn(*mut u8),
    drop_output: unsafe fn(*mut u8),
    place: Place,
    /// Of the future's type, for people.
    name: fn() -> &'static str,
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
        Place::of(larger(larger(future, output), Layout::new::<Payload>()))
    };
    const FUNCTIONS: &'static Functions = &Functions {
        poll: Self::poll,
        drop_future: drop_as::<F>,
        drop_output: drop_as::<F::Output>,
        place: Self::PLACE,
        name: std::any::type_name::<F>,
    };

    /// The cell of a task of this type; see `Slot` for why that of a small one is not read from the body.
    ///
    /// # Safety
    /// The slot is such a task's.
    #[inline(always)]
    unsafe fn cell(slot: NonNull<Slot>) -> *mut u8 {
        match Self::PLACE {
            Place::Slot => Slot::future_cell(slot),
            // SAFETY: a task's body is a `TaskBody`.
            _ => unsafe { (*slot.as_ref().body::<TaskBody>()).cell },
        }
    }

    /// Makes the context itself: then the compiler knows the waker wherever it has the future's `poll` inlined.
    ///
    /// # Safety
    /// The slot is a pending task of this type, which is not being polled, on the thread of its core.
    unsafe fn poll(slot: NonNull<Slot>) -> Polled {
        // SAFETY: the caller's slot is a task's of this type, so it came from a page.
        let (future, waker) = unsafe { (Self::cell(slot).cast::<F>(), waker::waker(slot)) };
        let mut cx = Context::from_waker(&waker);
        // SAFETY: a pending task's cell has the future, pinned there; the reference ends with the call.
        let poll = || unsafe { Pin::new_unchecked(&mut *future) }.poll(&mut cx);
        match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(Poll::Pending) => Polled::Pending,
            // SAFETY: the caller's slot is a task's of this type; its future is done, and not polled again.
            Ok(Poll::Ready(output)) => unsafe { Self::put_output(slot, output) },
            Err(panic) => {
                // SAFETY: dropped once. The first panic is the one that is reported.
                contained(|| unsafe { future.drop_in_place() });
                // SAFETY: the caller's slot is a task's, and the future was all that its cell had.
                unsafe { put_payload(slot, panic) }
            }
        }
    }

    /// Puts the output into the future's place.
    ///
    /// # Safety
    /// As for `poll`; and the future is not polled again.
    #[inline(always)]
    unsafe fn put_output(slot: NonNull<Slot>, output: F::Output) -> Polled {
        // SAFETY: the future is dropped once, in place; if its drop panics it is gone all the same. Then the
        // cell is free, and large enough for the output.
        unsafe {
            let cell = Self::cell(slot);
            match catch_unwind(AssertUnwindSafe(|| cell.cast::<F>().drop_in_place())) {
                Ok(()) => {
                    cell.cast::<F::Output>().write(output);
                    Polled::Ready
                }
                Err(panic) => {
                    contained(|| drop(output));
                    put_payload(slot, panic)
                }
            }
        }
    }
}

/// Room for both.
const fn larger(a: Layout, b: Layout) -> Layout {
    let size = if a.size() > b.size() { a.size() } else { b.size() };
    let align = if a.align() > b.align() { a.align() } else { b.align() };
    match Layout::from_size_align(size, align) {
        Ok(layout) => layout,
        Err(_) => panic!("a future of impossible size"),
    }
}

/// # Safety
/// The slot is a task's, on the thread of its core, and its cell has nothing any more.
#[cold]
unsafe fn put_payload(slot: NonNull<Slot>, panic: Payload) -> Polled {
    // SAFETY: a task's body is a `TaskBody`; every cell has room for a payload.
    unsafe { (*slot.as_ref().body::<TaskBody>()).cell.cast::<Payload>().write(panic) };
    Polled::Panicked
}

/// # Safety
/// The cell has a `T`, which nobody uses again.
unsafe fn drop_as<T>(cell: *mut u8) {
    // SAFETY: the cell has a `T`, as the caller says, who does not use it again.
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
    context::current().spawn_at(future, Location::caller())
}

impl TaskBody {
    pub(super) fn location(&self) -> &'static Location<'static> {
        self.location
    }

    pub(super) fn joiner(&self) -> Option<&Waker> {
        self.joiner.as_ref()
    }

    /// The type of the future.
    pub(super) fn name(&self) -> &'static str {
        (self.functions.name)()
    }
}

impl Core {
    /// `location` is where it is spawned, for people.
    #[inline]
    pub(super) fn spawn_at<F: Future + 'static>(
        &self,
        future: F,
        location: &'static Location<'static>,
    ) -> JoinHandle<F::Output> {
        let slot = self.allocate_slot(Kind::Task);
        let cell = self.store.allocate(slot, Of::<F>::PLACE);
        // SAFETY: slot and cell are new, and the cell is large enough for the future.
        unsafe {
            cell.cast::<F>().write(future);
            let it = slot.as_ref();
            it.flags.set(JOINED);
            let functions = Of::<F>::FUNCTIONS;
            it.body::<TaskBody>().write(TaskBody { joiner: None, functions, cell, location });
            self.spawned.set(self.spawned.get() + 1);
            self.spans.spawned(it.number.get(), functions.name, location);
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
        // SAFETY: a pending task's body is a `TaskBody` whose cell has the future.
        unsafe {
            let it = slot.as_ref();
            if it.flags.get() & ABORT != 0 {
                return self.cancel_task(slot);
            }
            let poll = || ((*it.body::<TaskBody>()).functions.poll)(slot);
            match self.spans.within(it.number.get(), poll) {
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
        // SAFETY: the caller's slot is a pending task's, which is not being polled; the future is dropped once, since
        // the state leaves `Pending`.
        unsafe {
            let body = slot.as_ref().body::<TaskBody>();
            let (cell, functions) = ((*body).cell, (*body).functions);
            match catch_unwind(AssertUnwindSafe(|| (functions.drop_future)(cell))) {
                Ok(()) => self.finish_task(slot, CANCELLED),
                Err(panic) => {
                    put_payload(slot, panic);
                    self.finish_task(slot, PANICKED);
                }
            }
        }
    }

    /// # Safety
    /// `slot` is a pending task of this core; its cell has the output if `outcome` is 0, the payload if it is
    /// `PANICKED`, and nothing if it is `CANCELLED`.
    #[inline]
    unsafe fn finish_task(&self, slot: NonNull<Slot>, outcome: u8) {
        // SAFETY: the caller's slot is a task's, so its body is a `TaskBody`; the flags now say of the cell what the
        // caller does.
        unsafe {
            let it = slot.as_ref();
            let body = it.body::<TaskBody>();
            it.state.set(State::Done);
            it.flags.set((it.flags.get() & JOINED) | outcome);
            self.spans.over(it.number.get());
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
        // SAFETY: a done task's body is a `TaskBody`; the flags say what its cell has.
        unsafe {
            let body = slot.as_ref().body::<TaskBody>();
            let _free = Free(self, slot);
            match slot.as_ref().flags.get() & (CANCELLED | PANICKED) {
                0 => ((*body).functions.drop_output)((*body).cell),
                PANICKED => drop_as::<Payload>((*body).cell),
                _ => {}
            }
        }
    }

    /// # Safety
    /// `slot` is a done task of this core whose cell and body have nothing that must be dropped.
    #[inline]
    unsafe fn free_task(&self, slot: NonNull<Slot>) {
        // SAFETY: the caller's slot is a done task's of this core, whose cell is from the store with this place;
        // nothing in it must be dropped.
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

    /// Gives the task a name, by which a [dump](crate::inspect::dump) shows it.
    ///
    /// ```
    /// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
    /// demikernel_runtime::spawn(std::future::pending::<()>()).named("sweeper").detach();
    /// assert_eq!(demikernel_runtime::dump().tasks[0].name.as_deref(), Some("sweeper"));
    /// # });
    /// ```
    #[must_use = "without `detach` or `await` it is not seen what becomes of the task"]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> JoinHandle<T> {
        if let Some(slot) = self.slot {
            // SAFETY: pages and cores are never freed; the handle is `!Send`, so this is the core's thread.
            unsafe { Page::of(slot).as_ref().core.as_ref() }.name_task(slot, name.into());
        }
        self
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
        // SAFETY: the caller's slot is a done task's, of which the handle has let go; the flags say what the cell has,
        // which is moved out before the cell is freed.
        unsafe {
            let it = slot.as_ref();
            let body = it.body::<TaskBody>();
            let end = match it.flags.get() & (CANCELLED | PANICKED) {
                0 => Ok((*body).cell.cast::<T>().read()),
                PANICKED => Err(JoinError::panicked((*body).cell.cast::<Payload>().read())),
                _ => Err(JoinError::cancelled()),
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
