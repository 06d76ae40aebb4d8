//! The admin queue: commands to the controller itself, and who waits for which.

use super::command::{Completion, Submission};
use super::queue::QueuePair;
use demikernel_runtime::time::Instant;
use std::time::Duration;

/// Entries of the queue.
pub(super) const ENTRIES: u32 = 32;

/// Why a command was given, if nobody waits for its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// Somebody has a ticket.
    Ticket,
    /// To be told of an event.
    Event,
    /// To read the log of an event, and so have the controller tell of the next.
    Log,
    /// To end a command that is overdue.
    Abort,
    /// To set something that is not needed.
    Setting,
}

/// For one command under way: it is good until the next reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ticket {
    id: u16,
    round: u32,
}

/// What has become of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    UnderWay,
    Done(Completion),
    /// The controller was reset meanwhile.
    Lost,
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    Free,
    UnderWay(Purpose, Instant),
    Done(Completion),
}

/// The admin queue.
pub(super) struct Admin {
    pair: QueuePair,
    /// By the number of a command.
    slots: Vec<Slot>,
    /// How often the queue has been begun anew.
    round: u32,
}

impl Admin {
    pub(super) fn new(pair: QueuePair) -> Admin {
        let slots = vec![Slot::Free; pair.entries() as usize - 1];
        Admin { pair, slots, round: 0 }
    }

    /// Begins anew, with a controller that has forgotten everything.
    pub(super) fn clear(&mut self) {
        self.pair.clear();
        self.forget();
    }

    /// Nothing that was given will end any more.
    pub(super) fn forget(&mut self) {
        self.slots.fill(Slot::Free);
        self.round += 1;
    }

    /// Gives a command for somebody, if there is room.
    pub(super) fn ask(&mut self, command: Submission, now: Instant) -> Option<Ticket> {
        let id = self.submit(command, Purpose::Ticket, now)?;
        Some(Ticket { id, round: self.round })
    }

    /// Gives a command whose end [`poll`](Self::poll) tells of, if there is room.
    #[must_use = "there may be no room"]
    pub(super) fn submit(&mut self, command: Submission, purpose: Purpose, now: Instant) -> Option<u16> {
        let free = self.slots.iter().position(|slot| matches!(slot, Slot::Free));
        let id = free.filter(|_| self.pair.has_room())?;
        self.slots[id] = Slot::UnderWay(purpose, now);
        self.pair.push(Submission { id: id as u16, ..command });
        self.pair.ring();
        Some(id as u16)
    }

    /// The next command that has ended and for which nobody has a ticket.
    pub(super) fn poll(&mut self) -> Option<(Purpose, u16, Completion)> {
        while let Some(completion) = self.pair.take() {
            self.pair.acknowledge();
            let id = completion.id;
            match self.slots.get_mut(usize::from(id)) {
                Some(slot @ Slot::UnderWay(Purpose::Ticket, _)) => *slot = Slot::Done(completion),
                Some(slot @ &mut Slot::UnderWay(purpose, _)) => {
                    *slot = Slot::Free;
                    return Some((purpose, id, completion));
                }
                _ => tracing::error!(
                    ?completion,
                    "an NVMe controller has ended an admin command that was not given"
                ),
            }
        }
        None
    }

    /// What has become of a command. If it is done, the ticket has been used.
    pub(super) fn redeem(&mut self, ticket: Ticket) -> Progress {
        let slot = &mut self.slots[usize::from(ticket.id)];
        match *slot {
            _ if ticket.round != self.round => Progress::Lost,
            Slot::Done(completion) => {
                *slot = Slot::Free;
                Progress::Done(completion)
            }
            _ => Progress::UnderWay,
        }
    }

    /// Nobody waits for this one any more.
    pub(super) fn abandon(&mut self, ticket: Ticket) {
        if ticket.round != self.round {
            return;
        }
        match &mut self.slots[usize::from(ticket.id)] {
            Slot::UnderWay(purpose, _) => *purpose = Purpose::Setting,
            slot => *slot = Slot::Free,
        }
    }

    /// Whether a command has taken longer than that. Events take any time.
    pub(super) fn is_overdue(&self, limit: Duration, now: Instant) -> bool {
        self.slots.iter().any(|slot| {
            matches!(slot, Slot::UnderWay(purpose, since)
                if *purpose != Purpose::Event && now.saturating_duration_since(*since) > limit)
        })
    }

    /// How many commands are under way for this purpose.
    pub(super) fn count(&self, of: Purpose) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::UnderWay(purpose, _) if *purpose == of)).count()
    }

    /// Where the controller has the queues.
    pub(super) fn addresses(&self) -> (u64, u64) {
        self.pair.addresses()
    }
}
