//! The same programs with every frame passing through packet buffers of DPDK, on its way out and on its way in: what
//! happens is the same, to the bit, and in the end DPDK has all of its buffers back.

use super::program::{run, run_between};
use super::*;
use demikernel_dpdk::{Eal, EalConfig, Port, PortConfig};
use demikernel_net::device::{Dpdk, Frame, FrameDevice};
use demikernel_runtime::buffer::pool;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

/// Programs that are run, as they are the same every time.
const SEEDS: u64 = 8;

/// Where frames go in, and come out.
#[derive(Clone)]
struct Passage(Rc<[RefCell<Dpdk>]>);

impl Passage {
    fn open(names: &[String]) -> Passage {
        let mut config = EalConfig::default();
        config.huge_pages = false;
        let eal = Eal::start(&config).unwrap_or_else(|error| panic!("{error}"));
        pool::set_source(eal.memory());
        let open =
            |name: &String| Port::open(eal, &PortConfig::new(name)).unwrap_or_else(|error| panic!("{error}"));
        Passage(names.iter().map(|name| RefCell::new(Dpdk::new(open(name), None))).collect())
    }

    /// A port that receives what it sends: `net_ring`.
    fn ring(name: &str) -> Passage {
        Passage::open(&[format!("net_ring_{name}")])
    }

    /// Two ports at the ends of a cable in shared memory.
    fn cable(name: &str) -> Passage {
        let socket = format!("demikernel-mbufs-{}-{name}", std::process::id());
        let end = |role| format!("net_memif_{name}_{role},role={role},id=0,socket={socket}");
        let cable = Passage::open(&[end("server"), end("client")]);
        // Until both ends have met, and each has looked once, which lends buffers to the other.
        let patience = Instant::now() + Duration::from_secs(10);
        while cable.0.iter().any(|end| counter(end, "changes of the link") == 0) {
            assert!(Instant::now() < patience, "the ends do not meet");
            cable.0.iter().for_each(|end| assert_eq!(end.borrow_mut().receive(&mut Vec::new()).unwrap(), 0));
        }
        cable
    }

    /// Frames in, and the same frames out.
    fn pass(&self, frames: &mut Vec<Frame>) {
        let (first, last) = (self.0.first().unwrap(), self.0.last().unwrap());
        let count = frames.len();
        let mut waiting = std::mem::take(frames);
        let patience = Instant::now() + Duration::from_secs(10);
        while frames.len() < count {
            first.borrow_mut().transmit(&mut waiting).unwrap();
            last.borrow_mut().receive(frames).unwrap();
            assert!(Instant::now() < patience, "{} frames of {count} pass", frames.len());
        }
    }

    /// Through one for each host, programs run as they do without.
    fn check(passages: [Passage; 2]) {
        for seed in 0..SEEDS {
            let change = |config: &mut HostConfig| config.scatter = true;
            let (mut network, one, two) = two_hosts_with(seed, LinkConfig::default(), change);
            for (host, passage) in [(one, passages[0].clone()), (two, passages[1].clone())] {
                network.host(host).pass_through(move |frames| passage.pass(frames));
            }
            assert_eq!(run_between(network, one, two), run(seed), "seed {seed}");
        }
        for end in passages.iter().flat_map(|passage| passage.0.iter()) {
            // What was sent last comes back when the device is looked at again.
            end.borrow_mut().transmit(&mut Vec::new()).unwrap();
            end.borrow_mut().receive(&mut Vec::new()).unwrap();
            assert_eq!(counter(end, "packet buffers under way"), 0);
            assert_eq!(counter(end, "frames without a buffer"), 0);
            assert_eq!(counter(end, "frames copied out"), 0);
        }
    }
}

fn counter(end: &RefCell<Dpdk>, name: &str) -> u64 {
    end.borrow().counters().into_iter().find(|counter| counter.0 == name).expect("it is counted").1
}

#[test]
fn random_programs_run_the_same_through_rings() {
    let rings = ["one", "two"].map(Passage::ring);
    Passage::check(rings.clone());
    // What arrives there is what was sent, and so the sender's: each piece is copied.
    let ring = &rings[0].0[0];
    assert!(counter(ring, "frames copied in") > counter(ring, "frames received"));
    assert!(counter(ring, "frames received") > 1000);
}

#[test]
fn random_programs_run_the_same_through_memif() {
    let cables = ["one", "two"].map(Passage::cable);
    Passage::check(cables.clone());
    let end = cables[0].0.last().unwrap();
    assert_eq!(counter(end, "frames copied in"), 0);
    assert!(counter(end, "frames received") > 1000);
}
