//! Frames that get lost, change, arrive twice, late or out of order, as a seed says: what networks do, on any device.

use super::{BURST, Capabilities, Frame, FrameDevice};
use demikernel_runtime::buffer::{Buffer, BufferMut};
use demikernel_runtime::random::Random;
use demikernel_runtime::time::Instant;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// Frames that are held back in one direction at most; more are dropped.
const MOST_HELD: usize = 4096;

/// What happens to frames in one direction. By default nothing.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Faults {
    /// The share of frames that are lost.
    pub drop: f64,
    /// The share of frames in which one bit is turned over.
    pub corrupt: f64,
    /// The share of frames that arrive twice.
    pub duplicate: f64,
    /// The share of frames that are overtaken: they arrive later by up to [`reorder_delay`](Self::reorder_delay).
    pub reorder: f64,
    /// How much later those arrive at most.
    pub reorder_delay: Duration,
    /// How much later all frames arrive.
    pub delay: Duration,
    /// Longer frames are lost.
    pub size_limit: Option<usize>,
    /// So many frames pass in a second, and as many as in a tenth of it at once; others are lost.
    pub rate_limit: Option<u32>,
}

impl Faults {
    /// Whether anything happens to frames.
    pub fn is_none(&self) -> bool {
        let &Faults { drop, corrupt, duplicate, reorder, reorder_delay: _, delay, size_limit, rate_limit } =
            self;
        [drop, corrupt, duplicate, reorder] == [0.0; 4]
            && delay == Duration::ZERO
            && size_limit.is_none()
            && rate_limit.is_none()
    }
}

/// What has become of frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct FaultStats {
    /// Lost by chance.
    pub dropped: u64,
    /// Altered.
    pub corrupted: u64,
    /// Given out twice.
    pub duplicated: u64,
    /// Overtaken, if others came.
    pub reordered: u64,
    /// Lost as they were too long.
    pub oversized: u64,
    /// Lost as there were too many of them.
    pub limited: u64,
    /// Lost as too many were held back already.
    pub overflowed: u64,
}

/// A device on which things go wrong, for whoever wants to see how a program bears it.
///
/// Around a [`Tracer`](super::Tracer) it leaves in the capture what was on the wire; inside of one, what the stack saw.
/// With faults in what is sent, the stack cuts segments itself, so that a fault meets a packet; and it computes checksums
/// itself if packets are altered, as a device would make those of altered packets right again. While frames are held back,
/// whoever waits for the device is to poll it.
///
/// ```
/// use demikernel_net::device::{Capabilities, FaultInjector, Faults, Frame, FrameDevice, Medium, Pair};
/// use demikernel_runtime::{buffer::Buffer, time::Instant};
///
/// let capabilities = Capabilities::new(Medium::Ip, 1500);
/// let (here, mut there) = Pair::new(capabilities, capabilities, 256);
/// let receive = Faults::default();
/// let transmit = Faults { drop: 0.25, ..Faults::default() };
/// let mut here = FaultInjector::new(here, receive, transmit, 7, Instant::now);
///
/// let mut burst: Vec<_> = (0..100).map(|_| Frame::new(Buffer::from_static(b"a packet"))).collect();
/// while !burst.is_empty() {
///     here.transmit(&mut burst)?;
/// }
/// let mut arrived = Vec::new();
/// while there.receive(&mut arrived)? > 0 {}
/// let dropped = here.transmit_stats().dropped;
/// assert_eq!(arrived.len() as u64, 100 - dropped);
/// assert!((10..40).contains(&dropped));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct FaultInjector<D, C = fn() -> Instant> {
    device: D,
    clock: C,
    receive: Lane,
    transmit: Lane,
    inbound: Vec<Frame>,
    /// What the device has not taken yet.
    outbound: Vec<Frame>,
}

impl<D: FrameDevice, C: Fn() -> Instant> FaultInjector<D, C> {
    /// A device to which all that happens follows from `seed`, and the times that `clock` tells.
    pub fn new(device: D, receive: Faults, transmit: Faults, seed: u64, clock: C) -> FaultInjector<D, C> {
        let now = clock();
        FaultInjector {
            device,
            clock,
            receive: Lane::new(receive, seed, now),
            transmit: Lane::new(transmit, !seed, now),
            inbound: Vec::with_capacity(BURST),
            outbound: Vec::with_capacity(BURST),
        }
    }

