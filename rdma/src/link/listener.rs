//! Setting up connections, within limits.

use super::connection::{Connection, Phase};
use super::engine::{Event, Link, not_connected};
use super::error::Failure;
use super::hello::{HELLO, Hello, Refusal};
use super::slots::Id;
use demikernel_runtime::time::Instant;
use std::collections::VecDeque;
use std::io;

/// Who waits for connections.
#[derive(Debug)]
pub(super) struct Listener {
    backlog: u32,
    /// Connections that are being set up.
    pending: u32,
    /// Connections that nobody has taken.
    queue: VecDeque<Id>,
    pub(super) changed: bool,
}

/// How many may be set up in a second: a bucket of tokens.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: u32,
    tokens: u32,
    since: Option<Instant>,
}

impl Rate {
    pub(super) fn new(per_second: u32) -> Rate {
        Rate { per_second, tokens: per_second, since: None }
    }

    /// Whether one more may be set up now.
    fn take(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let nanos = now.saturating_duration_since(since).as_nanos();
        let earned = nanos * u128::from(self.per_second) / 1_000_000_000;
        if earned > 0 {
            self.tokens =
                self.tokens.saturating_add(earned.min(u128::from(u32::MAX)) as u32).min(self.per_second);
            self.since = Some(now);
        }
        let taken = self.tokens > 0;
        self.tokens -= u32::from(taken);
        taken
    }
}

