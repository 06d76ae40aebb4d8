//! Datagrams: a queue pair for each socket, and where those of peers are.
//!
//! A socket listens at its port of the connection manager, which tells whoever asks which queue pair datagrams for it go
//! to. What was learned is kept for a while, for all sockets.

use super::engine::Engine;
use super::memory::SMALL;
use crate::link::{DATAGRAM_HEADER, Failure, Id, Look, datagram_header, datagram_source};
use crate::verbs::{
    AddressHandle, ConnectError, ConnectionId, Destination, EventKind, Flags, Kind, Outcome, Parameters,
    PortSpace, QueuePair, QueuePairConfig, Source,
};
use demikernel_runtime::buffer::{Buffer, BufferMut, Sga};
use demikernel_runtime::time::Instant;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Tags of queue pairs and listeners of sockets have this bit, those of ids that ask for a peer the other one.
pub(super) const DATAGRAMS: u64 = 1 << 62;
pub(super) const ASKING: u64 = 1 << 61;

/// The key that the connection manager gives all queue pairs of datagrams.
const KEY: u32 = 0x0123_4567;

/// Datagrams that a socket has room for: those that have come and those that nobody has taken.
const RECEIVES: u32 = 64;

/// Bytes that a device puts before a datagram.
const ROUTE: usize = 40;

/// Requests for a socket's queue pair that have not been answered.
const BACKLOG: u32 = 64;

/// The device's end of a socket.
pub(super) struct Datagrams {
    socket: Id,
    pair: QueuePair,
    /// It answers those who ask, until it is dropped.
    manager: ConnectionId,
    local: SocketAddr,
    inbox: VecDeque<(Buffer, SocketAddr)>,
    /// Somebody waits for room in the queue.
    is_blocked: bool,
}

/// Where a peer is.
pub(super) struct Peer {
    handle: AddressHandle,
    number: u32,
    key: u32,
    /// The address of this side on the way there.
    from: IpAddr,
}

/// A peer that is being asked for.
pub(super) struct Asking {
    peer: SocketAddr,
    manager: ConnectionId,
    /// By which socket's end.
    by: Id,
}

/// For sockets.
impl Engine {
    pub(super) fn open_datagrams(&mut self, socket: Id, local: SocketAddr) -> io::Result<(Id, SocketAddr)> {
        let manager = ConnectionId::new(&self.manager, PortSpace::Datagrams, 0)?;
        manager.bind(local)?;
        let local = manager.local_address().unwrap_or(local);
        let config = QueuePairConfig {
            kind: Kind::Datagrams,
            send_depth: self.config.send_depth.into(),
            receive_depth: RECEIVES,
            segments: self.pieces + 1,
            ..QueuePairConfig::default()
        };
        let pair = self.new_pair(&config)?;
        pair.open(self.config.port, KEY)?;
        for _ in 0..RECEIVES {
            pair.receive(self.datagram_buffer()?, 0)?;
        }
        let end = Datagrams { socket, pair, manager, local, inbox: VecDeque::new(), is_blocked: false };
        let id = self.datagrams.insert(end);
        let Some(Datagrams { pair, manager, .. }) = self.datagrams.get(id) else {
            unreachable!("it was put in")
        };
        let tag = DATAGRAMS | id.to_u64();
        pair.set_tag(tag);
        manager.set_tag(tag);
        let listening = manager.listen(BACKLOG);
        if let Err(error) = listening {
            self.datagrams.remove(id);
            return Err(error);
        }
        Ok((id, local))
    }

    pub(super) fn close_datagrams(&mut self, id: Id) {
        drop(self.datagrams.remove(id));
    }

