//! What is on the medium, as bytes and as values. FORMAT.md specifies it; names here are those there.
//!
//! All numbers are little-endian. Nothing that is read is believed before its checksum has been verified, and sums of
//! numbers that were read cannot overflow: all of them are checked against what the device has.

use crate::Geometry;

/// The version that is written, and the newest that is read.
pub(crate) const VERSION: u32 = 1;

/// Bytes that each of the two superblocks has, at the beginning of the device.
pub(crate) const SLOT: usize = 16 << 10;

/// The fixed part of a superblock, and each of its entries.
const FIXED: usize = 128;
const ENTRY: usize = 128;

/// How many logs a device has at most.
pub(crate) const MOST_LOGS: usize = (SLOT - FIXED) / ENTRY;

/// How long names of logs are at most, in bytes.
pub(crate) const LONGEST_NAME: usize = 80;

/// Bytes of the header of a segment; the rest of its block is zeros.
pub(crate) const SEGMENT_HEADER: usize = 96;

/// Bytes of the header of a record.
pub(crate) const RECORD_HEADER: usize = 32;

/// Records begin at multiples of it.
const ALIGNMENT: usize = 8;

/// Above what is written in a thousand years: numbers that were read can be added to.
pub(crate) const LIMIT: u64 = 1 << 62;

/// Likewise for indices of segments: positions are products of them.
const INDICES: u64 = 1 << 32;

/// Likewise for epochs.
const EPOCHS: u32 = 1 << 31;

const SUPERBLOCK_MAGIC: [u8; 8] = *b"DKLOGSB\n";
const SEGMENT_MAGIC: [u8; 8] = *b"DKLOGSG\n";

/// What two superblocks say of the whole device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Superblock {
    /// Bytes of a block: what writes are multiples of.
    pub(crate) block: u32,
    pub(crate) segment_size: u32,
    pub(crate) segments: u32,
    /// What tells this store from others that the device had before.
    pub(crate) uuid: [u8; 16],
    /// How often superblocks were written: the higher one counts.
    pub(crate) generation: u64,
    /// How often the store was opened for writing.
    pub(crate) epoch: u32,
    /// The identity that the next log gets. None is used twice.
    pub(crate) next_log: u64,
    /// Everything had been written when this was, and nothing has been since.
    pub(crate) clean: bool,
    pub(crate) logs: Vec<Entry>,
}

/// What a superblock says of one log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) name: String,
    /// The first record that has not been truncated.
    pub(crate) head: u64,
    /// The index of the first segment that has not been.
    pub(crate) first: u64,
    /// Up to where the log was durable when this was written.
    pub(crate) proven: Proven,
}

/// A place up to which everything is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Proven {
    /// The index of a segment.
    pub(crate) index: u64,
    /// The end in that segment; 0 if it may not have been begun.
    pub(crate) offset: u32,
    /// The number of the record that comes next.
    pub(crate) number: u64,
}

/// Why bytes are no superblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoSuperblock {
    /// Only zeros.
    Blank,
    /// Something else.
    Foreign,
    /// One of a version that is not known here.
    Newer(u32),
    /// One that has been altered, or not been written wholly.
    Damaged,
}

impl Superblock {
    /// Where the first segment begins.
    pub(crate) fn segments_at(block: u32) -> u64 {
        (2 * SLOT as u64).next_multiple_of(u64::from(block))
    }

    /// Where on the device a segment begins.
    pub(crate) fn place(&self, segment: u32) -> u64 {
        Self::segments_at(self.block) + u64::from(segment) * u64::from(self.segment_size)
    }

    /// Where on the device a superblock is: the first or the second.
    pub(crate) fn slot(second: bool) -> u64 {
        if second { SLOT as u64 } else { 0 }
    }

    /// The bytes of a superblock, as many whole blocks as it needs.
    pub(crate) fn encode(&self) -> Vec<u8> {
        debug_assert!(self.logs.len() <= MOST_LOGS);
        let length = FIXED + ENTRY * self.logs.len();
        let mut bytes = Writer(Vec::with_capacity(SLOT));
        bytes.put(&SUPERBLOCK_MAGIC);
        bytes.u32(VERSION);
        bytes.u32(self.block);
        bytes.u32(0);
        bytes.u32(length as u32);
        bytes.put(&self.uuid);
        bytes.u64(self.generation);
        bytes.u32(self.epoch);
        bytes.u32(self.segment_size);
        bytes.u32(self.segments);
        bytes.u32(self.logs.len() as u32);
        bytes.u64(self.next_log);
        bytes.u32(u32::from(self.clean));
        bytes.pad(FIXED);
        for (index, entry) in self.logs.iter().enumerate() {
            bytes.u64(entry.id);
            bytes.u64(entry.head);
            bytes.u64(entry.first);
            bytes.u64(entry.proven.index);
            bytes.u32(entry.proven.offset);
            bytes.u32(entry.name.len() as u32);
            bytes.u64(entry.proven.number);
            bytes.put(entry.name.as_bytes());
            bytes.pad(FIXED + ENTRY * (index + 1));
        }
        let mut bytes = bytes.0;
        let sum = Self::sum(&bytes);
        bytes[16..20].copy_from_slice(&sum.to_le_bytes());
        bytes.resize(length.next_multiple_of(self.block as usize).min(SLOT), 0);
        bytes
    }