    /// What has become of frames that the device received.
    pub fn receive_stats(&self) -> FaultStats {
        self.receive.stats
    }

    /// What has become of frames that were to be sent.
    pub fn transmit_stats(&self) -> FaultStats {
        self.transmit.stats
    }

    /// The device.
    pub fn get_ref(&self) -> &D {
        &self.device
    }

    /// Gives the device what is due, as far as it takes it.
    fn flush(&mut self, now: Instant) -> io::Result<()> {
        loop {
            while self.outbound.len() < BURST
                && let Some(frame) = self.transmit.take(now)
            {
                self.outbound.push(frame);
            }
            if self.outbound.is_empty() {
                return Ok(());
            }
            self.device.transmit(&mut self.outbound)?;
            if !self.outbound.is_empty() {
                return Ok(());
            }
        }
    }
}

impl<D, C> FaultInjector<D, C> {
    /// Whether there are frames that are to go on later, without anything else happening.
    fn holds_back(&self) -> bool {
        !self.receive.held.is_empty() || !self.transmit.held.is_empty() || !self.outbound.is_empty()
    }
}

impl<D: FrameDevice, C: Fn() -> Instant> FrameDevice for FaultInjector<D, C> {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.device.capabilities();
        if !self.transmit.faults.is_none() {
            capabilities.segmentation = 0;
        }
        if self.transmit.faults.corrupt > 0.0 {
            capabilities.transmit_ip_checksum = false;
            capabilities.transmit_l4_checksum = false;
        }
        capabilities
    }

    fn receive(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        let now = (self.clock)();
        self.flush(now)?;
        self.device.receive(&mut self.inbound)?;
        for frame in self.inbound.drain(..) {
            self.receive.offer(now, frame);
        }
        let before = burst.len();
        while burst.len() - before < BURST
            && let Some(frame) = self.receive.take(now)
        {
            burst.push(frame);
        }
        Ok(burst.len() - before)
    }

    fn transmit(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        let now = (self.clock)();
        self.flush(now)?;
        if !self.outbound.is_empty() {
            return Ok(0);
        }
        let count = burst.len();
        for frame in burst.drain(..) {
            self.transmit.offer(now, frame);
        }
        self.flush(now)?;
        Ok(count)
    }

    fn descriptor(&self) -> Option<RawFd> {
        if self.holds_back() { None } else { self.device.descriptor() }
    }

    fn arm(&mut self) -> bool {
        self.device.arm()
    }

    fn is_awaited(&self) -> bool {
        self.holds_back() || self.device.is_awaited()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let sum = |of: fn(&FaultStats) -> u64| of(&self.receive.stats) + of(&self.transmit.stats);
        let mut counters = self.device.counters();
        counters.extend([
            ("faults: frames dropped", sum(|stats| stats.dropped)),
            ("faults: frames corrupted", sum(|stats| stats.corrupted)),
            ("faults: frames duplicated", sum(|stats| stats.duplicated)),
            ("faults: frames reordered", sum(|stats| stats.reordered)),
            ("faults: frames too long", sum(|stats| stats.oversized)),
            ("faults: frames over the rate", sum(|stats| stats.limited)),
            ("faults: frames held back by too many", sum(|stats| stats.overflowed)),
        ]);
        counters
    }
}

/// One direction.
#[derive(Debug)]
struct Lane {
    faults: Faults,
    /// One generator for each fault, so that one fault leaves the draws of the others as they were.
    draws: Draws,
    stats: FaultStats,
    /// When the frames that may pass at once have all come back, if none passes.
    idle_at: Instant,
    /// By the time when they are due, and in the order in which they came.
    held: BTreeMap<(Instant, u64), Frame>,
    number: u64,
}

#[derive(Debug)]
struct Draws {
    drop: Random,
    corrupt: Random,
    duplicate: Random,
    reorder: Random,
}

impl Lane {
    fn new(faults: Faults, seed: u64, now: Instant) -> Lane {
        let draws = Draws {
            drop: Random::new(seed, 1),
            corrupt: Random::new(seed, 2),
            duplicate: Random::new(seed, 3),
            reorder: Random::new(seed, 4),
        };
        let (stats, held) = (FaultStats::default(), BTreeMap::new());
        Lane { faults, draws, stats, idle_at: now, held, number: 0 }
    }

