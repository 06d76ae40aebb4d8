//! Deadlines: which is next, and what happens at one.

use demikernel_runtime::time::{Duration, Instant};

use super::{Connection, Events, Marks, Rare};
use crate::tcp::config::Counter;
use crate::tcp::error::Error;
use crate::tcp::recovery::Expired;
use crate::tcp::state::{Origin, State};

/// Retransmissions after which something may be wrong with the path: R1. [rfc9293 SHLD-10]
const SUSPICIOUS: u32 = 3;

/// How long a peer may keep the window shut for the last data of a connection that is closed.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(600);

impl Connection {
    /// When [`handle_deadline`](Connection::handle_deadline) is to be called. It may become later without being told:
    /// to call too early is no harm.
    #[inline]
    pub fn next_deadline(&self) -> Option<Instant> {
        let first = self.least();
        (first != Instant::MAX).then_some(first)
    }

    #[inline(always)]
    fn least(&self) -> Instant {
        let timers = &self.timers;
        let mut first = timers.acknowledge.min(timers.state);
        if self.state == State::Closed {
            return first;
        }
        if let Some(recovery) = self.recovery.next_deadline() {
            first = first.min(recovery);
        }
        if self.marks.contains(Marks::PACED)
            && let Some(at) = self.recovery.send_at()
        {
            first = first.min(at);
        }
        if let Some(rare) = &self.rare {
            first = first.min(rare.keepalive.at).min(self.user_deadline());
        }
        first
    }

    /// When the user's patience ends. [rfc5482 3.1]
    #[cold]
    fn user_deadline(&self) -> Instant {
        let Some(Rare { user_timeout: Some(patience), progress: Some(since), .. }) = self.rare.as_deref()
        else {
            return Instant::MAX;
        };
        let waits = self.send.next != self.send.unacknowledged || self.has_unsent();
        if waits && self.state != State::TimeWait { since.saturating_add(*patience) } else { Instant::MAX }
    }

    /// The time has come, or some time.
    pub fn handle_deadline(&mut self, now: Instant) {
        if self.state == State::Closed {
            return;
        }
        if self.user_deadline() <= now {
            return self.time_out();
        }
        if self.recovery.next_deadline().is_some_and(|at| at <= now) {
            match self.recovery.on_deadline(now) {
                Expired::Nothing => {}
                Expired::Probe => self.marks.insert(Marks::TAIL_PROBE),
                Expired::Timeout { count } => self.handle_timeout(now, count),
            }
        }
        if self.recovery.send_at().is_none_or(|at| at <= now) {
            self.marks.remove(Marks::PACED);
        }
        if self.timers.acknowledge <= now {
            self.timers.acknowledge = Instant::MAX;
            // Nothing has answered in time, so there is no reason to wait next time. (As Linux.)
            self.receive.set_interactive(false);
            self.marks.insert(Marks::ACKNOWLEDGE);
        }
        if self.rare.as_ref().is_some_and(|rare| rare.keepalive.at <= now) {
            self.handle_keepalive(now);
        }
        if self.timers.state <= now {
            match self.state {
                // Nobody holds it, or it is over.
                State::FinWait2 | State::TimeWait => self.close_now(),
                _ => self.handle_persist(now),
            }
        }
    }

    /// A retransmission time-out, the `count`th in a row. [rfc9293 MUST-20] [rfc9293 MUST-22]
    fn handle_timeout(&mut self, now: Instant, count: u32) {
        let config = self.shared.config();
        let most = match self.state {
            State::SynSent | State::SynReceived(Origin::Active) => config.syn_retries,
            State::SynReceived(Origin::Passive) => config.syn_ack_retries,
            _ if self.marks.contains(Marks::ORPHAN) => config.orphan_retries,
            _ => config.retries,
        };
        let most =
            if self.rare.as_ref().is_some_and(|rare| rare.user_timeout.is_some()) { u32::MAX } else { most };
        // The peer is there, but has shrunk its window to nothing: what lies behind it does not time out.
        // [rfc9293 SHLD-17]
        let shut = self.send.window == 0 && self.heard.saturating_add(ORPHAN_PATIENCE) > now;
        if count > most && !(shut && self.state.may_transmit()) {
            return self.time_out();
        }
        if count == SUSPICIOUS {
            self.events |= Events::STALLED;
        }
        match self.state {
            State::SynSent | State::SynReceived(_) => {
                if count >= 2 {
                    self.give_up_ecn();
                }
                self.marks.insert(Marks::SYN);
            }
            _ => {
                if self.mtu.on_timeout(count) {
                    self.set_segment_size();
                }
            }
        }
    }

    /// The peer does not answer: what a router has reported meanwhile is the better reason.
    #[cold]
    pub(crate) fn time_out(&mut self) {
        self.shared.count(Counter::TimedOut);
        let reason = self.rare.as_ref().and_then(|rare| rare.soft_error).unwrap_or(Error::TimedOut);
        if self.state.is_synchronized() {
            self.reset_peer();
        }
        self.fail(reason);
    }

    /// Data wait for the window to open, or for more to go with them. As long as the peer answers, this goes on.
    /// [rfc9293 MUST-37]
    fn handle_persist(&mut self, now: Instant) {
        self.timers.state = Instant::MAX;
        if !self.has_unsent() || self.send.next != self.send.unacknowledged {
            return;
        }
        if self.send.unacknowledged + self.send.window != self.send.next {
            self.marks.insert(Marks::OVERRIDE);
            return;
        }
        let config = self.shared.config();
        let most = if self.marks.contains(Marks::ORPHAN) { config.orphan_retries } else { config.retries };
        let patient = self.rare.as_ref().is_some_and(|rare| rare.user_timeout.is_some());
        if u32::from(self.send.probes) > most && !patient {
            return self.time_out();
        }
        // A peer that shuts its window for ever must not hold what nobody here holds.
        let since = self.rare.as_ref().and_then(|rare| rare.progress).unwrap_or(now);
        if self.marks.contains(Marks::ORPHAN) && since.saturating_add(ORPHAN_PATIENCE) <= now {
            return self.time_out();
        }
        self.send.probes = self.send.probes.saturating_add(1);
        self.marks.insert(Marks::WINDOW_PROBE);
        self.timers.state = now.saturating_add(self.persist_interval());
    }

    /// Nothing has come for long, if so: nothing moves this deadline when something comes. One question that is not
    /// answered says nothing yet. [rfc9293 MUST-26] [rfc9293 MUST-29]
    #[cold]
    fn handle_keepalive(&mut self, now: Instant) {
        let heard = self.heard;
        let busy = self.send.next != self.send.unacknowledged || self.has_unsent();
        let patience = self.rare().user_timeout;
        let keepalive = &mut self.rare().keepalive;
        let (idle, interval) = (keepalive.idle, keepalive.interval);
        // The answer to a question may be longer ago than `idle` when the next one is due.
        if heard >= keepalive.asked {
            keepalive.probes = 0;
        }
        if busy || heard.saturating_add(idle) > now {
            keepalive.probes = 0;
            let from = if busy { now } else { heard };
            keepalive.at = from.saturating_add(idle.max(Duration::from_millis(1)));
            return;
        }
        let lost = match patience {
            Some(patience) => keepalive.probes > 0 && now.duration_since(heard) >= patience,
            None => keepalive.probes >= keepalive.count,
        };
        if lost {
            return self.time_out();
        }
        keepalive.probes += 1;
        keepalive.asked = now;
        keepalive.at = now.saturating_add(interval.max(Duration::from_millis(1)));
        self.marks.insert(Marks::KEEPALIVE_PROBE);
    }
}
