//! The clients.

use crate::common::{Log, connected, letters, message, named, socket, without_delay};
use crate::{Args, Mode};
use demikernel::buffer::Sga;
use demikernel::core_index;
use demikernel::pdpix::{self, Opcode, QResult, Qd, Qt, Value};
use demikernel::time::Instant;
use demikernel::transport::SocketKind;
use hdrhistogram::Histogram;
use std::collections::HashMap;
use std::io;

/// Different connections send different bytes, and so do requests that follow each other.
const STEP: usize = 7;

pub(crate) async fn ask(args: Args) -> io::Result<()> {
    let mut clients = Clients::new(args);
    for number in 0..args.nclients {
        clients.connect(number).await?;
    }
    let mut log = Log::new(args.log);
    while !clients.tokens.is_empty() {
        if log.is_due() {
            clients.tell();
        }
        if let Some((index, result)) = log.wait_any(&clients.tokens).await? {
            clients.tokens.remove(index);
            clients.handle(result)?;
        }
    }
    clients.tell();
    Ok(())
}

struct Clients {
    args: Args,
    /// An operation of each client.
    tokens: Vec<Qt>,
    all: HashMap<Qd, Client>,
    connected: usize,
    latencies: Histogram<u64>,
}

struct Client {
    number: usize,
    /// How many requests were answered.
    answered: usize,
    /// How many bytes of the next answer have come.
    arrived: usize,
    sent: Instant,
}

impl Clients {
    fn new(args: Args) -> Clients {
        let latencies = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("constants");
        Clients { args, tokens: Vec::new(), all: HashMap::new(), connected: 0, latencies }
    }

    async fn connect(&mut self, number: usize) -> io::Result<()> {
        let (number, sent) = (core_index() * self.args.nclients + number, Instant::now());
        let client = Client { number, answered: 0, arrived: 0, sent };
        match self.args.run_mode {
            Mode::Sequential => {
                let qd = connected(self.args.address).await?;
                self.all.insert(qd, client);
                self.start(qd)
            }
            Mode::Concurrent => {
                let qd = socket(self.args.address, SocketKind::Stream)?;
                self.all.insert(qd, client);
                self.tokens.push(pdpix::connect(qd, self.args.address)?);
                Ok(())
            }
        }
    }

    fn start(&mut self, qd: Qd) -> io::Result<()> {
        self.connected += 1;
        if self.connected == self.args.nclients {
            println!("client: {} connected", self.connected);
        }
        self.request(qd)
    }

    /// The next request, or the end.
    fn request(&mut self, qd: Qd) -> io::Result<()> {
        let client = self.all.get_mut(&qd).expect("its descriptor is open");
        if self.args.nrequests.is_some_and(|requests| client.answered >= requests) {
            self.tokens.push(pdpix::async_close(qd)?);
            return Ok(());
        }
        client.sent = Instant::now();
        let message = message(self.args.bufsize as usize, client.round())?;
        self.tokens.push(pdpix::push(qd, message)?);
        Ok(())
    }

    fn handle(&mut self, QResult { opcode, qd, value, .. }: QResult) -> io::Result<()> {
        match (opcode, value) {
            (Opcode::Connect, _) => without_delay(qd).and_then(|()| self.start(qd)),
            (Opcode::Push, _) => self.pop(qd),
            (_, Value::Popped { sga, .. }) => self.check(qd, &sga),
            (Opcode::Close, _) => {
                self.all.remove(&qd);
                Ok(())
            }
            (_, Value::Failed(error)) => Err(named(error, "an exchange failed with", self.args.address)),
            other => unreachable!("{other:?}"),
        }
    }

    /// What is missing of an answer.
    fn pop(&mut self, qd: Qd) -> io::Result<()> {
        let missing = self.args.bufsize as usize - self.all[&qd].arrived;
        self.tokens.push(pdpix::pop(qd, Some(missing))?);
        Ok(())
    }

    fn check(&mut self, qd: Qd, sga: &Sga) -> io::Result<()> {
        let client = self.all.get_mut(&qd).expect("its descriptor is open");
        if sga.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed a connection"));
        }
        let expected = letters(client.round()).skip(client.arrived);
        for (byte, letter) in sga.iter().flat_map(|buffer| buffer.iter()).zip(expected) {
            if *byte != letter {
                let text = format!("request {}: {byte} came back instead of {letter}", client.answered);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        client.arrived += sga.len();
        if client.arrived < self.args.bufsize as usize {
            return self.pop(qd);
        }
        client.arrived = 0;
        client.answered += 1;
        self.latencies.saturating_record((Instant::now() - client.sent).as_nanos() as u64);
        self.request(qd)
    }

    fn tell(&self) {
        let quantile = |q| self.latencies.value_at_quantile(q) as f64 / 1000.0;
        println!(
            "client: {} requests of {} bytes, p50 {:.1} us, p99 {:.1} us",
            self.latencies.len(),
            self.args.bufsize,
            quantile(0.5),
            quantile(0.99)
        );
    }
}

impl Client {
    /// What the letters of its next request go by.
    fn round(&self) -> usize {
        self.number * STEP + self.answered
    }
}
