//! The protocol, the queues of the device, and frames between them.

use super::config::RdmaConfig;
use super::datagram::{Asking, DATAGRAMS, Datagrams, Peer};
use super::memory::Memory;
use super::share::{Inbox, Seat};
use super::socket::Bound;
use crate::link::{Failure, Id, Link, Notice, Peers, Post, Slots};
use crate::onesided::{Finished, OneSided};
use crate::verbs::{
    Completion, CompletionChannel, CompletionQueue, ConnectionId, Device, DeviceEvent, EventChannel, Flags,
    Outcome, ProtectionDomain, QueuePair, QueuePairConfig, Refused, SharedReceiveQueue, Status, Work,
};
use demikernel_runtime::buffer::pool::PoolExhausted;
use demikernel_runtime::time::Instant;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// Pieces of payload in a send, besides the header, if the device gathers as many.
const PIECES: u32 = 7;

/// How often the connection manager is asked while the runtime polls: each time are system calls, which are to take no
/// more than one of so many parts of the time, unless it would be asked too seldom then.
const MANAGER: Duration = Duration::from_micros(100);
const MANAGER_SHARE: u32 = 100;
const MANAGER_SELDOM: Duration = Duration::from_millis(1);

/// The clock is read in one of so many turns: it takes longer than the rest of a turn in which nothing has come.
const TURNS: u32 = 16;

/// Completions in a turn at most, so that those who are served have their turn.
const BURST: usize = 256;

/// Peers of datagrams that are known at once.
const PEERS: usize = 1024;

/// Receive buffers that are posted together, as long as nobody waits for them: as many as go to the driver in a call.
const REFILL: u32 = 16;

/// Bytes that the device is asked to copy when it sends.
const INLINE: u32 = 96;

pub(super) struct Engine {
    pub(super) link: Link,
    pub(super) config: RdmaConfig,
    /// Of payload in a send.
    pub(super) pieces: u32,
    device: Device,
    domain: ProtectionDomain,
    pub(super) receives: SharedReceiveQueue,
    /// As many as it takes: each of them has a limit, which queue pairs count against.
    completions: Vec<CompletionQueue>,
    channel: CompletionChannel,
    pub(super) manager: EventChannel,
    /// All that wakes the runtime.
    waiter: OwnedFd,
    /// What other cores have for this one, if it shares a port with them.
    pub(super) inbox: Option<Arc<Inbox>>,
    pub(super) memory: Memory,
    /// Bytes of a datagram with its header.
    pub(super) mtu: usize,
    pub(super) datagrams: Slots<Datagrams>,
    /// Where peers of datagrams are.
    pub(super) peers: Peers<Peer>,
    pub(super) asking: Slots<Asking>,
    /// Sockets of datagrams for which something has changed.
    pub(super) woken: Vec<Id>,
    /// Datagrams for which there was no room, or that no sender was to be believed of.
    pub(super) dropped: u64,
    /// By the numbers of connections, what the device has for them.
    pub(super) ends: Vec<Option<End>>,
    /// By the same, whose they are.
    owners: Vec<Option<Owner>>,
    pub(super) listeners: Vec<Listener>,
    /// A frame for which the heap had no room.
    held: Option<Post>,
    pub(super) one_sided: OneSided,
    /// Connections whose one-sided operations wait for room, or credits.
    pub(super) stalled: BTreeSet<Id>,
    /// One-sided operations that are done, and of which nobody has been told.
    pub(super) finished: Vec<Finished>,
    /// Turns so far.
    turns: u32,
    /// When the connection manager is to be asked again.
    ask_next: Instant,
    /// Nothing that a program gave has been sent since the last turn.
    sends_at_once: bool,
    /// Connections that the peer has ended, once all that came before is taken in.
    pub(super) gone: Vec<Id>,
}

