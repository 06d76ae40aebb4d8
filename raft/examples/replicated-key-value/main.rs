//! A key-value store on three nodes, which loses nothing that it has acknowledged while two of them live.
//!
//! It shows what a program of `demikernel-raft` consists of: what is replicated (`machine`), a node (`node`), and clients
//! (`session`), who speak the Redis protocol. Reads are linearizable: the leader asks the others whether it still is one.
//! A node that is not the leader says who is, as those of a Redis cluster do, and `redis-cli -c` follows.
//!
//! ```text
//! $ NODES="--node 1=127.0.0.1:7101,127.0.0.1:6381 --node 2=127.0.0.1:7102,127.0.0.1:6382 --node 3=127.0.0.1:7103,127.0.0.1:6383"
//! $ cargo build --release -p demikernel-raft --example replicated-key-value
//! $ target/release/examples/replicated-key-value --id 1 --log 1.log $NODES     # a terminal each
//! replicated-key-value: node 1 listening on 127.0.0.1:6381
//! $ target/release/examples/replicated-key-value --id 2 --log 2.log $NODES
//! $ target/release/examples/replicated-key-value --id 3 --log 3.log $NODES
//!
//! $ redis-cli -c -p 6381
//! 127.0.0.1:6381> SET greeting hello
//! -> Redirected to slot [0] located at 127.0.0.1:6382
//! OK
//! 127.0.0.1:6382> INFO
//! id:2
//! leader:2
//! ...
//! $ kill -9 ...                                 # any of them: the others go on, and it catches up when it is back
//! ```
//!
//! The log may also be the name of one on the storage that is configured, as with the example `key-value`. A write that was not
//! answered (`-UNKNOWN`, or the connection ended) may have been made: a client that must not make it twice asks first.

mod machine; // what is replicated
mod node; // a node: its storage, its peers, its clients
#[path = "../../../examples/sharded-key-value/requests.rs"]
mod requests; // what a client asks for, as in the example sharded-key-value
#[allow(
    dead_code,
    unused_imports,
    reason = "the protocol of the example key-value, not all of which is needed"
)]
#[path = "../../../examples/key-value/resp/mod.rs"]
mod resp;
mod session; // a client

use clap::Parser;
use demikernel::storage::{self, Store};
use demikernel::{Builder, Idle};
pub(crate) use node::serve;
use std::io;
use std::process::ExitCode;
use std::str::FromStr;

/// A node of a replicated key-value store that speaks the Redis protocol.
#[derive(Parser, Clone)]
pub(crate) struct Args {
    /// Which of the nodes this is.
    #[arg(long)]
    pub(crate) id: u64,
    /// A node: where it listens for the others, and where for clients. Given for each, the same on all.
    #[arg(long = "node", value_name = "ID=ADDR,ADDR", required = true)]
    pub(crate) nodes: Vec<Member>,
    /// Where the node's storage is: the path of a file or block device, or a drive's address. A file is made if it is not
    /// there. Without, it is the storage that is configured.
    #[arg(long, value_name = "PATH")]
    log: Option<String>,
    /// How many MiB a file that is made has: several times what the keys and values have.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(8..))]
    log_size: u32,
    /// After how many entries a snapshot is made, and what is before it given up.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(10..))]
    pub(crate) snapshot_every: u64,
    /// Milliseconds between the leader's heartbeats; an election begins after three to six times as many without.
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(5..))]
    pub(crate) heartbeat: u64,
    /// The transport: io_uring, epoll, ...; chosen automatically without.
    #[arg(long)]
    transport: Option<String>,
    /// What to do when there is nothing to do: spin, block, adaptive or adaptive(TIME).
    #[arg(long, default_value = "adaptive")]
    idle: Idle,
}

/// A node of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: u64,
    /// Where other nodes find it.
    pub(crate) peers: String,
    /// Where clients find it.
    pub(crate) clients: String,
}

impl FromStr for Member {
    type Err = String;

    fn from_str(text: &str) -> Result<Member, String> {
        let parts = text.split_once('=').and_then(|(id, rest)| Some((id, rest.split_once(',')?)));
        let (id, (peers, clients)) = parts.ok_or("expected ID=ADDR,ADDR")?;
        let id = id.parse().map_err(|error| format!("the id {id:?}: {error}"))?;
        Ok(Member { id, peers: peers.to_owned(), clients: clients.to_owned() })
    }
}

/// Opens what the node writes to.
async fn open(args: &Args) -> io::Result<Store> {
    match &args.log {
        Some(path) => storage::open(path, u64::from(args.log_size) << 20).await,
        None => storage::store().await,
    }
}

fn main() -> ExitCode {
    let log = tracing_subscriber::fmt().with_writer(io::stderr);
    log.with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let args = Args::parse();
    let mut builder = Builder::new().idle(args.idle);
    if let Some(transport) = &args.transport {
        builder = builder.transport(transport);
    }
    let run = async { serve(&args, open(&args).await?).await };
    match builder.build().and_then(|runtime| runtime.block_on(run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("replicated-key-value: {error}");
            ExitCode::FAILURE
        }
    }
}
