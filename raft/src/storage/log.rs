//! openraft's log on one of ours.
//!
//! Ours only grows at its end and is given up at its beginning, so everything that happens to openraft's is a record:
//!
//! ```text
//!   tag 0  an entry                    1  the vote       2  what is committed
//!   tag 3  no entries behind an index  4  what is purged, with the vote and what is committed
//! ```
//!
//! Reading them in order makes the state again. Purging writes the last kind and then gives up what is before it and before
//! the first entry that is left: what else was there is repeated in it.

use super::pieces::{self, Pieces, Pushed, damaged};
use demikernel::storage::Log;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::type_config::alias::{LogIdOf, VoteOf};
use openraft::{OptionalSend, RaftTypeConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::io;
use std::ops::{Bound, RangeBounds};
use std::rc::Rc;

const ENTRY: u8 = 0;
const VOTE: u8 = 1;
const COMMITTED: u8 = 2;
const TRUNCATED: u8 = 3;
const PURGED: u8 = 4;

/// How many bytes of entries are read for one request of several, if it asks for more than one.
const BATCH: usize = 1 << 20;

/// openraft's log, on a [`Log`] of its own.
///
/// Entries are acknowledged when they are durable; those that are appended while others are on their way share a flush. All
/// that are not purged are in memory too: how many these are is openraft's `snapshot_policy` and `max_in_snapshot_log_to_keep`.
///
/// Clones are the same log.
pub struct LogStore<C: RaftTypeConfig>(Rc<RefCell<State<C>>>);

struct Kept<E> {
    entry: E,
    /// The record that it is, or begins with.
    record: u64,
    bytes: usize,
}

struct State<C: RaftTypeConfig> {
    pieces: Pieces,
    vote: Option<VoteOf<C>>,
    committed: Option<LogIdOf<C>>,
    purged: Option<LogIdOf<C>>,
    /// In the order of their indices, none of which is left out.
    entries: VecDeque<Kept<C::Entry>>,
}

impl<C: RaftTypeConfig> LogStore<C> {
    /// Opens it: reads all of the log, of which there must be no other handle that appends.
    ///
    /// # Errors
    /// Those of reading; `InvalidData` if there are records of something else.
    pub async fn open(mut log: Log) -> io::Result<LogStore<C>> {
        let mut state = State {
            pieces: Pieces::new(log.clone()),
            vote: None,
            committed: None,
            purged: None,
            entries: VecDeque::new(),
        };
        while let Some((record, message)) = pieces::next(&mut log).await? {
            state.replay(record, &message)?;
        }
        tracing::info!(log = log.name(), entries = state.entries.len(), "replayed");
        Ok(LogStore(Rc::new(RefCell::new(state))))
    }
}

fn encode<T: Serialize + ?Sized>(tag: u8, value: &T) -> io::Result<Vec<u8>> {
    postcard::to_extend(value, vec![tag]).map_err(io::Error::other)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    postcard::from_bytes(bytes).map_err(|error| damaged("a record", error))
}

impl<C: RaftTypeConfig> State<C> {
    fn replay(&mut self, record: u64, message: &[u8]) -> io::Result<()> {
        let (tag, bytes) = message.split_first().unwrap_or((&u8::MAX, &[]));
        match *tag {
            ENTRY => self.keep(decode(bytes)?, record, message.len())?,
            VOTE => self.vote = Some(decode(bytes)?),
            COMMITTED => self.committed = decode(bytes)?,
            TRUNCATED => self.truncate(decode(bytes)?),
            PURGED => {
                let (purged, vote, committed) = decode(bytes)?;
                (self.vote, self.committed) = (vote, committed);
                self.purge(purged);
            }
            tag => {
                let text = format!("record {record} of the log is not one of a raft log: its tag is {tag}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        Ok(())
    }

    /// Keeps an entry behind the others.
    fn keep(&mut self, entry: C::Entry, record: u64, bytes: usize) -> io::Result<()> {
        let index = entry.index();
        if let Some(last) = self.entries.back().map(|last| last.entry.index())
            && index != last + 1
        {
            let text = format!("an entry of index {index} is to follow that of index {last}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        // Those of a log whose beginning was given up in part.
        if self.purged.as_ref().is_none_or(|purged| index > purged.index()) {
            self.entries.push_back(Kept { entry, record, bytes });
        }
        Ok(())
    }

    /// Forgets the entries behind an index, all without one.
    fn truncate(&mut self, last: Option<u64>) {
        let behind = |kept: &Kept<C::Entry>| last.is_none_or(|last| kept.entry.index() > last);
        while self.entries.back().is_some_and(behind) {
            self.entries.pop_back();
        }
    }

    fn purge(&mut self, purged: LogIdOf<C>) {
        while self.entries.front().is_some_and(|first| first.entry.index() <= purged.index()) {
            self.entries.pop_front();
        }
        self.purged = Some(purged);
    }

    /// The entries of a range.
    fn range(&self, range: &impl RangeBounds<u64>) -> impl Iterator<Item = &Kept<C::Entry>> {
        let first = self.entries.front().map_or(0, |first| first.entry.index());
        let from = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let place = |index: u64| (index.saturating_sub(first) as usize).min(self.entries.len());
        let (from, to) = (place(from), place(to));
        self.entries.range(from..to.max(from))
    }

    fn push<T: Serialize + ?Sized>(&mut self, tag: u8, value: &T) -> io::Result<(u64, Pushed)> {
        Ok(self.pieces.push(&encode(tag, value)?))
    }
}

impl<C: RaftTypeConfig<Entry: Clone>> RaftLogReader<C> for LogStore<C> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<C::Entry>> {
        Ok(self.0.borrow().range(&range).map(|kept| kept.entry.clone()).collect())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<C::Entry>> {
        let state = self.0.borrow();
        let mut room = BATCH;
        let fits = |kept: &&Kept<C::Entry>| {
            let fits = room > 0;
            room = room.saturating_sub(kept.bytes);
            fits
        };
        Ok(state.range(&(start..end)).take_while(fits).map(|kept| kept.entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<C>>> {
        Ok(self.0.borrow().vote.clone())
    }
}

impl<C: RaftTypeConfig<Entry: Clone>> RaftLogStorage<C> for LogStore<C> {
    type LogReader = LogStore<C>;

    async fn get_log_state(&mut self) -> io::Result<LogState<C>> {
        let state = self.0.borrow();
        let last = state.entries.back().map(|last| last.entry.log_id());
        Ok(LogState {
            last_purged_log_id: state.purged.clone(),
            last_log_id: last.or_else(|| state.purged.clone()),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore<C> {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<C>) -> io::Result<()> {
        let pushed = {
            let mut state = self.0.borrow_mut();
            let (_, pushed) = state.push(VOTE, vote)?;
            state.vote = Some(vote.clone());
            pushed
        };
        pushed.durable().await
    }

    async fn save_committed(&mut self, committed: Option<LogIdOf<C>>) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        let message = encode(COMMITTED, &committed)?;
        // To know less of it than was so costs nothing: it is found out again.
        state.pieces.push_unsynced(&message);
        state.committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogIdOf<C>>> {
        Ok(self.0.borrow().committed.clone())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<C>) -> io::Result<()>
    where
        I: IntoIterator<Item = C::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (all, log) = {
            let state = &mut *self.0.borrow_mut();
            let mut all: Option<Pushed> = None;
            for entry in entries {
                let message = encode(ENTRY, &entry)?;
                // Looked at before it is written: what is written is read again.
                state.keep(entry, state.pieces.next(), message.len())?;
                let (_, pushed) = state.pieces.push(&message);
                match &mut all {
                    Some(all) => all.and(pushed),
                    None => all = Some(pushed),
                }
            }
            (all, state.pieces.log())
        };
        // openraft goes on: it asks for the entries, and sends them to others, while they are being written.
        demikernel::spawn(async move {
            let result = match all {
                Some(pushed) => pushed.durable().await,
                // What was appended before is to be told of before.
                None => log.sync().await,
            };
            callback.io_completed(result);
        })
        .detach();
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<C>>) -> io::Result<()> {
        let pushed = {
            let mut state = self.0.borrow_mut();
            let last = last.map(|last| last.index());
            let (_, pushed) = state.push(TRUNCATED, &last)?;
            state.truncate(last);
            pushed
        };
        pushed.durable().await
    }

    async fn purge(&mut self, purged: LogIdOf<C>) -> io::Result<()> {
        let (pushed, keep, log) = {
            let state = &mut *self.0.borrow_mut();
            let message = encode(PURGED, &(&purged, &state.vote, &state.committed))?;
            let (record, pushed) = state.pieces.push(&message);
            state.purge(purged);
            let first = state.entries.front().map_or(record, |first| first.record);
            (pushed, first.min(record), state.pieces.log())
        };
        pushed.durable().await?;
        log.truncate(keep).await
    }
}

impl<C: RaftTypeConfig> Clone for LogStore<C> {
    fn clone(&self) -> LogStore<C> {
        LogStore(self.0.clone())
    }
}

impl<C: RaftTypeConfig> fmt::Debug for LogStore<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.borrow();
        f.debug_struct("LogStore")
            .field("vote", &state.vote)
            .field("purged", &state.purged)
            .field("entries", &state.entries.len())
            .finish_non_exhaustive()
    }
}
