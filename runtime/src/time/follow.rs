//! Keeping the time stamp counter in step with `CLOCK_MONOTONIC`.
//!
//! Time is read off a straight line through an anchor: a moment at which both clocks were read. The line is trusted
//! for [`REACH`] nanoseconds; the first read after that makes a new anchor, and the slope of the next line is the
//! rate between the last two anchors. As no line is longer than the distance over which its slope was measured, it
//! ends at most as far off as the two anchors together were uncertain, some 50 ns each. A line cannot know that the
//! kernel changes the rate of its own clock meanwhile: 500 ppm, the most that NTP does, make 0.5 us until the next
//! anchor, and the 8 % with which chrony may slew a large offset make 84 us.
//!
//! When the rate of two successive lines differs by more than one eighth, something else has happened: the machine
//! was suspended, moved to another host, or the counter is broken. Then the clock goes back to `CLOCK_MONOTONIC`,
//! measures again, and if that happens too often ([`LIMIT`]) stays there.

/// How long a line is trusted, and over how long a time the first rate is measured, in nanoseconds.
///
/// An anchor costs about 80 ns, so one in a millisecond is less than 0.01 % of the time of a core.
pub(super) const REACH: u64 = 1 << 20;

/// What each failure adds to the blame; each line that ends where it should takes one off, so it is forgiven after a
/// quarter of a second.
const FAILURE: u16 = 256;

/// The blame at which the counter is abandoned: 16 failures in quick succession.
const LIMIT: u16 = 16 * FAILURE;

/// Rates are nanoseconds per tick with this many binary places: 2e-10 of resolution, and a product with the ticks
/// of [`REACH`] that stays within 53 bits.
const PLACES: u32 = 32;

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Anchor {
    pub(super) ticks: u64,
    pub(super) ns: u64,
}

/// Time as a function of ticks, near one anchor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    from: Anchor,
    rate: u64,
    /// Ticks after the anchor for which the line holds; 0 for none.
    span: u64,
}

impl Line {
    /// The line that holds nowhere.
    pub(super) const NONE: Line = Line { from: Anchor { ticks: 0, ns: 0 }, rate: 0, span: 0 };

    /// A line through `from`, which holds for [`REACH`] nanoseconds.
    fn through(from: Anchor, rate: u64) -> Line {
        Line { from, rate, span: (REACH << PLACES) / rate }
    }

    /// Whether it holds nowhere.
    #[inline]
    pub(super) fn is_none(&self) -> bool {
        self.span == 0
    }

    /// The time at `ticks`, if the line still holds there. It does not hold before its anchor either.
    #[inline]
    pub(super) fn at(&self, ticks: u64) -> Option<u64> {
        let past = ticks.wrapping_sub(self.from.ticks);
        (past < self.span).then(|| self.from.ns + ((past * self.rate) >> PLACES))
    }
}

/// What is known about the counter.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Nothing: no anchor was made yet.
    Fresh,
    /// The rate is being measured since this anchor.
    Measuring(Anchor),
    /// The rate is known; the anchor is the newest.
    Following(Anchor, u64),
    /// That it cannot be relied on.
    Abandoned,
}

/// Makes each next line out of the anchors that it is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Follower {
    state: State,
    blame: u16,
}

impl Follower {
    pub(super) const fn new() -> Follower {
        Follower { state: State::Fresh, blame: 0 }
    }

