//! Each congestion control by itself, fed with samples.

use demikernel_runtime::time::Instant;

use super::bbr::{Bbr, Mode};
use super::cubic::Cubic;
use super::dctcp::Dctcp;
use super::hystart::HyStart;
use super::{Congestion, CongestionControl, Controller, Sample, Window};
use crate::tcp::recovery::{CongestionState, RateSample};

const MS: u64 = 1_000_000;
const SEGMENT: u32 = 1_000;

fn sample(now: u64) -> Sample {
    Sample {
        now: Instant::from_nanos(now),
        delivered: SEGMENT,
        lost: 0,
        total: 0,
        in_flight: 0,
        rtt: 0,
        smoothed: 100 * MS,
        round: false,
        limited: true,
        ece: false,
        state: CongestionState::Open,
        rate: RateSample::default(),
        paced: false,
    }
}

fn avoiding(segments: u32) -> Window {
    Window { threshold: segments * SEGMENT, ..Window::new(segments, SEGMENT) }
}

#[test]
fn names_are_linuxs() {
    for control in CongestionControl::ALL {
        assert_eq!(control.name().parse(), Ok(control));
        assert_eq!(Controller::new(control, Instant::from_nanos(0)).control(), control);
    }
    let error = "vegas".parse::<CongestionControl>().expect_err("there is no such");
    assert_eq!(error.to_string(), "unknown congestion control \"vegas\": expected cubic, reno, bbr or dctcp");
}

/// [rfc5681 3.1-ssthresh]
#[test]
fn reno_halves_what_was_in_flight() {
    let mut reno = Controller::new(CongestionControl::Reno, Instant::from_nanos(0));
    let window = Window::new(20, SEGMENT);
    for (flight, threshold) in [(20, 10_000), (7, 3_500), (3, 2_000), (0, 2_000)] {
        assert_eq!(reno.on_congestion(Congestion::Loss, &window, flight * SEGMENT), threshold);
    }
}

/// Feeds one acknowledgment for each segment of the window, evenly over a round trip of 100 ms.
fn round_trip(cubic: &mut Cubic, window: &mut Window, from: u64, rtt: u64) {
    let count = u64::from(window.congestion / SEGMENT);
    for number in 0..count {
        let now = from + rtt * number / count;
        cubic.on_ack(&Sample { smoothed: rtt, ..sample(now) }, window);
    }
}

/// [rfc9438 4.2-curve] [rfc9438 4.2-K] [rfc9438 4.2-target] [rfc9438 4.4] [rfc9438 4.5] [rfc9438 4.6]
#[test]
fn cubic_follows_its_curve() {
    let (mut cubic, mut window) = (Cubic::default(), avoiding(1_000));
    assert_eq!(cubic.on_congestion(Congestion::Loss, &window, window.congestion), 700 * SEGMENT);
    window = avoiding(700);
    // K = cbrt(300 / 0.4) = 9.0856 s.
    for round in 0..130u64 {
        round_trip(&mut cubic, &mut window, 1_000 * MS + round * 100 * MS, 100 * MS);
        let seconds = (round + 1) as f64 / 10.0 - 9.0856;
        let expected = 0.4 * seconds.powi(3) + 1_000.0;
        let is = f64::from(window.congestion) / 1_000.0;
        assert!((is - expected).abs() < expected * 0.02, "after {round} round trips {is}, not {expected}");
    }
}

/// [rfc9438 4.7]
#[test]
fn cubic_leaves_room_if_it_did_not_reach_its_last_top() {
    let (mut cubic, mut window) = (Cubic::default(), avoiding(1_000));
    cubic.on_congestion(Congestion::Loss, &window, window.congestion);
    window = avoiding(800);
    assert_eq!(cubic.on_congestion(Congestion::Loss, &window, window.congestion), 560 * SEGMENT);
    // Its top is at 800 * 1.7 / 2 = 680, which the curve passes K = cbrt(120 / 0.4) = 6.69 s later.
    window = avoiding(560);
    for round in 0..67 {
        round_trip(&mut cubic, &mut window, round * 100 * MS, 100 * MS);
    }
    assert!(window.congestion.abs_diff(680 * SEGMENT) < 14 * SEGMENT, "{}", window.congestion);
}

