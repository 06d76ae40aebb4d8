//! `Log`: a log in the hands of a program.

use super::cursor::{Cursor, Next, Read, Record};
use super::engine::{Appended, Change, Sync};
use super::error::LogError;
use super::recovery::Range;
use super::store::{Store, Waiter};
use demikernel_runtime::buffer::{BufferMut, Sga};
use demikernel_runtime::{QToken, operation};
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// How many reads are under way ahead of one who reads in order.
const AHEAD: usize = 4;

/// A place in a log to go on reading from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seek {
    /// The record of this number, or the first one behind it that has not been truncated.
    Number(u64),
    /// The record that begins here ([`Appended::position`], [`Record::position`]).
    Position(u64),
    /// The first record.
    Head,
    /// Behind the last record.
    End,
}

/// A log: records are appended, and read in order.
///
/// Each handle has a place of its own from which [`pop`](Self::pop) reads on, at first the first record; a clone begins
/// where the original is. Any number of pushes may be under way; they are appended in the order in which they were
/// started.
///
/// ```
/// use demikernel_runtime::buffer::Buffer;
/// use demikernel_spdk_storage::{Geometry, Volume, log::{Seek, StoreOptions}, memory::Disk};
///
/// # demikernel_runtime::Runtime::new()?.block_on(async {
/// # let volume = Volume::attach(Disk::new(Geometry::new(512, 1 << 20)).device());
/// let store = StoreOptions::new().create(true).open(volume).await?;
/// let mut log = store.log("events").await?;
/// // Both in one write and one flush: when a token is done, its record is durable.
/// let tokens = [log.push(Buffer::from("first")), log.push(Buffer::from("second"))];
/// for token in tokens {
///     token.await?;
/// }
/// assert_eq!(log.pop().await?.data, b"first");
/// log.seek(Seek::Number(1))?;
/// assert_eq!(log.pop().await?.data, b"second");
/// log.truncate(1).await?;
/// assert_eq!((log.head(), log.end()), (1, 2));
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
pub struct Log {
    store: Store,
    place: usize,
    cursor: Cursor,
    reading: Option<Reading>,
    /// What will be wanted next if the reader goes on, in order.
    ahead: VecDeque<(Read, QToken<io::Result<BufferMut>>)>,
}

struct Reading {
    range: Range,
    token: QToken<io::Result<BufferMut>>,
    /// It was begun before it was wanted.
    ahead: bool,
}

impl Log {
    pub(super) fn new(store: Store, place: usize) -> Log {
        Log { store, place, cursor: Cursor::new(place), reading: None, ahead: VecDeque::new() }
    }

    /// Appends a record. When the token is done it is durable, with all before it.
    ///
    /// # Cancel safety
    /// The record is appended though the token is dropped.
    ///
    /// # Errors
    /// A [`LogError`]: the device is full, the record too long for this store. After an error of the device the store
    /// takes nothing more, and whether the records under way are there is known when it is opened anew.
    pub fn push(&self, data: impl Into<Sga>) -> QToken<io::Result<Appended>> {
        self.appended(data.into(), Sync::Durable)
    }

