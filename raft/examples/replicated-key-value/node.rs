//! A node: its storage, its peers, its clients.

use super::machine::{KeyValue, Types};
use super::session;
use super::{Args, Member};
use demikernel::net::TcpListener;
use demikernel::signal::shutdown;
use demikernel::spawn;
use demikernel::storage::Store;
use demikernel::time::{Duration, sleep};
use demikernel_raft::openraft::async_runtime::WatchReceiver;
use demikernel_raft::openraft::{BasicNode, Config, Raft, SnapshotPolicy};
use demikernel_raft::{Limits, LogStore, Network, StateMachine};
use futures::future::{Either, select};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

/// The most clients at a time; further ones are closed.
const CLIENTS: usize = 10_000;

/// The most entries that leave in one message to another node: of the longest there are they are below [`Limits::message`].
const ENTRIES: u64 = 64;

/// A node, for the sessions of its clients.
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) raft: Raft<Types, StateMachine<Types, KeyValue>>,
    pub(crate) machine: StateMachine<Types, KeyValue>,
    members: Vec<Member>,
    clients: Cell<usize>,
}

impl Node {
    /// Where a node's clients go.
    pub(crate) fn address(&self, id: u64) -> Option<&str> {
        self.members.iter().find(|member| member.id == id).map(|member| member.clients.as_str())
    }
}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
}

fn configuration(args: &Args) -> io::Result<Arc<Config>> {
    let config = Config {
        heartbeat_interval: args.heartbeat,
        election_timeout_min: args.heartbeat * 3,
        election_timeout_max: args.heartbeat * 6,
        install_snapshot_timeout: 10_000,
        max_payload_entries: ENTRIES,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(args.snapshot_every),
        max_in_snapshot_log_to_keep: args.snapshot_every / 10,
        enable_pre_vote: Some(true),
        ..demikernel_raft::config()
    };
    config.validate().map(Arc::new).map_err(invalid)
}

/// Runs a node until Ctrl-C or SIGTERM, or until its storage fails: what it would acknowledge then might be lost.
pub(crate) async fn serve(args: &Args, store: Store) -> io::Result<()> {
    let own = args.nodes.iter().find(|member| member.id == args.id);
    let own = own.ok_or_else(|| invalid(format!("there is no --node {}=...", args.id)))?;
    let log = LogStore::<Types>::open(store.log("raft").await?).await?;
    let machine = StateMachine::open(store.log("snapshots").await?, KeyValue::default()).await?;
    let raft = Raft::new(args.id, configuration(args)?, Network::default(), log, machine.clone()).await;
    let raft = raft.map_err(io::Error::other)?;

    let peers = TcpListener::bind(own.peers.as_str()).await?;
    let clients = TcpListener::bind(own.clients.as_str()).await?;
    let end = shutdown()?;
    spawn(demikernel_raft::serve(peers, raft.clone(), Limits::default())).detach();
    initialize(&raft, &args.nodes).await?;
    println!("replicated-key-value: node {} listening on {}", args.id, clients.local_addr()?);

    let members = args.nodes.clone();
    let node = Rc::new(Node { id: args.id, raft: raft.clone(), machine, members, clients: Cell::new(0) });
    let failed = async {
        let mut metrics = raft.metrics();
        loop {
            if let Err(error) = &metrics.borrow_watched().running_state {
                return io::Error::other(error.to_string());
            }
            if metrics.changed().await.is_err() {
                return io::Error::other("the node has stopped");
            }
        }
    };
    let accepting = accept(clients, node);
    match select(pin!(accepting), select(end, pin!(failed))).await {
        Either::Right((Either::Right((error, _)), _)) => Err(error),
        _ => {
            raft.shutdown().await?;
            store.close().await
        }
    }
}

/// Makes the cluster what the arguments say, unless it has been made: each node may do so, as all say the same.
async fn initialize(raft: &Raft<Types, StateMachine<Types, KeyValue>>, members: &[Member]) -> io::Result<()> {
    if raft.is_initialized().await.map_err(io::Error::other)? {
        return Ok(());
    }
    let node = |member: &Member| (member.id, BasicNode { addr: member.peers.clone() });
    let all: BTreeMap<u64, BasicNode> = members.iter().map(node).collect();
    match raft.initialize(all).await {
        Ok(()) => {}
        // Another node was quicker, and has made it one of its cluster.
        Err(error) => tracing::info!(%error, "not initialized here"),
    }
    Ok(())
}

/// Accepts clients, for ever.
async fn accept(listener: TcpListener, node: Rc<Node>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) if node.clients.get() < CLIENTS => {
                let place = Place::take(&node);
                spawn(async move {
                    if let Err(error) = session::converse(&stream, &place.0).await {
                        tracing::debug!(%peer, %error, "a client's connection ended badly");
                    }
                })
                .detach();
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// A place among the clients.
struct Place(Rc<Node>);

impl Place {
    fn take(node: &Rc<Node>) -> Place {
        node.clients.set(node.clients.get() + 1);
        Place(node.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.clients.set(self.0.clients.get() - 1);
    }
}
