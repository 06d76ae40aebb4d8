//! Receiving on connections.

use super::connection::{Connection, PopDone, Receive};
use super::device::{Inner, Io};
use super::key::{Key, Kind};
use super::provided::{COPIED, GROUP};
use super::ring::Completed;
use super::socket::Head;
use super::{ReceiveMode, Uring};
use crate::buffer::{Buffer, BufferMut};
use io_uring::{cqueue, opcode, squeue};
use std::io;

/// Somebody who gets something, and whether there may be more to tell.
struct Delivery {
    done: PopDone,
    result: io::Result<Buffer>,
    more: bool,
}

impl Connection {
    /// Starts or ends the receive, as those who wait require.
    #[inline]
    pub(super) fn update_receive(&mut self, head: &mut Head, io: &mut Io) {
        match self.receive {
            Receive::None => {
                if !head.closing
                    && self.connect.is_none()
                    && let Some(limit) = self.inbound.wanted()
                {
                    self.start_receive(head, io, limit);
                }
            }
            Receive::Own | Receive::Provided | Receive::Multishot => {
                let full = self.inbound.unread_bytes() >= io.config.unread;
                let reason = self.unwanted_receive || head.closing || full;
                let wanted = !head.closing && self.inbound.wanted().is_some();
                if reason && !wanted && !self.cancelling_receive {
                    self.cancelling_receive = true;
                    head.cancel(io, Kind::Receive);
                }
            }
            Receive::Starved => {}
        }
        self.unwanted_receive = false;
    }

    /// Tries again what there was no memory for.
    pub(super) fn feed(&mut self, head: &mut Head, io: &mut Io) {
        if self.receive == Receive::Starved {
            self.receive = Receive::None;
            self.update_receive(head, io);
        }
    }

    /// The kernel looks for data at once, also when the last receive has left none: a busy peer has answered
    /// by now. To have it wait first (POLL_FIRST) cost 14 % of the messages of 32 connections.
    #[inline]
    fn start_receive(&mut self, head: &mut Head, io: &mut Io, limit: usize) {
        let fd = head.target.fd();
        let mode = io.receive_mode();
        let operation = match (mode, &mut io.provided) {
            (ReceiveMode::Multishot, Some(provided)) => {
                provided.armed += 1;
                self.receive = Receive::Multishot;
                opcode::RecvMulti::new(fd, GROUP).build()
            }
            (ReceiveMode::Provided, Some(provided)) => {
                provided.armed += 1;
                self.receive = Receive::Provided;
                let length = limit.min(provided.size()) as u32;
                let receive = opcode::Recv::new(fd, std::ptr::null_mut(), length);
                let receive = receive.buf_group(GROUP).build();
                receive.flags(squeue::Flags::BUFFER_SELECT)
            }
            _ => {
                let length = limit.min(io.config.receive_buffer);
                let Ok(mut buffer) = BufferMut::with_capacity(length) else {
                    return self.starve(head, io, length);
                };
                let spare = buffer.spare_capacity_mut();
                let (address, length) = (spare.as_mut_ptr().cast(), spare.len().min(limit) as u32);
                self.receive = Receive::Own;
                self.own = Some(buffer);
                opcode::Recv::new(fd, address, length).build()
            }
        };
        // SAFETY: an own buffer stays in the connection's entry until the completion; what is in the ring
        // of buffers stays there likewise.
        unsafe { head.submit(io, Kind::Receive, operation) };
    }

    #[cold]
    fn starve(&mut self, head: &Head, io: &mut Io, length: usize) {
        self.receive = Receive::Starved;
        io.counters.starved += 1;
        io.starving.add_exhausted(head.key(Kind::Receive), length);
    }

    /// A receive has brought something.
    #[inline]
    fn received(&mut self, head: &mut Head, io: &mut Io, completed: Completed) -> Option<Delivery> {
        let data = self.take_data(head, io, completed);
        let served = match data {
            Some(data) => {
                io.counters.received += 1;
                self.inbound.arrived(data)
            }
            None if completed.result == 0 => {
                self.inbound.end();
                self.inbound.serve()
            }
            None => return self.receive_failed(head, io, completed),
        };
        let more = self.inbound.is_awaited();
        if more || head.closing || completed.more() {
            head.mark(io);
        }
        served.map(|(done, data)| Delivery { done, result: Ok(data), more })
    }

    #[cold]
    fn receive_failed(&mut self, head: &mut Head, io: &mut Io, completed: Completed) -> Option<Delivery> {
        // Who still waits gets a new receive.
        head.mark(io);
        match -completed.result {
            libc::ECANCELED | libc::EAGAIN | libc::EINTR => None,
            libc::ENOBUFS if io.provided.is_some() => {
                if let Some(provided) = &mut io.provided {
                    provided.shortage();
                }
                self.receive = Receive::Starved;
                io.counters.starved += 1;
                io.starving.add(completed.key);
                None
            }
            error => {
                let result = Err(io::Error::from_raw_os_error(error));
                self.inbound.fail().map(|done| Delivery { done, result, more: false })
            }
        }
    }

    /// Takes note of the end of a receive, and its data out of the kernel's hands.
    #[inline]
    fn take_data(&mut self, head: &mut Head, io: &mut Io, completed: Completed) -> Option<Buffer> {
        let length = completed.result.max(0) as usize;
        let receive = self.receive;
        let over = !completed.more();
        if over {
            head.in_kernel -= 1;
            self.receive = Receive::None;
            self.cancelling_receive = false;
        }
        if receive == Receive::Own {
            let buffer = self.own.take()?;
            // SAFETY: the kernel has written so many bytes from the start of the spare capacity, and is
            // done with the buffer.
            return unsafe { filled(buffer, length) };
        }
        let provided = io.provided.as_mut()?;
        if over {
            provided.armed -= 1;
        }
        let number = cqueue::buffer_select(completed.flags)?;
        if length > 0 {
            return provided.take(number, length);
        }
        provided.put_back(number);
        None
    }
}

/// The data of a receive into a buffer of its own.
///
/// # Safety
/// The first `length` bytes of the buffer's spare capacity have been written.
unsafe fn filled(mut buffer: BufferMut, length: usize) -> Option<Buffer> {
    if length == 0 {
        return None;
    }
    // SAFETY: so many bytes have been written, as the caller says.
    unsafe { buffer.set_len(length) };
    // What is small should not keep a large buffer.
    if length <= COPIED
        && let Ok(small) = Buffer::copy_from_slice(&buffer)
    {
        return Some(small);
    }
    Some(buffer.freeze())
}

impl Inner {
    #[inline]
    fn received(&mut self, completed: Completed) -> Option<Delivery> {
        let (head, connection) = self.sockets.connection(completed.key)?;
        connection.received(head, &mut self.io, completed)
    }

    #[cold]
    fn next_delivery(&mut self, key: Key) -> Option<Delivery> {
        let (_, connection) = self.sockets.connection(key)?;
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
