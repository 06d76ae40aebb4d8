//! From a segment to bytes.

use super::header::{ALIGNED_TIMESTAMPS, Header, MAXIMUM_OPTIONS, MINIMUM_HEADER, TimestampsAlone, kind};
use super::{Flags, Options, SackBlocks, Segment, Timestamps};
use crate::wire::checksum::Sum;
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

impl Segment {
    /// Bytes that [`emit`](Segment::emit) writes.
    ///
    /// ```
    /// use demikernel_net::wire::tcp::{Segment, Timestamps};
    ///
    /// let mut segment = Segment::default();
    /// assert_eq!(segment.header_len(), 20);
    /// segment.options.timestamps = Some(Timestamps::default());
    /// assert_eq!(segment.header_len(), 32);
    /// ```
    #[inline]
    #[must_use]
    pub fn header_len(&self) -> usize {
        MINIMUM_HEADER + self.options.emitted_len(self.flags.contains(Flags::SYN))
    }

    /// Writes the header to the beginning of `bytes`, with 0 for a checksum, and returns the sum of what it wrote:
    /// [`set_checksum`](super::set_checksum) then needs to read none of it again.
    ///
    /// Options that belong into SYN segments only are left out of others, and selective acknowledgments out of
    /// SYN segments. As many SACK blocks are written as have room, the first ones [rfc2018 4-as-many].
    ///
    /// # Panics
    /// If there are fewer than [`header_len`](Segment::header_len) bytes.
    #[inline]
    pub fn emit(&self, bytes: &mut [u8]) -> Sum {
        let options = &self.options;
        if self.flags.contains(Flags::SYN) || options.user_timeout.is_some() || !options.sack.is_empty() {
            return self.emit_other(bytes);
        }
        match options.timestamps {
            None => self.emit_fixed(bytes, MINIMUM_HEADER),
            Some(timestamps) => {
                let sum = self.emit_fixed(bytes, MINIMUM_HEADER + size_of::<TimestampsAlone>());
                sum.then(emit_timestamps(timestamps, &mut bytes[MINIMUM_HEADER..]))
            }
        }
    }

    /// Sums are made of the fields and not of the bytes: those are still on their way to memory, in other widths
    /// than a sum would read, and it would have to wait for them.
    #[inline]
    fn emit_fixed(&self, bytes: &mut [u8], length: usize) -> Sum {
        // Reserved bits are zero [rfc9293 3.1-reserved].
        let offset = (length / 4) as u8 * 16;
        let (header, _) = Header::mut_from_prefix(bytes).expect("there is room for the header");
        *header = Header {
            source: U16::new(self.source),
            destination: U16::new(self.destination),
            sequence: U32::new(self.sequence.value()),
            acknowledgment: U32::new(self.acknowledgment.value()),
            offset,
            flags: self.flags.bits(),
            window: U16::new(self.window),
            checksum: U16::ZERO,
            urgent: U16::new(self.urgent),
        };
        Sum::of_fields(
            u64::from(self.source)
                + u64::from(self.destination)
                + u64::from(self.sequence.value())
                + u64::from(self.acknowledgment.value())
                + u64::from(u16::from_be_bytes([offset, self.flags.bits()]))
                + u64::from(self.window)
                + u64::from(self.urgent),
        )
    }

    #[cold]
    fn emit_other(&self, bytes: &mut [u8]) -> Sum {
        let (fixed, rest) = bytes.split_at_mut(MINIMUM_HEADER);
        let mut writer = Writer { bytes: &mut rest[..], length: 0 };
        if self.flags.contains(Flags::SYN) {
            writer.syn_options(&self.options);
        } else {
            writer.options(&self.options);
        }
        let length = writer.length;
        self.emit_fixed(fixed, MINIMUM_HEADER + length).then(Sum::of(&rest[..length]))
    }
}

impl Options {
    /// How many SACK blocks have room beside the other options: four alone, three beside timestamps [rfc2018 3].
    #[inline]
    #[must_use]
    pub fn sack_room(&self) -> usize {
        let others = timestamps_len(self) + user_timeout_len(self);
        (MAXIMUM_OPTIONS - others - 4) / 8
    }

