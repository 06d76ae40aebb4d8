//! Pushes and pops, on every kind of queue.

use super::operation::{Action, Reading};
use super::table::{Queue, table};
use super::types::{Qd, Qt, errno};
use crate::buffer::{BufferMut, Sga};
use crate::fs::Handle;
use crate::transport::SocketKind;
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// How much is popped unless the caller says otherwise. No datagram is longer.
const POP: usize = 64 << 10;

/// Adds data at the end of a queue: sends all of it on a connection, as one datagram to the peer that a
/// socket is connected to, writes it at a file's position, or puts it into a queue in memory.
///
/// # Errors
/// `EBADF`; `EBUSY` while a file is being opened.
pub fn push(qd: Qd, sga: impl Into<Sga>) -> io::Result<Qt> {
    let (table, sga) = (table(), sga.into());
    let queue = table.queue(qd)?;
    table.start(qd, || {
        Ok(match &*queue {
            Queue::Socket(socket, _) => Action::Push(socket.push(sga)),
            Queue::Memory(queue) => Action::PushMemory(queue.push(sga.into())),
            Queue::File(file, position) => {
                let start = position.get();
                position.set(start.saturating_add(sga.len() as u64));
                Action::Push(file.write_at(sga, start))
            }
            Queue::Opening => return Err(errno(libc::EBUSY)),
        })
    })
}

/// Sends data as one datagram.
///
/// ```
/// # let runtime = demikernel_runtime::Runtime::new()?;
/// # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
/// # runtime.block_on(async {
/// use demikernel_runtime::buffer::Buffer;
/// use demikernel_runtime::pdpix;
/// use demikernel_runtime::transport::{Domain, SocketKind};
/// let [one, other] = [pdpix::socket(Domain::V4, SocketKind::Datagram)?, pdpix::socket(Domain::V4, SocketKind::Datagram)?];
/// pdpix::bind(other, "127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap())?;
/// let address = pdpix::getsockname(other)?.inet().unwrap();
/// pdpix::wait(pdpix::pushto(one, Buffer::from("hi"), address)?, None).await?.ok()?;
/// let popped = pdpix::wait(pdpix::pop(other, None)?, None).await?.ok()?;
/// assert_eq!(popped.sga().unwrap().to_vec(), b"hi");
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
///
/// # Errors
/// `EBADF`, `ENOTSOCK`; `EISCONN` for a connection.
pub fn pushto(qd: Qd, sga: impl Into<Sga>, peer: SocketAddr) -> io::Result<Qt> {
    let (table, sga) = (table(), sga.into());
    let (socket, kind) = table.socket(qd)?;
    match kind {
        SocketKind::Stream => Err(errno(libc::EISCONN)),
        SocketKind::Datagram => table.start(qd, || Ok(Action::Push(socket.push_to(sga, peer)))),
    }
}

/// Takes the next data of a queue: [`Value::Popped`](super::Value::Popped).
///
/// `size` is the most that is taken from a stream or a file, and where a datagram is cut; 64 KiB unless
/// given. A queue in memory gives what was pushed, whatever its size.
///
/// # Errors
/// `EBADF`; `EBUSY` while a file is being opened; `EINVAL` for a size of 0; `OutOfMemory` when the thread's
/// pool has none to read a file into.
pub fn pop(qd: Qd, size: Option<usize>) -> io::Result<Qt> {
    let table = table();
    let queue = table.queue(qd)?;
    let size = size.unwrap_or(POP);
    if size == 0 {
        return Err(errno(libc::EINVAL));
    }
    table.start(qd, || {
        Ok(match &*queue {
            Queue::Socket(socket, SocketKind::Stream) => Action::Pop(socket.pop(size)),
            Queue::Socket(socket, SocketKind::Datagram) => Action::PopFrom(socket.pop_from(size)),
            Queue::Memory(queue) => Action::PopMemory(queue.pop()),
            Queue::File(file, position) => read(file, position, size)?,
            Queue::Opening => return Err(errno(libc::EBUSY)),
        })
    })
}

fn read(file: &Handle, position: &Rc<Cell<u64>>, wanted: usize) -> io::Result<Action> {
    let buffer = room(wanted)?;
    let start = position.get();
    position.set(start.saturating_add(wanted as u64));
    let reading = Reading { position: position.clone(), start, wanted };
    Ok(Action::Read(file.read_at(buffer, start), reading))
}

/// A buffer with room for `wanted` bytes and no more, since a read fills all the room that there is.
fn room(wanted: usize) -> io::Result<BufferMut> {
    let buffer = BufferMut::with_capacity(wanted)?;
    match buffer.capacity() - wanted {
        0 => Ok(buffer),
        excess => {
            drop(buffer);
            Ok(BufferMut::with_headroom(excess, wanted)?)
        }
    }
}
