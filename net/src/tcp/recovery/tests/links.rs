//! Whole senders over a simulated link.

use demikernel_runtime::time::Duration;

use super::super::{CongestionState, RecoveryConfig};
use super::link::{Link, World};
use crate::tcp::congestion::CongestionControl;

fn config(congestion: CongestionControl) -> RecoveryConfig {
    RecoveryConfig { congestion, ..RecoveryConfig::default() }
}

/// Megabits a second of a flow without end, after a time to settle.
fn goodput(world: &mut World, settle: u64, measure: u64) -> f64 {
    world.run_for(Duration::from_secs(settle));
    let before = world.delivered(0);
    world.run_for(Duration::from_secs(measure));
    (world.delivered(0) - before) as f64 * 8.0 / measure as f64 / 1e6
}

fn one_flow(congestion: CongestionControl, link: Link) -> World {
    let mut world = World::new(link);
    world.add(&config(congestion), u64::MAX);
    world
}

/// The figures of the issue: CUBIC at least 4 Mb/s, BBR 60.
#[test]
fn goodput_with_two_percent_of_loss_at_twenty_milliseconds() {
    for (congestion, least) in
        [(CongestionControl::Reno, 4.0), (CongestionControl::Cubic, 4.0), (CongestionControl::Bbr, 60.0)]
    {
        for seed in 1..=3 {
            let mut world = one_flow(congestion, Link { loss: 20_000, seed, ..Link::default() });
            let rate = goodput(&mut world, 1, 6);
            println!("{congestion} seed {seed}: {rate:.2} Mb/s");
            assert!(rate >= least, "{congestion} with seed {seed}: {rate:.2} Mb/s");
        }
    }
}

/// 95 % of the bandwidth, of which 1448 in 1514 octets are payload.
#[test]
fn a_clean_link_is_used() {
    for congestion in CongestionControl::ALL {
        let mut world = one_flow(congestion, Link::default());
        let rate = goodput(&mut world, 2, 4);
        println!("{congestion}: {rate:.2} Mb/s");
        assert!(rate >= 95.6 * 0.95, "{congestion}: {rate:.2} Mb/s");
        assert_eq!(world.flows[0].timeouts, 0);
    }
}

#[test]
fn two_flows_share_a_link() {
    for congestion in CongestionControl::ALL {
        let link = Link { bandwidth: 20_000_000, queue: 60_000, ..Link::default() };
        let mut world = one_flow(congestion, link);
        world.run_for(Duration::from_secs(2));
        world.add(&config(congestion), u64::MAX);
        world.run_for(Duration::from_secs(20));
        let before = [world.delivered(0), world.delivered(1)];
        world.run_for(Duration::from_secs(20));
        let rates = [0, 1].map(|flow| (world.delivered(flow) - before[flow]) as f64 * 8.0 / 20e6);
        let (sum, squares) = (rates[0] + rates[1], rates[0] * rates[0] + rates[1] * rates[1]);
        let fairness = sum * sum / (2.0 * squares);
        println!("{congestion}: {rates:.1?} Mb/s, Jain's index {fairness:.3}");
        assert!(fairness >= 0.8, "{congestion}: {rates:.1?}");
        assert!(sum >= 19.1 * 0.95, "{congestion}: {rates:.1?}");
    }
}

/// [rfc8257 3.3-reduce] [rfc8257 3.3-alpha] The queue stays at the mark, nothing is lost, and the link is used.
#[test]
fn dctcp_keeps_the_queue_short() {
    let link = Link {
        round_trip: Duration::from_micros(500),
        bandwidth: 1_000_000_000,
        mark: Some(30_000),
        ..Link::default()
    };
    let mut world = one_flow(CongestionControl::Dctcp, link);
    let rate = goodput(&mut world, 1, 2);
    let flow = &world.flows[0];
    assert!(rate >= 956.0 * 0.95, "{rate:.2} Mb/s");
    assert!(flow.reductions > 100, "{}", flow.reductions);
    assert_eq!(flow.recovery.total_retransmitted(), 0);
    let queue = flow.recovery.smoothed_rtt().expect("there were samples") - Duration::from_micros(500);
    assert!(queue < Duration::from_micros(400), "{queue:?}");
}

/// RACK adapts: reordering costs little, and hardly anything is sent twice.
#[test]
fn reordering_is_not_taken_for_loss() {
    let mut world = one_flow(CongestionControl::Cubic, Link { reorder: 20, ..Link::default() });
    let rate = goodput(&mut world, 2, 4);
    let flow = &world.flows[0];
    println!("{rate:.2} Mb/s, {} undone, {} sent again", flow.undone, flow.recovery.total_retransmitted());
    assert!(flow.recovery.has_reordered());
    assert!(rate >= 60.0, "{rate:.2} Mb/s");
}

/// Without SACK and timestamps losses are repaired too, in the end.
#[test]
fn newreno_carries_everything_through_losses() {
    for seed in 1..=5 {
        let mut world = World::new(Link { loss: 30_000, seed, ..Link::default() });
        let flow = world.add(&RecoveryConfig { sack: false, ..config(CongestionControl::Reno) }, 3_000_000);
        world.flows[flow].timestamps = false;
        world.run_to_end(Duration::from_secs(120));
        assert_eq!(world.delivered(flow), 3_000_000);
    }
}

/// Short transfers of every kind over links of every kind come to an end, with nothing in flight.
#[test]
fn every_transfer_ends() {
    for seed in 1..=120u64 {
        let link = Link {
            loss: [0, 1_000, 20_000, 100_000, 300_000][seed as usize % 5],
            reorder: [0, 0, 10, 200][seed as usize % 4],
            queue: [10_000, 250_000, 2_000_000][seed as usize % 3],
            mark: [None, Some(20_000)][seed as usize % 2],
            bandwidth: [1_000_000, 100_000_000, 2_000_000_000][seed as usize / 2 % 3],
            round_trip: Duration::from_micros([30, 1_000, 40_000][seed as usize / 3 % 3]),
            seed,
        };
        let mut world = World::new(link);
        let octets = [1, 1_448, 20_000, 400_000][seed as usize / 5 % 4];
        let sack = !seed.is_multiple_of(7);
        for congestion in CongestionControl::ALL {
            let pacing = seed.is_multiple_of(3);
            let flow = world.add(&RecoveryConfig { sack, pacing, ..config(congestion) }, octets);
            // Without either, each of many losses in a row doubles a timeout that nothing takes back.
            world.flows[flow].timestamps = seed.is_multiple_of(2) || !sack;
        }
        world.run_to_end(Duration::from_secs(1_200));
        for (index, flow) in world.flows.iter().enumerate() {
            assert_eq!(world.delivered(index), octets, "seed {seed}");
            assert_eq!((flow.recovery.in_flight(), flow.recovery.next_deadline()), (0, None), "seed {seed}");
            assert!(
                !flow.recovery.state().is_reducing()
                    || flow.recovery.state() == CongestionState::CongestionWindowReduced
            );
        }
    }
}

/// A response whose last segments are lost comes after two round trips, not after a timeout [rfc8985 7.2].
#[test]
fn a_lost_tail_does_not_cost_a_timeout() {
    let mut world = World::new(Link::default());
    world.drop = vec![9, 10];
    world.add(&config(CongestionControl::Cubic), 14_480);
    let took = world.run_to_end(Duration::from_secs(10));
    assert_eq!((world.flows[0].timeouts, world.flows[0].probes), (0, 1));
    assert!(took < Duration::from_millis(150), "{took:?}");
}
