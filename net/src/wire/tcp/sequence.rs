//! Sequence numbers and their arithmetic, modulo 2^32 (RFC 9293 section 3.4).

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A sequence number.
///
/// Numbers are in an order only as far as they are less than 2^31 apart, so there is no `Ord`: comparisons say what
/// they compare with.
///
/// ```
/// use demikernel_net::wire::tcp::SequenceNumber;
///
/// let last = SequenceNumber::new(u32::MAX);
/// let next = last + 1;
/// assert!(last.is_before(next) && next.is_after(last));
/// assert_eq!(next - last, 1);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SequenceNumber(u32);

impl SequenceNumber {
    /// The number with this value on the wire.
    #[inline]
    pub const fn new(value: u32) -> SequenceNumber {
        SequenceNumber(value)
    }

    /// As on the wire.
    #[inline]
    pub const fn value(self) -> u32 {
        self.0
    }

    /// How far this one is behind `other`: negative if it is before it.
    #[inline]
    pub const fn distance_from(self, other: SequenceNumber) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// Strictly before.
    #[inline]
    pub const fn is_before(self, other: SequenceNumber) -> bool {
        self.distance_from(other) < 0
    }

    /// Strictly after.
    #[inline]
    pub const fn is_after(self, other: SequenceNumber) -> bool {
        self.distance_from(other) > 0
    }

    /// Before or the same.
    #[inline]
    pub const fn is_at_or_before(self, other: SequenceNumber) -> bool {
        self.distance_from(other) <= 0
    }

    /// After or the same.
    #[inline]
    pub const fn is_at_or_after(self, other: SequenceNumber) -> bool {
        self.distance_from(other) >= 0
    }

    /// Whether it is one of the `length` numbers from `start` on.
    #[inline]
    pub const fn is_within(self, start: SequenceNumber, length: u32) -> bool {
        self.0.wrapping_sub(start.0) < length
    }

    /// The later of two.
    #[inline]
    #[must_use]
    pub const fn latest(self, other: SequenceNumber) -> SequenceNumber {
        if self.is_after(other) { self } else { other }
    }

    /// The earlier of two.
    #[inline]
    #[must_use]
    pub const fn earliest(self, other: SequenceNumber) -> SequenceNumber {
        if self.is_before(other) { self } else { other }
    }
}

impl Add<u32> for SequenceNumber {
    type Output = SequenceNumber;

    #[inline]
    fn add(self, count: u32) -> SequenceNumber {
        SequenceNumber(self.0.wrapping_add(count))
    }
}

impl AddAssign<u32> for SequenceNumber {
    #[inline]
    fn add_assign(&mut self, count: u32) {
        *self = *self + count;
    }
}

impl Sub<u32> for SequenceNumber {
    type Output = SequenceNumber;

    #[inline]
    fn sub(self, count: u32) -> SequenceNumber {
        SequenceNumber(self.0.wrapping_sub(count))
    }
}

/// How many numbers lie between, if `other` is not after this one.
impl Sub for SequenceNumber {
    type Output = u32;

    #[inline]
    fn sub(self, other: SequenceNumber) -> u32 {
        self.0.wrapping_sub(other.0)
    }
}

impl fmt::Debug for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
