//! Requests to other nodes.

use super::Limits;
use super::frame::{self, GREETING, invalid};
use super::line::Line;
use super::message::{Request, Response};
use demikernel::net::TcpStream;
use demikernel::time::{Elapsed, timeout};
use demikernel::{Buffer, Sga};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::{SnapshotOf, VoteOf};
use openraft::{BasicNode, RaftNetworkFactory, RaftNetworkV2, RaftTypeConfig};
use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

/// How many times openraft's limit for a request there may be no response before another connection is made.
const PATIENCE: u32 = 10;

/// The network of a node: makes a [`Peer`] of each other one, at the address that its [`BasicNode`] has.
///
/// `heartbeat_interval` of openraft's configuration has to be longer than a round trip takes: openraft does not wait longer
/// for what it asks.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// What is asked for at most, and expected of others.
    pub limits: Limits,
}

/// Another node, and a connection to it while there is one.
pub struct Peer<C: RaftTypeConfig> {
    address: String,
    limits: Limits,
    line: Line<C>,
}

impl<C: RaftTypeConfig<Node = BasicNode>> RaftNetworkFactory<C> for Network {
    type Network = Peer<C>;

    async fn new_client(&mut self, _target: C::NodeId, node: &BasicNode) -> Peer<C> {
        Peer { address: node.addr.clone(), limits: self.limits.clone(), line: Line::default() }
    }
}

/// Why there was no response.
pub(super) enum Failure {
    /// There is nobody, for the moment.
    Unreachable(io::Error),
    /// Something went wrong on the way.
    Broken(io::Error),
}

pub(super) async fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.push(Buffer::from_static(GREETING)).await?;
    Ok(stream)
}

/// The response, unless it says that there is none.
pub(super) fn granted<C: RaftTypeConfig>(response: Response<C>) -> Result<Response<C>, Failure> {
    match response {
        Response::Failed(reason) => Err(Failure::Broken(io::Error::other(reason))),
        response => Ok(response),
    }
}

impl<C: RaftTypeConfig> Peer<C> {
    /// Asks on a connection of its own, and waits for the response for so long: for what openraft asks a peer that it was
    /// given for this request alone.
    async fn ask(
        &self,
        request: &Request<C>,
        bytes: Option<Vec<u8>>,
        limit: Duration,
    ) -> Result<Response<C>, Failure> {
        let exchange = async {
            let mut stream = connect(&self.address).await.map_err(Failure::Unreachable)?;
            exchange(&mut stream, request, bytes, &self.limits).await.map_err(Failure::Broken)
        };
        let response = timeout(limit, exchange).await;
        granted(response.map_err(|error: Elapsed| Failure::Broken(error.into()))??)
    }
}

async fn exchange<C: RaftTypeConfig>(
    stream: &mut TcpStream,
    request: &Request<C>,
    bytes: Option<Vec<u8>>,
    limits: &Limits,
) -> io::Result<Response<C>> {
    stream.push_sga(Sga::from(frame::encode_within(request, limits)?)).await?;
    if let Some(bytes) = bytes {
        frame::send_bytes(stream, bytes, limits).await?;
    }
    frame::receive(stream, limits).await
}

fn unexpected() -> Failure {
    Failure::Broken(invalid("a response to something else"))
}

impl<C: RaftTypeConfig> From<Failure> for RPCError<C> {
    fn from(failure: Failure) -> RPCError<C> {
        match failure {
            Failure::Unreachable(error) => RPCError::Unreachable(Unreachable::new(&error)),
            Failure::Broken(error) => RPCError::Network(NetworkError::new(&error)),
        }
    }
}

impl<C: RaftTypeConfig> From<Failure> for StreamingError<C> {
    fn from(failure: Failure) -> StreamingError<C> {
        match failure {
            Failure::Unreachable(error) => StreamingError::Unreachable(Unreachable::new(&error)),
            Failure::Broken(error) => StreamingError::Network(NetworkError::new(&error)),
        }
    }
}

impl<C: RaftTypeConfig> RaftNetworkV2<C> for Peer<C> {
    type SnapshotData = Vec<u8>;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<C>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<C>, RPCError<C>> {
        let patience = option.hard_ttl() * PATIENCE;
        match self.line.ask(&self.address, &Request::Append(request), patience, &self.limits).await? {
            Response::Append(response) => Ok(response),
            _ => Err(unexpected().into()),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<C>,
        option: RPCOption,
    ) -> Result<VoteResponse<C>, RPCError<C>> {
        match self.ask(&Request::Vote(request), None, option.hard_ttl()).await? {
            Response::Vote(response) => Ok(response),
            _ => Err(unexpected().into()),
        }
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<C>,
        option: RPCOption,
    ) -> Result<VoteResponse<C>, RPCError<C>> {
        match self.ask(&Request::PreVote(request), None, option.hard_ttl()).await? {
            Response::Vote(response) => Ok(response),
            _ => Err(unexpected().into()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<C>,
        snapshot: SnapshotOf<C, Vec<u8>>,
        cancel: impl Future<Output = ReplicationClosed> + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        let request = Request::Snapshot(vote, snapshot.meta, snapshot.snapshot.len() as u64);
        let asked = Box::pin(self.ask(&request, Some(snapshot.snapshot), option.hard_ttl()));
        match futures_util::future::select(asked, Box::pin(cancel)).await {
            futures_util::future::Either::Left((response, _)) => match response? {
                Response::Snapshot(response) => Ok(response),
                _ => Err(unexpected().into()),
            },
            futures_util::future::Either::Right((closed, _)) => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<C>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<C>, RPCError<C>> {
        match self.ask(&Request::TransferLeader(request), None, option.hard_ttl()).await? {
            Response::TransferLeader(response) => Ok(response),
            _ => Err(unexpected().into()),
        }
    }
}

impl<C: RaftTypeConfig> fmt::Debug for Peer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("address", &self.address).finish_non_exhaustive()
    }
}
