//! What breaks when a test says so. What breaks by chance is in the [settings](super::MemoryConfig).

use super::Memory;
use super::errors::code;
use super::socket::{Role, Socket};
use super::state::{Entry, Event, State, note};
use crate::transport::{Endpoint, Qd};
use std::io;
use std::net::{IpAddr, SocketAddr};

impl Memory {
    /// Breaks the connection of a socket: both ends get `ConnectionReset`, once, after what has arrived.
    ///
    /// # Errors
    /// As for an operation on a socket that does not exist, or is not connected.
    pub fn reset(&self, qd: Qd) -> io::Result<()> {
        self.with(|state| {
            if !matches!(state.socket(qd)?.role, Role::Connected(_)) {
                return Err(code(libc::ENOTCONN));
            }
            state.break_connection(qd);
            Ok(())
        })
    }

    /// The same for the connection between two addresses, either way round; whether there is one.
    pub fn reset_between(&self, one: SocketAddr, other: SocketAddr) -> bool {
        self.with(|state| {
            let found = state.connected().into_iter().find(|&qd| state.is_between(qd, one, other));
            if let Some(qd) = found {
                state.break_connection(qd);
            }
            found.is_some()
        })
    }

    /// Breaks every connection there is, as [`reset`](Self::reset) does.
    pub fn reset_all(&self) {
        self.with(|state| {
            for qd in state.connected() {
                state.break_connection(qd);
            }
        });
    }

    /// Lets nothing through between two addresses, either way, until [`heal`](Self::heal). Datagrams are
    /// lost. What streams send waits, and connections with something under way are given up with `TimedOut`
    /// after [`MemoryConfig::timeout`](super::MemoryConfig::timeout); those without do not notice.
    ///
    /// With one address for both, sockets that share it are cut off from each other.
    pub fn partition(&self, a: IpAddr, b: IpAddr) {
        self.with(|state| {
            note!(state, "partition {a} {b}");
            if !state.is_cut_between(a, b) {
                state.cuts.push((a, b));
            }
        });
    }

    /// Ends a [`partition`](Self::partition). What has waited, and was not given up, goes on.
    pub fn heal(&self, a: IpAddr, b: IpAddr) {
        self.with(|state| {
            note!(state, "heal {a} {b}");
            state.cuts.retain(|&cut| cut != (a, b) && cut != (b, a));
            state.resume();
        });
    }

    /// Ends every [`partition`](Self::partition).
    pub fn heal_all(&self) {
        self.with(|state| {
            note!(state, "heal all");
            state.cuts.clear();
            state.resume();
        });
    }
}

impl State {
    fn connected(&self) -> Vec<Qd> {
        let is_connected =
            |entry: &Entry| matches!(entry, Entry::Socket(Socket { role: Role::Connected(_), .. }));
        self.entries.iter().filter(|(_, entry)| is_connected(entry)).map(|(&qd, _)| qd).collect()
    }

    /// Whether a socket is this end, or the other, of a connection between two addresses.
    fn is_between(&mut self, qd: Qd, one: SocketAddr, other: SocketAddr) -> bool {
        let Some(Socket { domain, local, role: Role::Connected(stream), .. }) = self.any_socket(qd) else {
            return false;
        };
        let ends = [local.shown(*domain), stream.remote.shown(*domain)];
        let wanted = [Endpoint::Inet(one), Endpoint::Inet(other)];
        ends == wanted || (ends[0] == wanted[1] && ends[1] == wanted[0])
    }

    /// Tries again what has not got through. What still does not waits anew.
    fn resume(&mut self) {
        let sockets: Vec<Qd> = self.entries.keys().copied().collect();
        for qd in sockets {
            let Some(socket) = self.any_socket(qd) else { continue };
            match &mut socket.role {
                Role::Connecting(connecting) if connecting.stuck.is_some() && !connecting.answered => {
                    connecting.stuck = None;
                    let connection = connecting.connection;
                    self.send_event(Event::Attempt { client: qd, connection });
                }
                Role::Connecting(connecting) => connecting.stuck = None,
                Role::Connected(_) => self.resume_stream(qd),
                _ => {}
            }
        }
    }

    fn resume_stream(&mut self, qd: Qd) {
        let arrival = self.arrival();
        let Some(Entry::Socket(Socket { role: Role::Connected(stream), .. })) = self.entries.get_mut(&qd)
        else {
            return;
        };
        let (peer, connection) = (stream.peer, stream.connection);
        if stream.stuck.take().is_some() {
            for (at, _) in &mut stream.flight {
                *at = arrival.max(*at);
                self.schedule.add(*at, Event::Arrival { sender: qd });
            }
            stream.latest = stream.latest.max(arrival);
        }
        if stream.telling {
            self.schedule.add(arrival, Event::Room { receiver: qd, peer, connection });
        }
    }
}
