//! In which order the elements of a queue are kept.

use std::cmp::Ordering;
use std::collections::VecDeque;

/// Elements with their numbers, which count up in the order of arrival.
pub trait Shelf: 'static {
    type Item: 'static;

    fn len(&self) -> usize;

    /// Adds an element; its number is greater than any before.
    fn put(&mut self, number: u64, item: Self::Item);

    /// Adds an element that was taken before.
    fn put_back(&mut self, number: u64, item: Self::Item);

    /// Takes the element whose turn it is.
    fn take(&mut self) -> Option<(u64, Self::Item)>;
}

/// In the order of arrival.
pub struct Line<T>(VecDeque<(u64, T)>);

impl<T> Line<T> {
    pub(super) fn new() -> Line<T> {
        Line(VecDeque::new())
    }
}

impl<T: 'static> Shelf for Line<T> {
    type Item = T;

    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn put(&mut self, number: u64, item: T) {
        self.0.push_back((number, item));
    }

    #[cold]
    fn put_back(&mut self, number: u64, item: T) {
        let place = self.0.partition_point(|(other, _)| *other < number);
        self.0.insert(place, (number, item));
    }

    #[inline]
    fn take(&mut self) -> Option<(u64, T)> {
        self.0.pop_front()
    }
}

/// The least first, and of equal ones that which arrived first: a binary heap.
///
/// Not the standard library's, whose elements must know how they compare. A comparison that panics costs at
/// most the element that is being taken.
pub struct Heap<T, C> {
    items: Vec<(u64, T)>,
    compare: C,
}

impl<T, C: FnMut(&T, &T) -> Ordering> Heap<T, C> {
    pub(super) fn new(compare: C) -> Heap<T, C> {
        Heap { items: Vec::new(), compare }
    }

    fn is_before(&mut self, one: usize, other: usize) -> bool {
        let ((one_number, one), (other_number, other)) = (&self.items[one], &self.items[other]);
        (self.compare)(one, other).then(one_number.cmp(other_number)).is_lt()
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let above = (place - 1) / 2;
            if !self.is_before(place, above) {
                break;
            }
            self.items.swap(place, above);
            place = above;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let mut first = place;
            for below in [2 * place + 1, 2 * place + 2] {
                if below < self.items.len() && self.is_before(below, first) {
                    first = below;
                }
            }
            if first == place {
                break;
            }
            self.items.swap(place, first);
            place = first;
        }
    }
}

impl<T: 'static, C: FnMut(&T, &T) -> Ordering + 'static> Shelf for Heap<T, C> {
    type Item = T;

    fn len(&self) -> usize {
        self.items.len()
    }

    fn put(&mut self, number: u64, item: T) {
        self.items.push((number, item));
        self.rise(self.items.len() - 1);
    }

    fn put_back(&mut self, number: u64, item: T) {
        self.put(number, item);
    }

    fn take(&mut self) -> Option<(u64, T)> {
        let last = self.items.len().checked_sub(1)?;
        self.items.swap(0, last);
        let first = self.items.pop();
        self.sink(0);
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_puts_back_where_it_was() {
        let mut line = Line::new();
        for number in 0..5 {
            line.put(number, number * 10);
        }
        let taken: Vec<_> = std::iter::from_fn(|| line.take()).take(4).collect();
        for index in [2, 0, 3, 1] {
            line.put_back(taken[index].0, taken[index].1);
        }
        let all: Vec<_> = std::iter::from_fn(|| line.take()).map(|(_, item)| item).collect();
        assert_eq!(all, [0, 10, 20, 30, 40]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_heap_sorts_and_is_stable(items in prop::collection::vec((0..5u8, 0..3usize), 0..60)) {
            let mut heap = Heap::new(|one: &(u8, u64), other: &(u8, u64)| one.0.cmp(&other.0));
            let mut model: Vec<(u8, u64)> = Vec::new();
            for (number, (key, takes)) in (0..).zip(items) {
                heap.put(number, (key, number));
                model.push((key, number));
                for _ in 0..takes {
                    // Not a stable sort of the model: the numbers are the order of arrival.
                    model.sort_unstable();
                    let expected = (!model.is_empty()).then(|| model.remove(0));
                    let taken = heap.take();
                    prop_assert_eq!(taken.map(|(_, item)| item), expected);
                    // Given back, it is the first again.
                    if let Some((number, item)) = taken && key % 2 == 0 {
                        heap.put_back(number, item);
                        model.push(item);
                    }
                }
                prop_assert_eq!(heap.len(), model.len());
            }
        }
    }
}
