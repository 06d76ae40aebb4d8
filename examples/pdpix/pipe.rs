//! Demikernel's `pipe-ping-pong` and `pipe-push-pop`, written for `pdpix`: lists of bytes through a queue in memory.
//!
//! Demikernel's catmem shared such a queue between two processes. Here both ends are tasks of one runtime, as buffers belong
//! to their thread: one task makes the pipe, the other opens it by its name. What they do with their ends is the same.
//!
//! ```text
//! $ cargo run --release --example pdpix-pipe -- --run-mode ping-pong
//! client: 128 rounds of 64 bytes
//! server: 128 rounds of 64 bytes
//! $ cargo run --release --example pdpix-pipe -- --run-mode push-pop --rounds 100000
//! ```

mod common;

use clap::{Parser, ValueEnum};
use common::{pop_and_wait, push_and_wait, run};
use demikernel::{pdpix, spawn};
use std::io;
use std::process::ExitCode;

/// Lists of bytes through a queue in memory.
#[derive(Clone, Parser)]
struct Args {
    /// To and fro, or one way.
    #[arg(long, value_enum, default_value = "ping-pong")]
    run_mode: Mode,
    /// The name of the pipe.
    #[arg(long, default_value = "pipe")]
    name: String,
    /// How many lists.
    #[arg(long, default_value_t = 128)]
    rounds: usize,
    /// How many bytes each.
    #[arg(long, default_value_t = 64)]
    size: usize,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Mode {
    PingPong,
    PushPop,
}

fn main() -> ExitCode {
    let args = Args::parse();
    run(1, move || both(args.clone()))
}

async fn both(args: Args) -> io::Result<()> {
    let server = spawn(serve(args.clone()));
    demikernel::yield_now().await;
    let client = spawn(ask(args));
    client.await??;
    server.await?
}

async fn serve(args: Args) -> io::Result<()> {
    let qd = pdpix::create_pipe(&args.name)?;
    let mut rounds = 0;
    // The client closes its end when it has done its rounds.
    while pop_and_wait(qd, args.size, rounds).await? {
        if args.run_mode == Mode::PingPong {
            push_and_wait(qd, args.size, rounds).await?;
        }
        rounds += 1;
    }
    pdpix::close(qd)?;
    println!("server: {rounds} rounds of {} bytes", args.size);
    Ok(())
}

async fn ask(args: Args) -> io::Result<()> {
    let qd = pdpix::open_pipe(&args.name)?;
    for round in 0..args.rounds {
        push_and_wait(qd, args.size, round).await?;
        if args.run_mode == Mode::PingPong && !pop_and_wait(qd, args.size, round).await? {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the pipe"));
        }
    }
    pdpix::close(qd)?;
    println!("client: {} rounds of {} bytes", args.rounds, args.size);
    Ok(())
}
