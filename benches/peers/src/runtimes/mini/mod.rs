//! A bare executor, written by hand: the floor that a real one can be compared with.
//!
//! One allocation per task, an intrusive FIFO run queue, a static waker vtable, a timer wheel; no panic
//! handling, no abort, no wake from another thread, no I/O. Two variants:
//!
//! - `ATOMIC = false`: counts and states are plain loads and stores. Unsound if a waker leaves the thread, so
//!   it is no executor for anybody, only the least that one could cost.
//! - `ATOMIC = true`: the same with atomic operations and a check of the thread: the price of a sound `Waker`
//!   in this design.

mod wheel;

use super::{Runtime, monoio::LocalSync};
use std::cell::{Cell, UnsafeCell};
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

/// The bare executor.
pub struct Mini<const ATOMIC: bool>;

impl<const ATOMIC: bool> Runtime for Mini<ATOMIC> {
    type Channel = LocalSync;

    fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
        run::<ATOMIC, _>(future)
    }

    fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> impl Future<Output = T> + 'static {
        spawn::<ATOMIC, _>(future)
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
        wheel::sleep(duration)
    }
}

/// In the run queue, or about to be polled.
const SCHEDULED: u32 = 1;
/// The output is there, or taken already.
const DONE: u32 = 2;

/// What the queue and the wakers see of a task. It lives as long as `references` is not zero: one for the
/// run queue's entry, one for the `Join`, one for each waker.
struct Header {
    poll: unsafe fn(*const Header),
    deallocate: unsafe fn(*const Header),
    references: AtomicU32,
    state: AtomicU32,
    owner: usize,
    next: Cell<*const Header>,
}

#[repr(C)]
struct Task<F: Future> {
    header: Header,
    joiner: UnsafeCell<Option<Waker>>,
    stage: UnsafeCell<Stage<F>>,
}

enum Stage<F: Future> {
    Running(F),
    Finished(F::Output),
    Taken,
}

struct Queue {
    head: Cell<*const Header>,
    tail: Cell<*const Header>,
}

thread_local! {
    static QUEUE: Queue = const { Queue { head: Cell::new(ptr::null()), tail: Cell::new(ptr::null()) } };
}

/// An address that is this thread's only.
#[inline(always)]
fn this_thread() -> usize {
    QUEUE.with(|queue| ptr::from_ref(queue).addr())
}

/// # Safety
/// `task` is alive, and one of its references goes to the queue.
#[inline(always)]
unsafe fn push(task: *const Header) {
    QUEUE.with(|queue| {
        let tail = queue.tail.replace(task);
        // SAFETY: the caller vouches for `task`; a queued task is kept alive by the queue's reference.
        unsafe {
            (*task).next.set(ptr::null());
            if tail.is_null() {
                queue.head.set(task);
            } else {
                (*tail).next.set(task);
            }
        }
    })
}

/// The oldest task with the queue's reference to it, or null.
#[inline(always)]
fn pop() -> *const Header {
    QUEUE.with(|queue| {
        let task = queue.head.get();
        if !task.is_null() {
            // SAFETY: a queued task is kept alive by the queue's reference.
            let next = unsafe { (*task).next.get() };
            queue.head.set(next);
            if next.is_null() {
                queue.tail.set(ptr::null());
            }
        }
        task
    })
}

impl Header {
    #[inline(always)]
    fn acquire<const ATOMIC: bool>(&self) {
        if ATOMIC {
            self.references.fetch_add(1, Relaxed);
        } else {
            self.references.store(self.references.load(Relaxed) + 1, Relaxed);
        }
    }

    /// True when it was the last reference.
    #[inline(always)]
    fn release<const ATOMIC: bool>(&self) -> bool {
        if ATOMIC {
            self.references.fetch_sub(1, AcqRel) == 1
        } else {
            let references = self.references.load(Relaxed);
            self.references.store(references - 1, Relaxed);
            references == 1
        }
    }

    /// True when the task was not scheduled before and is now.
    #[inline(always)]
    fn schedule<const ATOMIC: bool>(&self) -> bool {
        if ATOMIC {
            assert_eq!(self.owner, this_thread(), "this executor has no wake from another thread");
            return self.state.fetch_or(SCHEDULED, AcqRel) & (SCHEDULED | DONE) == 0;
        }
        let state = self.state.load(Relaxed);
        if state & (SCHEDULED | DONE) != 0 {
            return false;
        }
        self.state.store(state | SCHEDULED, Relaxed);
        true
    }
}

/// The functions of a waker whose data is a `*const Header` with one reference.
struct Vtable<const ATOMIC: bool>;

impl<const ATOMIC: bool> Vtable<ATOMIC> {
    const VTABLE: RawWakerVTable =
        RawWakerVTable::new(Self::clone, Self::wake, Self::wake_by_ref, Self::drop);

    unsafe fn clone(data: *const ()) -> RawWaker {
        // SAFETY: the waker's own reference keeps the header alive.
        unsafe { (*data.cast::<Header>()).acquire::<ATOMIC>() };
        RawWaker::new(data, &Self::VTABLE)
    }

    unsafe fn wake(data: *const ()) {
        let task = data.cast::<Header>();
        // SAFETY: the waker's reference keeps the header alive, and goes to the queue or is dropped.
        unsafe {
            if (*task).schedule::<ATOMIC>() {
                push(task);
            } else {
                Self::drop(data);
            }
        }
    }

