//! Reassembly of IPv4 and IPv6 packets from fragments, out of slices of the buffers in which they came.
//!
//! Limits: [`Limits::packets`] at a time, [`Limits::fragments`] of each, and [`Limits::memory`] in all, in which a
//! fragment counts as at least [`LEAST_CHARGE`], since it holds on to the whole buffer in which it came. Beyond
//! them, and beyond its time, the packet goes that has been incomplete for longest: of a flood of fragments none
//! completes, and honest packets complete soon.
//!
//! Fragments that overlap are nobody's honest work: the whole packet is dropped, and whatever comes of it later
//! [rfc5722 4] [rfc8200 4.5-overlap]. For IPv4 no RFC asks for it, but the same attacks exist, and Linux does so too.
//! Exact duplicates are ignored [rfc8200 4.5-duplicate].

use super::Key;
use crate::wire::ip::Ecn;
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::time::{Duration, Instant};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// What a fragment counts as at least: the least buffer that devices receive into.
pub const LEAST_CHARGE: usize = 2048;

/// The longest payload that IP can say; 1500 bytes have to be taken [rfc8200 5-1500].
const LONGEST: usize = 65535;

/// How much a reassembly holds, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Incomplete packets.
    pub packets: usize,
    /// Fragments of one: with IPv4's least MTU of 576, 64 KiB come in 119.
    pub fragments: usize,
    /// Bytes of all.
    pub memory: usize,
    /// From the first fragment that comes of a packet: 60 s [rfc8200 4.5-timeout] [rfc1122 3.3.2-timeout]. (Linux
    /// has 30 s for IPv4.)
    pub time: Duration,
}

impl Default for Limits {
    /// 64 packets, 1 MiB, 60 seconds.
    fn default() -> Limits {
        Limits { packets: 64, fragments: 128, memory: 1 << 20, time: Duration::from_secs(60) }
    }
}

/// What fragments of one packet have in common [rfc791 3.2-identification] [rfc8200 4.5-identification].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Id {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Identification field.
    pub identification: u32,
    /// IPv4's protocol. For IPv6 it has no part in it, so 0.
    pub protocol: u8,
}

/// A fragment.
#[derive(Debug)]
pub struct Fragment {
    /// Where in the packet its payload belongs.
    pub offset: u16,
    /// There are fragments behind this one.
    pub more: bool,
    /// The part of the packet, which all comes from memory that may be kept.
    pub payload: Buffer,
    /// What stands before: of the first fragment, that is the packet's.
    pub header: Buffer,
    /// The first header behind the fragment header; of the first fragment, that counts [rfc8200 4.5-next-header].
    pub next_header: u8,
    /// The ECN field of its header.
    pub ecn: Ecn,
}

/// A whole packet.
#[derive(Debug)]
pub struct Packet {
    /// What stood before the first fragment's payload.
    pub header: Buffer,
    /// The first fragment's.
    pub next_header: u8,
    /// The parts.
    pub payload: Sga,
    /// Of all fragments together [rfc3168 5.3].
    pub ecn: Ecn,
}

/// Why a fragment was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// It, or what it belongs to, overlaps; now or before.
    Overlap,
    /// It was there already.
    Duplicate,
    /// Its offset or length contradicts the others', or what IP allows.
    Inconsistent,
    /// Its packet has too many fragments.
    TooMany,
    /// Some fragments say congestion, and others that they cannot [rfc3168 5.3].
    Ecn,
}

/// What became of a fragment.
#[derive(Debug)]
pub enum Outcome {
    /// Others are missing.
    Incomplete,
    /// It was the last that was missing.
    Complete(Packet),
    /// It is gone.
    Dropped(Dropped),
}

/// A packet that did not become whole.
#[derive(Debug)]
pub struct TimedOut {
    /// Which one.
    pub id: Id,
    /// The first fragment's header and payload, if it came: only then its source is told [rfc792 time-exceeded]
    /// [rfc1122 3.3.2-time-exceeded] [rfc8200 4.5-time-exceeded].
    pub first: Option<(Buffer, Buffer)>,
}

