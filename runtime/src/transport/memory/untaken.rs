//! Results that came a moment before their tokens were dropped: data and connections go to the next who asks.

use super::address::Address;
use super::effect::Effect;
use super::socket::{Receiving, Role, Socket};
use super::state::State;
use crate::buffer::Buffer;
use crate::transport::stream::insert_by_number;
use crate::transport::{Accepted, Qd};
use std::any::Any;
use std::io;
use std::net::SocketAddr;

/// What of a result is worth keeping.
pub(super) enum Untaken {
    Data(Buffer),
    Datagram(Buffer, SocketAddr),
    Connection(Qd),
    File(Qd),
    /// Why a connection has failed, which is told once.
    Failure(i32),
}

impl Untaken {
    pub(super) fn new(result: Box<dyn Any>) -> Option<Untaken> {
        let result = match result.downcast::<io::Result<Buffer>>() {
            Ok(data) => {
                return match *data {
                    Ok(data) => Some(Untaken::Data(data)),
                    Err(error) => error.raw_os_error().map(Untaken::Failure),
                };
            }
            Err(result) => result,
        };
        let result = match result.downcast::<io::Result<(Buffer, SocketAddr)>>() {
            Ok(datagram) => return datagram.ok().map(|(data, sender)| Untaken::Datagram(data, sender)),
            Err(result) => result,
        };
        let result = match result.downcast::<io::Result<Accepted>>() {
            Ok(accepted) => return accepted.ok().map(|accepted| Untaken::Connection(accepted.qd)),
            Err(result) => result,
        };
        let opened = result.downcast::<io::Result<Qd>>().ok()?;
        opened.ok().map(Untaken::File)
    }
}

impl State {
    pub(super) fn take_back(&mut self, qd: Qd, number: u32, untaken: Untaken) {
        if let Untaken::File(file) = untaken {
            return self.close_file(file);
        }
        match (self.socket(qd), untaken) {
            (Ok(Socket { role: Role::Connected(stream), .. }), Untaken::Data(data)) if !data.is_empty() => {
                insert_by_number(&mut stream.given_back, number, data);
                self.serve_pops(qd);
            }
            (Ok(Socket { role: Role::Connected(stream), .. }), Untaken::Failure(error))
                if stream.receiving == Receiving::Failed =>
            {
                stream.error = Some(error);
            }
            (Ok(Socket { role: Role::Datagram(datagram), .. }), Untaken::Data(data)) => {
                let unknown = || Address { ip: [0, 0, 0, 0].into(), port: 0 };
                let from = datagram.peer.unwrap_or_else(unknown);
                insert_by_number(&mut datagram.given_back, number, (data, from));
                self.serve_datagrams(qd);
            }
            (Ok(Socket { role: Role::Datagram(datagram), .. }), Untaken::Datagram(data, from)) => {
                let from = Address { ip: from.ip().to_canonical(), port: from.port() };
                insert_by_number(&mut datagram.given_back, number, (data, from));
                self.serve_datagrams(qd);
            }
            (Ok(Socket { role: Role::Listener(listener), .. }), Untaken::Connection(server)) => {
                insert_by_number(&mut listener.given_back, number, server);
                self.progress_listener(qd);
            }
            (_, Untaken::Connection(server)) => self.close(server),
            (_, Untaken::Data(data) | Untaken::Datagram(data, _)) => {
                self.effects.push(Effect::Drop(data.into()));
            }
            _ => {}
        }
    }
}
