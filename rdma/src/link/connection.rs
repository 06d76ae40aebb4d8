//! One connection: what it sends and has received, and the credits of both sides.

use super::config::LinkConfig;
use super::error::{Failure, Violation};
use super::frame::{Flags, HEADER, Header, Kind};
use super::hello::Hello;
use super::pool::Pool;
use super::sending::{Fin, Sending};
use super::slots::Id;
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::stream::Fifo;

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// This side has asked for it.
    Connecting {
        deadline: Instant,
    },
    /// The peer has asked for it, and this side has agreed.
    Agreed {
        listener: Id,
        deadline: Instant,
    },
    Open,
    /// Nothing is sent or received any more, for this reason, if it did not end as it should.
    Ended(Option<Failure>),
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) phase: Phase,
    pub(super) sending: Sending,
    inbound: Fifo<Buffer>,
    /// Data frames in `inbound`.
    unread: u16,
    /// The peer has sent its end.
    ended: bool,
    /// The program wants to receive nothing more.
    deaf: bool,
    /// The number of the next frame from the peer.
    expected: u32,
    /// Data credits that the peer has.
    granted: u16,
    /// Data credits that the peer is to have, less what is unread.
    window: u16,
    /// Credits to give back with the next frame.
    returned: u16,
    /// Credits to ask back with the next control frame.
    pub(super) recall: u16,
    /// Our last control frame is not acknowledged, so the peer may send an acknowledgment.
    pub(super) unacknowledged: bool,
    /// That control frame, or the next, asks for credits.
    pub(super) recalling: bool,
    /// The peer may send a control frame.
    may_control: bool,
    /// The peer's last control frame is to be acknowledged.
    acknowledge: bool,
    /// What is due has had time to go along with data.
    pub(super) overdue: bool,
    /// The program waits until less is queued.
    pub(super) blocked: bool,
    /// The peer has sent something since somebody last looked for idle ones.
    pub(super) active: bool,
    pub(super) marks: Marks,
    /// The program has closed it; until when what it pushed may take.
    pub(super) closing: Option<Instant>,
    /// The device has nothing of it any more.
    pub(super) detached: bool,
    /// In which lists of the [`Link`](super::Link) it stands.
    pub(super) listed: Listed,
}

/// What is true of a connection, a bit each: there are many, and idle ones are to be small.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Marks(u8);

impl Marks {
    /// The peer has sent something since the last heartbeat was thought of.
    pub(super) const HEARD: Marks = Marks(1);
    /// A control frame is to be sent though there is nothing to say, for the device to find out about the peer.
    pub(super) const HEARTBEAT: Marks = Marks(2);
    /// The peer takes notices.
    pub(super) const NOTICES: Marks = Marks(4);
    /// The last credit for which stream and notices competed was a notice's.
    const YIELDS: Marks = Marks(8);
    /// A part of the send queue is not for frames.
    pub(super) const SHARES: Marks = Marks(16);
    /// It is known that something waits for credits.
    pub(super) const WAITS: Marks = Marks(32);

    #[inline]
    pub(super) fn has(self, mark: Marks) -> bool {
        self.0 & mark.0 != 0
    }

    #[inline]
    pub(super) fn set(&mut self, mark: Marks, is_so: bool) {
        self.0 = if is_so { self.0 | mark.0 } else { self.0 & !mark.0 };
    }

    /// Whether it was so, which it is no more.
    pub(super) fn take(&mut self, mark: Marks) -> bool {
        let had = self.has(mark);
        self.set(mark, false);
        had
    }
}

/// In which lists a connection stands.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Listed {
    pub(super) ready: bool,
    pub(super) later: bool,
    pub(super) starving: bool,
    pub(super) changed: bool,
}

/// A frame to send.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) header: [u8; HEADER],
    pub(super) payload: Sga,
    pub(super) sequence: u32,
    pub(super) signalled: bool,
}

/// What a connection has to send.
#[derive(Debug)]
pub(super) enum Next {
    Frame(Frame),
    /// Nothing, or nothing now.
    Nothing,
    /// Something for which the pool has no room.
    Starving,
}

