//! SYN cookies (RFC 4987 section 3.6): when a listener is flooded, the answer to a SYN holds all that would be kept.
//!
//! The cookie is the number of our SYN. As in Linux, it has a count of minutes and the peer's maximum segment size,
//! both covered by a keyed hash; window scale, selective acknowledgments and notification ride in the low bits of the
//! timestamp, which the peer echoes, if it uses timestamps.

use demikernel_runtime::time::Instant;

use super::config::Shared;
use super::connection::Negotiated;
use super::isn::{InitialNumbers, Tuple};
use crate::key::Key;
use crate::wire::tcp::{Flags, Options, Segment, SequenceNumber, Timestamps};

/// Sizes that a cookie can hold: the most frequent ones. [rfc4987 3.6]
const SIZES: [u16; 8] = [88, 536, 1220, 1300, 1360, 1440, 1460, 8960];

/// How long a cookie is good, in minutes begun: two, as in Linux.
const MINUTES: u32 = 2;

/// Bits below the count of minutes: the hash, and the size in it.
const HASH_BITS: u32 = 24;

/// Bits of the timestamp that hold options.
const OPTION_BITS: u32 = 6;

/// Makes and checks cookies.
///
/// ```
/// use demikernel_net::tcp::{Config, Cookies, InitialNumbers, Key, Shared, Tuple};
/// use demikernel_net::wire::tcp::{Flags, Options, Segment};
/// use demikernel_runtime::time::Instant;
///
/// let (cookies, shared) = (Cookies::new(Key::new([7; 16])), Shared::new(Config::default()));
/// let (local, remote) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
/// let tuple = Tuple { local, local_port: 80, remote, remote_port: 40_000 };
/// let now = Instant::from_nanos(1_000_000_000);
/// let options = Options { maximum_segment_size: Some(1460), ..Options::default() };
/// let syn = Segment { flags: Flags::SYN, options, ..Segment::default() };
/// let answer = cookies.answer(&shared, now, &tuple, &syn, 1460, &InitialNumbers::default());
///
/// // Nothing was kept. What the peer acknowledges tells what it had offered.
/// let ack = Segment {
///     sequence: answer.acknowledgment,
///     acknowledgment: answer.sequence + 1,
///     flags: Flags::ACK,
///     ..Segment::default()
/// };
/// let offered = cookies.check(now, &tuple, &ack).expect("it is our own");
/// assert_eq!((offered.maximum_segment_size, offered.window_scale), (1460, None));
/// let elsewhere = Tuple { remote_port: 40_001, ..tuple };
/// assert!(cookies.check(now, &elsewhere, &ack).is_none());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Cookies {
    key: Key,
}

impl Cookies {
    /// With a key that nobody knows.
    pub fn new(key: Key) -> Cookies {
        Cookies { key }
    }

    /// The SYN-ACK for `syn`, of which nothing is kept. `announced` is our own maximum segment size.
    pub fn answer(
        &self,
        shared: &Shared,
        now: Instant,
        tuple: &Tuple,
        syn: &Segment,
        announced: u16,
        initial: &InitialNumbers,
    ) -> Segment {
        let config = shared.config();
        let offered = &syn.options;
        let stamps = offered.timestamps.filter(|_| config.timestamps);
        // Without timestamps there is no room for the other options, so they are not agreed on.
        let scale = offered.window_scale.filter(|_| config.window_scaling && stamps.is_some());
        let sack = offered.sack_permitted && config.sack && stamps.is_some();
        let asked = syn.flags.contains(Flags::ECE | Flags::CWR);
        let ecn = asked && config.ecn != super::EcnMode::Off && stamps.is_some();
        let size = offered.maximum_segment_size.unwrap_or(536);
        let value = clock(now).wrapping_add(initial.timestamp_offset);
        let bits =
            u32::from(scale.map_or(15, |scale| scale.min(14))) | u32::from(sack) << 4 | u32::from(ecn) << 5;
        let timestamps =
            stamps.map(|stamps| Timestamps { value: with_bits(value, bits), echo: stamps.value });
        let options = Options {
            maximum_segment_size: Some(announced),
            window_scale: scale.map(|_| config.window_scale()),
            sack_permitted: sack,
            timestamps,
            ..Options::default()
        };
        Segment {
            source: syn.destination,
            destination: syn.source,
            sequence: self.number(now, tuple, syn.sequence, size),
            acknowledgment: syn.sequence + 1,
            flags: Flags::SYN | Flags::ACK | if ecn { Flags::ECE } else { Flags::NONE },
            window: config.receive_buffer.min(u32::from(u16::MAX)) as u16,
            urgent: 0,
            options,
        }
    }

