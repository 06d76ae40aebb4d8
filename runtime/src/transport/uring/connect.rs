//! Connecting.

use super::Uring;
use super::connection::Connection;
use super::device::{Inner, Io};
use super::key::{Key, Kind};
use super::message::Message;
use super::ring::Completed;
use super::socket::Head;
use crate::executor::Completion;
use crate::transport::{Endpoint, kernel};
use io_uring::opcode;
use std::io;

pub(super) type ConnectDone = Completion<io::Result<()>>;

/// A connect under way.
pub(super) struct Connect {
    done: ConnectDone,
    peer: Endpoint,
    /// The address, which the kernel may read.
    message: Box<Message>,
    cancelling: bool,
    /// The token was dropped.
    unwanted: bool,
}

impl Connection {
    /// Starts to connect; gives the promise back if that cannot be.
    pub(super) fn start_connect(
        &mut self,
        head: &mut Head,
        io: &mut Io,
        peer: &Endpoint,
        done: ConnectDone,
    ) -> Result<(), (ConnectDone, io::Error)> {
        let name = match kernel::to_sockaddr(peer) {
            Ok(name) => name,
            Err(error) => return Err((done, error)),
        };
        if self.connect.is_some() {
            return Err((done, io::Error::from_raw_os_error(libc::EALREADY)));
        }
        let mut message = io.messages.take();
        message.set_name(&name);
        let (address, length) = message.name();
        done.on_cancel(io.id, head.key(Kind::Connect).bits());
        let connect = Connect { done, peer: peer.clone(), message, cancelling: false, unwanted: false };
        self.connect = Some(Box::new(connect));
        let operation = opcode::Connect::new(head.target.fd(), address, length).build();
        // SAFETY: the address stays in the entry until the completion.
        unsafe { head.submit(io, Kind::Connect, operation) };
        Ok(())
    }

    /// Ends a connect that nobody waits for.
    #[cold]
    pub(super) fn update_connect(&mut self, head: &mut Head, io: &mut Io) {
        let Some(connect) = &mut self.connect else { return };
        if (connect.unwanted || head.closing) && !connect.cancelling {
            connect.cancelling = true;
            head.cancel(io, Kind::Connect);
        }
    }
}

impl Inner {
    fn connected(&mut self, completed: Completed) -> Option<(ConnectDone, io::Result<()>)> {
        let (head, connection) = self.sockets.connection(completed.key)?;
        head.in_kernel -= 1;
        let connect = *connection.connect.take()?;
        self.io.messages.put(connect.message);
        let result = match completed.result {
            0.. => {
                connection.connected = true;
                self.io.counters.connected += 1;
                Ok(())
            }
            error => Err(kernel::connect_error(io::Error::from_raw_os_error(-error), &connect.peer)),
        };
        // What was pushed or asked for meanwhile can start.
        head.mark(&mut self.io);
        Some((connect.done, result))
    }
}

impl Uring {
    pub(super) fn on_connect(&self, completed: Completed) {
        let connected = self.inner.borrow_mut().connected(completed);
        if let Some((done, result)) = connected {
            done.complete(result);
        }
    }

    /// The token of a connect was dropped.
    pub(super) fn cancel_connect(&self, key: Key) {
        let inner = &mut *self.inner.borrow_mut();
        if let Some((head, connection)) = inner.sockets.connection(key)
            && let Some(connect) = &mut connection.connect
        {
            connect.unwanted = true;
            head.mark(&mut inner.io);
        }
    }
}
