//! How data moves between the two ends of a connection.
//!
//! An end sends as long as the peer has room for more (`credit`), in pieces cut at random. Each takes its
//! time, and none overtakes another. When data has been popped, the peer hears of the room that this has
//! made, which takes its time, too.

use super::effect::Effect;
use super::errors::{closed, code};
use super::socket::{Connection, Item, Receiving, Role, Sending, Socket, Stream, capacity};
use super::state::{Entry, Event, State, note};
use super::waiting::Queue;
use crate::buffer::{Buffer, BufferMut, Sga};
use crate::executor::Completion;
use crate::transport::Qd;
use crate::transport::stream::number_behind;
use std::io;
use std::net::Shutdown;

/// The most that a pop joins.
const LONGEST_JOIN: usize = 64 << 10;

/// Sending.
impl State {
    pub(super) fn push_stream(&mut self, qd: Qd, data: Sga, done: Completion<io::Result<()>>) {
        let stream = match self.socket(qd) {
            Ok(Socket { role: Role::Connected(stream), .. }) => stream,
            Ok(_) => return self.refuse_push(data, done, code(libc::ENOTCONN)),
            Err(error) => return self.refuse_push(data, done, error),
        };
        if let Some(error) = stream.error.take() {
            return self.refuse_push(data, done, code(error));
        }
        if stream.sending != Sending::Open {
            return self.refuse_push(data, done, code(libc::EPIPE));
        }
        let number = stream.outbound.next_number();
        self.watch(&done, qd, Queue::Sends, number);
        if let Some(stream) = self.stream(qd) {
            stream.outbound.push(data, done);
        }
        self.transmit(qd);
    }

    pub(super) fn refuse_push(&mut self, data: Sga, done: Completion<io::Result<()>>, error: io::Error) {
        self.done(done, Err(error));
        self.effects.push(Effect::Drop(data));
    }

    pub(super) fn cancel_push(&mut self, qd: Qd, number: u32) {
        let Some(stream) = self.stream(qd) else { return };
        // What has left in part goes on, for the stream to make sense.
        if let Some(data) = stream.outbound.cancel(number) {
            self.effects.push(Effect::Drop(data));
        }
        // Those behind it may be empty, and what waits for the last one to leave may go on.
        self.transmit(qd);
    }

    /// Sends what there is as long as the peer has room.
    pub(super) fn transmit(&mut self, qd: Qd) {
        loop {
            let Some(Entry::Socket(Socket { role: Role::Connected(stream), .. })) = self.entries.get_mut(&qd)
            else {
                return;
            };
            stream.outbound.complete_empty(&mut self.effects);
            let possible = stream.outbound.bytes().min(stream.credit);
            if possible == 0 {
                break;
            }
            let mut size = possible.min(self.config.segment.max(1));
            if self.random.chance(self.config.splits) {
                size = 1 + self.random.below(size as u64) as usize;
            }
            stream.credit -= size;
            let data = stream.outbound.take(size, &mut self.effects);
            self.count.pieces += 1;
            self.count.bytes += size as u64;
            note!(self, "{} sends {size}", qd.0);
            if self.random.chance(self.config.resets) {
                self.effects.push(Effect::Drop(data));
                self.send_item(qd, Item::Broken);
            } else {
                self.send_item(qd, Item::Data(data));
            }
        }
        self.end_sending(qd);
    }

    /// Says that nothing follows, if all of what was pushed has left and nothing will follow.
    fn end_sending(&mut self, qd: Qd) {
        let Some(stream) = self.stream(qd) else { return };
        if stream.sending == Sending::Ending && stream.outbound.is_empty() {
            stream.sending = Sending::Ended;
            let item = if stream.discarded { Item::Reset } else { Item::End };
            self.send_item(qd, item);
        }
        self.forget_closed(qd);
    }

    /// Has something travel to the peer, behind what is on its way already.
    pub(super) fn send_item(&mut self, qd: Qd, item: Item) {
        let arrival = self.arrival();
        let Some(stream) = self.stream(qd) else { return };
        stream.latest = stream.latest.max(arrival);
        let at = stream.latest;
        stream.flight.push_back((at, item));
        self.schedule.add(at, Event::Arrival { sender: qd });
    }
}

