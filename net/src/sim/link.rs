//! One direction of a link.
//!
//! A packet waits in a queue of limited length for its turn on the wire, takes as long there as the bandwidth says,
//! and arrives a delay later. What goes wrong is drawn from the seed for each packet as it is sent, in a fixed order
//! and from a generator for each fault, so that switching one fault on leaves the draws of the others as they were.

use demikernel_runtime::random::Random;
use demikernel_runtime::time::Instant;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Packets that a link holds at most: further ones are dropped, as from a queue that is full.
const HELD: usize = 1 << 16;

/// What a link does to packets. By default nothing: no delay, no limit, no loss.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LinkConfig {
    /// From the end of a packet's transmission to its arrival.
    pub delay: Duration,
    /// At most so much more, for each packet another; as long as [`reorder`](Self::reorder) is 0, packets stay in
    /// their order all the same.
    pub jitter: Duration,
    /// Bits per second; unlimited if `None`.
    pub bandwidth: Option<u64>,
    /// How many bytes may wait for their turn; what comes then is dropped. Unlimited if `None`.
    pub queue: Option<usize>,
    /// The share of packets that are lost, each on its own.
    pub loss: f64,
    /// Losses in bursts.
    pub burst: Option<Burst>,
    /// The share of packets that are overtaken: they arrive later by up to [`reorder_delay`](Self::reorder_delay).
    pub reorder: f64,
    /// How much later those arrive at most.
    pub reorder_delay: Duration,
    /// The share of packets that arrive twice.
    pub duplicate: f64,
    /// The share of packets in which one bit is turned over.
    pub corrupt: f64,
    /// The share of packets that are marked as having met congestion (CE), if they allow it, instead of being dropped
    /// when the queue is more than half full. 0 or 1 make sense.
    pub mark: f64,
    /// Packets longer than this are lost, without a word: what a black hole for path MTU discovery does.
    pub longest: Option<usize>,
    /// Nothing passes.
    pub partitioned: bool,
}

impl LinkConfig {
    /// A link of this delay and bandwidth in bits per second, with a queue of `queue` bytes.
    pub fn new(delay: Duration, bandwidth: u64, queue: usize) -> LinkConfig {
        LinkConfig { delay, bandwidth: Some(bandwidth), queue: Some(queue), ..LinkConfig::default() }
    }
}

/// Losses in bursts, after Gilbert and Elliott: the link is either good or bad, and loses everything while it is bad.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Burst {
    /// How probable it is, at each packet, that the link turns bad.
    pub begin: f64,
    /// How probable it is, at each packet, that it turns good again.
    pub end: f64,
}

/// What has become of packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct LinkStats {
    /// Sent into it.
    pub sent: u64,
    /// Given out, doubles included.
    pub delivered: u64,
    /// Lost by chance, or in a burst.
    pub lost: u64,
    /// Dropped as the queue was full.
    pub overflowed: u64,
    /// Lost as the link was partitioned, or they were too long.
    pub blocked: u64,
    /// Given out twice.
    pub duplicated: u64,
    /// Overtaken.
    pub reordered: u64,
    /// Altered.
    pub corrupted: u64,
    /// Marked as having met congestion.
    pub marked: u64,
}

/// Generators, one for each fault.
#[derive(Debug)]
struct Faults {
    loss: Random,
    burst: Random,
    jitter: Random,
    reorder: Random,
    duplicate: Random,
    corrupt: Random,
    mark: Random,
}

/// One direction of a link.
///
/// ```
/// use demikernel_net::sim::{Link, LinkConfig};
/// use demikernel_runtime::time::Instant;
/// use std::time::Duration;
///
/// let start = Instant::from_nanos(0);
/// // 8 Mb/s: a thousand bytes take a millisecond.
/// let mut link = Link::new(LinkConfig::new(Duration::from_millis(10), 8_000_000, 5_000), 7);
/// link.send(start, vec![0; 1_000]);
/// assert_eq!(link.next_deadline(), Some(start.saturating_add(Duration::from_millis(11))));
/// assert_eq!(link.receive(start), None);
/// assert!(link.receive(start.saturating_add(Duration::from_millis(11))).is_some());
/// ```
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    faults: Faults,
    stats: LinkStats,
    /// Whether it is in a burst of losses.
    bad: bool,
    /// When the wire is free.
    free: Instant,
    /// The latest arrival, which later packets do not come before.
    latest: Instant,
    /// By time of arrival and, where those are equal, in the order of sending.
    under_way: BTreeMap<(Instant, u64), Vec<u8>>,
    number: u64,
    /// What waits until it is [released](Link::release).
    held: Option<VecDeque<Vec<u8>>>,
}

