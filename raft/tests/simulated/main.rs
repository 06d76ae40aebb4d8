//! The replicated key-value store on simulated machines: links that fail and machines that lose their power, from seeds, and
//! whether what its clients were told could have been said by one store.

#[path = "../client/mod.rs"]
mod client;
#[path = "../history/mod.rs"]
mod history;
#[allow(dead_code, unused_imports, reason = "of the program only the node is used")]
#[path = "../../examples/replicated-key-value/main.rs"]
mod replicated;

use clap::Parser;
use client::{Client, Clients, check};
use demikernel::sim::{self, Control, LinkConfig};
use demikernel::spawn;
use demikernel::storage::memory::{Disk, Loss};
use demikernel::storage::{Geometry, StoreOptions, Volume};
use demikernel::time::{Duration, Instant, sleep, timeout};
use history::{Answer, History, Op};
use std::cell::Cell;
use std::rc::Rc;

const NODES: u64 = 3;
const KEYS: u64 = 3;

fn name(id: u64) -> String {
    format!("node-{id}")
}

/// The nodes' disks outlive their machines.
struct Cluster {
    network: Control,
    disks: Vec<Disk>,
}

impl Cluster {
    fn start(network: &Control, snapshot_every: u64, heartbeat: Duration) -> Rc<Cluster> {
        let geometry = Geometry { volatile_cache: true, ..Geometry::new(512, 4 << 20) };
        let disks: Vec<_> = (0..NODES).map(|_| Disk::new(geometry)).collect();
        for id in 1..=NODES {
            let mut arguments = vec!["node".to_owned(), "--id".into(), id.to_string()];
            arguments.extend(["--snapshot-every".into(), snapshot_every.to_string()]);
            arguments.extend(["--heartbeat".into(), heartbeat.as_millis().to_string()]);
            for id in 1..=NODES {
                arguments.push("--node".into());
                arguments.push(format!("{id}={0}:7000,{0}:6379", name(id)));
            }
            let args = replicated::Args::parse_from(arguments);
            let disk = disks[id as usize - 1].clone();
            network.host(&name(id), move || {
                let (args, disk) = (args.clone(), disk.clone());
                async move {
                    let options = StoreOptions::new().create(true).segment_size(64 << 10);
                    let store = options.open(Volume::attach(disk.device())).await?;
                    replicated::serve(&args, store).await
                }
            });
        }
        Rc::new(Cluster { network: network.clone(), disks })
    }

    /// The power of a node fails, and is back: what its disk had not flushed is lost in part.
    async fn power_cut(&self, id: u64, off: Duration) {
        self.network.crash(&name(id));
        while self.network.is_on(&name(id)) {
            sleep(Duration::from_millis(1)).await;
        }
        self.disks[id as usize - 1].crash(Loss::Some(self.network.random()));
        sleep(off).await;
        self.network.bounce(&name(id));
    }

    fn clients(&self) -> Rc<Clients> {
        let network = self.network.clone();
        Rc::new(Clients {
            addresses: (1..=NODES).map(|id| format!("{}:6379", name(id))).collect(),
            keys: KEYS,
            random: Box::new(move || network.random()),
            history: History::default(),
            numbers: Cell::new(0),
        })
    }

    fn below(&self, count: u64) -> u64 {
        self.network.random() % count
    }

    /// Breaks one thing after the other, so that at most one node is missing at a time.
    async fn weather(&self, until: Instant) {
        while Instant::now() < until {
            let id = 1 + self.below(NODES);
            let time = Duration::from_millis(200 + self.below(3000));
            match self.below(4) {
                0 => self.power_cut(id, time).await,
                1 => {
                    self.network.isolate(&name(id));
                    sleep(time).await;
                    self.network.rejoin(&name(id));
                }
                2 => {
                    let other = 1 + id % NODES;
                    self.network.partition(&name(id), &name(other));
                    sleep(time).await;
                    self.network.repair(&name(id), &name(other));
                }
                _ => {
                    // One way only: it hears the others, and is not heard, or the other way round.
                    let other = 1 + id % NODES;
                    self.network.link_one_way(&name(id), &name(other), |link| link.partitioned = true);
                    sleep(time).await;
                    self.network.link_one_way(&name(id), &name(other), |link| link.partitioned = false);
                }
            }
            sleep(Duration::from_millis(self.below(1500))).await;
        }
    }
}

