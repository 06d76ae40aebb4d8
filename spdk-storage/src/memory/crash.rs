//! What is left of writes that were not flushed.

use demikernel_runtime::random::Random;

/// How much of what was not flushed a loss of power takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// All of it.
    Everything,
    /// None: the device wrote it all in time, or only the process ended.
    Nothing,
    /// Some, as this seed says: writes that came later may be there and earlier ones not, and of one write any of its
    /// blocks. How much differs from seed to seed.
    Some(u64),
}

/// A volatile cache: the durable content, and what was written since the last flush, in order.
#[derive(Clone)]
pub(super) struct Unflushed {
    durable: Vec<u8>,
    writes: Vec<Write>,
    /// The data of all writes.
    data: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Write {
    at: usize,
    /// Where its data begins, and how much it is.
    start: usize,
    length: usize,
    /// It is there whatever is lost; what was written before it to the same place is not, afterwards.
    durable: bool,
}

impl Unflushed {
    pub(super) fn new(durable: Vec<u8>) -> Unflushed {
        Unflushed { durable, writes: Vec::new(), data: Vec::new() }
    }

    pub(super) fn durable(&self) -> &[u8] {
        &self.durable
    }

    /// How many writes may be lost.
    pub(super) fn len(&self) -> usize {
        self.writes.iter().filter(|write| !write.durable).count()
    }

    pub(super) fn write(&mut self, at: u64, data: &[u8], durable: bool) {
        self.writes.push(Write { at: at as usize, start: self.data.len(), length: data.len(), durable });
        self.data.extend_from_slice(data);
    }

    pub(super) fn flush(&mut self) {
        self.apply(|_, _| true);
    }

    pub(super) fn flip(&mut self, at: usize, bit: u32) {
        self.durable[at] ^= 1 << bit;
        for write in &self.writes {
            if (write.at..write.at + write.length).contains(&at) {
                self.data[write.start + at - write.at] ^= 1 << bit;
            }
        }
    }

    /// Leaves some of the writes, which are then durable.
    pub(super) fn crash(&mut self, loss: Loss, atomic: usize) {
        let seed = match loss {
            Loss::Everything => return self.apply(|_, _| false),
            Loss::Nothing => return self.flush(),
            Loss::Some(seed) => seed,
        };
        let mut random = Random::new(seed, 1);
        let count = self.writes.len() as u64;
        let blocks: usize = self.writes.iter().map(|write| write.length.div_ceil(atomic)).sum();
        match random.below(4) {
            // Any blocks of any writes.
            0 => self.split(atomic, |_, _| random.chance(0.5)),
            // Nearly all of them, or hardly any.
            1 => {
                let kept = if random.chance(0.5) { 0.9 } else { 0.1 };
                self.split(atomic, |_, _| random.chance(kept));
            }
            // Whole writes, in any order.
            2 => {
                let kept: Vec<bool> = (0..count).map(|_| random.chance(0.5)).collect();
                self.apply(|index, _| kept[index]);
            }
            // In order, up to a place within one of them.
            _ => {
                let mut left = random.below(blocks as u64 + 1);
                self.split(atomic, |_, _| {
                    let kept = left > 0;
                    left = left.saturating_sub(1);
                    kept
                });
            }
        }
    }

    /// Divides writes where they may be torn, and leaves some of the parts.
    fn split(&mut self, atomic: usize, kept: impl FnMut(usize, Write) -> bool) {
        let parts = self.writes.iter().flat_map(|write| {
            (0..write.length).step_by(atomic).map(|offset| Write {
                at: write.at + offset,
                start: write.start + offset,
                length: atomic.min(write.length - offset),
                ..*write
            })
        });
        self.writes = parts.collect();
        self.apply(kept);
    }

    fn apply(&mut self, mut kept: impl FnMut(usize, Write) -> bool) {
        for (index, write) in self.writes.iter().enumerate() {
            if kept(index, *write) || write.durable {
                let data = &self.data[write.start..][..write.length];
                self.durable[write.at..][..write.length].copy_from_slice(data);
            }
        }
        self.writes.clear();
        self.data.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_writes() -> Unflushed {
        let mut cache = Unflushed::new(vec![0; 32]);
        cache.write(0, &[1; 16], false);
        cache.write(8, &[2; 16], false);
        cache
    }

    #[test]
    fn what_was_flushed_stays() {
        let mut cache = two_writes();
        cache.flush();
        cache.crash(Loss::Everything, 8);
        assert_eq!(cache.durable()[..24], [[1; 8], [2; 8], [2; 8]].concat());
    }

    /// Every combination of the blocks of both writes is there for some seed, and nothing else.
    #[test]
    fn anything_may_be_left_of_the_rest() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..500 {
            let mut cache = two_writes();
            cache.crash(Loss::Some(seed), 8);
            let durable = cache.durable();
            assert!(durable.chunks(8).all(|block| block.iter().all(|byte| *byte == block[0])));
            seen.insert([durable[0], durable[8], durable[16]]);
        }
        assert_eq!(seen.len(), 2 * 3 * 2, "{seen:?}");
    }

    #[test]
    fn a_durable_write_stays_and_covers_what_was_there() {
        for seed in 0..500 {
            let mut cache = two_writes();
            cache.write(8, &[3; 8], true);
            assert_eq!(cache.len(), 2);
            cache.crash(Loss::Some(seed), 8);
            assert_eq!(cache.durable()[8..16], [3; 8]);
        }
        let mut cache = two_writes();
        cache.write(0, &[3; 8], true);
        cache.write(0, &[4; 8], false);
        cache.crash(Loss::Everything, 8);
        assert_eq!(cache.durable()[..16], [[3; 8], [0; 8]].concat());
    }

    #[test]
    fn bits_turn_over_in_cache_and_medium() {
        let mut cache = two_writes();
        cache.flip(0, 0);
        cache.flip(31, 7);
        cache.flush();
        assert_eq!((cache.durable()[0], cache.durable()[31]), (0, 128));
    }
}
