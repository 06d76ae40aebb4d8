//! What has arrived before its turn, and what is told about it.

use std::collections::VecDeque;

use demikernel_runtime::buffer::{Buffer, Sga};

use crate::wire::tcp::{SackBlock, SackBlocks, SequenceNumber};

/// Pieces that wait at most if they are small. Each may hold a whole frame's memory for one octet, so the window,
/// which limits octets, is not enough.
const PIECES: usize = 512;

/// What a piece has on average at least if there are more of them.
const PIECE: usize = 256;

/// Data behind a hole: pieces in order, none overlapping another.
#[derive(Default)]
pub(crate) struct Reassembly {
    pieces: VecDeque<Piece>,
    /// Octets in all pieces.
    octets: usize,
    /// Where the stream ends, if that has already come.
    fin: Option<SequenceNumber>,
    /// What is here, as blocks, the most recently changed one first. [rfc2018 4]
    blocks: SackBlocks,
    /// What came twice, to be told once, before the block that holds it. [rfc2883 4] [rfc2883 4.2]
    duplicate: Option<SackBlock>,
}

struct Piece {
    start: SequenceNumber,
    buffer: Buffer,
}

impl Piece {
    fn end(&self) -> SequenceNumber {
        self.start + self.buffer.len() as u32
    }
}

impl Reassembly {
    /// Keeps what is not yet here of data that begin at `start`, behind the hole. Whether there was room.
    pub(crate) fn insert(&mut self, start: SequenceNumber, buffer: Buffer) -> bool {
        let mut piece = Piece { start, buffer };
        let (start, end) = (start, piece.end());
        let at = self.pieces.partition_point(|other| other.start.is_at_or_before(start));
        if let Some(before) = at.checked_sub(1).map(|index| &self.pieces[index])
            && before.end().is_after(start)
        {
            let known = before.end().earliest(end);
            self.duplicate = Some(SackBlock { left: start, right: known });
            piece.buffer.advance((known - start) as usize);
            piece.start = known;
        }
        while let Some(after) = self.pieces.get(at)
            && after.start.is_before(piece.end())
        {
            let overlap = SackBlock { left: after.start, right: after.end().earliest(piece.end()) };
            self.duplicate.get_or_insert(overlap);
            if after.end().is_at_or_before(piece.end()) {
                self.octets -= after.buffer.len();
                self.pieces.remove(at);
            } else {
                piece.buffer.truncate((after.start - piece.start) as usize);
            }
        }
        if !piece.buffer.is_empty() {
            if self.pieces.len() >= PIECES && self.octets < self.pieces.len() * PIECE {
                return false;
            }
            self.octets += piece.buffer.len();
            self.pieces.insert(at, piece);
        }
        self.remember(SackBlock { left: start, right: end });
        true
    }

    /// The stream ends at `number`.
    pub(crate) fn end_at(&mut self, number: SequenceNumber) {
        self.fin.get_or_insert(number);
    }

    /// Moves what follows `next` without a hole to `queue`; returns the octets moved, and whether the end is reached.
    pub(crate) fn take(&mut self, next: SequenceNumber, queue: &mut Sga) -> (u32, bool) {
        let mut at = next;
        while let Some(first) = self.pieces.front()
            && first.start.is_at_or_before(at)
        {
            let Some(mut piece) = self.pieces.pop_front() else { break };
            self.octets -= piece.buffer.len();
            let known = (at - piece.start) as usize;
            if known < piece.buffer.len() {
                piece.buffer.advance(known);
                at += piece.buffer.len() as u32;
                queue.push(piece.buffer);
            }
        }
        let mut kept = SackBlocks::new();
        for block in self.blocks.iter().filter(|block| block.right.is_after(at)) {
            kept.push(*block);
        }
        self.blocks = kept;
        (at - next, self.fin == Some(at))
    }

    /// A duplicate of what was already delivered.
    pub(crate) fn note_duplicate(&mut self, left: SequenceNumber, right: SequenceNumber) {
        self.duplicate = Some(SackBlock { left, right });
    }

    /// What to tell the peer: the duplicate first and once, then the most recent blocks, as many as `room` lets.
    pub(crate) fn sack(&mut self, room: usize) -> SackBlocks {
        let mut told = SackBlocks::new();
        if let Some(duplicate) = self.duplicate.take() {
            told.push(duplicate);
        }
        self.blocks.iter().all(|block| told.push(*block));
        told.truncate(room);
        told
    }

    /// How many blocks there are to tell.
    pub(crate) fn told(&self) -> usize {
        self.blocks.len() + usize::from(self.duplicate.is_some())
    }

    /// Whether nothing waits, neither data nor something to tell.
    pub(crate) fn is_idle(&self) -> bool {
        self.pieces.is_empty() && self.fin.is_none() && self.duplicate.is_none()
    }

    /// Whether there is a hole.
    pub(crate) fn has_hole(&self) -> bool {
        !self.pieces.is_empty() || self.fin.is_some()
    }