    fn sum(bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&bytes[..16]), &bytes[20..])
    }

    /// Reads a superblock: `bytes` is a whole slot.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Superblock, NoSuperblock> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(NoSuperblock::Blank);
        }
        if !bytes.starts_with(&SUPERBLOCK_MAGIC) || bytes.len() < SLOT {
            return Err(NoSuperblock::Foreign);
        }
        let length = u32_at(bytes, 20) as usize;
        let intact = (FIXED..=SLOT).contains(&length) && Self::sum(&bytes[..length]) == u32_at(bytes, 16);
        if !intact {
            return Err(NoSuperblock::Damaged);
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(NoSuperblock::Newer(version));
        }
        Self::decode_intact(&bytes[..length]).ok_or(NoSuperblock::Damaged)
    }

    fn decode_intact(bytes: &[u8]) -> Option<Superblock> {
        let count = u32_at(bytes, 60) as usize;
        if bytes.len() != FIXED + ENTRY * count {
            return None;
        }
        let entries = bytes[FIXED..].chunks(ENTRY).map(|entry| {
            let length = u32_at(entry, 36) as usize;
            let name = entry[48..].get(..length).and_then(|name| std::str::from_utf8(name).ok())?;
            let offset = u32_at(entry, 32);
            let proven = Proven { index: u64_at(entry, 24), offset, number: u64_at(entry, 40) };
            let (id, head, first) = (u64_at(entry, 0), u64_at(entry, 8), u64_at(entry, 16));
            Some(Entry { id, name: name.to_owned(), head, first, proven })
        });
        let superblock = Superblock {
            block: u32_at(bytes, 12),
            segment_size: u32_at(bytes, 52),
            segments: u32_at(bytes, 56),
            uuid: bytes[24..40].try_into().ok()?,
            generation: u64_at(bytes, 40),
            epoch: u32_at(bytes, 48),
            next_log: u64_at(bytes, 64),
            clean: u32_at(bytes, 72) & 1 == 1,
            logs: entries.collect::<Option<_>>()?,
        };
        let numbers = superblock.logs.iter().all(|entry| {
            let Entry { id, head, first, proven, .. } = entry;
            let Proven { index, offset, number } = proven;
            *offset <= superblock.segment_size
                && [id, head, number].iter().all(|number| **number < LIMIT)
                && [first, index].iter().all(|index| **index < INDICES)
        });
        let numbers = numbers
            && superblock.generation < LIMIT
            && superblock.next_log < LIMIT
            && superblock.epoch < EPOCHS;
        let block = superblock.block;
        let sizes = (512..=SLOT as u32).contains(&block)
            && block.is_power_of_two()
            && superblock.segment_size.is_multiple_of(block)
            && superblock.segment_size >= 2 * block;
        (sizes && numbers).then_some(superblock)
    }

    /// How large a device has to be for it.
    pub(crate) fn size(&self) -> u64 {
        self.place(self.segments)
    }

    /// Whether the device has blocks that are as large or smaller.
    pub(crate) fn suits(&self, geometry: &Geometry) -> bool {
        self.block >= geometry.logical_block
    }
}

/// The header of a segment: whose it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    pub(crate) log: u64,
    /// Which of the log's segments it is.
    pub(crate) index: u64,
    /// A number that no other use of a segment has, save one whose header was lost.
    pub(crate) serial: u64,
    /// The number of its first record.
    pub(crate) first: u64,
    /// The epoch in which it was begun: records of earlier ones are not of this use.
    pub(crate) epoch: u32,
}

/// Why bytes are no header of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoSegment {
    /// Never used.
    Blank,
    /// Used by another store that the device had before.
    Former,
    /// Altered: headers are smaller than what a loss of power can tear.
    Damaged,
}

impl SegmentHeader {
    pub(crate) fn encode(&self, uuid: &[u8; 16]) -> [u8; SEGMENT_HEADER] {
        let mut bytes = Writer(Vec::with_capacity(SEGMENT_HEADER));
        bytes.put(&SEGMENT_MAGIC);
        bytes.u32(0);
        bytes.u32(self.epoch);
        bytes.put(uuid);
        bytes.u64(self.log);
        bytes.u64(self.index);
        bytes.u64(self.serial);
        bytes.u64(self.first);
        bytes.pad(SEGMENT_HEADER);
        let sum = crc32c::crc32c(&bytes.0[12..]);
        bytes.0[8..12].copy_from_slice(&sum.to_le_bytes());
        bytes.0.try_into().expect("padded to this length")
    }