/// Arriving.
impl State {
    /// What is at the front of a socket's flight reaches the peer.
    pub(super) fn item_arrives(&mut self, sender: Qd) {
        let now = self.now;
        let Some(socket) = self.any_socket(sender) else { return };
        let local = socket.local.clone();
        let Some(stream) = self.stream(sender) else { return };
        if stream.stuck.is_some() || stream.flight.front().is_none_or(|(at, _)| *at > now) {
            return;
        }
        let (peer, connection, remote) = (stream.peer, stream.connection, stream.remote.clone());
        if self.is_cut(&local, &remote) {
            return self.flight_is_stuck(sender, peer, connection);
        }
        let Some(stream) = self.stream(sender) else { return };
        let Some((_, item)) = stream.flight.pop_front() else { return };
        if !self.deliver(peer, sender, connection, item) {
            self.send_event(Event::Reset { to: sender, connection });
        }
        self.forget_closed(sender);
    }

    /// What is on its way does not get through.
    fn flight_is_stuck(&mut self, sender: Qd, peer: Qd, connection: Connection) {
        note!(self, "{} is cut off", sender.0);
        let number = self.limit_waiting(sender);
        if let Some(stream) = self.stream(sender) {
            stream.stuck = Some(number);
        }
        // If it was the news that the connection is made, its maker waits for that.
        self.connect_is_stuck(peer, connection);
    }

    /// Returns whether the receiver knows the connection and has a use for the item.
    fn deliver(&mut self, to: Qd, from: Qd, connection: Connection, item: Item) -> bool {
        match item {
            Item::Established => self.established_arrives(to, from, connection),
            Item::Data(data) => self.data_arrives(to, connection, data),
            Item::End => {
                if let Some(stream) = self.stream_of(to, connection) {
                    stream.receiving = Receiving::Ended;
                    note!(self, "{} has all", to.0);
                    self.serve_pops(to);
                }
                true
            }
            Item::Reset => {
                self.reset_arrives(to, connection);
                true
            }
            Item::Broken => {
                self.break_connection(from);
                true
            }
        }
    }

    fn data_arrives(&mut self, qd: Qd, connection: Connection, data: Sga) -> bool {
        let closing = self.any_socket(qd).is_some_and(|socket| socket.closing);
        let size = data.len();
        let Some(stream) = self.stream_of(qd, connection) else {
            self.effects.push(Effect::Drop(data));
            return false;
        };
        if stream.receiving == Receiving::Failed {
            self.effects.push(Effect::Drop(data));
            return false;
        }
        if closing || stream.deaf {
            // The program wants no more of it. What it pushed before goes first; then the peer is told.
            stream.discarded |= closing;
            let told = closing && stream.sending == Sending::Ended;
            self.effects.push(Effect::Drop(data));
            if !closing {
                self.make_room(qd, size);
            }
            return !told;
        }
        stream.unread += size;
        stream.arrived.extend(data);
        note!(self, "{} gets {size}", qd.0);
        self.serve_pops(qd);
        true
    }

    /// Whoever takes part in the connection hears that the other side does not know it.
    pub(super) fn reset_arrives(&mut self, qd: Qd, connection: Connection) {
        if let Some(stream) = self.stream_of(qd, connection) {
            // After the end of the peer's data it is pushes that fail, as on Linux.
            let ended = stream.receiving == Receiving::Ended;
            let error = if ended { libc::EPIPE } else { libc::ECONNRESET };
            self.fail_stream(qd, error);
        }
    }

    /// Both ends of a connection fail at once.
    pub(super) fn break_connection(&mut self, qd: Qd) {
        let Some(stream) = self.stream(qd) else { return };
        let (peer, connection) = (stream.peer, stream.connection);
        self.fail_stream(qd, libc::ECONNRESET);
        if self.stream_of(peer, connection).is_some() {
            self.fail_stream(peer, libc::ECONNRESET);
        } else if self.connecting(peer, connection).is_some() {
            self.fail_connect(peer, libc::ECONNRESET);
        }
    }

    /// The connection is no more, as far as this end knows.
    pub(super) fn fail_stream(&mut self, qd: Qd, error: i32) {
        note!(self, "{} fails with {error}", qd.0);
        self.count.resets += u64::from(error != libc::ETIMEDOUT);
        let Some(Entry::Socket(Socket { role: Role::Connected(stream), .. })) = self.entries.get_mut(&qd)
        else {
            return;
        };
        let told = !stream.outbound.is_empty() || !stream.pops.is_empty();
        stream.error = (!told).then_some(error);
        stream.sending = Sending::Ended;
        if stream.receiving == Receiving::Open || stream.deaf {
            stream.receiving = Receiving::Failed;
        }
        stream.stuck = None;
        stream.outbound.fail(&mut self.effects, || code(error));
        drop_flight(stream, &mut self.effects);
        // There are pops only if nothing is there for them: one gets the error, the rest the end.
        if let Some((_, done)) = stream.pops.pop() {
            self.effects.push(Effect::Popped(done, Err(code(error))));
        }
        self.serve_pops(qd);
        self.forget_closed(qd);
    }

