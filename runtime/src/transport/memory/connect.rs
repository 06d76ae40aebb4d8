//! How sockets get addresses, and connections are made.
//!
//! ```text
//!   client                                   listener
//!   connect ----- Event::Attempt ----------> no socket listens: Event::Refusal back
//!   (Connecting)                             the backlog is full: the attempt waits there
//!                                            else the server's end is made, and accepted
//!   (Connected) <--- Item::Established ----- at once or later
//! ```

use super::address::{Address, Binding, inet_of_family};
use super::effect::Effect;
use super::errors::{bind_error, closed, code, no_such_name};
use super::options::Options;
use super::socket::{Connecting, Connection, Datagram, Item, Listener, Name, Role, Socket, Stream};
use super::state::{Entry, Event, State, note};
use super::waiting::{Queue, Waiting};
use crate::executor::Completion;
use crate::transport::{Accepted, Domain, Endpoint, Qd, SocketKind};
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// Linux's bound on what programs ask for (net.core.somaxconn).
const LONGEST_BACKLOG: u32 = 4096;

/// Addresses.
impl State {
    pub(super) fn new_socket(&mut self, domain: Domain, kind: SocketKind) -> io::Result<Qd> {
        let role = match kind {
            SocketKind::Stream => Role::New,
            SocketKind::Datagram if domain == Domain::Unix => {
                return Err(io::Error::new(io::ErrorKind::Unsupported, "Unix sockets carry streams only"));
            }
            SocketKind::Datagram => Role::Datagram(Datagram::default()),
        };
        let options = Options::new(kind, self.config.window);
        let local = Name::none(domain);
        self.insert(Entry::Socket(Socket {
            domain,
            kind,
            options,
            local,
            bound: false,
            closing: false,
            role,
        }))
    }

    pub(super) fn bind(&mut self, qd: Qd, local: &Endpoint) -> io::Result<()> {
        self.try_bind(qd, local).map_err(|error| bind_error(error, local))
    }

    fn try_bind(&mut self, qd: Qd, local: &Endpoint) -> io::Result<()> {
        let socket = self.socket(qd)?;
        if socket.bound || matches!(socket.role, Role::Connected(_) | Role::Connecting(_)) {
            return Err(code(libc::EINVAL));
        }
        match (socket.domain, local) {
            (Domain::Unix, Endpoint::Unix(Some(path))) => self.bind_name(qd, path),
            (Domain::Unix, Endpoint::Unix(None)) => Ok(()),
            (Domain::Unix, Endpoint::Inet(_)) => Err(code(libc::EAFNOSUPPORT)),
            (domain, local) => {
                let address = inet_of_family(domain, local)?;
                self.bind_address(qd, address)
            }
        }
    }

    fn bind_name(&mut self, qd: Qd, path: &Path) -> io::Result<()> {
        if let Some(Some(_)) = self.names.get(path) {
            return Err(code(libc::EADDRINUSE));
        }
        self.names.insert(path.to_path_buf(), Some(qd));
        let socket = self.socket(qd)?;
        socket.local = Name::Unix(Some(path.to_path_buf()));
        socket.bound = true;
        Ok(())
    }

    pub(super) fn bind_address(&mut self, qd: Qd, address: Address) -> io::Result<()> {
        let socket = self.socket(qd)?;
        let kind = socket.kind;
        let binding = Binding {
            qd,
            address,
            v6_only: socket.options.v6_only,
            reuse_address: socket.options.reuse_address,
            reuse_port: socket.options.reuse_port,
            listening: false,
            peer: None,
        };
        let ports = match kind {
            SocketKind::Stream => &mut self.streams,
            SocketKind::Datagram => &mut self.datagrams,
        };
        let address = ports.bind(binding)?;
        note!(self, "bind {} to {}:{}", qd.0, address.ip, address.port);
        let socket = self.socket(qd)?;
        socket.local = Name::Inet(address);
        socket.bound = true;
        Ok(())
    }

