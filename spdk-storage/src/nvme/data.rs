//! Where the data of a command is: pages or descriptors for pieces of memory.
//!
//! Physical region pages are entries of one page each, of which only the first may begin within its page, and only the
//! last end there (NVM Express Base Specification 2.0, 4.1.1). Scatter-gather lists have descriptors of any length
//! (4.1.2). Both have one entry in the command itself and the rest in a list, in memory that the caller provides.

use super::command::Data;

/// Types of descriptors, in the highest byte.
const DATA_BLOCK: u64 = 0;
const LAST_SEGMENT: u64 = 3 << 60;

impl Data {
    /// Whether there is something in a list.
    #[inline]
    pub(super) fn refers_to(self, list: u64) -> bool {
        match self {
            Data::Pages(_, second) => second == list,
            Data::Descriptor(address, _) => address == list,
        }
    }
}

/// Memory as the device sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    pub(super) address: u64,
    pub(super) length: u32,
}

/// Room for a list, as the device and we see it. It is within one of the device's pages.
pub(super) struct List<'a> {
    pub(super) entries: &'a mut [u64],
    pub(super) address: u64,
}

/// How data may be described.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Format {
    /// The device's page, a power of two.
    pub(super) page: u32,
    /// Whether it has scatter-gather lists.
    pub(super) descriptors: bool,
}

impl Format {
    /// Whether pages can describe a segment behind another.
    #[inline]
    fn joins(self, before: Segment, next: Segment) -> bool {
        let page = u64::from(self.page);
        let end = before.address + u64::from(before.length);
        end == next.address || end.is_multiple_of(page) && next.address.is_multiple_of(page)
    }

    /// How many of these, from the first on, are one command's data, if a list has room for so many entries.
    ///
    /// What pages can describe is described so, as every device has them.
    pub(super) fn fitting(self, segments: &[Segment], room: usize) -> usize {
        let joined = 1 + segments.windows(2).take_while(|pair| self.joins(pair[0], pair[1])).count();
        let joined = joined.min(segments.len());
        if self.descriptors { joined.max(segments.len().min(room / 2)) } else { joined }
    }

    /// Describes a segment without a list, if two pages are enough.
    #[inline]
    pub(super) fn of_pages(self, segment: Segment) -> Option<Data> {
        let page = u64::from(self.page);
        let second = (segment.address | (page - 1)) + 1;
        let end = segment.address + u64::from(segment.length);
        match end {
            end if end <= second => Some(Data::Pages(segment.address, 0)),
            end if end <= second + page => Some(Data::Pages(segment.address, second)),
            _ => None,
        }
    }

    /// Describes all of these, of which there is one, and not more than [fit](Self::fitting).
    #[inline]
    pub(super) fn describe(self, segments: &[Segment], list: List<'_>) -> Data {
        if segments.windows(2).all(|pair| self.joins(pair[0], pair[1])) {
            return self.pages(segments, list);
        }
        debug_assert!(self.descriptors);
        for (segment, entry) in segments.iter().zip(list.entries.chunks_exact_mut(2)) {
            entry[0] = segment.address;
            entry[1] = DATA_BLOCK | u64::from(segment.length);
        }
        Data::Descriptor(list.address, LAST_SEGMENT | (16 * segments.len() as u64))
    }

