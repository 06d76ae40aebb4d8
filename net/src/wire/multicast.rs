//! What IGMPv3 (RFC 3376) and MLDv2 (RFC 3810) have in common: group records, lists of sources, and the floating
//! point of their times.

use super::Malformed;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Bytes of a report before its records, in both.
pub(super) const REPORT_HEADER: usize = 8;

/// Bytes of a record before its group, in both.
const RECORD_HEADER: usize = 4;

/// An address of one of the versions of IP.
pub trait Address: Copy + Eq + fmt::Debug + private::Bytes {
    /// Whether it names a group.
    fn is_multicast(&self) -> bool;
}

mod private {
    /// How an address is in memory.
    pub trait Bytes {
        /// How many there are.
        const LEN: usize;

        /// From that many.
        fn read(bytes: &[u8]) -> Self;

        /// To that many.
        fn write(&self, bytes: &mut [u8]);
    }
}

macro_rules! address {
    ($address:ty, $octets:literal) => {
        impl Address for $address {
            fn is_multicast(&self) -> bool {
                <$address>::is_multicast(self)
            }
        }

        impl private::Bytes for $address {
            const LEN: usize = $octets;

            fn read(bytes: &[u8]) -> $address {
                <[u8; $octets]>::try_from(bytes).expect("as many as an address has").into()
            }

            fn write(&self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.octets());
            }
        }
    };
}

address!(Ipv4Addr, 4);
address!(Ipv6Addr, 16);

/// Addresses of sources: as they stand in a message, or as they are to be written into one.
///
/// ```
/// use demikernel_net::wire::multicast::Sources;
/// use std::net::Ipv4Addr;
///
/// let addresses = [Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(198, 51, 100, 2)];
/// let sources = Sources::new(&addresses);
/// assert_eq!((sources.len(), sources.is_empty()), (2, false));
/// assert!(sources.iter().eq(addresses));
/// ```
#[derive(Clone, Copy)]
pub struct Sources<'a, A>(List<'a, A>);

/// Group records, in the same way.
///
/// ```
/// use demikernel_net::wire::igmp::Message;
/// use demikernel_net::wire::multicast::{Record, Records};
///
/// let records = ["239.0.0.1", "239.0.0.2"].map(|group| Record::join(group.parse().unwrap()));
/// let report = Message::ReportV3(Records::new(&records));
/// let mut bytes = vec![0; report.len()];
/// report.emit(&mut bytes);
///
/// // Of a message that was received nothing is copied: records are read where they stand.
/// let Ok(Message::ReportV3(received)) = Message::parse(&bytes) else { panic!("it is a report") };
/// assert!(received.iter().eq(records));
/// ```
#[derive(Clone, Copy)]
pub struct Records<'a, A: Address>(List<'a, Record<'a, A>>);

#[derive(Clone, Copy)]
enum List<'a, T> {
    /// Valid from beginning to end.
    Received(&'a [u8]),
    ToSend(&'a [T]),
}

impl<'a, A: Address> Sources<'a, A> {
    /// These.
    pub const fn new(sources: &'a [A]) -> Sources<'a, A> {
        Sources(List::ToSend(sources))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self.0 {
            List::Received(bytes) => bytes.len() / A::LEN,
            List::ToSend(sources) => sources.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = A> + use<'a, A> {
        let (bytes, sources) = match self.0 {
            List::Received(bytes) => (bytes, &[][..]),
            List::ToSend(sources) => (&[][..], sources),
        };
        bytes.chunks_exact(A::LEN).map(A::read).chain(sources.iter().copied())
    }

    /// So many of them from the front of `bytes`, and what is behind them.
    pub(super) fn parse(bytes: &'a [u8], count: u16) -> Result<(Sources<'a, A>, &'a [u8]), Malformed> {
        let (sources, rest) =
            bytes.split_at_checked(usize::from(count) * A::LEN).ok_or(Malformed::Truncated)?;
        Ok((Sources(List::Received(sources)), rest))
    }

    /// Writes them to the front of `bytes`, and returns what is behind them.
    pub(super) fn emit<'b>(&self, mut bytes: &'b mut [u8]) -> &'b mut [u8] {
        for source in self.iter() {
            let (place, rest) = bytes.split_at_mut(A::LEN);
            source.write(place);
            bytes = rest;
        }
        bytes
    }

    pub(super) fn bytes(&self) -> usize {
        self.len() * A::LEN
    }
}

/// What a record says of its group (RFC 3376 section 4.2.12, RFC 3810 section 5.2.12).
///
/// ```
/// use demikernel_net::wire::multicast::{Record, RecordKind};
/// use std::net::Ipv4Addr;
///
/// let group = Ipv4Addr::new(239, 0, 0, 1);
/// // Joining is to exclude nobody from now on; leaving, to include nobody.
/// assert_eq!(Record::join(group).kind, RecordKind::ChangeToExclude);
/// assert_eq!(Record::leave(group).kind, RecordKind::ChangeToInclude);
/// assert_eq!(RecordKind::ChangeToExclude as u8, 4, "as it is in a message");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum RecordKind {
    /// The filter is, and was, to take from these sources only.
    ModeIsInclude = 1,
    /// The filter is, and was, to take from all but these.
    ModeIsExclude = 2,
    /// It has become to take from these only.
    ChangeToInclude = 3,
    /// It has become to take from all but these.
    ChangeToExclude = 4,
    /// These sources, too.
    AllowNewSources = 5,
    /// These no longer.
    BlockOldSources = 6,
}