    /// Gives up a socket's hold on its address.
    pub(super) fn release_address(&mut self, qd: Qd) {
        let Some(socket) = self.any_socket(qd) else { return };
        if !std::mem::take(&mut socket.bound) {
            return;
        }
        let (kind, local) = (socket.kind, socket.local.clone());
        match (local, kind) {
            (Name::Inet(address), SocketKind::Stream) => self.streams.release(qd, address),
            (Name::Inet(address), SocketKind::Datagram) => self.datagrams.release(qd, address),
            (Name::Unix(Some(path)), _) => {
                self.names.insert(path, None);
            }
            (Name::Unix(None), _) => {}
        }
    }

    pub(super) fn listen(&mut self, qd: Qd, backlog: u32) -> io::Result<()> {
        let backlog = backlog.clamp(1, LONGEST_BACKLOG) as usize;
        let socket = self.socket(qd)?;
        if socket.kind == SocketKind::Datagram {
            return Err(code(libc::EOPNOTSUPP));
        }
        match &mut socket.role {
            Role::New => {}
            Role::Listener(listener) => {
                listener.backlog = backlog;
                return Ok(());
            }
            _ => return Err(code(libc::EINVAL)),
        }
        let (domain, bound) = (socket.domain, socket.bound);
        if !bound && domain == Domain::Unix {
            return Err(code(libc::EINVAL));
        }
        if !bound {
            self.bind_address(qd, Address::unspecified(domain))?;
        }
        let socket = self.socket(qd)?;
        let local = socket.local.clone();
        if let Some(address) = local.inet() {
            self.streams.listen(qd, address).map_err(|error| bind_error(error, &local.shown(domain)))?;
        }
        let accepts = Waiting::default();
        let listener = Listener {
            backlog,
            accepts,
            given_back: VecDeque::new(),
            ready: VecDeque::new(),
            queue: VecDeque::new(),
        };
        self.socket(qd)?.role = Role::Listener(listener);
        Ok(())
    }

    /// Whether nothing gets from one address to the other. Unix sockets are not affected.
    pub(super) fn is_cut(&self, from: &Name, to: &Name) -> bool {
        match (from.inet(), to.inet()) {
            (Some(from), Some(to)) => self.is_cut_between(from.ip, to.ip),
            _ => false,
        }
    }

    pub(super) fn is_cut_between(&self, from: IpAddr, to: IpAddr) -> bool {
        self.cuts.iter().any(|&(a, b)| (a, b) == (from, to) || (b, a) == (from, to))
    }
}

/// Connecting.
impl State {
    pub(super) fn connect(&mut self, qd: Qd, peer: &Endpoint, done: Completion<io::Result<()>>) {
        let remote = match self.start_connect(qd, peer) {
            Ok(Some(remote)) => remote,
            Ok(None) => return self.done(done, Ok(())),
            Err(error) => return self.done(done, Err(error)),
        };
        let connection = self.new_connection();
        self.watch(&done, qd, Queue::Connect, 0);
        note!(self, "connect {} to {}", qd.0, remote.shown(Domain::V4));
        if let Ok(socket) = self.socket(qd) {
            socket.role =
                Role::Connecting(Connecting { connection, remote, done, answered: false, stuck: None });
        }
        self.send_event(Event::Attempt { client: qd, connection });
    }

    /// Everything before a connection of a stream is attempted: whom to connect to, or nobody if that is all.
    fn start_connect(&mut self, qd: Qd, peer: &Endpoint) -> io::Result<Option<Name>> {
        let socket = self.socket(qd)?;
        match &socket.role {
            Role::New => {}
            Role::Datagram(_) => return self.connect_datagram(qd, peer).map(|()| None),
            Role::Connecting(_) => return Err(code(libc::EALREADY)),
            Role::Connected(_) | Role::Listener(_) => return Err(code(libc::EISCONN)),
        }
        let (domain, bound) = (socket.domain, socket.bound);
        if domain == Domain::Unix {
            return match peer {
                Endpoint::Unix(Some(path)) => Ok(Some(Name::Unix(Some(path.clone())))),
                Endpoint::Unix(None) => Err(code(libc::EINVAL)),
                Endpoint::Inet(_) => Err(code(libc::EAFNOSUPPORT)),
            };
        }
        let remote = inet_of_family(domain, peer)?.as_destination();
        if bound {
            self.specify_local(qd, remote.ip)?;
        } else {
            let wanted = Address { ip: remote.ip, port: 0 };
            self.bind_address(qd, wanted).map_err(|_| code(libc::EADDRNOTAVAIL))?;
        }
        Ok(Some(Name::Inet(remote)))
    }