/// Packets that are not whole yet.
///
/// ```
/// use demikernel_net::ip::reassembly::{Fragment, Id, Limits, Outcome, Reassembly};
/// use demikernel_net::ip::Key;
/// use demikernel_net::wire::ip::{Ecn, protocol};
/// use demikernel_runtime::{buffer::Buffer, time::Instant};
///
/// let fragment = |offset, more, payload: &'static str| Fragment {
///     offset,
///     more,
///     payload: Buffer::from(payload),
///     header: Buffer::default(),
///     next_header: protocol::UDP,
///     ecn: Ecn::NotEct,
/// };
/// let (source, destination) = ("192.0.2.2".parse().unwrap(), "192.0.2.1".parse().unwrap());
/// let id = Id { source, destination, identification: 7, protocol: protocol::UDP };
/// let now = Instant::from_nanos(1);
/// let mut reassembly = Reassembly::new(Limits::default(), Key::new([7; 16]));
/// // The last one comes first.
/// assert!(matches!(reassembly.insert(now, id, fragment(8, false, "the end")), Outcome::Incomplete));
/// assert_eq!(reassembly.len(), 1);
/// let whole = reassembly.insert(now, id, fragment(0, true, "this is "));
/// let Outcome::Complete(packet) = whole else { panic!("nothing is missing") };
/// assert_eq!(packet.payload.to_vec(), b"this is the end");
/// assert!(reassembly.is_empty() && reassembly.memory() == 0);
/// ```
#[derive(Debug)]
pub struct Reassembly {
    packets: HashMap<Id, Partial, Key>,
    /// When packets began, in this order; those that are gone or began anew have another serial number.
    order: VecDeque<(Id, u64)>,
    limits: Limits,
    memory: usize,
    serial: u64,
    evicted: u64,
}

#[derive(Debug)]
struct Partial {
    serial: u64,
    until: Instant,
    /// Without gaps in between once complete: by offset, none overlapping.
    parts: Vec<(u16, Buffer)>,
    bytes: usize,
    charge: usize,
    /// Where the last fragment ends, once it came.
    end: Option<usize>,
    first: Option<(Buffer, u8)>,
    /// Bit by bit which ECN fields came.
    ecn: u8,
    /// It overlapped: nothing of it is kept but its name.
    is_dead: bool,
}

impl Reassembly {
    /// Nothing yet.
    #[must_use]
    pub fn new(limits: Limits, key: Key) -> Reassembly {
        Reassembly {
            packets: HashMap::with_hasher(key),
            order: VecDeque::new(),
            limits,
            memory: 0,
            serial: 0,
            evicted: 0,
        }
    }

    /// Takes a fragment.
    pub fn insert(&mut self, now: Instant, id: Id, fragment: Fragment) -> Outcome {
        // One that is a whole packet has nothing to do with others of the same name [rfc6946 4].
        if fragment.offset == 0 && !fragment.more {
            return Outcome::Complete(Packet {
                header: fragment.header,
                next_header: fragment.next_header,
                payload: fragment.payload.into(),
                ecn: fragment.ecn,
            });
        }
        if let Err(why) = check(&fragment) {
            return Outcome::Dropped(why);
        }
        let charge = fragment.payload.len().max(LEAST_CHARGE);
        if !self.packets.contains_key(&id) {
            self.begin(now, id);
        }
        while self.memory + charge > self.limits.memory {
            self.evict_oldest();
        }
        // It may have been the oldest itself.
        let Some(partial) = self.packets.get_mut(&id) else { return Outcome::Dropped(Dropped::TooMany) };
        match partial.insert(fragment, charge, self.limits.fragments) {
            Ok(()) => self.memory += charge,
            Err(Dropped::Duplicate) => return Outcome::Dropped(Dropped::Duplicate),
            Err(why) => {
                self.memory -= partial.die();
                return Outcome::Dropped(why);
            }
        }
        if !partial.is_complete() {
            return Outcome::Incomplete;
        }
        let Some(partial) = self.packets.remove(&id) else { return Outcome::Incomplete };
        self.memory -= partial.charge;
        partial.finish()
    }

