//! [`Key`]: hashes that nobody outside can foresee.

use siphasher::sip::SipHasher24;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};

/// A secret of 16 octets, and the hashes that it gives: SipHash-2-4, a pseudo-random function.
///
/// Tables whose keys come from outside hash with it, so that nobody can make them collide, and a run with the same
/// key is the same run.
///
/// ```
/// use demikernel_net::ip::Key;
///
/// let key = Key::new([7; 16]);
/// assert_eq!(key.hash(1, &"a"), key.hash(1, &"a"));
/// assert_ne!(key.hash(1, &"a"), key.hash(2, &"a"));
/// ```
#[derive(Clone, Copy)]
pub struct Key(u64, u64);

impl Key {
    /// From random octets.
    #[must_use]
    pub const fn new(random: [u8; 16]) -> Key {
        let number = u128::from_le_bytes(random);
        Key(number as u64, (number >> 64) as u64)
    }

    /// The hash of a value for one purpose; those for different purposes have nothing to do with each other.
    #[must_use]
    pub fn hash(&self, purpose: u64, value: &impl Hash) -> u64 {
        let mut hasher = self.build_hasher();
        hasher.write_u64(purpose);
        value.hash(&mut hasher);
        hasher.finish()
    }
}

impl BuildHasher for Key {
    type Hasher = SipHasher24;

    fn build_hasher(&self) -> SipHasher24 {
        SipHasher24::new_with_keys(self.0, self.1)
    }
}

impl fmt::Debug for Key {
    /// A secret is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_depend_on_key_purpose_and_value_and_the_key_is_not_shown() {
        let (one, other) = (Key::new([1; 16]), Key::new([2; 16]));
        assert_eq!(one.hash(1, &5u32), Key::new([1; 16]).hash(1, &5u32));
        assert_ne!(one.hash(1, &5u32), other.hash(1, &5u32));
        assert_ne!(one.hash(1, &5u32), one.hash(2, &5u32));
        assert_ne!(one.hash(1, &5u32), one.hash(1, &6u32));
        assert_eq!(format!("{one:?}"), "Key");
    }
}
