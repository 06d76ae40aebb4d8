//! Queues in memory, and queues made of other queues.
//!
//! [`queue`] makes a queue of the tasks of one core: [`push`](Queue::push) and [`pop`](Queue::pop) start at
//! once and return a queue token, as they do on sockets. What can be popped is a [`PopQueue`]: in-memory
//! queues, connections (of which one pops buffers), and what these functions make of them:
//!
//! - [`merge`] pops from either of two queues,
//! - [`filter`] pops the elements that a predicate accepts,
//! - [`map`] pops what a function makes of each element,
//! - [`sort`], [`sort_by_key`] and [`sort_by`] pop the least element of those that are there.
//!
//! A pop that is cancelled loses nothing, not even if its token has an element already: that goes back to
//! where it was in the queue.
//!
//! ```
//! use demikernel_runtime::queue::{filter, map, merge, queue};
//!
//! # demikernel_runtime::Runtime::new().unwrap().block_on(async {
//! let (numbers, letters) = (queue(), queue());
//! let even = filter(numbers.clone(), |number| number % 2 == 0);
//! let all = merge(map(even, |number: u32| number.to_string()), letters.clone());
//!
//! for number in 1..=4 {
//!     numbers.push(number).await?;
//! }
//! letters.push(String::from("x")).await?;
//! assert_eq!(all.pop().await?, "2");
//! assert_eq!(all.pop().await?, "x");
//! assert_eq!(all.pop().await?, "4");
//! # Ok::<_, demikernel_runtime::queue::Closed>(())
//! # }).unwrap();
//! ```

// The map, in the order in which elements flow.
mod memory; // `Queue`: elements that were pushed
mod sockets; // connections as queues
mod sorting;
mod source; // pops one queue for another, and waits in between
mod stages; // what merge, filter and map do with what they pop // the same for sort

mod derived; // queues made of others: a stage, a task that drives it, and an outlet
mod outlet; // the popping side of all queues: elements, pops that wait, pops that were given up
mod shelf; // in which order elements are kept

pub use derived::{Derived, Stage};
pub use memory::{Queue, TryPopError, TryPushError, queue, queue_with_capacity};
pub use sorting::{Sort, sort, sort_by, sort_by_key};
pub use source::Pops;
pub use stages::{Filter, Map, Merge, filter, map, merge};

use crate::executor::QToken;
use std::io;
use std::rc::Rc;

/// The queue has ended: nothing is pushed to it any more, and nothing is left in it.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::queue::{Closed, queue};
/// let queue = queue::<u32>();
/// queue.close();
/// assert_eq!(queue.push(1).await, Err(Closed));
/// assert_eq!(std::io::Error::from(Closed).kind(), std::io::ErrorKind::UnexpectedEof);
/// # });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[error("the queue is closed")]
pub struct Closed;

/// Why a pop gave no element. That the queue has ended must be among the reasons, and known from others.
pub trait PopError: From<Closed> + 'static {
    /// Whether the queue has ended.
    fn is_closed(&self) -> bool;
}

impl PopError for Closed {
    fn is_closed(&self) -> bool {
        true
    }
}

/// Of kind `UnexpectedEof`, with [`Closed`] in it.
impl From<Closed> for io::Error {
    fn from(closed: Closed) -> io::Error {
        io::Error::new(io::ErrorKind::UnexpectedEof, closed)
    }
}

impl PopError for io::Error {
    fn is_closed(&self) -> bool {
        self.get_ref().is_some_and(|inner| inner.is::<Closed>())
    }
}

/// What elements can be popped from. An `Rc` of a queue is the same queue, also as an `Rc<dyn PopQueue>`.
pub trait PopQueue {
    /// An element.
    type Item: 'static;
    /// Why there is none.
    type Error: PopError;

    /// Takes the next element. Several pops may wait, and are served in the order in which they came.
    fn pop(&self) -> QToken<Result<Self::Item, Self::Error>>;

    /// Whether this result of a pop says that the queue has ended in an orderly way. A queue made of this
    /// one then ends with [`Closed`], and does not hand the result on.
    fn is_end(&self, result: &Result<Self::Item, Self::Error>) -> bool {
        result.as_ref().is_err_and(PopError::is_closed)
    }
}

/// What elements can be pushed to.
pub trait PushQueue {
    /// An element.
    type Item: 'static;
    /// Why it was not taken.
    type Error: 'static;

    /// Adds an element at the end. The token is done when the queue has taken it.
    fn push(&self, item: Self::Item) -> QToken<Result<(), Self::Error>>;
}

impl<Q: PopQueue + ?Sized> PopQueue for Rc<Q> {
    type Item = Q::Item;
    type Error = Q::Error;

    fn pop(&self) -> QToken<Result<Q::Item, Q::Error>> {
        (**self).pop()
    }

    fn is_end(&self, result: &Result<Q::Item, Q::Error>) -> bool {
        (**self).is_end(result)
    }
}

impl<Q: PushQueue + ?Sized> PushQueue for Rc<Q> {
    type Item = Q::Item;
    type Error = Q::Error;

    fn push(&self, item: Q::Item) -> QToken<Result<(), Q::Error>> {
        (**self).push(item)
    }
}
