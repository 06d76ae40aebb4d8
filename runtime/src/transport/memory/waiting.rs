//! Who waits for something, and how a cancellation names them.

use crate::transport::Qd;
use std::collections::VecDeque;

/// A queue whose members may leave it, by the number they got.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    next: u32,
    queue: VecDeque<(u32, T)>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Waiting { next: 0, queue: VecDeque::new() }
    }
}

impl<T> Waiting<T> {
    /// The number that the next one gets.
    pub(super) fn next_number(&self) -> u32 {
        self.next
    }

    pub(super) fn push(&mut self, it: T) {
        self.queue.push_back((self.next, it));
        self.next = (self.next + 1) & CancelKey::NUMBERS;
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        self.queue.pop_front().map(|(_, it)| it)
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.queue.front().map(|(_, it)| it)
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut T> {
        self.queue.front_mut().map(|(_, it)| it)
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.queue.iter().find(|(other, _)| *other == number).map(|(_, it)| it)
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let index = self.queue.iter().position(|(other, _)| *other == number)?;
        self.queue.remove(index).map(|(_, it)| it)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

/// Names an operation that waits at a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct CancelKey {
    pub(super) qd: Qd,
    pub(super) queue: Queue,
    pub(super) number: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Queue {
    /// Pops and accepts.
    Receives,
    Sends,
    Connect,
}

impl CancelKey {
    /// Numbers fit in these bits, and wrap around: only those at one socket at one time must differ.
    pub(super) const NUMBERS: u32 = (1 << 30) - 1;
}

impl From<CancelKey> for u64 {
    fn from(key: CancelKey) -> u64 {
        u64::from(key.qd.0) << 32 | (key.queue as u64) << 30 | u64::from(key.number)
    }
}

impl From<u64> for CancelKey {
    fn from(key: u64) -> CancelKey {
        let queue = match key >> 30 & 3 {
            0 => Queue::Receives,
            1 => Queue::Sends,
            _ => Queue::Connect,
        };
        CancelKey { qd: Qd((key >> 32) as u32), queue, number: key as u32 & Self::NUMBERS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_leave_by_their_number_and_the_rest_stay_in_order() {
        let mut waiting = Waiting::default();
        let numbers: Vec<u32> = ["a", "b", "c", "d"]
            .into_iter()
            .map(|name| {
                let number = waiting.next_number();
                waiting.push(name);
                number
            })
            .collect();
        assert_eq!(waiting.get(numbers[1]), Some(&"b"));
        assert_eq!(waiting.remove(numbers[1]), Some("b"));
        assert_eq!(waiting.get(numbers[1]), None);
        assert_eq!(waiting.remove(numbers[1]), None);
        assert_eq!((waiting.front(), waiting.len()), (Some(&"a"), 3));
        assert_eq!(std::iter::from_fn(|| waiting.pop()).collect::<Vec<_>>(), ["a", "c", "d"]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn keys_survive_the_trip_through_a_number() {
        for queue in [Queue::Receives, Queue::Sends, Queue::Connect] {
            for (qd, number) in [(0, 0), (7, 1), (u32::MAX, CancelKey::NUMBERS)] {
                let key = CancelKey { qd: Qd(qd), queue, number };
                assert_eq!(CancelKey::from(u64::from(key)), key);
            }
        }
    }
}