    unsafe fn wake_by_ref(data: *const ()) {
        let task = data.cast::<Header>();
        // SAFETY: the waker's reference keeps the header alive; the queue gets one of its own.
        unsafe {
            if (*task).schedule::<ATOMIC>() {
                (*task).acquire::<ATOMIC>();
                push(task);
            }
        }
    }

    unsafe fn drop(data: *const ()) {
        let task = data.cast::<Header>();
        // SAFETY: the reference that is given up here kept the header alive until now; the last one frees.
        unsafe {
            if (*task).release::<ATOMIC>() {
                ((*task).deallocate)(task);
            }
        }
    }
}

/// # Safety
/// `header` is that of a `Task<F>`, was popped from the queue, and its reference is this function's.
unsafe fn poll_task<F: Future, const ATOMIC: bool>(header: *const Header) {
    let task = header.cast::<Task<F>>();
    // SAFETY: the queue's reference keeps the task alive and is lent to the waker for the poll. Only the
    // thread that owns the queue gets here, and never from inside a poll of the same task, so that nobody
    // else borrows the stage or the joiner. The future never moves out of its allocation.
    unsafe {
        if ATOMIC {
            (*header).state.fetch_and(!SCHEDULED, AcqRel);
        } else {
            (*header).state.store(0, Relaxed);
        }
        let raw = RawWaker::new(header.cast(), &Vtable::<ATOMIC>::VTABLE);
        let waker = ManuallyDrop::new(Waker::from_raw(raw));
        let stage = &mut *(*task).stage.get();
        if let Stage::Running(future) = stage
            && let Poll::Ready(output) = Pin::new_unchecked(future).poll(&mut Context::from_waker(&waker))
        {
            *stage = Stage::Finished(output);
            (*header).state.store(DONE, Release);
            if let Some(joiner) = (*(*task).joiner.get()).take() {
                joiner.wake();
            }
        }
        Vtable::<ATOMIC>::drop(header.cast());
    }
}

/// # Safety
/// `header` is that of a `Task<F>` from `spawn`, and the last reference to it is gone.
unsafe fn deallocate<F: Future>(header: *const Header) {
    // SAFETY: `spawn` made it of a box, and nobody has a pointer any more.
    drop(unsafe { Box::from_raw(header.cast::<Task<F>>().cast_mut()) });
}

/// # Safety
/// `header` is that of a live `Task<F>` of this thread, which is not being polled.
unsafe fn take_output<F: Future>(header: *const Header, output: &mut Option<F::Output>, waker: &Waker) {
    let task = header.cast::<Task<F>>();
    // SAFETY: the caller's reference keeps the task alive; nobody else on this thread borrows its cells.
    unsafe {
        if (*header).state.load(Acquire) & DONE != 0 {
            if let Stage::Finished(value) = std::mem::replace(&mut *(*task).stage.get(), Stage::Taken) {
                *output = Some(value);
            }
            return;
        }
        match &mut *(*task).joiner.get() {
            Some(joiner) if joiner.will_wake(waker) => {}
            joiner => *joiner = Some(waker.clone()),
        }
    }
}

/// Waits for a task.
struct Join<T> {
    task: *const Header,
    take: unsafe fn(*const Header, &mut Option<T>, &Waker),
    release: unsafe fn(*const ()),
}

impl<T> Future for Join<T> {
    type Output = T;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut output = None;
        // SAFETY: this handle's reference keeps the task alive; a task does not hold its own handle here,
        // so it is not being polled.
        unsafe { (self.take)(self.task, &mut output, cx.waker()) };
        output.map_or(Poll::Pending, Poll::Ready)
    }
}

impl<T> Drop for Join<T> {
    fn drop(&mut self) {
        // SAFETY: gives up this handle's reference, once.
        unsafe { (self.release)(self.task.cast()) }
    }
}

fn spawn<const ATOMIC: bool, F: Future + 'static>(future: F) -> Join<F::Output> {
    let header = Header {
        poll: poll_task::<F, ATOMIC>,
        deallocate: deallocate::<F>,
        references: AtomicU32::new(2),
        state: AtomicU32::new(SCHEDULED),
        owner: this_thread(),
        next: Cell::new(ptr::null()),
    };
    let stage = UnsafeCell::new(Stage::Running(future));
    let task = Box::new(Task { header, joiner: UnsafeCell::new(None), stage });
    let task = Box::into_raw(task).cast_const().cast::<Header>();
    // SAFETY: just made, with two references: the queue's and the handle's.
    unsafe { push(task) };
    Join { task, take: take_output::<F>, release: Vtable::<ATOMIC>::drop }
}

/// Tasks polled between two looks at the clock.
const BUDGET: u32 = 256;

fn run<const ATOMIC: bool, F: Future + 'static>(future: F) -> F::Output {
    let mut main = spawn::<ATOMIC, F>(future);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        for _ in 0..BUDGET {
            let task = pop();
            if task.is_null() {
                break;
            }
            // SAFETY: just popped; its function is the one for its type.
            unsafe { ((*task).poll)(task) };
        }
        if let Poll::Ready(output) = Pin::new(&mut main).poll(&mut cx) {
            return output;
        }
        let idle = QUEUE.with(|queue| queue.head.get().is_null());
        wheel::turn(idle);
    }
}
