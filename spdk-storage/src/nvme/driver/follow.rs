//! What becomes of operations when the controller is reset or gone, or a command takes too long.
//!
//! A command that takes longer than the time-out is aborted; if that does not end it within half of the time, the
//! controller is reset, and so it is if it cannot even be asked. Whoever resets it, each core notices by the epoch that
//! its queues are forgotten, ends what was under way there, and makes its queues anew when the controller is live.

use super::super::admin::{Progress, Ticket};
use super::super::command::{AdminOpcode, Completion, Submission};
use super::super::controller::{Standing, State};
use super::super::status::{self, Status};
use super::NvmeDriver;
use super::table::Overdue;
use crate::queue::{Driver, Finished, Submitted};
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::{Interest, Turn};
use std::io;
use std::time::Duration;

/// Periods of the clock in a time-out, and until an abort must have helped, or somebody been asked to.
const OVERDUE: u32 = 8;
const ABORT_OVERDUE: u32 = 4;

/// How often the controller is looked at while it seems well.
const LOOK: Duration = Duration::from_millis(10);

/// How often a runtime that sleeps asks a controller that is being reset.
const PAUSE: Duration = Duration::from_millis(1);

/// The queues, as the controller knows them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Link {
    /// It does not.
    Down,
    /// It is asked, or to be asked, to make one of them.
    Creating(AdminOpcode, Option<Ticket>),
    Up,
    /// It will not make them.
    Refused(Status),
    /// They are not used any more.
    Closed,
}

/// Time, coarsely: commands are told of periods, and not of moments, so that issuing one reads no clock.
#[derive(Debug)]
pub(super) struct Clock {
    timeout: Duration,
    period: u32,
    ends: Instant,
    /// When to look at the controller.
    look: Instant,
    polls: u8,
}

impl Clock {
    pub(super) fn new(timeout: Duration) -> Clock {
        let now = Instant::now();
        Clock { timeout, period: 0, ends: now + timeout / OVERDUE, look: now + LOOK, polls: 0 }
    }

    #[inline]
    pub(super) fn period(&self) -> u32 {
        self.period
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether to look at it now: seldom while there is much to do.
    #[inline]
    pub(super) fn is_asked(&mut self, turn: Turn) -> bool {
        self.polls = self.polls.wrapping_add(1);
        self.polls.is_multiple_of(64) || turn != Turn::Busy
    }

    /// Whether a period has ended. A clock that was not asked for long counts one: nobody was there to see an end.
    fn tick(&mut self, now: Instant) -> bool {
        if now < self.ends {
            return false;
        }
        self.period = self.period.wrapping_add(1);
        self.ends = now + self.timeout / OVERDUE;
        true
    }
}

impl NvmeDriver {
    /// Whether the queues are there, and nothing has happened.
    #[inline]
    pub(super) fn is_up(&self) -> bool {
        matches!(self.link, Link::Up) && self.controller.standing() == self.standing
    }

    /// What becomes of an operation while the queues are not there: it waits, unless there is no hope.
    #[cold]
    pub(super) fn refuse(&mut self, tag: u32) -> Submitted {
        let Some(error) = self.hopeless() else { return Submitted::Full };
        self.early.push((tag, Err(error)));
        Submitted::Taken
    }

    fn hopeless(&self) -> Option<io::Error> {
        match self.link {
            Link::Closed => Some(io::Error::new(io::ErrorKind::NotConnected, "the NVMe queues were closed")),
            _ if self.controller.standing().state() == State::Dead => Some(self.controller.error()),
            // A later reset may help.
            Link::Refused(status) if self.controller.standing() == self.standing => {
                Some(status.error("the creation of I/O queues"))
            }
            _ => None,
        }
    }

    /// Goes on where the queues are not up, or the controller is not what it was.
    #[cold]
    pub(super) fn follow(&mut self, finished: &mut Finished) {
        if matches!(self.link, Link::Closed) {
            return;
        }
        let now = Instant::now();
        self.controller.turn(now);
        let standing = self.controller.standing();
        if standing.epoch() != self.standing.epoch() {
            self.lose(finished);
            self.standing = standing;
        }
        match (standing.state(), self.link) {
            (State::Live, _) => self.connect(standing, now),
            // The reset has begun, but the device may still end commands.
            (State::Down, Link::Up) => self.reap(finished),
            _ => {}
        }
    }

    /// The controller has forgotten the queues: what was under way is over.
    fn lose(&mut self, finished: &mut Finished) {
        let controller = &self.controller;
        let ended = self.table.drain(|| controller.error());
        self.count.lost += ended.len() as u64;
        finished.extend(ended);
        self.partial.clear();
        self.link = Link::Down;
    }