impl Connection {
    /// With the right to a control frame, which the pool has promised.
    pub(super) fn new(phase: Phase, window: u16) -> Connection {
        Connection {
            phase,
            sending: Sending::new(),
            inbound: Fifo::new(),
            unread: 0,
            ended: false,
            deaf: false,
            expected: 0,
            granted: 0,
            window,
            returned: 0,
            recall: 0,
            unacknowledged: false,
            recalling: false,
            may_control: true,
            acknowledge: false,
            overdue: false,
            blocked: false,
            active: false,
            marks: Marks::default(),
            closing: None,
            detached: false,
            listed: Listed::default(),
        }
    }

    /// What this side says of itself, with as many credits as there are for it.
    pub(super) fn hello(&mut self, pool: &mut Pool, buffer_size: u32) -> Hello {
        let credits = pool.grant(self.granted.into(), pool.floor(), 0) as u16;
        self.granted += credits;
        Hello { credits, buffer_size, notices: true }
    }

    /// What the peer has said of itself.
    pub(super) fn greeted(&mut self, hello: Hello) {
        self.sending.credits = hello.credits;
        self.sending.payload = hello.payload();
        self.marks.set(Marks::NOTICES, hello.notices);
    }
}

/// Sending.
impl Connection {
    /// The next frame.
    pub(super) fn next(&mut self, pool: &mut Pool, share: u32, config: &LinkConfig) -> Next {
        let room = if self.marks.has(Marks::SHARES) {
            config.send_depth - config.reserve()
        } else {
            config.send_depth
        };
        if self.phase != Phase::Open || self.sending.in_flight() >= room {
            return Next::Nothing;
        }
        if self.sending.has_data() && self.sending.credits > 0 {
            let (payload, flags) = self.sending.take(config);
            return Next::Frame(self.frame(Kind::Data, flags, payload, pool, share, config));
        }
        if !self.overdue {
            return Next::Nothing;
        }
        if !self.unacknowledged
            && (self.recall > 0 || self.marks.has(Marks::HEARTBEAT) || self.is_grant_due())
        {
            return self.control(pool, share, config);
        }
        if !self.acknowledge {
            self.overdue = false;
            return Next::Nothing;
        }
        if pool.free() == 0 {
            return Next::Starving;
        }
        Next::Frame(self.frame(Kind::Ack, Flags::default(), Sga::new(), pool, share, config))
    }

    /// Whether there may be another frame behind the one that was just sent.
    #[inline]
    pub(super) fn may_have_next(&self) -> bool {
        self.overdue || self.sending.credits > 0 && self.sending.has_data()
    }

    fn control(&mut self, pool: &mut Pool, share: u32, config: &LinkConfig) -> Next {
        // What the acknowledgment may take, and what the peer's next control frame may, come before credits.
        let before = pool.free();
        let needed = 1 + u32::from(self.acknowledge);
        let can_grant = before > needed && pool.can_grant(self.granted.into(), share);
        if before < needed || (self.recall == 0 && !self.marks.has(Marks::HEARTBEAT) && !can_grant) {
            return Next::Starving;
        }
        self.marks.set(Marks::HEARTBEAT, false);
        self.unacknowledged = pool.promise();
        Next::Frame(self.frame(Kind::Control, Flags::default(), Sga::new(), pool, share, config))
    }

    /// A frame, with everything that can go along.
    fn frame(
        &mut self,
        kind: Kind,
        flags: Flags,
        payload: Sga,
        pool: &mut Pool,
        share: u32,
        config: &LinkConfig,
    ) -> Frame {
        let acknowledge = self.acknowledge && pool.promise();
        if acknowledge {
            (self.acknowledge, self.may_control) = (false, true);
        }
        let grant = pool.grant(self.granted.into(), self.due().into(), share) as u16;
        self.granted += grant;
        let recall = if kind == Kind::Control { std::mem::take(&mut self.recall) } else { 0 };
        let (sequence, signalled) = self.sending.number(payload.len(), config);
        let header = Header {
            kind,
            flags: flags.with_if(Flags::ACK, acknowledge),
            grant,
            returned: std::mem::take(&mut self.returned),
            recall,
            length: payload.len() as u32,
            sequence,
        };
        Frame { header: header.to_bytes(), payload, sequence, signalled }
    }

