//! Pops one queue for another.

use super::PopQueue;
use crate::executor::QToken;
use futures_core::{FusedStream, Stream};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The elements of a queue as a `Stream`, which ends when the queue does.
///
/// It pops one element at a time, when it is polled. An element that has arrived when the stream is dropped
/// goes back if the queue takes elements back.
///
/// ```
/// use futures_util::StreamExt;
///
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let queue = demikernel_runtime::queue::queue();
/// for number in 0..3 {
///     queue.push(number).await.unwrap();
/// }
/// queue.close();
/// let all: Vec<_> = demikernel_runtime::queue::Pops::new(queue).map(Result::unwrap).collect().await;
/// assert_eq!(all, [0, 1, 2]);
/// # });
/// ```
pub struct Pops<Q: PopQueue> {
    // Dropped before the queue, so that what it has goes back.
    token: Option<QToken<Result<Q::Item, Q::Error>>>,
    queue: Q,
    ended: bool,
}

impl<Q: PopQueue> Unpin for Pops<Q> {}

impl<Q: PopQueue> Pops<Q> {
    /// The elements of `queue`.
    pub fn new(queue: Q) -> Pops<Q> {
        Pops { token: None, queue, ended: false }
    }

    /// The queue.
    pub fn queue(&self) -> &Q {
        &self.queue
    }

    /// The next element, or why there is none; `None` at the end.
    #[inline]
    pub(super) fn poll_pop(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Q::Item, Q::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let token = self.token.get_or_insert_with(|| self.queue.pop());
        let result = ready!(Pin::new(token).poll(cx));
        self.token = None;
        self.ended = self.queue.is_end(&result);
        Poll::Ready((!self.ended).then_some(result))
    }
}

impl<Q: PopQueue> Stream for Pops<Q> {
    type Item = Result<Q::Item, Q::Error>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_pop(cx)
    }
}

impl<Q: PopQueue> FusedStream for Pops<Q> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<Q: PopQueue + fmt::Debug> fmt::Debug for Pops<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pops").field("queue", &self.queue).field("ended", &self.ended).finish()
    }
}
