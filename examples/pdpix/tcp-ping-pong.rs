//! Demikernel's `tcp-ping-pong`, written for `pdpix`: a message goes to and fro on one connection, and both ends check it.
//!
//! It shows the calls in their plainest form: each operation is started and waited for before the next.
//!
//! ```text
//! $ cargo run --release --example pdpix-tcp-ping-pong -- --server 127.0.0.1:7000
//! server: listening on 127.0.0.1:7000
//!
//! $ cargo run --release --example pdpix-tcp-ping-pong -- --client 127.0.0.1:7000
//! client: 1024 rounds of 64 bytes
//! ```
//!
//! The transport is that of `DEMIKERNEL_TRANSPORT`. The server ends with the client, or on Ctrl-C.

mod common;

use clap::Parser;
use common::{connected, expect, listener, pop_and_wait, push_and_wait, run, without_delay};
use demikernel::pdpix::{self, Opcode, Qd};
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

/// A message goes to and fro on one connection.
#[derive(Clone, Copy, Parser)]
struct Args {
    #[command(flatten)]
    end: End,
    /// How often.
    #[arg(long, default_value_t = 1024)]
    rounds: usize,
    /// How many bytes.
    #[arg(long, default_value_t = 64)]
    size: usize,
}

#[derive(Clone, Copy, clap::Args)]
#[group(required = true, multiple = false)]
struct End {
    /// Be the server, at this address.
    #[arg(long, value_name = "ADDR")]
    server: Option<SocketAddr>,
    /// Be the client of a server at this address.
    #[arg(long, value_name = "ADDR")]
    client: Option<SocketAddr>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    run(1, move || async move {
        match args.end {
            End { server: Some(address), .. } => serve(address, args).await,
            End { client: Some(address), .. } => ask(address, args).await,
            _ => unreachable!("one of them is required"),
        }
    })
}

async fn serve(address: SocketAddr, args: Args) -> io::Result<()> {
    let listener = listener(address)?;
    println!("server: listening on {}", pdpix::getsockname(listener)?);
    let accepted = expect(pdpix::wait(pdpix::accept(listener)?, None).await?, Opcode::Accept)?;
    let qd = accepted.value.accepted().ok_or(io::ErrorKind::NotConnected)?;
    pdpix::close(listener)?;
    without_delay(qd)?;
    let mut rounds = 0;
    while rounds < args.rounds && pop_and_wait(qd, args.size, rounds).await? {
        push_and_wait(qd, args.size, rounds).await?;
        rounds += 1;
    }
    end("server", rounds, args, qd).await
}

async fn ask(address: SocketAddr, args: Args) -> io::Result<()> {
    let qd = connected(address).await?;
    for round in 0..args.rounds {
        push_and_wait(qd, args.size, round).await?;
        if !pop_and_wait(qd, args.size, round).await? {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
    }
    end("client", args.rounds, args, qd).await
}

/// Closes the connection, and waits for the other end to do so, too: then everything has arrived there.
async fn end(who: &str, rounds: usize, args: Args, qd: Qd) -> io::Result<()> {
    expect(pdpix::wait(pdpix::async_close(qd)?, None).await?, Opcode::Close)?;
    println!("{who}: {rounds} rounds of {} bytes", args.size);
    Ok(())
}