/// The device's end of a connection.
pub(super) struct End {
    pub(super) id: Id,
    pub(super) manager: ConnectionId,
    pub(super) pair: Option<QueuePair>,
    /// What the peer is told, until it has been.
    pub(super) hello: Vec<u8>,
    pub(super) stage: Stage,
    /// Reads and atomic operations of this side that the peer answers at once, and those of the peer that this side does.
    pub(super) reads: u8,
    pub(super) answers: u8,
    /// How many routers its packets may pass, if not as many as the route says.
    pub(super) hops: Option<u8>,
}

/// How far the connection manager has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Nobody has answered.
    Asking,
    /// The peer has answered, or asked, and waits.
    Answered,
    /// There is a connection to be ended.
    Joined,
}

#[derive(Clone, Copy)]
struct Owner {
    id: Id,
    socket: Option<Id>,
    local: SocketAddr,
    peer: SocketAddr,
}

pub(super) struct Listener {
    pub(super) id: Id,
    /// It listens until it is dropped, which is before the seat. None where another core does that.
    pub(super) manager: Option<ConnectionId>,
    pub(super) seat: Option<Seat>,
    pub(super) backlog: u32,
    socket: Id,
    /// As a connection's.
    pub(super) hops: Option<u8>,
}

/// Memory for a connection here, beyond what the device and the protocol have for it.
#[cfg(test)]
pub(super) const BYTES_PER_CONNECTION: usize = size_of::<Option<End>>() + size_of::<Option<Owner>>();

impl Engine {
    pub(super) fn open(device: Device, manager: EventChannel, config: &RdmaConfig) -> io::Result<Engine> {
        config.validate().map_err(|invalid| io::Error::new(io::ErrorKind::InvalidInput, invalid))?;
        let mtu = device.active_port(config.port)?.mtu();
        let domain = ProtectionDomain::new(&device)?;
        let receives = SharedReceiveQueue::new(&domain, config.buffers)?;
        let channel = CompletionChannel::new(&device)?;
        let completions = CompletionQueue::new(&device, config.buffers, Some(&channel))?;
        let waiter = wait_for(&[
            channel.as_fd().as_raw_fd(),
            manager.as_fd().as_raw_fd(),
            device.events_fd().as_raw_fd(),
        ])?;
        let pieces = PIECES.min(device.limits().segments.saturating_sub(1)).max(1);
        let memory = Memory::new(&domain, &receives, config.buffer_size);
        let mut engine = Engine {
            link: Link::new(config.link(INLINE, pieces as u16)),
            pieces,
            config: config.clone(),
            device,
            domain,
            receives,
            completions: vec![completions],
            channel,
            manager,
            waiter,
            inbox: None,
            memory,
            mtu,
            datagrams: Slots::new(),
            peers: Peers::new(PEERS, config.set_up_timeout),
            asking: Slots::new(),
            woken: Vec::new(),
            dropped: 0,
            ends: Vec::new(),
            owners: Vec::new(),
            listeners: Vec::new(),
            held: None,
            one_sided: OneSided::new(),
            stalled: BTreeSet::new(),
            finished: Vec::new(),
            turns: 0,
            ask_next: Instant::now(),
            sends_at_once: true,
            gone: Vec::new(),
        };
        engine.refill(true)?;
        Ok(engine)
    }

    /// Takes in what has come, and sends what there is.
    pub(super) fn turn(&mut self, before_parking: bool) -> io::Result<bool> {
        self.sends_at_once = true;
        self.link.begin_turn();
        let mut any = self.transmit();
        self.turns = self.turns.wrapping_add(1);
        let now = (before_parking || self.turns.is_multiple_of(TURNS)).then(Instant::now);
        if let Some(now) = now
            && (before_parking || now >= self.ask_next)
        {
            any |= self.ask(now)?;
        }
        any |= self.complete()?;
        if !self.stalled.is_empty() {
            self.resume_one_sided();
        }
        if let Some(now) = now {
            // Nobody is silent whose frames have come.
            if self.link.next_deadline().is_some_and(|deadline| deadline <= now) {
                self.link.tick(now);
            }
            self.expire_peers(now);
        }
        any |= self.part();
        Ok(any)
    }

