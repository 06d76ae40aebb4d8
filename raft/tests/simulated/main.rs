//! The replicated key-value store on simulated machines: links that fail and machines that lose their power, from seeds, and
//! whether what its clients were told could have been said by one store.

#[path = "../history/mod.rs"]
mod history;
#[allow(dead_code, unused_imports, reason = "of the program only the node is used")]
#[path = "../../examples/replicated-key-value/main.rs"]
mod replicated;

use clap::Parser;
use demikernel::net::TcpStream;
use demikernel::sim::{self, Control, LinkConfig};
use demikernel::storage::memory::{Disk, Loss};
use demikernel::storage::{Geometry, StoreOptions, Volume};
use demikernel::time::{Duration, Instant, sleep, timeout};
use demikernel::{Buffer, spawn};
use history::{History, Op, Outcome, outcome, request};
use std::cell::Cell;
use std::io;
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

/// A client, which follows the leader.
struct Client {
    cluster: Rc<Cluster>,
    history: Rc<History>,
    /// Counts all clients that there ever were.
    numbers: Rc<Cell<u64>>,
    number: u64,
    address: String,
    stream: Option<TcpStream>,
}

impl Client {
    fn new(cluster: &Rc<Cluster>, history: &Rc<History>, numbers: &Rc<Cell<u64>>) -> Client {
        let (cluster, history, numbers) = (cluster.clone(), history.clone(), numbers.clone());
        let mut client =
            Client { cluster, history, numbers, number: 0, address: String::new(), stream: None };
        client.be_another();
        client
    }

    fn be_another(&mut self) {
        self.numbers.set(self.numbers.get() + 1);
        self.number = self.numbers.get();
        self.go_elsewhere();
    }

    fn go_elsewhere(&mut self) {
        self.stream = None;
        self.address = format!("{}:6379", name(1 + self.cluster.below(NODES)));
    }

    async fn connect(&mut self) -> TcpStream {
        loop {
            if let Some(stream) = self.stream.take() {
                return stream;
            }
            match timeout(Duration::from_millis(500), TcpStream::connect(self.address.as_str())).await {
                Ok(Ok(stream)) => return stream,
                _ => {
                    sleep(Duration::from_millis(50)).await;
                    self.go_elsewhere();
                }
            }
        }
    }

    /// Asks until it is answered, or nobody knows.
    async fn ask(&mut self, key: u64, op: Op) -> Option<history::Answer> {
        self.history.ask(self.number, key, op);
        loop {
            let stream = self.connect().await;
            let asked = timeout(Duration::from_secs(4), exchange(&stream, key, op)).await;
            match asked.unwrap_or(Ok(Outcome::Unknown)).unwrap_or(Outcome::Unknown) {
                Outcome::Answered(answer) => {
                    self.history.answer(self.number, key, answer);
                    self.stream = Some(stream);
                    return Some(answer);
                }
                Outcome::Refused(Some(address)) => self.address = address,
                Outcome::Refused(None) => {
                    sleep(Duration::from_millis(100)).await;
                    self.go_elsewhere();
                }
                // To read once more changes nothing.
                Outcome::Unknown if op == Op::Get => self.go_elsewhere(),
                Outcome::Unknown => {
                    self.history.give_up();
                    self.be_another();
                    return None;
                }
            }
        }
    }

    async fn run(mut self, until: Instant) {
        while Instant::now() < until {
            let op = match self.cluster.below(4) {
                0 => Op::Set(self.cluster.below(1_000_000) as i64 * 1000),
                1 => Op::Get,
                _ => Op::Increment,
            };
            self.ask(self.cluster.below(KEYS), op).await;
            sleep(Duration::from_millis(self.cluster.below(400))).await;
        }
    }
}

async fn exchange(stream: &TcpStream, key: u64, op: Op) -> io::Result<Outcome> {
    stream.push(Buffer::from(request(key, op))).await?;
    let mut reply = String::new();
    loop {
        let received = stream.pop().await?;
        if received.is_empty() {
            return Ok(Outcome::Unknown);
        }
        reply += std::str::from_utf8(&received).map_err(io::Error::other)?;
        if let Some(outcome) = outcome(&reply) {
            return Ok(outcome);
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
    let (history, numbers) = (Rc::new(History::default()), Rc::new(Cell::new(0)));
    let mut client = Client::new(&cluster, &history, &numbers);
    let found = timeout(Duration::from_secs(20), client.ask(0, Op::Increment)).await;
    found.expect("there is a leader");
    let leader = client.address.clone();
    for _ in 0..10 {
        // Now only heartbeats say that it lives.
        sleep(Duration::from_secs(2)).await;
        let asked = timeout(Duration::from_secs(1), client.ask(0, Op::Increment)).await;
        asked.expect("it is the leader still");
    }
    assert_eq!((history.answered.get(), client.address), (11, leader));
    history.check();
}

#[demikernel::test(transport = "sim", seeds = 10)]
async fn what_clients_are_told_is_what_one_store_would_say() {
    let network = sim::current();
    let cluster = Cluster::start(&network, 60, heartbeat(&LinkConfig::from_seed(network.seed())));
    let history = Rc::new(History::default());
    let numbers = Rc::new(Cell::new(0));
    let until = Instant::now() + Duration::from_secs(30);
    let clients: Vec<_> =
        (0..4).map(|_| spawn(Client::new(&cluster, &history, &numbers).run(until))).collect();
    cluster.weather(until).await;
    for client in clients {
        client.await.unwrap();
    }
    // When all is well again, everybody is answered.
    let mut last = Client::new(&cluster, &history, &numbers);
    for key in 0..KEYS {
        assert!(timeout(Duration::from_secs(30), last.ask(key, Op::Get)).await.unwrap().is_some());
    }
    history.check();
    eprintln!("{} answered, {} unknown", history.answered.get(), history.unknown.get());
    assert!(history.answered.get() > 50);
}
