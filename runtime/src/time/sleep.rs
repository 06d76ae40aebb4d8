//! Futures that wait for a moment: [`sleep`] and [`timeout`].

use super::Instant;
use crate::executor::{QToken, timer};
use futures_core::FusedFuture;
use pin_project::pin_project;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Waits for `duration` from now.
///
/// The timer runs from this call on, not from the first poll. It is done at or after its moment, by the
/// runtime's clock, and never before.
///
/// # Panics
/// Outside of a runtime.
///
/// ```
/// use std::time::Duration;
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let start = demikernel_runtime::time::Instant::now();
/// demikernel_runtime::time::sleep(Duration::from_millis(2)).await;
/// assert!(start.elapsed() >= Duration::from_millis(2));
/// # });
/// ```
#[inline]
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(Instant::now().saturating_add(duration))
}

/// Waits until `deadline`.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::time::{Duration, Instant, sleep_until};
/// let deadline = Instant::now() + Duration::from_millis(1);
/// sleep_until(deadline).await;
/// assert!(Instant::now() >= deadline);
/// # });
/// ```
///
/// # Panics
/// Outside of a runtime.
#[inline]
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, token: timer(deadline.as_nanos()) }
}

/// The future of [`sleep`] and [`sleep_until`]: a timer's queue token, and its deadline.
#[must_use = "dropping a timer cancels it"]
#[derive(Debug)]
pub struct Sleep {
    deadline: Instant,
    token: QToken<()>,
}

impl Sleep {
    /// When it is done.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether it is done.
    pub fn is_elapsed(&self) -> bool {
        self.token.is_terminated() || self.token.is_done()
    }

    /// Starts it anew for another deadline, whether it is done or not.
    ///
    /// ```
    /// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
    /// use demikernel_runtime::time::{Duration, Instant, sleep};
    /// let mut sleep = sleep(Duration::from_secs(1000));
    /// sleep.reset(Instant::now() + Duration::from_millis(1));
    /// sleep.await;
    /// # });
    /// ```
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn reset(&mut self, deadline: Instant) {
        *self = sleep_until(deadline);
    }

    /// The token alone, for the `wait` calls.
    pub fn into_token(self) -> QToken<()> {
        self.token
    }
}

impl Future for Sleep {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.token).poll(cx)
    }
}

impl FusedFuture for Sleep {
    fn is_terminated(&self) -> bool {
        self.token.is_terminated()
    }
}

/// A deadline passed first.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::time::{Duration, timeout};
/// let error = timeout(Duration::ZERO, std::future::pending::<()>()).await.unwrap_err();
/// assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::TimedOut);
/// # });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the deadline passed before the operation was done")]
pub struct Elapsed(pub(crate) ());

impl From<Elapsed> for std::io::Error {
    fn from(error: Elapsed) -> Self {
        std::io::Error::new(std::io::ErrorKind::TimedOut, error)
    }
}

/// Runs `future` for at most `duration`. At the deadline it is dropped, and with it the operations it waits
/// for.
///
/// # Errors
/// The future gives [`Elapsed`] when time is up. What is done at its last poll counts as in time.
///
/// # Panics
/// Outside of a runtime.
///
/// ```
/// use demikernel_runtime::time::timeout;
/// use std::time::Duration;
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// assert_eq!(timeout(Duration::from_secs(1), async { 1 }).await, Ok(1));
/// assert!(timeout(Duration::from_millis(1), std::future::pending::<()>()).await.is_err());
/// # });
/// ```
#[inline]
pub fn timeout<F: IntoFuture>(duration: Duration, future: F) -> Timeout<F::IntoFuture> {
    Timeout { future: future.into_future(), sleep: sleep(duration) }
}

/// Runs `future` until `deadline` at most; see [`timeout`].
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::time::{Duration, Instant, timeout_at};
/// let deadline = Instant::now() + Duration::from_millis(1);
/// assert!(timeout_at(deadline, std::future::pending::<()>()).await.is_err());
/// # });
/// ```
///
/// # Errors
/// The future gives [`Elapsed`] when time is up.
///
/// # Panics
/// Outside of a runtime.
#[inline]
pub fn timeout_at<F: IntoFuture>(deadline: Instant, future: F) -> Timeout<F::IntoFuture> {
    Timeout { future: future.into_future(), sleep: sleep_until(deadline) }
}

/// The future of [`timeout`] and [`timeout_at`].
#[pin_project]
#[must_use = "futures do nothing unless awaited"]
pub struct Timeout<F> {
    #[pin]
    future: F,
    sleep: Sleep,
}

impl<F> Timeout<F> {
    /// The future inside, without the deadline.
    pub fn into_inner(self) -> F {
        self.future
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(this.sleep).poll(cx).map(|()| Err(Elapsed(())))
    }
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("sleep", &self.sleep).finish_non_exhaustive()
    }
}
