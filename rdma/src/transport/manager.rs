//! Connections, as the connection manager tells of them.

use super::datagram::{ASKING, DATAGRAMS};
use super::engine::{End, Engine, Stage};
use crate::link::{Failure, Id};
use crate::verbs::{ConnectError, ConnectionId, EventKind, Parameters, PortSpace, Request};
use demikernel_runtime::time::Instant;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Tags of listeners have this bit; those of connections do not.
pub(super) const LISTENER: u64 = 1 << 63;

/// How long the device waits for an acknowledgment, as the power of two that 4.096 us is multiplied with: a second. It
/// tries six times more, so a peer that has died is noticed after eight; the manager's own choice for Ethernet is twice as
/// long. What is lost at the end of a burst waits for it, too.
const ACKNOWLEDGMENT: u8 = 18;

/// Those of a connection with as many reads and atomic operations under way, of the peer and of this side.
fn parameters(private_data: &[u8], answers: u8, reads: u8, hop_limit: Option<u8>) -> Parameters<'_> {
    Parameters {
        private_data,
        responder_resources: answers,
        initiator_depth: reads,
        acknowledgement: Some(ACKNOWLEDGMENT),
        hop_limit,
        ..Parameters::default()
    }
}

const UNKNOWN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl Engine {
    /// Asks a peer for a connection, from the address that is bound if one is.
    pub(super) fn connect(
        &mut self,
        bound: Option<ConnectionId>,
        peer: SocketAddr,
        socket: Id,
        hops: Option<u8>,
    ) -> io::Result<Id> {
        let (id, hello) = self.link.connect(Instant::now())?;
        let started = self.start(bound, id, peer);
        match started {
            Ok(manager) => {
                let local = manager.local_address().unwrap_or(UNKNOWN);
                let (answers, reads) = self.depths();
                let (hello, stage) = (hello.to_vec(), Stage::Asking);
                let end = End { id, manager, pair: None, hello, stage, reads, answers, hops };
                self.set_end(end, Some(socket), local, peer);
                Ok(id)
            }
            Err(error) => {
                self.link.abort(id);
                self.part();
                Err(error)
            }
        }
    }

    fn start(&self, bound: Option<ConnectionId>, id: Id, peer: SocketAddr) -> io::Result<ConnectionId> {
        let manager = match bound {
            Some(manager) => manager,
            None => ConnectionId::new(&self.manager, PortSpace::Reliable, 0)?,
        };
        manager.set_tag(id.to_u64());
        manager.resolve_address(None, peer, self.set_up_limit())?;
        Ok(manager)
    }

    /// Reads and atomic operations of a peer that are answered at once, and those that a peer is asked for.
    fn depths(&self) -> (u8, u8) {
        let limits = self.domain().device().limits();
        let wanted = self.config.read_depth;
        (wanted.min(limits.answered_reads), wanted.min(limits.own_reads))
    }

    pub(super) fn set_up_limit(&self) -> Duration {
        self.config.set_up_timeout
    }

    /// Takes in what the connection manager has to tell.
    pub(super) fn ask_manager(&mut self, now: Instant) -> io::Result<bool> {
        let mut any = false;
        while let Some(event) = self.manager.next_event()? {
            any = true;
            if event.tag & LISTENER == 0 && event.tag & (DATAGRAMS | ASKING) != 0 {
                self.datagram_event(event.tag, event.kind);
                continue;
            }
            match event.kind {
                EventKind::Request(request) => {
                    let listener = Id::from_u64(event.tag & !LISTENER);
                    if let Some(request) = self.pass_on(listener, request) {
                        self.requested(now, listener, request);
                    }
                }
                kind => self.happened(Id::from_u64(event.tag & !LISTENER), kind),
            }
        }
        Ok(any)
    }

    /// Somebody asks a listener.
    pub(super) fn requested(&mut self, now: Instant, listener: Id, request: Request) {
        let (id, hello) = match self.link.request(now, listener, &request.data) {
            Ok(agreed) => agreed,
            Err(refusal) => {
                tracing::debug!(peer = ?request.id.peer_address(), %refusal, "a connection is refused");
                // If it fails, the peer has given up by itself.
                let _ = request.id.reject(&refusal.to_bytes());
                return;
            }
        };
        let manager = request.id;
        manager.set_tag(id.to_u64());
        let (local, peer) =
            (manager.local_address().unwrap_or(UNKNOWN), manager.peer_address().unwrap_or(UNKNOWN));
        let (answers, reads) = self.depths();
        // Neither side asks for more than the other answers.
        let (answers, reads) = (answers.min(request.responder_resources), reads.min(request.initiator_depth));
        let (hello, stage) = (hello.to_vec(), Stage::Answered);
        let hops = self.listeners.iter().find(|it| it.id == listener).and_then(|it| it.hops);
        let end = End { id, manager, pair: None, hello, stage, reads, answers, hops };
        self.set_end(end, None, local, peer);
        if let Err(error) = self.with_pair(id, Stage::Joined, ConnectionId::accept) {
            tracing::warn!(%peer, %error, "a connection cannot be accepted");
            self.link.broken(id, Failure::Aborted);
        }
    }

    /// Something has happened to a connection.
    fn happened(&mut self, id: Id, kind: EventKind) {
        let result = match kind {
            EventKind::AddressResolved => {
                let limit = self.set_up_limit();
                self.end_of(id).map_or(Ok(()), |end| end.manager.resolve_route(limit))
            }
            EventKind::RouteResolved => self.with_pair(id, Stage::Asking, ConnectionId::connect),
            EventKind::Response { data, responder_resources, initiator_depth } => {
                if let Some(end) = self.end_of(id) {
                    end.answers = end.answers.min(responder_resources);
                    end.reads = end.reads.min(initiator_depth);
                }
                self.responded(id, &data)
            }
            EventKind::Established => {
                self.link.established(id, &[]);
                Ok(())
            }
            EventKind::Failed { error, data } => {
                self.failed(id, error, &data);
                Ok(())
            }
            EventKind::Disconnected => {
                self.gone.push(id);
                Ok(())
            }
            EventKind::DeviceRemoved => {
                self.link.broken(id, Failure::DeviceGone);
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = result {
            tracing::warn!(%error, "a connection cannot be set up");
            self.link.broken(id, Failure::Unreachable);
        }
    }

    /// Does something with a connection that takes its queue pair, which is made for it.
    fn with_pair(
        &mut self,
        id: Id,
        stage: Stage,
        what: fn(&ConnectionId, &crate::verbs::QueuePair, &Parameters<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let pair = self.make_pair(id)?;
        let Some(end) = self.end_of(id) else { return Ok(()) };
        what(&end.manager, &pair, &parameters(&end.hello, end.answers, end.reads, end.hops))?;
        end.hello = Vec::new();
        end.pair = Some(pair);
        end.stage = stage;
        Ok(())
    }

    /// The peer has accepted.
    fn responded(&mut self, id: Id, data: &[u8]) -> io::Result<()> {
        if let Some(end) = self.end_of(id) {
            end.stage = Stage::Answered;
        }
        self.link.established(id, data);
        if self.link.connected(id).is_err() {
            // A foreign peer, which is turned away when the connection is parted with.
            return Ok(());
        }
        let Some(End { manager, pair: Some(pair), stage, hops, .. }) = self.end_of(id) else { return Ok(()) };
        manager.establish(pair, &parameters(&[], 0, 0, *hops))?;
        *stage = Stage::Joined;
        Ok(())
    }

    fn failed(&mut self, id: Id, error: ConnectError, data: &[u8]) {
        match error {
            ConnectError::NobodyListens => self.link.refused(id, &[]),
            ConnectError::Rejected => self.link.refused(id, data),
            error => {
                tracing::debug!(%error, "a connection has failed");
                self.link.broken(
                    id,
                    match error.kind() {
                        io::ErrorKind::TimedOut => Failure::TimedOut,
                        io::ErrorKind::ConnectionRefused => Failure::Declined,
                        io::ErrorKind::ConnectionReset => Failure::Reset,
                        io::ErrorKind::ConnectionAborted => Failure::Aborted,
                        _ => Failure::Unreachable,
                    },
                );
            }
        }
    }

    /// Parts with connections that are over.
    pub(super) fn part(&mut self) -> bool {
        let mut any = false;
        while let Some(id) = self.link.poll_disconnect() {
            any = true;
            let end = self.ends.get_mut(id.index() as usize).and_then(|end| end.take_if(|end| end.id == id));
            if let Some(End { manager, pair, stage, .. }) = end {
                // If either fails, the peer was faster.
                let _ = match stage {
                    Stage::Asking => Ok(()),
                    Stage::Answered => manager.reject(&crate::link::Refusal::Foreign.to_bytes()),
                    Stage::Joined => manager.disconnect(),
                };
                drop(pair);
                drop(manager);
            }
            self.give_up_one_sided(id);
            // What it had received and nobody has looked at went with its queue pair.
            while self.link.buffers().0 > self.receives.posted() {
                self.link.lost();
            }
            self.link.detached(id);
        }
        any
    }
}
