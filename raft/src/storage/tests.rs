//! openraft's own tests of storage, and crashes.

use super::{LogStore, Machine, StateMachine};
use crate::Runtime;
use demikernel::storage::memory::{Disk, Loss};
use demikernel::storage::{Geometry, Store, StoreOptions, Volume};
use demikernel_runtime::random::Random;
use futures_util::stream;
use openraft::storage::{
    IOFlushed, RaftLogReader, RaftLogStorage, RaftLogStorageExt, RaftSnapshotBuilder, RaftStateMachine,
};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::testing::log_id;
use openraft::type_config::TypeConfigExt;
use openraft::type_config::alias::{EntryOf, VoteOf};
use openraft::{EntryPayload, StorageError};
use std::io;

openraft::declare_raft_types!(
    Types:
        D = String,
        R = String,
        NodeId = u64,
        Node = (),
        AsyncRuntime = Runtime,
);

/// All that was applied, one after the other.
#[derive(Default)]
struct Words(Vec<String>);

impl Machine<Types> for Words {
    fn apply(&mut self, word: String) -> String {
        self.0.push(word);
        self.0.len().to_string()
    }

    fn snapshot(&self) -> Vec<u8> {
        self.0.join(" ").into_bytes()
    }

    fn restore(&mut self, snapshot: &[u8]) -> io::Result<()> {
        let text = std::str::from_utf8(snapshot).map_err(io::Error::other)?;
        self.0 = text.split_whitespace().map(str::to_owned).collect();
        Ok(())
    }
}

async fn open(disk: &Disk) -> io::Result<(Store, LogStore<Types>, StateMachine<Types, Words>)> {
    let volume = Volume::attach(disk.device());
    let store = StoreOptions::new().create(true).segment_size(64 << 10).open(volume).await?;
    let log = LogStore::open(store.log("raft").await?).await?;
    let machine = StateMachine::open(store.log("snapshots").await?, Words::default()).await?;
    Ok((store, log, machine))
}

fn disk() -> Disk {
    Disk::new(Geometry { volatile_cache: true, ..Geometry::new(512, 8 << 20) })
}

struct Builder;

impl StoreBuilder<Types, LogStore<Types>, StateMachine<Types, Words>, ()> for Builder {
    async fn build(&self) -> Result<((), LogStore<Types>, StateMachine<Types, Words>), StorageError<Types>> {
        let (_, log, machine) =
            open(&disk()).await.map_err(|error| StorageError::read(Types::err_from_error(&error)))?;
        Ok(((), log, machine))
    }
}

#[test]
fn openraft_s_own_tests_of_storage_pass() {
    let runtime = demikernel::Builder::new().transport("memory").build().unwrap();
    runtime.block_on(Suite::test_all(Builder)).unwrap();
}

fn entry(term: u64, index: u64) -> EntryOf<Types> {
    let payload = EntryPayload::Normal(format!("{term}-{index}"));
    EntryOf::<Types> { log_id: log_id::<Types>(term, 1, index), payload }
}

/// What is known to be durable.
#[derive(Clone, Default, Debug)]
struct Model {
    vote: Option<VoteOf<Types>>,
    purged: u64,
    entries: Vec<(u64, u64)>,
}

impl Model {
    /// Does something to a log, and notes it when it is durable.
    async fn step(&mut self, log: &mut LogStore<Types>, random: &mut Random, term: u64) {
        let last = self.entries.last().map_or(self.purged, |(_, index)| *index);
        match random.below(8) {
            0 => {
                let vote = VoteOf::<Types>::new(term, random.below(3));
                log.save_vote(&vote).await.unwrap();
                self.vote = Some(vote);
            }
            1 if !self.entries.is_empty() => {
                let keep = random.below(self.entries.len() as u64) as usize;
                let (of, index) = self.entries[keep];
                log.truncate_after(Some(log_id::<Types>(of, 1, index))).await.unwrap();
                self.entries.truncate(keep + 1);
            }
            2 if self.entries.len() > 20 => {
                let (of, index) = self.entries[10];
                log.purge(log_id::<Types>(of, 1, index)).await.unwrap();
                self.entries.drain(..=10);
                self.purged = index;
            }
            _ => {
                let more = last + 1..last + 2 + random.below(6);
                log.blocking_append(more.clone().map(|index| entry(term, index))).await.unwrap();
                self.entries.extend(more.map(|index| (term, index)));
            }
        }
    }