    /// Takes in what comes seldom, by system calls.
    fn ask(&mut self, now: Instant) -> io::Result<bool> {
        let any = self.ask_manager(now)? | self.read_inbox(now);
        self.ask_device()?;
        let pause = if any { Duration::ZERO } else { Self::pause(now) };
        self.ask_next = now.saturating_add(pause);
        Ok(any)
    }

    /// After all has been sent that could be: who waits for credits from now on.
    #[inline]
    pub(super) fn watch_waiting(&mut self) {
        if self.link.has_waiting() {
            self.link.watch_waiting(Instant::now());
        }
    }

    /// How long the connection manager may be left alone that has had nothing to tell at this moment.
    fn pause(asked: Instant) -> Duration {
        let took = Instant::now().saturating_duration_since(asked);
        (took * MANAGER_SHARE).clamp(MANAGER, MANAGER_SELDOM)
    }

    /// Sends what a program has just given, unless something was already since the last turn: what follows goes
    /// together then.
    #[inline]
    pub(super) fn send_at_once(&mut self) {
        if std::mem::take(&mut self.sends_at_once) {
            self.transmit();
        }
    }

    /// Sends what there is to send.
    #[inline]
    pub(super) fn transmit(&mut self) -> bool {
        let mut any = false;
        while let Some(post) = self.held.take().or_else(|| self.link.poll_transmit()) {
            if !self.post(post) {
                break;
            }
            any = true;
        }
        any
    }

    /// Gives a frame to the device; false if it is to be tried again.
    #[inline]
    fn post(&mut self, post: Post) -> bool {
        let Some(Some(End { id, pair: Some(pair), .. })) = self.ends.get(post.id.index() as usize) else {
            return true;
        };
        if *id != post.id {
            return true;
        }
        let Post { id, header, payload, sequence, signalled } = post;
        let flags = Flags { signalled, ..Flags::default() };
        let refused = if self.memory.goes_as_it_is(&payload, pair.inline_limit(), self.pieces) {
            pair.send_behind(&header, payload, flags, sequence.into())
        } else {
            match self.memory.assemble(&header, &payload) {
                Ok(frame) => {
                    let sent = pair.send(frame, flags, sequence.into());
                    sent.map_err(|Refused { error, .. }| Refused { error, work: payload })
                }
                Err(error) => Err(Refused { error: io::Error::other(error), work: payload }),
            }
        };
        match refused {
            Ok(()) => true,
            Err(refused) => {
                self.refused(Post { id, header, payload: refused.work, sequence, signalled }, &refused.error)
            }
        }
    }

    /// A frame could not be given to the device; false if it is to be tried again.
    #[cold]
    fn refused(&mut self, post: Post, error: &io::Error) -> bool {
        match error.kind() {
            io::ErrorKind::WouldBlock => {}
            _ if error.get_ref().is_some_and(|error| error.is::<PoolExhausted>()) => {
                self.memory.exhausted += 1
            }
            _ => {
                tracing::warn!(%error, "a frame cannot be sent");
                self.link.broken(post.id, Failure::DeviceGone);
                return true;
            }
        }
        self.held = Some(post);
        false
    }

    /// Takes in what the device has done.
    #[inline]
    fn complete(&mut self) -> io::Result<bool> {
        let (mut any, mut is_all) = (false, true);
        for index in 0..self.completions.len() {
            let count = self.take_completions(index)?;
            any |= count > 0;
            is_all &= count < BURST;
        }
        if is_all && !self.gone.is_empty() {
            // What came before the end of a connection has been taken in.
            for id in std::mem::take(&mut self.gone) {
                self.link.broken(id, Failure::Reset);
            }
        }
        Ok(any)
    }

    /// Takes in what is in one queue; says how many.
    #[inline]
    fn take_completions(&mut self, index: usize) -> io::Result<usize> {
        let mut count = 0;
        while count < BURST {
            let found = self.completions[index].poll()?;
            while let Some(completion) = self.completions[index].take() {
                self.complete_one(completion);
                count += 1;
            }
            // There was no more, or hardly: whoever must know looks again.
            if found == 0 || found < CompletionQueue::BATCH && self.gone.is_empty() {
                break;
            }
        }
        Ok(count)
    }

