//! A listening socket of whatever family.

use super::socket::Socket;
use crate::executor::QToken;
use crate::transport::{Accepted, Endpoint};
use futures_core::FusedFuture;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Waits for a connection. If it is dropped, the transport gives the connection to the next.
#[derive(Debug)]
pub(super) struct Accepting<'a> {
    token: QToken<io::Result<Accepted>>,
    listener: &'a Socket,
}

impl Accepting<'_> {
    #[inline]
    pub(super) fn new(listener: &Socket) -> Accepting<'_> {
        Accepting { token: listener.accept(), listener }
    }
}

impl Future for Accepting<'_> {
    type Output = io::Result<(Socket, Endpoint)>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Accepted { qd, peer } = ready!(Pin::new(&mut self.token).poll(cx))?;
        Poll::Ready(Ok((self.listener.accepted(qd), peer)))
    }
}

impl FusedFuture for Accepting<'_> {
    fn is_terminated(&self) -> bool {
        self.token.is_terminated()
    }
}