impl RecordKind {
    fn from_bits(bits: u8) -> Option<RecordKind> {
        match bits {
            1 => Some(RecordKind::ModeIsInclude),
            2 => Some(RecordKind::ModeIsExclude),
            3 => Some(RecordKind::ChangeToInclude),
            4 => Some(RecordKind::ChangeToExclude),
            5 => Some(RecordKind::AllowNewSources),
            6 => Some(RecordKind::BlockOldSources),
            _ => None,
        }
    }
}

/// What a host says of one group.
///
/// ```
/// use demikernel_net::wire::multicast::{Record, RecordKind, Sources};
/// use std::net::Ipv4Addr;
///
/// // From one source only: source-specific multicast (RFC 4607).
/// let source = [Ipv4Addr::new(198, 51, 100, 1)];
/// let record = Record {
///     kind: RecordKind::AllowNewSources,
///     group: Ipv4Addr::new(232, 1, 2, 3),
///     sources: Sources::new(&source),
/// };
/// assert_ne!(record, Record::join(record.group), "that would be from all sources");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a, A: Address> {
    /// What of it.
    pub kind: RecordKind,
    /// The group.
    pub group: A,
    /// From these sources.
    pub sources: Sources<'a, A>,
}

impl<'a, A: Address> Record<'a, A> {
    /// To take from all sources, which is what joining a group means where sources do not matter.
    pub const fn join(group: A) -> Record<'a, A> {
        Record { kind: RecordKind::ChangeToExclude, group, sources: Sources::new(&[]) }
    }

    /// To take from none.
    pub const fn leave(group: A) -> Record<'a, A> {
        Record { kind: RecordKind::ChangeToInclude, group, sources: Sources::new(&[]) }
    }

    fn len(&self) -> usize {
        RECORD_HEADER + A::LEN + self.sources.bytes()
    }

    /// A record, none if its type is unknown, and what is behind it. Auxiliary data are skipped
    /// [rfc3376 4.2.10] [rfc3810 5.2.10], and so are unknown types [rfc3376 4.2.12-unknown].
    fn parse(bytes: &'a [u8]) -> Result<(Option<Record<'a, A>>, &'a [u8]), Malformed> {
        let (&[kind, auxiliary, n0, n1], rest) = bytes.split_first_chunk().ok_or(Malformed::Truncated)?;
        let (group, rest) = rest.split_at_checked(A::LEN).ok_or(Malformed::Truncated)?;
        let (sources, rest) = Sources::parse(rest, u16::from_be_bytes([n0, n1]))?;
        let rest = rest.get(usize::from(auxiliary) * 4..).ok_or(Malformed::Truncated)?;
        let record = RecordKind::from_bits(kind).map(|kind| Record { kind, group: A::read(group), sources });
        Ok((record, rest))
    }

    fn emit<'b>(&self, bytes: &'b mut [u8]) -> &'b mut [u8] {
        let count = u16::try_from(self.sources.len()).expect("no packet has room for more sources");
        let ([n0, n1], (header, rest)) = (count.to_be_bytes(), bytes.split_at_mut(RECORD_HEADER));
        header.copy_from_slice(&[self.kind as u8, 0, n0, n1]);
        let (group, rest) = rest.split_at_mut(A::LEN);
        self.group.write(group);
        self.sources.emit(rest)
    }
}