    /// Reads a header: `bytes` is the first block of a segment.
    pub(crate) fn decode(bytes: &[u8], uuid: &[u8; 16]) -> Result<SegmentHeader, NoSegment> {
        let header = &bytes[..SEGMENT_HEADER];
        if header.iter().all(|byte| *byte == 0) {
            return Err(NoSegment::Blank);
        }
        if !header.starts_with(&SEGMENT_MAGIC) || crc32c::crc32c(&header[12..]) != u32_at(header, 8) {
            return Err(NoSegment::Damaged);
        }
        if header[16..32] != *uuid {
            return Err(NoSegment::Former);
        }
        let header = SegmentHeader {
            log: u64_at(header, 32),
            index: u64_at(header, 40),
            serial: u64_at(header, 48),
            first: u64_at(header, 56),
            epoch: u32_at(header, 12),
        };
        let SegmentHeader { log, index, serial, first, .. } = header;
        let sane = index < INDICES && [log, serial, first].iter().all(|number| *number < LIMIT);
        if sane && header.epoch < EPOCHS { Ok(header) } else { Err(NoSegment::Damaged) }
    }

    /// With what the checksums of its records begin: records of other segments, or of other uses of this one, have the
    /// wrong sum.
    pub(crate) fn seed(&self, uuid: &[u8; 16]) -> u32 {
        let sum = crc32c::crc32c(uuid);
        let sum = crc32c::crc32c_append(sum, &self.log.to_le_bytes());
        crc32c::crc32c_append(sum, &self.serial.to_le_bytes())
    }
}

/// The header of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RecordHeader {
    /// Bytes of the record itself.
    pub(crate) length: u32,
    pub(crate) number: u64,
    /// The epoch in which it was written.
    pub(crate) epoch: u32,
    /// Up to where the segment was durable when it was written.
    pub(crate) durable: u32,
}

impl RecordHeader {
    /// Bytes from the beginning of the record to that of the next.
    pub(crate) fn extent(&self) -> usize {
        record_extent(self.length as usize)
    }

    /// The header of a record that consists of these pieces.
    pub(crate) fn encode<'a>(
        &self,
        seed: u32,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> [u8; RECORD_HEADER] {
        let mut bytes = [0; RECORD_HEADER];
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.durable.to_le_bytes());
        let sum = crc32c::crc32c_append(seed, &bytes[4..24]);
        bytes[24..28].copy_from_slice(&sum.to_le_bytes());
        let sum = crc32c::crc32c_append(seed, &bytes[4..]);
        let sum = pieces.fold(sum, crc32c::crc32c_append);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The header at the beginning of `bytes`, if it is one. It has a checksum of its own, so that data which looks like
    /// headers costs a search no checksums of what would follow: nobody who gives data knows the seed.
    pub(crate) fn read(bytes: &[u8], seed: u32) -> Option<RecordHeader> {
        let header = RecordHeader::unverified(bytes)?;
        (crc32c::crc32c_append(seed, &bytes[4..24]) == u32_at(bytes, 24)).then_some(header)
    }

    /// What is a header if the record that it tells of [is intact](Self::verify).
    #[inline]
    pub(crate) fn unverified(bytes: &[u8]) -> Option<RecordHeader> {
        let bytes = bytes.get(..RECORD_HEADER)?;
        let header = RecordHeader {
            length: u32_at(bytes, 4),
            number: u64_at(bytes, 8),
            epoch: u32_at(bytes, 16),
            durable: u32_at(bytes, 20),
        };
        // What was never written has the epoch 0.
        (header.epoch > 0 && header.number < LIMIT).then_some(header)
    }

    /// Whether the record at the beginning of `bytes`, whose header this is, is wholly there and unaltered.
    #[inline]
    pub(crate) fn verify(&self, bytes: &[u8], seed: u32) -> bool {
        let end = RECORD_HEADER.checked_add(self.length as usize);
        let record = end.and_then(|end| bytes.get(4..end));
        record.is_some_and(|record| crc32c::crc32c_append(seed, record) == u32_at(bytes, 0))
    }
}

/// Bytes that a record of this length takes.
pub(crate) fn record_extent(length: usize) -> usize {
    (RECORD_HEADER + length).next_multiple_of(ALIGNMENT)
}

