//! Heartbeats: a frame to a peer that has been silent, so that the device finds out whether it is still there.
//!
//! The device asks again for what the peer's does not acknowledge, and gives up in its own time: so a control frame that
//! says nothing is enough. It is sent where a program has asked for it, and where data wait for credits: all that was sent
//! may have been acknowledged by a device whose machine died then, and nothing more would come of it. If the peer has
//! not acknowledged the last one, no other may be sent, and only time can tell.

use super::connection::{Marks, Phase};
use super::engine::{Link, not_connected};
use super::error::Failure;
use super::slots::Id;
use demikernel_runtime::time::Instant;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::time::Duration;

/// How long a peer may be silent while data wait for its credits.
const WAITING: Keepalive = Keepalive { idle: Duration::from_secs(5), patience: Duration::from_secs(120) };

/// When a silent peer is thought of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keepalive {
    /// After how long.
    pub idle: Duration,
    /// After how long it is given up, if it owes the acknowledgment of a frame that its device has taken.
    pub patience: Duration,
}

/// Whom to look at, and when.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    due: BTreeSet<(Instant, Id)>,
    of: HashMap<Id, Watch>,
    /// Those whose data wait for credits, since the last turn.
    waiting: Vec<Id>,
}

#[derive(Clone, Copy, Debug)]
struct Watch {
    /// What the program wants.
    keepalive: Option<Keepalive>,
    /// Data wait for credits.
    waits: bool,
    due: Instant,
    /// For how long nothing has been heard.
    silent: Duration,
}

impl Watch {
    /// What is to be done, if there is anything to watch for.
    fn rule(&self) -> Option<Keepalive> {
        match (self.keepalive, self.waits) {
            (Some(keepalive), true) if keepalive.idle < WAITING.idle => Some(keepalive),
            (_, true) => Some(WAITING),
            (keepalive, false) => keepalive,
        }
    }
}

impl Heartbeats {
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Data of a connection wait for credits.
    #[cold]
    pub(super) fn waits(&mut self, id: Id) {
        self.waiting.push(id);
    }

    fn change(&mut self, now: Instant, id: Id, change: impl FnOnce(&mut Watch)) {
        let fresh = Watch { keepalive: None, waits: false, due: now, silent: Duration::ZERO };
        let mut watch = self.take(id).unwrap_or(fresh);
        change(&mut watch);
        self.watch(now, id, watch);
    }

    fn watch(&mut self, now: Instant, id: Id, watch: Watch) {
        if let Some(rule) = watch.rule() {
            let due = now.saturating_add(rule.idle);
            self.due.insert((due, id));
            self.of.insert(id, Watch { due, ..watch });
        }
    }

    pub(super) fn stop(&mut self, id: Id) {
        self.take(id);
    }

    fn take(&mut self, id: Id) -> Option<Watch> {
        let watch = self.of.remove(&id)?;
        self.due.remove(&(watch.due, id));
        Some(watch)
    }

    /// One that is due.
    fn pop(&mut self, now: Instant) -> Option<(Id, Watch)> {
        let &(due, id) = self.due.first()?;
        if due > now {
            return None;
        }
        Some((id, self.take(id)?))
    }
}

impl Link {
    /// Has a peer that has been silent for so long sent a frame, so that it is noticed if it is gone; or no more.
    ///
    /// # Errors
    /// `NotConnected` if there is no connection, or none any more.
    pub fn set_keepalive(&mut self, now: Instant, id: Id, keepalive: Option<Keepalive>) -> io::Result<()> {
        let connection = self.connections.get_mut(id).ok_or_else(not_connected)?;
        if connection.phase != Phase::Open {
            return Err(not_connected());
        }
        let least = Duration::from_millis(1);
        let keepalive = keepalive.map(|it| Keepalive { idle: it.idle.max(least), ..it });
        self.heartbeats.change(now, id, |watch| watch.keepalive = keepalive);
        Ok(())
    }

    /// Whether data have begun to wait for credits since they were last [taken note of](Link::watch_waiting).
    #[inline]
    pub fn has_waiting(&self) -> bool {
        !self.heartbeats.waiting.is_empty()
    }

    /// Takes note of those whose data have begun to wait for credits: when all has been sent that could be.
    pub fn watch_waiting(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.heartbeats.waiting) {
            let is_open = self.connections.get(id).is_some_and(|it| it.phase == Phase::Open);
            if is_open {
                self.heartbeats.change(now, id, |watch| watch.waits = true);
            }
        }
    }

    /// Sends what is due to peers that have said nothing since they were last looked at.
    pub(super) fn beat(&mut self, now: Instant) {
        while let Some((id, mut watch)) = self.heartbeats.pop(now) {
            let (Some(connection), Some(rule)) = (self.connections.get_mut(id), watch.rule()) else {
                continue;
            };
            let is_heard = connection.marks.take(Marks::HEARD);
            watch.silent = if is_heard { Duration::ZERO } else { watch.silent.saturating_add(rule.idle) };
            let is_owed = connection.unacknowledged;
            if is_owed && watch.silent >= rule.patience {
                self.counters.timeouts += 1;
                self.end(id, Failure::TimedOut);
                continue;
            }
            watch.waits = watch.waits && connection.sending.credits == 0;
            connection.marks.set(Marks::WAITS, watch.waits);
            if !is_heard && !is_owed {
                connection.marks.set(Marks::HEARTBEAT, true);
                connection.overdue = true;
                self.counters.heartbeats += 1;
                self.list_ready(id);
            }
            self.heartbeats.watch(now, id, watch);
        }
    }
}
