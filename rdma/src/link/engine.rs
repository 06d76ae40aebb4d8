//! [`Link`]: all connections of a device and core.

use super::config::LinkConfig;
use super::connection::{Connection, Next, Phase};
use super::error::Failure;
use super::frame::HEADER;
use super::hello::{HELLO, Hello};
use super::keepalive::Heartbeats;
use super::listener::{Listener, Rate};
use super::notices::Notice;
use super::pool::Pool;
use super::sending::Fin;
use super::slots::{Id, Slots};
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::time::Instant;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;

/// Frames of one connection in a row, before others have their turn.
const BURST: usize = 8;

/// Idle connections that are looked for at once.
const LOOKED_AT: usize = 64;

/// The connections of a device and core, which share its receive buffers.
///
/// A driver calls:
/// - [`posted`](Link::posted) when it has given the device receive buffers, as many as are [`missing`](Link::missing);
/// - [`begin_turn`](Link::begin_turn) and [`tick`](Link::tick) once in each of its turns, and then sends what
///   [`poll_transmit`](Link::poll_transmit) gives, in that order on each connection, and says
///   [`watch_waiting`](Link::watch_waiting);
/// - [`received`](Link::received), [`sent`](Link::sent) and [`broken`](Link::broken) for what the device tells;
/// - [`request`](Link::request), [`established`](Link::established), [`refused`](Link::refused) for what the connection
///   manager tells;
/// - [`poll_event`](Link::poll_event) for what has changed, and [`poll_disconnect`](Link::poll_disconnect) for the
///   connections that are to be ended; [`detached`](Link::detached) when the device has nothing of one any more.
///
/// Programs connect, [`accept`](Link::accept), [`send`](Link::send), [`receive`](Link::receive) and
/// [`close`](Link::close). `WouldBlock` says to try again after the next event of the connection.
#[derive(Debug)]
pub struct Link {
    pub(super) config: LinkConfig,
    pub(super) pool: Pool,
    pub(super) connections: Slots<Connection>,
    pub(super) listeners: Slots<Listener>,
    pub(super) half_open: u32,
    pub(super) rate: Rate,
    /// When something is to be given up.
    pub(super) deadlines: BTreeSet<(Instant, Id)>,
    /// Those that may have something to send now.
    ready: VecDeque<Id>,
    /// Those that have something to tell, if it does not go along with data until the next turn.
    later: Vec<Id>,
    /// Those for whom the pool had no room.
    starving: VecDeque<Id>,
    /// The pool has got room since they were last looked at.
    pub(super) refilled: bool,
    /// What peers have told with a write, and nobody has taken.
    pub(super) notices: HashMap<Id, VecDeque<Notice>>,
    pub(super) heartbeats: Heartbeats,
    /// Where the search for idle connections goes on.
    hand: u32,
    /// Connections whose peers are asked for credits, and have not answered.
    recalls: u32,
    pub(super) changed: VecDeque<Event>,
    pub(super) disconnects: VecDeque<Id>,
    pub(super) counters: Counters,
}

/// Something has changed: what was refused with `WouldBlock` may work now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A connection.
    Connection(Id),
    /// A listener.
    Listener(Id),
}

/// A frame that is to be sent.
#[derive(Debug)]
pub struct Post {
    /// On which connection.
    pub id: Id,
    /// What is sent first.
    pub header: [u8; HEADER],
    /// What is sent behind it.
    pub payload: Sga,
    /// The frame's number, for [`Link::sent`].
    pub sequence: u32,
    /// Whether the device has to tell when it is done with it.
    pub signalled: bool,
}

