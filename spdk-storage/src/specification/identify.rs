//! What a controller and its namespaces say of themselves.
//!
//! Places of fields are those of the NVM Express Base Specification 2.0, section 5.17.2, and of the NVM Command Set
//! Specification 1.0, section 4.1.5. Whatever a device writes there, nothing here panics.

use crate::Geometry;
use std::io;

/// Bytes of an answer.
pub(crate) const LENGTH: usize = 4096;

/// What is asked for.
pub(crate) const NAMESPACE: u8 = 0x00;
pub(crate) const CONTROLLER: u8 = 0x01;
pub(crate) const ACTIVE_NAMESPACES: u8 = 0x02;

/// An answer.
pub(crate) type Answer = [u8; LENGTH];

/// What there is to know of a controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ControllerData {
    pub(crate) model: String,
    pub(crate) serial: String,
    pub(crate) firmware: String,
    /// Bytes that a command moves at most, if there is a limit.
    pub(crate) largest_transfer: Option<u64>,
    /// How many commands may be being aborted.
    pub(crate) aborts: usize,
    /// How many requests for events may be outstanding.
    pub(crate) event_requests: usize,
    /// Events that can be switched on, apart from critical warnings.
    pub(crate) events: u32,
    pub(crate) dataset_management: bool,
    pub(crate) write_zeroes: bool,
    pub(crate) volatile_cache: bool,
    /// Blocks that are written wholly or not at all when power fails.
    pub(crate) atomic_write: u32,
    /// Whether data may be in scatter-gather lists.
    pub(crate) descriptors: bool,
    /// Milliseconds that it needs to end, if it says so.
    pub(crate) end: u32,
}

/// What there is to know of a namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NamespaceData {
    pub(crate) number: u32,
    /// In blocks.
    pub(crate) size: u64,
    /// In bytes, a power of two.
    pub(crate) block: u32,
    /// In blocks.
    pub(crate) atomic_write: u32,
    /// In blocks, if it says so.
    pub(crate) optimal: Option<u32>,
    pub(crate) read_only: bool,
    /// Write Zeroes may deallocate, and what is deallocated then reads as zeros.
    pub(crate) deallocates_to_zeros: bool,
}

impl ControllerData {
    pub(crate) fn parse(answer: &Answer, page: u32) -> ControllerData {
        let optional = u16_at(answer, 520);
        let doublings = answer[77];
        let limit = u64::from(page).checked_shl(u32::from(doublings)).filter(|limit| *limit > 0);
        ControllerData {
            serial: text(&answer[4..24]),
            model: text(&answer[24..64]),
            firmware: text(&answer[64..72]),
            largest_transfer: limit.filter(|_| doublings != 0),
            aborts: usize::from(answer[258]) + 1,
            event_requests: usize::from(answer[259]) + 1,
            events: u32_at(answer, 92),
            dataset_management: optional >> 2 & 1 == 1,
            write_zeroes: optional >> 3 & 1 == 1,
            volatile_cache: answer[525] & 1 == 1,
            atomic_write: u32::from(u16_at(answer, 528)) + 1,
            // With or without an alignment to double words: ours always are.
            descriptors: matches!(u32_at(answer, 536) & 3, 1 | 2),
            end: u32_at(answer, 88) / 1000,
        }
    }
}

/// The numbers of the active namespaces.
pub(crate) fn parse_namespaces(answer: &Answer) -> Vec<u32> {
    let numbers = answer.chunks_exact(4).map(|number| u32_at(number, 0));
    numbers.take_while(|number| *number != 0).collect()
}

