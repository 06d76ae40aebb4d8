//! Snapshots on a log: each is a message, and the one that reaches furthest counts. Those before it are given up.

use super::pieces::{self, Pieces, damaged};
use demikernel::storage::{Log, Seek};
use openraft::RaftTypeConfig;
use openraft::type_config::alias::SnapshotMetaOf;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;

/// The snapshots of a node. Clones are the same.
pub(super) struct Snapshots<C: RaftTypeConfig>(Rc<RefCell<State<C>>>);

struct State<C: RaftTypeConfig> {
    pieces: Pieces,
    current: Option<Current<C>>,
}

#[derive(Clone)]
struct Current<C: RaftTypeConfig> {
    meta: SnapshotMetaOf<C>,
    /// The record that it begins with.
    record: u64,
}

/// A snapshot: what it is of, and its bytes.
pub(super) type Whole<C> = (SnapshotMetaOf<C>, Vec<u8>);

/// What it is of stands before its bytes.
fn split<C: RaftTypeConfig>(mut message: Vec<u8>) -> io::Result<Whole<C>> {
    let (meta, rest) = postcard::take_from_bytes(&message).map_err(|error| damaged("a snapshot", error))?;
    let at = message.len() - rest.len();
    message.drain(..at);
    Ok((meta, message))
}

impl<C: RaftTypeConfig> Snapshots<C> {
    /// Reads the log: the snapshots, and the one that counts.
    pub(super) async fn open(mut log: Log) -> io::Result<(Snapshots<C>, Option<Whole<C>>)> {
        let pieces = Pieces::new(log.clone());
        let mut found: Option<(Current<C>, Whole<C>)> = None;
        while let Some((record, message)) = pieces::next(&mut log).await? {
            let whole = split::<C>(message)?;
            if found.as_ref().is_none_or(|(current, _)| whole.0.last_log_id >= current.meta.last_log_id) {
                found = Some((Current { meta: whole.0.clone(), record }, whole));
            }
        }
        let (current, whole) = found.unzip();
        Ok((Snapshots(Rc::new(RefCell::new(State { pieces, current }))), whole))
    }

    /// Keeps a snapshot. It is durable then, and others are given up, unless one reaches further.
    pub(super) async fn keep(&self, meta: &SnapshotMetaOf<C>, bytes: &[u8]) -> io::Result<()> {
        let mut message = postcard::to_stdvec(meta).map_err(io::Error::other)?;
        message.extend_from_slice(bytes);
        let (record, pushed) = self.0.borrow_mut().pieces.push(&message);
        drop(message);
        pushed.durable().await?;
        let (keep, log) = {
            let state = &mut *self.0.borrow_mut();
            let current = Current { meta: meta.clone(), record };
            match &state.current {
                // One that was installed meanwhile, while this one was made.
                Some(other) if other.meta.last_log_id > current.meta.last_log_id => {}
                _ => state.current = Some(current),
            }
            (state.current.as_ref().map_or(record, |current| current.record), state.pieces.log())
        };
        log.truncate(keep).await
    }

    /// Reads the snapshot that counts.
    pub(super) async fn current(&self) -> io::Result<Option<Whole<C>>> {
        let (record, mut log) = {
            let state = self.0.borrow();
            let Some(current) = &state.current else { return Ok(None) };
            (current.record, state.pieces.log())
        };
        log.seek(Seek::Number(record))?;
        match pieces::next(&mut log).await? {
            Some((_, message)) => split::<C>(message).map(Some),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "the snapshot is not in its log")),
        }
    }
}

impl<C: RaftTypeConfig> Clone for Snapshots<C> {
    fn clone(&self) -> Snapshots<C> {
        Snapshots(self.0.clone())
    }
}
