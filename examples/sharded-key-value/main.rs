//! A key-value server for Redis clients whose keys are spread over cores by their hash.
//!
//! It shows a program of several cores that share nothing: each accepts connections of the same port, and has the keys that
//! are its own (`shard`). What a client has sent together goes to each core as one message, and comes back as one
//! (`cores`), in memory that is used again (`batch`); so a core waits for nobody, and there is no lock. To be read in this order:
//! `main`, `requests`, `session`, `cores`, `batch`, `shard`.
//!
//! ```text
//! $ cargo run --release --example sharded-key-value -- --cores 2
//! sharded-key-value: listening on 127.0.0.1:6380 with 2 cores
//!
//! $ redis-benchmark -p 6380 -t set,get,incr -r 100000 -n 1000000 -P 16 -q
//! $ redis-cli -p 6380 INFO
//! core:0 keys:49970 clients:0 requests:1500221 own:750103 of_others:749890
//! core:1 keys:50030 clients:0 requests:1499779 own:749889 of_others:750118
//! ```
//!
//! Ctrl-C or SIGTERM ends it: nobody is accepted any longer, requests under way are answered, and each core goes on serving
//! the others until all of them are done. Then it says what it did.

mod batch; // what is asked of a core together
mod cores; // messages between cores
mod requests; // what a client asks for
#[allow(
    dead_code,
    unused_imports,
    reason = "the protocol of the example key-value, not all of which is needed"
)]
#[path = "../key-value/resp/mod.rs"]
mod resp;
mod session; // a client
mod shard; // the keys of a core

#[cfg(test)]
mod tests;

use clap::Parser;
use cores::{Core, Wiring};
use demikernel::net::{TcpListener, TcpStream};
use demikernel::signal::shutdown;
use demikernel::time::{Duration, sleep, timeout};
use demikernel::{Builder, Idle, core_count, core_index, spawn};
use futures::future::{Either, select};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::pin;
use std::process::ExitCode;
use std::rc::Rc;

/// How long clients may take for what is under way when the server ends.
const GRACE: Duration = Duration::from_secs(5);

/// The most clients of a core at a time; further ones are closed.
const CLIENTS: usize = 10_000;

/// A key-value server whose keys are spread over cores.
#[derive(Parser)]
struct Args {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6380")]
    listen: SocketAddr,
    /// How many cores to use.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    cores: u16,
    /// The transport: io_uring, epoll, ...; chosen automatically without.
    #[arg(long)]
    transport: Option<String>,
    /// What to do when there is nothing to do: spin, block, adaptive or adaptive(TIME).
    #[arg(long, default_value = "adaptive")]
    idle: Idle,
}

fn main() -> ExitCode {
    let log = tracing_subscriber::fmt().with_writer(io::stderr);
    log.with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let Args { listen, cores, transport, idle } = Args::parse();
    let mut builder = Builder::new().idle(idle).cores(cores.into());
    if let Some(transport) = &transport {
        builder = builder.transport(transport);
    }
    let wiring = Wiring::new(cores.into());
    builder.run(move || serve(listen, wiring.core()))
}

/// Serves on one core until the end of all.
async fn serve(listen: SocketAddr, core: Rc<Core>) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let end = shutdown()?;
    let serving = core.clone().serve_others();
    if core_index() == 0 {
        println!("sharded-key-value: listening on {} with {} cores", listener.local_addr()?, core_count());
    }
    let _: Either<_, _> = select(pin!(accept(listener, &core)), end).await;

    // What was received is answered; then its connection is at its end.
    core.clients.borrow().iter().for_each(|(_, stream)| drop(stream.shutdown(Shutdown::Read)));
    let drained = async {
        while !core.clients.borrow().is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    if timeout(GRACE, drained).await.is_err() {
        tracing::warn!(clients = core.clients.borrow().len(), "some clients do not take their answers");
    }
    // This core asks nothing any longer, and answers as long as others do.
    core.ask_no_more();
    serving.await?;
    println!("sharded-key-value: core {} ends, {}", core_index(), core.describe());
    Ok(())
}

/// Accepts clients, for ever.
async fn accept(listener: TcpListener, core: &Rc<Core>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) if core.clients.borrow().len() < CLIENTS => attend(stream, core.clone()),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

fn attend(stream: TcpStream, core: Rc<Core>) {
    let stream = Rc::new(stream);
    let place = core.clients.borrow_mut().insert(stream.clone());
    spawn(async move {
        if let Err(error) = session::converse(&stream, &core).await {
            tracing::debug!(%error, "a client's connection ended badly");
        }
        core.clients.borrow_mut().remove(place);
    })
    .detach();
}