impl NamespaceData {
    /// # Errors
    /// If it is not there, or has a format that is not blocks of plain data.
    pub(crate) fn parse(
        answer: &Answer,
        number: u32,
        controller: &ControllerData,
    ) -> io::Result<NamespaceData> {
        let unusable = |text: String| io::Error::new(io::ErrorKind::Unsupported, text);
        let (size, features, formatted) = (u64_at(answer, 0), answer[24], answer[26]);
        if size == 0 {
            let text = format!("the controller has no active namespace {number}");
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        if size > 1 << 46 {
            return Err(unusable(format!("namespace {number} says that it has {size} blocks")));
        }
        let format = usize::from(formatted & 0xf | formatted >> 5 << 4 & 0x30);
        let format = &answer[128 + 4 * format..][..4];
        let metadata = u16_at(format, 0);
        if metadata != 0 {
            return Err(unusable(format!(
                "namespace {number} has {metadata} bytes of metadata to each block, which is not supported: `nvme \
                 format --lbaf` gives it, and erases it, another format of those that `nvme id-ns -H` lists"
            )));
        }
        // Blocks of a page of memory at most are what everybody has.
        let block = match format[2] {
            shift @ 9..=16 => 1 << shift,
            shift => return Err(unusable(format!("namespace {number} has blocks of 2^{shift} bytes"))),
        };
        let atomic = match features >> 1 & 1 {
            1 => u32::from(u16_at(answer, 36)) + 1,
            _ => controller.atomic_write,
        };
        Ok(NamespaceData {
            number,
            size,
            block,
            atomic_write: within_boundaries(answer, atomic, features >> 1 & 1 == 1),
            optimal: (features >> 4 & 1 == 1).then(|| u32::from(u16_at(answer, 64)) + 1),
            read_only: answer[99] & 1 == 1,
            deallocates_to_zeros: answer[33] >> 3 & 1 == 1 && answer[33] & 7 == 1,
        })
    }

    /// The device that it is, of operations that are divided at `largest` bytes.
    pub(crate) fn geometry(&self, controller: &ControllerData, largest: u32) -> Geometry {
        let optimal = self.optimal.and_then(|blocks| blocks.checked_mul(self.block)).unwrap_or(0);
        let optimal = optimal.max(self.block).max(4096).checked_next_power_of_two().unwrap_or(1 << 31);
        Geometry {
            logical_block: self.block,
            optimal,
            capacity: self.size * u64::from(self.block),
            atomic_write: (u64::from(self.atomic_write) * u64::from(self.block)).min(u64::from(largest))
                as u32,
            volatile_cache: controller.volatile_cache,
            durable_writes: controller.volatile_cache,
            memory_alignment: 4,
            read_only: self.read_only,
        }
    }
}

/// The largest power of two such that writes of it, at multiples of it, are atomic.
fn within_boundaries(answer: &Answer, blocks: u32, has_boundaries: bool) -> u32 {
    let blocks = 1 << blocks.max(1).ilog2();
    let (boundary, offset) = (u16_at(answer, 42), u16_at(answer, 40));
    if !has_boundaries || boundary == 0 {
        return blocks;
    }
    // What divides both the distance of the boundaries and the first of them crosses none.
    let places = (u32::from(boundary) + 1) | u32::from(offset);
    blocks.min(1 << places.trailing_zeros())
}

fn text(bytes: &[u8]) -> String {
    let printable = bytes.iter().map(|&byte| if (b' '..=b'~').contains(&byte) { byte as char } else { '?' });
    printable.collect::<String>().trim_end().to_owned()
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn controller() -> ControllerData {
        ControllerData::parse(&[0; LENGTH], 4096)
    }

    fn namespace(fields: &[(usize, u8)]) -> Answer {
        let mut answer = [0; LENGTH];
        answer[0] = 100;
        answer[128 + 2] = 9;
        fields.iter().for_each(|&(at, value)| answer[at] = value);
        answer
    }

    #[test]
    fn a_controller_that_says_nothing_can_do_little() {
        let data = controller();
        assert_eq!(
            (data.largest_transfer, data.aborts, data.event_requests, data.atomic_write),
            (None, 1, 1, 1)
        );
        assert!(!data.dataset_management && !data.write_zeroes && !data.volatile_cache && !data.descriptors);
    }

    #[test]
    fn fields_are_where_they_are() {
        let mut answer = [b' '; LENGTH];
        answer[24..30].copy_from_slice(b"Disk\n1");
        answer[77] = 5;
        answer[88..92].copy_from_slice(&2_500_000u32.to_le_bytes());
        answer[258..260].copy_from_slice(&[3, 7]);
        answer[520] = 0b1100;
        answer[525] = 1;
        answer[528..530].copy_from_slice(&[7, 0]);
        answer[536] = 1;
        let data = ControllerData::parse(&answer, 8192);
        assert_eq!((&*data.model, &*data.serial), ("Disk?1", ""));
        assert_eq!((data.largest_transfer, data.aborts, data.event_requests), (Some(256 << 10), 4, 8));
        assert!(data.dataset_management && data.write_zeroes && data.volatile_cache && data.descriptors);
        assert_eq!((data.atomic_write, data.end), (8, 2500));
    }

    #[test]
    fn the_format_in_use_is_the_one_that_counts() {
        // The 18th format, whose number is in two parts.
        let answer = namespace(&[(26, 1 << 5 | 1), (128 + 4 * 17 + 2, 12)]);
        let data = NamespaceData::parse(&answer, 3, &controller()).unwrap();
        assert_eq!((data.number, data.size, data.block), (3, 100, 4096));
        let geometry = data.geometry(&controller(), 1 << 20);
        assert_eq!((geometry.capacity, geometry.logical_block), (409_600, 4096));
        for (fields, text) in [([(128, 8), (0, 1)], "8 bytes of metadata"), ([(130, 3), (0, 1)], "2^3 bytes")]
        {
            let error = NamespaceData::parse(&namespace(&fields), 1, &controller()).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
        let error = NamespaceData::parse(&namespace(&[(0, 0)]), 7, &controller()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_atomic_is_a_power_of_two_that_crosses_no_boundary() {
        let atomic = |fields: &[(usize, u8)]| {
            let controller = ControllerData { atomic_write: 6, ..controller() };
            NamespaceData::parse(&namespace(fields), 1, &controller).unwrap().atomic_write
        };
        assert_eq!(atomic(&[]), 4);
        // Its own, of 64 blocks; then with boundaries at each 16, and with the first of them at 4.
        assert_eq!(atomic(&[(24, 2), (36, 63)]), 64);
        assert_eq!(atomic(&[(24, 2), (36, 63), (42, 15)]), 16);
        assert_eq!(atomic(&[(24, 2), (36, 63), (42, 15), (40, 4)]), 4);
    }

    proptest! {
        #[test]
        fn no_answer_makes_a_geometry_that_makes_no_sense(
            fields in prop::collection::vec((0usize..600, any::<u8>()), 0..200),
            largest in 12u32..21,
        ) {
            let answer = namespace(&fields);
            let controller = ControllerData::parse(&answer, 4096);
            parse_namespaces(&answer);
            if let Ok(data) = NamespaceData::parse(&answer, 1, &controller) {
                let largest = (1 << largest).max(data.block);
                let geometry = data.geometry(&controller, largest);
                prop_assert!(geometry.is_valid(), "{geometry:?}");
            }
        }
    }
}
