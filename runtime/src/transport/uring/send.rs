//! Sending on connections.
//!
//! What the program pushed since the kernel was entered last goes out as one operation per connection, and
//! what it pushes while that is under way as the next one.

use super::Uring;
use super::connection::{Connection, PushDone, Send};
use super::device::{Inner, Io};
use super::key::{Key, Kind};
use super::ring::Completed;
use super::socket::Head;
use crate::buffer::Buffer;
use crate::transport::stream::Ended;
use io_uring::{cqueue, opcode};
use std::io;
use std::net::Shutdown;

/// The most that one operation sends. The kernel cuts longer ones.
const MOST: usize = 0x7fff_f000;

/// Data that the kernel sends from where it is.
pub(super) struct InPlace {
    /// The connection's.
    key: Key,
    /// Shares the memory that is being sent.
    _data: Buffer,
}

impl Connection {
    /// Starts or ends the send.
    #[inline]
    pub(super) fn update_send(&mut self, head: &mut Head, io: &mut Io) {
        if self.send == Send::None {
            self.unwanted_send = false;
            if !self.outbound.is_empty() {
                self.start_send(head, io);
            } else if self.finishing {
                self.finish(head);
            }
        } else if std::mem::replace(&mut self.unwanted_send, false)
            && !self.cancelling_send
            && self.send != Send::InPlace
        {
            self.cancelling_send = true;
            head.cancel(io, Kind::Send);
        }
    }

    /// Everything is sent.
    #[cold]
    fn finish(&mut self, head: &Head) {
        self.finishing = false;
        if let Err(error) = head.socket.shutdown(Shutdown::Write) {
            tracing::debug!(%error, "the connection was gone before its sending half was shut down");
        }
    }

    #[inline]
    fn start_send(&mut self, head: &mut Head, io: &mut Io) {
        let features = io.ring.features;
        // The kernel goes on until everything is sent, so a long push takes one operation.
        let whole = if features.whole_send { libc::MSG_WAITALL } else { 0 };
        let flags = libc::MSG_NOSIGNAL | whole;
        let operation = if let Some(single) = self.outbound.take_single() {
            let (address, length) = (single.as_ptr(), single.len().min(MOST));
            let in_place = features.zero_copy_send && !self.copies;
            if in_place && io.config.zero_copy_send.is_some_and(|least| length >= least) {
                let data = single.clone();
                return self.start_send_in_place(head, io, data, flags);
            }
            self.send = Send::Plain;
            opcode::Send::new(head.target.fd(), address, length as u32).flags(flags).build()
        } else {
            let mut message = io.messages.take();
            let pieces = self.outbound.gather(&mut message.pieces);
            let operation = opcode::SendMsg::new(head.target.fd(), message.outgoing(pieces, false));
            self.send = Send::Message;
            self.message = Some(message);
            operation.flags(flags as u32).build()
        };
        // SAFETY: the data is shared by the queue of pushes until it was sent, or given back with the
        // completion, and the message stays in the entry as long.
        unsafe { head.submit(io, Kind::Send, operation) };
    }

    /// Sends one piece of memory without a copy. The kernel tells twice: when it has sent, and when it
    /// needs the memory no more; in between the connection may send other things.
    fn start_send_in_place(&mut self, head: &mut Head, io: &mut Io, data: Buffer, flags: i32) {
        self.send = Send::InPlace;
        head.in_kernel += 1;
        let operation = opcode::SendZc::new(head.target.fd(), data.as_ptr(), data.len().min(MOST) as u32);
        let operation = head.target.apply(operation.flags(flags).build());
        let number = io.in_place.insert(InPlace { key: head.key(Kind::Send), _data: data });
        let bits = Key::new(Kind::SendInPlace, 0, number as u32).bits();
        // SAFETY: the entry in the table shares the memory until the second completion.
        unsafe { io.ring.submit(&operation.user_data(bits)) };
    }

    /// A send has come to its end.
    #[inline]
    fn sent(&mut self, head: &mut Head, io: &mut Io, result: i32) -> Sent {
        head.in_kernel -= 1;
        io.counters.sent += 1;
        self.cancelling_send = false;
        let send = std::mem::replace(&mut self.send, Send::None);
        if send == Send::Message
            && let Some(message) = self.message.take()
        {
            io.messages.put(message);
        }
        if result < 0 {
            return self.send_failed(head, io, send, -result);
        }
        self.outbound.sent(result as usize);
        self.next_ended(head, io, None)
    }