/// The first record at or behind `from` that is unaltered, is one of `numbers`, and was not written before `epoch`.
pub(crate) fn find_record(
    segment: &[u8],
    from: usize,
    seed: u32,
    numbers: std::ops::Range<u64>,
    epoch: u32,
) -> Option<(usize, RecordHeader)> {
    (from..segment.len()).step_by(ALIGNMENT).find_map(|at| {
        let header = RecordHeader::read(&segment[at..], seed)?;
        let fits = numbers.contains(&header.number) && header.epoch >= epoch;
        (fits && header.verify(&segment[at..], seed)).then_some((at, header))
    })
}

struct Writer(Vec<u8>);

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    fn pad(&mut self, length: usize) {
        debug_assert!(self.0.len() <= length);
        self.0.resize(length, 0);
    }
}

/// # Panics
/// If there are no four bytes: callers know how long their slices are.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes: [u8; 4] = bytes[at..at + 4].try_into().expect("four bytes");
    u32::from_le_bytes(bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let bytes: [u8; 8] = bytes[at..at + 8].try_into().expect("eight bytes");
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock() -> Superblock {
        let entry = |id: u64| Entry {
            id,
            name: format!("log {id}"),
            head: 7,
            first: 3,
            proven: Proven { index: 5, offset: 4096, number: 99 },
        };
        Superblock {
            block: 512,
            segment_size: 1 << 16,
            segments: 100,
            uuid: *b"0123456789abcdef",
            generation: 12,
            epoch: 3,
            next_log: 4,
            clean: true,
            logs: (0..3).map(entry).collect(),
        }
    }

    fn slot(superblock: &Superblock) -> Vec<u8> {
        let mut bytes = superblock.encode();
        bytes.resize(SLOT, 0);
        bytes
    }

    #[test]
    fn superblocks_come_back() {
        let mut full = superblock();
        assert_eq!(full.encode().len(), 512);
        assert_eq!(Superblock::decode(&slot(&full)), Ok(full.clone()));
        full.logs = (0..MOST_LOGS as u64)
            .map(|id| Entry { id, name: "n".repeat(80), ..full.logs[0].clone() })
            .collect();
        assert_eq!(Superblock::decode(&slot(&full)), Ok(full));
    }

    #[test]
    fn every_bit_of_a_superblock_counts() {
        let bytes = slot(&superblock());
        for at in 0..FIXED + 3 * ENTRY {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(Superblock::decode(&flipped).is_err(), "byte {at} bit {bit}");
            }
        }
        assert_eq!(Superblock::decode(&[0; SLOT]), Err(NoSuperblock::Blank));
        assert_eq!(Superblock::decode(&[1; SLOT]), Err(NoSuperblock::Foreign));
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut bytes = slot(&superblock());
        bytes[8] = 2;
        assert_eq!(Superblock::decode(&bytes), Err(NoSuperblock::Damaged));
        let sum = Superblock::sum(&bytes[..FIXED + 3 * ENTRY]);
        bytes[16..20].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(Superblock::decode(&bytes), Err(NoSuperblock::Newer(2)));
    }

    #[test]
    fn headers_of_segments_come_back_and_every_bit_counts() {
        let header = SegmentHeader { log: 1, index: 2, serial: 3, first: 4, epoch: 5 };
        let bytes = header.encode(b"0123456789abcdef");
        assert_eq!(SegmentHeader::decode(&bytes, b"0123456789abcdef"), Ok(header));
        assert_eq!(SegmentHeader::decode(&bytes, b"another store's."), Err(NoSegment::Former));
        for at in 0..SEGMENT_HEADER * 8 {
            let mut flipped = bytes;
            flipped[at / 8] ^= 1 << (at % 8);
            assert_eq!(SegmentHeader::decode(&flipped, b"0123456789abcdef"), Err(NoSegment::Damaged), "{at}");
        }
    }

    #[test]
    fn every_bit_of_a_record_counts_and_so_does_where_it_is() {
        let header = RecordHeader { length: 5, number: 8, epoch: 1, durable: 512 };
        let mut bytes = header.encode(77, [b"he".as_slice(), b"llo"].into_iter()).to_vec();
        bytes.extend_from_slice(b"hello\0\0\0");
        assert_eq!((bytes.len(), header.extent()), (40, 40));
        assert_eq!(RecordHeader::read(&bytes, 77), Some(header));
        assert_eq!(RecordHeader::read(&bytes, 78), None);
        assert!(header.verify(&bytes, 77) && !header.verify(&bytes, 78) && !header.verify(&bytes[..36], 77));
        for bit in 0..37 * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let read = RecordHeader::read(&flipped, 77);
            assert!(read.is_none_or(|read| !read.verify(&flipped, 77)), "{bit}");
        }
        assert_eq!(find_record(&[vec![0; 16], bytes.clone()].concat(), 0, 77, 8..9, 1), Some((16, header)));
        for (numbers, epoch) in [(9..100, 1), (0..8, 1), (0..100, 2)] {
            assert_eq!(find_record(&bytes, 0, 77, numbers, epoch), None);
        }
    }
}
