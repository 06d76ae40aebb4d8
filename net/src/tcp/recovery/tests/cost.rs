//! What an ordinary segment costs, and what a flow gets on paths of many kinds: printed, not asserted.
//!
//! `cargo test --release -p demikernel-net -- --ignored --nocapture cost::`

use demikernel_runtime::time::{Duration, Instant};

use super::super::{Ack, Recovery, RecoveryConfig, Sent};
use super::link::{Link, World};
use super::script::SEGMENT;
use crate::tcp::congestion::CongestionControl;
use crate::wire::tcp::SequenceNumber;

const COUNT: u32 = 1_000_000;

#[test]
#[ignore = "prints times"]
fn of_a_segment_sent_and_acknowledged() {
    for congestion in CongestionControl::ALL {
        for in_flight in [1, 100] {
            let mut now = Instant::from_nanos(1_000_000_000);
            let first = SequenceNumber::new(0);
            let config = RecoveryConfig { congestion, ..RecoveryConfig::default() };
            let mut recovery = Recovery::new(&config, first, SEGMENT, now);
            recovery.on_sent(now, first, 1, Sent::New, false);
            let mut next = first + 1;
            let (sack, rtt, ece, duplicate) = (&[], None, false, false);
            let mut ack = Ack { now, acknowledgment: next, sack, rtt, ece, duplicate, window: 1 << 20 };
            recovery.on_ack(&ack);
            for _ in 0..in_flight {
                recovery.on_sent(now, next, SEGMENT, Sent::New, false);
                next += SEGMENT;
            }
            let begin = std::time::Instant::now();
            for _ in 0..COUNT {
                now += Duration::from_micros(1);
                ack.now = now;
                ack.acknowledgment += SEGMENT;
                recovery.on_ack(&ack);
                recovery.on_sent(now, next, SEGMENT, Sent::New, in_flight == 1);
                next += SEGMENT;
            }
            let each = begin.elapsed().as_nanos() as f64 / f64::from(COUNT);
            println!("{congestion}, {in_flight} in flight: {each:.1} ns");
            assert_eq!(recovery.in_flight(), in_flight * SEGMENT);
        }
    }
}

#[test]
#[ignore = "prints a grid"]
fn of_losses_on_paths_of_many_kinds() {
    const LOSSES: [u32; 5] = [0, 1_000, 10_000, 20_000, 50_000];
    println!("Mb/s at 1 Gb/s, with losses of 0, 0.1, 1, 2 and 5 %");
    for congestion in CongestionControl::ALL {
        for round_trip in [100, 1_000, 20_000, 100_000].map(Duration::from_micros) {
            let rates = LOSSES.map(|loss| {
                let link =
                    Link { bandwidth: 1_000_000_000, queue: 2_500_000, loss, round_trip, ..Link::default() };
                let mut world = World::new(link);
                world.add(&RecoveryConfig { congestion, ..RecoveryConfig::default() }, u64::MAX);
                world.run_for(Duration::from_secs(2));
                let before = world.delivered(0);
                world.run_for(Duration::from_secs(2));
                (world.delivered(0) - before) as f64 * 8.0 / 2e6
            });
            println!("{congestion:>5} {round_trip:>6.1?}: {rates:7.1?}");
        }
    }
}