    #[cold]
    fn send_failed(&mut self, head: &mut Head, io: &mut Io, send: Send, error: i32) -> Sent {
        self.outbound.sent(0);
        let error = match error {
            libc::ECANCELED | libc::EAGAIN | libc::EINTR => None,
            libc::EOPNOTSUPP if send == Send::InPlace => {
                // Not every kind of socket can.
                self.copies = true;
                None
            }
            error => {
                self.connected = false;
                Some(error)
            }
        };
        self.next_ended(head, io, error)
    }

    /// What has ended next, with the error if there is one; sees to the rest when nothing has.
    #[inline]
    fn next_ended(&mut self, head: &mut Head, io: &mut Io, error: Option<i32>) -> Sent {
        let ended = match error {
            None => self.outbound.ended(),
            Some(error) => self.next_failed(error),
        };
        let more = !self.outbound.is_clear();
        if (ended.is_none() && more) || self.finishing || head.closing {
            head.mark(io);
        }
        Sent { ended, error, more }
    }

    #[cold]
    fn next_failed(&mut self, error: i32) -> Option<Ended<PushDone>> {
        let failed = self.outbound.failed();
        if let Some(Ended { promise: Some(None), .. }) = failed {
            self.failed = Some(error);
        }
        failed
    }
}

/// A send that has come to its end.
#[derive(Default)]
struct Sent {
    /// What has ended with it.
    ended: Option<Ended<PushDone>>,
    error: Option<i32>,
    /// Something else may have ended.
    more: bool,
}

impl Inner {
    #[inline]
    fn sent(&mut self, key: Key, result: i32) -> Sent {
        let Some((head, connection)) = self.sockets.connection(key) else { return Sent::default() };
        connection.sent(head, &mut self.io, result)
    }

    #[cold]
    fn next_ended(&mut self, key: Key, error: Option<i32>) -> Sent {
        let Some((head, connection)) = self.sockets.connection(key) else { return Sent::default() };
        connection.next_ended(head, &mut self.io, error)
    }
}

impl Uring {
    #[inline]
    pub(super) fn on_send(&self, key: Key, result: i32) {
        let sent = self.inner.borrow_mut().sent(key, result);
        self.tell_sent(key, sent);
    }

    #[cold]
    pub(super) fn on_send_in_place(&self, completed: Completed) {
        let number = completed.key.index();
        let (key, over) = {
            let mut inner = self.inner.borrow_mut();
            let in_place = &mut inner.io.in_place;
            let Some(key) = in_place.get(number).map(|in_place| in_place.key) else { return };
            let over = if completed.more() { None } else { in_place.try_remove(number) };
            (key, over)
        };
        drop(over);
        if !cqueue::notif(completed.flags) {
            self.on_send(key, completed.result);
        }
    }

    /// The token of a push was dropped.
    pub(super) fn cancel_push(&self, cancelled: Key) {
        let key = {
            let inner = &mut *self.inner.borrow_mut();
            let entry = inner.sockets.at(cancelled.index() as u32);
            let key = entry.head.key(Kind::Send);
            if let Some((head, connection)) = inner.sockets.connection(key) {
                connection.cancel_push(cancelled.stamp(), head, &mut inner.io);
            }
            key
        };
        // Something may have ended without the kernel's doing.
        let sent = self.inner.borrow_mut().next_ended(key, None);
        self.tell_sent(key, sent);
    }

    /// Ends what was not sent, as the device ends.
    pub(super) fn abandon_pushes(&self, key: Key) {
        let sent = self.inner.borrow_mut().next_ended(key, Some(libc::ECONNABORTED));
        self.tell_sent(key, sent);
    }

    /// Tells those whose pushes have ended.
    #[inline]
    fn tell_sent(&self, key: Key, mut sent: Sent) {
        while let Some(Ended { segment, promise }) = sent.ended {
            drop(segment);
            if let Some(Some(done)) = promise {
                done.complete(sent.error.map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error))));
            }
            if !sent.more {
                break;
            }
            sent = self.inner.borrow_mut().next_ended(key, sent.error);
        }
    }
}
