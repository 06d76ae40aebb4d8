//! Connecting.

use super::Uring;
use super::connection::{Connect, ConnectDone};
use super::device::Inner;
use super::key::{Key, Kind};
use super::ring::Completed;
use super::socket::{Role, key};
use crate::transport::{Endpoint, kernel};
use io_uring::opcode;
use std::io;

impl Inner {
    /// Starts to connect a stream; gives the promise back if that cannot be.
    pub(super) fn start_connect(
        &mut self,
        index: u32,
        peer: &Endpoint,
        done: ConnectDone,
    ) -> Result<(), (ConnectDone, io::Error)> {
        let name = match kernel::to_sockaddr(peer) {
            Ok(name) => name,
            Err(error) => return Err((done, error)),
        };
        let entry = self.sockets.at(index);
        let target = entry.target();
        let key = key(Kind::Connect, entry, index);
        let Role::Stream(connection) = &mut entry.role else {
            return Err((done, io::Error::from_raw_os_error(libc::EOPNOTSUPP)));
        };
        if connection.connect.is_some() {
            return Err((done, io::Error::from_raw_os_error(libc::EALREADY)));
        }
        let mut message = self.messages.take();
        message.set_name(&name);
        let (address, length) = message.name();
        done.on_cancel(self.id, key.bits());
        let connect = Connect { done, peer: peer.clone(), message, cancelling: false, unwanted: false };
        connection.connect = Some(Box::new(connect));
        entry.in_kernel += 1;
        let operation = opcode::Connect::new(target.fd(), address, length).build();
        // SAFETY: the address stays in the entry until the completion.
        unsafe { self.ring.submit(&target.apply(operation).user_data(key.bits())) };
        Ok(())
    }

    /// Ends a connect that nobody waits for.
    pub(super) fn update_connect(&mut self, index: u32) {
        let entry = self.sockets.at(index);
        let Role::Stream(connection) = &mut entry.role else { return };
        let Some(connect) = &mut connection.connect else { return };
        if (connect.unwanted || entry.closing) && !connect.cancelling {
            connect.cancelling = true;
            let key = key(Kind::Connect, entry, index);
            self.cancel(key);
        }
    }

    fn connected(&mut self, completed: Completed) -> Option<(ConnectDone, io::Result<()>)> {
        let entry = self.sockets.of(completed.key)?;
        entry.in_kernel -= 1;
        let Role::Stream(connection) = &mut entry.role else { return None };
        let connect = *connection.connect.take()?;
        self.messages.put(connect.message);
        let result = match completed.result {
            0.. => {
                connection.connected = true;
                self.counters.connected += 1;
                Ok(())
            }
            error => Err(kernel::connect_error(io::Error::from_raw_os_error(-error), &connect.peer)),
        };
        // What was pushed or asked for meanwhile can start.
        self.sockets.mark(completed.key.index() as u32);
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
        let mut inner = self.inner.borrow_mut();
        let Some(entry) = inner.sockets.of(key) else { return };
        let Role::Stream(connection) = &mut entry.role else { return };
        if let Some(connect) = &mut connection.connect {
            connect.unwanted = true;
            inner.sockets.mark(key.index() as u32);
        }
    }
}
