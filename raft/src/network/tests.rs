//! Peers that say anything, and members that lie: the node goes on.

use super::frame::{GREETING, encode};
use super::message::Request;
use super::{Limits, Network, serve};
use crate::storage::{LogStore, Machine, StateMachine};
use demikernel::net::{TcpListener, TcpStream};
use demikernel::storage::memory::Disk;
use demikernel::storage::{Geometry, StoreOptions, Volume};
use demikernel::time::{Duration, sleep, timeout};
use demikernel::{Buffer, spawn};
use demikernel_runtime::random::Random;
use futures_util::AsyncWriteExt;
use openraft::raft::{AppendEntriesRequest, VoteRequest};
use openraft::storage::SnapshotMeta;
use openraft::testing::log_id;
use openraft::type_config::alias::{EntryOf, LogIdOf, VoteOf};
use openraft::{BasicNode, EntryPayload, Raft};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

openraft::declare_raft_types!(
    Types:
        D = u64,
        R = u64,
        NodeId = u64,
        Node = BasicNode,
        AsyncRuntime = crate::Runtime,
);

#[derive(Default)]
struct Sum(u64);

impl Machine<Types> for Sum {
    fn apply(&mut self, number: u64) -> u64 {
        self.0 += number;
        self.0
    }

    fn snapshot(&self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }

    fn restore(&mut self, snapshot: &[u8]) -> io::Result<()> {
        let bytes = snapshot.try_into().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        self.0 = u64::from_le_bytes(bytes);
        Ok(())
    }
}

const LIMITS: Limits = Limits {
    message: 100_000,
    snapshot: 100_000,
    connections: 4,
    stall: Duration::from_millis(200),
    idle: Duration::from_secs(5),
};

/// A cluster of one node, which is its leader.
async fn node() -> (Raft<Types, StateMachine<Types, Sum>>, SocketAddr) {
    let volume = Volume::attach(Disk::new(Geometry::new(512, 4 << 20)).device());
    let store = StoreOptions::new().create(true).segment_size(64 << 10).open(volume).await.unwrap();
    let log = LogStore::open(store.log("raft").await.unwrap()).await.unwrap();
    let machine = StateMachine::open(store.log("snapshots").await.unwrap(), Sum::default()).await.unwrap();
    let config = Arc::new(crate::config().validate().unwrap());
    let raft = Raft::new(1, config, Network::default(), log, machine).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(serve(listener, raft.clone(), LIMITS)).detach();
    raft.initialize(BTreeMap::from([(1, BasicNode::new(address))])).await.unwrap();
    raft.wait(Some(Duration::from_secs(20))).current_leader(1, "it is alone").await.unwrap();
    assert_eq!(raft.client_write(5).await.unwrap().data, 5);
    (raft, address)
}

fn run<F: Future>(test: F) -> F::Output {
    demikernel::Builder::new().transport("memory").build().unwrap().block_on(test)
}

/// Says something; whether the node has ended the connection.
async fn say(address: SocketAddr, bytes: Vec<u8>) -> bool {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may have ended before all was said.
    let _ = stream.write_all(&bytes).await;
    loop {
        match timeout(Duration::from_secs(1), stream.pop()).await {
            Ok(Ok(answer)) if !answer.is_empty() => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}

fn request(request: &Request<Types>) -> Vec<u8> {
    [&GREETING[..], &encode(request).unwrap()].concat()
}

fn vote(term: u64) -> VoteOf<Types> {
    VoteOf::<Types>::new_committed(term, 2)
}

fn append(vote: VoteOf<Types>, prev: Option<LogIdOf<Types>>, entries: &[(u64, u64)]) -> Request<Types> {
    let entries = entries.iter().map(|&(term, index)| EntryOf::<Types> {
        log_id: log_id::<Types>(term, 2, index),
        payload: EntryPayload::Normal(1),
    });
    Request::Append(AppendEntriesRequest {
        vote,
        prev_log_id: prev,
        entries: entries.collect(),
        leader_commit: None,
    })
}

#[test]
fn what_is_no_message_ends_its_connection_and_nothing_else() {
    run(async {
        let (raft, address) = node().await;
        let mut random = Random::new(3, 3);
        let good = request(&Request::Vote(VoteRequest::new(VoteOf::<Types>::new(0, 2), None)));
        assert!(!say(address, good.clone()).await, "this one is answered, and may ask again");
        let long = [&GREETING[..], &200_000_u32.to_le_bytes()].concat();
        let short = good[..good.len() - 1].to_vec();
        for bytes in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), long, short, GREETING[..5].to_vec()] {
            assert!(say(address, bytes).await);
        }
        for _ in 0..100 {
            let mut bytes = GREETING.to_vec();
            let length = random.below(60) as u32;
            bytes.extend(length.to_le_bytes());
            bytes.extend((0..length).map(|_| random.next() as u8));
            let stream = TcpStream::connect(address).await.unwrap();
            let _ = stream.push(Buffer::from(bytes)).await;
            let _ = timeout(Duration::from_millis(300), stream.pop()).await;
        }
        // A term that was made up may have cost an election; what was written is there, and it is written further.
        timeout(Duration::from_secs(20), async {
            while raft.client_write(1).await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await
        .expect("the node goes on");
    });
}

#[test]
fn what_no_member_says_is_refused() {
    run(async {
        let (raft, address) = node().await;
        let meta = |last| SnapshotMeta { last_log_id: last, ..SnapshotMeta::default() };
        let lies = [
            append(VoteOf::<Types>::new(9, 2), None, &[(1, 0)]), // not of a leader
            append(vote(9), None, &[(1, 3)]),                    // a hole at the beginning
            append(vote(9), None, &[(1, 0), (1, 2)]),            // a hole
            append(vote(9), None, &[(3, 0), (2, 1)]),            // terms that fall
            append(vote(9), None, &[(10, 0)]),                   // of a later leader
            append(vote(9), Some(log_id::<Types>(3, 2, u64::MAX)), &[(4, 0)]),
            Request::Snapshot(vote(9), meta(None), 8),
            Request::Snapshot(vote(9), meta(Some(log_id::<Types>(10, 2, 50))), 8),
            Request::Snapshot(vote(9), meta(Some(log_id::<Types>(1, 2, 50))), 1 << 40),
        ];
        for lie in lies {
            assert!(say(address, request(&lie)).await);
        }
        assert_eq!(raft.client_write(2).await.unwrap().data, 7, "it is the leader still");
    });
}

#[test]
fn connections_and_stalling_peers_have_limits() {
    run(async {
        let (_raft, address) = node().await;
        let mut kept = Vec::new();
        for _ in 0..LIMITS.connections {
            kept.push(TcpStream::connect(address).await.unwrap());
        }
        sleep(Duration::from_millis(20)).await;
        assert!(say(address, GREETING.to_vec()).await, "it is one too many");
        // Those say nothing: they are closed, and there is room again.
        sleep(LIMITS.stall * 2).await;
        let ask = Request::Vote(VoteRequest::new(VoteOf::<Types>::new(0, 2), None));
        assert!(!say(address, request(&ask)).await);
    });
}
