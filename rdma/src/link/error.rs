//! What may go wrong, and which error of the socket API it is.

use super::hello::Refusal;
use std::io;

/// Something that a peer which speaks the protocol never sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Fewer bytes than a header has.
    #[error("a frame is shorter than a header")]
    Truncated,
    /// Another version than was agreed on.
    #[error("a frame is of another version")]
    Version,
    /// No kind of frame.
    #[error("a frame is of no known kind")]
    Kind,
    /// Flags that there are not, or not together, or not for this kind of frame.
    #[error("a frame has flags or fields that its kind does not have")]
    Flags,
    /// The length in the header is not that of the payload.
    #[error("a frame is not as long as it says")]
    Length,
    /// Payload of no bytes that ends nothing.
    #[error("a frame carries nothing")]
    Empty,
    /// Not the number after the last one.
    #[error("a frame is out of order")]
    Sequence,
    /// A frame for which there was no credit.
    #[error("the peer sends more than it has credits for")]
    Overdrawn,
    /// More credits given back than there were.
    #[error("the peer gives back credits that it does not have")]
    Returned,
    /// More credits than can be counted.
    #[error("the peer grants more credits than can be")]
    Granted,
    /// An acknowledgment of nothing.
    #[error("the peer acknowledges what was not sent")]
    Acknowledged,
    /// Payload behind the end.
    #[error("the peer sends behind the end of its direction")]
    BehindEnd,
}

/// Why a connection is no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The peer, or this side, gave it up.
    #[error("the connection was reset by the peer")]
    Reset,
    /// It did not come about, or the peer does not answer any more.
    #[error("the peer does not answer")]
    TimedOut,
    /// The peer refused it.
    #[error("the peer refused the connection: {0}")]
    Refused(Refusal),
    /// Nobody listens there.
    #[error("nobody listens at the peer's port")]
    NobodyListens,
    /// The peer's connection manager refused it.
    #[error("the connection manager of the peer refused the connection")]
    Declined,
    /// The peer speaks something else.
    #[error("the peer does not speak this protocol: {0}")]
    Foreign(Refusal),
    /// There is no way to the peer.
    #[error("there is no way to the peer")]
    Unreachable,
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(Violation),
    /// The device is gone.
    #[error("the device is gone")]
    DeviceGone,
    /// This side gave it up.
    #[error("the connection was given up")]
    Aborted,
}

impl Failure {
    /// The kind that TCP's sockets give for the same event.
    pub fn kind(self) -> io::ErrorKind {
        match self {
            Failure::Reset | Failure::Protocol(_) => io::ErrorKind::ConnectionReset,
            Failure::TimedOut => io::ErrorKind::TimedOut,
            Failure::Refused(_) | Failure::NobodyListens | Failure::Declined | Failure::Foreign(_) => {
                io::ErrorKind::ConnectionRefused
            }
            Failure::Unreachable => io::ErrorKind::HostUnreachable,
            Failure::DeviceGone => io::ErrorKind::NetworkDown,
            Failure::Aborted => io::ErrorKind::ConnectionAborted,
        }
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> io::Error {
        io::Error::new(failure.kind(), failure)
    }
}
