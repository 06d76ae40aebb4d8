//! The header of a datagram, and the peers that datagrams go to.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use demikernel_runtime::time::Instant;

use super::error::Failure;
use super::frame::VERSION;

/// Bytes before the payload of a datagram.
pub const DATAGRAM_HEADER: usize = 20;

/// What stands before the payload of a datagram: who has sent it. `WIRE.md` says where.
pub fn datagram_header(source: SocketAddr) -> [u8; DATAGRAM_HEADER] {
    let mut bytes = [0; DATAGRAM_HEADER];
    bytes[0] = VERSION << 4;
    bytes[2..4].copy_from_slice(&source.port().to_be_bytes());
    let address = match source.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    bytes[4..].copy_from_slice(&address.octets());
    bytes
}

/// Who has sent a datagram, by its header; `None` if that is none.
pub fn datagram_source(datagram: &[u8]) -> Option<SocketAddr> {
    let header = datagram.first_chunk::<DATAGRAM_HEADER>()?;
    if header[..2] != [VERSION << 4, 0] {
        return None;
    }
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[4..]);
    let address = IpAddr::from(octets).to_canonical();
    let port = u16::from_be_bytes([header[2], header[3]]);
    (port != 0 && !address.is_unspecified()).then_some(SocketAddr::new(address, port))
}

/// How long what is known of a peer is believed: a program that was started anew is found again after that.
const KNOWN: Duration = Duration::from_secs(30);

/// How long nobody asks again for a peer that was not found.
const NOT_FOUND: Duration = Duration::from_secs(1);

/// What is known of those whom datagrams are for. Never more than a limit, and nothing for ever.
#[derive(Debug)]
pub(crate) struct Peers<T> {
    entries: HashMap<SocketAddr, (Instant, Entry<T>)>,
    /// By when they are to be forgotten.
    deadlines: BTreeSet<(Instant, SocketAddr)>,
    limit: usize,
    /// How many are being asked for.
    asked: usize,
    /// How long asking may take.
    patience: Duration,
}

#[derive(Debug)]
enum Entry<T> {
    Asked,
    Known(T),
    NotFound(Failure),
}

/// What to do with a datagram for a peer.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Look<'a, T> {
    /// Send it there.
    Known(&'a T),
    /// Ask for the peer, and wait.
    Ask,
    /// Wait: somebody has asked, or too many are being asked for.
    Wait,
    /// It cannot be sent.
    Failed(Failure),
}

impl<T> Peers<T> {
    /// At most so many, each asked for at most so long.
    pub(crate) fn new(limit: usize, patience: Duration) -> Peers<T> {
        Peers { entries: HashMap::new(), deadlines: BTreeSet::new(), limit: limit.max(1), asked: 0, patience }
    }