    /// Appends a record. When the token is done it has been written, and can be read; a loss of power takes it, and what
    /// comes behind it, until [`sync`](Self::sync) or another push is done.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_unsynced(&self, data: impl Into<Sga>) -> QToken<io::Result<Appended>> {
        self.appended(data.into(), Sync::Written)
    }

    fn appended(&self, data: Sga, sync: Sync) -> QToken<io::Result<Appended>> {
        let (token, done) = operation();
        self.append(data, sync, Waiter::Push(done));
        token
    }

    pub(super) fn append(&self, data: Sga, sync: Sync, waiter: Waiter) {
        let core = self.store.core();
        core.engine.borrow_mut().push(self.place, data, sync, waiter);
        core.wake();
    }

    pub(super) fn change(&self, change: impl FnOnce(usize) -> Change, waiter: Waiter) {
        self.store.core().change(change(self.place), waiter);
    }

    /// Makes durable everything that was pushed before.
    ///
    /// # Errors
    /// Those of the device.
    pub fn sync(&self) -> QToken<io::Result<()>> {
        let (token, done) = operation();
        let core = self.store.core();
        core.engine.borrow_mut().sync(self.place, Waiter::Done(done));
        core.wake();
        token
    }

    /// Gives up all records before this number, of those that are durable. The token is done when that is.
    ///
    /// What is freed are whole segments, so the last one stays.
    ///
    /// # Errors
    /// Those of the device.
    pub fn truncate(&self, number: u64) -> QToken<io::Result<()>> {
        let (token, done) = operation();
        self.change(|place| Change::Truncate(place, number), Waiter::Done(done));
        token
    }

    /// Reads on: the next record, for which it waits at the end of the log. Its data is a part of what was read from the
    /// device, without a copy.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// `InvalidData`, with a [`LogError::Damaged`] within, where records are damaged: the next call reads on behind them.
    /// Those of the device.
    pub async fn pop(&mut self) -> io::Result<Record> {
        poll_fn(|cx| match std::task::ready!(self.poll_next(cx)) {
            Some(result) => Poll::Ready(result),
            None => {
                if let Some(error) = self.store.core().engine.borrow().stopped() {
                    return Poll::Ready(Err(error.clone().into()));
                }
                self.store.core().add_reader(cx.waker());
                Poll::Pending
            }
        })
        .await
    }

    /// As [`pop`](Self::pop), but at the end of the log there is none.
    ///
    /// # Errors
    /// As [`pop`](Self::pop).
    pub async fn next(&mut self) -> io::Result<Option<Record>> {
        poll_fn(|cx| self.poll_next(cx)).await.transpose()
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Record>>> {
        loop {
            if let Some(reading) = &mut self.reading {
                let data = std::task::ready!(Pin::new(&mut reading.token).poll(cx));
                let Reading { range, ahead, .. } = *reading;
                self.reading = None;
                match data {
                    Ok(data) => self.cursor.supply(range, data.freeze()),
                    // What was begun too early, for lack of memory it may be, is begun once more.
                    Err(_) if ahead => self.ahead.clear(),
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
            }
            let next = self.cursor.next(&self.store.core().engine.borrow());
            match next {
                Next::Record(record) => return Poll::Ready(Some(Ok(record))),
                Next::Failed(error) => return Poll::Ready(Some(Err(error.into()))),
                Next::End => return Poll::Ready(None),
                Next::Read(range) => {
                    self.read(range);
                    self.read_ahead();
                }
            }
        }
    }

    fn read(&mut self, range: Range) {
        let wanted = self.cursor.wanted();
        let same = |(read, _): &(Read, _)| wanted.is_some_and(|wanted| read.is_same(wanted));
        let ahead = self.ahead.front().is_some_and(same);
        let begun = if ahead { self.ahead.pop_front() } else { None };
        if !ahead {
            self.ahead.clear();
        }
        let token = match begun {
            Some((_, token)) => token,
            None => self.store.core().volume.read(range.at, range.length),
        };
        self.reading = Some(Reading { range, token, ahead });
    }

    /// Who reads in order finds that reads have begun: the device is not to wait for the reader, nor he for it.
    fn read_ahead(&mut self) {
        if !self.cursor.is_sequential() {
            return;
        }
        while self.ahead.len() < AHEAD {
            let core = self.store.core();
            let last = self.ahead.back().map(|(read, _)| read).or(self.cursor.wanted());
            let next = last.and_then(|last| self.cursor.following(last, &core.engine.borrow()));
            let Some(next) = next else { return };
            let token = core.volume.read(next.range.at, next.range.length);
            self.ahead.push_back((next, token));
        }
    }

    /// Goes to another record.
    ///
    /// # Errors
    /// `InvalidInput`, with a [`LogError::NoRecord`] within, if that is a position of nothing; whether a record begins
    /// there, the next [`pop`](Self::pop) finds.
    pub fn seek(&mut self, to: Seek) -> io::Result<()> {
        self.reading = None;
        self.ahead.clear();
        let number = match to {
            Seek::Number(number) => number,
            Seek::Position(position) => {
                let engine = self.store.core().engine.borrow();
                return self.cursor.seek_position(position, &engine).map_err(io::Error::from);
            }
            Seek::Head => 0,
            Seek::End => self.end(),
        };
        self.cursor.seek_number(number);
        Ok(())
    }

    /// The number of the record that [`pop`](Self::pop) gives next; after a [seek](Self::seek) to a position that is
    /// known when it has been read.
    pub fn next_number(&self) -> u64 {
        self.cursor.number().max(self.head())
    }

    /// The number of the first record.
    pub fn head(&self) -> u64 {
        self.store.core().engine.borrow().logs[self.place].head
    }

    /// The number of the record that is acknowledged next.
    pub fn end(&self) -> u64 {
        self.store.core().engine.borrow().logs[self.place].readable
    }

    /// How many segments it has.
    pub fn segments(&self) -> usize {
        self.store.core().engine.borrow().logs[self.place].segments.len()
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.store.core().engine.borrow().logs[self.place].name.clone()
    }

    /// The store that it is in.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

impl Clone for Log {
    fn clone(&self) -> Log {
        Log {
            store: self.store.clone(),
            place: self.place,
            cursor: self.cursor.clone(),
            reading: None,
            ahead: VecDeque::new(),
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("name", &self.name())
            .field("records", &(self.head()..self.end()))
            .finish()
    }
}

/// What is within an error of a store or a log, if it is about what they hold.
///
/// ```
/// use demikernel_spdk_storage::log::{LogError, log_error};
///
/// let error = std::io::Error::from(LogError::Full);
/// assert_eq!(log_error(&error), Some(&LogError::Full));
/// ```
pub fn log_error(error: &io::Error) -> Option<&LogError> {
    let mut inner: &(dyn std::error::Error + 'static) = error.get_ref()?;
    loop {
        match inner.downcast_ref() {
            Some(found) => return Some(found),
            None => inner = inner.source()?,
        }
    }
}