    /// Credits that the peer is to get.
    fn due(&self) -> u16 {
        if self.ended { 0 } else { self.window.saturating_sub(self.granted).saturating_sub(self.unread) }
    }

    /// Whether the peer is to get credits though there are no data to send along: it may have less than half of them.
    fn is_grant_due(&self) -> bool {
        self.due() > 0 && self.granted < self.window.div_ceil(2)
    }

    /// Whether something is to be told.
    pub(super) fn has_to_tell(&self) -> bool {
        self.acknowledge || self.recall > 0 || self.is_grant_due()
    }
}

/// Receiving.
impl Connection {
    /// A frame has come.
    pub(super) fn receive(
        &mut self,
        mut frame: Buffer,
        pool: &mut Pool,
        config: &LinkConfig,
    ) -> Result<(), Violation> {
        let header = Header::parse(&frame)?;
        if header.sequence != self.expected {
            return Err(Violation::Sequence);
        }
        self.expected = self.expected.wrapping_add(1);
        self.settle(&header, pool)?;
        self.marks.set(Marks::HEARD, true);
        if header.kind != Kind::Data {
            return Ok(());
        }
        self.active = true;
        if self.ended {
            return Err(Violation::BehindEnd);
        }
        if header.flags.has(Flags::FIN) {
            self.ended = true;
            pool.take_back(self.granted.into(), self.granted.into());
            self.granted = 0;
        }
        if header.flags.has(Flags::WANT) {
            self.widen(config);
        }
        if header.length > 0 && !self.deaf {
            frame.advance(HEADER);
            self.unread += 1;
            self.inbound.push_back(frame);
        }
        Ok(())
    }

    /// The peer is to have twice as many credits, as far as one may have.
    fn widen(&mut self, config: &LinkConfig) {
        self.window = self.window.saturating_mul(2).min(config.window).max(self.window);
    }

    /// Books what a frame took and what it says of credits.
    fn settle(&mut self, header: &Header, pool: &mut Pool) -> Result<(), Violation> {
        match header.kind {
            Kind::Data if self.granted == 0 && !self.ended => return Err(Violation::Overdrawn),
            Kind::Data if self.ended => return Err(Violation::BehindEnd),
            Kind::Data => {
                pool.take_back(self.granted.into(), 1);
                self.granted -= 1;
            }
            Kind::Control if !self.may_control => return Err(Violation::Overdrawn),
            Kind::Control => {
                pool.redeem();
                (self.may_control, self.acknowledge) = (false, true);
            }
            Kind::Ack => {}
        }
        if header.flags.has(Flags::ACK) {
            if !self.unacknowledged {
                return Err(Violation::Acknowledged);
            }
            pool.redeem();
            (self.unacknowledged, self.recalling) = (false, false);
        }
        if header.returned > self.granted {
            return Err(Violation::Returned);
        }
        pool.take_back(self.granted.into(), header.returned.into());
        self.granted -= header.returned;
        let credits = self.sending.credits.checked_add(header.grant).ok_or(Violation::Granted)?;
        // Who has something to send keeps what it needs for that; who has sent its end has none any more.
        let is_idle = self.sending.fin == Fin::No && !self.sending.has_data();
        let spare = if is_idle { credits.min(header.recall) } else { 0 };
        self.sending.credits = credits - spare;
        self.returned += spare;
        Ok(())
    }

