//! How a controller comes to be live, and again after something went wrong.
//!
//! ```text
//!            start, reset             not ready                ready               queues granted
//!  Live, Dead ---------> Disabling ---------------> Enabling ---------> Configuring -------------> Live
//!                            |      epoch + 1          | late, fatal        | late, failed
//!                       late |  ^----------------------+--------------------+
//!                            v   failed once: with a reset of the function; too often:
//!                 reset of the function, else its memory is taken away: epoch + 1, Dead
//! ```
//!
//! The epoch counts up when it is certain that the controller does nothing any more with memory it was given before; only
//! then do cores finish what they had under way.

use super::super::admin::{Progress, Ticket};
use super::super::bus::Bus;
use super::super::command::Submission;
use super::super::registers::{self, Status};
use super::{Controller, Inner, QUEUES, Standing, State};
use demikernel_runtime::time::Instant;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Attempts to bring it up, of which the later ones begin with a reset of the function.
const ATTEMPTS: u32 = 3;

/// What is being waited for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// Until it is not ready, or too late.
    Disabling(Instant),
    /// Until it is ready, or too late.
    Enabling(Instant),
    /// Until it has said how many queues it grants, or too late.
    Configuring(Ticket, Instant),
    Live,
    Dead,
}

impl Controller {
    /// Brings it up for the first time.
    pub(super) fn start(&self) {
        let mut inner = self.lock();
        self.disable(&mut inner, Instant::now());
    }

    /// Has everything under way end with an error, and the controller begin anew.
    pub(in crate::nvme) fn reset(&self, why: &str) {
        let mut inner = self.lock();
        if matches!(inner.phase, Phase::Live) {
            self.bring_down(&mut inner, why, Instant::now());
        }
    }

    fn bring_down(&self, inner: &mut Inner, why: &str, now: Instant) {
        tracing::warn!(name = self.name, why, "an NVMe controller is reset");
        inner.why = why.to_owned();
        inner.count.resets += 1;
        self.disable(inner, now);
    }

    fn disable(&self, inner: &mut Inner, now: Instant) {
        self.set_standing(self.standing().epoch(), State::Down);
        registers::disable(&*self.bus);
        inner.phase = Phase::Disabling(now + self.patience());
    }

    /// Goes as far as it gets without waiting.
    pub(super) fn advance(&self, inner: &mut Inner, now: Instant) {
        if matches!(inner.phase, Phase::Dead) {
            return;
        }
        let status = Status::read(&*self.bus);
        if self.is_gone(inner, status) {
            return;
        }
        match inner.phase {
            Phase::Dead => {}
            Phase::Live => {
                self.handle_events(inner, now);
                self.watch(inner, status, now);
            }
            Phase::Disabling(until) => {
                if !status.is_ready() {
                    self.enable(inner, now);
                } else if now > until {
                    self.force(inner, now);
                }
            }
            Phase::Enabling(until) => {
                if status.is_fatal() {
                    self.fail(inner, "it reports a fatal status when it is enabled", now);
                } else if status.is_ready() {
                    self.configure(inner, now);
                } else if now > until {
                    self.fail(inner, "it does not become ready", now);
                }
            }
            Phase::Configuring(ticket, until) => self.conclude(inner, ticket, until, now),
        }
    }

    /// It is not ready, so it does nothing.
    fn enable(&self, inner: &mut Inner, now: Instant) {
        self.set_standing(self.standing().epoch() + 1, State::Down);
        inner.admin.clear();
        let (submission, completion) = inner.admin.addresses();
        registers::enable(&*self.bus, self.capabilities, super::admin::ENTRIES, submission, completion);
        inner.phase = Phase::Enabling(now + self.patience());
    }

    fn configure(&self, inner: &mut Inner, now: Instant) {
        let ticket = inner.admin.ask(Submission::number_of_queues(QUEUES), now);
        let ticket = ticket.expect("a queue that was just cleared has room");
        inner.phase = Phase::Configuring(ticket, now + self.admin_timeout());
    }