    #[inline]
    fn pages(self, segments: &[Segment], list: List<'_>) -> Data {
        let first = segments[0].address;
        let mut count = 0;
        let mut next: Option<u64> = None;
        for segment in segments {
            let end = segment.address + u64::from(segment.length);
            // The rest of a page that an entry has already is not said again.
            let page = u64::from(self.page);
            let mut at = match next {
                None => first & !(page - 1),
                Some(end) if end == segment.address => end.next_multiple_of(page),
                Some(_) => segment.address,
            };
            if next.is_none() {
                at += page;
            }
            while at < end {
                list.entries[count] = at;
                count += 1;
                at += page;
            }
            next = Some(end);
        }
        match count {
            0 => Data::Pages(first, 0),
            1 => Data::Pages(first, list.entries[0]),
            _ => Data::Pages(first, list.address),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a description as a device does: what is where, for a transfer of so many bytes. `read` gives eight bytes
    /// of memory.
    pub(crate) fn walk(
        data: Data,
        length: u64,
        page: u64,
        mut read: impl FnMut(u64) -> u64,
    ) -> Vec<(u64, u64)> {
        match data {
            Data::Pages(first, second) => walk_pages(first, second, length, page, read),
            Data::Descriptor(address, rest) if rest & 0xf << 60 == DATA_BLOCK => {
                assert_eq!(rest & 0xffff_ffff, length);
                vec![(address, length)]
            }
            Data::Descriptor(address, rest) => {
                assert_eq!(rest & 0xffff_ffff_0000_000f, LAST_SEGMENT, "a last segment of whole descriptors");
                assert_eq!(address % 8, 0);
                let count = (rest & 0xffff_ffff) / 16;
                let mut found = Vec::new();
                for index in 0..count {
                    let (start, rest) = (read(address + 16 * index), read(address + 16 * index + 8));
                    assert_eq!(rest >> 32, DATA_BLOCK);
                    found.push((start, rest));
                }
                assert_eq!(found.iter().map(|part| part.1).sum::<u64>(), length);
                found
            }
        }
    }

    fn walk_pages(
        first: u64,
        second: u64,
        length: u64,
        page: u64,
        mut read: impl FnMut(u64) -> u64,
    ) -> Vec<(u64, u64)> {
        assert_eq!(first % 4, 0, "the first entry is aligned to double words");
        let mut found = vec![(first, length.min(page - first % page))];
        let mut left = length - found[0].1;
        if left == 0 {
            return found;
        }
        if left <= page {
            assert_eq!(second % page, 0, "an entry that is not the first has an offset");
            found.push((second, left));
            return found;
        }
        assert_eq!(second % 8, 0);
        let list_page = second / page;
        let mut place = second;
        while left > 0 {
            assert_eq!(place / page, list_page, "the list goes on in another page");
            let entry = read(place);
            assert_eq!(entry % page, 0, "an entry of the list has an offset");
            found.push((entry, left.min(page)));
            left -= left.min(page);
            place += 8;
        }
        found
    }

    /// The bytes of all these, in order, as ranges that do not touch.
    fn merged(parts: impl IntoIterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (start, length) in parts {
            match merged.last_mut() {
                Some(last) if last.0 + last.1 == start => last.1 += length,
                _ => merged.push((start, length)),
            }
        }
        merged
    }

    const LIST: u64 = 0x7000_0800;

    fn described(format: Format, segments: &[Segment]) -> (Data, Vec<(u64, u64)>) {
        let mut entries = vec![u64::MAX; 256];
        let data = format.describe(segments, List { entries: &mut entries, address: LIST });
        let length = segments.iter().map(|segment| u64::from(segment.length)).sum();
        let found = walk(data, length, u64::from(format.page), |place| entries[(place - LIST) as usize / 8]);
        (data, merged(found))
    }

    fn segments(parts: &[(u64, u32)]) -> Vec<Segment> {
        parts.iter().map(|&(address, length)| Segment { address, length }).collect()
    }

    #[test]
    fn two_pages_need_no_list() {
        let format = Format { page: 4096, descriptors: true };
        let cases: [(&[(u64, u32)], Data); 6] = [
            (&[(0x10_0000, 512)], Data::Pages(0x10_0000, 0)),
            (&[(0x10_0e00, 512)], Data::Pages(0x10_0e00, 0)),
            (&[(0x10_0e04, 512)], Data::Pages(0x10_0e04, 0x10_1000)),
            (&[(0x10_0000, 8192)], Data::Pages(0x10_0000, 0x10_1000)),
            (&[(0x10_0000, 4096), (0x20_0000, 512)], Data::Pages(0x10_0000, 0x20_0000)),
            (&[(0x10_0004, 8192)], Data::Pages(0x10_0004, LIST)),
        ];
        for (parts, data) in cases {
            if let [part] = segments(parts)[..] {
                assert_eq!(format.of_pages(part), Some(data).filter(|data| !data.refers_to(LIST)));
            }
            assert_eq!(described(format, &segments(parts)).0, data, "{parts:x?}");
        }
    }

    #[test]
    fn what_pages_cannot_describe_takes_descriptors_or_several_commands() {
        let parts = segments(&[(0x10_0000, 512), (0x20_0000, 512), (0x30_0e00, 512), (0x40_0000, 4096)]);
        let pages = Format { page: 4096, descriptors: false };
        let lists = Format { descriptors: true, ..pages };
        assert_eq!((pages.fitting(&parts, 256), lists.fitting(&parts, 256)), (1, 4));
        assert_eq!((pages.fitting(&parts[2..], 256), lists.fitting(&parts, 4)), (2, 2));
        assert_eq!(described(lists, &parts).0, Data::Descriptor(LIST, 3 << 60 | 64));
    }

    proptest! {
        #[test]
        fn the_device_finds_every_byte_in_order(
            start in 0u64..1024,
            parts in prop::collection::vec((0u64..64, 0u64..9, 1u32..40, any::<bool>()), 1..40),
            descriptors in any::<bool>(),
            shift in 0u32..3,
        ) {
            let format = Format { page: 4096 << shift, descriptors };
            let mut all: Vec<Segment> = Vec::new();
            for (index, (page, offset, blocks, joins)) in parts.into_iter().enumerate() {
                let end = all.last().map(|last| last.address + u64::from(last.length));
                let address = match end {
                    None => (1 << 30) + start * 4,
                    Some(end) if joins => end,
                    Some(_) => ((2 + index as u64) << 30) + (page << 16) + offset * 512,
                };
                all.push(Segment { address, length: blocks * 512 });
            }
            let mut rest = &all[..];
            while !rest.is_empty() {
                let count = format.fitting(rest, 256);
                prop_assert!((1..=rest.len()).contains(&count));
                let (_, found) = described(format, &rest[..count]);
                let meant = rest[..count].iter().map(|part| (part.address, u64::from(part.length)));
                prop_assert_eq!(found, merged(meant));
                rest = &rest[count..];
            }
        }
    }
}