/// What has been counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Frames given to the device.
    pub frames_sent: u64,
    /// Frames that have come on connections that are open.
    pub frames_received: u64,
    /// Of the former, those without payload.
    pub control_sent: u64,
    /// Peers asked for credits that they did not use.
    pub recalls: u64,
    /// Connections that had to wait for the pool.
    pub starved: u64,
    /// Connections that peers have set up.
    pub accepted: u64,
    /// Requests refused because of a limit.
    pub refused: u64,
    /// Peers that speak something else.
    pub foreign: u64,
    /// Connections ended because the peer broke the protocol.
    pub violations: u64,
    /// Connections that ended with an error.
    pub resets: u64,
    /// Connections that took too long to be set up, or to close.
    pub timeouts: u64,
    /// Writes of peers that told a number.
    pub notices: u64,
    /// Frames sent because a peer was silent.
    pub heartbeats: u64,
}

impl Link {
    /// Without connections, and without buffers.
    pub fn new(config: LinkConfig) -> Link {
        Link {
            pool: Pool::new(config.buffers, config.floor.into()),
            connections: Slots::new(),
            listeners: Slots::new(),
            half_open: 0,
            rate: Rate::new(config.rate),
            deadlines: BTreeSet::new(),
            ready: VecDeque::new(),
            later: Vec::new(),
            starving: VecDeque::new(),
            refilled: false,
            notices: HashMap::new(),
            heartbeats: Heartbeats::default(),
            hand: 0,
            recalls: 0,
            changed: VecDeque::new(),
            disconnects: VecDeque::new(),
            counters: Counters::default(),
            config,
        }
    }

    /// What has been counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Bytes of memory that a connection takes that has nothing to send and nothing unread, beyond what the device has
    /// for it.
    pub const fn bytes_per_connection() -> usize {
        Slots::<Connection>::bytes_each()
    }

    /// Connections that there are, and those that are ending.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Receive buffers that the device has, and those of them that peers may use without asking.
    pub fn buffers(&self) -> (u32, u32) {
        (self.pool.posted(), self.pool.promised())
    }
}

/// For programs.
impl Link {
    /// Takes a message to be sent, all of it. It goes out as the device and the peer have room.
    ///
    /// # Errors
    /// `WouldBlock` while more than a limit is queued; then the message is left. `NotConnected` before the connection
    /// is established, `BrokenPipe` after its sending direction or all of it has ended; else what ended the connection.
    #[inline]
    pub fn send(&mut self, id: Id, message: &mut Sga) -> io::Result<()> {
        self.send_within(id, message, self.config.queue)
    }

    /// The same without a limit, for what is left when the program [closes](Link::close): that has its own, in time.
    ///
    /// # Errors
    /// As [`send`](Link::send), but for `WouldBlock`.
    pub fn send_last(&mut self, id: Id, message: &mut Sga) -> io::Result<()> {
        self.send_within(id, message, usize::MAX)
    }

