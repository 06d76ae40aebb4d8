//! [`Queue`]: numbers of slots, first in, first out.

/// A vector of which the beginning has been taken: to add and to take are a few instructions, without the test for a
/// ring's end. Memory is moved together when most of it has been taken, and once nothing is left it is used again from
/// its beginning.
#[derive(Debug, Default)]
pub(super) struct Queue {
    slots: Vec<u32>,
    /// How many have been taken.
    taken: usize,
}

/// Less is not moved together.
const MOST_TAKEN: usize = 1024;

impl Queue {
    /// Adds one at the end.
    #[inline]
    pub(super) fn push(&mut self, slot: u32) {
        self.slots.push(slot);
    }

    /// Takes the first.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<u32> {
        let slot = *self.slots.get(self.taken)?;
        self.taken += 1;
        if self.taken == self.slots.len() {
            self.slots.clear();
            self.taken = 0;
        } else if self.taken >= MOST_TAKEN && self.taken * 2 >= self.slots.len() {
            self.move_together();
        }
        Some(slot)
    }

    #[cold]
    fn move_together(&mut self) {
        self.slots.drain(..self.taken);
        self.taken = 0;
    }

    /// Whether there are none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn what_goes_in_comes_out_in_order_and_memory_has_a_bound() {
        let (mut queue, mut model) = (Queue::default(), VecDeque::new());
        for step in 0..100_000u32 {
            // Up to 3,000 wait, and for a while there is always something.
            if step % 3 < 2 && model.len() < 3_000 {
                queue.push(step);
                model.push_back(step);
            } else {
                assert_eq!(queue.pop(), model.pop_front());
            }
            assert_eq!(queue.is_empty(), model.is_empty());
            assert!(queue.slots.len() <= 2 * model.len() + MOST_TAKEN);
        }
        while let Some(slot) = model.pop_front() {
            assert_eq!(queue.pop(), Some(slot));
        }
        assert_eq!((queue.pop(), queue.taken, queue.slots.len()), (None, 0, 0));
    }
}
