//! Sending on connections.
//!
//! What the program pushed since the kernel was entered last goes out as one operation per connection, and
//! what it pushes while that is under way as the next one.

use super::Uring;
use super::connection::{PushDone, Send};
use super::device::Inner;
use super::key::{Key, Kind};
use super::ring::Completed;
use super::socket::{Role, key};
use crate::buffer::Sga;
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
    _data: Option<Sga>,
}

/// A push that is over.
pub(super) struct Pushed {
    done: PushDone,
    data: Sga,
    result: io::Result<()>,
}

impl Inner {
    /// Starts or ends the send of a connection.
    pub(super) fn update_send(&mut self, index: u32) {
        let entry = self.sockets.at(index);
        let Role::Stream(connection) = &mut entry.role else { return };
        if !matches!(connection.send, Send::None) {
            let unwanted = std::mem::replace(&mut connection.unwanted_send, false);
            if unwanted && !connection.cancelling_send && !matches!(connection.send, Send::InPlace) {
                connection.cancelling_send = true;
                let key = key(Kind::Send, entry, index);
                self.cancel(key);
            }
            return;
        }
        connection.unwanted_send = false;
        if connection.connect.is_some() {
            return;
        }
        if !connection.outbound.is_empty() {
            self.start_send(index);
        } else if connection.finishing {
            connection.finishing = false;
            if let Err(error) = entry.socket.shutdown(Shutdown::Write) {
                tracing::debug!(%error, "the connection was gone before its sending half was shut down");
            }
        }
    }

    fn start_send(&mut self, index: u32) {
        let features = self.ring.features;
        let entry = self.sockets.at(index);
        let target = entry.target();
        let bits = key(Kind::Send, entry, index).bits();
        let Role::Stream(connection) = &mut entry.role else { return };
        // The kernel goes on until everything is sent, so a long push takes one operation.
        let whole = if features.whole_send { libc::MSG_WAITALL } else { 0 };
        let flags = libc::MSG_NOSIGNAL | whole;
        let operation = if let Some(single) = connection.outbound.take_single() {
            let (address, length) = (single.as_ptr(), single.len().min(MOST));
            let in_place = features.zero_copy_send && !connection.copies;
            if in_place && self.config.zero_copy_send.is_some_and(|least| length >= least) {
                return self.start_send_in_place(index, address, length, flags);
            }
            connection.send = Send::Plain;
            opcode::Send::new(target.fd(), address, length as u32).flags(flags).build()
        } else {
            let mut message = self.messages.take();
            let pieces = connection.outbound.gather(&mut message.pieces);
            if pieces == 0 {
                return self.messages.put(message);
            }
            let operation = opcode::SendMsg::new(target.fd(), message.outgoing(pieces, false));
            connection.send = Send::Message(message);
            operation.flags(flags as u32).build()
        };
        entry.in_kernel += 1;
        // SAFETY: the data is shared by the queue of pushes until it was sent, or given back with the
        // completion, and the message stays in the entry as long; entries stay until then.
        unsafe { self.ring.submit(&target.apply(operation).user_data(bits)) };
    }

    /// Sends one piece of memory without a copy. The kernel tells twice: when it has sent, and when it
    /// needs the memory no more; in between the connection may send other things.
    fn start_send_in_place(&mut self, index: u32, address: *const u8, length: usize, flags: i32) {
        let entry = self.sockets.at(index);
        let target = entry.target();
        let connection_key = key(Kind::Send, entry, index);
        let Role::Stream(connection) = &mut entry.role else { return };
        connection.send = Send::InPlace;
        entry.in_kernel += 1;
        let _data = connection.outbound.share_front();
        let number = self.in_place.insert(InPlace { key: connection_key, _data });
        let operation = opcode::SendZc::new(target.fd(), address, length as u32).flags(flags).build();
        let bits = Key::new(Kind::SendInPlace, 0, number as u32).bits();
        // SAFETY: the entry in the table shares the memory until the second completion.
        unsafe { self.ring.submit(&target.apply(operation).user_data(bits)) };
    }

    /// How far a send came.
    #[inline]
    fn sent(&mut self, key: Key, mut result: i32) -> (Option<Pushed>, Option<i32>) {
        let Some(entry) = self.sockets.of(key) else { return (None, None) };
        entry.in_kernel -= 1;
        let Role::Stream(connection) = &mut entry.role else { return (None, None) };
        match std::mem::replace(&mut connection.send, Send::None) {
            Send::Message(message) => self.messages.put(message),
            // Not every kind of socket can.
            Send::InPlace if result == -libc::EOPNOTSUPP => {
                connection.copies = true;
                result = 0;
            }
            _ => {}
        }
        connection.cancelling_send = false;
        match result {
            0.. => connection.outbound.sent(result as usize),
            _ => connection.outbound.sent(0),
        }
        self.counters.sent += 1;
        let error = fatal(result);
        (self.next_pushed(key, error), error)
    }

    /// The next push that is over; marks the socket if there is more to do when none is.
    #[inline]
    fn next_pushed(&mut self, key: Key, error: Option<i32>) -> Option<Pushed> {
        let entry = self.sockets.of(key)?;
        let Role::Stream(connection) = &mut entry.role else { return None };
        if let Some((done, data)) = connection.outbound.finished() {
            return Some(Pushed { done, data, result: Ok(()) });
        }
        if let Some(error) = error
            && let Some((done, data)) = connection.outbound.fail()
        {
            connection.connected = false;
            if done.is_none() {
                connection.failed = Some(error);
            }
            return Some(Pushed { done, data, result: Err(io::Error::from_raw_os_error(error)) });
        }
        if !connection.outbound.is_empty() || connection.finishing || entry.closing {
            self.sockets.mark(key.index() as u32);
        }
        None
    }
}

/// The error of a send after which nothing more can be sent.
fn fatal(result: i32) -> Option<i32> {
    match -result {
        ..=0 | libc::ECANCELED | libc::EAGAIN | libc::EINTR => None,
        error => Some(error),
    }
}

impl Uring {
    #[inline]
    pub(super) fn on_send(&self, key: Key, result: i32) {
        let (pushed, error) = self.inner.borrow_mut().sent(key, result);
        self.tell_pushed(key, pushed, error);
    }

    /// Tells those whose pushes are over.
    pub(super) fn tell_pushed(&self, key: Key, mut pushed: Option<Pushed>, error: Option<i32>) {
        while let Some(Pushed { done, data, result }) = pushed {
            // First, so that whoever is woken finds the memory free.
            drop(data);
            if let Some(done) = done {
                done.complete(result);
            }
            pushed = self.inner.borrow_mut().next_pushed(key, error);
        }
    }

    /// Tells what has finished without the kernel's doing.
    pub(super) fn finish_pushes(&self, key: Key) {
        let pushed = self.inner.borrow_mut().next_pushed(key, None);
        self.tell_pushed(key, pushed, None);
    }

    /// Ends what was not sent, as the device ends.
    pub(super) fn abandon_pushes(&self, key: Key) {
        let error = Some(libc::ECONNABORTED);
        let pushed = self.inner.borrow_mut().next_pushed(key, error);
        self.tell_pushed(key, pushed, error);
    }

    pub(super) fn on_send_in_place(&self, completed: Completed) {
        let number = completed.key.index();
        let key = {
            let mut inner = self.inner.borrow_mut();
            let Some(key) = inner.in_place.get(number).map(|in_place| in_place.key) else { return };
            if !completed.more() {
                inner.in_place.remove(number);
            }
            key
        };
        if !cqueue::notif(completed.flags) {
            self.on_send(key, completed.result);
        }
    }
}
