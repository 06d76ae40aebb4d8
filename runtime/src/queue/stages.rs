//! What merge, filter and map do with what they pop.

use super::PopQueue;
use super::derived::{Derived, Stage};
use super::shelf::Line;
use super::source::Pops;
use std::task::{Context, Poll, ready};

type Polled<Q> = Poll<Option<Result<<Q as PopQueue>::Item, <Q as PopQueue>::Error>>>;

/// A queue whose pops take the next element of either queue. If both have one, they take turns. An error of
/// one is given to one pop. The queue ends when both have ended.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::queue::{merge, queue};
/// let (one, other) = (queue(), queue());
/// one.push(1).await.unwrap();
/// other.push(2).await.unwrap();
/// let both = merge(one, other);
/// assert_eq!((both.pop().await, both.pop().await), (Ok(1), Ok(2)));
/// # });
/// ```
///
/// # Panics
/// Outside of a runtime.
#[track_caller]
pub fn merge<A, B>(one: A, other: B) -> Derived<Merge<A, B>>
where
    A: PopQueue + 'static,
    B: PopQueue<Item = A::Item, Error = A::Error> + 'static,
{
    Derived::new(Merge { one: Pops::new(one), other: Pops::new(other), turn: false }, Line::new(), 0)
}

/// The stage of [`merge`].
#[derive(Debug)]
pub struct Merge<A: PopQueue, B: PopQueue> {
    one: Pops<A>,
    other: Pops<B>,
    /// The other is the first to be asked.
    turn: bool,
}

impl<A, B> Stage for Merge<A, B>
where
    A: PopQueue + 'static,
    B: PopQueue<Item = A::Item, Error = A::Error> + 'static,
{
    type Item = A::Item;
    type Error = A::Error;
    type Shelf = Line<A::Item>;

    fn poll(&mut self, cx: &mut Context<'_>) -> Polled<A> {
        let mut pending = false;
        for _ in 0..2 {
            let turn = self.turn;
            self.turn = !turn;
            let polled = if turn { self.other.poll_pop(cx) } else { self.one.poll_pop(cx) };
            match polled {
                Poll::Ready(Some(result)) => return Poll::Ready(Some(result)),
                Poll::Ready(None) => {}
                Poll::Pending => pending = true,
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(None) }
    }
}

/// A queue whose pops take the next element that `accept` accepts; those that it does not are dropped.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let numbers = demikernel_runtime::queue::queue();
/// let even = demikernel_runtime::queue::filter(numbers.clone(), |number| number % 2 == 0);
/// numbers.push(1).await.unwrap();
/// numbers.push(2).await.unwrap();
/// assert_eq!(even.pop().await, Ok(2));
/// # });
/// ```
///
/// # Panics
/// Outside of a runtime.
#[track_caller]
pub fn filter<Q, F>(queue: Q, accept: F) -> Derived<Filter<Q, F>>
where
    Q: PopQueue + 'static,
    F: FnMut(&Q::Item) -> bool + 'static,
{
    Derived::new(Filter { source: Pops::new(queue), accept }, Line::new(), 0)
}

/// The stage of [`filter`].
#[derive(Debug)]
pub struct Filter<Q: PopQueue, F> {
    source: Pops<Q>,
    accept: F,
}

impl<Q, F> Stage for Filter<Q, F>
where
    Q: PopQueue + 'static,
    F: FnMut(&Q::Item) -> bool + 'static,
{
    type Item = Q::Item;
    type Error = Q::Error;
    type Shelf = Line<Q::Item>;

    fn poll(&mut self, cx: &mut Context<'_>) -> Polled<Q> {
        loop {
            match ready!(self.source.poll_pop(cx)) {
                Some(Ok(item)) if !(self.accept)(&item) => {}
                other => return Poll::Ready(other),
            }
        }
    }
}

/// A queue whose pops take what `function` makes of the next element.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let words = demikernel_runtime::queue::queue();
/// let lengths = demikernel_runtime::queue::map(words.clone(), str::len);
/// words.push("four").await.unwrap();
/// assert_eq!(lengths.pop().await, Ok(4));
/// # });
/// ```
///
/// # Panics
/// Outside of a runtime.
#[track_caller]
pub fn map<Q, F, T>(queue: Q, function: F) -> Derived<Map<Q, F>>
where
    Q: PopQueue + 'static,
    F: FnMut(Q::Item) -> T + 'static,
    T: 'static,
{
    Derived::new(Map { source: Pops::new(queue), function }, Line::new(), 0)
}

/// The stage of [`map`].
#[derive(Debug)]
pub struct Map<Q: PopQueue, F> {
    source: Pops<Q>,
    function: F,
}

impl<Q, F, T> Stage for Map<Q, F>
where
    Q: PopQueue + 'static,
    F: FnMut(Q::Item) -> T + 'static,
    T: 'static,
{
    type Item = T;
    type Error = Q::Error;
    type Shelf = Line<T>;

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Q::Error>>> {
        let popped = ready!(self.source.poll_pop(cx));
        Poll::Ready(popped.map(|result| result.map(&mut self.function)))
    }
}