    fn begin(&mut self, now: Instant, id: Id) {
        while self.packets.len() >= self.limits.packets.max(1) {
            self.evict_oldest();
        }
        // Names of packets that are gone: as many again, then they are swept out.
        if self.order.len() >= 2 * self.limits.packets.max(1) {
            let packets = &self.packets;
            self.order
                .retain(|(id, serial)| packets.get(id).is_some_and(|partial| partial.serial == *serial));
        }
        self.serial += 1;
        self.order.push_back((id, self.serial));
        let partial = Partial::new(self.serial, now.saturating_add(self.limits.time));
        self.packets.insert(id, partial);
    }

    fn evict_oldest(&mut self) {
        let Some((id, _)) = self.oldest() else { return };
        self.order.pop_front();
        if let Some(partial) = self.packets.remove(&id) {
            self.memory -= partial.charge;
            self.evicted += 1;
        }
    }

    /// The first in the order that is still there, and until when it is.
    fn oldest(&mut self) -> Option<(Id, Instant)> {
        while let Some((id, serial)) = self.order.front() {
            match self.packets.get(id) {
                Some(partial) if partial.serial == *serial => return Some((*id, partial.until)),
                _ => self.order.pop_front(),
            };
        }
        None
    }

    /// Gives up the next packet whose time is over. Ask again until there is none.
    ///
    /// ```
    /// use demikernel_net::ip::reassembly::{Fragment, Id, Limits, Reassembly};
    /// use demikernel_net::ip::Key;
    /// use demikernel_net::wire::ip::Ecn;
    /// use demikernel_runtime::{buffer::Buffer, time::Instant};
    ///
    /// let (source, destination) = ("192.0.2.2".parse().unwrap(), "192.0.2.1".parse().unwrap());
    /// let id = Id { source, destination, identification: 7, protocol: 17 };
    /// let (payload, header) = (Buffer::from("eight..."), Buffer::from("a header"));
    /// let fragment = Fragment { offset: 0, more: true, payload, header, next_header: 17, ecn: Ecn::NotEct };
    /// let (now, limits) = (Instant::from_nanos(1), Limits::default());
    /// let mut reassembly = Reassembly::new(limits, Key::new([7; 16]));
    /// reassembly.insert(now, id, fragment);
    /// assert!(reassembly.expire(now).is_none());
    /// let gone = reassembly.expire(now + limits.time).expect("the rest has not come");
    /// assert_eq!(gone.id, id);
    /// assert!(gone.first.is_some(), "so its source is told");
    /// ```
    pub fn expire(&mut self, now: Instant) -> Option<TimedOut> {
        let (id, until) = self.oldest()?;
        if now < until {
            return None;
        }
        self.order.pop_front();
        let mut partial = self.packets.remove(&id)?;
        self.memory -= partial.charge;
        let payload = partial.parts.first_mut().filter(|(offset, _)| *offset == 0);
        let payload = payload.map(|(_, payload)| std::mem::take(payload));
        let first = partial.first.zip(payload).map(|((header, _), payload)| (header, payload));
        Some(TimedOut { id, first })
    }

    /// When [`expire`](Reassembly::expire) has something to do.
    pub fn deadline(&mut self) -> Option<Instant> {
        self.oldest().map(|(_, until)| until)
    }

