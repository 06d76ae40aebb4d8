//! Receiving on connections.

use super::connection::{Connection, PopDone, Receive};
use super::device::Inner;
use super::key::{Key, Kind};
use super::ring::Completed;
use super::socket::{Role, key};
use super::{ReceiveMode, Uring};
use crate::buffer::{Buffer, BufferMut};
use io_uring::{cqueue, opcode, squeue};
use std::io;

use super::provided::{COPIED, GROUP};

/// IORING_RECVSEND_POLL_FIRST: wait for data before looking for it.
pub(super) const POLL_FIRST: u16 = 1;

/// Somebody who gets something, and whether there may be more to tell.
pub(super) struct Delivery {
    done: PopDone,
    result: io::Result<Buffer>,
    more: bool,
}

impl Inner {
    /// Starts or ends the receive of a connection, as those who wait require.
    pub(super) fn update_receive(&mut self, index: u32) {
        let entry = self.sockets.at(index);
        let Role::Stream(connection) = &mut entry.role else { return };
        let wanted = if entry.closing { None } else { connection.inbound.wanted() };
        match connection.receive {
            Receive::None => {
                if let Some(limit) = wanted
                    && connection.connect.is_none()
                {
                    self.start_receive(index, limit);
                }
            }
            Receive::Starved => {}
            Receive::Own(_) | Receive::Provided | Receive::Multishot => {
                let full = connection.inbound.unread_bytes() >= self.config.unread;
                let unwanted = connection.unwanted_receive || entry.closing || full;
                if wanted.is_none() && unwanted && !connection.cancelling_receive {
                    connection.cancelling_receive = true;
                    let key = key(Kind::Receive, entry, index);
                    self.cancel(key);
                }
            }
        }
        let Role::Stream(connection) = &mut self.sockets.at(index).role else { return };
        connection.unwanted_receive = false;
    }

    fn start_receive(&mut self, index: u32, limit: usize) {
        let mode = self.receive_mode();
        let entry = self.sockets.at(index);
        let target = entry.target();
        let bits = key(Kind::Receive, entry, index).bits();
        let Role::Stream(connection) = &mut entry.role else { return };
        let priority = if connection.drained { POLL_FIRST } else { 0 };
        let (receive, operation) = match (mode, &mut self.provided) {
            (ReceiveMode::Multishot, Some(provided)) => {
                provided.armed += 1;
                (Receive::Multishot, opcode::RecvMulti::new(target.fd(), GROUP).build())
            }
            (ReceiveMode::Provided, Some(provided)) => {
                provided.armed += 1;
                let length = limit.min(provided.size()) as u32;
                let receive = opcode::Recv::new(target.fd(), std::ptr::null_mut(), length);
                let receive = receive.buf_group(GROUP).ioprio(priority).build();
                (Receive::Provided, receive.flags(squeue::Flags::BUFFER_SELECT))
            }
            _ => {
                let length = limit.min(self.config.receive_buffer);
                let Ok(mut buffer) = BufferMut::with_capacity(length) else {
                    connection.receive = Receive::Starved;
                    self.counters.starved += 1;
                    self.starving.add_exhausted(Key::from_bits(bits), length);
                    return;
                };
                let spare = buffer.spare_capacity_mut();
                let (address, length) = (spare.as_mut_ptr().cast(), spare.len().min(limit) as u32);
                let receive = opcode::Recv::new(target.fd(), address, length).ioprio(priority).build();
                (Receive::Own(buffer), receive)
            }
        };
        connection.receive = receive;
        entry.in_kernel += 1;
        // SAFETY: an own buffer stays in the connection's entry until the completion, and entries stay
        // until all of their completions are in; what is in the ring of buffers stays there likewise.
        unsafe { self.ring.submit(&target.apply(operation).user_data(bits)) };
    }