    /// The time to wait for an answer is over.
    pub(super) fn give_up(&mut self, qd: Qd, number: u64) {
        let Some(socket) = self.any_socket(qd) else { return };
        let due = match &socket.role {
            Role::Connecting(connecting) => connecting.stuck == Some(number),
            Role::Connected(stream) => match stream.background {
                _ if stream.stuck == Some(number) => true,
                Some((other, left)) if other == number && stream.outbound.bytes() < left => {
                    return self.limit_background(qd);
                }
                background => background.is_some_and(|(other, _)| other == number),
            },
            _ => false,
        };
        if !due {
            return;
        }
        self.count.timeouts += 1;
        match self.stream(qd) {
            Some(_) => self.fail_stream(qd, libc::ETIMEDOUT),
            None => self.fail_connect(qd, libc::ETIMEDOUT),
        }
    }
}

fn drop_flight(stream: &mut Stream, effects: &mut Vec<Effect>) {
    for (_, item) in stream.flight.drain(..) {
        if let Item::Data(data) = item {
            effects.push(Effect::Drop(data));
        }
    }
}

/// Receiving.
impl State {
    pub(super) fn pop_stream(&mut self, qd: Qd, limit: usize, done: Completion<io::Result<Buffer>>) {
        let number = match self.socket(qd) {
            Ok(Socket { role: Role::Connected(stream), .. }) => stream.pops.next_number(),
            Ok(_) => return self.effects.push(Effect::Popped(done, Err(code(libc::ENOTCONN)))),
            Err(error) => return self.effects.push(Effect::Popped(done, Err(error))),
        };
        self.watch(&done, qd, Queue::Receives, number);
        if let Some(stream) = self.stream(qd) {
            // A pop of nothing would look like the end of the stream.
            stream.pops.push((limit.max(1), done));
        }
        self.serve_pops(qd);
    }

    /// Gives those who wait what there is.
    pub(super) fn serve_pops(&mut self, qd: Qd) {
        let mut freed = 0;
        loop {
            let Some(Entry::Socket(Socket { role: Role::Connected(stream), .. })) = self.entries.get_mut(&qd)
            else {
                return;
            };
            let unread = !stream.arrived.is_empty() || !stream.given_back.is_empty();
            let nothing = !unread && stream.receiving == Receiving::Open;
            let Some((limit, done)) = stream.pops.front().filter(|_| !nothing) else { break };
            let limit = *limit;
            let result = if let Some((_, front)) = stream.given_back.front_mut() {
                let data = front.split_to(limit.min(front.len()));
                if front.is_empty() {
                    stream.given_back.pop_front();
                }
                number_behind(&mut stream.given_back, done.number());
                Ok(data)
            } else if unread {
                let join = stream.arrived.len() > 1 && self.random.chance(self.config.joins);
                let data = take_arrived(stream, limit, join);
                freed += data.len();
                Ok(data)
            } else {
                // After the end of the peer's data there is no error to receiving, as on Linux.
                let failed = stream.receiving == Receiving::Failed;
                let error = if failed { stream.error.take() } else { None };
                error.map_or_else(|| Ok(Buffer::new()), |error| Err(code(error)))
            };
            if let Some((_, done)) = stream.pops.pop() {
                self.effects.push(Effect::Popped(done, result));
            }
        }
        self.make_room(qd, freed);
    }

    /// The window has room for so many bytes more, of which the peer hears soon.
    pub(super) fn make_room(&mut self, qd: Qd, bytes: usize) {
        let Some(stream) = self.stream(qd) else { return };
        stream.room += bytes;
        if stream.room > 0 && !stream.telling && (stream.deaf || stream.receiving != Receiving::Ended) {
            stream.telling = true;
            let (peer, connection) = (stream.peer, stream.connection);
            self.send_event(Event::Room { receiver: qd, peer, connection });
        }
    }

    pub(super) fn room_is_told(&mut self, receiver: Qd, peer: Qd, connection: Connection) {
        let room = match self.any_socket(receiver) {
            Some(Socket { local, role: Role::Connected(stream), .. }) => {
                let (local, remote) = (local.clone(), stream.remote.clone());
                if self.is_cut(&local, &remote) {
                    // It is told again when the cut is healed.
                    return;
                }
                let Some(stream) = self.stream(receiver) else { return };
                stream.telling = false;
                std::mem::take(&mut stream.room)
            }
            // It has closed since. The peer finds that out with the next byte it sends.
            _ => 1,
        };
        if let Some(stream) = self.stream_of(peer, connection) {
            stream.credit += room;
            self.transmit(peer);
        }
    }

