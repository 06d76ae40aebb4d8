//! What is going to happen, by time.

use crate::time::Instant;
use std::collections::BTreeMap;

/// Events by the time at which they happen, and those of one time in the order in which they were added.
#[derive(Debug)]
pub(super) struct Schedule<E> {
    events: BTreeMap<(Instant, u64), E>,
    added: u64,
}

impl<E> Schedule<E> {
    pub(super) fn new() -> Schedule<E> {
        Schedule { events: BTreeMap::new(), added: 0 }
    }

    pub(super) fn add(&mut self, at: Instant, event: E) {
        self.events.insert((at, self.added), event);
        self.added += 1;
    }

    /// When the next event happens.
    pub(super) fn next(&self) -> Option<Instant> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the next event, if its time has come.
    pub(super) fn due(&mut self, now: Instant) -> Option<E> {
        let next = self.events.first_entry()?;
        if next.key().0 <= now { Some(next.remove()) } else { None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Takes everything.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = E> + use<E> {
        std::mem::take(&mut self.events).into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_order() {
        let at = Instant::from_nanos;
        let mut schedule = Schedule::new();
        for (when, event) in [(5, "c"), (3, "a"), (5, "d"), (3, "b"), (9, "e")] {
            schedule.add(at(when), event);
        }
        assert_eq!((schedule.next(), schedule.due(at(2))), (Some(at(3)), None));
        let mut due = |now| std::iter::from_fn(|| schedule.due(at(now))).collect::<Vec<_>>();
        assert_eq!(due(3), ["a", "b"]);
        assert_eq!(due(8), ["c", "d"]);
        assert_eq!((schedule.len(), schedule.next()), (1, Some(at(9))));
        assert_eq!(schedule.clear().collect::<Vec<_>>(), ["e"]);
        assert!(schedule.is_empty());
    }
}
