//! What the user does.

use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::time::{Duration, Instant};

use super::rare::Reset;
use super::{Connection, Events, Marks};
use crate::tcp::congestion::CongestionControl;
use crate::tcp::error::Error;
use crate::tcp::state::State;

/// What [`Connection::receive`] gives.
#[derive(Debug)]
pub enum Receiving {
    /// What has come next.
    Data(Buffer),
    /// Nothing yet.
    Nothing,
    /// The peer has closed, and all it sent was received.
    End,
}

impl Connection {
    /// Queues as much of `data` as there is room for, and leaves the rest there; returns how many octets.
    ///
    /// # Errors
    /// When nothing can be sent: the connection has failed, or was shut down.
    #[inline]
    pub fn send(&mut self, now: Instant, data: &mut Sga) -> Result<usize, Error> {
        if !self.state.may_send() {
            return self.refuse_send();
        }
        if !self.has_unsent() && self.send.next == self.send.unacknowledged {
            // After a pause the window is not what the network has shown to take. [rfc5681 4.1]
            self.recovery.on_idle_restart(now);
        }
        let before = self.send.queue.end();
        let mut room = self.send.limit.saturating_sub(self.send.queue.len()) as usize;
        while room > 0 {
            let Some(mut buffer) = data.pop_front() else { break };
            if buffer.len() > room {
                let rest = buffer.split_off(room);
                let behind = std::mem::replace(data, rest.into());
                data.extend(behind);
            }
            room -= buffer.len();
            self.send.queue.push(buffer);
        }
        if room == 0 {
            self.marks.insert(Marks::WANTS_ROOM);
        }
        self.send.pushed = self.send.queue.end();
        Ok((self.send.pushed - before) as usize)
    }

    #[cold]
    fn refuse_send(&mut self) -> Result<usize, Error> {
        match self.state {
            State::SynSent | State::SynReceived(_) => {
                self.marks.insert(Marks::WANTS_ROOM);
                Ok(0)
            }
            _ => Err(self.error.take().unwrap_or(Error::BrokenPipe)),
        }
    }

    /// Takes at most `limit` octets of what has come.
    ///
    /// # Errors
    /// When the connection has failed; told once, then it is the end.
    #[inline]
    pub fn receive(&mut self, now: Instant, limit: usize) -> Result<Receiving, Error> {
        let Some(buffer) = self.receive.take(limit) else { return self.receive_nothing() };
        let most = self.shared.config().receive_buffer_most;
        let round_trip = self.round_trip();
        self.receive.tune(now, buffer.len() as u32, round_trip, most);
        if self.state.may_receive() {
            self.note_received();
        }
        Ok(Receiving::Data(buffer))
    }

    /// Whether there are data to receive.
    #[inline]
    pub fn has_received(&self) -> bool {
        self.receive.queued() > 0
    }

    /// Whether a call may have given it something to send or to tell.
    #[inline]
    pub(crate) fn may_answer(&self) -> bool {
        self.state != State::Established || self.marks.contains(Marks::ACKNOWLEDGE) || self.has_events()
    }