    /// What the SYN offered whose answer `ack` acknowledges, if that was one of ours, and not long ago.
    pub fn check(&self, now: Instant, tuple: &Tuple, ack: &Segment) -> Option<Negotiated> {
        let (peer, ours) = (ack.sequence - 1, ack.acknowledgment - 1);
        let plain = ours.value().wrapping_sub(self.mask(tuple, peer));
        let age = minute(now).wrapping_sub(plain >> HASH_BITS) & 0xff;
        if age >= MINUTES {
            return None;
        }
        let hash = self.hash(tuple, peer, minute(now).wrapping_sub(age));
        let index = (plain.wrapping_sub(hash) & ((1 << HASH_BITS) - 1)) as usize;
        let maximum_segment_size = *SIZES.get(index)?;
        let Some(stamps) = ack.options.timestamps else {
            return Some(Negotiated { maximum_segment_size, ..Negotiated::default() });
        };
        let bits = stamps.echo & ((1 << OPTION_BITS) - 1);
        let scale = (bits & 15) as u8;
        Some(Negotiated {
            maximum_segment_size,
            window_scale: (scale != 15).then_some(scale),
            sack: bits & 1 << 4 != 0,
            timestamps: true,
            ecn: bits & 1 << 5 != 0,
        })
    }

    /// The count of minutes over the hash, which the size is added to; and all of it under another hash, so that
    /// numbers do not tell the time.
    fn number(&self, now: Instant, tuple: &Tuple, peer: SequenceNumber, size: u16) -> SequenceNumber {
        let index = SIZES.iter().rposition(|known| *known <= size).unwrap_or(0) as u32;
        let minute = minute(now);
        let low = self.hash(tuple, peer, minute).wrapping_add(index) & ((1 << HASH_BITS) - 1);
        let plain = minute << HASH_BITS | low;
        SequenceNumber::new(plain.wrapping_add(self.mask(tuple, peer)))
    }

    fn hash(&self, tuple: &Tuple, peer: SequenceNumber, minute: u32) -> u32 {
        self.key.of_flow(tuple, 5 << 60 | u64::from(minute) << 32 & (0xff << 32) | u64::from(peer.value()))
            as u32
            & ((1 << HASH_BITS) - 1)
    }

    fn mask(&self, tuple: &Tuple, peer: SequenceNumber) -> u32 {
        self.key.of_flow(tuple, 6 << 60 | u64::from(peer.value())) as u32
    }
}

fn minute(now: Instant) -> u32 {
    (now.as_nanos() / 60_000_000_000) as u32 & 0xff
}

fn clock(now: Instant) -> u32 {
    (now.as_nanos() / 1_000_000) as u32
}