impl<'a, A: Address> Records<'a, A> {
    /// These.
    pub const fn new(records: &'a [Record<'a, A>]) -> Records<'a, A> {
        Records(List::ToSend(records))
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Record<'a, A>> + use<'a, A> {
        let (mut bytes, records) = match self.0 {
            List::Received(bytes) => (bytes, &[][..]),
            List::ToSend(records) => (&[][..], records),
        };
        let received = std::iter::from_fn(move || {
            let record;
            (record, bytes) = Record::parse(bytes).ok()?;
            Some(record)
        });
        received.flatten().chain(records.iter().copied())
    }

    /// Those of a whole report; bytes behind the last one are ignored [rfc3376 4.2.11].
    pub(super) fn parse(report: &'a [u8]) -> Result<Records<'a, A>, Malformed> {
        let (&[_, _, _, _, _, _, n0, n1], records) =
            report.split_first_chunk().ok_or(Malformed::Truncated)?;
        let mut rest = records;
        for _ in 0..u16::from_be_bytes([n0, n1]) {
            let record: Option<Record<'_, A>>;
            (record, rest) = Record::parse(rest)?;
            if record.is_some_and(|record| !record.group.is_multicast()) {
                return Err(Malformed::Value);
            }
        }
        Ok(Records(List::Received(&records[..records.len() - rest.len()])))
    }

    /// Writes a whole report of this type, but for its checksum.
    pub(super) fn emit(&self, kind: u8, report: &mut [u8]) {
        let (header, mut rest) = report.split_at_mut(REPORT_HEADER);
        let mut count = 0u16;
        for record in self.iter() {
            rest = record.emit(rest);
            count += 1;
        }
        let [n0, n1] = count.to_be_bytes();
        header.copy_from_slice(&[kind, 0, 0, 0, 0, 0, n0, n1]);
    }

    /// Bytes of a whole report.
    pub(super) fn report_len(&self) -> usize {
        REPORT_HEADER + self.iter().map(|record| record.len()).sum::<usize>()
    }
}

impl<A: Address> PartialEq for Sources<'_, A> {
    fn eq(&self, other: &Sources<'_, A>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<A: Address> Eq for Sources<'_, A> {}

impl<A: Address> fmt::Debug for Sources<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<A: Address> PartialEq for Records<'_, A> {
    fn eq(&self, other: &Records<'_, A>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<A: Address> Eq for Records<'_, A> {}

impl<A: Address> fmt::Debug for Records<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A query of the current version.
///
/// ```
/// use demikernel_net::wire::igmp::Message;
/// use demikernel_net::wire::multicast::{Query, Sources};
/// use std::time::Duration;
///
/// let sources = ["198.51.100.1".parse().unwrap()];
/// let query = Message::QueryV3(Query {
///     group: Some("232.1.2.3".parse().unwrap()),
///     max_response: Duration::from_secs(1),
///     suppress: false,
///     robustness: 2,
///     interval: Duration::from_secs(125),
///     sources: Sources::new(&sources),
/// });
/// let mut bytes = vec![0; query.len()];
/// query.emit(&mut bytes);
/// assert_eq!(Message::parse(&bytes), Ok(query));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Query<'a, A: Address> {
    /// About one group, or all.
    pub group: Option<A>,
    /// Answers are to come, spread out, within this.
    pub max_response: Duration,
    /// Routers need not restart their timers.
    pub suppress: bool,
    /// How often messages are to be repeated; 0 says nothing.
    pub robustness: u8,
    /// Between general queries.
    pub interval: Duration,
    /// About these sources only, if there are any.
    pub sources: Sources<'a, A>,
}

/// Bytes behind the group of a query, before its sources, in both.
pub(super) const QUERY_TRAILER: usize = 4;

const SUPPRESS: u8 = 0x08;
const ROBUSTNESS: u8 = 0x07;

impl<'a, A: Address> Query<'a, A> {
    /// From what is behind the group, in both.
    pub(super) fn parse(
        group: Option<A>,
        max_response: Duration,
        trailer: &'a [u8],
    ) -> Result<Query<'a, A>, Malformed> {
        let (&[flags, interval, n0, n1], rest) = trailer.split_first_chunk().ok_or(Malformed::Length)?;
        let (sources, _) = Sources::parse(rest, u16::from_be_bytes([n0, n1]))?;
        Ok(Query {
            group,
            max_response,
            suppress: flags & SUPPRESS != 0,
            robustness: flags & ROBUSTNESS,
            interval: Duration::from_secs(decode_8(interval).into()),
            sources,
        })
    }

    /// Writes what is behind the group.
    pub(super) fn emit(&self, trailer: &mut [u8]) {
        let flags = self.robustness.min(ROBUSTNESS) | if self.suppress { SUPPRESS } else { 0 };
        let interval = encode_8(u32::try_from(self.interval.as_secs()).unwrap_or(u32::MAX));
        let count = u16::try_from(self.sources.len()).expect("no packet has room for more sources");
        let ([n0, n1], (header, rest)) = (count.to_be_bytes(), trailer.split_at_mut(QUERY_TRAILER));
        header.copy_from_slice(&[flags, interval, n0, n1]);
        self.sources.emit(rest);
    }
}

