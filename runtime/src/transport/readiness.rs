//! What waits at a socket of a transport that tries an operation at once, and queues what cannot be done yet until the
//! socket is ready: kernel sockets through epoll, and stacks with calls that do not block. For those who write transports.

use super::stream::number_behind;
use super::{Accepted, SocketKind};
use crate::buffer::{Buffer, Sga};
use crate::executor::{Completion, DeviceId};
use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

/// An operation that takes something from a socket.
#[derive(Debug)]
pub enum Receive {
    /// A connection.
    Accept(Completion<io::Result<Accepted>>),
    /// Data, at most so many bytes.
    Pop(usize, Completion<io::Result<Buffer>>),
    /// A datagram with its sender; what is longer is cut.
    PopFrom(usize, Completion<io::Result<(Buffer, SocketAddr)>>),
}

impl Receive {
    /// As [`Completion::on_cancel`].
    #[inline]
    pub fn on_cancel(&self, device: DeviceId, key: u64) {
        match self {
            Receive::Accept(done) => done.on_cancel(device, key),
            Receive::Pop(_, done) => done.on_cancel(device, key),
            Receive::PopFrom(_, done) => done.on_cancel(device, key),
        }
    }

    /// As [`Completion::is_cancelled`].
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        match self {
            Receive::Accept(done) => done.is_cancelled(),
            Receive::Pop(_, done) => done.is_cancelled(),
            Receive::PopFrom(_, done) => done.is_cancelled(),
        }
    }

    /// Ends it with an error.
    pub fn fail(self, error: io::Error) {
        match self {
            Receive::Accept(done) => done.complete(Err(error)),
            Receive::Pop(_, done) => done.complete(Err(error)),
            Receive::PopFrom(_, done) => done.complete(Err(error)),
        }
    }

    /// Completes it with the first of what was [not taken](Untaken), which there must be; what is beyond its limit
    /// stays there if the socket is a stream. `peer` is that of the socket.
    ///
    /// # Errors
    /// Gives the operation back if nothing is there.
    #[cold]
    pub fn complete_with_untaken(
        self,
        queue: &RefCell<VecDeque<(u32, Untaken)>>,
        kind: SocketKind,
        peer: impl FnOnce() -> io::Result<SocketAddr>,
    ) -> Result<(), Receive> {
        let Some((number, first)) = queue.borrow_mut().pop_front() else { return Err(self) };
        match (self, first) {
            (Receive::Accept(done), Untaken::Connection(accepted)) => done.complete(Ok(accepted)),
            (Receive::PopFrom(limit, done), Untaken::Datagram(mut data, sender)) => {
                data.truncate(limit);
                done.complete(Ok((data, sender)));
            }
            (Receive::Pop(limit, done), Untaken::Data(mut data) | Untaken::Datagram(mut data, _)) => {
                let rest = data.split_off(limit.max(1).min(data.len()));
                if kind == SocketKind::Stream && !rest.is_empty() {
                    queue.borrow_mut().push_front((number, Untaken::Data(rest)));
                }
                number_behind(&mut queue.borrow_mut(), done.number());
                done.complete(Ok(data));
            }
            // The peer of a connected socket that is asked for its datagrams' sender.
            (Receive::PopFrom(limit, done), Untaken::Data(mut data)) => {
                data.truncate(limit);
                done.complete(peer().map(|peer| (data, peer)));
            }
            // Not what the socket is for.
            (receive, other) => {
                queue.borrow_mut().push_front((number, other));
                receive.fail(io::Error::from_raw_os_error(libc::EINVAL));
            }
        }
        Ok(())
    }
}

/// A result that came a moment before its token was dropped: it goes to the next who asks. It is kept with the number
/// of its operation, in their order ([`insert_by_number`](super::stream::insert_by_number)).
#[derive(Debug)]
pub enum Untaken {
    /// Of an accept.
    Connection(Accepted),
    /// Of a pop.
    Data(Buffer),
    /// Of a pop that asked for the sender.
    Datagram(Buffer, SocketAddr),
}

impl Untaken {
    /// What of a result, as [`Device::give_back`](super::Device::give_back) gets it, is worth keeping. Errors, and ends
    /// of streams, are told again by the socket.
    pub fn of(result: Box<dyn Any>) -> Option<Untaken> {
        let result = match result.downcast::<io::Result<Buffer>>() {
            Ok(data) => return data.ok().filter(|data| !data.is_empty()).map(Untaken::Data),
            Err(result) => result,
        };
        let result = match result.downcast::<io::Result<(Buffer, SocketAddr)>>() {
            Ok(datagram) => return datagram.ok().map(|(data, sender)| Untaken::Datagram(data, sender)),
            Err(result) => result,
        };
        let accepted = result.downcast::<io::Result<Accepted>>().ok()?;
        accepted.ok().map(Untaken::Connection)
    }
}

/// Data that waits to be sent.
#[derive(Debug)]
pub struct Push {
    /// What is left of it.
    pub data: Sga,
    /// For whom, if the socket has no peer.
    pub peer: Option<SocketAddr>,
    /// A part of it is sent: then all of it goes, cancelled or not, for the stream to make sense.
    pub started: bool,
    /// To be completed when all of it is sent.
    pub done: Completion<io::Result<()>>,
}
