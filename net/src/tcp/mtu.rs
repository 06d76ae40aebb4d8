//! The largest packet that the path takes: what routers report (RFC 1191, 8201), and what is found out by sending
//! (RFC 8899).

use demikernel_runtime::time::{Duration, Instant};

use crate::wire::tcp::SequenceNumber;

/// Octets of a TCP header without options.
const TCP_HEADER: u16 = 20;

/// The least that IPv4 and IPv6 paths are assumed to take: a report of less is not believed.
const LEAST_V4: u16 = 552;
const LEAST_V6: u16 = 1280;

/// How small packets become when large ones vanish without a report. (As Linux.) [rfc8899 4.3]
const BASE: u16 = 1024 + 40;

/// How long a size that a router has reported stands before more is tried. [rfc8899 5.1.1-raise] [rfc1191 6.3]
const RAISE: Duration = Duration::from_secs(600);

/// Lost probes of a size, until it is taken to be too large. [rfc8899 5.1.2-probes]
const PROBES: u8 = 3;

/// Time-outs in a row that make a black hole likely. [rfc8899 4.3]
const TIMEOUTS: u32 = 2;

/// What a segment must gain to be worth a probe.
const STEP: u16 = 64;

/// What is known of the path.
#[derive(Debug)]
pub(crate) struct PathMtu {
    /// What packets may be.
    current: u16,
    /// What the link takes: nothing larger can leave.
    link: u16,
    /// The user's limit for segments.
    clamp: u16,
    ip_header: u8,
    /// While it may take more than is known.
    search: Option<Box<Search>>,
}

/// What the search has found.
#[derive(Debug)]
struct Search {
    /// The least size known, or believed, not to get through; `link` + 1 if none is.
    ceiling: u16,
    /// Size of the probe that is under way; 0 if none is.
    probe: u16,
    probe_end: SequenceNumber,
    /// Not to probe before.
    next: Instant,
    /// Probes of this size that were lost.
    failures: u8,
}

impl PathMtu {
    pub(crate) fn new(mtu: u16, ip_header: u8) -> PathMtu {
        let mtu = mtu.max(u16::from(ip_header) + TCP_HEADER + 1);
        PathMtu { current: mtu, link: mtu, clamp: u16::MAX, ip_header, search: None }
    }

    /// Size of packets.
    pub(crate) fn current(&self) -> u16 {
        self.current
    }

    /// Octets behind a TCP header without options. [rfc9293 MUST-16]
    pub(crate) fn segment(&self) -> u16 {
        self.payload(self.current).min(self.clamp)
    }

    /// What our SYN says: what the link takes, whatever the path does. [rfc9293 MUST-67] [rfc8201 5.4]
    pub(crate) fn announced(&self) -> u16 {
        self.payload(self.link).min(self.clamp)
    }

    fn payload(&self, mtu: u16) -> u16 {
        mtu.saturating_sub(u16::from(self.ip_header) + TCP_HEADER).max(1)
    }

    /// The user's limit.
    pub(crate) fn clamp(&mut self, segment: u16) {
        self.clamp = segment.max(88);
    }

    fn least(&self) -> u16 {
        (if self.ip_header >= 40 { LEAST_V6 } else { LEAST_V4 }).min(self.link)
    }

    /// A router reports what it takes; 0 if it is an old one that does not say. Whether that changes anything.
    /// [rfc1191 5] [rfc8899 4.6.2]
    pub(crate) fn on_too_big(&mut self, now: Instant, reported: u16) -> bool {
        // The sizes that links have, from RFC 1191 section 7.1.
        const PLATEAUS: [u16; 8] = [32_000, 17_914, 8166, 4352, 2002, 1492, 1006, 508];
        let reported = if reported == 0 {
            PLATEAUS.into_iter().find(|size| *size < self.current).unwrap_or(0)
        } else {
            reported
        };
        // [rfc8201 4]: less than the least is not believed, and a report never makes it larger.
        let size = reported.max(self.least());
        if size >= self.current {
            return false;
        }
        self.shrink(now, size);
        true
    }

    /// The route says so.
    pub(crate) fn on_route(&mut self, now: Instant, mtu: u16) -> bool {
        let size = mtu.max(self.least()).min(self.link);
        if size == self.current {
            return false;
        }
        if size < self.current {
            self.shrink(now, size);
        } else {
            self.current = size;
        }
        true
    }

    /// Time-outs in a row: if packets larger than the base may be what gets lost, they become smaller.
    #[cold]
    pub(crate) fn on_timeout(&mut self, count: u32) -> bool {
        if let Some(search) = &mut self.search {
            search.fail();
        }
        let base = BASE.max(self.least());
        if count != TIMEOUTS || self.current <= base {
            return false;
        }
        let ceiling = self.current;
        self.current = base;
        // Looks again soon: it may have been the network that was gone.
        self.search_from(ceiling, Instant::from_nanos(0));
        true
    }

    fn shrink(&mut self, now: Instant, size: u16) {
        self.current = size;
        self.search_from(self.link.saturating_add(1), now.saturating_add(RAISE));
    }

    fn search_from(&mut self, ceiling: u16, next: Instant) {
        let probe_end = SequenceNumber::default();
        self.search = Some(Box::new(Search { ceiling, probe: 0, probe_end, next, failures: 0 }));
    }

