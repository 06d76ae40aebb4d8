//! Pushes and pops, on every kind of queue.

use super::operation::{Action, Reading};
use super::table::{Queue, table};
use super::types::{Qd, Qt, errno};
use crate::buffer::{BufferMut, Sga};
use crate::executor::operation;
use crate::fs::Handle;
use crate::transport::SocketKind;
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// How much is popped unless the caller says otherwise. No datagram is longer.
const POP: usize = 64 << 10;

/// Adds data at the end of a queue: sends all of it on a connection, as one datagram to the peer that a
/// socket is connected to, writes it at a file's position, appends it to a log as one record, or puts it into a queue in
/// memory or a pipe. What was pushed to a log is durable when the token is done; nothing is appended if there are no bytes.
///
/// # Errors
/// `EBADF`, also for a log that was not opened to write; `EBUSY` while a file or log is being opened; `EINVAL` for no bytes
/// into a pipe. In the result, `EPIPE` if the peer has gone; of a log: `ENOSPC`, with nothing overwritten; `EMSGSIZE` if the record is too long; `EROFS`; `EIO`, after which the device
/// takes nothing more.
pub fn push(qd: Qd, sga: impl Into<Sga>) -> io::Result<Qt> {
    let (table, sga) = (table(), sga.into());
    let queue = table.queue(qd)?;
    table.start(qd, || {
        Ok(match &*queue {
            Queue::Socket(socket, _) => Action::Push(socket.push(sga)),
            Queue::Memory(queue) => Action::PushMemory(queue.push(sga.into())),
            Queue::Pipe(end) => Action::PushPipe(end.push(sga)?, end.clone()),
            Queue::File(file, position) => {
                let start = position.get();
                position.set(start.saturating_add(sga.len() as u64));
                Action::Push(file.write_at(sga, start))
            }
            Queue::Log(log, access) => {
                allowed(access.write)?;
                let (token, done) = operation();
                log.push(sga, done);
                Action::Push(token)
            }
            Queue::Opening => return Err(errno(libc::EBUSY)),
        })
    })
}

/// As read(2) and write(2) say of a descriptor that was opened for something else.
fn allowed(access: bool) -> io::Result<()> {
    if access { Ok(()) } else { Err(errno(libc::EBADF)) }
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
/// given. A queue in memory and a pipe give what was pushed, whatever its size, and a log its next record, as the memory that was
/// read into. At the end of a file or a log there are no bytes: to wait for what others will push is for
/// `storage::Log::pop`.
///
/// # Errors
/// `EBADF`, also for a log that was not opened to read; `EBUSY` while a file or log is being opened; `EINVAL` for a size of
/// 0; `OutOfMemory` when the thread's pool has none to read a file into. In the result, of a log: `EBADMSG` where records
/// are damaged, behind which the next pop goes on; `EIO`.
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
            Queue::Pipe(end) => Action::PopPipe(end.pop(), end.clone()),
            Queue::File(file, position) => read(file, position, size)?,
            Queue::Log(log, access) => {
                allowed(access.read)?;
                let (token, done) = operation();
                log.pop(done);
                Action::Pop(token)
            }
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
