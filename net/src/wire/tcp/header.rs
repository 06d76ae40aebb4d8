//! The fixed header's layout, and the numbers of options.

use std::mem::offset_of;
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a header without options.
pub const MINIMUM_HEADER: usize = 20;

/// Bytes of the longest header.
pub const MAXIMUM_HEADER: usize = 60;

/// Bytes of the longest options.
pub(super) const MAXIMUM_OPTIONS: usize = MAXIMUM_HEADER - MINIMUM_HEADER;

/// Kinds of options, and the length that each has (IANA's registry of TCP parameters).
pub(super) mod kind {
    /// End of option list.
    pub(in super::super) const END: u8 = 0;
    /// No operation.
    pub(in super::super) const NOP: u8 = 1;
    /// Maximum segment size.
    pub(in super::super) const MAXIMUM_SEGMENT_SIZE: (u8, u8) = (2, 4);
    /// Window scale.
    pub(in super::super) const WINDOW_SCALE: (u8, u8) = (3, 3);
    /// Selective acknowledgment permitted.
    pub(in super::super) const SACK_PERMITTED: (u8, u8) = (4, 2);
    /// Selective acknowledgment: this and 8 for each block.
    pub(in super::super) const SACK: (u8, u8) = (5, 2);
    /// Timestamps.
    pub(in super::super) const TIMESTAMPS: (u8, u8) = (8, 10);
    /// User timeout.
    pub(in super::super) const USER_TIMEOUT: (u8, u8) = (28, 4);
}

/// Two NOPs, and the kind and length of timestamps: what options begin with when timestamps are all there is.
pub(crate) const ALIGNED_TIMESTAMPS: u32 =
    u32::from_be_bytes([kind::NOP, kind::NOP, kind::TIMESTAMPS.0, kind::TIMESTAMPS.1]);

/// RFC 9293 figure 1, up to the options.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    pub(super) source: U16,
    pub(super) destination: U16,
    pub(super) sequence: U32,
    pub(super) acknowledgment: U32,
    /// Four bits of header length in units of 4 bytes, four that are reserved.
    pub(super) offset: u8,
    pub(super) flags: u8,
    pub(super) window: U16,
    pub(super) checksum: U16,
    pub(super) urgent: U16,
}

/// Where the checksum is.
pub(super) const CHECKSUM: usize = offset_of!(Header, checksum);

const _: () = assert!(size_of::<Header>() == MINIMUM_HEADER);

/// What [`ALIGNED_TIMESTAMPS`] stands before.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct TimestampsAlone {
    pub(super) prefix: U32,
    pub(super) value: U32,
    pub(super) echo: U32,
}
