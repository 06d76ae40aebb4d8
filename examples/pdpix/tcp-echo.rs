//! Demikernel's `tcp-echo`, written for `pdpix`: a server of many clients, and many clients of a server.
//!
//! It shows the loop that programs for Demikernel are made of: a list of tokens, `wait_any`, and what is started next. The
//! client checks each byte that comes back.
//!
//! ```text
//! $ cargo run --release --example pdpix-tcp-echo -- --peer server --address 127.0.0.1:7000
//! server: listening on 127.0.0.1:7000
//!
//! $ cargo run --release --example pdpix-tcp-echo -- --peer client --address 127.0.0.1:7000 \
//!     --run-mode concurrent --nclients 32 --nrequests 1000 --bufsize 64
//! client: 32 connected
//! client: 32000 requests of 64 bytes, p50 81.2 us, p99 204.1 us
//! ```
//!
//! Clients connect one after the other (`sequential`) or all at once (`concurrent`). `--nthreads` is how many cores take part,
//! each with a runtime, and as many clients, of its own. The transport is that of `DEMIKERNEL_TRANSPORT`. Without `--nrequests`
//! a client goes on until Ctrl-C, which also ends the server.

#[path = "tcp-echo/client.rs"]
mod client;
mod common;
#[path = "tcp-echo/server.rs"]
mod server;

use clap::{Parser, ValueEnum};
use std::net::SocketAddr;
use std::process::ExitCode;

/// A server of many clients, and many clients of a server.
#[derive(Clone, Copy, Parser)]
struct Args {
    /// What to be.
    #[arg(long, value_enum, default_value = "server")]
    peer: Peer,
    /// The server's address.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7000")]
    address: SocketAddr,
    /// How many clients.
    #[arg(long, default_value_t = 1)]
    nclients: usize,
    /// How many requests each of them makes.
    #[arg(long)]
    nrequests: Option<usize>,
    /// How many bytes a request has.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    bufsize: u32,
    /// How clients connect.
    #[arg(long, value_enum, default_value = "sequential")]
    run_mode: Mode,
    /// How many cores take part.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    nthreads: u16,
    /// How many seconds pass between two lines that say what was done; none without.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    log: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Peer {
    Server,
    Client,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    Sequential,
    Concurrent,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let cores = usize::from(args.nthreads);
    match args.peer {
        Peer::Server => common::run(cores, move || server::serve(args)),
        Peer::Client => common::run(cores, move || client::ask(args)),
    }
}