    /// Size of payload, without options, that a probe should have now.
    #[inline]
    pub(crate) fn wanted(&mut self, now: Instant) -> Option<u16> {
        let search = self.search.as_ref()?;
        if search.next > now || search.probe != 0 {
            return None;
        }
        self.look(now)
    }

    /// Whether [`wanted`](Self::wanted) may say something.
    #[inline]
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.search.as_ref().is_some_and(|search| search.next <= now && search.probe == 0)
    }

    #[cold]
    fn look(&mut self, now: Instant) -> Option<u16> {
        let middle = self.middle()?;
        let search = self.search.as_mut()?;
        if search.failures >= PROBES {
            search.ceiling = middle;
            search.failures = 0;
        }
        if search.ceiling.saturating_sub(self.current) <= STEP {
            // Found; what is too large now may fit later. [rfc8899 5.2-complete]
            search.ceiling = self.link.saturating_add(1);
            search.next = now.saturating_add(RAISE);
            if self.current >= self.link {
                self.search = None;
            }
            return None;
        }
        self.middle().map(|size| self.payload(size))
    }

    /// The size to try: the link's own at first, then halfway. [rfc8899 5.3]
    fn middle(&self) -> Option<u16> {
        let ceiling = self.search.as_ref()?.ceiling;
        Some(if ceiling > self.link { self.link } else { self.current + (ceiling - self.current) / 2 })
    }

    /// A probe of the wanted size has left, up to `end`.
    #[cold]
    pub(crate) fn on_probe_sent(&mut self, end: SequenceNumber) {
        let size = self.middle();
        if let (Some(search), Some(size)) = (&mut self.search, size) {
            search.probe = size;
            search.probe_end = end;
        }
    }

    /// Everything before `number` has arrived; whether larger packets are known to get through now.
    #[inline]
    pub(crate) fn on_acknowledged(&mut self, number: SequenceNumber) -> bool {
        match &mut self.search {
            Some(search) if search.probe != 0 && search.probe_end.is_at_or_before(number) => {
                // A probe that had to be sent again went in smaller pieces, and `on_lost` has ended it.
                self.current = std::mem::take(&mut search.probe);
                search.failures = 0;
                true
            }
            _ => false,
        }
    }

    /// The octet `number` is retransmitted: the probe, if it is of it.
    #[inline]
    pub(crate) fn on_lost(&mut self, number: SequenceNumber) {
        let headers = u16::from(self.ip_header) + TCP_HEADER;
        if let Some(search) = &mut self.search {
            let length = u32::from(search.probe.saturating_sub(headers));
            if number.is_within(search.probe_end - length, length) {
                search.fail();
            }
        }
    }
}

impl Search {
    /// The probe that is under way is lost.
    fn fail(&mut self) {
        if self.probe != 0 {
            self.probe = 0;
            self.failures += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_nanos(1_000_000_000_000);

    /// [rfc1191 5], [rfc8201 4], [rfc8201 5.4], [rfc8899 4.6.2]: a report makes packets smaller, never larger, and not smaller than the least.
    #[test]
    fn reports_are_believed_within_reason() {
        let mut path = PathMtu::new(1500, 20);
        assert_eq!((path.segment(), path.announced()), (1460, 1460));
        assert!(!path.on_too_big(NOW, 9000));
        assert!(path.on_too_big(NOW, 1400));
        assert!(!path.on_too_big(NOW, 1450));
        assert!(path.on_too_big(NOW, 0));
        assert_eq!(path.current(), 1006);
        assert!(path.on_too_big(NOW, 68));
        assert_eq!((path.current(), path.announced()), (552, 1460));
        let mut path = PathMtu::new(1500, 40);
        assert!(path.on_too_big(NOW, 100));
        assert_eq!(path.current(), 1280);
    }

    /// [rfc1191 6.3], [rfc8899 5.1.1-raise], [rfc8899 5.1.2-probes], [rfc8899 5.3], [rfc8899 5.2-complete]: after a report nothing is tried for ten minutes; then the true size is
    /// found by halving.
    #[test]
    fn the_true_size_is_found() {
        for truth in [600u16, 1300, 1499, 1500] {
            let mut path = PathMtu::new(1500, 20);
            path.on_too_big(NOW, 576);
            assert_eq!(path.wanted(NOW + RAISE - Duration::from_secs(1)), None);
            let now = NOW + RAISE;
            let mut probes = 0;
            while let Some(size) = path.wanted(now) {
                probes += 1;
                path.on_probe_sent(SequenceNumber::new(7));
                if size + 40 <= truth {
                    assert!(path.on_acknowledged(SequenceNumber::new(7)));
                    assert_eq!(path.segment(), size);
                } else {
                    path.on_lost(SequenceNumber::new(6));
                }
                assert!(probes < 40);
            }
            assert!(path.current() <= truth && path.current() + STEP + 1 >= truth, "{truth}: {path:?}");
        }
    }

    /// [rfc8899 4.3]
    #[test]
    fn two_time_outs_make_a_black_hole() {
        let mut path = PathMtu::new(1500, 20);
        assert!(!path.on_timeout(1));
        assert!(path.on_timeout(2));
        assert!(!path.on_timeout(3));
        assert_eq!(path.current(), BASE);
        assert!(path.wanted(NOW).is_some());
    }
}
