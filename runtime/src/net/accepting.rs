//! A listening socket of whatever family.

use super::claim::{Claim, Unclaimed};
use super::socket::Socket;
use crate::transport::{Accepted, Endpoint};
use futures_core::FusedFuture;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A listening socket, and the connections that futures have accepted which were then dropped.
#[derive(Debug)]
pub(super) struct Accepting {
    unclaimed: Unclaimed<io::Result<Accepted>>,
    socket: Socket,
}

impl Accepting {
    pub(super) fn new(socket: Socket) -> Accepting {
        Accepting { unclaimed: Unclaimed::new(), socket }
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    #[inline]
    pub(super) fn accept(&self) -> Claimed<'_> {
        Claimed { claim: self.unclaimed.claim(|| self.socket.accept()), listener: &self.socket }
    }
}

/// A connection that nobody wants is closed.
impl Drop for Accepting {
    fn drop(&mut self) {
        while let Some(result) = self.unclaimed.take() {
            if let Ok(accepted) = result {
                drop(self.socket.accepted(accepted.qd));
            }
        }
    }
}

/// Waits for a connection.
#[derive(Debug)]
pub(super) struct Claimed<'a> {
    claim: Claim<'a, io::Result<Accepted>>,
    listener: &'a Socket,
}

impl Future for Claimed<'_> {
    type Output = io::Result<(Socket, Endpoint)>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Accepted { qd, peer } = ready!(Pin::new(&mut self.claim).poll(cx))?;
        Poll::Ready(Ok((self.listener.accepted(qd), peer)))
    }
}

impl FusedFuture for Claimed<'_> {
    fn is_terminated(&self) -> bool {
        self.claim.is_terminated()
    }
}
