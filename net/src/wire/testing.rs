//! What the tests of all formats share.

use super::Malformed;
use std::fmt::Debug;

/// Bytes written in hexadecimal, with any space between.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    assert_eq!(digits.len() % 2, 0);
    digits.chunks(2).map(pair).collect()
}

/// Cuts a valid packet off everywhere: before `needed` bytes it must be refused, and from there on taken.
#[track_caller]
pub(crate) fn truncate_everywhere<'a, T: Debug>(
    bytes: &'a [u8],
    needed: usize,
    parse: impl Fn(&'a [u8]) -> Result<T, Malformed>,
) {
    for length in 0..=bytes.len() {
        let result = parse(&bytes[..length]);
        assert_eq!(result.is_ok(), length >= needed, "{length} bytes: {result:?}");
    }
}

/// A corpus made of a valid packet: every byte, and every pair of neighbours, with values that parsers stumble over;
/// pieces doubled, left out, and cut off.
pub(crate) fn mutations(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    const VALUES: [u8; 8] = [0, 1, 2, 4, 0x7f, 0x80, 0xfe, 0xff];
    let one_byte = (0..bytes.len()).flat_map(move |at| {
        let near = [bytes[at] ^ 1, bytes[at] ^ 0x80, bytes[at].wrapping_add(1), bytes[at].wrapping_sub(1)];
        VALUES.into_iter().chain(near).map(move |value| {
            let mut bytes = bytes.to_vec();
            bytes[at] = value;
            bytes
        })
    });
    let two_bytes = (1..bytes.len()).flat_map(move |at| {
        [[0, 0], [0xff, 0xff], [0, 1], [0xff, 0]].into_iter().map(move |pair| {
            let mut bytes = bytes.to_vec();
            bytes[at - 1..=at].copy_from_slice(&pair);
            bytes
        })
    });
    let pieces = (0..bytes.len()).flat_map(move |at| {
        let (before, behind) = bytes.split_at(at);
        let without = behind.get(4..).unwrap_or_default();
        [
            before.to_vec(),
            [before, without].concat(),
            [bytes, behind].concat(),
            [before, &[0; 8], behind].concat(),
        ]
    });
    one_byte.chain(two_bytes).chain(pieces)
}