    /// That a log which was opened anew has all of it, and behind it at most what was under way.
    async fn check(&mut self, log: &mut LogStore<Types>, under_way: u64) {
        assert_eq!(log.read_vote().await.unwrap(), self.vote);
        let state = log.get_log_state().await.unwrap();
        assert_eq!(state.last_purged_log_id.map_or(0, |purged| purged.index), self.purged);
        let found = log.try_get_log_entries(..).await.unwrap();
        let found: Vec<_> =
            found.iter().map(|entry| (entry.log_id.committed_leader_id().term, entry.log_id.index)).collect();
        assert!(found.starts_with(&self.entries), "{:?} of {:?}", found, self.entries);
        assert!(found.len() as u64 <= self.entries.len() as u64 + under_way);
        self.entries = found;
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_loss_of_power() {
    for seed in 0..40 {
        let disk = disk();
        let mut model = Model { entries: vec![], ..Model::default() };
        let mut random = Random::new(seed, 1);
        for term in 1..8 {
            let runtime = demikernel::Builder::new().transport("memory").build().unwrap();
            let under_way = random.below(4);
            runtime.block_on(async {
                let (_store, mut log, _) = open(&disk).await.unwrap();
                model.check(&mut log, 4).await;
                for _ in 0..random.below(30) {
                    model.step(&mut log, &mut random, term).await;
                }
                let next = model.entries.last().map_or(model.purged, |(_, index)| *index) + 1;
                let more = (next..next + under_way).map(|index| entry(term, index));
                log.append(more, IOFlushed::noop()).await.unwrap();
                demikernel::yield_now().await;
            });
            drop(runtime);
            disk.crash(Loss::Some(seed * 10 + term));
        }
    }
}

#[test]
fn long_entries_are_cut_and_joined() {
    let runtime = demikernel::Builder::new().transport("memory").build().unwrap();
    runtime.block_on(async {
        let disk = disk();
        let long = "x".repeat(300_000);
        let (store, mut log, _) = open(&disk).await.unwrap();
        let payload = EntryPayload::Normal(long.clone());
        let first = EntryOf::<Types> { log_id: log_id::<Types>(1, 1, 1), payload };
        log.blocking_append([first, entry(1, 2)]).await.unwrap();
        store.close().await.unwrap();

        let (_store, mut log, _) = open(&disk).await.unwrap();
        let found = log.try_get_log_entries(1..=2).await.unwrap();
        assert!(matches!(&found[0].payload, EntryPayload::Normal(text) if *text == long));
        assert_eq!(found[1], entry(1, 2));
        assert_eq!(log.limited_get_log_entries(1, 3).await.unwrap().len(), 2, "both are below the limit");
    });
}

async fn apply(machine: &mut StateMachine<Types, Words>, index: u64, word: &str) {
    let log_id = log_id::<Types>(1, 1, index);
    let entry = EntryOf::<Types> { log_id, payload: EntryPayload::Normal(word.to_owned()) };
    machine.apply(stream::iter([Ok((entry, None))])).await.unwrap();
}

#[test]
fn the_last_snapshot_is_there_after_a_loss_of_power() {
    for seed in 0..20 {
        let disk = disk();
        let (mut last, mut index) = (Vec::new(), 0);
        for round in 0..6_u64 {
            let runtime = demikernel::Builder::new().transport("memory").build().unwrap();
            runtime.block_on(async {
                let (_store, _, mut machine) = open(&disk).await.unwrap();
                let found = machine.get().snapshot();
                // The one that was not waited for may be there.
                assert!(found == last || found == [&last[..], b" lost"].concat());
                for _ in 1..=round {
                    index += 1;
                    apply(&mut machine, index, &"word".repeat(20_000)).await;
                    machine.build_snapshot().await.unwrap();
                }
                let current = machine.get_current_snapshot().await.unwrap();
                assert_eq!(
                    current.map(|current| current.snapshot).unwrap_or_default(),
                    machine.get().snapshot()
                );
                last = machine.get().snapshot();
                index += 1;
                apply(&mut machine, index, "lost").await;
                let mut building = std::pin::pin!(machine.build_snapshot());
                assert!(futures_util::poll!(building.as_mut()).is_pending());
            });
            drop(runtime);
            disk.crash(Loss::Some(seed * 10 + round));
        }
    }
}
