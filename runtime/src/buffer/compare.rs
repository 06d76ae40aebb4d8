//! Equality, order, hash and debug output: those of the bytes.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt::{self, Debug, Formatter};
use std::hash::{Hash, Hasher};

use bytes::Bytes;

use super::{Buffer, BufferMut};

macro_rules! like_bytes {
    ($type:ty) => {
        impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for $type {
            #[inline]
            fn eq(&self, other: &T) -> bool {
                self.as_slice() == other.as_ref()
            }
        }

        impl Eq for $type {}

        impl<T: AsRef<[u8]> + ?Sized> PartialOrd<T> for $type {
            fn partial_cmp(&self, other: &T) -> Option<Ordering> {
                self.as_slice().partial_cmp(other.as_ref())
            }
        }

        impl Ord for $type {
            fn cmp(&self, other: &Self) -> Ordering {
                self.as_slice().cmp(other.as_slice())
            }
        }

        impl PartialEq<$type> for [u8] {
            fn eq(&self, other: &$type) -> bool {
                self == other.as_slice()
            }
        }

        impl PartialEq<$type> for &[u8] {
            fn eq(&self, other: &$type) -> bool {
                *self == other.as_slice()
            }
        }

        impl PartialEq<$type> for Vec<u8> {
            fn eq(&self, other: &$type) -> bool {
                self == other.as_slice()
            }
        }

        impl PartialEq<$type> for Bytes {
            fn eq(&self, other: &$type) -> bool {
                self == other.as_slice()
            }
        }

        impl Hash for $type {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.as_slice().hash(state);
            }
        }

        impl Borrow<[u8]> for $type {
            fn borrow(&self) -> &[u8] {
                self
            }
        }

        impl Debug for $type {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                write!(f, "b\"{}\"", self.escape_ascii())
            }
        }
    };
}

like_bytes!(Buffer);
like_bytes!(BufferMut);
