//! Results that came a moment before their tokens were dropped.

use super::Uring;
use super::key::Key;
use super::socket::Role;
use crate::buffer::Buffer;
use crate::transport::{Accepted, Network, Qd, Storage};
use std::any::Any;
use std::io;
use std::net::SocketAddr;

impl Uring {
    /// Gives what nobody took to the next who asks. Errors, and ends of streams, are told again by the
    /// kernel.
    #[cold]
    pub(super) fn take_back(&self, key: Key, number: u32, result: Box<dyn Any>) {
        let result = match result.downcast::<io::Result<Buffer>>() {
            Ok(data) => return self.data_untaken(key, number, *data),
            Err(result) => result,
        };
        let result = match result.downcast::<io::Result<(Buffer, SocketAddr)>>() {
            Ok(datagram) => return self.datagram_untaken(key, *datagram),
            Err(result) => result,
        };
        let result = match result.downcast::<io::Result<Accepted>>() {
            Ok(accepted) => return self.connection_untaken(key, *accepted),
            Err(result) => result,
        };
        if let Ok(opened) = result.downcast::<io::Result<Qd>>()
            && let Ok(file) = *opened
        {
            self.close_file(file);
        }
    }

    fn data_untaken(&self, key: Key, number: u32, data: io::Result<Buffer>) {
        let Ok(data) = data else { return };
        let mut inner = self.inner.borrow_mut();
        let Some(entry) = inner.sockets.of(key) else { return };
        match &mut entry.role {
            Role::Stream(connection) if !data.is_empty() => connection.inbound.give_back(number, data),
            Role::Datagram(datagrams) => datagrams.give_back(data, None),
            _ => return,
        }
        let stream = matches!(entry.role, Role::Stream(_));
        drop(inner);
        if stream {
            self.tell_received(key);
        } else {
            self.tell_datagrams(key);
        }
    }

    fn datagram_untaken(&self, key: Key, datagram: io::Result<(Buffer, SocketAddr)>) {
        let Ok((data, sender)) = datagram else { return };
        let mut inner = self.inner.borrow_mut();
        let Some(entry) = inner.sockets.of(key) else { return };
        let Role::Datagram(datagrams) = &mut entry.role else { return };
        datagrams.give_back(data, Some(sender));
        drop(inner);
        self.tell_datagrams(key);
    }

    fn connection_untaken(&self, key: Key, accepted: io::Result<Accepted>) {
        let Ok(accepted) = accepted else { return };
        let mut inner = self.inner.borrow_mut();
        match inner.sockets.of(key).filter(|entry| !entry.closing).map(|entry| &mut entry.role) {
            Some(Role::Listener(listener)) => listener.give_back(accepted),
            _ => {
                drop(inner);
                return self.close(accepted.qd);
            }
        }
        drop(inner);
        self.tell_accepted(key);
    }
}
