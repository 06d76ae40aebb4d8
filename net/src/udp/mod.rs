//! UDP sockets: what has come and was not received yet, within a limit, and errors that ICMP reported.
//!
//! Ports, and whose datagram it is, are the [stack](crate::stack)'s matter.

use crate::wire::Malformed;
use crate::wire::checksum::Sum;
use crate::wire::ip::Version;
use demikernel_runtime::buffer::Buffer;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

/// The longest payload: an IPv4 packet has 65535 octets.
pub const LONGEST: usize = 65_535 - 20 - 8;

/// What each datagram counts beside its payload: the buffer that it is in, and its place in the queue.
const OVERHEAD: usize = 512;

/// What Linux lets wait by default (net.core.rmem_default).
pub(crate) const LIMIT: usize = 212_992;

/// A datagram that has come.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// What it says.
    pub payload: Buffer,
    /// Whom it is from.
    pub source: SocketAddr,
    /// To which of our addresses, or which group, it was sent.
    pub destination: IpAddr,
}

/// What waits for the user of a socket.
///
/// ```
/// use demikernel_net::udp::{Datagram, Socket};
/// use demikernel_runtime::buffer::Buffer;
///
/// let (source, destination) = ("192.0.2.2:9".parse().unwrap(), "192.0.2.1".parse().unwrap());
/// let datagram = |payload: &'static str| Datagram { payload: Buffer::from(payload), source, destination };
/// let mut socket = Socket::new();
/// assert!(socket.deliver(datagram("first")) && socket.deliver(datagram("second")));
/// assert_eq!(socket.queued(), 2);
/// assert_eq!(&socket.receive().unwrap().payload[..], b"first");
/// ```
#[derive(Debug)]
pub struct Socket {
    /// Has its place here, as most often none follows. If there is none, there are none in the queue either.
    first: Option<Datagram>,
    queue: VecDeque<Datagram>,
    queued: usize,
    limit: usize,
    error: Option<i32>,
    shut: bool,
}

impl Default for Socket {
    fn default() -> Socket {
        Socket { first: None, queue: VecDeque::new(), queued: 0, limit: LIMIT, error: None, shut: false }
    }
}

impl Socket {
    /// Nothing waits.
    pub fn new() -> Socket {
        Socket::default()
    }

    /// A datagram has come; whether there is room for it. One always is taken, however long.
    #[inline]
    pub fn deliver(&mut self, datagram: Datagram) -> bool {
        let cost = datagram.payload.len() + OVERHEAD;
        if self.first.is_none() {
            self.first = Some(datagram);
        } else if self.queued + cost <= self.limit {
            self.queue.push_back(datagram);
        } else {
            return false;
        }
        self.queued += cost;
        true
    }

    /// The datagram that has waited longest.
    #[inline]
    pub fn receive(&mut self) -> Option<Datagram> {
        let datagram = self.first.take()?;
        if !self.queue.is_empty() {
            self.first = self.queue.pop_front();
        }
        self.queued -= datagram.payload.len() + OVERHEAD;
        Some(datagram)
    }

    /// How many wait.
    pub fn queued(&self) -> usize {
        usize::from(self.first.is_some()) + self.queue.len()
    }

    /// Octets that may wait, each datagram's overhead included.
    ///
    /// ```
    /// use demikernel_net::udp::{Datagram, Socket};
    /// use demikernel_runtime::buffer::Buffer;
    ///
    /// let (source, destination) = ("192.0.2.2:9".parse().unwrap(), "192.0.2.1".parse().unwrap());
    /// let datagram = || Datagram { payload: Buffer::from(vec![0; 1000]), source, destination };
    /// let mut socket = Socket::new();
    /// socket.set_limit(4000);
    /// let taken = (0..10).filter(|_| socket.deliver(datagram())).count();
    /// assert_eq!(taken, 2, "each counts for some 1500 octets: a flood of short ones is limited, too");
    /// ```
    pub fn set_limit(&mut self, octets: usize) {
        self.limit = octets;
    }

    /// Octets that may wait.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// ICMP reports an error about what was sent. [rfc1122 4.1.3.3]
    ///
    /// ```
    /// use demikernel_net::udp::Socket;
    ///
    /// let mut socket = Socket::new();
    /// socket.fail(libc::ECONNREFUSED);
    /// assert!(socket.has_error());
    /// assert_eq!((socket.take_error(), socket.take_error()), (Some(libc::ECONNREFUSED), None));
    /// ```
    pub fn fail(&mut self, errno: i32) {
        self.error = Some(errno);
    }

    /// The error, told once.
    #[inline]
    pub fn take_error(&mut self) -> Option<i32> {
        self.error.take()
    }

    /// Whether an error waits.
    #[inline]
    pub fn has_error(&self) -> bool {
        self.error.is_some()
    }

    /// The user receives no more.
    pub fn shut(&mut self) {
        self.shut = true;
    }

    /// Whether the user receives no more.
    #[inline]
    pub fn is_shut(&self) -> bool {
        self.shut
    }
}

/// Whether a datagram that is in several pieces is as it was sent. [rfc1122 4.1.3.4] [rfc8200 8.1-zero-received]
pub(crate) fn verify<'a>(
    version: Version,
    pseudo_header: Sum,
    checksum: u16,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Result<(), Malformed> {
    if checksum == 0 {
        return if version == Version::V4 { Ok(()) } else { Err(Malformed::Checksum) };
    }
    let sum = pieces.fold(pseudo_header, |sum, piece| sum.then(Sum::of(piece)));
    if sum.is_valid() { Ok(()) } else { Err(Malformed::Checksum) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(length: usize) -> Datagram {
        let source = "192.0.2.1:53".parse().unwrap();
        Datagram { payload: vec![7; length].into(), source, destination: "192.0.2.2".parse().unwrap() }
    }

    #[test]
    fn datagrams_wait_in_order_and_within_the_limit() {
        let mut socket = Socket::new();
        socket.set_limit(3000);
        let taken = (0..10).filter(|length| socket.deliver(datagram(*length))).count();
        assert_eq!((taken, socket.queued()), (5, 5));
        for length in 0..5 {
            assert_eq!(socket.receive().map(|datagram| datagram.payload.len()), Some(length));
        }
        assert!(socket.receive().is_none());
        assert!(socket.deliver(datagram(5000)), "one is always taken");
        assert!(!socket.deliver(datagram(0)));
    }

    #[test]
    fn errors_are_told_once() {
        let mut socket = Socket::new();
        socket.fail(libc::ECONNREFUSED);
        assert!(socket.has_error());
        assert_eq!((socket.take_error(), socket.take_error()), (Some(libc::ECONNREFUSED), None));
    }

    /// [rfc1122 4.1.3.4], [rfc8200 8.1-zero-received]
    #[test]
    fn a_checksum_may_be_left_out_in_ipv4_only() {
        let bytes = b"abcd";
        let sum = Sum::of(bytes).checksum();
        let pieces = || [&bytes[..1], &bytes[1..]].into_iter();
        let with = |sum: u16| Sum::of_u16(sum);
        assert!(verify(Version::V4, with(sum), sum, pieces()).is_ok());
        assert!(verify(Version::V4, with(sum ^ 1), sum ^ 1, pieces()).is_err());
        assert!(verify(Version::V4, Sum::ZERO, 0, pieces()).is_ok());
        assert!(verify(Version::V6, Sum::ZERO, 0, pieces()).is_err());
    }
}