/// [rfc9438 4.3-alpha] [rfc9438 4.3-west] [rfc9438 4.3-region]
#[test]
fn cubic_is_no_slower_than_reno_on_short_paths() {
    let (mut cubic, mut window) = (Cubic::default(), avoiding(20));
    cubic.on_congestion(Congestion::Loss, &window, window.congestion);
    window = avoiding(14);
    let mut windows = vec![];
    for round in 0..40 {
        round_trip(&mut cubic, &mut window, round * MS, MS);
        windows.push(f64::from(window.congestion) / 1_000.0);
    }
    // 3 * 0.3 / 1.7 = 0.529 segments in a round trip up to 20, then one.
    assert!((windows[9] - 19.3).abs() < 0.8, "{windows:.1?}");
    assert!((windows[39] - 47.0).abs() < 3.0, "{windows:.1?}");
}

/// [rfc9438 4.8] [rfc9438 4.10] [rfc9438 5.1-C]
#[test]
fn after_a_timeout_cubic_begins_on_the_convex_side() {
    let (mut cubic, mut window) = (Cubic::default(), avoiding(1_000));
    assert_eq!(cubic.on_congestion(Congestion::Timeout, &window, window.congestion), 700 * SEGMENT);
    // Back in slow start, up to the threshold.
    window = avoiding(700);
    for round in 0..50u64 {
        round_trip(&mut cubic, &mut window, round * 100 * MS, 100 * MS);
    }
    // 700 + 0.4 * 5^3
    assert!(window.congestion.abs_diff(750 * SEGMENT) < 6 * SEGMENT, "{}", window.congestion);
}

/// [rfc9438 4.9.2-undo] [rfc9438 5.8] [rfc9438 4.2-idle]
#[test]
fn cubic_counts_no_time_in_which_the_window_is_not_used() {
    let (mut cubic, mut window) = (Cubic::default(), avoiding(1_000));
    cubic.on_congestion(Congestion::Loss, &window, window.congestion);
    window = avoiding(700);
    round_trip(&mut cubic, &mut window, 0, 100 * MS);
    let before = window.congestion;
    for number in 0..100 {
        cubic.on_ack(&Sample { limited: false, ..sample((1 + number) * 100 * MS) }, &mut window);
    }
    assert_eq!(window.congestion, before);
    round_trip(&mut cubic, &mut window, 10_100 * MS, 100 * MS);
    let growth = window.congestion - before;
    assert!((1..12 * SEGMENT).contains(&growth), "{growth}: as in the second round trip, not after 10 s");

    cubic.on_congestion(Congestion::Loss, &window, window.congestion);
    cubic.undo();
    round_trip(&mut cubic, &mut window, 10_200 * MS, 100 * MS);
    assert!(window.congestion - before < 24 * SEGMENT, "the curve is the old one");
}

/// [rfc9406 4.2-round] [rfc9406 4.2-sample] [rfc9406 4.2-delay] [rfc9406 4.2-css] [rfc9406 4.2-exit]
#[test]
fn hystart_leaves_slow_start_when_round_trips_grow() {
    let (mut hystart, mut window) = (HyStart::default(), Window::new(10, SEGMENT));
    let feed = |hystart: &mut HyStart, window: &mut Window, rtt: u64| {
        let before = window.congestion;
        for number in 0..before / SEGMENT {
            hystart.on_ack(&Sample { rtt: rtt * MS, round: number == 0, ..sample(0) }, window);
        }
        f64::from(window.congestion) / f64::from(before)
    };
    assert_eq!(feed(&mut hystart, &mut window, 40), 2.0);
    assert_eq!(feed(&mut hystart, &mut window, 44), 2.0, "less than an eighth");
    let growth = feed(&mut hystart, &mut window, 50);
    assert!(growth < 1.5, "{growth}: an eighth more: conservative from the eighth sample on");
    for _ in 0..4 {
        let growth = feed(&mut hystart, &mut window, 52);
        assert!((1.24..=1.26).contains(&growth), "{growth}");
        assert!(window.is_slow_start());
    }
    feed(&mut hystart, &mut window, 52);
    assert!(!window.is_slow_start(), "after five rounds it ends");
}

/// [rfc9406 4.2-resume] [rfc9406 4.2-L] [rfc9406 4.3-first]
#[test]
fn hystart_resumes_and_bounds_bursts() {
    let (mut hystart, mut window) = (HyStart::default(), Window::new(100, SEGMENT));
    for (round, rtt) in [40, 60, 41].into_iter().enumerate() {
        for number in 0..10 {
            hystart
                .on_ack(&Sample { rtt: rtt * MS, round: number == 0, ..sample(round as u64) }, &mut window);
        }
    }
    let before = window.congestion;
    hystart.on_ack(&Sample { delivered: 20 * SEGMENT, ..sample(0) }, &mut window);
    assert_eq!(window.congestion - before, 8 * SEGMENT, "full speed, but eight segments at once");
    hystart.on_ack(&Sample { delivered: 20 * SEGMENT, paced: true, ..sample(0) }, &mut window);
    assert_eq!(window.congestion - before, 28 * SEGMENT, "pacing needs no bound");
    hystart.finish();
    hystart.on_ack(&Sample { delivered: 20 * SEGMENT, ..sample(0) }, &mut window);
    assert_eq!(window.congestion - before, 48 * SEGMENT, "later slow starts know their threshold");
}