    /// How many packets are incomplete.
    #[must_use]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Bytes that count against [`Limits::memory`].
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// How many had to go before their time.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

/// What a fragment may not be by itself; parsers see to it as well.
fn check(fragment: &Fragment) -> Result<(), Dropped> {
    let length = fragment.payload.len();
    let is_cut_well = !fragment.more || length.is_multiple_of(8);
    // Without bytes it could come for ever [rfc8200 4.5-multiple-of-8].
    if length == 0 || !is_cut_well || usize::from(fragment.offset) + length > LONGEST {
        return Err(Dropped::Inconsistent);
    }
    Ok(())
}

impl Partial {
    fn new(serial: u64, until: Instant) -> Partial {
        Partial {
            serial,
            until,
            parts: Vec::new(),
            bytes: 0,
            charge: 0,
            end: None,
            first: None,
            ecn: 0,
            is_dead: false,
        }
    }

    fn insert(&mut self, fragment: Fragment, charge: usize, most: usize) -> Result<(), Dropped> {
        if self.is_dead {
            return Err(Dropped::Overlap);
        }
        let start = usize::from(fragment.offset);
        let end = start + fragment.payload.len();
        let place = self.parts.partition_point(|(offset, _)| *offset < fragment.offset);
        self.check_place(place, start, end)?;
        if self.parts.len() >= most {
            return Err(Dropped::TooMany);
        }
        self.check_end(end, fragment.more)?;
        if start == 0 {
            self.first = Some((fragment.header, fragment.next_header));
        }
        self.ecn |= 1 << fragment.ecn as u8;
        self.bytes += fragment.payload.len();
        self.charge += charge;
        self.parts.insert(place, (fragment.offset, fragment.payload));
        Ok(())
    }

    /// Between its neighbours there is room for it.
    fn check_place(&self, place: usize, start: usize, end: usize) -> Result<(), Dropped> {
        if let Some((offset, next)) = self.parts.get(place) {
            if usize::from(*offset) == start && next.len() == end - start {
                return Err(Dropped::Duplicate);
            }
            if usize::from(*offset) < end {
                return Err(Dropped::Overlap);
            }
        }
        let before = place.checked_sub(1).and_then(|before| self.parts.get(before));
        match before {
            Some((offset, before)) if usize::from(*offset) + before.len() > start => Err(Dropped::Overlap),
            _ => Ok(()),
        }
    }

