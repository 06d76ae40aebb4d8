//! What paths carry: a cache by destination of what routers have reported (RFC 1191, RFC 8201).
//!
//! At most [`MOST_PATHS`]; a full cache forgets one that was not asked for since the last sweep. A report is only
//! believed about a packet that was really sent: the caller asks the transport, which knows what is in flight.

use super::Key;
use demikernel_runtime::time::{Duration, Instant};
use std::collections::HashMap;
use std::net::IpAddr;

/// How many paths are remembered at most.
pub const MOST_PATHS: usize = 1024;

/// The least that is believed of an IPv4 path. IPv4 allows links of 68 bytes [rfc1191 3-68], but a forged report of
/// so little would multiply the packets by 25; Linux takes no less than 552 (`min_pmtu`: 512 bytes behind two headers
/// of 20), and fragments below that.
pub const LEAST_V4: u16 = 552;

/// The least that IPv6 links carry [rfc8201 4-1280].
pub const LEAST_V6: u16 = 1280;

/// After so long without a report something larger is tried [rfc1191 6.3-age] [rfc8201 5.3-age].
const AGE: Duration = Duration::from_secs(600);

/// What links carry, for reports of routers older than RFC 1191, which do not say [rfc1191 7-plateau].
const PLATEAUS: [u16; 10] = [32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];

/// Why a report changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ignored {
    /// It is about nothing that was sent.
    Forged,
    /// It is no less than what is known [rfc1191 3-increase] [rfc8201 4-increase].
    NotLess,
    /// IPv6 has no links so small [rfc8201 4-below-1280].
    TooSmall,
}

/// What paths carry.
///
/// ```
/// use demikernel_net::ip::{Key, pmtu::{Ignored, PathMtus}};
/// use demikernel_runtime::time::{Duration, Instant};
///
/// let (now, destination) = (Instant::from_nanos(1), "192.0.2.2".parse().unwrap());
/// let mut paths = PathMtus::new(Key::new([7; 16]));
/// let before = paths.look_up(now, destination, 1500);
/// assert_eq!(before.mtu, 1500);
///
/// // A router reports; whoever knows what was sent says whether that can be.
/// assert_eq!(paths.on_too_big(now, destination, 1400, 1500, 1500, || false), Err(Ignored::Forged));
/// assert_eq!(paths.on_too_big(now, destination, 1400, 1500, 1500, || true), Ok(1400));
/// assert!(!paths.is_current(now, &before));
/// assert_eq!(paths.look_up(now, destination, 1500).mtu, 1400);
/// let later = now + Duration::from_secs(600);
/// assert_eq!(paths.look_up(later, destination, 1500).mtu, 1500, "the path may be another by now");
/// ```
#[derive(Debug)]
pub struct PathMtus {
    paths: HashMap<IpAddr, usize, Key>,
    slots: Vec<Path>,
    hand: usize,
    generation: u32,
}

#[derive(Clone, Copy, Debug)]
struct Path {
    destination: IpAddr,
    mtu: u16,
    until: Instant,
    used: bool,
}

/// What a path carries, as long as [`PathMtus::is_current`] says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CachedMtu {
    /// Bytes of the largest packet.
    pub mtu: u16,
    generation: u32,
    until: Instant,
}

impl PathMtus {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(key: Key) -> PathMtus {
        PathMtus { paths: HashMap::with_hasher(key), slots: Vec::new(), hand: 0, generation: 0 }
    }

    /// What the path to a destination carries over a link that carries `link`.
    pub fn look_up(&mut self, now: Instant, destination: IpAddr, link: u16) -> CachedMtu {
        let unknown = CachedMtu { mtu: link, generation: self.generation, until: Instant::MAX };
        let Some(index) = self.paths.get(&destination) else { return unknown };
        let path = &mut self.slots[*index];
        if path.until <= now {
            return unknown;
        }
        path.used = true;
        CachedMtu { mtu: path.mtu.min(link), generation: self.generation, until: path.until }
    }

    /// Whether [`look_up`](PathMtus::look_up) would still say so: two comparisons.
    #[inline]
    #[must_use]
    pub fn is_current(&self, now: Instant, cached: &CachedMtu) -> bool {
        cached.generation == self.generation && now < cached.until
    }

    /// A router reports that a packet of `length` bytes to `destination` was too big for a link that carries `mtu`,
    /// 0 if it does not say. `was_sent` answers whether it may have been [rfc8201 4-validate].
    ///
    /// # Errors
    /// If it is not believed, or says nothing new.
    pub fn on_too_big(
        &mut self,
        now: Instant,
        destination: IpAddr,
        mtu: u32,
        length: u16,
        link: u16,
        was_sent: impl FnOnce() -> bool,
    ) -> Result<u16, Ignored> {
        let mtu = match destination {
            IpAddr::V4(_) if mtu == 0 => plateau(length),
            _ => u16::try_from(mtu).unwrap_or(u16::MAX),
        };
        let mtu = match destination {
            IpAddr::V4(_) => mtu.max(LEAST_V4),
            IpAddr::V6(_) if mtu < LEAST_V6 => return Err(Ignored::TooSmall),
            IpAddr::V6(_) => mtu,
        };
        let known = self.look_up(now, destination, link).mtu;
        if mtu > known || known <= LEAST_V4 {
            return Err(Ignored::NotLess);
        }
        if !was_sent() {
            return Err(Ignored::Forged);
        }
        // The same again: it lives on, but nobody need look.
        if mtu < known {
            self.generation = self.generation.wrapping_add(1);
        }
        self.set(now, destination, mtu);
        if mtu == known { Err(Ignored::NotLess) } else { Ok(mtu) }
    }

