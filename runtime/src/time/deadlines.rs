//! [`Deadlines`]: one deadline for each of many numbered things, for devices that have timers of their own.

use super::Instant;
use super::wheel::{TimerNode, Wheel};
use std::cell::UnsafeCell;
use std::ptr::NonNull;

/// Entries in a page.
const PAGE: usize = 64;

/// A deadline for each number, of which the earliest is found at once: a hierarchical timing wheel.
///
/// Setting, moving and clearing one costs some nanoseconds however many there are, and allocates only when a number is
/// larger than any before. It reads no clock.
///
/// ```
/// use demikernel_runtime::time::{Deadlines, Instant};
///
/// let at = Instant::from_nanos;
/// let mut deadlines = Deadlines::new(at(0));
/// deadlines.set(7, at(3_000));
/// deadlines.set(9, at(2_000));
/// deadlines.set(7, at(1_000));
/// assert_eq!(deadlines.next(), Some(at(1_000)));
/// assert_eq!(deadlines.expire(at(1_500)), Some(7));
/// assert_eq!(deadlines.expire(at(1_500)), None);
/// ```
pub struct Deadlines {
    wheel: Box<Wheel>,
    /// Entries stay where they are as long as this lives, as the wheel points to them.
    #[expect(clippy::vec_box, reason = "a vector that grows would move them")]
    pages: Vec<Box<[Entry; PAGE]>>,
}

/// The node first, so that a pointer to it is a pointer to the entry. The wheel writes to nodes through pointers that
/// it keeps, hence the cell.
#[repr(C)]
struct Entry {
    node: UnsafeCell<TimerNode>,
    number: u32,
}

impl Deadlines {
    /// No deadlines yet; the time is not before `now`.
    pub fn new(now: Instant) -> Deadlines {
        Deadlines { wheel: Box::new(Wheel::new(now.as_nanos())), pages: Vec::new() }
    }

    /// Sets the deadline of a number, in place of the one that it may have.
    #[inline]
    pub fn set(&mut self, number: u32, deadline: Instant) {
        let node = self.node(number);
        // SAFETY: the node is in a page that is freed with the wheel only, it is in no wheel but this one, from which
        // it is taken before it is put in again, and nobody else writes to it.
        unsafe {
            self.wheel.remove(node);
            self.wheel.insert(node, deadline.as_nanos());
        }
    }

    /// Forgets the deadline of a number.
    #[inline]
    pub fn clear(&mut self, number: u32) {
        if (number as usize) < self.pages.len() * PAGE {
            let node = self.node(number);
            // SAFETY: as in `set`.
            unsafe { self.wheel.remove(node) };
        }
    }

    /// Forgets one deadline that is due, and returns its number: none before its time, and in the order of time to
    /// about a microsecond.
    #[inline]
    pub fn expire(&mut self, now: Instant) -> Option<u32> {
        let node = self.wheel.expire(now.as_nanos())?;
        // SAFETY: every node of the wheel is the first field of an entry that lives as long as the wheel, and was put
        // in as a pointer to all of it.
        Some(unsafe { node.cast::<Entry>().as_ref() }.number)
    }

    /// When to [`expire`](Self::expire) next: the earliest deadline, or where very many are about equally far away,
    /// a time before it.
    #[inline]
    pub fn next(&self) -> Option<Instant> {
        self.wheel.next_deadline().map(Instant::from_nanos)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.wheel.is_empty()
    }

    #[inline]
    fn node(&mut self, number: u32) -> NonNull<TimerNode> {
        let page = number as usize / PAGE;
        if page >= self.pages.len() {
            self.grow(page);
        }
        NonNull::from(&self.pages[page][number as usize % PAGE]).cast()
    }

    #[cold]
    fn grow(&mut self, page: usize) {
        for index in self.pages.len()..=page {
            self.pages.push(Box::new(std::array::from_fn(|entry| Entry {
                node: UnsafeCell::new(TimerNode::new()),
                number: (index * PAGE + entry) as u32,
            })));
        }
    }
}

impl std::fmt::Debug for Deadlines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deadlines").field("next", &self.next()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u32, u64),
        Clear(u32),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let number = 0..200_u32;
        prop_oneof![
            (number.clone(), 0..1_u64 << 36).prop_map(|(number, after)| Step::Set(number, after)),
            (number.clone(), 0..5_000_u64).prop_map(|(number, after)| Step::Set(number, after)),
            number.prop_map(Step::Clear),
            (0..1_u64 << 30).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn they_expire_as_those_of_a_map_do(steps in prop::collection::vec(step(), 1..200)) {
            let mut now = 5_000_000;
            let mut deadlines = Deadlines::new(Instant::from_nanos(now));
            let mut model = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Set(number, after) => {
                        deadlines.set(number, Instant::from_nanos(now + after));
                        model.insert(number, now + after);
                    }
                    Step::Clear(number) => {
                        deadlines.clear(number);
                        model.remove(&number);
                    }
                    Step::Pass(time) => {
                        now += time;
                        while let Some(number) = deadlines.expire(Instant::from_nanos(now)) {
                            let deadline = model.remove(&number);
                            prop_assert!(deadline.is_some_and(|deadline| deadline <= now));
                        }
                        prop_assert!(model.values().all(|&deadline| deadline > now));
                    }
                }
                prop_assert_eq!(deadlines.is_empty(), model.is_empty());
                let earliest = model.values().min().copied();
                let next = deadlines.next().map(Instant::as_nanos);
                prop_assert_eq!(next.is_some(), earliest.is_some());
                prop_assert!(next <= earliest);
            }
        }
    }
}
