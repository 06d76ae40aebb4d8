//! The in-memory queue.

use super::outlet::Outlet;
use super::shelf::Line;
use super::{Closed, PopQueue, PushQueue};
use crate::executor::{Completion, Owner, QToken, operation};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

/// A queue of the tasks of one core: elements are popped in the order in which they were pushed.
///
/// Clones are the same queue. When the last is dropped, the queue ends, and its elements are dropped.
///
/// Pushes and pops make no allocation once the queue has had as many elements as it ever has at once; an
/// element of more than 40 bytes takes one when it is popped.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let queue = demikernel_runtime::queue::queue();
/// let first = queue.pop();
/// queue.push("a").await?;
/// queue.push("b").await?;
/// assert_eq!(first.await?, "a");
/// assert_eq!(queue.pop().await?, "b");
/// # Ok::<_, demikernel_runtime::queue::Closed>(())
/// # }).unwrap();
/// ```
pub struct Queue<T: 'static> {
    shared: Rc<Shared<T>>,
}

struct Shared<T: 'static> {
    outlet: Rc<Outlet<Line<T>, Closed>>,
    capacity: usize,
    /// Pushes in the order in which they came. Empty unless the queue is full.
    waiting: RefCell<VecDeque<Waiting<T>>>,
    /// How many pushes have ever waited.
    arrivals: Cell<u64>,
    handles: Cell<usize>,
}

/// A push that found the queue full.
struct Waiting<T> {
    number: u64,
    item: T,
    done: Completion<Result<(), Closed>>,
}

/// A queue that takes any number of elements: a push is done at once.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let queue = demikernel_runtime::queue::queue();
/// queue.push(1).await.unwrap();
/// assert_eq!((queue.len(), queue.capacity()), (1, None));
/// # });
/// ```
pub fn queue<T: 'static>() -> Queue<T> {
    Queue::with_capacity(usize::MAX)
}

/// A queue that holds up to `capacity` elements: a push waits until there is room.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let queue = demikernel_runtime::queue::queue_with_capacity(1);
/// queue.push(1).await.unwrap();
/// let waits = queue.push(2);
/// assert!(!waits.is_done());
/// assert_eq!(queue.pop().await, Ok(1));
/// assert_eq!(waits.await, Ok(()));
/// # });
/// ```
///
/// # Panics
/// If `capacity` is 0.
#[track_caller]
pub fn queue_with_capacity<T: 'static>(capacity: usize) -> Queue<T> {
    assert_ne!(capacity, 0, "a queue needs room for at least one element");
    Queue::with_capacity(capacity)
}

impl<T: 'static> Queue<T> {
    fn with_capacity(capacity: usize) -> Queue<T> {
        let shared = Shared {
            outlet: Outlet::new(Line::new()),
            capacity,
            waiting: RefCell::default(),
            arrivals: Cell::new(0),
            handles: Cell::new(1),
        };
        Queue { shared: Rc::new(shared) }
    }

    /// Adds an element at the end. The token is done when it has its place in the queue; pushes that wait
    /// for room are served in the order in which they came. Dropping the token while it waits drops the
    /// element, too; [`detach`](QToken::detach) it to have it pushed all the same.
    ///
    /// The result is an error, and the element dropped, if the queue is closed before the element has its
    /// place.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[inline]
    pub fn push(&self, item: T) -> QToken<Result<(), Closed>> {
        match self.try_push(item) {
            Ok(()) => QToken::ready(Ok(())),
            Err(TryPushError::Closed(item)) => {
                drop(item);
                QToken::ready(Err(Closed))
            }
            Err(TryPushError::Full(item)) => self.shared.wait(item),
        }
    }

    /// Adds an element at the end if there is room at once.
    ///
    /// # Errors
    /// Gives the element back if there is none, or the queue is closed.
    #[inline]
    pub fn try_push(&self, item: T) -> Result<(), TryPushError<T>> {
        let outlet = &self.shared.outlet;
        if outlet.is_ended() {
            return Err(TryPushError::Closed(item));
        }
        if self.shared.is_full() {
            return Err(TryPushError::Full(item));
        }
        outlet.put(item);
        Ok(())
    }

    /// Takes the first element, when there is one. Pops that wait are served in the order in which they
    /// came. The result is an error when the queue is closed and empty.
    ///
    /// Dropping the token loses no element: if it has one, that goes back to its place in the queue, even
    /// if the queue is full again.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[inline]
    pub fn pop(&self) -> QToken<Result<T, Closed>> {
        let token = self.shared.outlet.pop();
        self.shared.admit();
        token
    }

    /// Takes the first element, if there is one.
    ///
    /// # Errors
    /// Whether there may be one later.
    pub fn try_pop(&self) -> Result<T, TryPopError> {
        match self.shared.outlet.try_pop() {
            Some(item) => {
                self.shared.admit();
                Ok(item)
            }
            None if self.is_closed() => Err(TryPopError::Closed),
            None => Err(TryPopError::Empty),
        }
    }

    /// Takes no more elements: pushes fail from now on, also those that wait. What is in the queue can
    /// still be popped; then pops fail, too.
    ///
    /// ```
    /// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
    /// use demikernel_runtime::queue::{Closed, queue};
    /// let queue = queue();
    /// queue.push(1).await.unwrap();
    /// queue.close();
    /// assert_eq!((queue.pop().await, queue.pop().await), (Ok(1), Err(Closed)));
    /// # });
    /// ```
    pub fn close(&self) {
        self.shared.close();
    }

    /// Whether the queue takes no more elements.
    pub fn is_closed(&self) -> bool {
        self.shared.outlet.is_ended()
    }

    /// How many elements are there to be popped.
    pub fn len(&self) -> usize {
        self.shared.outlet.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many elements it holds at most, if there is a limit.
    pub fn capacity(&self) -> Option<usize> {
        (self.shared.capacity != usize::MAX).then_some(self.shared.capacity)
    }
}