    /// What is known of a peer. After [`Look::Ask`] the caller asks.
    pub(crate) fn look(&mut self, now: Instant, peer: SocketAddr) -> Look<'_, T> {
        self.expire(now);
        if !self.entries.contains_key(&peer) {
            if self.entries.len() >= self.limit && !self.forget_one() {
                return Look::Wait;
            }
            self.put(now + self.patience, peer, Entry::Asked);
            return Look::Ask;
        }
        match &self.entries[&peer].1 {
            Entry::Asked => Look::Wait,
            Entry::Known(value) => Look::Known(value),
            Entry::NotFound(failure) => Look::Failed(*failure),
        }
    }

    /// A peer was found; if somebody has asked.
    pub(crate) fn found(&mut self, now: Instant, peer: SocketAddr, value: T) {
        if self.is_asked(peer) {
            self.put(now + KNOWN, peer, Entry::Known(value));
        }
    }

    /// A peer was not found; if somebody has asked.
    pub(crate) fn not_found(&mut self, now: Instant, peer: SocketAddr, failure: Failure) {
        if self.is_asked(peer) {
            self.put(now + NOT_FOUND, peer, Entry::NotFound(failure));
        }
    }

    /// Forgets what is too old; those that were asked for too long are not found.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(&(deadline, peer)) = self.deadlines.first() {
            if deadline > now {
                return;
            }
            if self.is_asked(peer) {
                self.put(now + NOT_FOUND, peer, Entry::NotFound(Failure::TimedOut));
            } else {
                self.remove(peer);
            }
        }
    }

    /// When something is to be forgotten.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        if self.asked == 0 {
            // What is merely old is looked at when somebody asks.
            return None;
        }
        let asked = self.deadlines.iter().filter(|(_, peer)| self.is_asked(*peer));
        asked.map(|(deadline, _)| *deadline).next()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether a peer is being asked for.
    pub(crate) fn is_asked(&self, peer: SocketAddr) -> bool {
        matches!(self.entries.get(&peer), Some((_, Entry::Asked)))
    }

    fn put(&mut self, deadline: Instant, peer: SocketAddr, entry: Entry<T>) {
        self.asked += usize::from(matches!(entry, Entry::Asked));
        if let Some((before, former)) = self.entries.insert(peer, (deadline, entry)) {
            self.asked -= usize::from(matches!(former, Entry::Asked));
            self.deadlines.remove(&(before, peer));
        }
        self.deadlines.insert((deadline, peer));
    }

    fn remove(&mut self, peer: SocketAddr) {
        if let Some((deadline, former)) = self.entries.remove(&peer) {
            self.asked -= usize::from(matches!(former, Entry::Asked));
            self.deadlines.remove(&(deadline, peer));
        }
    }

    /// Forgets the oldest that nobody waits for.
    fn forget_one(&mut self) -> bool {
        let oldest = self.deadlines.iter().map(|(_, peer)| *peer).find(|peer| !self.is_asked(*peer));
        oldest.map(|peer| self.remove(peer)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_nanos(1 << 50);

    fn peer(number: u16) -> SocketAddr {
        ([192, 0, 2, 1], number).into()
    }

    #[test]
    fn the_header_says_who_has_sent_it() {
        let header = datagram_header("192.0.2.9:7000".parse().unwrap());
        assert_eq!(header, *b"\x10\0\x1b\x58\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x09");
        for source in ["192.0.2.9:7000", "[2001:db8::7]:1"] {
            let source: SocketAddr = source.parse().unwrap();
            let mut datagram = datagram_header(source).to_vec();
            datagram.extend_from_slice(b"payload");
            assert_eq!(datagram_source(&datagram), Some(source));
            assert_eq!(datagram_source(&datagram[..DATAGRAM_HEADER - 1]), None);
            for (at, wrong) in [(0, 0x20), (0, 0x11), (1, 1)] {
                let mut other = datagram.clone();
                other[at] = wrong;
                assert_eq!(datagram_source(&other), None);
            }
        }
        assert_eq!(datagram_source(&datagram_header(peer(0))), None, "nobody could answer");
        assert_eq!(datagram_source(&datagram_header(([0, 0, 0, 0], 7).into())), None);
    }

    #[test]
    fn a_peer_is_asked_for_once_and_remembered_for_a_while() {
        let mut peers = Peers::new(8, Duration::from_secs(2));
        assert_eq!(peers.look(NOW, peer(1)), Look::Ask);
        assert_eq!(peers.look(NOW, peer(1)), Look::Wait);
        assert_eq!(peers.next_deadline(), Some(NOW + Duration::from_secs(2)));
        peers.found(NOW, peer(1), "there");
        assert_eq!(peers.look(NOW + Duration::from_secs(29), peer(1)), Look::Known(&"there"));
        assert_eq!(peers.look(NOW + KNOWN, peer(1)), Look::Ask, "it may be somebody else by now");
        peers.found(NOW + KNOWN, peer(2), "unasked");
        assert_eq!(peers.len(), 1);
    }

    #[test]
    fn one_who_is_not_found_is_not_asked_for_again_at_once() {
        let mut peers = Peers::<()>::new(8, Duration::from_secs(2));
        assert_eq!(peers.look(NOW, peer(1)), Look::Ask);
        peers.not_found(NOW, peer(1), Failure::NobodyListens);
        assert_eq!(peers.look(NOW, peer(1)), Look::Failed(Failure::NobodyListens));
        assert_eq!(peers.look(NOW + NOT_FOUND, peer(1)), Look::Ask);
        let late = NOW + NOT_FOUND + Duration::from_secs(2);
        peers.expire(late);
        assert_eq!(peers.look(late, peer(1)), Look::Failed(Failure::TimedOut));
    }

    #[test]
    fn they_are_never_more_than_the_limit() {
        let mut peers = Peers::new(4, Duration::from_secs(2));
        for number in 1..=4 {
            assert_eq!(peers.look(NOW, peer(number)), Look::Ask);
        }
        assert_eq!(peers.look(NOW, peer(5)), Look::Wait, "all are being asked for");
        peers.found(NOW, peer(2), 2);
        assert_eq!(peers.look(NOW, peer(5)), Look::Ask);
        assert_eq!(peers.len(), 4);
        assert_eq!(peers.look(NOW, peer(2)), Look::Wait, "it was forgotten for that");
    }
}