    /// A frame comes in.
    fn offer(&mut self, now: Instant, mut frame: Frame) {
        let Faults { drop, corrupt, duplicate, reorder, reorder_delay, delay, size_limit, .. } = self.faults;
        if self.draws.drop.chance(drop) {
            self.stats.dropped += 1;
            return;
        }
        if size_limit.is_some_and(|limit| frame.len() > limit) {
            self.stats.oversized += 1;
            return;
        }
        if !self.has_token(now) {
            self.stats.limited += 1;
            return;
        }
        if self.draws.corrupt.chance(corrupt)
            && let Some(altered) = alter(&frame, &mut self.draws.corrupt)
        {
            self.stats.corrupted += 1;
            frame = altered;
        }
        let mut due = now.saturating_add(delay);
        if self.draws.reorder.chance(reorder) {
            self.stats.reordered += 1;
            due = due.saturating_add(self.draws.reorder.up_to(reorder_delay));
        }
        if self.draws.duplicate.chance(duplicate)
            && let Some(double) = copy(&frame)
        {
            self.stats.duplicated += 1;
            self.hold(due, double);
        }
        self.hold(due, frame);
    }

    /// The next frame that is due.
    fn take(&mut self, now: Instant) -> Option<Frame> {
        let first = self.held.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    fn hold(&mut self, due: Instant, frame: Frame) {
        if self.held.len() >= MOST_HELD {
            self.stats.overflowed += 1;
            return;
        }
        self.held.insert((due, self.number), frame);
        self.number += 1;
    }

    /// A leaky bucket (GCRA): each frame fills it for the time that it takes at the rate.
    fn has_token(&mut self, now: Instant) -> bool {
        const AT_ONCE: Duration = Duration::from_millis(100);
        let Some(rate) = self.faults.rate_limit else { return true };
        let each = Duration::from_secs(1) / rate.max(1);
        let full = self.idle_at.max(now).saturating_add(each);
        // The first one passes at any rate.
        let passes = full <= now.saturating_add(AT_ONCE.max(each));
        if passes {
            self.idle_at = full;
        }
        passes
    }
}

/// The same frame in memory of its own, for nobody is to have another's headers; `None` if there is no memory.
fn copy(frame: &Frame) -> Option<Frame> {
    let head = Buffer::copy_from_slice(&frame.head).ok()?;
    let &Frame { checksum, segmentation, received, .. } = frame;
    Some(Frame { head, rest: frame.rest.clone(), checksum, segmentation, received })
}

/// The frame with one bit turned over. What the device had found out about it no longer holds.
fn alter(frame: &Frame, random: &mut Random) -> Option<Frame> {
    if frame.is_empty() {
        return None;
    }
    let mut bytes = BufferMut::with_capacity(frame.len()).ok()?;
    bytes.extend_from_slice(&frame.head);
    frame.rest.iter().for_each(|part| bytes.extend_from_slice(part));
    let bit = random.below(frame.len() as u64 * 8) as usize;
    bytes[bit / 8] ^= 1 << (bit % 8);
    let (checksum, segmentation) = (frame.checksum, frame.segmentation);
    Some(Frame { checksum, segmentation, ..Frame::new(bytes.freeze()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::pcapng::Writer;
    use crate::device::{ChecksumOffload, MacAddress, Medium, Pair, Received, Tracer};
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    const START: Instant = Instant::from_nanos(1_000_000_000);
    const MS: Duration = Duration::from_millis(1);

    fn capabilities() -> Capabilities {
        Capabilities {
            segmentation: 60_000,
            transmit_l4_checksum: true,
            ..Capabilities::new(Medium::Ethernet(MacAddress::default()), 1500)
        }
    }

    /// A device with faults in what is sent, what is at its other end, and its clock.
    struct Bench<C: Fn() -> Instant> {
        here: FaultInjector<Pair, C>,
        there: Pair,
        now: Rc<Cell<Instant>>,
    }

    fn bench(transmit: Faults, seed: u64) -> Bench<impl Fn() -> Instant> {
        let (here, there) = Pair::new(capabilities(), capabilities(), 100_000);
        let now = Rc::new(Cell::new(START));
        let clock = {
            let now = now.clone();
            move || now.get()
        };
        Bench { here: FaultInjector::new(here, Faults::default(), transmit, seed, clock), there, now }
    }

    fn numbered(numbers: std::ops::Range<u32>) -> Vec<Frame> {
        let frame = |number: u32| Frame::new(Buffer::copy_from_slice(&number.to_be_bytes()).unwrap());
        numbers.map(frame).collect()
    }

    impl<C: Fn() -> Instant> Bench<C> {
        /// Which arrive of so many numbered ones that are sent now.
        fn arrivals(&mut self, count: u32) -> Vec<u32> {
            for number in (0..count).step_by(BURST) {
                let mut burst = numbered(number..count.min(number + BURST as u32));
                while !burst.is_empty() {
                    self.here.transmit(&mut burst).unwrap();
                }
            }
            self.come()
        }

        /// Which have come by now.
        fn come(&mut self) -> Vec<u32> {
            let mut frames = Vec::new();
            self.here.receive(&mut Vec::new()).unwrap();
            while self.there.receive(&mut frames).unwrap() > 0 {}
            frames.iter().map(|frame| u32::from_be_bytes(frame.head[..4].try_into().unwrap())).collect()
        }
    }

    #[test]
    fn without_faults_everything_arrives_and_nothing_is_held() {
        let mut bench = bench(Faults::default(), 1);
        assert!(bench.arrivals(1000).into_iter().eq(0..1000));
        assert_eq!(bench.here.transmit_stats(), FaultStats::default());
        assert_eq!(bench.here.capabilities(), capabilities());
    }

    #[test]
    fn faults_happen_as_often_as_is_said_and_repeat() {
        let faults = Faults { drop: 0.1, corrupt: 0.2, duplicate: 0.3, ..Faults::default() };
        let run = |seed| {
            let mut bench = bench(faults, seed);
            (bench.arrivals(10_000), bench.here.transmit_stats())
        };
        let (arrived, stats) = run(42);
        let near = |count: u64, share: f64| (count as f64 / 10_000.0 - share).abs() < 0.02;
        assert!(near(stats.dropped, 0.1), "{stats:?}");
        assert!(near(stats.corrupted, 0.9 * 0.2), "{stats:?}");
        assert!(near(stats.duplicated, 0.9 * 0.3), "{stats:?}");
        assert_eq!(arrived.len() as u64, 10_000 - stats.dropped + stats.duplicated);
        assert_eq!(run(42), (arrived, stats));
        assert_ne!(run(43).1, stats);
    }

    #[test]
    fn one_bit_of_an_altered_frame_differs_and_nobody_vouches_for_it() {
        let (here, mut there) = Pair::new(capabilities(), capabilities(), 100);
        let receive = Faults { corrupt: 1.0, ..Faults::default() };
        let mut here = FaultInjector::new(here, receive, Faults::default(), 3, || START);
        let mut frame = Frame::new(Buffer::from_static(b"abcd"));
        frame.rest.push(Buffer::from_static(b"efgh"));
        frame.checksum = ChecksumOffload { ip: Some(0), l4: Some((1, 2)) };
        there.transmit(&mut vec![frame]).unwrap();
        let mut burst = Vec::new();
        assert_eq!(here.receive(&mut burst).unwrap(), 1);
        let mut bytes = Vec::new();
        burst[0].copy_to(&mut bytes);
        let differing: u32 =
            bytes.iter().zip(b"abcdefgh").map(|(one, other)| (one ^ other).count_ones()).sum();
        assert_eq!((bytes.len(), differing), (8, 1));
        assert_eq!(burst[0].received, Received::default());
        // A device would make the checksums of altered frames right.
        let mut bench = bench(Faults { corrupt: 0.1, ..Faults::default() }, 1);
        let capabilities = bench.here.capabilities();
        assert!(!capabilities.transmit_l4_checksum && capabilities.segmentation == 0);
        assert!(bench.arrivals(10).len() == 10);
    }

    #[test]
    fn frames_arrive_later_and_some_are_overtaken() {
        let (delay, reorder_delay) = (10 * MS, 5 * MS);
        let faults = Faults { delay, reorder: 0.3, reorder_delay, ..Faults::default() };
        let mut bench = bench(faults, 5);
        assert_eq!(bench.arrivals(100), []);
        assert_eq!(bench.here.descriptor(), None, "whoever waits is to poll");
        bench.now.set(START.saturating_add(delay));
        let (first, overtaken) = (bench.come(), bench.here.transmit_stats().reordered);
        assert!(first.is_sorted() && first.len() as u64 == 100 - overtaken && overtaken > 10);
        bench.now.set(START.saturating_add(delay + reorder_delay));
        let later = bench.come();
        assert!(later.len() as u64 == overtaken && !later.is_sorted());
    }

    #[test]
    fn what_is_too_long_or_too_much_is_lost() {
        let faults = Faults { size_limit: Some(4), rate_limit: Some(100), ..Faults::default() };
        let mut bench = bench(faults, 1);
        let mut long = vec![Frame::new(Buffer::from_static(b"abcde"))];
        bench.here.transmit(&mut long).unwrap();
        assert_eq!(bench.here.transmit_stats().oversized, 1);
        // As many as in a tenth of a second at once, and then one for each hundredth.
        assert_eq!(bench.arrivals(50).len(), 10);
        assert_eq!(bench.here.transmit_stats().limited, 40);
        bench.now.set(START.saturating_add(30 * MS));
        assert_eq!(bench.arrivals(50).len(), 3);
        let slow = Faults { rate_limit: Some(1), ..Faults::default() };
        assert_eq!(self::bench(slow, 1).arrivals(5).len(), 1);
    }

    #[test]
    fn what_is_held_back_has_a_limit() {
        let mut bench = bench(Faults { delay: MS, ..Faults::default() }, 1);
        assert_eq!(bench.arrivals(5000), []);
        assert_eq!(bench.here.transmit_stats().overflowed, 5000 - MOST_HELD as u64);
        bench.now.set(START.saturating_add(MS));
        assert!(bench.come().into_iter().eq(0..MOST_HELD as u32));
    }

    #[test]
    fn a_device_that_is_full_gets_the_rest_later() {
        let (here, mut there) = Pair::new(capabilities(), capabilities(), 5);
        let mut here = FaultInjector::new(here, Faults::default(), Faults::default(), 1, || START);
        let mut burst = numbered(0..10);
        assert_eq!(here.transmit(&mut burst).unwrap(), 10);
        burst = numbered(10..12);
        assert_eq!(here.transmit(&mut burst).unwrap(), 0, "the device has not taken all before");
        let mut frames = Vec::new();
        there.receive(&mut frames).unwrap();
        assert_eq!(here.transmit(&mut burst).unwrap(), 2);
        while there.receive(&mut frames).unwrap() > 0 {
            here.receive(&mut Vec::new()).unwrap();
        }
        assert_eq!(frames.len(), 12);
    }

    /// What a capture writes to, and who reads it.
    #[derive(Clone, Default)]
    struct Output(Rc<RefCell<Vec<u8>>>);

    impl io::Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The capture of the inner one has what was on the wire, that of the outer one what the stack gave.
    #[test]
    fn captures_inside_and_outside() {
        let (pair, _there) = Pair::new(capabilities(), capabilities(), 100);
        let outputs = [Output::default(), Output::default()];
        let writer = |output: &Output| Writer::new(output.clone(), "pair", Medium::Ip, 100).unwrap();
        let [inside, outside] = [&outputs[0], &outputs[1]].map(writer);
        let lengths = || outputs.each_ref().map(|output| output.0.borrow().len());
        let [empty, _] = lengths();
        let faults = Faults { drop: 1.0, ..Faults::default() };
        let inner = Tracer::new(pair, inside, || MS);
        let injector = FaultInjector::new(inner, Faults::default(), faults, 1, || START);
        let mut outer = Tracer::new(injector, outside, || MS);
        assert_eq!(outer.transmit(&mut numbered(0..10)).unwrap(), 10);
        let [inside, outside] = lengths();
        assert!(inside == empty && outside > empty + 10 * 4, "{inside} and {outside} of {empty}");
        assert_eq!(outer.counters()[0], ("faults: frames dropped", 10));
    }
}