impl<T: 'static> Shared<T> {
    #[inline]
    fn is_full(&self) -> bool {
        self.outlet.len() >= self.capacity
    }

    #[cold]
    fn wait(self: &Rc<Self>, item: T) -> QToken<Result<(), Closed>> {
        let (token, done) = operation();
        let number = self.arrivals.replace(self.arrivals.get() + 1);
        done.belongs_to(self.clone(), number);
        self.waiting.borrow_mut().push_back(Waiting { number, item, done });
        token
    }

    /// Gives pushes that wait the room that there is.
    #[inline]
    fn admit(&self) {
        while !self.waiting.borrow().is_empty() && !self.is_full() {
            let Some(first) = self.waiting.borrow_mut().pop_front() else { break };
            self.outlet.put(first.item);
            first.done.complete(Ok(()));
        }
    }

    fn close(&self) {
        self.outlet.end();
        let waiting = self.waiting.take();
        for Waiting { item, done, .. } in waiting {
            done.complete(Err(Closed));
            drop(item);
        }
    }
}

/// Pushes belong to the queue while they wait.
impl<T: 'static> Owner<Result<(), Closed>> for Shared<T> {
    fn cancelled(&self, number: u64) {
        let mut waiting = self.waiting.borrow_mut();
        let found = waiting.binary_search_by_key(&number, |waiting| waiting.number);
        let cancelled = found.ok().and_then(|index| waiting.remove(index));
        drop(waiting);
        drop(cancelled);
    }

    fn returned(&self, _: u64, _: Result<(), Closed>) {}
}

impl<T: 'static> Clone for Queue<T> {
    fn clone(&self) -> Queue<T> {
        self.shared.handles.set(self.shared.handles.get() + 1);
        Queue { shared: self.shared.clone() }
    }
}

impl<T: 'static> Drop for Queue<T> {
    fn drop(&mut self) {
        let handles = self.shared.handles.get() - 1;
        self.shared.handles.set(handles);
        if handles == 0 {
            self.shared.close();
            self.shared.outlet.discard();
        }
    }
}

impl<T: 'static> PopQueue for Queue<T> {
    type Item = T;
    type Error = Closed;

    #[inline]
    fn pop(&self) -> QToken<Result<T, Closed>> {
        Queue::pop(self)
    }
}

impl<T: 'static> PushQueue for Queue<T> {
    type Item = T;
    type Error = Closed;

    #[inline]
    fn push(&self, item: T) -> QToken<Result<(), Closed>> {
        Queue::push(self, item)
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .field("closed", &self.is_closed())
            .finish()
    }
}

/// An element was not pushed; it comes back.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TryPushError<T> {
    /// There is no room.
    #[error("the queue is full")]
    Full(T),
    /// The queue is closed.
    #[error("the queue is closed")]
    Closed(T),
}

impl<T> fmt::Debug for TryPushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryPushError::Full(_) => "Full(..)",
            TryPushError::Closed(_) => "Closed(..)",
        })
    }
}

/// No element was popped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TryPopError {
    /// There is none now.
    #[error("the queue is empty")]
    Empty,
    /// There will be none.
    #[error("the queue is closed")]
    Closed,
}
