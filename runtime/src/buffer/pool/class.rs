//! Size classes.

use super::memory::BLOCK;

/// What kind of chunk it is, and for chunks of the pool how large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(in crate::buffer) enum Class {
    /// 256 bytes: headers, small requests and replies.
    B256,
    /// 2 KiB: an Ethernet frame.
    K2,
    /// 4 KiB: a page, the unit of direct I/O.
    K4,
    /// 16 KiB: a read from a busy stream.
    K16,
    /// 64 KiB: the largest datagram.
    K64,
    /// 1 MiB.
    M1,
    /// More than 1 MiB: has a region of its own.
    Large,
    /// Memory that came from elsewhere: `Bytes`, `Vec`, `'static`.
    Foreign,
    /// The one empty chunk of a pool, which is never freed.
    Empty,
}

impl Class {
    /// The classes that share regions, smallest first.
    pub(in crate::buffer) const SIZED: [Class; 6] =
        [Class::B256, Class::K2, Class::K4, Class::K16, Class::K64, Class::M1];

    /// Number of classes.
    pub(super) const COUNT: usize = Class::Empty as usize + 1;

    /// The largest size that shares regions.
    pub(super) const LARGEST: usize = Class::M1.size();

    /// The smallest class that holds `bytes`.
    #[inline]
    pub(super) const fn for_size(bytes: usize) -> Class {
        if bytes > Class::LARGEST {
            return Class::Large;
        }
        BY_BITS[(usize::BITS - bytes.saturating_sub(1).leading_zeros()) as usize]
    }

    /// Bytes in a chunk of this class; 0 for the classes that have no fixed size.
    #[inline]
    pub(super) const fn size(self) -> usize {
        match self {
            Class::B256 => 256,
            Class::K2 => 2 << 10,
            Class::K4 => 4 << 10,
            Class::K16 => 16 << 10,
            Class::K64 => 64 << 10,
            Class::M1 => 1 << 20,
            Class::Large | Class::Foreign | Class::Empty => 0,
        }
    }

    /// Blocks of a region that are carved into chunks of this class at once.
    pub(super) const fn blocks(self) -> u32 {
        (self.size().div_ceil(BLOCK)) as u32
    }

    /// The classes that share regions and are larger than this one.
    pub(super) fn larger(self) -> &'static [Class] {
        Class::SIZED.get(self as usize + 1..).unwrap_or(&[])
    }
}

/// The class for sizes whose predecessor has so many significant bits.
const BY_BITS: [Class; 21] = {
    let mut classes = [Class::M1; 21];
    let mut bits = 0;
    while bits < classes.len() {
        let mut class = 0;
        while Class::SIZED[class].size() < 1 << bits {
            class += 1;
        }
        classes[bits] = Class::SIZED[class];
        bits += 1;
    }
    classes
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_gets_the_smallest_class_that_holds_it() {
        let naive = |bytes| Class::SIZED.into_iter().find(|class| class.size() >= bytes);
        for class in Class::SIZED {
            for bytes in [class.size() - 1, class.size(), class.size() + 1] {
                assert_eq!(Class::for_size(bytes), naive(bytes).unwrap_or(Class::Large), "{bytes}");
            }
        }
        for bytes in (0..70_000).step_by(7) {
            assert_eq!(Some(Class::for_size(bytes)), naive(bytes), "{bytes}");
        }
        assert_eq!(Class::for_size(0), Class::B256);
        assert_eq!(Class::for_size(usize::MAX), Class::Large);
    }
}
