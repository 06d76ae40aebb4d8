//! The segments of a log, in order.

use super::format::{SegmentHeader, Superblock};
use std::collections::VecDeque;

/// A segment that a log has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    /// Which of the device's it is.
    pub(crate) number: u32,
    pub(crate) header: SegmentHeader,
    pub(crate) seed: u32,
}

impl Segment {
    pub(crate) fn new(number: u32, header: SegmentHeader, superblock: &Superblock) -> Segment {
        Segment { number, header, seed: header.seed(&superblock.uuid) }
    }
}

/// The place of the segment with this index; `Err` says where it would be.
pub(crate) fn by_index(segments: &VecDeque<Segment>, index: u64) -> Result<usize, usize> {
    segments.binary_search_by_key(&index, |segment| segment.header.index)
}

/// The place of the last segment whose first record is not behind this one.
pub(crate) fn by_number(segments: &VecDeque<Segment>, number: u64) -> Option<usize> {
    segments.partition_point(|segment| segment.header.first <= number).checked_sub(1)
}
