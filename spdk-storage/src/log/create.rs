//! Making a store on a device.

use super::error::LogError;
use super::format::{MOST_LOGS, SLOT, Superblock};
use crate::Geometry;

/// The segments of a store have so many bytes, unless the device is small or large.
const SEGMENT: u64 = 1 << 20;
const LARGEST_SEGMENT: u64 = 16 << 20;

/// How many segments a store has at least.
const FEWEST: u64 = 2;

/// How many segments a store has at most with segments of the usual sizes: each has a header to read when it is opened.
const MANY: u64 = 4096;

/// What is written to make a store.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) superblock: Superblock,
    /// Where zeros are needed, of a block's length each: headers of segments.
    pub(crate) headers: Vec<u64>,
}

impl Plan {
    /// For a device, with segments of this size or of one that suits.
    pub(crate) fn new(geometry: &Geometry, segment: Option<u32>, uuid: [u8; 16]) -> Result<Plan, LogError> {
        let block = geometry.logical_block.max(geometry.optimal.min(4096)).clamp(512, SLOT as u32);
        if geometry.logical_block > block {
            return Err(LogError::BlockSize { log: block, device: geometry.logical_block });
        }
        let room = geometry.capacity.saturating_sub(Superblock::segments_at(block));
        let usual = || {
            let many = (room / MANY).next_power_of_two().clamp(SEGMENT, LARGEST_SEGMENT);
            // A small device has at least some segments to take turns.
            many.min((room / 16).next_power_of_two() / 2).max(2 * u64::from(block))
        };
        let segment = segment.map_or_else(usual, u64::from).next_multiple_of(u64::from(block));
        let segment = segment.clamp(2 * u64::from(block), 1 << 30);
        let segments = (room / segment).min(u64::from(u32::MAX - 1));
        if segments < FEWEST {
            let needed = Superblock::segments_at(block) + FEWEST * segment;
            return Err(LogError::TooSmall { segment, needed, device: geometry.capacity });
        }
        let superblock = Superblock {
            block,
            segment_size: segment as u32,
            segments: segments as u32,
            uuid,
            generation: 1,
            epoch: 1,
            next_log: 1,
            clean: true,
            logs: Vec::with_capacity(MOST_LOGS),
        };
        let headers = (0..segments as u32).map(|number| superblock.place(number)).collect();
        Ok(Plan { superblock, headers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_suit_the_device() {
        let plan =
            |capacity| Plan::new(&Geometry::new(512, capacity), None, [0; 16]).map(|plan| plan.superblock);
        for (capacity, size, count) in
            [(1 << 20, 1 << 15, 31), (64 << 20, 1 << 20, 63), (1 << 40, 16 << 20, 65535)]
        {
            let superblock = plan(capacity).unwrap();
            assert_eq!((superblock.segment_size, superblock.segments), (size, count), "{capacity}");
            assert!(superblock.size() <= capacity);
        }
        assert!(matches!(plan(32 << 10), Err(LogError::TooSmall { .. })));
        assert!(matches!(plan(0), Err(LogError::TooSmall { .. })));
    }
}
