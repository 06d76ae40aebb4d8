//! A channel for one value: the two ends of an operation, with a fair end if the sender goes away.

use crate::executor::{Completion, QToken, operation};
use futures_core::FusedFuture;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The sender was dropped without sending.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::channel::{Canceled, oneshot};
/// let (sender, receiver) = oneshot::<u32>();
/// drop(sender);
/// assert_eq!(receiver.await, Err(Canceled));
/// # });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the sender was dropped without sending")]
pub struct Canceled;

/// A channel for one value, within a core.
///
/// # Panics
/// Outside of a runtime.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let (sender, receiver) = demikernel_runtime::channel::oneshot();
/// demikernel_runtime::spawn(async move { sender.send("hello") }).detach();
/// assert_eq!(receiver.await, Ok("hello"));
/// # });
/// ```
#[inline]
pub fn oneshot<T: 'static>() -> (Sender<T>, Receiver<T>) {
    let (token, completion) = operation();
    (Sender { completion: Some(completion) }, Receiver { token })
}

/// The sending end of [`oneshot`]. Dropping it gives the receiver [`Canceled`].
pub struct Sender<T> {
    completion: Option<Completion<Result<T, Canceled>>>,
}

impl<T> Sender<T> {
    /// Sends the value.
    ///
    /// ```
    /// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
    /// let (sender, receiver) = demikernel_runtime::channel::oneshot();
    /// drop(receiver);
    /// assert_eq!(sender.send("comes back"), Err("comes back"));
    /// # });
    /// ```
    ///
    /// # Errors
    /// Gives it back if the receiver is gone.
    #[inline]
    pub fn send(mut self, value: T) -> Result<(), T> {
        match self.completion.take() {
            Some(completion) if !completion.is_cancelled() => {
                completion.complete(Ok(value));
                Ok(())
            }
            _ => Err(value),
        }
    }

    /// Whether the receiver is gone.
    pub fn is_closed(&self) -> bool {
        self.completion.as_ref().is_none_or(Completion::is_cancelled)
    }
}

impl<T> Drop for Sender<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(completion) = self.completion.take() {
            completion.complete(Err(Canceled));
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("closed", &self.is_closed()).finish()
    }
}

/// The receiving end of [`oneshot`]: a queue token.
#[must_use = "dropping the receiver closes the channel"]
pub struct Receiver<T: 'static> {
    token: QToken<Result<T, Canceled>>,
}

impl<T: 'static> Receiver<T> {
    /// The value, if it is there.
    ///
    /// ```
    /// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
    /// let (sender, mut receiver) = demikernel_runtime::channel::oneshot();
    /// assert_eq!(receiver.try_recv(), Ok(None));
    /// sender.send(1).unwrap();
    /// assert_eq!(receiver.try_recv(), Ok(Some(1)));
    /// # });
    /// ```
    ///
    /// # Errors
    /// [`Canceled`] if it will never be.
    ///
    /// # Panics
    /// If the value, or the error, has been given before.
    pub fn try_recv(&mut self) -> Result<Option<T>, Canceled> {
        self.token.try_take().transpose()
    }

    /// The token itself, for the `wait` calls.
    pub fn into_token(self) -> QToken<Result<T, Canceled>> {
        self.token
    }
}

impl<T: 'static> Future for Receiver<T> {
    type Output = Result<T, Canceled>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.token).poll(cx)
    }
}

impl<T: 'static> FusedFuture for Receiver<T> {
    fn is_terminated(&self) -> bool {
        self.token.is_terminated()
    }
}

impl<T: 'static> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.token).finish()
    }
}