/// The greatest clock value with these low bits that is not after `value`: the peer must never see time go back.
fn with_bits(value: u32, bits: u32) -> u32 {
    let whole = value & !((1 << OPTION_BITS) - 1) | bits;
    if whole.wrapping_sub(value) as i32 > 0 { whole.wrapping_sub(1 << OPTION_BITS) } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::config::{Config, EcnMode};
    use demikernel_runtime::time::Duration;
    use std::net::IpAddr;

    const NOW: Instant = Instant::from_nanos(1_000_000_000_000_000);

    fn tuple(remote_port: u16) -> Tuple {
        let address = IpAddr::from([10, 0, 0, 1]);
        Tuple { local: address, local_port: 80, remote: address, remote_port }
    }

    fn syn(size: u16, scale: Option<u8>, sack: bool, stamps: bool, ecn: bool) -> Segment {
        let options = Options {
            maximum_segment_size: Some(size),
            window_scale: scale,
            sack_permitted: sack,
            timestamps: stamps.then_some(Timestamps { value: 77, echo: 0 }),
            ..Options::default()
        };
        let flags = Flags::SYN | if ecn { Flags::ECE | Flags::CWR } else { Flags::NONE };
        Segment { sequence: SequenceNumber::new(u32::MAX), flags, options, ..Segment::default() }
    }

    /// What a peer makes of a SYN-ACK.
    fn ack(answer: &Segment) -> Segment {
        let echo = answer.options.timestamps.map(|stamps| Timestamps { value: 99, echo: stamps.value });
        Segment {
            sequence: answer.acknowledgment,
            acknowledgment: answer.sequence + 1,
            flags: Flags::ACK,
            options: Options { timestamps: echo, ..Options::default() },
            ..Segment::default()
        }
    }

    fn answer(cookies: &Cookies, now: Instant, syn: &Segment) -> Segment {
        let shared = Shared::new(Config { ecn: EcnMode::Accept, ..Config::default() });
        let initial = InitialNumbers { timestamp_offset: 0xdead_beef, ..InitialNumbers::default() };
        cookies.answer(&shared, now, &tuple(9), syn, 1460, &initial)
    }

    /// [rfc4987 3.6]: what was offered comes back, the size rounded down to one that the cookie can hold.
    #[test]
    fn a_cookie_holds_what_was_offered() {
        let cookies = Cookies::new(Key::new([1; 16]));
        for size in [100u16, 536, 1000, 1460, 9000] {
            for scale in [None, Some(0), Some(7), Some(14)] {
                for bits in 0..8 {
                    let (sack, stamps, ecn) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
                    let answer = answer(&cookies, NOW, &syn(size, scale, sack, stamps, ecn));
                    let got = cookies.check(NOW, &tuple(9), &ack(&answer)).expect("it is ours");
                    assert!(
                        got.maximum_segment_size <= size
                            && u32::from(got.maximum_segment_size) * 2 > u32::from(size)
                    );
                    let kept = if stamps { (scale, sack, true, ecn) } else { (None, false, false, false) };
                    assert_eq!((got.window_scale, got.sack, got.timestamps, got.ecn), kept);
                    assert_eq!(answer.options.sack_permitted, got.sack);
                    assert_eq!(answer.options.window_scale.is_some(), got.window_scale.is_some());
                }
            }
        }
    }

    /// [rfc4987 3.6]: good for a while, for the same four, and for nobody who guesses.
    #[test]
    fn only_a_recent_cookie_of_ours_is_good() {
        let cookies = Cookies::new(Key::new([1; 16]));
        let good = ack(&answer(&cookies, NOW, &syn(1460, None, false, false, false)));
        assert!(cookies.check(NOW + Duration::from_secs(60), &tuple(9), &good).is_some());
        assert!(cookies.check(NOW + Duration::from_secs(120), &tuple(9), &good).is_none());
        assert!(cookies.check(NOW, &tuple(10), &good).is_none());
        assert!(Cookies::new(Key::new([2; 16])).check(NOW, &tuple(9), &good).is_none());
        let guesses = (1..100_000u32).filter(|step| {
            let guess = Segment { acknowledgment: good.acknowledgment + step * 42_949, ..good };
            cookies.check(NOW, &tuple(9), &guess).is_some()
        });
        assert!(guesses.count() <= 1);
    }

    /// The stamp of an answer is not after the clock, and at most a few ticks before it.
    #[test]
    fn bits_of_a_stamp_do_not_move_time_ahead() {
        for value in [0u32, 1, 63, 64, 1000, u32::MAX] {
            for bits in 0..64 {
                let stamp = with_bits(value, bits);
                assert!(value.wrapping_sub(stamp) < 64 && stamp & 63 == bits, "{value} {bits}");
            }
        }
    }
}