    /// The block of all that `block` touches becomes the first one.
    fn remember(&mut self, block: SackBlock) {
        let mut whole = block;
        let mut others = SackBlocks::new();
        for other in self.blocks.iter() {
            if other.right.is_before(block.left) || other.left.is_after(block.right) {
                others.push(*other);
            } else {
                whole.left = whole.left.earliest(other.left);
                whole.right = whole.right.latest(other.right);
            }
        }
        // Blocks that had been forgotten, as there are at most four, are still there as pieces.
        let mut index = self.pieces.partition_point(|piece| piece.start.is_before(whole.left));
        while let Some(before) = index.checked_sub(1).map(|index| &self.pieces[index])
            && before.end() == whole.left
        {
            whole.left = before.start;
            index -= 1;
        }
        let mut index = self.pieces.partition_point(|piece| piece.start.is_before(whole.right));
        while let Some(after) = self.pieces.get(index)
            && after.start == whole.right
        {
            whole.right = after.end();
            index += 1;
        }
        let mut blocks = SackBlocks::new();
        blocks.push(whole);
        for other in others.iter() {
            if !(other.left.is_at_or_after(whole.left) && other.right.is_at_or_before(whole.right)) {
                blocks.push(*other);
            }
        }
        self.blocks = blocks;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(value: u32) -> SequenceNumber {
        SequenceNumber::new(value)
    }

    fn told(reassembly: &mut Reassembly) -> Vec<(u32, u32)> {
        reassembly.sack(4).iter().map(|block| (block.left.value(), block.right.value())).collect()
    }

    fn insert(reassembly: &mut Reassembly, start: u32, end: u32) -> Vec<(u32, u32)> {
        let bytes: Vec<u8> = (start..end).map(|value| value as u8).collect();
        assert!(reassembly.insert(number(start), bytes.into()));
        told(reassembly)
    }

    /// [rfc2018 4]: the block of the newest segment comes first, then the ones told most recently.
    #[test]
    fn the_newest_block_comes_first() {
        let mut reassembly = Reassembly::default();
        assert_eq!(insert(&mut reassembly, 20, 30), [(20, 30)]);
        assert_eq!(insert(&mut reassembly, 40, 50), [(40, 50), (20, 30)]);
        assert_eq!(insert(&mut reassembly, 60, 70), [(60, 70), (40, 50), (20, 30)]);
        assert_eq!(insert(&mut reassembly, 30, 40), [(20, 50), (60, 70)]);
        let mut queue = Sga::new();
        assert_eq!(reassembly.take(number(20), &mut queue), (30, false));
        assert_eq!(queue.to_vec(), (20..50).collect::<Vec<u8>>());
        assert_eq!(told(&mut reassembly), [(60, 70)]);
    }

    /// [rfc2883 4.1], [rfc2883 4.2]: a duplicate is told in the first block, once.
    #[test]
    fn a_duplicate_is_told_once() {
        let mut reassembly = Reassembly::default();
        insert(&mut reassembly, 20, 30);
        assert_eq!(insert(&mut reassembly, 25, 35), [(25, 30), (20, 35)]);
        assert_eq!(told(&mut reassembly), [(20, 35)]);
        reassembly.note_duplicate(number(5), number(10));
        assert_eq!(told(&mut reassembly), [(5, 10), (20, 35)]);
    }

    #[test]
    fn pieces_have_a_limit() {
        let mut reassembly = Reassembly::default();
        for index in 0..PIECES as u32 {
            assert!(reassembly.insert(number(2 * index + 10), vec![0].into()));
        }
        assert!(!reassembly.insert(number(5), vec![0].into()));
        // What fills a hole that is there needs no room of its own.
        assert!(reassembly.insert(number(10), vec![0; 3].into()) || reassembly.pieces.len() <= PIECES);
    }

    proptest! {
        /// Whatever comes in whatever order, what is taken is the stream.
        #[test]
        fn what_is_taken_is_the_stream(
            parts in prop::collection::vec((1u32..400, 1u32..60), 1..80),
            base in any::<u32>(),
        ) {
            let base = number(base);
            let byte = |offset: u32| (offset * 7 % 251) as u8;
            let mut reassembly = Reassembly::default();
            let mut have = [false; 512];
            for (start, length) in parts {
                let bytes: Vec<u8> = (start..start + length).map(byte).collect();
                prop_assert!(reassembly.insert(base + start, bytes.into()));
                have[start as usize..(start + length) as usize].fill(true);
                for block in reassembly.sack(4).iter() {
                    let (left, right) = ((block.left - base) as usize, (block.right - base) as usize);
                    prop_assert!(left < right && have[left..right].iter().all(|here| *here));
                }
            }
            have[0] = true;
            let first_hole = have.iter().position(|here| !here).unwrap_or(512) as u32;
            let mut queue = Sga::new();
            prop_assert_eq!(reassembly.take(base + 1, &mut queue), (first_hole - 1, false));
            prop_assert_eq!(queue.to_vec(), (1..first_hole).map(byte).collect::<Vec<u8>>());
        }
    }
}
