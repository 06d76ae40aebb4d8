//! openraft's state machine around a program's own: what is applied, and snapshots of it on a log.

use super::snapshots::Snapshots;
use demikernel::storage::Log;
use futures_util::{Stream, TryStreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::type_config::alias::{
    CommittedLeaderIdOf, EntryPayloadOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf,
};
use openraft::{Entry, EntryPayload, OptionalSend, RaftTypeConfig, StoredMembership};
use std::cell::{Ref, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;

/// What a program replicates: a state, and how each entry changes it.
///
/// What `apply` does must follow from the state and the entry alone, since each node does it for itself: no clock, no random
/// numbers, no order of a hash map.
pub trait Machine<C: RaftTypeConfig>: 'static {
    /// Applies an entry; its response is what the client is given who wrote it.
    fn apply(&mut self, data: C::D) -> C::R;

    /// The whole state as bytes. The node does nothing else meanwhile.
    fn snapshot(&self) -> Vec<u8>;

    /// Replaces the state by one that was made by [`snapshot`](Self::snapshot), here or on another node.
    ///
    /// # Errors
    /// If it is none; the state is as it was then.
    fn restore(&mut self, snapshot: &[u8]) -> io::Result<()>;
}

/// The type configurations that there can be a [`StateMachine`] of: entries are openraft's own, and what changes no state
/// has a response, too.
pub trait Configuration:
    RaftTypeConfig<R: Default, Entry = Entry<CommittedLeaderIdOf<Self>, EntryPayloadOf<Self>>>
{
}

impl<C> Configuration for C where
    C: RaftTypeConfig<R: Default, Entry = Entry<CommittedLeaderIdOf<C>, EntryPayloadOf<C>>>
{
}

struct State<C: RaftTypeConfig, M> {
    machine: M,
    applied: Option<LogIdOf<C>>,
    membership: StoredMembershipOf<C>,
}

/// openraft's state machine around a [`Machine`]. Clones are the same machine: a program keeps one to read from.
///
/// The state is in memory. What lasts is the log and the last snapshot, from which it is made when a node starts.
pub struct StateMachine<C: RaftTypeConfig, M> {
    state: Rc<RefCell<State<C, M>>>,
    snapshots: Snapshots<C>,
}

impl<C: Configuration, M: Machine<C>> StateMachine<C, M> {
    /// Brings a machine to its last snapshot, which is in this log.
    ///
    /// # Errors
    /// Those of reading, and of [`Machine::restore`].
    pub async fn open(log: Log, mut machine: M) -> io::Result<StateMachine<C, M>> {
        let (snapshots, last) = Snapshots::<C>::open(log).await?;
        let (mut applied, mut membership) = (None, StoredMembership::default());
        if let Some((meta, bytes)) = last {
            machine.restore(&bytes)?;
            (applied, membership) = (meta.last_log_id, meta.last_membership);
        }
        let state = Rc::new(RefCell::new(State { machine, applied, membership }));
        Ok(StateMachine { state, snapshots })
    }

    /// The program's own machine.
    ///
    /// It is what this node has applied. That a read sees all that was acknowledged before it,
    /// [`ensure_linearizable`](openraft::Raft::ensure_linearizable) is for.
    pub fn get(&self) -> Ref<'_, M> {
        Ref::map(self.state.borrow(), |state| &state.machine)
    }
}

impl<C: Configuration, M: Machine<C>> State<C, M> {
    fn apply(&mut self, entry: C::Entry) -> C::R {
        self.applied = Some(entry.log_id());
        match entry.payload {
            EntryPayload::Blank => C::R::default(),
            EntryPayload::Normal(data) => self.machine.apply(data),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(self.applied.clone(), membership);
                C::R::default()
            }
        }
    }
}

impl<C: Configuration, M: Machine<C>> RaftStateMachine<C> for StateMachine<C, M> {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = StateMachine<C, M>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogIdOf<C>>, StoredMembershipOf<C>)> {
        let state = self.state.borrow();
        Ok((state.applied.clone(), state.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = Result<EntryResponder<C>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let response = self.state.borrow_mut().apply(entry);
            if let Some(responder) = responder {
                responder.send(response);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> StateMachine<C, M> {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<C>, bytes: Vec<u8>) -> io::Result<()> {
        // Durable first: when it has been installed, entries that it has are purged.
        self.snapshots.keep(meta, &bytes).await?;
        let state = &mut *self.state.borrow_mut();
        state.machine.restore(&bytes)?;
        state.applied = meta.last_log_id.clone();
        state.membership = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<C, Vec<u8>>>> {
        let current = self.snapshots.current().await?;
        Ok(current.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

impl<C: Configuration, M: Machine<C>> RaftSnapshotBuilder<C> for StateMachine<C, M> {
    type SnapshotData = Vec<u8>;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<C, Vec<u8>>> {
        // In one go, so what it is of is what it says.
        let (meta, snapshot) = {
            let state = self.state.borrow();
            let (last_log_id, last_membership) = (state.applied.clone(), state.membership.clone());
            (SnapshotMetaOf::<C> { last_log_id, last_membership }, state.machine.snapshot())
        };
        self.snapshots.keep(&meta, &snapshot).await?;
        Ok(Snapshot { meta, snapshot })
    }
}

impl<C: RaftTypeConfig, M> Clone for StateMachine<C, M> {
    fn clone(&self) -> StateMachine<C, M> {
        StateMachine { state: self.state.clone(), snapshots: self.snapshots.clone() }
    }
}

impl<C: RaftTypeConfig, M> fmt::Debug for StateMachine<C, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateMachine").field("applied", &self.state.borrow().applied).finish_non_exhaustive()
    }
}
