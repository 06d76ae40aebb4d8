//! How datagrams travel.
//!
//! A send is done when the datagram has left, which it does at once while its socket has room for more on
//! their way (SO_SNDBUF). What arrives where nobody is, where there is no room, or over a cut, is lost.

use super::address::{Address, inet_of_family, of_family};
use super::effect::Effect;
use super::errors::{closed, code};
use super::socket::{Datagram, DatagramPop, DatagramSend, Role, Socket, capacity};
use super::state::{Entry, Event, State, note};
use super::waiting::Queue;
use crate::buffer::{Buffer, BufferMut, Sga};
use crate::executor::Completion;
use crate::transport::{Domain, Endpoint, Qd};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// The longest datagram of IPv4.
const LONGEST: usize = 65_507;

/// What the kernel counts for a datagram beside its data; so empty ones are limited, too.
const OVERHEAD: usize = 256;

/// A datagram on its way.
pub(super) struct Flying {
    sender: Qd,
    from: Address,
    to: Address,
    data: Sga,
    /// Bytes of the sender's room that it takes; none if it is a duplicate.
    takes: usize,
    /// It does not get there.
    lost: bool,
}

impl Flying {
    pub(super) fn into_data(self) -> Sga {
        self.data
    }
}

/// Sending.
impl State {
    pub(super) fn connect_datagram(&mut self, qd: Qd, peer: &Endpoint) -> io::Result<()> {
        let domain = self.socket(qd)?.domain;
        let peer = inet_of_family(domain, peer)?.as_destination();
        let local = self.bind_for_sending(qd, Some(peer))?;
        self.datagrams.set_peer(qd, local, peer);
        if let Socket { role: Role::Datagram(datagram), .. } = self.socket(qd)? {
            datagram.peer = Some(peer);
        }
        Ok(())
    }

    /// The address that a socket sends from; it gets one if it has none.
    fn bind_for_sending(&mut self, qd: Qd, peer: Option<Address>) -> io::Result<Address> {
        let socket = self.socket(qd)?;
        let domain = socket.domain;
        if !socket.bound {
            let all = Address::unspecified(domain);
            let wanted = peer.map_or(all, |peer| Address { ip: peer.ip, port: 0 });
            self.bind_address(qd, wanted)?;
        }
        Ok(self.socket(qd)?.local.inet().unwrap_or(Address::unspecified(domain)))
    }

    pub(super) fn push_datagram(
        &mut self,
        qd: Qd,
        data: Sga,
        to: Option<SocketAddr>,
        done: Completion<io::Result<()>>,
    ) {
        let to = match self.start_send(qd, data.len(), to) {
            Ok(to) => to,
            Err(error) => return self.refuse_push(data, done, error),
        };
        let Ok(Socket { role: Role::Datagram(datagram), .. }) = self.socket(qd) else { return };
        let number = datagram.sends.next_number();
        self.watch(&done, qd, Queue::Sends, number);
        if let Ok(Socket { role: Role::Datagram(datagram), .. }) = self.socket(qd) {
            datagram.sends.push(DatagramSend { data, to, done });
        }
        self.launch(qd);
    }

    /// Whom a datagram goes to.
    fn start_send(&mut self, qd: Qd, size: usize, to: Option<SocketAddr>) -> io::Result<Address> {
        let Socket { domain, role: Role::Datagram(datagram), .. } = self.socket(qd)? else {
            return Err(code(libc::ENOTCONN));
        };
        if let Some(error) = datagram.error.take() {
            return Err(code(error));
        }
        let to = match (to, datagram.peer) {
            (Some(to), _) => of_family(*domain, to)?.as_destination(),
            (None, Some(peer)) => peer,
            (None, None) => return Err(code(libc::EDESTADDRREQ)),
        };
        if size > LONGEST {
            return Err(code(libc::EMSGSIZE));
        }
        self.bind_for_sending(qd, None)?;
        Ok(to)
    }

