//! Requests of other nodes.

use super::Limits;
use super::frame::{self, GREETING, invalid};
use super::message::{Request, Response};
use demikernel::net::{TcpListener, TcpStream};
use demikernel::time::{sleep, timeout};
use demikernel::{Sga, spawn};
use futures_util::AsyncReadExt;
use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{Raft, RaftTypeConfig};
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// Answers the requests of other nodes, for ever.
///
/// A connection on which something comes that is no request ends; the node goes on.
pub async fn serve<C, M>(listener: TcpListener, raft: Raft<C, M>, limits: Limits)
where
    C: RaftTypeConfig,
    M: RaftStateMachine<C, SnapshotData = Vec<u8>>,
{
    if raft.config().enable_leader_restore != Some(false) {
        tracing::warn!(
            "enable_leader_restore is not false: reads of a leader that was restarted may be stale"
        );
    }
    let open = Rc::new(Cell::new(0));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Such as too many open files.
                tracing::warn!(%error, "cannot accept a connection of a node");
                sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        if open.get() >= limits.connections {
            tracing::warn!(%peer, "a connection of a node is one too many");
            continue;
        }
        let (raft, limits, place) = (raft.clone(), limits.clone(), Place::take(&open));
        spawn(async move {
            if let Err(error) = attend(stream, &raft, &limits).await {
                tracing::debug!(%peer, %error, "a connection of a node ended");
            }
            drop(place);
        })
        .detach();
    }
}

/// One of the connections that there may be.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(open: &Rc<Cell<usize>>) -> Place {
        open.set(open.get() + 1);
        Place(open.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

async fn attend<C, M>(mut stream: TcpStream, raft: &Raft<C, M>, limits: &Limits) -> io::Result<()>
where
    C: RaftTypeConfig,
    M: RaftStateMachine<C, SnapshotData = Vec<u8>>,
{
    stream.set_nodelay(true)?;
    let mut greeting = [0; GREETING.len()];
    timeout(limits.stall, stream.read_exact(&mut greeting)).await??;
    if greeting != *GREETING {
        return Err(invalid("not a node"));
    }
    loop {
        let request: Request<C> = timeout(limits.idle, frame::receive(&mut stream, limits)).await??;
        request.check()?;
        let response = answer(request, &mut stream, raft, limits).await?;
        timeout(limits.stall, stream.push_sga(Sga::from(frame::encode(&response)?))).await??;
    }
}

async fn answer<C, M>(
    request: Request<C>,
    stream: &mut TcpStream,
    raft: &Raft<C, M>,
    limits: &Limits,
) -> io::Result<Response<C>>
where
    C: RaftTypeConfig,
    M: RaftStateMachine<C, SnapshotData = Vec<u8>>,
{
    let failed = |error: &dyn std::error::Error| Response::Failed(error.to_string());
    Ok(match request {
        Request::Append(request) => match raft.append_entries(request).await {
            Ok(response) => Response::Append(response),
            Err(error) => failed(&error),
        },
        Request::Vote(request) => match raft.vote(request).await {
            Ok(response) => Response::Vote(response),
            Err(error) => failed(&error),
        },
        Request::PreVote(request) => match raft.pre_vote(request).await {
            Ok(response) => Response::Vote(response),
            Err(error) => failed(&error),
        },
        Request::Snapshot(vote, meta, length) => {
            let length = usize::try_from(length).ok().filter(|length| *length <= limits.snapshot);
            let length = length.ok_or_else(|| invalid("a snapshot that is longer than the limit"))?;
            let snapshot = frame::receive_bytes(stream, length, limits).await?;
            match raft.install_full_snapshot(vote, Snapshot { meta, snapshot }).await {
                Ok(response) => Response::Snapshot(response),
                Err(error) => failed(&error),
            }
        }
        Request::TransferLeader(request) => match raft.handle_transfer_leader(request).await {
            Ok(response) => Response::TransferLeader(response),
            Err(error) => failed(&error),
        },
    })
}