    fn conclude(&self, inner: &mut Inner, ticket: Ticket, until: Instant, now: Instant) {
        self.handle_events(inner, now);
        match inner.admin.redeem(ticket) {
            Progress::Done(completion) if completion.status.is_success() => {
                // Both numbers are one less than there are.
                let granted = (completion.result & 0xffff).min(completion.result >> 16) + 1;
                inner.granted = granted.min(u32::from(QUEUES)) as usize;
                inner.failures = 0;
                inner.phase = Phase::Live;
                if inner.data.is_some() {
                    self.listen(inner, now);
                }
                self.set_standing(self.standing().epoch(), State::Live);
            }
            Progress::Done(completion) => {
                let text = format!("it grants no I/O queues: {}", completion.status);
                self.fail(inner, &text, now);
            }
            _ if now > until => self.fail(inner, "it does not answer its first command", now),
            _ => {}
        }
    }

    /// It does not come up.
    fn fail(&self, inner: &mut Inner, why: &str, now: Instant) {
        inner.failures += 1;
        inner.why = why.to_owned();
        tracing::warn!(
            name = self.name,
            why,
            attempt = inner.failures,
            "an NVMe controller does not come up"
        );
        if inner.failures == ATTEMPTS {
            return self.bury(inner);
        }
        self.disable(inner, now);
        if inner.failures > 1 {
            self.force(inner, now);
        }
    }

    /// It did not obey: the function is reset.
    fn force(&self, inner: &mut Inner, now: Instant) {
        match self.bus.reset() {
            Ok(()) if !Status::read(&*self.bus).is_ready() => self.enable(inner, now),
            Ok(()) => {
                inner.why += "; it is still ready after a reset of the PCI function";
                self.bury(inner);
            }
            Err(error) => {
                inner.why += &format!("; the PCI function cannot be reset: {error}");
                self.bury(inner);
            }
        }
    }

    /// It will not be used again: it is kept from memory, whatever it still does.
    fn bury(&self, inner: &mut Inner) {
        tracing::error!(name = self.name, why = inner.why, "an NVMe controller is given up");
        inner.phase = Phase::Dead;
        let epoch = self.standing().epoch();
        match self.bus.sever() {
            Ok(()) => self.set_standing(epoch + 1, State::Dead),
            Err(error) => {
                // So nobody may have the memory back.
                tracing::error!(name = self.name, %error, "and cannot be kept from memory, which is left to it");
                self.set_standing(epoch, State::Dead);
            }
        }
        inner.admin.forget();
    }

    /// Whether it is not there any more, or the system wants it back; then it is given up.
    fn is_gone(&self, inner: &mut Inner, status: Status) -> bool {
        if status.is_absent() {
            inner.why = "it was removed: its registers read as ones".to_owned();
        } else if self.bus.is_wanted_back() {
            registers::disable(&*self.bus);
            inner.why = "the system removes it, or takes it away from vfio-pci".to_owned();
        } else {
            return false;
        }
        self.bury(inner);
        true
    }

    /// Looks whether it is well.
    fn watch(&self, inner: &mut Inner, status: Status, now: Instant) {
        let why = if status.is_fatal() {
            "it reports a fatal status"
        } else if !status.is_ready() {
            "it is not ready any more: somebody else has reset it"
        } else if inner.admin.is_overdue(self.admin_timeout(), now) {
            "it does not answer an admin command"
        } else {
            return;
        };
        self.bring_down(inner, why, now);
    }

    fn set_standing(&self, epoch: u64, state: State) {
        self.standing.store(Standing::new(epoch, state).0, Ordering::Release);
    }

    /// How long it may take to become ready or not. Some need longer than they say.
    fn patience(&self) -> Duration {
        self.capabilities.timeout() + Duration::from_millis(500)
    }

    /// Switches it off, as nobody uses it any more.
    pub(super) fn end(&mut self) {
        let bus: &dyn Bus = &*self.bus;
        let data = self.inner.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).data.clone();
        if self.standing().state() == State::Live {
            registers::announce_end(bus);
            let least = Duration::from_secs(5);
            let patience = data.map_or(least, |data| least.max(Duration::from_millis(u64::from(data.end))));
            wait(patience, || Status::read(bus).is_shut_down() || Status::read(bus).is_absent());
        }
        if self.standing().state() != State::Dead {
            registers::disable(bus);
            wait(self.patience(), || !Status::read(bus).is_ready() || Status::read(bus).is_absent());
            if let Err(error) = self.bus.sever() {
                tracing::warn!(name = self.name, %error, "an NVMe controller that is not used is not kept from memory");
            }
        }
    }
}

fn wait(patience: Duration, mut is_done: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !is_done() && Instant::now() < end {
        std::thread::sleep(Duration::from_micros(100));
    }
}