/// Nothing, a group, or what cannot be asked about.
pub(super) fn group_of<A: Address>(group: A, unspecified: A) -> Result<Option<A>, Malformed> {
    match group {
        group if group == unspecified => Ok(None),
        group if group.is_multicast() => Ok(Some(group)),
        _ => Err(Malformed::Value),
    }
}

/// A group that a report is about.
pub(super) fn group_in<A: Address>(group: A) -> Result<A, Malformed> {
    if group.is_multicast() { Ok(group) } else { Err(Malformed::Value) }
}

/// Four bits of mantissa and three of exponent [rfc3376 4.1.1] [rfc3376 4.1.7] [rfc3810 5.1.9].
pub(super) const fn decode_8(code: u8) -> u32 {
    decode(code as u32, 7, 4)
}

/// The largest code that means no more than `value`.
pub(super) const fn encode_8(value: u32) -> u8 {
    encode(value, 7, 4) as u8
}

/// Twelve bits of mantissa and three of exponent [rfc3810 5.1.3].
pub(super) const fn decode_16(code: u16) -> u32 {
    decode(code as u32, 15, 12)
}

/// The largest code that means no more than `value`.
pub(super) const fn encode_16(value: u32) -> u16 {
    encode(value, 15, 12) as u16
}

/// Codes below `1 << linear` are their value.
const fn decode(code: u32, linear: u32, mantissa: u32) -> u32 {
    if code < 1 << linear {
        return code;
    }
    let exponent = (code >> mantissa) & 0x7;
    (code & ((1 << mantissa) - 1) | 1 << mantissa) << (exponent + 3)
}

const fn encode(value: u32, linear: u32, mantissa: u32) -> u32 {
    if value < 1 << linear {
        return value;
    }
    // The mantissa and the one before it are the highest bits.
    let exponent = 31 - value.leading_zeros() - mantissa - 3;
    if exponent > 7 {
        return (1 << (linear + 1)) - 1;
    }
    1 << linear | exponent << mantissa | (value >> (exponent + 3)) & ((1 << mantissa) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_floating_point() {
        // [rfc3376 4.1.1] [rfc3376 4.1.7] [rfc3810 5.1.3] [rfc3810 5.1.9]
        let table = [(0, 0), (127, 127), (0x80, 128), (0x8f, 31 << 3), (0x90, 16 << 4), (0xff, 31 << 10)];
        for (code, value) in table {
            assert_eq!(decode_8(code), value, "{code:#x}");
        }
        let table = [(0x7fff, 0x7fff), (0x8000, 0x1000 << 3), (0x9001, 0x1001 << 4), (0xffff, 0x1fff << 10)];
        for (code, value) in table {
            assert_eq!(decode_16(code), value, "{code:#x}");
        }
    }

    #[test]
    fn every_code_is_that_of_its_value_and_of_no_larger_one() {
        for code in 0..=u8::MAX {
            assert_eq!(encode_8(decode_8(code)), code);
        }
        for code in 0..u8::MAX {
            assert_eq!(encode_8(decode_8(code + 1) - 1), code);
        }
        for code in 0..=u16::MAX {
            assert_eq!(encode_16(decode_16(code)), code);
        }
        assert_eq!((encode_8(u32::MAX), encode_16(u32::MAX)), (0xff, 0xffff));
        assert_eq!((encode_8(135), encode_8(136)), (0x80, 0x81));
    }

    #[test]
    fn joining_is_excluding_nobody() {
        let group = Ipv4Addr::new(239, 0, 0, 1);
        assert_eq!(Record::join(group).kind, RecordKind::ChangeToExclude);
        assert_eq!(Record::leave(group).kind, RecordKind::ChangeToInclude);
        assert!(Record::join(group).sources.is_empty());
    }
}