    #[inline]
    fn send_within(&mut self, id: Id, message: &mut Sga, limit: usize) -> io::Result<()> {
        let connection = self.connections.get_mut(id).ok_or_else(not_connected)?;
        match connection.phase {
            Phase::Open if !connection.can_push() => return Err(io::ErrorKind::BrokenPipe.into()),
            Phase::Open if connection.sending.queued() >= limit => {
                connection.blocked = true;
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Phase::Open => {}
            Phase::Ended(failure) => {
                return Err(failure.map_or_else(|| io::ErrorKind::BrokenPipe.into(), io::Error::from));
            }
            Phase::Connecting { .. } | Phase::Agreed { .. } => return Err(not_connected()),
        }
        if !message.is_empty() {
            connection.sending.push(std::mem::take(message));
            self.list_ready(id);
        }
        Ok(())
    }

    /// Takes what has come, at most `limit` bytes, and never of two messages. An empty buffer is the end.
    ///
    /// # Errors
    /// `WouldBlock` if nothing has come; what ended the connection before the peer has ended its direction.
    #[inline]
    pub fn receive(&mut self, id: Id, limit: usize) -> io::Result<Buffer> {
        let connection = self.connections.get_mut(id).ok_or_else(not_connected)?;
        if let Some(data) = connection.read(limit) {
            if connection.has_to_tell() {
                self.list_later(id);
            }
            return Ok(data);
        }
        match connection.phase {
            _ if connection.is_ended() => Ok(Buffer::new()),
            Phase::Open => Err(io::ErrorKind::WouldBlock.into()),
            Phase::Ended(failure) => failure.map_or_else(|| Ok(Buffer::new()), |it| Err(it.into())),
            Phase::Connecting { .. } | Phase::Agreed { .. } => Err(not_connected()),
        }
    }

    /// Whether there is a connection of which nothing is to be received now.
    #[inline]
    pub fn is_waiting(&self, id: Id) -> bool {
        self.connections.get(id).is_some_and(|connection| {
            connection.phase == Phase::Open && !connection.has_unread() && !connection.is_ended()
        })
    }

    /// Ends the sending direction behind what was sent.
    ///
    /// # Errors
    /// `NotConnected` if there is no connection, or none any more.
    pub fn finish(&mut self, id: Id) -> io::Result<()> {
        let connection = self.connections.get_mut(id).ok_or_else(not_connected)?;
        if connection.phase != Phase::Open {
            return Err(not_connected());
        }
        if connection.sending.fin == Fin::No {
            connection.sending.fin = Fin::Queued;
            self.list_ready(id);
        }
        Ok(())
    }

    /// Ends the receiving direction: what has come and what will is dropped.
    ///
    /// # Errors
    /// `NotConnected` if there is no connection, or none any more.
    pub fn deafen(&mut self, id: Id) -> io::Result<()> {
        let connection = self.connections.get_mut(id).ok_or_else(not_connected)?;
        if connection.phase != Phase::Open {
            return Err(not_connected());
        }
        drop(connection.deafen());
        self.notices.remove(&id);
        self.list_later(id);
        Ok(())
    }

    /// Gives the connection up. What was sent goes out first, unless something has come that nobody has read: then the
    /// peer is to know, and the connection is reset.
    pub fn close(&mut self, now: Instant, id: Id) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.closing.is_some() {
            return;
        }
        let deadline = now.saturating_add(self.config.linger);
        connection.closing = Some(deadline);
        if connection.phase != Phase::Open || connection.has_unread() {
            return self.abort(id);
        }
        if connection.sending.fin == Fin::No {
            connection.sending.fin = Fin::Queued;
        }
        self.deadlines.insert((deadline, id));
        self.list_ready(id);
        self.end_if_finished(id);
    }

    /// Resets the connection: what is queued is dropped, and the peer gets an error.
    pub fn abort(&mut self, id: Id) {
        self.end(id, Failure::Aborted);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.closing.get_or_insert(Instant::from_nanos(0));
            self.forget_if_over(id);
        }
    }
}

/// For the driver.
impl Link {
    /// The device has so many more receive buffers.
    pub fn posted(&mut self, count: u32) {
        self.pool.post(count);
        self.refilled = true;
    }

    /// How many receive buffers the device should be given.
    pub fn missing(&self) -> u32 {
        self.pool.missing()
    }

    /// Whether a connection waits for receive buffers: then those that are missing should be given at once.
    pub fn is_starving(&self) -> bool {
        !self.starving.is_empty()
    }

    /// A receive buffer came back with nothing in it.
    pub fn lost(&mut self) {
        self.pool.consume();
    }

    /// A frame has come, header and payload, and has taken a receive buffer.
    #[inline]
    pub fn received(&mut self, id: Id, frame: Buffer) {
        self.pool.consume();
        self.establish_by_frame(id);
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.phase != Phase::Open {
            return connection.settle_one(&mut self.pool);
        }
        self.counters.frames_received += 1;
        let recalling = connection.recalling;
        let result = connection.receive(frame, &mut self.pool, &self.config);
        if recalling && !connection.recalling {
            self.recalls -= 1;
            self.refilled = true;
        }
        if let Err(violation) = result {
            self.counters.violations += 1;
            return self.end(id, Failure::Protocol(violation));
        }
        if connection.closing.is_some() && connection.has_unread() {
            // Nobody will read it, and the peer is to know.
            return self.end(id, Failure::Aborted);
        }
        let (to_tell, can_send) = (connection.has_to_tell(), connection.sending.has_data());
        self.list_changed(id);
        if to_tell {
            self.list_later(id);
        }
        if can_send {
            self.list_ready(id);
        }
    }