    /// Sends a datagram, or says `WouldBlock` until it is known where the peer is.
    pub(super) fn send_datagram(&mut self, id: Id, data: &Sga, peer: SocketAddr) -> io::Result<()> {
        let most = self.mtu - DATAGRAM_HEADER;
        if data.len() > most {
            let text = format!("a datagram of {} bytes: the MTU of the device allows {most}", data.len());
            // As EMSGSIZE, which has no kind of its own.
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let end = self.datagrams.get_mut(id).ok_or(io::ErrorKind::NotConnected)?;
        let there = match self.peers.look(Instant::now(), peer) {
            Look::Known(there) => there,
            Look::Wait => return Err(io::ErrorKind::WouldBlock.into()),
            Look::Failed(failure) => return Err(failure.into()),
            Look::Ask => {
                self.ask_for(id, peer);
                return Err(io::ErrorKind::WouldBlock.into());
            }
        };
        let source = match end.local.ip() {
            address if address.is_unspecified() => SocketAddr::new(there.from, end.local.port()),
            _ => end.local,
        };
        let Ok(frame) = self.memory.assemble(&datagram_header(source), data) else {
            let text = "the heap has no memory for a datagram";
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, text));
        };
        let sent = end.pair.send_to(frame, &there.handle, there.number, there.key, Flags::SIGNALLED, 0);
        sent.map_err(|refused| {
            end.is_blocked = refused.error.kind() == io::ErrorKind::WouldBlock;
            refused.error
        })
    }

    /// Takes a datagram, of this peer if one is given.
    pub(super) fn receive_datagram(
        &mut self,
        id: Id,
        from: Option<SocketAddr>,
    ) -> io::Result<(Buffer, SocketAddr)> {
        let end = self.datagrams.get_mut(id).ok_or(io::ErrorKind::NotConnected)?;
        // Those of others are not for a socket with a peer.
        while let Some((data, source)) = end.inbox.pop_front() {
            if from.is_none_or(|from| from == source) {
                return Ok((data, source));
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// What comes.
impl Engine {
    /// Something of a socket's queue pair is done.
    pub(super) fn complete_datagram(&mut self, tag: u64, outcome: Outcome) {
        let id = Id::from_u64(tag & !DATAGRAMS);
        match outcome {
            Outcome::Received { data, source: Some(source), .. } => self.datagram_came(id, data, &source),
            Outcome::Sent(data) => {
                drop(data);
                if let Some(end) = self.datagrams.get_mut(id)
                    && std::mem::take(&mut end.is_blocked)
                {
                    self.woken.push(end.socket);
                }
            }
            Outcome::Failed { error, .. } => tracing::debug!(%error, "a datagram is lost"),
            _ => {}
        }
    }

    fn datagram_came(&mut self, id: Id, data: BufferMut, source: &Source) {
        let sender = datagram_source(&data).filter(|sender| is_from(*sender, source));
        let fresh = if data.len() <= DATAGRAM_HEADER + SMALL { None } else { self.datagram_buffer().ok() };
        let Some(end) = self.datagrams.get_mut(id) else { return };
        let is_full = end.inbox.len() >= RECEIVES as usize;
        let (Some(sender), false) = (sender, is_full) else {
            self.dropped += 1;
            return repost(&end.pair, data);
        };
        let mut payload = match fresh {
            Some(fresh) => {
                repost(&end.pair, fresh);
                data.freeze()
            }
            // It is small, or there is no memory to take its place.
            None => {
                let Ok(copy) = Buffer::copy_from_slice(&data) else {
                    self.dropped += 1;
                    return repost(&end.pair, data);
                };
                repost(&end.pair, data);
                copy
            }
        };
        payload.advance(DATAGRAM_HEADER);
        end.inbox.push_back((payload, sender));
        self.woken.push(end.socket);
    }

    /// Somebody asks which queue pair a socket has, or an answer to such a question has come.
    pub(super) fn datagram_event(&mut self, tag: u64, kind: EventKind) {
        if tag & DATAGRAMS != 0 {
            let end = self.datagrams.get(Id::from_u64(tag & !DATAGRAMS));
            if let (EventKind::Request(request), Some(end)) = (kind, end)
                && let Err(error) = request.id.accept(&end.pair, &Parameters::default())
            {
                tracing::debug!(%error, "nobody is told of a socket");
            }
            return;
        }
        let id = Id::from_u64(tag & !ASKING);
        let limit = self.set_up_limit();
        let Some(asking) = self.asking.get(id) else { return };
        let result = match kind {
            EventKind::AddressResolved => asking.manager.resolve_route(limit),
            EventKind::RouteResolved => match self.datagrams.get(asking.by) {
                Some(end) => asking.manager.connect(&end.pair, &Parameters::default()),
                None => Err(io::ErrorKind::NotConnected.into()),
            },
            EventKind::Datagrams(destination, _) => return self.answered(id, &destination),
            EventKind::Failed { error, .. } => return self.not_answered(id, failure_of(error)),
            _ => return,
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a peer of datagrams cannot be asked for");
            self.not_answered(id, Failure::Unreachable);
        }
    }

    fn ask_for(&mut self, by: Id, peer: SocketAddr) {
        let started = ConnectionId::new(&self.manager, PortSpace::Datagrams, 0).and_then(|manager| {
            manager.resolve_address(None, peer, self.set_up_limit())?;
            Ok(manager)
        });
        match started {
            Ok(manager) => {
                let id = self.asking.insert(Asking { peer, manager, by });
                if let Some(asking) = self.asking.get(id) {
                    asking.manager.set_tag(ASKING | id.to_u64());
                }
            }
            Err(error) => {
                tracing::debug!(%peer, %error, "there is no way to a peer of datagrams");
                self.peers.not_found(Instant::now(), peer, Failure::Unreachable);
                self.wake_datagrams();
            }
        }
    }

    fn answered(&mut self, id: Id, destination: &Destination) {
        let Some(asking) = self.asking.remove(id) else { return };
        let handle = destination.address(self.domain());
        match (handle, asking.manager.local_address()) {
            (Ok(handle), Some(local)) => {
                let (number, key) = (destination.number, destination.key);
                let there = Peer { handle, number, key, from: local.ip() };
                self.peers.found(Instant::now(), asking.peer, there);
            }
            _ => self.peers.not_found(Instant::now(), asking.peer, Failure::Unreachable),
        }
        self.wake_datagrams();
    }

    fn not_answered(&mut self, id: Id, failure: Failure) {
        let Some(asking) = self.asking.remove(id) else { return };
        self.peers.not_found(Instant::now(), asking.peer, failure);
        self.wake_datagrams();
    }

    /// Gives up what nobody has answered in time.
    pub(super) fn expire_peers(&mut self, now: Instant) {
        if self.peers.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.peers.expire(now);
            let given_up = self.asking.iter().filter(|(_, asking)| !self.peers.is_asked(asking.peer));
            for id in given_up.map(|(id, _)| id).collect::<Vec<_>>() {
                drop(self.asking.remove(id));
            }
            self.wake_datagrams();
        }
    }

    /// Sockets that wait for a peer look again.
    fn wake_datagrams(&mut self) {
        self.woken.extend(self.datagrams.iter().map(|(_, end)| end.socket));
    }

    fn datagram_buffer(&self) -> io::Result<BufferMut> {
        BufferMut::with_capacity(ROUTE + self.mtu)
            .map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))
    }
}

/// Whether the header of a datagram says of its sender what its device says, as far as that knows.
fn is_from(sender: SocketAddr, source: &Source) -> bool {
    let Some(gid) = source.gid else { return true };
    let address = Ipv6Addr::from(gid);
    // On InfiniBand, and for queue pairs of link-local addresses, it is no address of a host.
    address.is_unicast_link_local() || IpAddr::V6(address).to_canonical() == sender.ip()
}

fn repost(pair: &QueuePair, buffer: BufferMut) {
    if let Err(refused) = pair.receive(buffer, 0) {
        tracing::debug!(error = %refused.error, "a receive of datagrams is given up");
    }
}

fn failure_of(error: ConnectError) -> Failure {
    match error.kind() {
        io::ErrorKind::TimedOut => Failure::TimedOut,
        io::ErrorKind::ConnectionRefused => Failure::NobodyListens,
        _ => Failure::Unreachable,
    }
}
