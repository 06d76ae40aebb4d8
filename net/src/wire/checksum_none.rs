//! No registers are wider than those that every processor of this kind has.

/// Of some bytes: never.
#[inline]
pub(super) fn sum(_: &[u8]) -> Option<u64> {
    None
}