    /// The device is done with the frame of this number and all before it.
    #[inline]
    pub fn sent(&mut self, id: Id, sequence: u32) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.sending.complete(sequence);
        if connection.sending.has_data() || connection.overdue {
            self.list_ready(id);
        }
        self.end_if_finished(id);
    }

    /// The connection has ended below: the peer has disconnected, or the device has given up.
    pub fn broken(&mut self, id: Id, failure: Failure) {
        self.end(id, failure);
    }

    /// The device has nothing of the connection any more, and nothing of it will come.
    pub fn detached(&mut self, id: Id) {
        self.end(id, Failure::Reset);
        let Some(connection) = self.connections.get_mut(id) else { return };
        if std::mem::replace(&mut connection.detached, true) {
            return;
        }
        connection.settle_end(&mut self.pool);
        if std::mem::take(&mut connection.recalling) {
            self.recalls -= 1;
        }
        self.pool.leave();
        self.refilled = true;
        self.forget_if_over(id);
    }

    /// What was to be told and has not gone along with data since the last turn is sent by itself from now on; and
    /// those who wait for the pool are looked at, if it has got room.
    pub fn begin_turn(&mut self) {
        for index in 0..self.later.len() {
            let id = self.later[index];
            if let Some(connection) = self.connections.get_mut(id) {
                connection.listed.later = false;
                connection.overdue = true;
                self.list_ready(id);
            }
        }
        self.later.clear();
        if self.starving.is_empty() {
            return;
        }
        if std::mem::take(&mut self.refilled) {
            for _ in 0..self.starving.len().min(self.pool.free() as usize) {
                let Some(id) = self.starving.pop_front() else { break };
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.listed.starving = false;
                    self.list_ready(id);
                }
            }
        }
        if !self.starving.is_empty() {
            self.recall_from_idle();
        }
    }

    /// The next frame to send.
    #[inline]
    pub fn poll_transmit(&mut self) -> Option<Post> {
        while let Some(&id) = self.ready.front() {
            let share = self.share();
            let next = match self.connections.get_mut(id) {
                Some(connection) => connection.next(&mut self.pool, share, &self.config),
                None => Next::Nothing,
            };
            match next {
                Next::Frame(frame) => {
                    self.tell_of_room(id);
                    self.counters.frames_sent += 1;
                    self.counters.control_sent += u64::from(frame.payload.is_empty());
                    match self.connections.get(id).is_some_and(|connection| connection.may_have_next()) {
                        true => self.take_turns(id),
                        false => self.unlist_ready(id),
                    }
                    let (header, payload) = (frame.header, frame.payload);
                    return Some(Post {
                        id,
                        header,
                        payload,
                        sequence: frame.sequence,
                        signalled: frame.signalled,
                    });
                }
                Next::Nothing => {
                    self.unlist_ready(id);
                    self.watch_if_waiting(id);
                }
                Next::Starving => {
                    self.unlist_ready(id);
                    self.list_starving(id);
                }
            }
        }
        None
    }

    /// What has changed.
    #[inline]
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.changed.pop_front()?;
        match event {
            Event::Connection(id) => {
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.listed.changed = false;
                }
            }
            Event::Listener(id) => {
                if let Some(listener) = self.listeners.get_mut(id) {
                    listener.changed = false;
                }
            }
        }
        Some(event)
    }

    /// A connection that the device is to end. It is [detached](Link::detached) when that has been done.
    pub fn poll_disconnect(&mut self) -> Option<Id> {
        self.disconnects.pop_front()
    }

    /// Whether there is something to do in the next turn, whatever comes.
    pub fn is_busy(&self) -> bool {
        !self.ready.is_empty()
            || !self.later.is_empty()
            || !self.changed.is_empty()
            || !self.disconnects.is_empty()
            || !self.starving.is_empty() && (self.refilled && self.pool.free() > 0 || self.can_recall())
    }

    /// When something is to be given up.
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        deadline.into_iter().chain(self.heartbeats.next()).min()
    }

    /// Gives up what has taken too long.
    pub fn tick(&mut self, now: Instant) {
        self.beat(now);
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > now {
                return;
            }
            self.deadlines.pop_first();
            let Some(connection) = self.connections.get(id) else { continue };
            let is_due = match connection.phase {
                Phase::Connecting { deadline: due } | Phase::Agreed { deadline: due, .. } => due <= now,
                Phase::Open => connection.closing.is_some_and(|due| due <= now),
                Phase::Ended(_) => false,
            };
            if is_due {
                self.counters.timeouts += 1;
                self.end(id, Failure::TimedOut);
            }
        }
    }
}