    /// Sends what the socket has room for.
    fn launch(&mut self, qd: Qd) {
        loop {
            let Some(socket) = self.any_socket(qd) else { return };
            let room = capacity(socket.options.send_buffer);
            let local = socket.local.inet();
            let Role::Datagram(datagram) = &mut socket.role else { return };
            let Some(first) = datagram.sends.front() else { return };
            let takes = first.data.len() + OVERHEAD;
            if datagram.in_flight > 0 && datagram.in_flight + takes > room {
                return;
            }
            datagram.in_flight += takes;
            let (Some(send), Some(local)) = (datagram.sends.pop(), local) else { return };
            let DatagramSend { data, to, done } = send;
            // From all addresses means from the one that leads to the peer: the peer's own.
            let ip = if local.ip.is_unspecified() { to.ip } else { local.ip };
            let lost = self.random.chance(self.config.loss);
            note!(self, "{} sends {} to {}:{}", qd.0, data.len(), to.ip, to.port);
            let flying = Flying { sender: qd, from: Address { ip, ..local }, to, data, takes, lost };
            self.count.datagrams += 1;
            self.fly(flying);
            self.done(done, Ok(()));
        }
    }

    fn fly(&mut self, flying: Flying) {
        if self.random.chance(self.config.duplicates) {
            let copy = Flying { data: flying.data.clone(), takes: 0, ..flying };
            let at = self.arrival();
            self.schedule.add(at, Event::Datagram(Box::new(copy)));
        }
        let late = self.random.chance(self.config.reorders);
        let mut at = self.arrival();
        let extra = self.config.latency + self.config.jitter + Duration::from_nanos(1);
        if late {
            at = at + extra + self.random.up_to(extra * 3);
        } else if let Some(Socket { role: Role::Datagram(datagram), .. }) = self.any_socket(flying.sender) {
            at = datagram.latest.map_or(at, |latest| latest.max(at));
            datagram.latest = Some(at);
        }
        self.schedule.add(at, Event::Datagram(Box::new(flying)));
    }
}

/// Arriving.
impl State {
    pub(super) fn datagram_arrives(&mut self, flying: Flying) {
        let Flying { sender, from, to, data, takes, lost } = flying;
        if let Some(Socket { role: Role::Datagram(datagram), .. }) = self.any_socket(sender) {
            datagram.in_flight -= takes;
            self.launch(sender);
        }
        if lost || self.is_cut_between(from.ip, to.ip) {
            self.count.datagrams_lost += 1;
            note!(self, "{} loses {}", sender.0, data.len());
            return self.effects.push(Effect::Drop(data));
        }
        let Some(receiver) = self.datagrams.find_receiver(to, from) else {
            self.count.datagrams_to_nobody += 1;
            self.effects.push(Effect::Drop(data));
            return self.nobody_is_there(sender, to);
        };
        let Some(socket) = self.any_socket(receiver) else { return };
        let room = capacity(socket.options.receive_buffer);
        let Role::Datagram(datagram) = &mut socket.role else { return };
        let size = data.len() + OVERHEAD;
        if datagram.unread > 0 && datagram.unread + size > room {
            self.count.datagrams_without_room += 1;
            note!(self, "{} has no room for {}", receiver.0, data.len());
            return self.effects.push(Effect::Drop(data));
        }
        datagram.unread += size;
        note!(self, "{} gets {}", receiver.0, data.len());
        let Some(Entry::Socket(Socket { role: Role::Datagram(datagram), .. })) =
            self.entries.get_mut(&receiver)
        else {
            return;
        };
        datagram.arrived.push_back((in_one_piece(data), from));
        self.serve_datagrams(receiver);
    }

    /// A socket that has one peer is told when nobody is at its address.
    fn nobody_is_there(&mut self, sender: Qd, to: Address) {
        let Some(Socket { role: Role::Datagram(datagram), .. }) = self.any_socket(sender) else { return };
        if datagram.peer == Some(to) {
            datagram.error = Some(libc::ECONNREFUSED);
            self.serve_datagrams(sender);
        }
    }

