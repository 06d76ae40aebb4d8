//! A connection on which something is asked again and again: entries and heartbeats.
//!
//! openraft gives a heartbeat up as soon as the next one is due, and asks anew. What was begun for it serves those after it:
//! the making of a connection, which takes a round trip more than a request does, and what is half sent or half received.
//! All of that is kept when a request is dropped, and the response to it is read and forgotten. A line that started afresh
//! would never have a first response where round trips take more than half of the time that openraft waits.

use super::Limits;
use super::client::{Failure, connect, granted};
use super::frame;
use super::message::{Request, Response};
use demikernel::net::{OwnedReadHalf, OwnedWriteHalf, TcpStream};
use demikernel::time::{Elapsed, Instant, timeout_at};
use demikernel::{Buffer, QToken, Sga};
use futures_util::future::LocalBoxFuture;
use openraft::RaftTypeConfig;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// A connection to another node, while there is one.
pub(super) struct Line<C: RaftTypeConfig> {
    /// One that is being made, since this time.
    making: Option<(Instant, LocalBoxFuture<'static, io::Result<TcpStream>>)>,
    open: Option<Open<C>>,
}

struct Open<C: RaftTypeConfig> {
    writer: OwnedWriteHalf<TcpStream>,
    /// The last request, as long as it is not all sent: dropped, half of it would be in the stream.
    sending: Option<QToken<io::Result<()>>>,
    receiving: Receiving<C>,
    /// When those requests were sent that have no response.
    unanswered: VecDeque<Instant>,
}

/// The next response, which may be there in part.
type Receiving<C> = LocalBoxFuture<'static, io::Result<(Response<C>, OwnedReadHalf<TcpStream>)>>;

impl<C: RaftTypeConfig> Default for Line<C> {
    fn default() -> Line<C> {
        Line { making: None, open: None }
    }
}

impl<C: RaftTypeConfig> Line<C> {
    /// Asks, and waits for the response. If nothing has come for so long, to this request or to one before it that was given
    /// up, the connection is taken for dead, and the next request makes another.
    pub(super) async fn ask(
        &mut self,
        address: &str,
        request: &Request<C>,
        patience: Duration,
        limits: &Limits,
    ) -> Result<Response<C>, Failure> {
        let message = frame::encode_within(request, limits).map_err(Failure::Broken)?;
        let mut since = self.waits_since();
        if since.is_some_and(|since| since.elapsed() >= patience) {
            *self = Line::default();
            since = None;
        }
        let deadline = since.unwrap_or_else(Instant::now).saturating_add(patience);
        let asked = match timeout_at(deadline, self.exchange(address, message, limits)).await {
            Ok(asked) => asked,
            Err(error) if self.open.is_none() => Err(Failure::Unreachable(error.into())),
            Err(error) => Err(Failure::Broken(Elapsed::into(error))),
        };
        let response = asked.inspect_err(|_| *self = Line::default())?;
        granted(response)
    }

    /// Since when it has waited for something of the other end.
    fn waits_since(&self) -> Option<Instant> {
        let made = self.making.as_ref().map(|(since, _)| *since);
        made.or_else(|| self.open.as_ref()?.unanswered.front().copied())
    }

    async fn exchange(
        &mut self,
        address: &str,
        message: Buffer,
        limits: &Limits,
    ) -> Result<Response<C>, Failure> {
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                let (_, making) = self.making.get_or_insert_with(|| {
                    let address = address.to_owned();
                    (Instant::now(), Box::pin(async move { connect(&address).await }))
                });
                let stream = making.await;
                self.making = None;
                none.insert(Open::new(stream.map_err(Failure::Unreachable)?, limits))
            }
        };
        open.exchange(message, limits).await.map_err(Failure::Broken)
    }
}

impl<C: RaftTypeConfig> Open<C> {
    fn new(stream: TcpStream, limits: &Limits) -> Open<C> {
        let (reader, writer) = stream.into_split();
        let receiving = receive(reader, limits.clone());
        Open { writer, sending: None, receiving, unanswered: VecDeque::new() }
    }

    async fn sent(&mut self) -> io::Result<()> {
        if let Some(sending) = &mut self.sending {
            let sent = sending.await;
            self.sending = None;
            sent?;
        }
        Ok(())
    }

    async fn exchange(&mut self, message: Buffer, limits: &Limits) -> io::Result<Response<C>> {
        self.sent().await?;
        self.unanswered.push_back(Instant::now());
        self.sending = Some(self.writer.push_sga(Sga::from(message)));
        self.sent().await?;
        loop {
            let (response, reader) = (&mut self.receiving).await?;
            self.receiving = receive(reader, limits.clone());
            self.unanswered.pop_front();
            // Responses come in the order of the requests, of which this one is the last.
            if self.unanswered.is_empty() {
                return Ok(response);
            }
        }
    }
}

fn receive<C: RaftTypeConfig>(mut reader: OwnedReadHalf<TcpStream>, limits: Limits) -> Receiving<C> {
    Box::pin(async move {
        let response = frame::receive(&mut reader, &limits).await?;
        Ok((response, reader))
    })
}
