//! Notices: numbers that a side tells when it has written to the other's memory.
//!
//! A write with a number takes a receive buffer of the other side, in which nothing comes, so it takes a credit as a data
//! frame does. It has no header, for which there is no room: nothing goes along with it, and it counts among no frames.

use super::connection::{Marks, Phase};
use super::engine::{Link, not_connected};
use super::error::Failure;
use super::sending::Fin;
use super::slots::Id;
use std::io;

/// What a peer tells when it has written to memory of this side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Notice {
    /// The number.
    pub immediate: u32,
    /// Bytes that were written before.
    pub len: u32,
}

impl Notice {
    /// One that has come.
    pub fn new(immediate: u32, len: u32) -> Notice {
        Notice { immediate, len }
    }
}

/// For the driver.
impl Link {
    /// A write of the peer with a number has come, and has taken a receive buffer.
    pub fn notified(&mut self, id: Id, notice: Notice) {
        self.pool.consume();
        self.establish_by_frame(id);
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.phase != Phase::Open {
            return connection.settle_one(&mut self.pool);
        }
        self.counters.notices += 1;
        match connection.notified(&mut self.pool, &self.config) {
            Err(violation) => {
                self.counters.violations += 1;
                return self.end(id, Failure::Protocol(violation));
            }
            Ok(true) => self.notices.entry(id).or_default().push_back(notice),
            Ok(false) => {}
        }
        let to_tell = connection.has_to_tell();
        self.list_changed(id);
        if to_tell {
            self.list_later(id);
        }
    }

    /// Keeps places of the send queue for what are no frames, from now on; returns how many.
    pub fn reserve(&mut self, id: Id) -> u16 {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.marks.set(Marks::SHARES, true);
        }
        self.config.reserve()
    }

    /// What ended a connection, if it has ended and not as it should.
    pub fn failure(&self, id: Id) -> Option<Failure> {
        match self.connections.get(id)?.phase {
            Phase::Ended(failure) => failure,
            _ => None,
        }
    }
}

/// For programs.
impl Link {
    /// Takes a credit for a notice: whether there was one. If not, there may be after the next event.
    ///
    /// # Errors
    /// `Unsupported` if the peer does not take notices; as [`send`](Link::send) if nothing can be sent.
    pub fn take_credit(&mut self, id: Id) -> io::Result<bool> {
        let connection = self.connections.get_mut(id).ok_or_else(not_connected)?;
        match connection.phase {
            Phase::Open if !connection.marks.has(Marks::NOTICES) => {
                let text = "the peer is of an earlier version, which takes no writes with a number";
                Err(io::Error::new(io::ErrorKind::Unsupported, text))
            }
            Phase::Open if connection.sending.fin != Fin::No => Err(io::ErrorKind::BrokenPipe.into()),
            Phase::Open => {
                let taken = connection.take_credit();
                if !taken && connection.sending.credits == 0 && !connection.marks.has(Marks::WAITS) {
                    connection.marks.set(Marks::WAITS, true);
                    self.heartbeats.waits(id);
                }
                Ok(taken)
            }
            Phase::Ended(failure) => {
                Err(failure.map_or_else(|| io::ErrorKind::BrokenPipe.into(), io::Error::from))
            }
            Phase::Connecting { .. } | Phase::Agreed { .. } => Err(not_connected()),
        }
    }

    /// Gives a credit back that was not used after all.
    pub fn return_credit(&mut self, id: Id) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.return_credit();
            self.list_ready(id);
        }
    }

    /// Takes what the peer has told with a write; none if it has ended its direction.
    ///
    /// # Errors
    /// As [`receive`](Link::receive).
    pub fn take_notice(&mut self, id: Id) -> io::Result<Option<Notice>> {
        let connection = self.connections.get_mut(id).ok_or_else(not_connected)?;
        if let Some(queue) = self.notices.get_mut(&id)
            && let Some(notice) = queue.pop_front()
        {
            if queue.is_empty() {
                self.notices.remove(&id);
            }
            connection.took_notice();
            if connection.has_to_tell() {
                self.list_later(id);
            }
            return Ok(Some(notice));
        }
        match connection.phase {
            _ if connection.is_ended() => Ok(None),
            Phase::Open => Err(io::ErrorKind::WouldBlock.into()),
            Phase::Ended(failure) => failure.map_or(Ok(None), |it| Err(it.into())),
            Phase::Connecting { .. } | Phase::Agreed { .. } => Err(not_connected()),
        }
    }
}
