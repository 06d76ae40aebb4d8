//! [`Slots`]: things by number, with a generation that tells the present holder of a number from former ones.

/// Names what is in a slot, and nothing that is there later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Id {
    index: u32,
    generation: u32,
}

impl Id {
    /// Of nothing that there ever is.
    #[cfg_attr(not(feature = "verbs"), allow(dead_code))]
    pub(crate) const NOBODY: Id = Id { index: u32::MAX >> 1, generation: u32::MAX };

    /// The number, which others had before and will have again.
    pub fn index(self) -> u32 {
        self.index
    }

    /// As one number; the highest bit is never set.
    pub fn to_u64(self) -> u64 {
        u64::from(self.index) << 32 | u64::from(self.generation)
    }

    /// Of the number that [`to_u64`](Id::to_u64) gave.
    pub fn from_u64(number: u64) -> Id {
        Id { index: (number >> 32) as u32, generation: number as u32 }
    }
}

/// A vector with holes, which are filled again, the latest first.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<(u32, Option<T>)>,
    holes: Vec<u32>,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Slots<T> {
        Slots { slots: Vec::new(), holes: Vec::new() }
    }

    /// Bytes of memory for each.
    pub(crate) const fn bytes_each() -> usize {
        size_of::<(u32, Option<T>)>()
    }

    pub(crate) fn insert(&mut self, value: T) -> Id {
        if let Some(index) = self.holes.pop() {
            let (generation, slot) = &mut self.slots[index as usize];
            *slot = Some(value);
            return Id { index, generation: *generation };
        }
        let index = self.slots.len() as u32;
        debug_assert!(index < u32::MAX >> 1);
        self.slots.push((0, Some(value)));
        Id { index, generation: 0 }
    }

    pub(crate) fn remove(&mut self, id: Id) -> Option<T> {
        let (generation, slot) = self.slots.get_mut(id.index as usize)?;
        if *generation != id.generation {
            return None;
        }
        let value = slot.take()?;
        *generation = generation.wrapping_add(1);
        self.holes.push(id.index);
        Some(value)
    }

    #[inline]
    pub(crate) fn get(&self, id: Id) -> Option<&T> {
        let (generation, slot) = self.slots.get(id.index as usize)?;
        if *generation == id.generation { slot.as_ref() } else { None }
    }

    /// What has a number now, whoever had it before.
    #[inline]
    pub(crate) fn at(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.1.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let (generation, slot) = self.slots.get_mut(id.index as usize)?;
        if *generation == id.generation { slot.as_mut() } else { None }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.holes.len()
    }

    /// The first at this number or behind it, in a circle.
    pub(crate) fn next_from(&self, index: u32) -> Option<Id> {
        let count = self.slots.len();
        let start = index as usize % count.max(1);
        (start..count).chain(0..start).find_map(|index| {
            let (generation, slot) = &self.slots[index];
            slot.is_some().then_some(Id { index: index as u32, generation: *generation })
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, (generation, slot))| {
            slot.as_ref().map(|value| (Id { index: index as u32, generation: *generation }, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_of_one_thing_only() {
        let mut slots = Slots::new();
        let (a, b) = (slots.insert('a'), slots.insert('b'));
        assert_eq!(slots.remove(a), Some('a'));
        assert_eq!((slots.remove(a), slots.get(a)), (None, None));
        let c = slots.insert('c');
        assert_eq!((c.index(), slots.get(a), slots.get(c)), (a.index(), None, Some(&'c')));
        assert_eq!(Id::from_u64(c.to_u64()), c);
        assert_eq!((slots.len(), slots.iter().count()), (2, 2));
        assert_eq!((slots.next_from(1), slots.next_from(2)), (Some(b), Some(c)));
    }
}
