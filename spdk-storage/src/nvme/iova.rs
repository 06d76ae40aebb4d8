//! Addresses that a device is given: which are free.

/// Ranges of addresses, from and to, both inclusive.
pub(super) type Ranges = Vec<(u64, u64)>;

/// Hands out addresses of some ranges, the lowest first.
#[derive(Debug)]
pub(super) struct Addresses {
    /// Free ranges, in order, that do not touch.
    free: Ranges,
}

impl Addresses {
    /// All of these are free, save the page at zero: in a command it would look like nothing.
    pub(super) fn new(mut ranges: Ranges) -> Addresses {
        const LOWEST: u64 = 1 << 20;
        ranges.retain_mut(|(from, to)| {
            *from = (*from).max(LOWEST);
            from <= to
        });
        ranges.sort_unstable();
        Addresses { free: ranges }
    }

    /// Takes `length` bytes, aligned to `alignment`, a power of two.
    pub(super) fn take(&mut self, length: u64, alignment: u64) -> Option<u64> {
        debug_assert!(length > 0 && alignment.is_power_of_two());
        let fits = |&(from, to): &(u64, u64)| {
            let start = from.checked_next_multiple_of(alignment)?;
            let end = start.checked_add(length - 1)?;
            (end <= to).then_some((start, end))
        };
        let (index, (start, end)) =
            self.free.iter().enumerate().find_map(|(index, range)| Some((index, fits(range)?)))?;
        let (from, to) = self.free.remove(index);
        // What is behind it first, as that comes later in the list.
        if end < to {
            self.free.insert(index, (end + 1, to));
        }
        if from < start {
            self.free.insert(index, (from, start - 1));
        }
        Some(start)
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&mut self, start: u64, length: u64) {
        let (mut from, mut to) = (start, start + (length - 1));
        let index = self.free.partition_point(|range| range.0 < from);
        debug_assert!(self.free.get(index).is_none_or(|next| to < next.0), "twice");
        if let Some(next) = self.free.get(index).filter(|next| to.checked_add(1) == Some(next.0)) {
            to = next.1;
            self.free.remove(index);
        }
        let before = index.checked_sub(1).map(|before| self.free[before]);
        if let Some(before) = before.filter(|before| before.1.checked_add(1) == Some(from)) {
            from = before.0;
            self.free[index - 1] = (from, to);
        } else {
            self.free.insert(index, (from, to));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_reserved_is_left_out() {
        // As an Intel IOMMU says it: the range of message-signalled interrupts is missing.
        let mut addresses = Addresses::new(vec![(0, 0xfedf_ffff), (0xfef0_0000, (1 << 39) - 1)]);
        assert_eq!(addresses.take(4096, 4096), Some(1 << 20));
        assert_eq!(addresses.take(2 << 20, 2 << 20), Some(2 << 20));
        assert_eq!(addresses.take(0xfee0_0000, 2 << 20), Some(0xff00_0000));
        assert_eq!(addresses.take(1 << 39, 4096), None);
    }

    proptest! {
        #[test]
        fn nothing_is_handed_out_twice(steps in prop::collection::vec((any::<bool>(), 1u64..20, 0u32..4), 1..200)) {
            let whole = vec![(1 << 20, (1 << 20) + 0x3ffff), (1 << 24, (1 << 24) + 0xffff)];
            let mut addresses = Addresses::new(whole.clone());
            let mut taken: Vec<(u64, u64)> = Vec::new();
            for (takes, pages, shift) in steps {
                if takes {
                    let alignment = 4096 << shift;
                    let Some(start) = addresses.take(pages * 4096, alignment) else { continue };
                    let end = start + pages * 4096 - 1;
                    prop_assert!(start % alignment == 0);
                    prop_assert!(whole.iter().any(|range| range.0 <= start && end <= range.1));
                    prop_assert!(taken.iter().all(|other| end < other.0 || other.0 + other.1 <= start));
                    taken.push((start, pages * 4096));
                } else if let Some((start, length)) = taken.pop() {
                    addresses.give_back(start, length);
                }
            }
            for (start, length) in taken {
                addresses.give_back(start, length);
            }
            prop_assert_eq!(addresses.free, whole);
        }
    }
}
