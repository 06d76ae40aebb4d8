//! Ports that several cores of this process listen at.
//!
//! The connection manager has one listener for a port. So the first who binds has it, and hands every other connection to
//! the next of those who listen there, whose channel the connection's id is moved to. When the first listens no more,
//! another one takes its place.

use super::engine::Engine;
use super::manager::LISTENER;
use crate::link::Id;
use crate::verbs::{ChannelHandle, ConnectionId, EventChannel, PortSpace, PrivateData, Request, Stray};
use demikernel_runtime::time::Instant;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard};

/// All ports that are shared.
static PORTS: Mutex<Vec<Port>> = Mutex::new(Vec::new());

/// A port, of a device and a connection manager.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Name {
    realm: usize,
    device: String,
    address: SocketAddr,
}

struct Port {
    name: Name,
    seats: Vec<Place>,
    /// Whose turn it is.
    next: usize,
    /// The number of the seat that the manager's listener belongs to.
    first: Option<u64>,
    /// Numbers of seats that there have been.
    count: u64,
}

struct Place {
    number: u64,
    inbox: Arc<Inbox>,
    /// The listener, once it listens.
    listener: Option<Id>,
}

/// What other cores have for one.
pub(super) struct Inbox {
    channel: ChannelHandle,
    messages: Mutex<VecDeque<Message>>,
    bell: OwnedFd,
}

