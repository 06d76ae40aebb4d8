//! Demikernel's `udp-relay`, written for `pdpix`: datagrams that arrive at one address leave for another.
//!
//! It shows datagrams passed on without a copy, by a loop around one wait. Nothing comes back: see the example `udp-relay` for
//! that, and for the same in tasks.
//!
//! ```text
//! $ nc -u -l 127.0.0.1 7001
//!
//! $ cargo run --release --example pdpix-udp-relay -- --local 127.0.0.1:7000 --remote 127.0.0.1:7001
//! relays 127.0.0.1:7000 to 127.0.0.1:7001
//! 1 datagrams, 6 bytes, 0 lost
//!
//! $ nc -u 127.0.0.1 7000
//! hello                                          (appears in the first terminal)
//! ```
//!
//! The transport is that of `DEMIKERNEL_TRANSPORT`; Ctrl-C ends it.

mod common;

use clap::Parser;
use common::{Log, named, run, socket};
use demikernel::pdpix::{self, QResult, Qd, Qt, Value};
use demikernel::transport::SocketKind;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

/// Pushes under way at once; with so many, the next datagram is popped when one is done.
const BURST: usize = 32;

/// Passes datagrams on from one address to another.
#[derive(Clone, Copy, Parser)]
struct Args {
    /// Where datagrams arrive.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7000")]
    local: SocketAddr,
    /// Where they go.
    #[arg(long, value_name = "ADDR")]
    remote: SocketAddr,
    /// How many seconds pass between two lines that say what was done.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    log: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    run(1, move || relay(args))
}

struct Relay {
    qd: Qd,
    remote: SocketAddr,
    /// What is waited for: pushes, and at most one pop.
    tokens: Vec<Qt>,
    popping: Option<Qt>,
    datagrams: u64,
    bytes: u64,
    lost: u64,
}

async fn relay(args: Args) -> io::Result<()> {
    let qd = socket(args.local, SocketKind::Datagram)?;
    pdpix::bind(qd, args.local).map_err(|error| named(error, "cannot bind to", args.local))?;
    println!("relays {} to {}", pdpix::getsockname(qd)?, args.remote);
    let (tokens, popping) = (Vec::new(), None);
    let mut relay = Relay { qd, remote: args.remote, tokens, popping, datagrams: 0, bytes: 0, lost: 0 };
    let mut log = Log::new(Some(args.log));
    loop {
        relay.pop()?;
        if log.is_due() {
            println!("{} datagrams, {} bytes, {} lost", relay.datagrams, relay.bytes, relay.lost);
        }
        if let Some((index, result)) = log.wait_any(&relay.tokens).await? {
            relay.tokens.swap_remove(index);
            relay.handle(result)?;
        }
    }
}

impl Relay {
    fn pop(&mut self) -> io::Result<()> {
        if self.popping.is_none() && self.tokens.len() < BURST {
            let popping = pdpix::pop(self.qd, None)?;
            self.tokens.push(popping);
            self.popping = Some(popping);
        }
        Ok(())
    }

    fn handle(&mut self, result: QResult) -> io::Result<()> {
        let popped = self.popping == Some(result.qt);
        if popped {
            self.popping = None;
        }
        match result.value {
            Value::Popped { sga, .. } => {
                self.bytes += sga.len() as u64;
                self.tokens.push(pdpix::pushto(self.qd, sga, self.remote)?);
            }
            Value::Failed(error) if popped => return Err(error),
            Value::Failed(error) => {
                tracing::debug!(%error, "a datagram was lost");
                self.lost += 1;
            }
            _ => self.datagrams += 1,
        }
        Ok(())
    }
}