    /// A socket that is bound to all addresses uses the one that leads to its peer: the peer's own, since
    /// all are on this machine.
    fn specify_local(&mut self, qd: Qd, peer: IpAddr) -> io::Result<()> {
        let socket = self.socket(qd)?;
        let Some(local) = socket.local.inet() else { return Ok(()) };
        if !local.ip.is_unspecified() {
            return Ok(());
        }
        self.release_address(qd);
        self.bind_address(qd, Address { ip: peer, ..local })
    }

    pub(super) fn attempt_arrives(&mut self, client: Qd, connection: Connection) {
        let Some(connecting) = self.connecting(client, connection) else { return };
        let remote = connecting.remote.clone();
        let Some(local) = self.any_socket(client).map(|socket| socket.local.clone()) else { return };
        if self.is_cut(&local, &remote) {
            note!(self, "connect {} is lost", client.0);
            return self.connect_is_stuck(client, connection);
        }
        let listener = match (&remote, &local) {
            (Name::Inet(to), Name::Inet(from)) => self.streams.find_receiver(*to, *from),
            (Name::Unix(Some(path)), _) => self.names.get(path).copied().flatten(),
            _ => None,
        };
        let Some(listener) = listener else { return self.refuse(client, connection, &remote) };
        let Some(Socket { role: Role::Listener(it), .. }) = self.any_socket(listener) else {
            return self.refuse(client, connection, &remote);
        };
        it.queue.push_back((client, connection));
        self.progress_listener(listener);
        if self.connecting(client, connection).is_some_and(|connecting| !connecting.answered) {
            note!(self, "connect {} waits", client.0);
            self.connect_is_stuck(client, connection);
        }
    }

    fn refuse(&mut self, client: Qd, connection: Connection, remote: &Name) {
        let error = match remote {
            // A path, unlike an abstract name, would have to be there.
            Name::Unix(Some(path))
                if !self.names.contains_key(path)
                    && !path.as_os_str().as_encoded_bytes().starts_with(b"\0") =>
            {
                libc::ENOENT
            }
            _ => libc::ECONNREFUSED,
        };
        self.send_event(Event::Refusal { client, connection, error });
    }

    /// An attempt, or the answer to one, waits for something that may never come.
    pub(super) fn connect_is_stuck(&mut self, client: Qd, connection: Connection) {
        if self.connecting(client, connection).is_some_and(|connecting| connecting.stuck.is_none()) {
            let number = self.limit_waiting(client);
            if let Some(connecting) = self.connecting(client, connection) {
                connecting.stuck = Some(number);
            }
        }
    }

    pub(super) fn refusal_arrives(&mut self, client: Qd, connection: Connection, error: i32) {
        if self.connecting(client, connection).is_some() {
            self.count.refused += 1;
            note!(self, "connect {} fails with {error}", client.0);
            self.fail_connect(client, error);
        }
    }

    /// Ends an attempt to connect; the socket may try again.
    pub(super) fn fail_connect(&mut self, client: Qd, error: i32) {
        let Some(socket) = self.any_socket(client) else { return };
        let role = std::mem::replace(&mut socket.role, Role::New);
        let Role::Connecting(connecting) = role else {
            socket.role = role;
            return;
        };
        let domain = socket.domain;
        let error = match error {
            libc::ENOENT => no_such_name(&connecting.remote.shown(domain)),
            error => code(error),
        };
        self.done(connecting.done, Err(error));
    }

    /// The server's end is made, and the client hears of it.
    fn establish(&mut self, listener: Qd, client: Qd, connection: Connection) -> Option<Qd> {
        let socket = self.any_socket(client)?;
        let (client_name, client_window) = (socket.local.clone(), socket.options.receive_buffer);
        let connecting = self.connecting(client, connection)?;
        connecting.answered = true;
        connecting.stuck = None;
        let local = connecting.remote.clone();
        let socket = self.any_socket(listener)?;
        let (domain, options) = (socket.domain, socket.options.clone());
        let end = Stream::new(connection, client, client_name, options.receive_buffer, client_window);
        let role = Role::Connected(end);
        let kind = SocketKind::Stream;
        let entry =
            Entry::Socket(Socket { domain, kind, options, local, bound: false, closing: false, role });
        let server = self.insert(entry).ok()?;
        self.send_item(server, Item::Established);
        Some(server)
    }