/// Lists.
impl Link {
    #[inline]
    pub(super) fn list_ready(&mut self, id: Id) {
        if let Some(connection) = self.connections.get_mut(id)
            && !std::mem::replace(&mut connection.listed.ready, true)
        {
            self.ready.push_back(id);
        }
    }

    #[inline]
    fn unlist_ready(&mut self, id: Id) {
        self.ready.pop_front();
        if let Some(connection) = self.connections.get_mut(id) {
            connection.listed.ready = false;
        }
    }

    /// Has a peer watched for whose credits data wait.
    #[inline]
    fn watch_if_waiting(&mut self, id: Id) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.begins_to_wait()
        {
            self.heartbeats.waits(id);
        }
    }

    /// Tells a program that had to wait, if there is room again.
    #[inline]
    fn tell_of_room(&mut self, id: Id) {
        let limit = self.config.queue;
        if let Some(connection) = self.connections.get_mut(id)
            && connection.blocked
            && connection.sending.queued() < limit
        {
            connection.blocked = false;
            self.list_changed(id);
        }
    }

    /// After some frames of the first, another is the first.
    fn take_turns(&mut self, id: Id) {
        if self.ready.len() > 1 && self.counters.frames_sent.is_multiple_of(BURST as u64) {
            self.ready.pop_front();
            self.ready.push_back(id);
        }
    }

    #[inline]
    pub(super) fn list_later(&mut self, id: Id) {
        if let Some(connection) = self.connections.get_mut(id)
            && !std::mem::replace(&mut connection.listed.later, true)
        {
            self.later.push(id);
        }
    }

    #[inline]
    pub(super) fn list_changed(&mut self, id: Id) {
        if let Some(connection) = self.connections.get_mut(id)
            && !std::mem::replace(&mut connection.listed.changed, true)
        {
            self.changed.push_back(Event::Connection(id));
        }
    }

    #[cold]
    fn list_starving(&mut self, id: Id) {
        if let Some(connection) = self.connections.get_mut(id)
            && !std::mem::replace(&mut connection.listed.starving, true)
        {
            self.counters.starved += 1;
            self.starving.push_back(id);
        }
    }

    /// What a connection may have beyond its floor, if others wait.
    fn share(&self) -> u32 {
        match self.starving.len() as u32 {
            0 => u32::MAX,
            others => self.pool.extra_total() / (others + 1),
        }
    }

    /// Whether somebody has what can be asked back, and nobody has been asked.
    fn can_recall(&self) -> bool {
        self.recalls == 0 && self.pool.has_extra()
    }

    /// Asks those who have more than their right, and have not used it for a while, to give it back.
    #[cold]
    fn recall_from_idle(&mut self) {
        for _ in 0..LOOKED_AT {
            if !self.can_recall() {
                return;
            }
            let Some(id) = self.connections.next_from(self.hand) else { return };
            self.hand = id.index() + 1;
            let Some(connection) = self.connections.get_mut(id) else { return };
            if std::mem::take(&mut connection.active) || !connection.recall(self.config.floor) {
                continue;
            }
            connection.overdue = true;
            self.counters.recalls += 1;
            self.recalls += 1;
            self.list_ready(id);
        }
    }
}

