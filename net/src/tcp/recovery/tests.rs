//! Whole senders over a link, stories of single segments, and the scoreboard against a model of it.

use demikernel_runtime::time::{Duration, Instant};

use super::link::{Link, World, goodput};
use super::{Ack, Acked, CongestionState, Expired, Recovery, RecoveryConfig, Sent};
use crate::tcp::congestion::CongestionControl;
use crate::wire::tcp::{SackBlock, SequenceNumber};

mod links {
    use super::*;

    #[test]
    fn explore() {
        for control in CongestionControl::ALL {
            for loss in [0, 20_000] {
                let (rate, world) = goodput(
                    control,
                    Link { loss, ..Link::default() },
                    Duration::from_secs(5),
                    Duration::from_secs(30),
                );
                let flow = &world.flows[0];
                println!(
                    "{control} loss {loss}: {rate:.2} Mb/s timeouts {} probes {} undone {} reductions {} cwnd {} acks {}",
                    flow.timeouts,
                    flow.probes,
                    flow.undone,
                    flow.reductions,
                    flow.recovery.congestion_window() / 1448,
                    flow.acknowledgments,
                );
            }
        }
    }
}
