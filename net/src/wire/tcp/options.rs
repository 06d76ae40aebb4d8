//! TCP options (RFC 9293 section 3.1 and 3.2; RFC 7323, 2018, 5482).

use super::SequenceNumber;
use std::ops::Deref;

/// The options of a segment that the stack knows. Others are skipped (RFC 9293, MUST-6).
///
/// ```
/// use demikernel_net::wire::tcp::{Options, Timestamps};
///
/// let timestamps = Some(Timestamps { value: 1, echo: 2 });
/// assert_eq!(Options::default().sack_room(), 4);
/// assert_eq!(Options { timestamps, ..Options::default() }.sack_room(), 3, "beside ten bytes of stamps");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Maximum segment size (kind 2).
    pub maximum_segment_size: Option<u16>,
    /// Window scale (kind 3); 14 at most, whatever was received (RFC 7323 section 2.3).
    pub window_scale: Option<u8>,
    /// Selective acknowledgment permitted (kind 4).
    pub sack_permitted: bool,
    /// Timestamps (kind 8).
    pub timestamps: Option<Timestamps>,
    /// Selective acknowledgment (kind 5).
    pub sack: SackBlocks,
    /// User timeout (kind 28, RFC 5482): the field with its granularity bit.
    pub user_timeout: Option<u16>,
}

/// TSval and TSecr (RFC 7323 section 3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub value: u32,
    /// TSecr: the peer's clock, as it was last received; significant with ACK.
    pub echo: u32,
}

/// Octets that have arrived out of order: from `left` up to, and without, `right`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SackBlock {
    /// The first octet.
    pub left: SequenceNumber,
    /// The one behind the last.
    pub right: SequenceNumber,
}

/// At most four blocks: no more fit in a header (RFC 2018 section 3).
///
/// ```
/// use demikernel_net::wire::tcp::{SackBlock, SackBlocks, SequenceNumber};
///
/// let mut blocks = SackBlocks::new();
/// for start in [1000, 3000, 5000, 7000] {
///     let left = SequenceNumber::new(start);
///     assert!(blocks.push(SackBlock { left, right: left + 500 }));
/// }
/// assert!(!blocks.push(SackBlock::default()), "a header has no room for a fifth");
/// assert_eq!(blocks.iter().map(|block| block.right - block.left).sum::<u32>(), 2000);
/// ```
#[derive(Clone, Copy, Default)]
pub struct SackBlocks {
    count: u8,
    blocks: [SackBlock; 4],
}

impl SackBlocks {
    /// The most that fit beside nothing else.
    pub const MOST: usize = 4;

    /// No blocks.
    pub const fn new() -> SackBlocks {
        const NONE: SackBlock = SackBlock { left: SequenceNumber::new(0), right: SequenceNumber::new(0) };
        SackBlocks { count: 0, blocks: [NONE; 4] }
    }

    /// Adds a block; whether there was room for it.
    #[inline]
    pub fn push(&mut self, block: SackBlock) -> bool {
        let Some(free) = self.blocks.get_mut(usize::from(self.count)) else { return false };
        *free = block;
        self.count += 1;
        true
    }

    /// Keeps the first `count` only.
    pub fn truncate(&mut self, count: usize) {
        self.count = self.count.min(count as u8);
    }
}

impl Deref for SackBlocks {
    type Target = [SackBlock];

    #[inline]
    fn deref(&self) -> &[SackBlock] {
        &self.blocks[..usize::from(self.count)]
    }
}

impl PartialEq for SackBlocks {
    fn eq(&self, other: &SackBlocks) -> bool {
        **self == **other
    }
}

impl Eq for SackBlocks {}

impl std::fmt::Debug for SackBlocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
