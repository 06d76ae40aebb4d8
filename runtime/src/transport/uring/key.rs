//! What an operation in the kernel carries so that its completion finds its way back: the `user_data`.

/// The kinds of operations. Those up to [`Kind::Connect`] belong to a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    /// A receive of a socket.
    Receive,
    /// A receive of a datagram.
    ReceiveDatagram,
    /// A send of a stream.
    Send,
    /// An accept, of one or of many connections.
    Accept,
    /// A connect.
    Connect,
    /// The pause of a listening socket for which there are no descriptors.
    AcceptPause,
    /// A send whose data the kernel uses in place; the index is that of the data.
    SendInPlace,
    /// A datagram on its way out; the index is that of the datagram.
    SendDatagram,
    /// An operation on a file; the index is that of the operation.
    File,
    /// The watch of a descriptor for the runtime.
    Watch,
    /// The close of a descriptor.
    Close,
    /// The cancellation of another operation.
    Cancel,
}

impl Kind {
    const ALL: [Kind; 12] = [
        Kind::Receive,
        Kind::ReceiveDatagram,
        Kind::Send,
        Kind::Accept,
        Kind::Connect,
        Kind::AcceptPause,
        Kind::SendInPlace,
        Kind::SendDatagram,
        Kind::File,
        Kind::Watch,
        Kind::Close,
        Kind::Cancel,
    ];
}

/// A kind (8 bits), a stamp (24 bits) and an index into that kind's table (32 bits).
///
/// The stamp of an operation in the kernel is its entry's generation: entries outlive their operations, so a
/// mismatch is a fault, and better found than followed. The stamp of a key that is given to
/// [`Completion::on_cancel`](crate::executor::Completion::on_cancel) says which of several pushes is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key(u64);

impl Key {
    pub(super) const STAMPS: u32 = 0x00ff_ffff;

    #[inline(always)]
    pub(super) fn new(kind: Kind, stamp: u32, index: u32) -> Key {
        debug_assert!(stamp <= Key::STAMPS);
        Key((kind as u64) << 56 | u64::from(stamp) << 32 | u64::from(index))
    }

    #[inline(always)]
    pub(super) fn from_bits(bits: u64) -> Key {
        Key(bits)
    }

    #[inline(always)]
    pub(super) fn bits(self) -> u64 {
        self.0
    }

    /// The kind; `None` if these bits are no key.
    #[inline(always)]
    pub(super) fn kind(self) -> Option<Kind> {
        Kind::ALL.get((self.0 >> 56) as usize).copied()
    }

    #[inline(always)]
    pub(super) fn stamp(self) -> u32 {
        (self.0 >> 32) as u32 & Key::STAMPS
    }

    #[inline(always)]
    pub(super) fn index(self) -> usize {
        self.0 as u32 as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_parts() {
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            let key = Key::from_bits(Key::new(kind, Key::STAMPS, u32::MAX).bits());
            assert_eq!((key.kind(), key.stamp(), key.index()), (Some(kind), Key::STAMPS, u32::MAX as usize));
            let key = Key::new(kind, 1, 2);
            assert_eq!((key.kind(), key.stamp(), key.index()), (Some(kind), 1, 2));
        }
        assert_eq!(Key::from_bits(u64::MAX).kind(), None);
    }
}