    #[inline]
    fn emitted_len(&self, syn: bool) -> usize {
        let others = timestamps_len(self) + user_timeout_len(self);
        if syn {
            let maximum_segment_size = if self.maximum_segment_size.is_some() { 4 } else { 0 };
            let window_scale = if self.window_scale.is_some() { 4 } else { 0 };
            // Beside timestamps it has the place of their two NOPs.
            let sack_permitted = if self.sack_permitted && self.timestamps.is_none() { 4 } else { 0 };
            others + maximum_segment_size + window_scale + sack_permitted
        } else {
            others + sack_len(self.sack.len().min(self.sack_room()))
        }
    }
}

/// Options in the order of Linux (`tcp_options_write`), each padded in front so that the next begins on a multiple
/// of four: no padding is needed at the end, so none is other than zero [rfc9293 MUST-69].
struct Writer<'a> {
    bytes: &'a mut [u8],
    length: usize,
}

impl Writer<'_> {
    /// [rfc9293 MUST-65]: only here is a maximum segment size sent.
    fn syn_options(&mut self, options: &Options) {
        if let Some(size) = options.maximum_segment_size {
            self.word([kind::MAXIMUM_SEGMENT_SIZE.0, kind::MAXIMUM_SEGMENT_SIZE.1], size.to_be_bytes());
        }
        let permitted = [kind::SACK_PERMITTED.0, kind::SACK_PERMITTED.1];
        match options.timestamps {
            Some(timestamps) if options.sack_permitted => self.timestamps(permitted, timestamps),
            Some(timestamps) => self.timestamps([kind::NOP; 2], timestamps),
            None if options.sack_permitted => self.word([kind::NOP; 2], permitted),
            None => {}
        }
        if let Some(shift) = options.window_scale {
            self.word([kind::NOP, kind::WINDOW_SCALE.0], [kind::WINDOW_SCALE.1, shift]);
        }
        self.user_timeout(options.user_timeout);
    }

    fn options(&mut self, options: &Options) {
        if let Some(timestamps) = options.timestamps {
            self.timestamps([kind::NOP; 2], timestamps);
        }
        self.user_timeout(options.user_timeout);
        self.sack(&options.sack, options.sack_room());
    }

    fn timestamps(&mut self, padding: [u8; 2], timestamps: Timestamps) {
        self.word(padding, [kind::TIMESTAMPS.0, kind::TIMESTAMPS.1]);
        self.double_word(timestamps.value);
        self.double_word(timestamps.echo);
    }

    fn user_timeout(&mut self, timeout: Option<u16>) {
        if let Some(timeout) = timeout {
            self.word([kind::USER_TIMEOUT.0, kind::USER_TIMEOUT.1], timeout.to_be_bytes());
        }
    }

    fn sack(&mut self, blocks: &SackBlocks, room: usize) {
        let count = blocks.len().min(room);
        if count > 0 {
            self.word([kind::NOP; 2], [kind::SACK.0, kind::SACK.1 + count as u8 * 8]);
        }
        for block in &blocks[..count] {
            self.double_word(block.left.value());
            self.double_word(block.right.value());
        }
    }

    fn word(&mut self, one: [u8; 2], other: [u8; 2]) {
        self.double_word(u32::from_be_bytes([one[0], one[1], other[0], other[1]]));
    }

    fn double_word(&mut self, word: u32) {
        self.bytes[self.length..self.length + 4].copy_from_slice(&word.to_be_bytes());
        self.length += 4;
    }
}

#[inline]
fn emit_timestamps(timestamps: Timestamps, bytes: &mut [u8]) -> Sum {
    let option = TimestampsAlone {
        prefix: U32::new(ALIGNED_TIMESTAMPS),
        value: U32::new(timestamps.value),
        echo: U32::new(timestamps.echo),
    };
    option.write_to_prefix(bytes).expect("there is room for the header");
    Sum::of_fields(u64::from(ALIGNED_TIMESTAMPS) + u64::from(timestamps.value) + u64::from(timestamps.echo))
}

#[inline]
fn timestamps_len(options: &Options) -> usize {
    if options.timestamps.is_some() { size_of::<TimestampsAlone>() } else { 0 }
}

#[inline]
fn user_timeout_len(options: &Options) -> usize {
    if options.user_timeout.is_some() { 4 } else { 0 }
}

#[inline]
fn sack_len(blocks: usize) -> usize {
    if blocks == 0 { 0 } else { 4 + 8 * blocks }
}