/// The end.
impl Link {
    /// Ends a connection: nothing is sent or received any more.
    pub(super) fn end(&mut self, id: Id, failure: Failure) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        self.heartbeats.stop(id);
        let error = match connection.phase {
            Phase::Ended(_) => return,
            // After both ends there is nothing to be told, and after the peer's only pushes fail.
            Phase::Open if connection.has_peer_finished() && failure == Failure::Reset => None,
            _ => Some(failure),
        };
        let phase = std::mem::replace(&mut connection.phase, Phase::Ended(error));
        let queued = connection.sending.clear();
        self.counters.resets += u64::from(error.is_some());
        self.disconnects.push_back(id);
        self.list_changed(id);
        if let Phase::Agreed { deadline, .. } | Phase::Connecting { deadline } = phase {
            self.deadlines.remove(&(deadline, id));
        }
        if let Phase::Agreed { listener, deadline } = phase {
            self.half_open -= 1;
            self.no_longer_pending(listener);
            // No program knows of it.
            if let Some(connection) = self.connections.get_mut(id) {
                connection.closing = Some(deadline);
            }
        }
        // Its destructor may be anybody's code, but cannot reach this.
        drop(queued);
    }

    /// After a close, when everything is out.
    fn end_if_finished(&mut self, id: Id) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(deadline) = connection.closing else { return };
        if connection.phase == Phase::Open && connection.sending.is_finished() {
            self.deadlines.remove(&(deadline, id));
            connection.phase = Phase::Ended(None);
            self.heartbeats.stop(id);
            self.disconnects.push_back(id);
        }
    }

    /// Forgets a connection that neither the device nor the program has any more.
    pub(super) fn forget_if_over(&mut self, id: Id) {
        if let Some(connection) = self.connections.get(id)
            && connection.detached
            && let Some(deadline) = connection.closing
        {
            self.deadlines.remove(&(deadline, id));
            self.notices.remove(&id);
            self.heartbeats.stop(id);
            drop(self.connections.remove(id));
        }
    }

    pub(super) fn hello_of(&mut self, id: Id) -> [u8; HELLO] {
        let buffer_size = self.config.buffer_size;
        match self.connections.get_mut(id) {
            Some(connection) => connection.hello(&mut self.pool, buffer_size).to_bytes(),
            None => Hello { credits: 0, buffer_size, notices: true }.to_bytes(),
        }
    }
}

#[cold]
pub(super) fn not_connected() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

#[cfg(test)]
impl Link {
    /// Whether the sums are those of the parts.
    pub(super) fn check(&self) {
        let attached = || self.connections.iter().filter(|(_, connection)| !connection.detached);
        let promised: u32 = attached().map(|(_, connection)| connection.promised()).sum();
        assert_eq!(promised, self.pool.promised());
        let extra = |granted: u16| u32::from(granted.saturating_sub(self.config.floor));
        assert_eq!(attached().map(|(_, it)| extra(it.granted())).sum::<u32>(), self.pool.extra());
        assert_eq!(attached().filter(|(_, it)| it.recalling).count(), self.recalls as usize);
    }

    /// Data credits that the peer of a connection has.
    pub(super) fn connections_granted(&self, id: Id) -> u16 {
        self.connections.get(id).map_or(0, Connection::granted)
    }

    /// Whether nothing is left of any connection.
    pub(super) fn assert_empty(&self) {
        assert_eq!((self.connections.len(), self.half_open, self.recalls), (0, 0, 0));
        assert_eq!((self.pool.promised(), self.pool.extra()), (0, 0));
        assert!(self.deadlines.is_empty() && self.disconnects.is_empty());
        assert!(self.notices.is_empty() && self.heartbeats.next().is_none());
    }
}
