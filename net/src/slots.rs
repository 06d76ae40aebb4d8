//! [`Slots`]: things by number, with a generation that tells the present holder of a number from former ones.

/// Names what is in a slot, and nothing that is there later.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct SlotId {
    pub(crate) index: u32,
    generation: u32,
}

impl SlotId {
    /// As one number.
    pub(crate) fn to_u64(self) -> u64 {
        u64::from(self.index) << 32 | u64::from(self.generation)
    }

    /// Of the number that [`to_u64`](SlotId::to_u64) gave.
    pub(crate) fn from_u64(number: u64) -> SlotId {
        SlotId { index: (number >> 32) as u32, generation: number as u32 }
    }
}

/// A vector with holes, which are filled again, the latest first.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    /// The first hole; each names the next.
    free: u32,
    len: u32,
    /// How many there may be at once.
    limit: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Here(T),
    Hole { next: u32 },
}

/// The end of the list of holes.
const NONE: u32 = u32::MAX;

impl<T> Slots<T> {
    /// None yet, and never more than `limit`.
    pub(crate) fn new(limit: u32) -> Slots<T> {
        Slots { slots: Vec::new(), free: NONE, len: 0, limit }
    }

    /// Puts something in; gives it back if there are as many as there may be.
    pub(crate) fn insert(&mut self, value: T) -> Result<SlotId, T> {
        let index = self.free;
        if let Some(slot) = self.slots.get_mut(index as usize) {
            if let Content::Hole { next } = slot.content {
                self.free = next;
            }
            slot.content = Content::Here(value);
            self.len += 1;
            return Ok(SlotId { index, generation: slot.generation });
        }
        let index = self.slots.len() as u32;
        if index >= self.limit {
            return Err(value);
        }
        self.slots.push(Slot { generation: 0, content: Content::Here(value) });
        self.len += 1;
        Ok(SlotId { index, generation: 0 })
    }

    /// Takes out what is at `index`.
    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        let slot = self.slots.get_mut(index as usize)?;
        if let Content::Hole { .. } = slot.content {
            return None;
        }
        let content = std::mem::replace(&mut slot.content, Content::Hole { next: self.free });
        slot.generation = slot.generation.wrapping_add(1);
        self.free = index;
        self.len -= 1;
        match content {
            Content::Here(value) => Some(value),
            Content::Hole { .. } => None,
        }
    }

    /// What is at `index` now.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        match &self.slots.get(index as usize)?.content {
            Content::Here(value) => Some(value),
            Content::Hole { .. } => None,
        }
    }

    /// What is at `index` now.
    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        match &mut self.slots.get_mut(index as usize)?.content {
            Content::Here(value) => Some(value),
            Content::Hole { .. } => None,
        }
    }

    /// Starts loading what is at `index`.
    #[inline]
    pub(crate) fn prefetch(&self, index: u32) {
        if let Some(slot) = self.slots.get(index as usize) {
            crate::prefetch::prefetch(slot);
        }
    }

    /// What was named, if it is still there.
    #[inline]
    pub(crate) fn named(&mut self, id: SlotId) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.index as usize)?;
        match &mut slot.content {
            Content::Here(value) if slot.generation == id.generation => Some(value),
            _ => None,
        }
    }

    /// The name of what is at `index`.
    pub(crate) fn id(&self, index: u32) -> Option<SlotId> {
        let slot = self.slots.get(index as usize)?;
        matches!(slot.content, Content::Here(_)).then_some(SlotId { index, generation: slot.generation })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// All of them, with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| match &slot.content {
            Content::Here(value) => Some((index as u32, value)),
            Content::Hole { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_and_names_are_not() {
        let mut slots = Slots::new(3);
        let a = slots.insert("a").unwrap();
        let b = slots.insert("b").unwrap();
        assert_eq!(slots.remove(a.index), Some("a"));
        assert_eq!(slots.remove(a.index), None);
        let c = slots.insert("c").unwrap();
        assert_eq!(c.index, a.index);
        assert_eq!((slots.named(a).copied(), slots.named(c).copied()), (None, Some("c")));
        assert_eq!((slots.named(b).copied(), slots.len()), (Some("b"), 2));
        assert_eq!(slots.id(c.index), Some(c));
    }

    #[test]
    fn there_are_no_more_than_the_limit() {
        let mut slots = Slots::new(2);
        let first = slots.insert(1).unwrap();
        slots.insert(2).unwrap();
        assert_eq!(slots.insert(3), Err(3));
        slots.remove(first.index);
        assert!(slots.insert(3).is_ok());
        assert_eq!(slots.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [3, 2]);
        assert_eq!((slots.get(0).copied(), slots.get_mut(9)), (Some(3), None));
    }
}