    /// What a receive brought.
    #[inline]
    fn received(&mut self, completed: Completed) -> Option<Delivery> {
        let data = self.data_of(completed);
        let features = self.ring.features;
        let Inner { sockets, starving, counters, .. } = self;
        let entry = sockets.of(completed.key)?;
        let Role::Stream(connection) = &mut entry.role else { return None };
        let Connection { inbound, .. } = connection;
        let delivery = match (completed.result, data) {
            (1.., Some(data)) => {
                counters.received += 1;
                connection.drained = features.release_5_19 && !cqueue::sock_nonempty(completed.flags);
                inbound.arrived(data).map(|(done, data)| (done, Ok(data)))
            }
            (0, _) => {
                inbound.end();
                inbound.serve().map(|(done, data)| (done, Ok(data)))
            }
            (error, _) => match -error {
                libc::ENOBUFS if self.provided.is_some() => {
                    if let Some(provided) = &mut self.provided {
                        provided.shortage();
                    }
                    counters.starved += 1;
                    connection.receive = Receive::Starved;
                    starving.add(completed.key);
                    None
                }
                // Who still waits gets a new receive.
                libc::ECANCELED | libc::EAGAIN | libc::EINTR => None,
                error => inbound.fail().map(|done| (done, Err(io::Error::from_raw_os_error(error)))),
            },
        };
        let waiting = inbound.is_awaited();
        if waiting || entry.closing || completed.more() {
            sockets.mark(completed.key.index() as u32);
        }
        delivery.map(|(done, result)| Delivery { done, result, more: waiting })
    }

    /// Takes note of the end of a receive, and its data out of the kernel's hands.
    #[inline]
    fn data_of(&mut self, completed: Completed) -> Option<Buffer> {
        let length = completed.result.max(0) as usize;
        let mut data = None;
        let entry = self.sockets.of(completed.key);
        let mut receive = Receive::None;
        if let Some(entry) = entry
            && !completed.more()
        {
            entry.in_kernel -= 1;
            if let Role::Stream(connection) = &mut entry.role {
                receive = std::mem::replace(&mut connection.receive, Receive::None);
                connection.cancelling_receive = false;
            }
        }
        if let Some(provided) = &mut self.provided {
            if matches!(receive, Receive::Provided | Receive::Multishot) {
                provided.armed -= 1;
            }
            match cqueue::buffer_select(completed.flags) {
                Some(number) if length > 0 => data = provided.take(number, length),
                Some(number) => provided.put_back(number),
                None => {}
            }
        }
        if let Receive::Own(mut buffer) = receive
            && length > 0
        {
            // SAFETY: the kernel has written so many bytes from the start of the spare capacity, and is
            // done with the buffer.
            unsafe { buffer.set_len(length) };
            // What is small should not keep a large buffer.
            data = match length <= COPIED {
                true => Buffer::copy_from_slice(&buffer).ok(),
                false => None,
            };
            data = data.or_else(|| Some(buffer.freeze()));
        }
        data
    }

    fn next_delivery(&mut self, key: Key) -> Option<Delivery> {
        let entry = self.sockets.of(key)?;
        let Role::Stream(connection) = &mut entry.role else { return None };
        let (done, data) = connection.inbound.serve()?;
        Some(Delivery { done, result: Ok(data), more: true })
    }
}

impl Uring {
    /// Serves those who wait with what is unread.
    pub(super) fn tell_received(&self, key: Key) {
        loop {
            let delivery = self.inner.borrow_mut().next_delivery(key);
            let Some(Delivery { done, result, .. }) = delivery else { break };
            done.complete(result);
        }
    }

    #[inline]
    pub(super) fn on_receive(&self, completed: Completed) {
        let mut delivery = self.inner.borrow_mut().received(completed);
        while let Some(Delivery { done, result, more }) = delivery {
            done.complete(result);
            if !more {
                break;
            }
            delivery = self.inner.borrow_mut().next_delivery(completed.key);
        }
    }
}