    #[inline]
    fn complete_one(&mut self, completion: Completion) {
        if completion.token & OneSided::MARK != 0 {
            return self.complete_one_sided(completion);
        }
        if completion.tag & DATAGRAMS != 0 {
            return self.complete_datagram(completion.tag, completion.outcome);
        }
        let id = Id::from_u64(completion.tag);
        match completion.outcome {
            Outcome::Received { data, .. } => {
                let frame = self.memory.received(data);
                self.link.received(id, frame);
            }
            Outcome::Sent(data) => {
                self.link.sent(id, completion.token as u32);
                drop(data);
            }
            Outcome::Failed { error, work } => {
                match work {
                    Work::Receive(buffer) => {
                        self.link.lost();
                        self.memory.reuse(buffer);
                    }
                    work => drop(work),
                }
                self.link.broken(id, failure_of(error.status));
            }
            Outcome::Written { immediate, len, unused } => {
                self.link.notified(id, Notice::new(immediate, len));
                self.memory.reuse(unused);
            }
            // Nothing of the kind is asked for.
            Outcome::Read(_) | Outcome::Fetched(_) => {}
        }
    }

    fn ask_device(&mut self) -> io::Result<()> {
        while let Some(event) = self.device.next_event()? {
            match event {
                DeviceEvent::QueuePairFailed { tag } => self.link.broken(Id::from_u64(tag), Failure::Reset),
                DeviceEvent::Established { tag } => {
                    if let Some(end) = self.end_of(Id::from_u64(tag)) {
                        // If it fails, the manager knows.
                        let _ = end.manager.notify_established();
                    }
                }
                DeviceEvent::CompletionsLost
                | DeviceEvent::SharedReceiveQueueFailed
                | DeviceEvent::DeviceLost => {
                    let text = format!("the RDMA device {} has failed: {event:?}", self.device.name());
                    return Err(io::Error::new(io::ErrorKind::NetworkDown, text));
                }
                event => tracing::debug!(device = self.device.name(), ?event, "an event of the device"),
            }
        }
        Ok(())
    }

    /// Gives the device receive buffers: several at once, which costs less, if nobody waits for them.
    pub(super) fn refill(&mut self, at_once: bool) -> io::Result<()> {
        let missing = self.link.missing();
        let few = REFILL.min(self.config.buffers / 8);
        if missing >= few.max(1) || missing > 0 && (at_once || self.link.is_starving()) {
            let posted = self.memory.refill(missing)?;
            if posted > 0 {
                self.link.posted(posted);
            }
        }
        Ok(())
    }

    pub(super) fn make_pair(&mut self, id: Id) -> io::Result<QueuePair> {
        let config = QueuePairConfig {
            tag: id.to_u64(),
            send_depth: self.config.send_depth.into(),
            segments: self.pieces + 1,
            inline: INLINE,
            ..QueuePairConfig::default()
        };
        self.pair_with(&config, true)
    }

    /// A queue pair with receives of its own.
    pub(super) fn new_pair(&mut self, config: &QueuePairConfig) -> io::Result<QueuePair> {
        self.pair_with(config, false)
    }

    /// One that completes on the first queue with room for all of its completions, which is made if there is none.
    fn pair_with(&mut self, config: &QueuePairConfig, is_shared: bool) -> io::Result<QueuePair> {
        let shared = is_shared.then_some(&self.receives);
        for queue in &self.completions {
            match QueuePair::new(&self.domain, queue, queue, shared, config) {
                Err(error) if CompletionQueue::is_full(&error) => {}
                result => return result,
            }
        }
        let queue = CompletionQueue::new(&self.device, self.config.buffers, Some(&self.channel))?;
        let pair = QueuePair::new(&self.domain, &queue, &queue, shared, config)?;
        self.completions.push(queue);
        Ok(pair)
    }

    pub(super) fn domain(&self) -> &ProtectionDomain {
        &self.domain
    }
}