enum Message {
    /// A connection for a listener.
    Connection { listener: Id, id: Stray, data: Box<PrivateData>, depths: (u8, u8) },
    /// A listener is to have the manager's.
    Lead { listener: Id },
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nobody panics with half of something done.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Inbox {
    fn new(channel: &EventChannel) -> io::Result<Arc<Inbox>> {
        // SAFETY: no memory is passed.
        let bell = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if bell < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just opened, and nobody else has it.
        let bell = unsafe { OwnedFd::from_raw_fd(bell) };
        Ok(Arc::new(Inbox { channel: channel.handle(), messages: Mutex::default(), bell }))
    }

    /// Becomes readable when there is a message.
    pub(super) fn descriptor(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    fn put(&self, message: Message) {
        lock(&self.messages).push_back(message);
        let one = 1_u64;
        // It fails when it is full of rings, which is as good.
        // SAFETY: 8 bytes are written, as a descriptor of this kind takes.
        unsafe { libc::write(self.bell.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    fn take(&self) -> VecDeque<Message> {
        let mut rings = 0_u64;
        // SAFETY: 8 bytes are read, as a descriptor of this kind gives.
        unsafe { libc::read(self.bell.as_raw_fd(), (&raw mut rings).cast(), 8) };
        std::mem::take(&mut *lock(&self.messages))
    }
}

/// A place among those who share a port, until it is dropped.
pub(super) struct Seat {
    name: Name,
    number: u64,
}

impl Seat {
    /// The address that is shared.
    pub(super) fn address(&self) -> SocketAddr {
        self.name.address
    }

    fn with<R>(&self, look: impl FnOnce(&mut Port) -> R) -> Option<R> {
        lock(&PORTS).iter_mut().find(|port| port.name == self.name).map(look)
    }

    /// It listens from now on: whether nobody has the manager's listener, so that it is to make one.
    pub(super) fn listens(&self, listener: Id) -> bool {
        let leads = self.with(|port| {
            if let Some(place) = port.seats.iter_mut().find(|place| place.number == self.number) {
                place.listener = Some(listener);
            }
            let leads = port.first.is_none();
            if leads {
                port.first = Some(self.number);
            }
            leads
        });
        leads.unwrap_or(false)
    }

    /// Who is to have the next connection, if it is another.
    fn choose(&self) -> Option<(Arc<Inbox>, Id)> {
        self.with(|port| {
            let listening: Vec<_> =
                port.seats.iter().filter_map(|place| place.listener.map(|id| (place, id))).collect();
            port.next = port.next.wrapping_add(1);
            let (place, listener) = listening.get(port.next % listening.len().max(1))?;
            (place.number != self.number).then(|| (place.inbox.clone(), *listener))
        })?
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut ports = lock(&PORTS);
        let Some(at) = ports.iter().position(|port| port.name == self.name) else { return };
        let port = &mut ports[at];
        port.seats.retain(|place| place.number != self.number);
        if port.seats.is_empty() {
            ports.swap_remove(at);
            return;
        }
        if port.first == Some(self.number) {
            // The manager's listener went before this.
            let heir = port.seats.iter().find_map(|place| place.listener.map(|id| (place, id)));
            port.first = heir.as_ref().map(|(place, _)| place.number);
            if let Some((place, listener)) = heir {
                place.inbox.put(Message::Lead { listener });
            }
        }
    }
}

impl Engine {
    /// Takes a place at a port that is shared: with the manager's id if nobody else has one there.
    ///
    /// # Errors
    /// If nobody of this process has the port, and it cannot be bound.
    pub(super) fn share(&mut self, address: SocketAddr) -> io::Result<(Option<ConnectionId>, Seat)> {
        let inbox = self.inbox()?;
        let name = Name { realm: self.manager.realm(), device: self.device_name().to_owned(), address };
        // Nobody else binds there meanwhile.
        let mut ports = lock(&PORTS);
        let at = ports.iter().position(|port| port.name == name);
        let has_first = at.is_some_and(|at| ports[at].first.is_some());
        let manager = if has_first { None } else { Some(self.bind(address)?) };
        let port = match at {
            Some(at) => &mut ports[at],
            None => {
                ports.push(Port { name: name.clone(), seats: Vec::new(), next: 0, first: None, count: 0 });
                ports.last_mut().expect("it was pushed")
            }
        };
        let number = port.count;
        port.count += 1;
        port.seats.push(Place { number, inbox, listener: None });
        if manager.is_some() {
            port.first = Some(number);
        }
        drop(ports);
        Ok((manager, Seat { name, number }))
    }

    pub(super) fn bind(&self, address: SocketAddr) -> io::Result<ConnectionId> {
        let manager = ConnectionId::new(&self.manager, PortSpace::Reliable, 0)?;
        manager.bind(address)?;
        Ok(manager)
    }

    fn inbox(&mut self) -> io::Result<Arc<Inbox>> {
        if let Some(inbox) = &self.inbox {
            return Ok(inbox.clone());
        }
        let inbox = Inbox::new(&self.manager)?;
        self.also_wait_for(inbox.descriptor())?;
        self.inbox = Some(inbox.clone());
        Ok(inbox)
    }

    /// Gives a connection to the core whose turn it is, unless that is this one.
    pub(super) fn pass_on(&self, listener: Id, request: Request) -> Option<Request> {
        let seat = self.listeners.iter().find(|it| it.id == listener).and_then(|it| it.seat.as_ref());
        let Some((inbox, listener)) = seat.and_then(Seat::choose) else { return Some(request) };
        let Request { id, data, responder_resources, initiator_depth } = request;
        // Whatever comes of it meanwhile is nobody's.
        match id.hand_over(&inbox.channel, LISTENER | Id::NOBODY.to_u64()) {
            Ok(id) => {
                let (data, depths) = (Box::new(data), (responder_resources, initiator_depth));
                inbox.put(Message::Connection { listener, id, data, depths });
            }
            Err(error) => tracing::warn!(%error, "a connection is lost on the way to its core"),
        }
        None
    }

    /// Takes in what other cores have put there.
    pub(super) fn read_inbox(&mut self, now: Instant) -> bool {
        let Some(inbox) = self.inbox.clone() else { return false };
        let messages = inbox.take();
        let any = !messages.is_empty();
        for message in messages {
            match message {
                Message::Connection { listener, id, data, depths } => {
                    let (responder_resources, initiator_depth) = depths;
                    let id = id.take(&self.manager);
                    let request = Request { id, data: *data, responder_resources, initiator_depth };
                    self.requested(now, listener, request);
                }
                Message::Lead { listener } => self.lead(listener),
            }
        }
        any
    }

    fn lead(&mut self, id: Id) {
        let Some(at) = self.listeners.iter().position(|listener| listener.id == id) else { return };
        let Some(address) = self.listeners[at].seat.as_ref().map(Seat::address) else { return };
        match self.bind(address).and_then(|manager| self.listen_with(&manager, id, at).map(|()| manager)) {
            Ok(manager) => self.listeners[at].manager = Some(manager),
            Err(error) => tracing::warn!(%address, %error, "nobody listens at a port that was shared"),
        }
    }

    fn listen_with(&self, manager: &ConnectionId, id: Id, at: usize) -> io::Result<()> {
        manager.set_tag(LISTENER | id.to_u64());
        manager.listen(self.listeners[at].backlog)
    }
}

#[cfg(test)]
mod tests;