    /// The receive buffer was set: a larger one has more room at once; a smaller one takes effect for new
    /// connections only, as what the peer was told cannot be taken back.
    pub(super) fn resize_window(&mut self, qd: Qd, bytes: u32) {
        let Some(stream) = self.stream(qd) else { return };
        if let Some(more) = capacity(bytes).checked_sub(stream.window) {
            stream.window += more;
            self.make_room(qd, more);
        }
    }
}

/// Takes at most `limit` bytes of what has arrived: of the first piece, or as many as there are.
fn take_arrived(stream: &mut Stream, limit: usize, join: bool) -> Buffer {
    let joined = if join { join_arrived(stream, limit) } else { None };
    let data = joined.unwrap_or_else(|| match stream.arrived.front_mut() {
        Some(front) if front.len() > limit => front.split_to(limit),
        _ => stream.arrived.pop_front().unwrap_or_default(),
    });
    stream.unread -= data.len();
    data
}

/// Joins pieces, if the pool has memory for that.
fn join_arrived(stream: &mut Stream, limit: usize) -> Option<Buffer> {
    let size = stream.unread.min(limit).min(LONGEST_JOIN);
    let mut joined = BufferMut::with_capacity(size).ok()?;
    while joined.len() < size {
        let front = stream.arrived.front_mut()?;
        let piece = front.len().min(size - joined.len());
        joined.extend_from_slice(&front[..piece]);
        front.advance(piece);
        if front.is_empty() {
            stream.arrived.pop_front();
        }
    }
    Some(joined.freeze())
}

/// Ending.
impl State {
    pub(super) fn shutdown_stream(&mut self, qd: Qd, how: Shutdown) -> io::Result<()> {
        let Some(stream) = self.stream(qd) else { return Err(code(libc::ENOTCONN)) };
        if how != Shutdown::Write {
            if stream.receiving == Receiving::Open {
                stream.receiving = Receiving::Ended;
            }
            stream.deaf = true;
            self.serve_pops(qd);
        }
        if how != Shutdown::Read
            && let Some(stream) = self.stream(qd)
            && stream.sending == Sending::Open
        {
            stream.sending = Sending::Ending;
            self.transmit(qd);
        }
        Ok(())
    }

    /// The program gives up its end. What it pushed goes first.
    pub(super) fn close_stream(&mut self, qd: Qd) {
        let Some(Entry::Socket(socket)) = self.entries.get_mut(&qd) else { return };
        let resets = socket.options.close_resets();
        let Role::Connected(stream) = &mut socket.role else { return };
        socket.closing = true;
        while let Some((_, done)) = stream.pops.pop() {
            self.effects.push(Effect::Popped(done, Err(closed())));
        }
        let given_back = stream.given_back.drain(..).map(|(_, data)| data);
        for data in given_back.chain(stream.arrived.drain(..)) {
            stream.discarded = true;
            self.effects.push(Effect::Drop(data.into()));
        }
        if resets {
            stream.discarded = true;
            stream.outbound.fail(&mut self.effects, closed);
        }
        match stream.sending {
            Sending::Open => stream.sending = Sending::Ending,
            Sending::Ending => {}
            // It has said that nothing follows, which is not all that the peer is to know.
            Sending::Ended if stream.discarded => self.send_item(qd, Item::Reset),
            Sending::Ended => {}
        }
        self.transmit(qd);
        self.limit_background(qd);
    }

    /// A socket that was closed while pushes are under way does not wait for ever for a peer that takes
    /// nothing.
    fn limit_background(&mut self, qd: Qd) {
        if self.stream(qd).is_some_and(|stream| !stream.outbound.is_empty()) {
            let number = self.limit_waiting(qd);
            if let Some(stream) = self.stream(qd) {
                stream.background = Some((number, stream.outbound.bytes()));
            }
        }
    }

    /// Takes a socket that the program has closed out of the table, if nothing of it is under way.
    fn forget_closed(&mut self, qd: Qd) {
        let Some(Socket { closing: true, role: Role::Connected(stream), .. }) = self.any_socket(qd) else {
            return;
        };
        if stream.sending == Sending::Ended && stream.flight.is_empty() {
            self.release_address(qd);
            self.entries.remove(&qd);
        }
    }
}
