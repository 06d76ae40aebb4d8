//! Giving queues up.

use super::operation::Action;
use super::table::{Queue, table};
use super::types::{Qd, Qt, errno};
use crate::executor::{JoinHandle, spawn};
use crate::net::Socket;
use crate::time::timeout;
use crate::transport::{OptionName, SocketKind, SocketOption};
use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

/// How long [`async_close`] waits for the peer: as long as Linux keeps a connection that waits for the other end only.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much of what a peer still sends is taken, and dropped, at once.
const REST: usize = 64 << 10;

/// Gives a queue up. Pushes to a socket or a file that are under way go first; operations that wait fail,
/// which their tokens tell.
///
/// # Errors
/// `EBADF`.
pub fn close(qd: Qd) -> io::Result<()> {
    let table = table();
    let queue = table.remove(qd)?;
    if let Queue::Pipe(end) = &*queue {
        end.close(&mut table.pipes.borrow_mut());
    }
    drop(queue);
    Ok(())
}

/// Gives a queue up, and tells when that is over, by [`Opcode::Close`](super::Opcode::Close). The descriptor is gone at once.
///
/// A connection ends its sending direction, after what was pushed, and then waits until the peer has ended its own. What
/// comes until then goes to pops that are under way, and is dropped after them. That says more than [`close`]: a peer that
/// reads until the end, as servers do, had everything. It waits for as long as [`SocketOption::Linger`] says, or a minute, and
/// whether anybody waits for the token or not.
///
/// Every other queue is closed as by [`close`], and the token is done.
///
/// ```
/// # let runtime = demikernel_runtime::Runtime::new()?;
/// # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
/// # runtime.block_on(async {
/// use demikernel_runtime::pdpix::{self, Opcode};
/// use demikernel_runtime::transport::{Domain, SocketKind};
///
/// let listener = pdpix::socket(Domain::V4, SocketKind::Stream)?;
/// pdpix::bind(listener, "127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap())?;
/// pdpix::listen(listener, 16)?;
/// let client = pdpix::socket(Domain::V4, SocketKind::Stream)?;
/// let connecting = pdpix::connect(client, pdpix::getsockname(listener)?)?;
/// let server = pdpix::wait(pdpix::accept(listener)?, None).await?.value.accepted().unwrap();
/// pdpix::wait(connecting, None).await?.ok()?;
///
/// let tokens = [pdpix::async_close(client)?, pdpix::async_close(server)?];
/// for result in pdpix::wait_all(&tokens, None).await? {
///     assert_eq!(result.opcode, Opcode::Close);
/// }
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
///
/// # Errors
/// `EBADF`; `ENOBUFS` if there are too many operations, and then the queue is still there. In the result: those of the
/// connection, such as `ECONNRESET`, and `ETIMEDOUT` if the peer takes too long.
pub fn async_close(qd: Qd) -> io::Result<Qt> {
    let table = table();
    let queue = table.queue(qd)?;
    let qt = table.start(qd, || {
        Ok(Action::Close(match &*queue {
            Queue::Socket(socket, SocketKind::Stream) => end_of_connection(socket),
            _ => None,
        }))
    })?;
    drop(queue);
    close(qd)?;
    Ok(qt)
}

/// Ends what is sent now, and what is received in a task of its own: nobody has to wait for it. `None` if there is nothing
/// to wait for.
fn end_of_connection(socket: &Rc<Socket>) -> Option<JoinHandle<io::Result<()>>> {
    // Neither a listener nor a socket that is not connected (any more) has a peer.
    socket.peer().ok()?;
    let patience = match socket.option(OptionName::Linger) {
        // To linger for no time is to reset the connection, which nothing may come before.
        Ok(SocketOption::Linger(Some(Duration::ZERO))) => return None,
        Ok(SocketOption::Linger(Some(limit))) => limit,
        _ => PATIENCE,
    };
    let (ended, socket) = (socket.shutdown(Shutdown::Write), socket.clone());
    Some(spawn(async move {
        ended?;
        let rest = async {
            while !socket.pop(REST).await?.is_empty() {}
            Ok(())
        };
        timeout(patience, rest).await.unwrap_or_else(|_| Err(errno(libc::ETIMEDOUT)))
    }))
}

/// Ends one direction of a connection, or both, and keeps the descriptor. What was pushed goes first; the peer's pops then
/// give the end of the stream.
///
/// ```
/// # let runtime = demikernel_runtime::Runtime::new()?;
/// # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
/// # runtime.block_on(async {
/// use demikernel_runtime::buffer::Buffer;
/// use demikernel_runtime::pdpix;
/// use demikernel_runtime::transport::{Domain, SocketKind};
/// use std::net::Shutdown;
///
/// # let listener = pdpix::socket(Domain::V4, SocketKind::Stream)?;
/// # pdpix::bind(listener, "127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap())?;
/// # pdpix::listen(listener, 16)?;
/// # let client = pdpix::socket(Domain::V4, SocketKind::Stream)?;
/// # let connecting = pdpix::connect(client, pdpix::getsockname(listener)?)?;
/// # let server = pdpix::wait(pdpix::accept(listener)?, None).await?.value.accepted().unwrap();
/// # pdpix::wait(connecting, None).await?.ok()?;
/// // client and server are the ends of a connection.
/// pdpix::push(client, Buffer::from("all"))?;
/// pdpix::shutdown(client, Shutdown::Write)?;
/// for expected in [&b"all"[..], b""] {
///     let popped = pdpix::wait(pdpix::pop(server, None)?, None).await?.ok()?;
///     assert_eq!(popped.sga().unwrap().to_vec(), expected);
/// }
/// // The other direction goes on.
/// pdpix::push(server, Buffer::from("thanks"))?;
/// # let popped = pdpix::wait(pdpix::pop(client, None)?, None).await?.ok()?;
/// # assert_eq!(popped.sga().unwrap().to_vec(), b"thanks");
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
///
/// # Errors
/// `EBADF`, `ENOTSOCK`; as shutdown(2): `ENOTCONN` if the socket is not connected.
pub fn shutdown(qd: Qd, how: Shutdown) -> io::Result<()> {
    table().socket(qd)?.0.shutdown(how)
}
