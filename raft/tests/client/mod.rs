//! A client of the replicated key-value store, which follows the leader.

use super::history::{Answer, History, Op, Outcome, outcome, request};
use demikernel::Buffer;
use demikernel::net::TcpStream;
use demikernel::time::{Duration, sleep, timeout};
use std::cell::Cell;
use std::io;
use std::rc::Rc;

/// What the clients of a test have in common.
pub(crate) struct Clients {
    /// Where nodes are.
    pub(crate) addresses: Vec<String>,
    /// How many keys there are.
    pub(crate) keys: u64,
    /// Draws a number.
    pub(crate) random: Box<dyn Fn() -> u64>,
    pub(crate) history: History,
    /// Counts all clients that there ever were.
    pub(crate) numbers: Cell<u64>,
}

impl Clients {
    pub(crate) fn below(&self, count: u64) -> u64 {
        (self.random)() % count
    }
}

pub(crate) struct Client {
    clients: Rc<Clients>,
    number: u64,
    pub(crate) address: String,
    stream: Option<TcpStream>,
}

impl Client {
    pub(crate) fn new(clients: &Rc<Clients>) -> Client {
        let mut client = Client { clients: clients.clone(), number: 0, address: String::new(), stream: None };
        client.be_another();
        client
    }

    fn be_another(&mut self) {
        self.clients.numbers.set(self.clients.numbers.get() + 1);
        self.number = self.clients.numbers.get();
        self.go_elsewhere();
    }

    fn go_elsewhere(&mut self) {
        self.stream = None;
        let addresses = &self.clients.addresses;
        self.address.clone_from(&addresses[self.clients.below(addresses.len() as u64) as usize]);
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
    pub(crate) async fn ask(&mut self, key: u64, op: Op) -> Option<Answer> {
        self.clients.history.ask(self.number, key, op);
        loop {
            let stream = self.connect().await;
            let asked = timeout(Duration::from_secs(4), exchange(&stream, key, op)).await;
            match asked.unwrap_or(Ok(Outcome::Unknown)).unwrap_or(Outcome::Unknown) {
                Outcome::Answered(answer) => {
                    self.clients.history.answer(self.number, key, answer);
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
                    self.clients.history.give_up();
                    self.be_another();
                    return None;
                }
            }
        }
    }

    /// Asks this and that, with up to so long in between.
    pub(crate) async fn run(mut self, until: impl Fn() -> bool, between: Duration) {
        while !until() {
            let op = match self.clients.below(4) {
                0 => Op::Set(self.clients.below(1_000_000) as i64 * 1000),
                1 => Op::Get,
                _ => Op::Increment,
            };
            self.ask(self.clients.below(self.clients.keys), op).await;
            sleep(Duration::from_millis(self.clients.below(between.as_millis() as u64))).await;
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

/// Asks for all keys when all is well again, and whether what was answered is what one store would have said.
pub(crate) async fn check(clients: &Rc<Clients>) {
    let mut last = Client::new(clients);
    for key in 0..clients.keys {
        let asked = timeout(Duration::from_secs(30), last.ask(key, Op::Get)).await;
        assert!(asked.expect("everybody is answered").is_some());
    }
    let history = &clients.history;
    eprintln!("{} answered, {} unknown", history.answered.get(), history.unknown.get());
    history.check();
}