/// Waiting.
impl Engine {
    /// Asks for a word when something comes; false if something has come meanwhile.
    pub(super) fn arm(&mut self) -> io::Result<bool> {
        self.refill(true)?;
        self.channel.drain()?;
        self.completions.iter().try_for_each(|queue| queue.arm(false))?;
        for queue in &self.completions {
            if queue.poll()? > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn also_wait_for(&self, descriptor: RawFd) -> io::Result<()> {
        add(self.waiter.as_raw_fd(), descriptor)
    }

    pub(super) fn device_name(&self) -> &str {
        self.device.name()
    }

    /// When something is to be given up.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.link.next_deadline().into_iter().chain(self.peers.next_deadline()).min()
    }

    /// Becomes readable when there is something to do, once it is [armed](Engine::arm).
    pub(super) fn descriptor(&self) -> RawFd {
        self.waiter.as_raw_fd()
    }

    /// Whether there is something to do, whatever comes.
    pub(super) fn is_busy(&self) -> bool {
        self.link.is_busy()
            || self.held.is_some()
            || !self.gone.is_empty()
            || !self.woken.is_empty()
            || !self.finished.is_empty()
    }

    /// Whether anything can come.
    pub(super) fn is_used(&self) -> bool {
        !self.listeners.is_empty() || self.link.connections() > 0 || self.datagrams.len() > 0
    }
}

/// Whose connections are.
impl Engine {
    pub(super) fn set_end(&mut self, end: End, socket: Option<Id>, local: SocketAddr, peer: SocketAddr) {
        let (id, index) = (end.id, end.id.index() as usize);
        if index >= self.ends.len() {
            self.ends.resize_with(index + 1, || None);
            self.owners.resize_with(index + 1, || None);
        }
        self.ends[index] = Some(end);
        self.owners[index] = Some(Owner { id, socket, local, peer });
    }

    pub(super) fn end_of(&mut self, id: Id) -> Option<&mut End> {
        self.ends.get_mut(id.index() as usize)?.as_mut().filter(|end| end.id == id)
    }

    fn owner_of(&mut self, id: Id) -> Option<&mut Owner> {
        self.owners.get_mut(id.index() as usize)?.as_mut().filter(|owner| owner.id == id)
    }

    pub(super) fn set_owner(&mut self, id: Id, socket: Id) {
        if let Some(owner) = self.owner_of(id) {
            owner.socket = Some(socket);
        }
    }

    /// The socket of a connection.
    pub(super) fn socket_of(&mut self, id: Id) -> Option<Id> {
        self.owner_of(id)?.socket
    }

    /// The socket of a listener.
    pub(super) fn socket_of_listener(&self, id: Id) -> Option<Id> {
        self.listeners.iter().find(|listener| listener.id == id).map(|listener| listener.socket)
    }

