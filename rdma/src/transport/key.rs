//! Names of operations, for their cancellation.

use crate::link::Id;
use demikernel_runtime::transport::Qd;

/// The name of an operation that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Key {
    /// Any that receives: what comes back from one must find its very socket, not a later one of the same number.
    /// Which one was given up it says itself.
    Receive(Id),
    /// One that sends or connects, by the number of the operation: nothing comes back from it. It does not say itself
    /// that it was given up, because one that was detached looks the same.
    Send(Qd, u32),
}

/// The rest has 31 bits for the number of a socket; there cannot be so many.
const SEND: u64 = 1 << 63;

impl From<Key> for u64 {
    fn from(key: Key) -> u64 {
        match key {
            Key::Receive(id) => id.to_u64() & !SEND,
            Key::Send(qd, number) => SEND | u64::from(qd.0) << 32 | u64::from(number),
        }
    }
}

impl From<u64> for Key {
    fn from(key: u64) -> Key {
        if key & SEND == 0 {
            return Key::Receive(Id::from_u64(key));
        }
        Key::Send(Qd(((key & !SEND) >> 32) as u32), key as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_trip_through_a_number() {
        for key in [
            Key::Receive(Id::from_u64(0)),
            Key::Receive(Id::from_u64(!SEND)),
            Key::Send(Qd(0), u32::MAX),
            Key::Send(Qd(u32::MAX >> 1), 0),
        ] {
            assert_eq!(Key::from(u64::from(key)), key);
        }
    }
}