    /// Whether it has not seen an anchor yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.state == State::Fresh
    }

    /// Whether anchors are of any use to it.
    pub(super) fn is_abandoned(&self) -> bool {
        self.state == State::Abandoned
    }

    /// Relies on the counter no more.
    pub(super) fn abandon(&mut self) {
        self.state = State::Abandoned;
    }

    /// The rate, once it is known.
    pub(super) fn rate(&self) -> Option<u64> {
        match self.state {
            State::Following(_, rate) => Some(rate),
            _ => None,
        }
    }

    /// Begins at `now` with the rate that another clock of the process has measured.
    pub(super) fn begin(&mut self, now: Anchor, rate: u64) -> Line {
        self.state = State::Following(now, rate);
        Line::through(now, rate)
    }

    /// Takes a new anchor and gives the line to read from now on.
    pub(super) fn observe(&mut self, now: Anchor) -> Line {
        match self.state {
            State::Abandoned => Line::NONE,
            State::Fresh => {
                self.state = State::Measuring(now);
                Line::NONE
            }
            State::Measuring(since) => match rate_between(since, now) {
                Measured::TooSoon => Line::NONE,
                Measured::Rate(rate) => self.begin(now, rate),
                Measured::Backwards => self.restart(now),
            },
            State::Following(last, rate) => match rate_between(last, now) {
                // The counter of another core may be some ticks behind the anchor.
                Measured::TooSoon => Line::through(last, rate),
                Measured::Rate(measured) if measured.abs_diff(rate) <= rate / 8 => {
                    self.blame = self.blame.saturating_sub(1);
                    self.begin(now, measured)
                }
                Measured::Rate(_) | Measured::Backwards => self.restart(now),
            },
        }
    }

    /// Both clocks could not be read close enough together. That happens once in a while; where it happens every
    /// time, reading the kernel's clock is a slow system call, and attempts at more are a waste.
    pub(super) fn miss(&mut self) -> Line {
        self.blame += FAILURE;
        if self.blame >= LIMIT {
            self.state = State::Abandoned;
        }
        Line::NONE
    }

    fn restart(&mut self, now: Anchor) -> Line {
        self.state = State::Measuring(now);
        self.miss()
    }
}

enum Measured {
    Rate(u64),
    TooSoon,
    Backwards,
}