    fn set(&mut self, now: Instant, destination: IpAddr, mtu: u16) {
        let path = Path { destination, mtu, until: now.saturating_add(AGE), used: false };
        if let Some(index) = self.paths.get(&destination) {
            self.slots[*index] = path;
        } else if self.slots.len() < MOST_PATHS {
            self.paths.insert(destination, self.slots.len());
            self.slots.push(path);
        } else {
            while std::mem::replace(&mut self.slots[self.hand].used, false) {
                self.hand = (self.hand + 1) % MOST_PATHS;
            }
            self.paths.remove(&self.slots[self.hand].destination);
            self.paths.insert(destination, self.hand);
            self.slots[self.hand] = path;
            self.hand = (self.hand + 1) % MOST_PATHS;
        }
    }

    /// How many paths are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

/// The next smaller size that some kind of link carries.
fn plateau(length: u16) -> u16 {
    PLATEAUS.into_iter().find(|plateau| *plateau < length).unwrap_or(68)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const NOW: Instant = Instant::from_nanos(0);
    const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    fn cache() -> PathMtus {
        PathMtus::new(Key::new([9; 16]))
    }

    #[test]
    fn reports_are_believed_within_limits() {
        let table = [
            (V4, 1400, 1500, Ok(1400)),
            // [rfc1191 7-plateau]
            (V4, 0, 1500, Ok(1492)),
            (V4, 0, 1492, Ok(1006)),
            (V4, 0, 600, Ok(552)),
            // [rfc1191 3-68]
            (V4, 68, 1500, Ok(552)),
            (V4, 1, 1500, Ok(552)),
            // [rfc1191 3-increase] [rfc8201 4-increase]
            (V4, 1501, 1500, Err(Ignored::NotLess)),
            (V6, 9000, 1500, Err(Ignored::NotLess)),
            (V6, 70_000, 1500, Err(Ignored::NotLess)),
            (V6, 1280, 1500, Ok(1280)),
            // [rfc8201 4-1280] [rfc8201 4-below-1280]
            (V6, 1279, 1500, Err(Ignored::TooSmall)),
            (V6, 0, 1500, Err(Ignored::TooSmall)),
        ];
        for (destination, mtu, length, expected) in table {
            let mut cache = cache();
            let result = cache.on_too_big(NOW, destination, mtu, length, 1500, || true);
            assert_eq!(result, expected, "{destination} {mtu}");
            assert_eq!(cache.look_up(NOW, destination, 1500).mtu, expected.unwrap_or(1500));
        }
    }

    #[test]
    fn forged_reports_change_nothing() {
        // [rfc8201 4-validate]
        let mut cache = cache();
        assert_eq!(cache.on_too_big(NOW, V4, 600, 1500, 1500, || false), Err(Ignored::Forged));
        assert!(cache.is_empty());
    }

    #[test]
    fn a_size_is_forgotten_in_time_and_never_grows_before() {
        // [rfc1191 6.3-age] [rfc8201 5.3-age]
        let mut cache = cache();
        let before = cache.look_up(NOW, V6, 1500);
        cache.on_too_big(NOW, V6, 1300, 1500, 1500, || true).unwrap();
        assert!(!cache.is_current(NOW, &before));
        assert_eq!(cache.on_too_big(NOW, V6, 1400, 1500, 1500, || true), Err(Ignored::NotLess));
        let cached = cache.look_up(NOW, V6, 1500);
        assert_eq!((cached.mtu, cache.is_current(NOW, &cached)), (1300, true));
        let later = NOW + Duration::from_secs(600);
        assert!(!cache.is_current(later, &cached));
        assert_eq!(cache.look_up(later, V6, 1500).mtu, 1500);
        // The same report again keeps it.
        let mut cache = self::cache();
        cache.on_too_big(NOW, V6, 1300, 1500, 1500, || true).unwrap();
        let halfway = NOW + Duration::from_secs(300);
        assert_eq!(cache.on_too_big(halfway, V6, 1300, 1500, 1500, || true), Err(Ignored::NotLess));
        assert_eq!(cache.look_up(later, V6, 1500).mtu, 1300);
    }

    #[test]
    fn a_flood_of_reports_meets_the_limit_and_spares_paths_in_use() {
        let mut cache = cache();
        cache.on_too_big(NOW, V6, 1300, 1500, 1500, || true).unwrap();
        for number in 0..100_000u32 {
            let destination = Ipv4Addr::from_bits(number).into();
            cache.on_too_big(NOW, destination, 600, 1500, 1500, || true).unwrap();
            assert_eq!(cache.look_up(NOW, V6, 1500).mtu, 1300);
        }
        assert_eq!((cache.len(), cache.paths.len()), (MOST_PATHS, MOST_PATHS));
    }

    proptest! {
        #[test]
        fn no_report_makes_packets_larger_or_too_small(
            reports in prop::collection::vec((any::<bool>(), any::<u32>(), any::<u16>()), 0..50),
        ) {
            let mut cache = cache();
            let mut known = [1500, 1500];
            for (is_v4, mtu, length) in reports {
                let (destination, least) = if is_v4 { (V4, LEAST_V4) } else { (V6, LEAST_V6) };
                let _ = cache.on_too_big(NOW, destination, mtu % 2000, length, 1500, || true);
                let now_known = cache.look_up(NOW, destination, 1500).mtu;
                prop_assert!(now_known <= known[usize::from(is_v4)] && now_known >= least);
                known[usize::from(is_v4)] = now_known;
            }
        }
    }
}
