//! Waiting for one or several of a set of tokens: the PDPIX `wait` calls as futures.
//!
//! None of these cancels anything: tokens that are not done when the wait ends, by a deadline or because
//! others were, stay as they are and can be waited for again.

use super::QToken;
use crate::time::{Elapsed, Instant};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Why there was nothing to wait for: every token of the set had given its result before.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::{NoTokens, wait_any};
/// assert_eq!(wait_any::<u32>(&mut []).await, Err(NoTokens));
/// # });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("every token of the set has given its result already")]
pub struct NoTokens;

impl From<NoTokens> for std::io::Error {
    fn from(error: NoTokens) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidInput, error)
    }
}

/// Waits for one operation; the same as awaiting the token.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// assert_eq!(demikernel_runtime::wait(demikernel_runtime::QToken::ready(1)).await, 1);
/// # });
/// ```
pub async fn wait<T: 'static>(token: QToken<T>) -> T {
    token.await
}

/// Waits for one operation until a deadline, and leaves it under way if it was not done by then.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::time::{Duration, Instant};
/// let (mut token, completion) = demikernel_runtime::operation();
/// let soon = Instant::now() + Duration::from_millis(1);
/// assert!(demikernel_runtime::wait_deadline(&mut token, soon).await.is_err());
/// completion.complete("late, but not lost");
/// assert_eq!(token.await, "late, but not lost");
/// # });
/// ```
///
/// # Errors
/// [`Elapsed`] at the deadline.
///
/// # Panics
/// If the token has given its result before.
pub async fn wait_deadline<T: 'static>(token: &mut QToken<T>, deadline: Instant) -> Result<T, Elapsed> {
    until(deadline, poll_fn(|cx| Pin::new(&mut *token).poll(cx))).await
}

/// Waits until one of the operations is done. Gives its index and result. Tokens that have given theirs
/// before are passed over. When several are done, the first of them in the slice is taken.
///
/// # Errors
/// [`NoTokens`] if there is nothing to wait for.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::{QToken, operation, wait_any};
/// let (slow, _promise) = operation::<&str>();
/// let mut tokens = [slow, QToken::ready("fast")];
/// assert_eq!(wait_any(&mut tokens).await.unwrap(), (1, "fast"));
/// # });
/// ```
pub async fn wait_any<T: 'static>(tokens: &mut [QToken<T>]) -> Result<(usize, T), NoTokens> {
    poll_fn(|cx| poll_any(tokens, cx)).await
}

/// As [`wait_any`], until a deadline.
///
/// # Errors
/// [`Elapsed`] at the deadline; [`NoTokens`] inside if there is nothing to wait for.
pub async fn wait_any_deadline<T: 'static>(
    tokens: &mut [QToken<T>],
    deadline: Instant,
) -> Result<Result<(usize, T), NoTokens>, Elapsed> {
    until(deadline, poll_fn(|cx| poll_any(tokens, cx))).await
}

/// Waits until all the operations are done. Gives their results in the order of the slice, without those
/// that were given before.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::{QToken, wait_all};
/// assert_eq!(wait_all(&mut [QToken::ready(1), QToken::ready(2)]).await, [1, 2]);
/// # });
/// ```
pub async fn wait_all<T: 'static>(tokens: &mut [QToken<T>]) -> Vec<T> {
    let mut results = Vec::with_capacity(tokens.len());
    for token in tokens {
        if !futures_core::FusedFuture::is_terminated(token) {
            results.push(token.await);
        }
    }
    results
}

/// As [`wait_all`], until a deadline.
///
/// # Errors
/// [`Elapsed`] if one of them is not done by then. No result is lost: what was done can be taken from the
/// tokens still.
pub async fn wait_all_deadline<T: 'static>(
    tokens: &mut [QToken<T>],
    deadline: Instant,
) -> Result<Vec<T>, Elapsed> {
    // Only looks until all are done, so that a deadline finds every result still in its slot.
    until(
        deadline,
        poll_fn(|cx| {
            let waiting = tokens.iter_mut().filter_map(|token| (!token.poll_done(cx)).then_some(())).count();
            if waiting == 0 { Poll::Ready(()) } else { Poll::Pending }
        }),
    )
    .await?;
    Ok(tokens.iter_mut().filter_map(QToken::try_take_unless_terminated).collect())
}

/// Waits until at least one of the operations is done, then gives the index and result of every one that
/// is, but of no more than `n`.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::{QToken, operation, wait_next_n};
/// let (waits, _promise) = operation();
/// let mut tokens = [QToken::ready(1), waits, QToken::ready(3), QToken::ready(4)];
/// assert_eq!(wait_next_n(&mut tokens, 2).await, Ok(vec![(0, 1), (2, 3)]));
/// # });
/// ```
///
/// # Errors
/// [`NoTokens`] if there is nothing to wait for, or `n` is 0.
pub async fn wait_next_n<T: 'static>(
    tokens: &mut [QToken<T>],
    n: usize,
) -> Result<Vec<(usize, T)>, NoTokens> {
    poll_fn(|cx| poll_next_n(tokens, n, cx)).await
}

/// As [`wait_next_n`], until a deadline.
///
/// # Errors
/// [`Elapsed`] at the deadline; [`NoTokens`] inside if there is nothing to wait for.
pub async fn wait_next_n_deadline<T: 'static>(
    tokens: &mut [QToken<T>],
    n: usize,
    deadline: Instant,
) -> Result<Result<Vec<(usize, T)>, NoTokens>, Elapsed> {
    until(deadline, poll_fn(|cx| poll_next_n(tokens, n, cx))).await
}

fn poll_any<T: 'static>(
    tokens: &mut [QToken<T>],
    cx: &mut Context<'_>,
) -> Poll<Result<(usize, T), NoTokens>> {
    let mut waiting = false;
    for (index, token) in tokens.iter_mut().enumerate() {
        if futures_core::FusedFuture::is_terminated(token) {
            continue;
        }
        waiting = true;
        if let Poll::Ready(result) = Pin::new(token).poll(cx) {
            return Poll::Ready(Ok((index, result)));
        }
    }
    if waiting { Poll::Pending } else { Poll::Ready(Err(NoTokens)) }
}

#[allow(clippy::type_complexity, reason = "the results of wait_next_n under Poll")]
fn poll_next_n<T: 'static>(
    tokens: &mut [QToken<T>],
    n: usize,
    cx: &mut Context<'_>,
) -> Poll<Result<Vec<(usize, T)>, NoTokens>> {
    let mut results = Vec::new();
    let mut waiting = false;
    for (index, token) in tokens.iter_mut().enumerate() {
        if results.len() == n || futures_core::FusedFuture::is_terminated(token) {
            continue;
        }
        match Pin::new(token).poll(cx) {
            Poll::Ready(result) => results.push((index, result)),
            Poll::Pending => waiting = true,
        }
    }
    match (results.is_empty(), waiting) {
        (false, _) => Poll::Ready(Ok(results)),
        (true, true) => Poll::Pending,
        (true, false) => Poll::Ready(Err(NoTokens)),
    }
}

/// Polls `operation` before the deadline's timer, so that what is done wins.
async fn until<F: Future>(deadline: Instant, operation: F) -> Result<F::Output, Elapsed> {
    crate::time::timeout_at(deadline, operation).await
}