    pub(super) fn pop_datagram(&mut self, qd: Qd, pop: DatagramPop) {
        let number = match self.socket(qd) {
            Ok(Socket { role: Role::Datagram(datagram), .. }) => datagram.pops.next_number(),
            Ok(_) => {
                let error = "pop_from is for datagrams: a stream has one peer, use pop";
                return self.fail_pop(pop, io::Error::new(io::ErrorKind::InvalidInput, error));
            }
            Err(error) => return self.fail_pop(pop, error),
        };
        match &pop {
            DatagramPop::Data(_, done) => self.watch(done, qd, Queue::Receives, number),
            DatagramPop::DataFrom(_, done) => self.watch(done, qd, Queue::Receives, number),
        }
        if let Ok(Socket { role: Role::Datagram(datagram), .. }) = self.socket(qd) {
            datagram.pops.push(pop);
        }
        self.serve_datagrams(qd);
    }

    fn fail_pop(&mut self, pop: DatagramPop, error: io::Error) {
        self.effects.push(match pop {
            DatagramPop::Data(_, done) => Effect::Popped(done, Err(error)),
            DatagramPop::DataFrom(_, done) => Effect::PoppedFrom(done, Err(error)),
        });
    }

    /// Gives those who wait what there is.
    pub(super) fn serve_datagrams(&mut self, qd: Qd) {
        loop {
            let Some(socket) = self.any_socket(qd) else { return };
            let domain = socket.domain;
            let Role::Datagram(datagram) = &mut socket.role else { return };
            let nothing = datagram.arrived.is_empty() && datagram.given_back.is_empty();
            if datagram.pops.is_empty() || (nothing && datagram.error.is_none()) {
                return;
            }
            let Some(pop) = datagram.pops.pop() else { return };
            match datagram.error.take() {
                Some(error) => self.fail_pop(pop, code(error)),
                None => {
                    let (effect, rest) = give(datagram, domain, pop);
                    self.effects.extend([effect, Effect::Drop(rest.into())]);
                }
            }
        }
    }

    pub(super) fn close_datagram(&mut self, qd: Qd) {
        self.release_address(qd);
        let Some(Entry::Socket(Socket { role: Role::Datagram(datagram), .. })) = self.entries.remove(&qd)
        else {
            return;
        };
        let Datagram { mut pops, mut sends, given_back, arrived, .. } = datagram;
        while let Some(pop) = pops.pop() {
            self.fail_pop(pop, closed());
        }
        while let Some(send) = sends.pop() {
            self.refuse_push(send.data, send.done, closed());
        }
        let unread = given_back.into_iter().map(|(_, datagram)| datagram).chain(arrived);
        self.effects.extend(unread.map(|(data, _)| Effect::Drop(data.into())));
    }
}

/// Hands the first datagram over, cut to what was asked for; the rest is lost.
fn give(datagram: &mut Datagram, domain: Domain, pop: DatagramPop) -> (Effect, Buffer) {
    let (mut data, from) = match datagram.given_back.pop_front() {
        Some((_, former)) => former,
        None => {
            let first = datagram.arrived.pop_front().expect("the caller has looked");
            datagram.unread -= first.0.len() + OVERHEAD;
            first
        }
    };
    let (DatagramPop::Data(limit, _) | DatagramPop::DataFrom(limit, _)) = &pop;
    let rest = if data.len() > *limit { data.split_off(*limit) } else { Buffer::new() };
    let effect = match pop {
        DatagramPop::Data(_, done) => Effect::Popped(done, Ok(data)),
        DatagramPop::DataFrom(_, done) => Effect::PoppedFrom(done, Ok((data, from.shown(domain)))),
    };
    (effect, rest)
}

/// A datagram is one buffer, from the heap if the pool has no memory.
fn in_one_piece(mut data: Sga) -> Buffer {
    if data.segments() <= 1 {
        return data.pop_front().unwrap_or_default();
    }
    match BufferMut::with_capacity(data.len()) {
        Ok(mut whole) => {
            data.iter().for_each(|piece| whole.extend_from_slice(piece));
            whole.freeze()
        }
        Err(_) => Buffer::from(data.to_vec()),
    }
}
