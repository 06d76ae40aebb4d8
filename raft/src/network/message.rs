//! What is said.

use super::frame::invalid;
use openraft::RaftTypeConfig;
use openraft::entry::RaftEntry;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::{LogIdOf, SnapshotMetaOf, VoteOf};
use openraft::vote::{RaftLeaderId, RaftVote};
use serde::{Deserialize, Serialize};
use std::io;

#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub(super) enum Request<C: RaftTypeConfig> {
    Append(AppendEntriesRequest<C>),
    Vote(VoteRequest<C>),
    PreVote(VoteRequest<C>),
    /// So many bytes follow.
    Snapshot(VoteOf<C>, SnapshotMetaOf<C>, u64),
    TransferLeader(TransferLeaderRequest<C>),
}

#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub(super) enum Response<C: RaftTypeConfig> {
    Append(AppendEntriesResponse<C>),
    Vote(VoteResponse<C>),
    Snapshot(SnapshotResponse<C>),
    TransferLeader(TransferLeaderResponse<C>),
    /// The node cannot do what it was asked for, for this reason.
    Failed(String),
}

impl<C: RaftTypeConfig> Request<C> {
    /// Refuses what no member sends that follows the protocol, and what openraft therefore does not expect.
    pub(super) fn check(&self) -> io::Result<()> {
        match self {
            Request::Append(append) => check_append(append),
            Request::Snapshot(vote, meta, _) => match &meta.last_log_id {
                Some(last) => check_log_id::<C>(vote, last),
                None => Err(invalid("a snapshot of nothing")),
            },
            Request::Vote(_) | Request::PreVote(_) | Request::TransferLeader(_) => Ok(()),
        }
    }
}

fn check_append<C: RaftTypeConfig>(append: &AppendEntriesRequest<C>) -> io::Result<()> {
    if !append.vote.is_committed() {
        return Err(invalid("entries of a node that is not the leader"));
    }
    let mut last = append.prev_log_id.clone();
    for entry in &append.entries {
        let log_id = entry.log_id();
        check_log_id::<C>(&append.vote, &log_id)?;
        let follows = match &last {
            Some(last) => *last < log_id && last.index().checked_add(1) == Some(log_id.index()),
            None => log_id.index() == 0,
        };
        if !follows {
            return Err(invalid(format!("an entry {log_id} behind {last:?}")));
        }
        last = Some(log_id);
    }
    Ok(())
}

/// A leader has no entries of later leaders.
fn check_log_id<C: RaftTypeConfig>(vote: &VoteOf<C>, log_id: &LogIdOf<C>) -> io::Result<()> {
    match *log_id.committed_leader_id() > vote.leader_id().to_committed() {
        true => Err(invalid(format!("an entry {log_id} beyond the vote {vote}"))),
        false => Ok(()),
    }
}
