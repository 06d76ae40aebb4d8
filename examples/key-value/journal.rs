//! The log of all writes.
//!
//! A batch of changes is one record, or several if one is too small for it; each begins with a byte that says whether it
//! is the first and whether it is the last of its batch. When the log has grown, the whole store is written into it once
//! more, as changes like others, and what was before is truncated: so replaying from the beginning of the log is right at
//! any moment.

use super::changes::Changes;
use super::server::{Shared, State};
use super::store::Store;
use demikernel::storage::{self, Log};
use demikernel::time::Instant;
use demikernel::{Buffer, Completion, QToken, operation, spawn, wait_all};
use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;

const FIRST: u8 = 1;
const LAST: u8 = 2;

/// The name of the log in a store of its own.
const NAME: &str = "key-value";

/// The most bytes of a record: what many clients write together is one batch of the log all the same.
const RECORD: usize = 256 * 1024;

pub(crate) struct Journal {
    log: Log,
    /// Commits that are not durable yet.
    under_way: Cell<usize>,
    /// The store is written once more when the log has so many segments.
    limit: Cell<usize>,
    writing_all: Cell<bool>,
    failure: RefCell<Option<Completion<io::Error>>>,
    failed: RefCell<Option<QToken<io::Error>>>,
}

impl Journal {
    /// Opens the log, and brings the store to what it says.
    pub(crate) async fn open(path: &Path, bytes: u64, store: &mut Store) -> io::Result<Rc<Journal>> {
        let mut log = match name(path) {
            Some(name) => storage::log(name).await.map_err(|error| {
                let text = format!("--log {name}: {error} (a file of this name is ./{name})");
                io::Error::new(error.kind(), text)
            })?,
            None => storage::open(path, bytes).await?.log(NAME).await?,
        };
        replay(&mut log, store).await?;
        store.note_changes();
        let (failed, failure) = operation();
        let journal = Journal {
            limit: Cell::new(room(&log) / 2),
            log,
            under_way: Cell::new(0),
            writing_all: Cell::new(false),
            failure: RefCell::new(Some(failure)),
            failed: RefCell::new(Some(failed)),
        };
        Ok(Rc::new(journal))
    }

    /// Waits until these changes, and all before them, are durable.
    pub(crate) async fn commit(self: Rc<Journal>, changes: Changes, shared: &Shared) -> io::Result<()> {
        if changes.0.is_empty() && self.under_way.get() == 0 {
            return Ok(());
        }
        self.under_way.set(self.under_way.get() + 1);
        let result = match changes.0.is_empty() {
            true => self.log.sync().await,
            false => self.append(&changes).await.map(drop),
        };
        self.under_way.set(self.under_way.get() - 1);
        if self.log.segments() > self.limit.get() && !self.writing_all.replace(true) {
            spawn(self.clone().write_all(shared.clone())).detach();
        }
        result.map_err(|error| self.fail(error))
    }

    /// Appends changes; the number of the first record.
    async fn append(&self, changes: &Changes) -> io::Result<u64> {
        let most = RECORD.min(self.log.store().info().longest_record) - 1;
        let pieces = changes.0.chunks(most).enumerate();
        let last = changes.0.len().div_ceil(most).saturating_sub(1);
        // All are pushed before anything is waited for, so nobody else's come between them.
        let mut tokens: Vec<_> = pieces
            .map(|(index, piece)| {
                let flags = if index == 0 { FIRST } else { 0 } | if index == last { LAST } else { 0 };
                self.log.push(Buffer::from([&[flags], piece].concat()))
            })
            .collect();
        let appended = wait_all(&mut tokens).await.into_iter().collect::<io::Result<Vec<_>>>()?;
        Ok(appended.first().map_or(0, |first| first.number))
    }

    /// Writes the whole store once more, and gives up what is before that.
    async fn write_all(self: Rc<Journal>, shared: Shared) {
        let mut all = {
            let State { store, .. } = &*shared.borrow();
            store.snapshot(Instant::now())
        };
        if all.0.is_empty() {
            all.clear();
        }
        let result = async {
            let first = self.append(&all).await?;
            self.log.truncate(first).await
        };
        let result = result.await;
        let segments = room(&self.log);
        // If the store itself needs as much, it is written anew when a quarter of the log has been used since.
        self.limit.set((segments / 2).max(self.log.segments() + segments / 4));
        self.writing_all.set(false);
        match result {
            Ok(()) => {
                tracing::debug!(segments = self.log.segments(), "the log begins with the whole store")
            }
            Err(error) => drop(self.fail(error)),
        }
    }

    /// The log can take nothing more: the server ends.
    fn fail(&self, error: io::Error) -> io::Error {
        let again = io::Error::new(error.kind(), error.to_string());
        if let Some(failure) = self.failure.take() {
            failure.complete(io::Error::new(error.kind(), format!("log: {error}")));
        }
        again
    }

    /// Why the log can take nothing more.
    pub(crate) async fn failed(&self) -> io::Error {
        let failed = self.failed.take();
        match failed {
            Some(failed) => failed.await,
            None => std::future::pending().await,
        }
    }

    pub(crate) async fn close(&self) -> io::Result<()> {
        self.log.store().close().await
    }
}

/// The name of a log on the storage that is configured; nothing if it is a path, or a device.
fn name(path: &Path) -> Option<&str> {
    path.to_str().filter(|text| !text.contains(['/', '.', ':']))
}

/// How many segments the log could have: other logs may share its device.
fn room(log: &Log) -> usize {
    log.segments() + log.store().info().free_segments
}

/// Makes all changes in the log. What lacks its end was never acknowledged.
async fn replay(log: &mut Log, store: &mut Store) -> io::Result<()> {
    let (mut batch, mut batches) = (Changes::default(), 0u64);
    while let Some(record) = log.next().await? {
        let Some((flags, piece)) = record.data.split_first() else { continue };
        if flags & FIRST != 0 {
            batch.0.clear();
        }
        batch.0.extend_from_slice(piece);
        if flags & LAST != 0 {
            batches += 1;
            batch.apply(store, Instant::now()).ok_or_else(|| {
                let text = format!("record {} of the log is not a key-value server's", record.number);
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?;
        }
    }
    tracing::info!(batches, keys = store.len(), "replayed");
    Ok(())
}