    /// There is one last fragment, and none behind it.
    fn check_end(&mut self, end: usize, more: bool) -> Result<(), Dropped> {
        let (offset, last) = self.parts.last().map_or((0, 0), |(offset, part)| (*offset, part.len()));
        let behind = usize::from(offset) + last;
        match self.end {
            Some(known) if end > known || !more => Err(Dropped::Inconsistent),
            None if !more && end < behind => Err(Dropped::Inconsistent),
            None if !more => {
                self.end = Some(end);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// As nothing overlaps, it is complete when there are as many bytes as it is long.
    fn is_complete(&self) -> bool {
        self.end == Some(self.bytes)
    }

    /// Drops what there is; returns what it counted.
    fn die(&mut self) -> usize {
        self.is_dead = true;
        self.parts = Vec::new();
        self.first = None;
        std::mem::take(&mut self.charge)
    }

    fn finish(self) -> Outcome {
        let (Some((header, next_header)), Some(ecn)) = (self.first, merge(self.ecn)) else {
            return Outcome::Dropped(Dropped::Ecn);
        };
        let payload = self.parts.into_iter().map(|(_, part)| part).collect();
        Outcome::Complete(Packet { header, next_header, payload, ecn })
    }
}

/// Congestion of one is congestion of all; but one that cannot be marked must not have met with it
/// [rfc3168 5.3]. ECT(0) and ECT(1) together are either; as Linux, the former.
fn merge(seen: u8) -> Option<Ecn> {
    let has = |ecn: Ecn| seen & 1 << ecn as u8 != 0;
    match (has(Ecn::NotEct), has(Ecn::Ce)) {
        (true, true) => None,
        (false, true) => Some(Ecn::Ce),
        (true, false) => Some(Ecn::NotEct),
        (false, false) if has(Ecn::Ect0) => Some(Ecn::Ect0),
        (false, false) => Some(Ecn::Ect1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const NOW: Instant = Instant::from_nanos(0);

    fn id(identification: u32) -> Id {
        Id {
            source: Ipv4Addr::new(10, 0, 0, 1).into(),
            destination: Ipv4Addr::new(10, 0, 0, 2).into(),
            identification,
            protocol: 17,
        }
    }

    /// Of a packet in which each byte is the number of its group of eight.
    fn fragment(offset: u16, length: u16, more: bool) -> Fragment {
        let bytes: Vec<u8> = (0..length).map(|at| ((u32::from(offset) + u32::from(at)) / 8) as u8).collect();
        Fragment {
            offset,
            more,
            payload: bytes.into(),
            header: Buffer::from(vec![offset as u8]),
            next_header: offset as u8 + 1,
            ecn: Ecn::NotEct,
        }
    }

    fn reassembly() -> Reassembly {
        Reassembly::new(Limits::default(), Key::new([3; 16]))
    }

    /// What became of each fragment, in a word.
    fn story(fragments: &[(u16, u16, bool)]) -> Vec<String> {
        let mut reassembly = reassembly();
        fragments
            .iter()
            .map(|(offset, length, more)| {
                match reassembly.insert(NOW, id(1), fragment(*offset, *length, *more)) {
                    Outcome::Incomplete => "incomplete".into(),
                    Outcome::Complete(packet) => format!("complete {}", packet.payload.len()),
                    Outcome::Dropped(why) => format!("{why:?}"),
                }
            })
            .collect()
    }

    #[test]
    fn fragments_in_any_order_make_the_packet() {
        // [rfc791 3.2-identification] [rfc8200 4.5-identification]
        let parts = [(0, 16, true), (16, 24, true), (40, 5, false)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut reassembly = reassembly();
            let mut last = None;
            for number in order {
                let (offset, length, more) = parts[number];
                // Others of another name are not in the way.
                reassembly.insert(NOW, id(2), fragment(offset, length, true));
                last = Some(reassembly.insert(NOW, id(1), fragment(offset, length, more)));
            }
            let Some(Outcome::Complete(packet)) = last else { panic!("{order:?}: {last:?}") };
            let expected: Vec<u8> = (0..45).map(|at| at / 8).collect();
            assert_eq!(packet.payload.to_vec(), expected);
            // [rfc8200 4.5-next-header]
            assert_eq!((packet.header, packet.next_header), (Buffer::from(vec![0]), 1));
            assert_eq!((reassembly.len(), reassembly.packets.contains_key(&id(1))), (1, false));
        }
    }

    #[test]
    fn overlaps_kill_the_packet_and_duplicates_do_not() {
        // [rfc5722 4] [rfc8200 4.5-overlap] [rfc8200 4.5-duplicate]
        type Case = (&'static [(u16, u16, bool)], &'static [&'static str]);
        let table: [Case; 9] = [
            (&[(0, 16, true), (0, 16, true), (16, 8, false)], &["incomplete", "Duplicate", "complete 24"]),
            (&[(0, 16, true), (8, 16, true), (16, 8, false)], &["incomplete", "Overlap", "Overlap"]),
            (&[(8, 16, true), (0, 16, true), (0, 8, true)], &["incomplete", "Overlap", "Overlap"]),
            (&[(0, 16, true), (0, 8, true)], &["incomplete", "Overlap"]),
            (&[(0, 8, true), (0, 16, true)], &["incomplete", "Overlap"]),
            // Teardrop.
            (&[(0, 40, true), (24, 4, false)], &["incomplete", "Overlap"]),
            // Two ends, and one before what is there.
            (&[(16, 8, false), (24, 8, false)], &["incomplete", "Inconsistent"]),
            (&[(16, 8, true), (8, 8, false)], &["incomplete", "Inconsistent"]),
            (&[(8, 8, false), (16, 8, true)], &["incomplete", "Inconsistent"]),
        ];
        for (fragments, expected) in table {
            assert_eq!(story(fragments), expected, "{fragments:?}");
        }
    }

    #[test]
    fn a_fragment_may_not_be_anything() {
        // [rfc8200 4.5-multiple-of-8]
        assert_eq!(story(&[(0, 9, true), (8, 0, false), (65528, 8, false)]), ["Inconsistent"; 3]);
        assert_eq!(story(&[(65528, 7, false)]), ["incomplete"]);
        // [rfc8200 5-1500]
        assert_eq!(story(&[(0, 1232, true), (1232, 228, false)]), ["incomplete", "complete 1460"]);
    }

    #[test]
    fn an_atomic_fragment_is_a_packet_and_harms_no_other() {
        // [rfc6946 4]
        let fragments = [(0, 16, true), (0, 20, false), (16, 8, false)];
        assert_eq!(story(&fragments), ["incomplete", "complete 20", "complete 24"]);
    }

    #[test]
    fn packets_that_do_not_become_whole_end_in_time() {
        // [rfc8200 4.5-timeout] [rfc1122 3.3.2-timeout]
        let mut reassembly = reassembly();
        reassembly.insert(NOW, id(1), fragment(0, 16, true));
        let later = NOW + Duration::from_secs(59);
        reassembly.insert(later, id(1), fragment(24, 16, true));
        reassembly.insert(later, id(2), fragment(24, 16, true));
        assert!(reassembly.expire(later).is_none());
        assert_eq!(reassembly.deadline(), Some(NOW + Duration::from_secs(60)));
        // [rfc792 time-exceeded] [rfc1122 3.3.2-time-exceeded] [rfc8200 4.5-time-exceeded]
        let end = NOW + Duration::from_secs(60);
        let first = reassembly.expire(end).unwrap();
        assert_eq!((first.id, first.first.map(|(_, payload)| payload.len())), (id(1), Some(16)));
        assert!(reassembly.expire(end).is_none());
        let second = reassembly.expire(later + Duration::from_secs(60)).unwrap();
        assert!(second.id == id(2) && second.first.is_none(), "the first fragment never came");
        assert_eq!((reassembly.memory(), reassembly.len(), reassembly.deadline()), (0, 0, None));
    }

    #[test]
    fn floods_meet_limits_and_the_newest_completes() {
        let limits = Limits { packets: 16, memory: 20 * LEAST_CHARGE, ..Limits::default() };
        let mut reassembly = Reassembly::new(limits, Key::new([3; 16]));
        for number in 0..100_000 {
            reassembly.insert(NOW, id(number), fragment(0, 8, true));
            assert!(reassembly.len() <= 16 && reassembly.memory() <= limits.memory);
            assert!(reassembly.order.len() <= 32);
        }
        assert!(reassembly.evicted() > 90_000);
        reassembly.insert(NOW, id(1), fragment(0, 8, true));
        assert!(matches!(reassembly.insert(NOW, id(1), fragment(8, 8, false)), Outcome::Complete(_)));
        // Completed packets leave no names behind.
        for number in 0..1000 {
            reassembly.insert(NOW, id(number), fragment(0, 8, true));
            reassembly.insert(NOW, id(number), fragment(8, 8, false));
        }
        assert!(reassembly.order.len() <= 32 && reassembly.memory() <= limits.memory);
        // One packet alone may not have all memory, be it the oldest.
        for part in 0..1000 {
            reassembly.insert(NOW, id(7_000_000), fragment(part * 16 + 8, 8, true));
            assert!(reassembly.memory() <= limits.memory);
        }
    }

    #[test]
    fn one_packet_has_a_limit_of_fragments() {
        let mut reassembly = reassembly();
        for number in 0..128 {
            assert!(matches!(
                reassembly.insert(NOW, id(1), fragment(number * 8, 8, true)),
                Outcome::Incomplete
            ));
        }
        let one_more = reassembly.insert(NOW, id(1), fragment(128 * 8, 8, false));
        assert!(matches!(one_more, Outcome::Dropped(Dropped::TooMany)));
        assert_eq!(reassembly.memory(), 0);
    }

    #[test]
    fn congestion_of_one_is_of_all() {
        // [rfc3168 5.3]
        let table = [
            (Ecn::NotEct, Ecn::NotEct, Some(Ecn::NotEct)),
            (Ecn::NotEct, Ecn::Ect0, Some(Ecn::NotEct)),
            (Ecn::Ect0, Ecn::Ect1, Some(Ecn::Ect0)),
            (Ecn::Ect1, Ecn::Ect1, Some(Ecn::Ect1)),
            (Ecn::Ect0, Ecn::Ce, Some(Ecn::Ce)),
            (Ecn::NotEct, Ecn::Ce, None),
        ];
        for (one, other, expected) in table {
            for (one, other) in [(one, other), (other, one)] {
                let mut reassembly = reassembly();
                reassembly.insert(NOW, id(1), Fragment { ecn: one, ..fragment(0, 8, true) });
                let outcome = reassembly.insert(NOW, id(1), Fragment { ecn: other, ..fragment(8, 8, false) });
                let ecn = if let Outcome::Complete(packet) = outcome { Some(packet.ecn) } else { None };
                assert_eq!(ecn, expected, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn names_differ_in_every_part() {
        let mut reassembly = reassembly();
        let others = [
            Id { protocol: 6, ..id(1) },
            Id { source: Ipv4Addr::new(10, 0, 0, 9).into(), ..id(1) },
            Id { destination: Ipv6Addr::LOCALHOST.into(), ..id(1) },
            id(2),
        ];
        reassembly.insert(NOW, id(1), fragment(0, 8, true));
        for other in others {
            let outcome = reassembly.insert(NOW, other, fragment(8, 8, false));
            assert!(matches!(outcome, Outcome::Incomplete), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_cut_is_whole_again(
            sizes in prop::collection::vec(1u16..40, 1..20), last in 1u16..9, seed in any::<u64>(),
        ) {
            let mut cuts: Vec<(u16, u16, bool)> = Vec::new();
            let mut offset = 0;
            for size in sizes {
                cuts.push((offset, size * 8, true));
                offset += size * 8;
            }
            cuts.push((offset, last, false));
            // Any order, and each twice.
            cuts.extend(cuts.clone());
            let key = Key::new([5; 16]);
            cuts.sort_by_cached_key(|cut| key.hash(seed, cut));
            let mut reassembly = reassembly();
            let mut whole = Vec::new();
            for (offset, length, more) in cuts {
                if let Outcome::Complete(packet) = reassembly.insert(NOW, id(1), fragment(offset, length, more)) {
                    whole.push(packet.payload.to_vec());
                }
            }
            let expected: Vec<u8> = (0..offset + last).map(|at| (at / 8) as u8).collect();
            prop_assert!(whole.iter().all(|bytes| *bytes == expected));
            prop_assert!(!whole.is_empty());
        }

        #[test]
        fn anything_keeps_the_limits(
            fragments in prop::collection::vec((0u32..6, 0u16..40, 0u16..80, any::<bool>()), 0..200),
        ) {
            let limits = Limits { packets: 4, fragments: 8, memory: 10 * LEAST_CHARGE, ..Limits::default() };
            let mut reassembly = Reassembly::new(limits, Key::new([3; 16]));
            for (number, offset, length, more) in fragments {
                reassembly.insert(NOW, id(number), fragment(offset * 8, length, more));
                prop_assert!(reassembly.len() <= 4 && reassembly.memory() <= limits.memory);
                let charges = reassembly.packets.values().map(|partial| partial.charge).sum::<usize>();
                prop_assert_eq!(charges, reassembly.memory());
            }
            while reassembly.expire(Instant::MAX).is_some() {}
            prop_assert_eq!((reassembly.memory(), reassembly.len()), (0, 0));
        }
    }
}
