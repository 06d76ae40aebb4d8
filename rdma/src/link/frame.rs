//! The header of a frame: what stands before the payload in each send.

use super::error::Violation;

/// Bytes of a header.
pub const HEADER: usize = 16;

/// The version of the protocol that this is.
pub const VERSION: u8 = 1;

/// What a frame is, which says whose receive buffer it may take (see the [module](super)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Payload, or the end of the direction. Takes a credit.
    Data,
    /// Something to say when there is no payload to send it along. One may be on its way until it is acknowledged.
    Control,
    /// The acknowledgment of a [`Control`](Kind::Control) frame, when there is nothing else to send it along.
    Ack,
}

/// The flags of a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(u8);

impl Flags {
    /// The payload ends a message.
    pub const END: Flags = Flags(1);
    /// The direction ends behind the payload, if there is any.
    pub const FIN: Flags = Flags(2);
    /// The sender has more to send than it has credits for.
    pub const WANT: Flags = Flags(4);
    /// The last [`Control`](Kind::Control) frame of the other side has been taken in.
    pub const ACK: Flags = Flags(8);

    const ALL: u8 = 15;

    /// Whether these are among them.
    pub const fn has(self, flags: Flags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These as well, if `condition` holds.
    #[must_use]
    pub const fn with_if(self, flags: Flags, condition: bool) -> Flags {
        if condition { Flags(self.0 | flags.0) } else { self }
    }
}

/// The fields of a header. `WIRE.md` says where they stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What the frame is.
    pub kind: Kind,
    /// More about it.
    pub flags: Flags,
    /// Credits that the receiver of the frame gets.
    pub grant: u16,
    /// Credits that the sender of the frame gives back without having used them.
    pub returned: u16,
    /// Credits that the sender of the frame asks back, if they are not used. In control frames only.
    pub recall: u16,
    /// Bytes behind the header.
    pub length: u32,
    /// The number of the frame in its direction.
    pub sequence: u32,
}

impl Header {
    /// As it is sent.
    #[inline]
    pub fn to_bytes(self) -> [u8; HEADER] {
        let kind = match self.kind {
            Kind::Data => 0,
            Kind::Control => 1,
            Kind::Ack => 2,
        };
        let mut bytes = [0; HEADER];
        bytes[0] = VERSION << 4 | kind;
        bytes[1] = self.flags.0;
        bytes[2..4].copy_from_slice(&self.grant.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.returned.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.recall.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_be_bytes());
        bytes[12..].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    /// Of a frame that was received, header and payload.
    ///
    /// # Errors
    /// What is wrong with it.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Header, Violation> {
        let Some((bytes, payload)) = frame.split_first_chunk::<HEADER>() else {
            return Err(Violation::Truncated);
        };
        let kind = match bytes[0] {
            byte if byte >> 4 != VERSION => return Err(Violation::Version),
            byte => match byte & 15 {
                0 => Kind::Data,
                1 => Kind::Control,
                2 => Kind::Ack,
                _ => return Err(Violation::Kind),
            },
        };
        let short = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let long = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let header = Header {
            kind,
            flags: Flags(bytes[1]),
            grant: short(2),
            returned: short(4),
            recall: short(6),
            length: long(8),
            sequence: long(12),
        };
        header.check(payload.len())?;
        Ok(header)
    }

    /// Whether the fields make sense together.
    #[inline]
    fn check(&self, payload: usize) -> Result<(), Violation> {
        if self.length as usize != payload {
            return Err(Violation::Length);
        }
        if self.flags.0 & !Flags::ALL != 0 {
            return Err(Violation::Flags);
        }
        let (end, fin) = (self.flags.has(Flags::END), self.flags.has(Flags::FIN));
        match self.kind {
            // Payload is either the end of a message or followed by more of it, and the end of a direction cuts none.
            Kind::Data if payload == 0 && (end || !fin) => Err(Violation::Empty),
            Kind::Data if payload > 0 && fin && !end => Err(Violation::Flags),
            Kind::Data if self.recall != 0 => Err(Violation::Flags),
            Kind::Data => Ok(()),
            _ if payload != 0 || end || fin || self.flags.has(Flags::WANT) => Err(Violation::Flags),
            Kind::Ack if self.recall != 0 || !self.flags.has(Flags::ACK) => Err(Violation::Flags),
            Kind::Ack | Kind::Control => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            kind: Kind::Data,
            flags: Flags::END.with_if(Flags::ACK, true),
            grant: 0x0102,
            returned: 0x0304,
            recall: 0,
            length: 3,
            sequence: 0x0506_0708,
        }
    }

    #[test]
    fn the_fields_stand_where_the_document_says() {
        let bytes = header().to_bytes();
        assert_eq!(bytes, [0x10, 9, 1, 2, 3, 4, 0, 0, 0, 0, 0, 3, 5, 6, 7, 8]);
        let mut frame = bytes.to_vec();
        frame.extend_from_slice(b"abc");
        assert_eq!(Header::parse(&frame), Ok(header()));
    }

    #[test]
    fn nonsense_is_named() {
        let parse = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut frame = header().to_bytes().to_vec();
            frame.extend_from_slice(b"abc");
            change(&mut frame);
            Header::parse(&frame).unwrap_err()
        };
        assert_eq!(parse(&|frame| frame.truncate(15)), Violation::Truncated);
        assert_eq!(parse(&|frame| frame[0] = 0x20), Violation::Version);
        assert_eq!(parse(&|frame| frame[0] = 0x13), Violation::Kind);
        assert_eq!(parse(&|frame| frame[1] |= 0x10), Violation::Flags);
        assert_eq!(parse(&|frame| frame.push(0)), Violation::Length);
        assert_eq!(parse(&|frame| frame[11] = 2), Violation::Length);
        assert_eq!(parse(&|frame| frame[1] = 2), Violation::Flags, "the end of a direction within a message");
        assert_eq!(parse(&|frame| frame[7] = 1), Violation::Flags, "data that recall");
        let empty = |frame: &mut Vec<u8>, kind: u8, flags: u8| {
            frame.truncate(HEADER);
            (frame[0], frame[1], frame[11]) = (0x10 | kind, flags, 0);
        };
        assert_eq!(parse(&|frame| empty(frame, 0, 0)), Violation::Empty);
        assert_eq!(parse(&|frame| empty(frame, 0, 1)), Violation::Empty);
        assert_eq!(parse(&|frame| empty(frame, 2, 0)), Violation::Flags, "an acknowledgment of nothing");
        assert_eq!(parse(&|frame| empty(frame, 1, 4)), Violation::Flags);
        assert_eq!(parse(&|frame| frame[0] = 0x11), Violation::Flags, "control with payload");
    }

    #[test]
    fn any_bytes_are_a_header_or_an_error() {
        for seed in 0..20_000u64 {
            let mut bytes = [0u8; 18];
            let mut state = seed;
            for byte in &mut bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (state >> 56) as u8;
            }
            bytes[0] = 0x10 | bytes[0] & 3;
            bytes[1] &= 15;
            bytes[6..12].fill(0);
            let length = HEADER + (seed % 3) as usize;
            bytes[11] = (length - HEADER) as u8;
            if let Ok(header) = Header::parse(&bytes[..length]) {
                assert_eq!(header.to_bytes(), bytes[..HEADER]);
            }
        }
    }
}
