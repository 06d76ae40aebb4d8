//! The private data of RDMA's connection manager: what two sides tell each other before the first frame.

use super::frame::{HEADER, VERSION};

/// What private data of this protocol begin with.
pub const MAGIC: [u8; 4] = *b"dkRC";

/// Bytes of a [`Hello`].
pub const HELLO: usize = 20;

/// Bytes of a [`Refusal`].
pub const REFUSAL: usize = 6;

/// The least size of receive buffers that makes sense: less would be hardly more than headers.
const LEAST_BUFFER: u32 = 64;

/// What a side says of itself when it connects, or accepts.
///
/// ```
/// use demikernel_rdma::link::{Hello, Refusal};
///
/// // What comes from a peer is looked at before it counts.
/// assert!(matches!(Hello::parse(b"GET / HTTP/1.1\r\n\r\n"), Err(Refusal::Foreign)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Data frames that the other side may send at first.
    pub credits: u16,
    /// Bytes of each receive buffer: no frame may be longer.
    pub buffer_size: u32,
    /// It takes writes with a number, each for a credit.
    pub notices: bool,
}

/// Features of a side, in their byte of the private data.
const NOTICES: u8 = 1;

/// Why a side refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The private data are not of this protocol.
    #[error("its private data are of another protocol, or there are none")]
    Foreign,
    /// It is another version.
    #[error("it speaks version {0} of the protocol, and this side {VERSION}")]
    Version(u8),
    /// Something in the private data cannot be.
    #[error("its private data are malformed")]
    Malformed,
    /// There are as many connections as there may be.
    #[error("there are as many connections as its limit allows")]
    TooMany,
    /// Too many connections are being set up.
    #[error("too many connections are being set up")]
    TooFast,
    /// The listener's queue is full.
    #[error("its queue of connections to be accepted is full")]
    Backlog,
}

impl Hello {
    /// As private data.
    pub fn to_bytes(self) -> [u8; HELLO] {
        let mut bytes = [0; HELLO];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[6..8].copy_from_slice(&self.credits.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.buffer_size.to_be_bytes());
        bytes[12] = if self.notices { NOTICES } else { 0 };
        bytes
    }

    /// Of private data, which may have been padded on the way.
    ///
    /// # Errors
    /// Why the peer that sent them is to be refused.
    pub fn parse(data: &[u8]) -> Result<Hello, Refusal> {
        let (magic, rest) = data.split_first_chunk::<4>().ok_or(Refusal::Foreign)?;
        if *magic != MAGIC {
            return Err(Refusal::Foreign);
        }
        let &version = rest.first().ok_or(Refusal::Malformed)?;
        if version != VERSION {
            return Err(Refusal::Version(version));
        }
        let bytes = data.first_chunk::<HELLO>().ok_or(Refusal::Malformed)?;
        let hello = Hello {
            credits: u16::from_be_bytes([bytes[6], bytes[7]]),
            buffer_size: u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
            // Others are of later versions of a peer: what this one does not know it does not use.
            notices: bytes[12] & NOTICES != 0,
        };
        if hello.buffer_size < LEAST_BUFFER { Err(Refusal::Malformed) } else { Ok(hello) }
    }

    /// Bytes of payload that a frame to this side may have.
    pub fn payload(self) -> u32 {
        self.buffer_size - HEADER as u32
    }
}

impl Refusal {
    /// As private data of a rejection.
    pub fn to_bytes(self) -> [u8; REFUSAL] {
        let reason = match self {
            Refusal::Foreign => 1,
            Refusal::Version(_) => 2,
            Refusal::Malformed => 3,
            Refusal::TooMany => 4,
            Refusal::TooFast => 5,
            Refusal::Backlog => 6,
        };
        let mut bytes = [0; REFUSAL];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = reason;
        bytes
    }

    /// Of the private data of a rejection; `None` if those say nothing, as when nobody listens.
    pub fn parse(data: &[u8]) -> Option<Refusal> {
        let bytes = data.first_chunk::<REFUSAL>()?;
        if bytes[..4] != MAGIC {
            return None;
        }
        match bytes[5] {
            // What the peer could not make sense of was ours.
            2 => Some(Refusal::Version(bytes[4])),
            1 => Some(Refusal::Foreign),
            4 => Some(Refusal::TooMany),
            5 => Some(Refusal::TooFast),
            6 => Some(Refusal::Backlog),
            _ => Some(Refusal::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THIS: Hello = Hello { credits: 0x0102, buffer_size: 4096, notices: true };

    #[test]
    fn the_fields_stand_where_the_document_says() {
        let bytes = THIS.to_bytes();
        assert_eq!(bytes[..12], *b"dkRC\x01\0\x01\x02\0\0\x10\0");
        assert_eq!(bytes[12..], [1, 0, 0, 0, 0, 0, 0, 0]);
        let mut padded = bytes.to_vec();
        padded.resize(56, 0);
        assert_eq!(Hello::parse(&padded), Ok(THIS));
        assert_eq!(THIS.payload(), 4080);
        // One that knows no features, and one that knows more.
        for (features, notices) in [(0, false), (0xfe, false), (0xff, true)] {
            padded[12] = features;
            assert_eq!(Hello::parse(&padded), Ok(Hello { notices, ..THIS }));
        }
    }

    #[test]
    fn foreign_peers_are_told_from_other_versions() {
        let changed = |at: usize, value: u8| {
            let mut bytes = THIS.to_bytes();
            bytes[at] = value;
            Hello::parse(&bytes)
        };
        assert_eq!(Hello::parse(b""), Err(Refusal::Foreign));
        assert_eq!(Hello::parse(&[0; 56]), Err(Refusal::Foreign));
        assert_eq!(changed(0, b'x'), Err(Refusal::Foreign));
        assert_eq!(changed(4, 7), Err(Refusal::Version(7)));
        assert_eq!(changed(10, 0), Err(Refusal::Malformed), "a buffer of no bytes");
        assert_eq!(Hello::parse(&THIS.to_bytes()[..HELLO - 1]), Err(Refusal::Malformed));
    }

    #[test]
    fn refusals_are_told_to_the_other_side() {
        for refusal in [
            Refusal::Foreign,
            Refusal::Version(VERSION),
            Refusal::Malformed,
            Refusal::TooMany,
            Refusal::TooFast,
            Refusal::Backlog,
        ] {
            assert_eq!(Refusal::parse(&refusal.to_bytes()), Some(refusal));
        }
        assert_eq!(Refusal::parse(&[0; 148]), None);
        assert_eq!(Refusal::parse(&[]), None);
    }
}
