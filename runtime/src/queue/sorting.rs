//! What sort does with what it pops.

use super::PopQueue;
use super::derived::{Derived, Stage};
use super::shelf::Heap;
use super::source::Pops;
use std::cmp::Ordering;
use std::marker::PhantomData;
use std::task::{Context, Poll};

/// How many elements a sorted queue collects before they are wanted. More wait in the source, which a peer
/// notices as back-pressure.
const AHEAD: usize = 1024;

/// A queue whose pops take the least element of those that are there, and of equal ones that which arrived
/// first.
///
/// What is there is what has arrived in the source: the queue pops it without being asked, and keeps up to
/// 1,024 elements ahead. They are dropped with the queue.
///
/// # Panics
/// Outside of a runtime.
///
/// ```
/// use demikernel_runtime::queue::{queue, sort};
///
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let jobs = queue();
/// let by_priority = sort(jobs.clone());
/// for job in [(2, "b"), (3, "c"), (1, "a")] {
///     jobs.push(job).await?;
/// }
/// assert_eq!(by_priority.pop().await?, (1, "a"));
/// jobs.push((0, "first")).await?;
/// assert_eq!(by_priority.pop().await?, (0, "first"));
/// assert_eq!(by_priority.pop().await?, (2, "b"));
/// # Ok::<_, demikernel_runtime::queue::Closed>(())
/// # }).unwrap();
/// ```
#[allow(clippy::type_complexity, reason = "a comparison of an unnamed type")]
#[track_caller]
pub fn sort<Q>(queue: Q) -> Derived<Sort<Q, impl FnMut(&Q::Item, &Q::Item) -> Ordering>>
where
    Q: PopQueue + 'static,
    Q::Item: Ord,
{
    sort_by(queue, Q::Item::cmp)
}

/// As [`sort`], by a key of each element. It is made for each comparison.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let words = demikernel_runtime::queue::queue();
/// for word in ["three", "a", "bc"] {
///     words.push(word).await.unwrap();
/// }
/// let shortest = demikernel_runtime::queue::sort_by_key(words, |word| word.len());
/// assert_eq!((shortest.pop().await, shortest.pop().await), (Ok("a"), Ok("bc")));
/// # });
/// ```
///
/// # Panics
/// Outside of a runtime. As [`sort_by`].
#[allow(clippy::type_complexity, reason = "a comparison of an unnamed type")]
#[track_caller]
pub fn sort_by_key<Q, F, K>(
    queue: Q,
    mut key: F,
) -> Derived<Sort<Q, impl FnMut(&Q::Item, &Q::Item) -> Ordering>>
where
    Q: PopQueue + 'static,
    F: FnMut(&Q::Item) -> K + 'static,
    K: Ord + 'static,
{
    sort_by(queue, move |one, other| key(one).cmp(&key(other)))
}

/// As [`sort`], by a comparison.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let numbers = demikernel_runtime::queue::queue();
/// for number in [1, 3, 2] {
///     numbers.push(number).await.unwrap();
/// }
/// let greatest = demikernel_runtime::queue::sort_by(numbers, |one, other| other.cmp(one));
/// assert_eq!(greatest.pop().await, Ok(3));
/// # });
/// ```
///
/// # Panics
/// Outside of a runtime. Pops panic if the comparison uses the queue that it sorts.
#[track_caller]
pub fn sort_by<Q, C>(queue: Q, compare: C) -> Derived<Sort<Q, C>>
where
    Q: PopQueue + 'static,
    C: FnMut(&Q::Item, &Q::Item) -> Ordering + 'static,
{
    let stage = Sort { source: Pops::new(queue), _compare: PhantomData };
    Derived::new(stage, Heap::new(compare), AHEAD)
}

/// The stage of [`sort`].
#[derive(Debug)]
pub struct Sort<Q: PopQueue, C> {
    source: Pops<Q>,
    _compare: PhantomData<C>,
}

impl<Q, C> Stage for Sort<Q, C>
where
    Q: PopQueue + 'static,
    C: FnMut(&Q::Item, &Q::Item) -> Ordering + 'static,
{
    type Item = Q::Item;
    type Error = Q::Error;
    type Shelf = Heap<Q::Item, C>;

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Q::Item, Q::Error>>> {
        self.source.poll_pop(cx)
    }
}
