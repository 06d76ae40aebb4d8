//! Heartbeats: a frame to a peer that has been silent, so that the device finds out whether it is still there.
//!
//! The device asks again for what the peer's does not acknowledge, and gives up in its own time: so a control frame that
//! says nothing is enough, and no answer has to be waited for here.

use super::connection::{Marks, Phase};
use super::engine::{Link, not_connected};
use super::slots::Id;
use demikernel_runtime::time::Instant;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::time::Duration;

/// Whom to look at, and when.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    due: BTreeSet<(Instant, Id)>,
    of: HashMap<Id, (Duration, Instant)>,
}

impl Heartbeats {
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    fn start(&mut self, now: Instant, id: Id, idle: Duration) {
        self.stop(id);
        let due = now.saturating_add(idle);
        self.due.insert((due, id));
        self.of.insert(id, (idle, due));
    }

    pub(super) fn stop(&mut self, id: Id) {
        if let Some((_, due)) = self.of.remove(&id) {
            self.due.remove(&(due, id));
        }
    }

    /// One that is due.
    fn pop(&mut self, now: Instant) -> Option<(Id, Duration)> {
        let &(due, id) = self.due.first()?;
        if due > now {
            return None;
        }
        self.due.pop_first();
        self.of.remove(&id).map(|(idle, _)| (id, idle))
    }
}

impl Link {
    /// Has a peer that has been silent for so long sent a frame, so that it is noticed if it is gone; or no more.
    ///
    /// # Errors
    /// `NotConnected` if there is no connection, or none any more.
    pub fn set_keepalive(&mut self, now: Instant, id: Id, idle: Option<Duration>) -> io::Result<()> {
        let connection = self.connections.get_mut(id).ok_or_else(not_connected)?;
        if connection.phase != Phase::Open {
            return Err(not_connected());
        }
        match idle {
            Some(idle) => self.heartbeats.start(now, id, idle.max(Duration::from_millis(1))),
            None => self.heartbeats.stop(id),
        }
        Ok(())
    }

    /// Sends what is due to peers that have said nothing since they were last looked at.
    pub(super) fn beat(&mut self, now: Instant) {
        while let Some((id, idle)) = self.heartbeats.pop(now) {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            // What is sent anyway, or has not been acknowledged, shows the same.
            if !connection.marks.take(Marks::HEARD) && !connection.unacknowledged {
                connection.marks.set(Marks::HEARTBEAT, true);
                connection.overdue = true;
                self.counters.heartbeats += 1;
                self.list_ready(id);
            }
            self.heartbeats.start(now, id, idle);
        }
    }
}