    #[cold]
    fn receive_nothing(&mut self) -> Result<Receiving, Error> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        Ok(if self.is_receive_closed() { Receiving::End } else { Receiving::Nothing })
    }

    /// The user has taken data: the peer may need to know of the room, or get its acknowledgment as no answer is to be
    /// expected. (As Linux.)
    #[inline]
    fn note_received(&mut self) {
        let taken_all = self.receive.queued() == 0;
        let pushed = taken_all && self.receive.pushed && !self.receive.is_interactive();
        let waits = self.receive.unacknowledged() > 0;
        if waits && (pushed || self.receive.unacknowledged() > u32::from(self.receive.segment))
            || self.receive.has_opened()
        {
            self.marks.insert(Marks::ACKNOWLEDGE);
        }
    }

    /// Sends no more: a FIN goes behind what is queued; the peer may go on. [rfc9293 3.10.4] [rfc9293 3.6]
    ///
    /// # Errors
    /// When there is no connection.
    pub fn shutdown_write(&mut self, now: Instant) -> Result<(), Error> {
        match self.state {
            State::Closed | State::SynSent => Err(self.error.take().unwrap_or(Error::NotConnected)),
            _ => {
                self.queue_fin(now);
                Ok(())
            }
        }
    }

    fn queue_fin(&mut self, now: Instant) {
        if self.marks.contains(Marks::FIN) {
            return;
        }
        // In SYN-RECEIVED it waits until the connection is open. [rfc9293 3.10.4]
        self.state = self.state.on_close();
        self.marks.insert(Marks::FIN);
        self.send.pushed = self.send.queue.end();
        if !self.has_unsent() {
            self.note_progress(now);
        }
    }

    /// The user wants no more of it: what is queued is still sent, and nobody receives. If data have come that it
    /// never took, the peer is told so with a reset. [rfc9293 MAY-1] [rfc9293 SHLD-3] [rfc2525 2.17]
    pub fn close(&mut self, now: Instant) {
        match self.state {
            State::Closed => self.receive.clear(),
            State::TimeWait => self.receive.clear(),
            State::SynSent => self.close_now(),
            _ if self.marks.contains(Marks::ORPHAN) => {}
            _ if self.receive.queued() > 0 => self.abort(),
            _ => {
                self.marks.insert(Marks::ORPHAN);
                self.queue_fin(now);
                if let Some(rare) = &mut self.rare {
                    rare.keepalive.at = Instant::MAX;
                }
                if self.state == State::FinWait2 {
                    self.timers.state = now.saturating_add(self.shared.config().fin_wait);
                }
            }
        }
    }

    /// Ends it at once: the peer gets a reset. [rfc9293 3.10.5]
    #[cold]
    pub fn abort(&mut self) {
        use State::{CloseWait, Established, FinWait1, FinWait2, SynReceived};
        if matches!(self.state, SynReceived(_) | Established | FinWait1 | FinWait2 | CloseWait) {
            self.reset_peer();
        }
        self.close_now();
        self.receive.clear();
    }

    /// A reset that the peer will accept.
    pub(crate) fn reset_peer(&mut self) {
        let reset = Reset { sequence: self.send.next, acknowledgment: Some(self.receive.next) };
        self.rare().reset = Some(reset);
        self.marks.insert(Marks::RESET);
    }

    /// Small segments are not held back. [rfc9293 MUST-17]
    pub fn set_no_delay(&mut self, on: bool) {
        self.marks.set(Marks::NO_DELAY, on);
    }

    /// Whether small segments leave at once.
    #[inline]
    pub fn is_no_delay(&self) -> bool {
        self.marks.contains(Marks::NO_DELAY) && !self.marks.contains(Marks::CORK)
    }

    /// Small segments are held back, for a fifth of a second at most.
    pub fn set_cork(&mut self, on: bool) {
        self.marks.set(Marks::CORK, on);
    }

    /// What comes is acknowledged at once, until the user answers; or acknowledgments wait.
    pub fn set_quick_acknowledgment(&mut self, on: bool) {
        if on {
            self.receive.enter_quick();
            if self.receive.unacknowledged() > 0 {
                self.marks.insert(Marks::ACKNOWLEDGE);
            }
        } else {
            self.receive.set_interactive(true);
        }
    }

    /// Asks now and then whether the peer is still there. Off unless the user wants it. [rfc9293 MAY-5] [rfc9293 MUST-24]
    /// [rfc9293 MUST-25]
    pub fn set_keepalive(&mut self, now: Instant, on: bool) {
        self.marks.set(Marks::KEEPALIVE, on);
        if on || self.rare.is_some() {
            let on = on && self.state != State::Closed;
            let keepalive = &mut self.rare().keepalive;
            keepalive.at = if on { now.saturating_add(keepalive.idle) } else { Instant::MAX };
        }
    }

    /// How long nothing must have come before the first question, how long after it the next one follows, and after
    /// how many without an answer the connection is given up. [rfc9293 MUST-27]
    pub fn set_keepalive_times(&mut self, now: Instant, idle: Duration, interval: Duration, count: u32) {
        let keepalive = &mut self.rare().keepalive;
        (keepalive.idle, keepalive.interval, keepalive.count) = (idle, interval, count);
        if self.marks.contains(Marks::KEEPALIVE) {
            self.set_keepalive(now, true);
        }
    }

    /// Octets that may be sent and not acknowledged; fixed from now on.
    pub fn set_send_buffer(&mut self, octets: u32) {
        self.send.limit = octets.max(1);
        self.marks.remove(Marks::SEND_TUNING);
    }

    /// Octets that may wait to be received; fixed from now on. What the peer was told stays. [rfc9293 SHLD-14]
    pub fn set_receive_buffer(&mut self, octets: u32) {
        let most = u32::from(u16::MAX) << self.receive.shift;
        self.receive.set_limit(octets.clamp(1, most));
        let untold = self.send.next == self.send.unacknowledged;
        if untold && matches!(self.state, State::SynReceived(_)) {
            self.receive.edge = self.receive.next + self.syn_window();
        }
    }

    /// The user wants no segments larger than this, either way, if it says so before the SYN has left.
    pub fn set_maximum_segment(&mut self, size: u16) {
        self.mtu.clamp(size);
        self.set_segment_size();
    }

    /// Another congestion control from now on. [rfc9293 MAY-18]
    pub fn set_congestion_control(&mut self, now: Instant, control: CongestionControl) {
        self.recovery.set_congestion_control(control, now);
    }

    /// Gives back the memory that is only needed while data are under way, if nothing has come for a second: it is
    /// allocated again when it is needed. When to try again, if it was too early. For connections without a
    /// [deadline](Connection::next_deadline).
    #[cold]
    pub fn release_if_idle(&mut self, now: Instant) -> Option<Instant> {
        const PAUSE: Duration = Duration::from_secs(1);
        let at = self.heard.saturating_add(PAUSE);
        if at > now {
            return (self.recovery.has_spare() || self.send.queue.has_spare()).then_some(at);
        }
        self.recovery.release();
        self.send.queue.release();
        None
    }

    /// Gives back at once what is only needed while data are under way, if none are: to others, for which it is still in
    /// the cache. For connections that are so many that the next of the same connection are far.
    #[inline]
    pub fn release_spare(&mut self) {
        self.recovery.release_spare();
        self.send.queue.release();
    }

    /// Whether events wait to be taken.
    #[inline]
    pub fn has_events(&self) -> bool {
        self.events != Events::NONE
    }
}