impl Link {
    /// A link with nothing on it.
    pub fn new(config: LinkConfig, seed: u64) -> Link {
        let generator = |purpose| Random::new(seed, purpose);
        Link {
            config,
            faults: Faults {
                loss: generator(1),
                burst: generator(2),
                jitter: generator(3),
                reorder: generator(4),
                duplicate: generator(5),
                corrupt: generator(6),
                mark: generator(7),
            },
            stats: LinkStats::default(),
            bad: false,
            free: Instant::from_nanos(0),
            latest: Instant::from_nanos(0),
            under_way: BTreeMap::new(),
            number: 0,
            held: None,
        }
    }

    /// Changes what it does to packets from now on; what is under way arrives as it was going to.
    pub fn configure(&mut self, change: impl FnOnce(&mut LinkConfig)) {
        change(&mut self.config);
    }

    /// From now on packets are not sent but held, until they are [released](Self::release). What is under way arrives.
    pub fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    /// Sends the packets that were held, in their order, and holds no more.
    pub fn release(&mut self, now: Instant) {
        for packet in self.held.take().into_iter().flatten() {
            self.pass(now, packet);
        }
    }

    /// Sends an IP packet.
    pub fn send(&mut self, now: Instant, packet: Vec<u8>) {
        self.stats.sent += 1;
        match &mut self.held {
            None => self.pass(now, packet),
            Some(held) if held.len() < HELD => held.push_back(packet),
            Some(_) => self.stats.overflowed += 1,
        }
    }

    fn pass(&mut self, now: Instant, mut packet: Vec<u8>) {
        if self.is_lost(&packet) || !self.has_room(now, packet.len()) {
            return;
        }
        self.mark(now, &mut packet);
        self.corrupt(&mut packet);
        let begin = self.free.max(now);
        self.free = begin.saturating_add(self.transmission(packet.len()));
        let arrival = self.arrival();
        if self.faults.duplicate.chance(self.config.duplicate) {
            self.stats.duplicated += 1;
            self.add(arrival, packet.clone());
        }
        self.add(arrival, packet);
    }

    /// The next packet that has arrived.
    pub fn receive(&mut self, now: Instant) -> Option<Vec<u8>> {
        let first = self.under_way.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        self.stats.delivered += 1;
        Some(first.remove())
    }

