//! The replicated key-value store as processes on the kernel's sockets and files: one of them after the other is killed under
//! load, and whether what its clients were told could have been said by one store.

#[path = "../history/mod.rs"]
mod history;
#[path = "../nodes/mod.rs"]
mod nodes;

use history::{Answer, History, Op, Outcome, outcome, request};
use nodes::{Cluster, NODES, Process};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const KEYS: u64 = 8;
const CLIENTS: u64 = 6;

/// Nodes on the kernel's sockets.
fn cluster(transport: &'static str) -> Cluster {
    // Free a moment ago; the kernel gives others before it gives these again.
    let sockets: Vec<_> = (0..2 * NODES).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let address = |index: usize| sockets[index].local_addr().unwrap().to_string();
    Cluster::new(transport, std::array::from_fn(|node| (address(node), address(NODES + node))), &[])
}

/// A client, which follows the leader.
struct Client {
    addresses: Vec<String>,
    history: Arc<Mutex<History>>,
    numbers: Arc<AtomicU64>,
    number: u64,
    address: String,
    stream: Option<TcpStream>,
    random: demikernel_runtime::random::Random,
}

impl Client {
    fn new(cluster: &Cluster, history: &Arc<Mutex<History>>, numbers: &Arc<AtomicU64>) -> Client {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        Client {
            addresses: cluster.clients.clone(),
            history: history.clone(),
            numbers: numbers.clone(),
            number,
            address: cluster.clients[0].clone(),
            stream: None,
            random: demikernel_runtime::random::Random::new(number, 7),
        }
    }

    fn go_elsewhere(&mut self) {
        self.stream = None;
        self.address = self.addresses[self.random.below(NODES as u64) as usize].clone();
    }

    fn exchange(&mut self, key: u64, op: Op) -> std::io::Result<Outcome> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(&self.address)?;
                stream.set_read_timeout(Some(Duration::from_secs(8)))?;
                stream.set_nodelay(true)?;
                none.insert(stream)
            }
        };
        stream.write_all(request(key, op).as_bytes())?;
        let (mut reply, mut bytes) = (String::new(), [0; 1024]);
        loop {
            let count = stream.read(&mut bytes)?;
            if count == 0 {
                return Ok(Outcome::Unknown);
            }
            reply += std::str::from_utf8(&bytes[..count]).unwrap();
            if let Some(outcome) = outcome(&reply) {
                return Ok(outcome);
            }
        }
    }

    /// Asks until it is answered, or nobody knows.
    fn ask(&mut self, key: u64, op: Op, until: Instant) -> Option<Answer> {
        self.history.lock().unwrap().ask(self.number, key, op);
        while Instant::now() < until {
            let connected = self.stream.is_some();
            match self.exchange(key, op) {
                Ok(Outcome::Answered(answer)) => {
                    self.history.lock().unwrap().answer(self.number, key, answer);
                    return Some(answer);
                }
                Ok(Outcome::Refused(Some(address))) => {
                    self.stream = None;
                    self.address = address;
                }
                Ok(Outcome::Refused(None)) => {
                    std::thread::sleep(Duration::from_millis(50));
                    self.go_elsewhere();
                }
                // Nobody was there to ask.
                Err(_) if !connected && self.stream.is_none() => {
                    std::thread::sleep(Duration::from_millis(20));
                    self.go_elsewhere();
                }
                _ if op == Op::Get => self.go_elsewhere(),
                _ => break,
            }
        }
        self.history.lock().unwrap().give_up();
        self.number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.go_elsewhere();
        None
    }
}

fn survives(transport: &'static str) {
    let cluster = cluster(transport);
    let mut nodes: Vec<_> = (0..NODES).map(|index| cluster.start(index)).collect();
    let history = Arc::new(Mutex::new(History::default()));
    let (numbers, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (mut client, over) = (Client::new(&cluster, &history, &numbers), over.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let op = match client.random.below(5) {
                        0 => Op::Get,
                        1 => Op::Set(client.random.below(1_000_000) as i64 * 1000),
                        _ => Op::Increment,
                    };
                    let key = client.random.below(KEYS);
                    client.ask(key, op, Instant::now() + Duration::from_secs(10));
                    std::thread::sleep(Duration::from_millis(5));
                }
            })
        })
        .collect();
    let mut random = demikernel_runtime::random::Random::new(1, 1);
    let before = |history: &Arc<Mutex<History>>| history.lock().unwrap().answered.get();
    for round in 0..6 {
        // Each lives until the others have answered for a while, so each is the leader sometimes.
        let (answered, deadline) = (before(&history), Instant::now() + Duration::from_secs(60));
        while before(&history) < answered + 100 {
            assert!(Instant::now() < deadline, "nobody is answered in round {round}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let index = random.below(NODES as u64) as usize;
        nodes[index].kill();
        std::thread::sleep(Duration::from_millis(random.below(1500)));
        nodes[index] = cluster.start(index);
    }
    over.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());

    let mut last = Client::new(&cluster, &history, &numbers);
    for key in 0..KEYS {
        let until = Instant::now() + Duration::from_secs(30);
        assert!(last.ask(key, Op::Get, until).is_some(), "all are back, and nobody answers");
    }
    let history = history.lock().unwrap();
    eprintln!("{transport}: {} answered, {} unknown", history.answered.get(), history.unknown.get());
    history.check();
    assert!(nodes.iter_mut().all(Process::terminate), "nodes end well when they are asked to");
}

#[test]
fn nothing_acknowledged_is_lost_when_nodes_are_killed_on_io_uring() {
    survives("io_uring");
}

#[test]
fn nothing_acknowledged_is_lost_when_nodes_are_killed_on_epoll() {
    survives("epoll");
}
