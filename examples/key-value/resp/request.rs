//! The arguments of one request, where they stand in what was received.

use demikernel::Buffer;
use std::ops::Index;

/// Where an argument stands in the bytes of its request.
pub(super) type Span = (u32, u32);

/// What makes letters lower case.
const LOWER_CASE: u64 = 0x2020_2020_2020_2020;

/// A name of up to eight letters as a number, whatever the case of the letters.
///
/// Bit 5 is all that differs between the cases, and only letters become lower-case letters when it is set. The
/// bytes after the name are zero, which no byte of a name can be then.
pub(crate) const fn word(name: &[u8]) -> u64 {
    let mut word = 0;
    let mut index = 0;
    while index < name.len() {
        word |= ((name[index] | 0x20) as u64) << (8 * index);
        index += 1;
    }
    word
}

/// The arguments of one request, the command's name first.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) spans: &'a [Span],
    pub(super) owner: Option<&'a Buffer>,
}

impl<'a> Request<'a> {
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&'a [u8]> {
        let (start, end) = *self.spans.get(index)?;
        Some(&self.bytes[start as usize..end as usize])
    }

    /// The command's name as a number, see `word`; zero if no command has such a name.
    #[inline]
    pub(crate) fn name(&self) -> u64 {
        let (start, end) = self.spans[0];
        let (start, len) = (start as usize, (end - start) as usize);
        // What follows the name in memory makes it one load, mostly.
        match self.bytes.get(start..start + 8) {
            Some(bytes) if (1..=8).contains(&len) => {
                let bytes = u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
                (bytes | LOWER_CASE) & (u64::MAX >> (64 - 8 * len))
            }
            None if len <= 8 => word(&self[0]),
            _ => 0,
        }
    }

    /// The arguments from `first` on.
    pub(crate) fn from(&self, first: usize) -> impl Iterator<Item = &'a [u8]> {
        let Request { bytes, spans, .. } = *self;
        spans.iter().skip(first).map(move |&(start, end)| &bytes[start as usize..end as usize])
    }

    /// An argument as a buffer: without a copy if the argument is most of what was received
    /// for this request alone, so that it keeps hardly more than itself in memory.
    pub(crate) fn buffer(&self, index: usize) -> Buffer {
        let (start, end) = self.spans[index];
        let (start, end) = (start as usize, end as usize);
        match self.owner {
            Some(owner) if (end - start) * 2 >= owner.len() => owner.slice(start..end),
            _ => Buffer::from(self.bytes[start..end].to_vec()),
        }
    }
}

impl Index<usize> for Request<'_> {
    type Output = [u8];

    fn index(&self, index: usize) -> &[u8] {
        let (start, end) = self.spans[index];
        &self.bytes[start as usize..end as usize]
    }
}