/// Heartbeats that suit links, as somebody would choose them who knows these: twice as far apart as a round trip that takes
/// its time, and as long as a switch with a short queue would have it.
fn heartbeat(link: &LinkConfig) -> Duration {
    let queue = |bandwidth| Duration::from_secs_f64(link.queue.unwrap_or(0) as f64 * 8.0 / bandwidth as f64);
    let one_way = link.delay + link.jitter + link.bandwidth.map_or(Duration::ZERO, queue);
    (4 * one_way).max(Duration::from_millis(100))
}

/// Links on which a connection takes longer than the time between heartbeats. So requests are given up before they have one,
/// and each further one has to make use of what those before it have begun.
#[demikernel::test(transport = "sim", seeds = 2)]
async fn heartbeats_may_be_hardly_longer_than_a_round_trip() {
    let network = sim::current();
    let delay = Duration::from_millis(35);
    network.links(|link| *link = LinkConfig { delay, ..LinkConfig::default() });
    let cluster = Cluster::start(&network, 60, Duration::from_millis(100));
    let clients = cluster.clients();
    let mut client = Client::new(&clients);
    let found = timeout(Duration::from_secs(20), client.ask(0, Op::Increment)).await;
    found.expect("there is a leader");
    let leader = client.address.clone();
    for _ in 0..10 {
        // Now only heartbeats say that it lives.
        sleep(Duration::from_secs(2)).await;
        let asked = timeout(Duration::from_secs(1), client.ask(0, Op::Increment)).await;
        asked.expect("it is the leader still");
    }
    assert_eq!((clients.history.answered.get(), &client.address), (11, &leader));
    clients.history.check();
}

/// The leader is back before the others miss it, each time after it has acknowledged something, which it may not know of others
/// that they have.
#[demikernel::test(transport = "sim", seeds = 4)]
async fn a_leader_that_is_back_at_once_answers_no_stale_reads() {
    let network = sim::current();
    let cluster = Cluster::start(&network, 60, Duration::from_millis(100));
    let clients = cluster.clients();
    let mut client = Client::new(&clients);
    let mut written = 0;
    while written < 15 {
        // What was given up may have been done.
        let Some(Answer::Value(Some(count))) = client.ask(0, Op::Increment).await else { continue };
        written = count;
        let leader = (1..=NODES).find(|id| client.address.starts_with(&name(*id))).unwrap();
        cluster.power_cut(leader, Duration::from_millis(1)).await;
        let read = timeout(Duration::from_secs(20), client.ask(0, Op::Get)).await;
        assert_eq!(read.unwrap(), Some(Answer::Value(Some(written))));
    }
}

#[demikernel::test(transport = "sim", seeds = 10)]
async fn what_clients_are_told_is_what_one_store_would_say() {
    let network = sim::current();
    let cluster = Cluster::start(&network, 60, heartbeat(&LinkConfig::from_seed(network.seed())));
    let clients = cluster.clients();
    let until = Instant::now() + Duration::from_secs(30);
    let between = Duration::from_millis(400);
    let asking: Vec<_> =
        (0..4).map(|_| spawn(Client::new(&clients).run(move || Instant::now() >= until, between))).collect();
    cluster.weather(until).await;
    for client in asking {
        client.await.unwrap();
    }
    check(&clients).await;
    // Few where links are slow and lose much.
    assert!(clients.history.answered.get() > 10);
}