    /// When the next packet arrives.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.under_way.first_key_value().map(|((arrival, _), _)| *arrival)
    }

    /// What has become of packets so far.
    pub fn stats(&self) -> LinkStats {
        self.stats
    }

    /// What it does to packets.
    pub fn config(&self) -> &LinkConfig {
        &self.config
    }

    fn is_lost(&mut self, packet: &[u8]) -> bool {
        if let Some(Burst { begin, end }) = self.config.burst {
            let turns = if self.bad { end } else { begin };
            self.bad ^= self.faults.burst.chance(turns);
        } else {
            self.bad = false;
        }
        let by_chance = self.faults.loss.chance(self.config.loss);
        if self.config.partitioned || self.config.longest.is_some_and(|longest| packet.len() > longest) {
            self.stats.blocked += 1;
            return true;
        }
        if self.bad || by_chance {
            self.stats.lost += 1;
        }
        self.bad || by_chance
    }

    fn has_room(&mut self, now: Instant, length: usize) -> bool {
        let Some(queue) = self.config.queue else { return true };
        let room = self.waiting(now) + length <= queue.max(length);
        if !room {
            self.stats.overflowed += 1;
        }
        room
    }

    /// Bytes that wait for their turn.
    fn waiting(&self, now: Instant) -> usize {
        let Some(bandwidth) = self.config.bandwidth else { return 0 };
        let busy = self.free.saturating_duration_since(now).as_nanos();
        (busy * u128::from(bandwidth) / 8_000_000_000) as usize
    }

    fn transmission(&self, length: usize) -> Duration {
        let Some(bandwidth) = self.config.bandwidth else { return Duration::ZERO };
        let nanos = length as u128 * 8_000_000_000 / u128::from(bandwidth.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// When what has just been sent arrives.
    fn arrival(&mut self) -> Instant {
        let jitter = self.faults.jitter.up_to(self.config.jitter);
        let mut arrival = self.free.saturating_add(self.config.delay).saturating_add(jitter);
        if self.faults.reorder.chance(self.config.reorder) {
            self.stats.reordered += 1;
            return arrival.saturating_add(self.faults.reorder.up_to(self.config.reorder_delay));
        }
        arrival = arrival.max(self.latest);
        self.latest = arrival;
        arrival
    }

    /// Sets CE in a packet that says it understands (RFC 3168 section 5), while the queue is long.
    fn mark(&mut self, now: Instant, packet: &mut [u8]) {
        let long = self.config.queue.is_some_and(|queue| self.waiting(now) > queue / 2);
        if long && self.faults.mark.chance(self.config.mark) && mark_congestion(packet) {
            self.stats.marked += 1;
        }
    }

    fn corrupt(&mut self, packet: &mut [u8]) {
        if packet.is_empty() || !self.faults.corrupt.chance(self.config.corrupt) {
            return;
        }
        self.stats.corrupted += 1;
        let bit = self.faults.corrupt.below(packet.len() as u64 * 8) as usize;
        packet[bit / 8] ^= 1 << (bit % 8);
    }

    fn add(&mut self, arrival: Instant, packet: Vec<u8>) {
        self.under_way.insert((arrival, self.number), packet);
        self.number += 1;
    }
}

/// Turns ECT into CE; whether the packet allowed it.
fn mark_congestion(packet: &mut [u8]) -> bool {
    const CE: u8 = 0b11;
    match packet.first().map(|first| first >> 4) {
        Some(4) if packet.len() >= 20 && matches!(packet[1] & CE, 0b01 | 0b10) => {
            let before = u16::from_be_bytes([packet[0], packet[1]]);
            packet[1] |= CE;
            let after = u16::from_be_bytes([packet[0], packet[1]]);
            let sum = u16::from_be_bytes([packet[10], packet[11]]);
            // RFC 1624, equation 3.
            let new = u32::from(!sum) + u32::from(!before) + u32::from(after);
            let folded = (new & 0xffff) + (new >> 16);
            let folded = (folded & 0xffff) + (folded >> 16);
            packet[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
            true
        }
        Some(6) if packet.len() >= 40 && matches!(packet[1] >> 4 & CE, 0b01 | 0b10) => {
            packet[1] |= CE << 4;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_nanos(1_000_000);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn at(time: Duration) -> Instant {
        START.saturating_add(time)
    }

    /// Sends so many numbered packets of a kilobyte at once; which arrive, and when.
    fn arrivals(link: &mut Link, count: u32) -> Vec<(Duration, u32)> {
        for number in 0..count {
            let mut packet = number.to_be_bytes().to_vec();
            packet.resize(1_000, 0);
            link.send(START, packet);
        }
        let mut arrivals = Vec::new();
        while let Some(now) = link.next_deadline() {
            while let Some(packet) = link.receive(now) {
                let number = u32::from_be_bytes(packet[..4].try_into().unwrap());
                arrivals.push((now.duration_since(START), number));
            }
        }
        arrivals
    }

    #[test]
    fn packets_take_their_turns_on_the_wire_and_the_queue_has_an_end() {
        let mut link = Link::new(LinkConfig::new(ms(10), 8_000_000, 3_500), 1);
        assert_eq!(arrivals(&mut link, 5), [(ms(11), 0), (ms(12), 1), (ms(13), 2)]);
        assert_eq!((link.stats().overflowed, link.stats().delivered), (2, 3));
    }

    #[test]
    fn a_link_that_does_nothing_gives_everything_at_once_and_in_order() {
        let mut link = Link::new(LinkConfig::default(), 1);
        let expected: Vec<_> = (0..50).map(|number| (Duration::ZERO, number)).collect();
        assert_eq!(arrivals(&mut link, 50), expected);
    }

    #[test]
    fn faults_happen_as_often_as_is_said() {
        let config = LinkConfig {
            delay: ms(1),
            loss: 0.1,
            duplicate: 0.2,
            corrupt: 0.3,
            reorder: 0.4,
            reorder_delay: ms(5),
            ..LinkConfig::default()
        };
        let mut link = Link::new(config, 42);
        let arrived = arrivals(&mut link, 10_000);
        let stats = link.stats();
        let near = |count: u64, share: f64| (count as f64 / 10_000.0 - share).abs() < 0.02;
        assert!(near(stats.lost, 0.1), "{stats:?}");
        assert!(near(stats.duplicated, 0.9 * 0.2), "{stats:?}");
        assert!(near(stats.corrupted, 0.9 * 0.3), "{stats:?}");
        assert!(near(stats.reordered, 0.9 * 0.4), "{stats:?}");
        assert_eq!(arrived.len() as u64, stats.delivered);
        assert_eq!(stats.delivered, 10_000 - stats.lost + stats.duplicated);
        assert!(arrived.windows(2).any(|pair| pair[0].1 > pair[1].1));
    }

    #[test]
    fn losses_come_in_bursts() {
        let burst = Some(Burst { begin: 0.01, end: 0.1 });
        let mut link = Link::new(LinkConfig { burst, ..LinkConfig::default() }, 3);
        let arrived = arrivals(&mut link, 10_000);
        let gaps: Vec<_> =
            arrived.windows(2).map(|pair| pair[1].1 - pair[0].1 - 1).filter(|&gap| gap > 0).collect();
        let mean = f64::from(gaps.iter().sum::<u32>()) / gaps.len() as f64;
        assert!((7.0..14.0).contains(&mean), "bursts of {mean} packets");
    }

    #[test]
    fn a_seed_repeats_and_another_does_not() {
        let config = LinkConfig { loss: 0.5, jitter: ms(3), ..LinkConfig::default() };
        let run = |seed| arrivals(&mut Link::new(config.clone(), seed), 200);
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        // Jitter alone does not change the order.
        assert!(run(1).windows(2).all(|pair| pair[0] <= pair[1]));
    }

    #[test]
    fn a_partition_and_a_black_hole_let_nothing_through() {
        let mut link = Link::new(LinkConfig { longest: Some(999), ..LinkConfig::default() }, 1);
        assert!(arrivals(&mut link, 3).is_empty());
        link.configure(|config| config.longest = None);
        assert_eq!(arrivals(&mut link, 1).len(), 1);
        link.configure(|config| config.partitioned = true);
        assert!(arrivals(&mut link, 3).is_empty());
        assert_eq!(link.stats().blocked, 6);
    }

    #[test]
    fn what_is_held_is_sent_when_it_is_released() {
        let mut link = Link::new(LinkConfig { delay: ms(5), ..LinkConfig::default() }, 1);
        link.send(START, vec![1]);
        link.hold();
        link.send(START, vec![2]);
        link.send(at(ms(1)), vec![3]);
        assert_eq!(link.receive(at(ms(100))), Some(vec![1]), "what was under way arrives");
        assert_eq!((link.receive(at(ms(100))), link.next_deadline()), (None, None));
        link.release(at(ms(200)));
        link.send(at(ms(201)), vec![4]);
        assert_eq!(link.next_deadline(), Some(at(ms(205))));
        let rest: Vec<_> = std::iter::from_fn(|| link.receive(at(ms(300)))).collect();
        assert_eq!(rest, [vec![2], vec![3], vec![4]]);
    }

    #[test]
    fn what_waits_long_is_marked_if_it_allows_it() {
        let mut header = vec![0x45, 0b10, 0, 20, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let sum = |bytes: &[u8]| {
            let words = bytes.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
            let sum = words.sum::<u32>();
            (sum & 0xffff) + (sum >> 16)
        };
        let checksum = !(sum(&header) as u16);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        let mut config = LinkConfig::new(ms(1), 8_000, 100);
        config.mark = 1.0;
        let mut link = Link::new(config, 1);
        for _ in 0..5 {
            link.send(START, header.clone());
        }
        let received: Vec<_> = std::iter::from_fn(|| link.receive(at(ms(1_000)))).collect();
        let marks: Vec<_> = received.iter().map(|packet| packet[1] & 3).collect();
        assert_eq!(marks, [2, 2, 2, 3, 3]);
        assert!(received.iter().all(|packet| sum(packet) == 0xffff), "checksums stay right");
        let mut six = vec![0x60, 0x10, 0, 0];
        six.resize(40, 0);
        assert!(mark_congestion(&mut six) && six[1] == 0x30);
        assert!(!mark_congestion(&mut [0x60; 10]));
    }
}