    /// Has a live controller make the queues, one step after the other.
    fn connect(&mut self, standing: Standing, now: Instant) {
        let opcode = match self.link {
            Link::Down => {
                // It knows nothing of them in this epoch.
                self.pair.clear();
                AdminOpcode::CreateCompletionQueue
            }
            Link::Creating(opcode, None) => opcode,
            Link::Creating(opcode, Some(ticket)) => {
                let completion = match self.controller.redeem(ticket, now) {
                    Progress::Done(completion) => completion,
                    Progress::UnderWay | Progress::Lost => return,
                };
                if !completion.status.is_success() {
                    self.link = Link::Refused(completion.status);
                    self.standing = standing;
                    return;
                }
                if opcode == AdminOpcode::CreateSubmissionQueue {
                    self.link = Link::Up;
                    self.standing = standing;
                    return;
                }
                AdminOpcode::CreateSubmissionQueue
            }
            Link::Up | Link::Refused(_) | Link::Closed => return,
        };
        let (submission, completion) = self.pair.addresses();
        let memory = if opcode == AdminOpcode::CreateSubmissionQueue { submission } else { completion };
        let command = Submission::create(opcode, self.pair.number(), self.pair.entries(), memory);
        // If there is no room, the next time.
        self.link = Link::Creating(opcode, self.controller.ask(command, now));
    }

    /// Waits until the queues are there.
    pub(in super::super) fn connect_now(&mut self) -> io::Result<()> {
        let end = Instant::now() + 2 * self.controller.admin_timeout();
        let mut none = Finished::new();
        while !self.is_up() {
            self.follow(&mut none);
            if let Some(error) = self.hopeless() {
                return Err(error);
            }
            if Instant::now() > end {
                let text = format!("{}: the I/O queues were not made in time", self.controller.name());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            std::thread::sleep(Duration::from_micros(20));
        }
        Ok(())
    }

    /// Looks at the clock, and at what is late.
    pub(super) fn keep_time(&mut self) {
        let now = Instant::now();
        if now >= self.clock.look {
            self.clock.look = now + LOOK;
            self.controller.turn(now);
        }
        if self.clock.tick(now) {
            self.pursue(now);
        }
    }

    /// Has commands ended that take too long.
    fn pursue(&mut self, now: Instant) {
        let period = self.clock.period();
        let overdue: Vec<_> = self.table.overdue(period, ABORT_OVERDUE).collect();
        for Overdue { id, periods, is_aborted } in overdue {
            let what = self.table.what(id);
            if is_aborted || periods >= 2 * OVERDUE {
                let timeout = self.clock.timeout();
                let why = format!("{what} has taken longer than {timeout:?}, and could not be aborted");
                return self.controller.reset(&why);
            }
            if periods >= OVERDUE && self.controller.abort(self.pair.number(), id, now) {
                tracing::warn!(name = self.controller.name(), %what, "an NVMe command is overdue, and is aborted");
                self.table.abort(id, period);
            }
        }
    }

    pub(super) fn interest_now(&mut self) -> Interest {
        if !self.early.is_empty() {
            return Interest::Polling;
        }
        if !self.is_up() {
            return Interest::Pause(PAUSE);
        }
        self.ring();
        if self.table.is_empty() { Interest::None } else { Interest::Polling }
    }

    /// Ends what is under way, after some time to end by itself, and has the controller forget the queues.
    pub(super) fn close(&mut self, grace: Duration, finished: &mut Finished) {
        if matches!(self.link, Link::Closed) {
            return;
        }
        let end = Instant::now() + grace;
        while !self.table.is_empty() && Instant::now() < end {
            self.poll(Turn::Idle, finished);
            std::thread::yield_now();
        }
        self.partial.clear();
        if self.is_forgotten(finished) {
            let text = "the device was closed before it was done";
            finished.extend(self.table.drain(|| io::Error::new(io::ErrorKind::NotConnected, text)));
            self.controller.release(self.pair.number());
        }
        self.link = Link::Closed;
    }

    /// Has the controller forget the queues, and says whether it has.
    fn is_forgotten(&mut self, finished: &mut Finished) -> bool {
        match self.link {
            Link::Down => return true,
            Link::Creating(_, Some(ticket)) => self.controller.abandon(ticket),
            _ => {}
        }
        let epoch = self.standing.epoch();
        let delete = |opcode| {
            let deleted = self.controller.execute(Submission::delete(opcode, self.pair.number()));
            // It may not have been made.
            deleted.is_ok_and(|Completion { status, .. }| {
                status.is_success() || status.code() == status::INVALID_QUEUE
            })
        };
        // What it had from a queue that is deleted has ended.
        let is_deleted = self.controller.standing().epoch() == epoch
            && delete(AdminOpcode::DeleteSubmissionQueue)
            && delete(AdminOpcode::DeleteCompletionQueue);
        if is_deleted {
            self.reap(finished);
            return true;
        }
        if self.controller.standing().epoch() == epoch {
            self.controller.reset("I/O queues could not be deleted");
        }
        while self.controller.standing().epoch() == epoch {
            if self.controller.standing().state() == State::Dead {
                return false;
            }
            self.controller.turn(Instant::now());
            std::thread::sleep(Duration::from_micros(100));
        }
        true
    }
}