/// Setting up.
impl Link {
    /// Asks for a connection, with these private data.
    ///
    /// # Errors
    /// `OutOfMemory` if there are as many as there may be, or no receive buffers for one more.
    pub fn connect(&mut self, now: Instant) -> io::Result<(Id, [u8; HELLO])> {
        let deadline = now.saturating_add(self.config.set_up);
        let Some(id) = self.join(Phase::Connecting { deadline }) else {
            let text = "there are as many connections as the limits and the receive buffers allow";
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, text));
        };
        self.deadlines.insert((deadline, id));
        Ok((id, self.hello_of(id)))
    }

    /// Listens, with at most `backlog` connections that nobody has taken.
    pub fn listen(&mut self, backlog: u32) -> Id {
        self.listeners.insert(Listener {
            backlog: backlog.max(1),
            pending: 0,
            queue: VecDeque::new(),
            changed: false,
        })
    }

    /// Changes how many connections may wait to be taken.
    pub fn set_backlog(&mut self, listener: Id, backlog: u32) {
        if let Some(listener) = self.listeners.get_mut(listener) {
            listener.backlog = backlog.max(1);
        }
    }

    /// Listens no more: connections that nobody has taken are reset.
    pub fn unlisten(&mut self, listener: Id) {
        let Some(listener) = self.listeners.remove(listener) else { return };
        for id in listener.queue {
            self.abort(id);
        }
    }

    /// Takes a connection of a listener.
    ///
    /// # Errors
    /// `WouldBlock` if there is none.
    pub fn accept(&mut self, listener: Id) -> io::Result<Id> {
        let listener = self.listeners.get_mut(listener).ok_or_else(not_connected)?;
        listener.queue.pop_front().ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// A peer asks a listener for a connection, with its private data: what to answer.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn request(
        &mut self,
        now: Instant,
        listener: Id,
        private: &[u8],
    ) -> Result<(Id, [u8; HELLO]), Refusal> {
        let agreed = self.agree(now, listener, private);
        match agreed {
            Ok(_) => {}
            Err(Refusal::Foreign | Refusal::Version(_) | Refusal::Malformed) => self.counters.foreign += 1,
            Err(_) => self.counters.refused += 1,
        }
        let id = agreed?;
        Ok((id, self.hello_of(id)))
    }

    fn agree(&mut self, now: Instant, id: Id, private: &[u8]) -> Result<Id, Refusal> {
        let hello = Hello::parse(private)?;
        let Some(listener) = self.listeners.get_mut(id) else { return Err(Refusal::Backlog) };
        if listener.pending as usize + listener.queue.len() >= listener.backlog as usize {
            return Err(Refusal::Backlog);
        }
        if self.half_open >= self.config.half_open || !self.rate.take(now) {
            return Err(Refusal::TooFast);
        }
        let deadline = now.saturating_add(self.config.set_up);
        let agreed = self.join(Phase::Agreed { listener: id, deadline }).ok_or(Refusal::TooMany)?;
        if let Some(connection) = self.connections.get_mut(agreed) {
            connection.greeted(hello);
        }
        if let Some(listener) = self.listeners.get_mut(id) {
            listener.pending += 1;
        }
        self.half_open += 1;
        self.deadlines.insert((deadline, agreed));
        Ok(agreed)
    }

    /// The connection is established; `private` are the private data of the peer that has accepted, if this side asked.
    pub fn established(&mut self, id: Id, private: &[u8]) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        match connection.phase {
            Phase::Connecting { deadline } => match Hello::parse(private) {
                Ok(hello) => {
                    connection.greeted(hello);
                    connection.phase = Phase::Open;
                    self.deadlines.remove(&(deadline, id));
                    self.list_changed(id);
                    self.list_ready(id);
                }
                Err(refusal) => {
                    self.counters.foreign += 1;
                    self.end(id, Failure::Foreign(refusal));
                }
            },
            Phase::Agreed { listener, deadline } => {
                connection.phase = Phase::Open;
                self.deadlines.remove(&(deadline, id));
                self.half_open -= 1;
                self.no_longer_pending(listener);
                self.counters.accepted += 1;
                self.offer(listener, id);
            }
            Phase::Open | Phase::Ended(_) => {}
        }
    }

    /// A frame may come before the connection manager's word that the connection is established.
    pub(super) fn establish_by_frame(&mut self, id: Id) {
        if let Some(connection) = self.connections.get(id)
            && matches!(connection.phase, Phase::Agreed { .. })
        {
            self.established(id, &[]);
        }
    }

    /// The peer has refused the connection that this side asked for, with these private data.
    pub fn refused(&mut self, id: Id, private: &[u8]) {
        let failure = match Refusal::parse(private) {
            Some(refusal) => Failure::Refused(refusal),
            // The connection manager itself says so, without private data.
            None if private.iter().all(|&byte| byte == 0) => Failure::NobodyListens,
            None => Failure::Foreign(Refusal::Foreign),
        };
        self.end(id, failure);
    }

    /// Whether a connection that this side has asked for is there.
    ///
    /// # Errors
    /// `WouldBlock` if that is not known yet; else why it is not.
    pub fn connected(&mut self, id: Id) -> io::Result<()> {
        let connection = self.connections.get_mut(id).ok_or_else(not_connected)?;
        match connection.phase {
            Phase::Open => Ok(()),
            Phase::Ended(failure) => Err(failure.map_or_else(not_connected, io::Error::from)),
            Phase::Connecting { .. } | Phase::Agreed { .. } => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn join(&mut self, phase: Phase) -> Option<Id> {
        let joined = self.connections.len() < self.config.connections as usize && self.pool.join();
        joined.then(|| self.connections.insert(Connection::new(phase, self.config.floor)))
    }

    pub(super) fn no_longer_pending(&mut self, listener: Id) {
        if let Some(listener) = self.listeners.get_mut(listener) {
            listener.pending -= 1;
        }
    }

    /// Puts a connection into the queue of its listener, if that still is.
    fn offer(&mut self, id: Id, connection: Id) {
        let Some(listener) = self.listeners.get_mut(id) else { return self.abort(connection) };
        listener.queue.push_back(connection);
        if !std::mem::replace(&mut listener.changed, true) {
            self.changed.push_back(Event::Listener(id));
        }
        self.list_ready(connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_rate_is_kept_after_a_burst() {
        let mut rate = Rate::new(10);
        let start = Instant::from_nanos(1 << 50);
        assert_eq!((0..20).filter(|_| rate.take(start)).count(), 10);
        let later = start + Duration::from_millis(250);
        assert_eq!((0..20).filter(|_| rate.take(later)).count(), 2);
        assert_eq!((0..20).filter(|_| rate.take(later + Duration::from_secs(100))).count(), 10);
    }
}