fn rate_between(from: Anchor, to: Anchor) -> Measured {
    let elapsed = to.ns.saturating_sub(from.ns);
    if elapsed < REACH {
        return Measured::TooSoon;
    }
    let rate = match to.ticks.checked_sub(from.ticks) {
        None | Some(0) => return Measured::Backwards,
        Some(ticks) => (u128::from(elapsed) << PLACES) / u128::from(ticks),
    };
    // Between 1/16 and 16 ns per tick: a rate outside is no counter's, and would overflow a line.
    match u64::try_from(rate) {
        Ok(rate) if (1 << (PLACES - 4)..=1 << (PLACES + 4)).contains(&rate) => Measured::Rate(rate),
        _ => Measured::Backwards,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each anchor and each reading is rounded to whole nanoseconds.
    const ROUNDING: f64 = 4.0;

    /// A machine: a counter of 2.6 GHz, and a kernel whose nanosecond is a little longer or shorter than real.
    struct Machine {
        follower: Follower,
        line: Line,
        ticks: u64,
        kernel: f64,
        per_tick: f64,
        /// Uncertainty of the reading of the kernel's clock, which alternates.
        jitter: f64,
        anchors: u64,
        /// The reading farthest from the kernel's clock.
        worst: f64,
    }

    impl Machine {
        fn new() -> Machine {
            Machine {
                follower: Follower::new(),
                line: Line::NONE,
                ticks: 1 << 40,
                kernel: 5e9,
                per_tick: 1.0 / 2.6,
                jitter: 0.0,
                anchors: 0,
                worst: 0.0,
            }
        }

        fn pass(&mut self, ticks: u64) {
            self.ticks += ticks;
            self.kernel += ticks as f64 * self.per_tick;
        }

        /// Reads the clock as `Clock::now` does, but for its monotony.
        fn read(&mut self) -> f64 {
            if let Some(ns) = self.line.at(self.ticks) {
                let error = ns as f64 - self.kernel;
                self.worst = if error.abs() > self.worst.abs() { error } else { self.worst };
                return ns as f64;
            }
            self.anchors += 1;
            let jitter = if self.anchors & 1 == 0 { self.jitter } else { -self.jitter };
            let ns = (self.kernel + jitter) as u64;
            self.line = self.follower.observe(Anchor { ticks: self.ticks, ns });
            ns as f64
        }

        /// Reads every so many ticks for so many milliseconds.
        fn run(&mut self, every: u64, ms: u64) {
            let end = self.kernel + ms as f64 * 1e6;
            while self.kernel < end {
                self.pass(every);
                self.read();
            }
        }
    }

    #[test]
    fn it_reads_the_kernel_until_the_rate_is_known() {
        let mut machine = Machine::new();
        machine.run(2600, 1);
        assert!(machine.line.is_none());
        machine.run(2600, 1);
        assert!(!machine.line.is_none());
        let before = machine.anchors;
        machine.run(2600, 10);
        assert!((9..=11).contains(&(machine.anchors - before)), "{} anchors", machine.anchors - before);
        assert!(machine.worst.abs() <= ROUNDING, "{} ns off", machine.worst);
    }

    #[test]
    fn uncertain_anchors_do_not_add_up() {
        let mut machine = Machine { jitter: 50.0, ..Machine::new() };
        machine.run(1000, 500);
        assert!(machine.worst.abs() > 50.0);
        assert!(machine.worst.abs() <= 160.0, "{} ns off", machine.worst);
    }

    #[test]
    fn it_follows_a_kernel_that_changes_its_rate() {
        for (ppm, bound) in [(500.0, 600.0), (-500.0, 600.0), (83_333.0, 90_000.0)] {
            let mut machine = Machine::new();
            machine.run(1000, 20);
            machine.per_tick *= 1.0 + ppm * 1e-6;
            machine.run(1000, 3);
            assert!(machine.worst.abs() <= bound, "{ppm} ppm: {} ns off", machine.worst);
            machine.worst = 0.0;
            machine.run(1000, 20);
            assert!(machine.worst.abs() <= ROUNDING, "{ppm} ppm: {} ns off later", machine.worst);
            assert!(machine.follower.rate().is_some());
        }
    }

    #[test]
    fn it_follows_a_user_who_seldom_reads() {
        let mut machine = Machine::new();
        machine.run(26_000_000_000, 100_000);
        assert_eq!(machine.worst, 0.0);
        machine.run(1000, 5);
        assert!(machine.worst.abs() <= ROUNDING);
    }

    #[test]
    fn after_a_suspend_it_measures_anew() {
        for counter_restarts in [false, true] {
            let mut machine = Machine::new();
            machine.run(1000, 20);
            machine.ticks = if counter_restarts { 0 } else { machine.ticks + (1 << 44) };
            machine.run(1000, 20);
            assert!(machine.follower.rate().is_some());
            assert!(machine.worst.abs() <= ROUNDING, "{} ns off", machine.worst);
        }
    }

    #[test]
    fn a_counter_of_another_core_may_be_a_little_behind() {
        let mut machine = Machine::new();
        machine.run(1000, 20);
        let line = machine.line;
        assert_eq!(line.at(line.from.ticks - 3), None);
        let next = machine.follower.observe(Anchor { ticks: line.from.ticks - 3, ns: line.from.ns + 1 });
        assert_eq!(next, line);
    }

    #[test]
    fn a_counter_that_jumps_about_is_abandoned() {
        let mut machine = Machine::new();
        for jump in 0..200u64 {
            machine.run(1000, 3);
            machine.ticks = machine.ticks.wrapping_add(jump * 100_000_000) % (1 << 50);
        }
        assert!(machine.follower.is_abandoned());
        assert!(machine.line.is_none());
    }

    #[test]
    fn a_failure_now_and_then_is_forgiven() {
        let mut machine = Machine::new();
        for _ in 0..50 {
            machine.run(10_000, 300);
            machine.ticks += 1 << 40;
        }
        assert!(!machine.follower.is_abandoned());
    }

    #[test]
    fn a_counter_that_stands_is_abandoned() {
        let mut follower = Follower::new();
        for ms in 0..100 {
            let line = follower.observe(Anchor { ticks: 7, ns: ms * 2_000_000 });
            assert_eq!(line, Line::NONE);
        }
        assert!(follower.is_abandoned());
    }

    #[test]
    fn reads_that_are_never_close_are_given_up() {
        let mut follower = Follower::new();
        for _ in 0..LIMIT / FAILURE {
            assert!(!follower.is_abandoned());
            assert_eq!(follower.miss(), Line::NONE);
        }
        assert!(follower.is_abandoned());
    }

    #[test]
    fn a_known_rate_spares_the_measuring() {
        let mut first = Machine::new();
        first.run(1000, 20);
        let mut second = Follower::new();
        let now = Anchor { ticks: first.ticks, ns: first.kernel as u64 };
        let line = second.begin(now, first.follower.rate().expect("it follows"));
        let later = line.at(now.ticks + 2_600_000).expect("1 ms is within reach");
        assert!(later.abs_diff(now.ns + 1_000_000) <= 2, "{later}");
    }
}