    /// The peer has written to memory, and told a number, for which there must have been a credit: whether anybody is to
    /// hear of it.
    pub(super) fn notified(&mut self, pool: &mut Pool, config: &LinkConfig) -> Result<bool, Violation> {
        if self.ended {
            return Err(Violation::BehindEnd);
        }
        if self.granted == 0 {
            return Err(Violation::Overdrawn);
        }
        pool.take_back(self.granted.into(), 1);
        self.granted -= 1;
        self.active = true;
        self.marks.set(Marks::HEARD, true);
        if self.granted == 0 {
            // It has no header to say that it could use more.
            self.widen(config);
        }
        self.unread += u16::from(!self.deaf);
        Ok(!self.deaf)
    }

    /// The program has taken a notice.
    pub(super) fn took_notice(&mut self) {
        self.unread = self.unread.saturating_sub(1);
    }

    /// Whether data wait for credits, and nobody knows of it.
    #[inline]
    pub(super) fn begins_to_wait(&mut self) -> bool {
        let begins = self.sending.credits == 0 && self.sending.has_data() && !self.marks.has(Marks::WAITS);
        if begins {
            self.marks.set(Marks::WAITS, true);
        }
        begins
    }

    /// Takes a credit for a notice, if there is one. While there are data to send, the next is theirs.
    pub(super) fn take_credit(&mut self) -> bool {
        let yields = self.marks.take(Marks::YIELDS) && self.sending.has_data();
        let taken = !yields && self.sending.credits > 0;
        self.sending.credits -= u16::from(taken);
        self.marks.set(Marks::YIELDS, taken);
        taken
    }

    /// The notice was not sent.
    pub(super) fn return_credit(&mut self) {
        self.sending.credits += 1;
        self.marks.set(Marks::YIELDS, false);
    }

    /// Takes up to `limit` bytes of what has come, never of two frames.
    pub(super) fn read(&mut self, limit: usize) -> Option<Buffer> {
        let front = self.inbound.front_mut()?;
        if front.len() > limit {
            return Some(front.split_to(limit));
        }
        self.unread -= 1;
        self.inbound.pop_front()
    }

    /// Receives nothing more: what has come, and what comes, is dropped.
    pub(super) fn deafen(&mut self) -> Fifo<Buffer> {
        self.deaf = true;
        self.unread = 0;
        std::mem::take(&mut self.inbound)
    }

    /// Asks for what the peer has beyond the floor, and gives it no more.
    pub(super) fn recall(&mut self, floor: u16) -> bool {
        let spare = self.granted.saturating_sub(floor);
        if spare == 0 || self.phase != Phase::Open || self.unacknowledged || self.recall > 0 || self.ended {
            return false;
        }
        self.window = floor;
        self.recall = spare;
        self.recalling = true;
        true
    }

    /// A frame has come that nobody looks at any more: it has used up one of the buffers that the peer was promised.
    pub(super) fn settle_one(&mut self, pool: &mut Pool) {
        if self.granted > 0 {
            pool.take_back(self.granted.into(), 1);
            self.granted -= 1;
        } else if std::mem::take(&mut self.may_control) || std::mem::take(&mut self.unacknowledged) {
            pool.redeem();
        }
    }

    /// Takes back what the peer was promised: it can send no more.
    pub(super) fn settle_end(&mut self, pool: &mut Pool) {
        pool.take_back(self.granted.into(), self.granted.into());
        self.granted = 0;
        for right in [&mut self.may_control, &mut self.unacknowledged] {
            if std::mem::take(right) {
                pool.redeem();
            }
        }
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.inbound.is_empty()
    }

    /// Whether no more can be read than has come.
    pub(super) fn is_ended(&self) -> bool {
        self.ended || self.deaf
    }

    /// Whether the peer has sent its end.
    pub(super) fn has_peer_finished(&self) -> bool {
        self.ended
    }

    /// Whether the program may push.
    pub(super) fn can_push(&self) -> bool {
        self.sending.fin == Fin::No
    }

    /// Data credits that the peer has.
    #[cfg(test)]
    pub(super) fn granted(&self) -> u16 {
        self.granted
    }

    /// What the pool has promised for it.
    #[cfg(test)]
    pub(super) fn promised(&self) -> u32 {
        u32::from(self.granted) + u32::from(self.may_control) + u32::from(self.unacknowledged)
    }
}
