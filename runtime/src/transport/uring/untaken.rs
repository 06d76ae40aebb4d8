//! Results that came a moment before their tokens were dropped.

use super::Uring;
use super::device::Inner;
use super::key::Key;
use super::socket::{Entry, Role};
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
        let found = self.inner.borrow_mut().data_untaken(key, number, data);
        match found {
            Some(Data::OfStream) => self.tell_received(key),
            Some(Data::OfDatagram) => self.tell_datagrams(key),
            None => {}
        }
    }

    fn datagram_untaken(&self, key: Key, datagram: io::Result<(Buffer, SocketAddr)>) {
        let Ok((data, sender)) = datagram else { return };
        if let Some(Entry { role: Role::Datagram(datagrams), .. }) = self.inner.borrow_mut().sockets.of(key) {
            datagrams.give_back(data, Some(sender));
        }
        self.tell_datagrams(key);
    }

    fn connection_untaken(&self, key: Key, accepted: io::Result<Accepted>) {
        let Ok(accepted) = accepted else { return };
        let unwanted = match self.inner.borrow_mut().sockets.of(key) {
            Some(Entry { head, role: Role::Listener(listener) }) if !head.closing => {
                listener.give_back(accepted);
                None
            }
            _ => Some(accepted),
        };
        match unwanted {
            Some(accepted) => self.close(accepted.qd),
            None => self.tell_accepted(key),
        }
    }
}

enum Data {
    OfStream,
    OfDatagram,
}

impl Inner {
    fn data_untaken(&mut self, key: Key, number: u32, data: Buffer) -> Option<Data> {
        match &mut self.sockets.of(key)?.role {
            Role::Stream(connection) if !data.is_empty() => {
                connection.inbound.give_back(number, data);
                Some(Data::OfStream)
            }
            Role::Datagram(datagrams) => {
                datagrams.give_back(data, None);
                Some(Data::OfDatagram)
            }
            _ => None,
        }
    }
}
