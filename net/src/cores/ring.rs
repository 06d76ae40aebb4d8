//! A bounded queue from one core to one other.
//!
//! Two numbers count what was ever put in and taken out; each is written by one side and read by the other. Both sides
//! remember what they last read, so that the other's cache line is asked for only where that no longer suffices.

use super::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};
use std::mem::MaybeUninit;

/// On a cache line of its own, and on a pair of them as some processors fetch.
#[repr(align(128))]
#[derive(Default)]
struct Count(AtomicUsize);

struct Ring<T> {
    put: Count,
    taken: Count,
    /// A power of two of places. Those from `taken` up to `put` hold values and are the consumer's, others the
    /// producer's.
    places: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: a place is touched by one side at a time: the producer gives it away by a release of `put` that the consumer
// acquires, and gets it back by `taken` likewise. Values move from one thread to another, hence `T: Send`.
unsafe impl<T: Send> Sync for Ring<T> {}
// SAFETY: as above; it owns the values in it.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T> Ring<T> {
    fn place(&self, count: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.places[count & (self.places.len() - 1)]
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // Both sides have released what they wrote, by their counts of references.
        for count in self.taken.0.load(Ordering::Relaxed)..self.put.0.load(Ordering::Relaxed) {
            // SAFETY: both sides are gone, and these places hold values.
            self.place(count).with_mut(|place| unsafe { (*place).assume_init_drop() });
        }
    }
}

/// The side that puts in.
pub(super) struct Producer<T> {
    ring: Arc<Ring<T>>,
    /// What has been put in, and of what was taken out what is known.
    put: usize,
    taken: usize,
}

/// The side that takes out.
pub(super) struct Consumer<T> {
    ring: Arc<Ring<T>>,
    taken: usize,
    put: usize,
}

/// A ring for so many values, a power of two.
pub(super) fn ring<T: Send>(size: usize) -> (Producer<T>, Consumer<T>) {
    debug_assert!(size.is_power_of_two(), "places are found by a mask");
    let places = (0..size).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let ring = Arc::new(Ring { put: Count::default(), taken: Count::default(), places });
    (Producer { ring: ring.clone(), put: 0, taken: 0 }, Consumer { ring, taken: 0, put: 0 })
}

impl<T> Producer<T> {
    /// Whether there is room for one more value.
    pub(super) fn has_room(&mut self) -> bool {
        let size = self.ring.places.len();
        if self.put - self.taken == size {
            self.taken = self.ring.taken.0.load(Ordering::Acquire);
        }
        self.put - self.taken < size
    }

    /// Puts a value in, or gives it back if there is no room.
    pub(super) fn push(&mut self, value: T) -> Result<(), T> {
        if !self.has_room() {
            return Err(value);
        }
        // SAFETY: there is room, so the place is this side's, which is the only one of its kind and borrowed.
        self.ring.place(self.put).with_mut(|place| unsafe { (*place).write(value) });
        self.put += 1;
        self.ring.put.0.store(self.put, Ordering::Release);
        Ok(())
    }
}

impl<T> Consumer<T> {
    /// Whether there is nothing to take.
    pub(super) fn is_empty(&self) -> bool {
        self.taken == self.ring.put.0.load(Ordering::Acquire)
    }

    /// Takes the oldest value.
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.taken == self.put {
            self.put = self.ring.put.0.load(Ordering::Acquire);
            if self.taken == self.put {
                return None;
            }
        }
        // SAFETY: the place holds a value and is this side's, which is the only one of its kind and borrowed; it is
        // given back below.
        let value = self.ring.place(self.taken).with(|place| unsafe { (*place).assume_init_read() });
        self.taken += 1;
        self.ring.taken.0.store(self.taken, Ordering::Release);
        Some(value)
    }
}

#[cfg(all(test, not(demikernel_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_takes_nothing_and_gives_in_order() {
        let (mut here, mut there) = ring(4);
        for round in 0..3 {
            for number in 0..4 {
                assert_eq!(here.push(round * 10 + number), Ok(()));
            }
            assert_eq!(here.push(99), Err(99));
            assert!(!there.is_empty());
            for number in 0..4 {
                assert_eq!(there.pop(), Some(round * 10 + number));
            }
            assert_eq!((there.pop(), there.is_empty()), (None, true));
        }
    }

    #[test]
    fn what_was_not_taken_is_dropped_with_the_ring() {
        let value = Arc::new(());
        let (mut here, mut there) = ring(8);
        for _ in 0..5 {
            assert!(here.push(value.clone()).is_ok());
        }
        drop(there.pop());
        assert_eq!(Arc::strong_count(&value), 5);
        drop(here);
        assert_eq!(there.pop().map(|value| Arc::strong_count(&value)), Some(5));
        drop(there);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        const COUNT: u32 = if cfg!(miri) { 500 } else { 200_000 };
        let (mut here, mut there) = ring(64);
        let producer = std::thread::spawn(move || {
            for number in 0..COUNT {
                let mut value = Box::new(number);
                while let Err(back) = here.push(value) {
                    value = back;
                    std::thread::yield_now();
                }
            }
        });
        for expected in 0..COUNT {
            let value = loop {
                match there.pop() {
                    Some(value) => break value,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(*value, expected);
        }
        producer.join().unwrap();
    }
}

#[cfg(all(test, demikernel_loom))]
mod models {
    use super::*;
    use loom::thread;

    /// Three values through two places: each of the sides has to wait for the other.
    #[test]
    fn loom_values_arrive_once_and_in_order() {
        loom::model(|| {
            let (mut here, mut there) = ring(2);
            let producer = thread::spawn(move || {
                for number in 0..3 {
                    let mut value = Box::new(number);
                    while let Err(back) = here.push(value) {
                        value = back;
                        thread::yield_now();
                    }
                }
            });
            for expected in 0..3 {
                let value = loop {
                    match there.pop() {
                        Some(value) => break value,
                        None => thread::yield_now(),
                    }
                };
                assert_eq!(*value, expected);
            }
            assert!(there.is_empty());
            producer.join().unwrap();
        });
    }

    #[test]
    fn loom_either_side_may_go_first() {
        loom::model(|| {
            let value = Arc::new(());
            let (mut here, mut there) = ring(2);
            let given = value.clone();
            let producer = thread::spawn(move || {
                assert!(here.push(given.clone()).is_ok() && here.push(given).is_ok());
            });
            drop(there.pop());
            drop(there);
            producer.join().unwrap();
            assert_eq!(Arc::strong_count(&value), 1);
        });
    }
}