    /// What [`Item::Established`] does at the client; `false` if that has given up.
    pub(super) fn established_arrives(&mut self, client: Qd, server: Qd, connection: Connection) -> bool {
        if self.connecting(client, connection).is_none() {
            return false;
        }
        let credit = match self.any_socket(server) {
            Some(server) => server.options.receive_buffer,
            None => return false,
        };
        let Some(socket) = self.any_socket(client) else { return false };
        let role = std::mem::replace(&mut socket.role, Role::New);
        let Role::Connecting(connecting) = role else {
            socket.role = role;
            return false;
        };
        let window = socket.options.receive_buffer;
        socket.role = Role::Connected(Stream::new(connection, server, connecting.remote, window, credit));
        self.count.connections += 1;
        note!(self, "connection of {} and {}", client.0, server.0);
        self.done(connecting.done, Ok(()));
        true
    }
}

/// Accepting.
impl State {
    /// Nobody will accept any more.
    pub(super) fn close_listener(&mut self, qd: Qd) {
        self.release_address(qd);
        let Some(Entry::Socket(Socket { role: Role::Listener(listener), .. })) = self.entries.remove(&qd)
        else {
            return;
        };
        let Listener { mut accepts, given_back, ready, queue, .. } = listener;
        while let Some(done) = accepts.pop() {
            self.effects.push(Effect::Accepted(done, Err(closed())));
        }
        for server in given_back.into_iter().map(|(_, server)| server).chain(ready) {
            if let Some(stream) = self.stream(server) {
                stream.discarded = true;
            }
            self.close_stream(server);
        }
        for (client, connection) in queue {
            self.send_event(Event::Refusal { client, connection, error: libc::ECONNREFUSED });
        }
    }

    pub(super) fn accept(&mut self, qd: Qd, done: Completion<io::Result<Accepted>>) {
        let number = match self.socket(qd) {
            Ok(Socket { role: Role::Listener(listener), .. }) => listener.accepts.next_number(),
            Ok(_) => return self.effects.push(Effect::Accepted(done, Err(code(libc::EINVAL)))),
            Err(error) => return self.effects.push(Effect::Accepted(done, Err(error))),
        };
        self.watch(&done, qd, Queue::Receives, number);
        if let Ok(Socket { role: Role::Listener(listener), .. }) = self.socket(qd) {
            listener.accepts.push(done);
        }
        self.progress_listener(qd);
    }

    /// Gives connections to those who accept, and lets attempts in as long as there is room.
    pub(super) fn progress_listener(&mut self, qd: Qd) {
        loop {
            let Some(socket) = self.any_socket(qd) else { return };
            let domain = socket.domain;
            let Role::Listener(listener) = &mut socket.role else { return };
            let given_back =
                |listener: &mut Listener| listener.given_back.pop_front().map(|(_, server)| server);
            if !listener.accepts.is_empty()
                && let Some(server) = given_back(listener).or_else(|| listener.ready.pop_front())
            {
                if let Some(done) = listener.accepts.pop() {
                    let peer = self.stream(server).map(|stream| stream.remote.shown(domain));
                    let accepted = peer.map(|peer| Accepted { qd: server, peer });
                    note!(self, "accept {} at {}", server.0, qd.0);
                    let result = accepted.ok_or_else(|| code(libc::ECONNABORTED));
                    self.effects.push(Effect::Accepted(done, result));
                }
                continue;
            }
            if listener.ready.len() == listener.backlog {
                return;
            }
            let Some((client, connection)) = listener.queue.pop_front() else { return };
            // It may have been given up meanwhile.
            if let Some(server) = self.establish(qd, client, connection)
                && let Some(Socket { role: Role::Listener(listener), .. }) = self.any_socket(qd)
            {
                listener.ready.push_back(server);
            }
        }
    }
}