/// [rfc8257 3.3-init] [rfc8257 3.3-bytes] [rfc8257 3.3-alpha] [rfc8257 3.3-reduce] [rfc8257 4.2-g] [rfc8257 3.4]
#[test]
fn dctcp_reduces_by_the_share_of_marks() {
    let (mut dctcp, mut window) = (Dctcp::default(), avoiding(100));
    assert_eq!(
        dctcp.on_congestion(Congestion::Mark, &window, window.congestion),
        50 * SEGMENT,
        "at first by half"
    );
    let mut round = |dctcp: &mut Dctcp, marked: u32| {
        for number in 0..16 {
            let last = number == 15;
            let sample = Sample { ece: number < marked, round: last, limited: false, ..sample(0) };
            dctcp.on_ack(&sample, &mut window);
        }
    };
    // alpha = 15/16 alpha + 1/16 share.
    round(&mut dctcp, 0);
    assert_eq!(dctcp.alpha(), 960);
    round(&mut dctcp, 8);
    assert_eq!(dctcp.alpha(), 960 - 60 + 32);
    for _ in 0..200 {
        round(&mut dctcp, 4);
    }
    assert!(dctcp.alpha().abs_diff(256) <= 16, "{}", dctcp.alpha());
    let window = avoiding(100);
    let reduced = dctcp.on_congestion(Congestion::Mark, &window, window.congestion);
    assert!(reduced.abs_diff(87_500) < 1_000, "{reduced}");
    assert_eq!(dctcp.on_congestion(Congestion::Loss, &window, window.congestion), 50 * SEGMENT);
    for _ in 0..300 {
        round(&mut dctcp, 0);
    }
    assert_eq!(dctcp.alpha(), 0, "it comes down to nothing");
}

/// Feeds BBR with acknowledgments of a path of 1,000 segments a second and 100 ms, in which as much is in flight as
/// the window and the pace allow.
struct Path {
    bbr: Bbr,
    window: Window,
    now: u64,
    total: u64,
}

impl Path {
    fn step(&mut self, min_rtt: u64) -> Mode {
        self.now += MS;
        let prior = self.total.saturating_sub(u64::from(100 * SEGMENT));
        self.total += u64::from(SEGMENT);
        let rate =
            RateSample { delivered: SEGMENT, interval: MS, prior_delivered: prior, app_limited: false };
        let in_flight = self.window.congestion.min(100 * SEGMENT);
        let sample = Sample { rtt: min_rtt, total: self.total, in_flight, rate, ..sample(self.now) };
        self.bbr.on_ack(&sample, &mut self.window);
        self.bbr.mode()
    }

    fn run_until(&mut self, mode: Mode, most: u64) -> u64 {
        (1..most).find(|_| self.step(100 * MS) == mode).expect("the mode comes")
    }
}

#[test]
fn bbr_starts_drains_probes_and_looks_for_the_least_round_trip() {
    let now = Instant::from_nanos(0);
    let mut path = Path { bbr: Bbr::new(now), window: Window::new(10, SEGMENT), now: 0, total: 0 };
    assert_eq!(path.step(100 * MS), Mode::Startup);
    let took = path.run_until(Mode::ProbeBandwidth, 1_000);
    assert!((200..600).contains(&took), "{took}: three rounds without growth");
    for _ in 0..1_000 {
        path.step(100 * MS);
    }
    // A megabyte a second, with the gain of the phase and a margin.
    let pace = path.bbr.pacing_rate(&path.window, 100 * MS);
    assert!([742_500, 990_000, 1_237_500].contains(&pace), "{pace}");
    assert!((200..=210).contains(&(path.window.congestion / SEGMENT)), "{}", path.window.congestion);
    // Ten seconds with only longer round trips.
    let mut longest = 0;
    while path.step(101 * MS) != Mode::ProbeRtt {
        longest += 1;
        assert!(longest < 10_100);
    }
    path.step(101 * MS);
    assert_eq!(path.window.congestion, 4 * SEGMENT);
    let took = path.run_until(Mode::ProbeBandwidth, 1_000);
    assert!((200..400).contains(&took), "{took} ms");
    assert!(path.window.congestion >= 200 * SEGMENT, "the window is restored");
}
