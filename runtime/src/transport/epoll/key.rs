//! Names: of sockets, for the kernel's events and our lists, and of operations, for their cancellation.

use crate::transport::Qd;

/// What the kernel says with an event of a descriptor whose events only end the wait.
pub(super) const WATCHED: u64 = u64::MAX;
/// The same, of the descriptor by which threads call.
pub(super) const JOBS: u64 = u64::MAX - 1;

/// Names a socket; a later one of the same number has another name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SocketKey {
    pub(super) qd: Qd,
    pub(super) generation: u32,
}

impl From<SocketKey> for u64 {
    fn from(key: SocketKey) -> u64 {
        u64::from(key.qd.0) << 32 | u64::from(key.generation)
    }
}

impl From<u64> for SocketKey {
    fn from(key: u64) -> SocketKey {
        SocketKey { qd: Qd((key >> 32) as u32), generation: key as u32 }
    }
}

/// Names a waiting operation of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct CancelKey {
    pub(super) qd: Qd,
    pub(super) queue: Queue,
    pub(super) sequence: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Queue {
    Receives,
    Sends,
    Connect,
}

impl CancelKey {
    /// Numbers of operations, which wrap around: only those that wait for one socket must differ.
    pub(super) const SEQUENCES: u32 = (1 << 30) - 1;
}

impl From<CancelKey> for u64 {
    fn from(key: CancelKey) -> u64 {
        let queue = match key.queue {
            Queue::Receives => 0,
            Queue::Sends => 1,
            Queue::Connect => 2,
        };
        u64::from(key.qd.0) << 32 | queue << 30 | u64::from(key.sequence)
    }
}

impl From<u64> for CancelKey {
    fn from(key: u64) -> CancelKey {
        let queue = match key >> 30 & 3 {
            0 => Queue::Receives,
            1 => Queue::Sends,
            _ => Queue::Connect,
        };
        CancelKey { qd: Qd((key >> 32) as u32), queue, sequence: key as u32 & Self::SEQUENCES }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_trip_through_a_number() {
        for (qd, generation) in [(0, 0), (7, u32::MAX), (0x00ff_ffff, 9), (u32::MAX - 1, u32::MAX)] {
            let key = SocketKey { qd: Qd(qd), generation };
            assert_eq!(SocketKey::from(u64::from(key)), key);
            assert!(u64::from(key) < JOBS);
        }
        for queue in [Queue::Receives, Queue::Sends, Queue::Connect] {
            for sequence in [0, 1, CancelKey::SEQUENCES] {
                let key = CancelKey { qd: Qd(u32::MAX), queue, sequence };
                assert_eq!(CancelKey::from(u64::from(key)), key);
            }
        }
    }
}
