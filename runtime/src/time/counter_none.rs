//! In place of a time stamp counter where there is none that we know.

/// Whether there is one.
pub(super) const EXISTS: bool = false;

/// Never: clocks read `CLOCK_MONOTONIC`.
pub(super) fn is_reliable() -> bool {
    false
}

/// A counter that stands still. Asked by nobody, as it is not reliable.
#[inline]
pub(super) fn ticks() -> u64 {
    0
}