    /// Takes a connection of a listener, and says from where to where it is.
    pub(super) fn accept(&mut self, listener: Id) -> io::Result<(Id, SocketAddr, SocketAddr)> {
        let id = self.link.accept(listener)?;
        match self.owner_of(id) {
            Some(owner) => Ok((id, owner.local, owner.peer)),
            None => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    /// Whether a connection that this side has asked for is there, and from which address.
    pub(super) fn connected(&mut self, id: Id) -> io::Result<SocketAddr> {
        self.link.connected(id)?;
        let local = self.end_of(id).and_then(|end| end.manager.local_address());
        let owner = self.owner_of(id).ok_or(io::ErrorKind::NotConnected)?;
        if let Some(local) = local {
            owner.local = local;
        }
        Ok(owner.local)
    }

    pub(super) fn listen(&mut self, bound: Bound, backlog: u32, socket: Id) -> io::Result<Id> {
        let id = self.link.listen(backlog);
        let backlog = backlog.max(1);
        let Bound { mut manager, seat } = bound;
        let leads = seat.as_ref().is_some_and(|seat| seat.listens(id));
        let listening = (|| {
            if leads && let (None, Some(seat)) = (&manager, &seat) {
                manager = Some(self.bind(seat.address())?);
            }
            let Some(manager) = &manager else { return Ok(()) };
            manager.set_tag(super::manager::LISTENER | id.to_u64());
            manager.listen(backlog)
        })();
        if let Err(error) = listening {
            self.link.unlisten(id);
            return Err(error);
        }
        self.listeners.push(Listener { id, manager, seat, backlog, socket, hops: None });
        Ok(id)
    }

    /// Says how many routers packets to those who connect from now on may pass.
    pub(super) fn set_hops(&mut self, id: Id, hops: u8) {
        if let Some(listener) = self.listeners.iter_mut().find(|listener| listener.id == id) {
            listener.hops = Some(hops);
        }
    }

    pub(super) fn unlisten(&mut self, id: Id) {
        self.listeners.retain(|listener| listener.id != id);
        self.link.unlisten(id);
    }

    pub(super) fn close(&mut self, id: Id, resets: bool) {
        if let Some(owner) = self.owner_of(id) {
            owner.socket = None;
        }
        match resets {
            true => self.link.abort(id),
            false => self.link.close(Instant::now(), id),
        }
    }

    pub(super) fn counters(&self) -> Vec<(&'static str, u64)> {
        let counters = self.link.counters();
        let (_, promised) = self.link.buffers();
        vec![
            ("connections", self.link.connections() as u64),
            ("frames sent", counters.frames_sent),
            ("frames received", counters.frames_received),
            ("frames without data sent", counters.control_sent),
            ("completion queues", self.completions.len() as u64),
            ("receive buffers posted", self.receives.posted().into()),
            ("receive buffers promised", promised.into()),
            ("credits recalled", counters.recalls),
            ("connections starved", counters.starved),
            ("connections accepted", counters.accepted),
            ("connections refused", counters.refused),
            ("foreign peers refused", counters.foreign),
            ("protocol violations", counters.violations),
            ("connections reset", counters.resets),
            ("connections timed out", counters.timeouts),
            ("writes with a number received", counters.notices),
            ("heartbeats sent", counters.heartbeats),
            ("one-sided operations pending", self.one_sided.pending() as u64),
            ("pieces copied to send", self.memory.copied),
            ("heap exhausted", self.memory.exhausted),
            ("datagrams dropped", self.dropped),
            ("peers of datagrams known", self.peers.len() as u64),
        ]
    }
}

/// The end.
impl Engine {
    /// Ends all that is left. What the device has is given up with its queues.
    pub(super) fn end(&mut self) {
        let all: Vec<Id> = self.ends.iter().flatten().map(|end| end.id).collect();
        for id in all {
            self.link.abort(id);
        }
        self.part();
        self.listeners.clear();
        self.asking = Slots::new();
        self.datagrams = Slots::new();
        self.held = None;
    }
}

/// The device that a configuration names, or the only one.
pub(super) fn open_device(config: &RdmaConfig) -> io::Result<Device> {
    if let Some(name) = &config.device {
        return Device::open(name);
    }
    let names = crate::verbs::devices()?;
    match names.as_slice() {
        [one] => Device::open(one),
        // It says what is missing.
        [] => Device::open("any"),
        several => {
            let text =
                format!("there are several RDMA devices, say which in rdma.device: {}", several.join(", "));
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

pub(super) fn failure_of(status: Status) -> Failure {
    match status.kind() {
        io::ErrorKind::TimedOut => Failure::TimedOut,
        io::ErrorKind::Other => Failure::DeviceGone,
        _ => Failure::Reset,
    }
}

/// A descriptor that is readable when one of these is.
fn wait_for(descriptors: &[RawFd]) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if epoll < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just opened, and nobody else has it.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
    descriptors.iter().try_for_each(|descriptor| add(epoll.as_raw_fd(), *descriptor))?;
    Ok(epoll)
}

/// Has it be readable when this is, too.
fn add(epoll: RawFd, descriptor: RawFd) -> io::Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    // SAFETY: the event is there during the call.
    let failed = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, descriptor, &mut event) };
    if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
