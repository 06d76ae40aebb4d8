//! What there is to know of a block device.

use std::io;

/// What a block device is like. All sizes are in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// What positions and lengths are multiples of: a power of two.
    pub logical_block: u32,
    /// What operations are best multiples of: a power of two, and of the logical block.
    pub optimal: u32,
    /// How much it holds: a multiple of the logical block.
    pub capacity: u64,
    /// A write of so much, at a multiple of it, is there wholly or not at all after a loss of power. At least the
    /// logical block.
    pub atomic_write: u32,
    /// Writes that are done may be lost with the power until a flush is done.
    pub volatile_cache: bool,
    /// A single write can be made durable by itself, in one operation.
    pub durable_writes: bool,
    /// Addresses of memory are multiples of it, or the data goes through memory of the queue's. A power of two.
    pub memory_alignment: u32,
    /// What does not read is refused.
    pub read_only: bool,
}

impl Geometry {
    /// A device with blocks of one size, and nothing special.
    pub fn new(block: u32, capacity: u64) -> Geometry {
        Geometry {
            logical_block: block,
            optimal: block.max(4096),
            capacity: capacity - capacity % u64::from(block),
            atomic_write: block,
            volatile_cache: true,
            durable_writes: false,
            memory_alignment: 1,
            read_only: false,
        }
    }

    /// Whether the numbers fit together. A driver that breaks this is at fault.
    pub(crate) fn is_valid(&self) -> bool {
        let powers = [self.logical_block, self.optimal, self.memory_alignment];
        powers.iter().all(|size| size.is_power_of_two())
            && self.optimal >= self.logical_block
            && self.atomic_write >= self.logical_block
            && self.capacity.is_multiple_of(u64::from(self.logical_block))
    }

    /// Whether a range may be read or written.
    #[inline]
    pub(crate) fn check(&self, at: u64, length: u64) -> io::Result<()> {
        // A power of two: divisions would take longer than all the rest of an operation's start.
        let within = u64::from(self.logical_block) - 1;
        if (at | length) & within == 0 && at.checked_add(length).is_some_and(|end| end <= self.capacity) {
            return Ok(());
        }
        Err(self.refusal(at, length))
    }

    #[cold]
    fn refusal(&self, at: u64, length: u64) -> io::Error {
        let (block, capacity) = (u64::from(self.logical_block), self.capacity);
        let text = match at.is_multiple_of(block) && length.is_multiple_of(block) {
            true => format!("{length} bytes at {at} end behind the device, which has {capacity}"),
            false => {
                format!("{length} bytes at {at} are not whole blocks: the device has blocks of {block} bytes")
            }
        };
        io::Error::new(io::ErrorKind::InvalidInput, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_whole_blocks_within_the_device() {
        let geometry = Geometry::new(512, 4096 + 100);
        assert!(geometry.is_valid());
        assert_eq!(geometry.capacity, 4096);
        geometry.check(0, 4096).unwrap();
        geometry.check(4096, 0).unwrap();
        for (at, length) in [(1, 512), (512, 100), (512, 4096), (u64::MAX - 511, 512), (4608, 0)] {
            let error = geometry.check(at, length).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{at} {length}");
        }
    }
}
