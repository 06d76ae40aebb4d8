//! Messages of any length in a log whose records have a longest one.
//!
//! A message is one record, or several: each begins with a byte that says whether it is the first of its message, and
//! whether it is the last. One whose end is missing was never acknowledged, and one whose beginning is missing has been given up:
//! neither is read.

use demikernel::storage::{Appended, Log};
use demikernel::{Buffer, QToken};
use std::io;

const FIRST: u8 = 1;
const LAST: u8 = 2;

/// The most bytes of a record. Many records that are pushed together are one write all the same.
const LONGEST: usize = 256 << 10;

/// A log of messages, of which this is the only one that appends.
#[derive(Debug)]
pub(super) struct Pieces {
    log: Log,
    /// The number of the record that is pushed next.
    next: u64,
    longest: usize,
}

/// The durability of what was pushed.
pub(super) struct Pushed(Vec<QToken<io::Result<Appended>>>);

impl Pushed {
    /// Waits for it.
    pub(super) async fn durable(self) -> io::Result<()> {
        for token in self.0 {
            token.await?;
        }
        Ok(())
    }

    /// Takes in what was pushed behind it.
    pub(super) fn and(&mut self, more: Pushed) {
        self.0.extend(more.0);
    }
}

impl Pieces {
    pub(super) fn new(log: Log) -> Pieces {
        let longest = LONGEST.min(log.store().info().longest_record) - 1;
        Pieces { next: log.end(), longest, log }
    }

    /// Appends a message: the number of its first record, and its durability. Nothing of others comes in between.
    pub(super) fn push(&mut self, message: &[u8]) -> (u64, Pushed) {
        let (first, tokens) = self.append(message, |log, record| log.push(record));
        (first, Pushed(tokens))
    }

    /// Appends a message that may be lost with the power. It is before all that is pushed later.
    pub(super) fn push_unsynced(&mut self, message: &[u8]) {
        drop(self.append(message, |log, record| log.push_unsynced(record)));
    }

    fn append(
        &mut self,
        message: &[u8],
        push: impl Fn(&Log, Buffer) -> QToken<io::Result<Appended>>,
    ) -> (u64, Vec<QToken<io::Result<Appended>>>) {
        let first = self.next;
        let last = message.len().div_ceil(self.longest).saturating_sub(1);
        let tokens: Vec<_> = (0..=last)
            .map(|index| {
                let rest = &message[index * self.longest..];
                let piece = &rest[..rest.len().min(self.longest)];
                let flags = if index == 0 { FIRST } else { 0 } | if index == last { LAST } else { 0 };
                push(&self.log, Buffer::from([&[flags], piece].concat()))
            })
            .collect();
        self.next += tokens.len() as u64;
        (first, tokens)
    }

    /// The number of the record that is pushed next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// A handle on the log, to read it from another place or to wait for its durability.
    pub(super) fn log(&self) -> Log {
        self.log.clone()
    }
}

/// Reads on: the next whole message, and the number of its first record.
pub(super) async fn next(log: &mut Log) -> io::Result<Option<(u64, Vec<u8>)>> {
    let mut message = None;
    while let Some(record) = log.next().await? {
        let Some((flags, piece)) = record.data.split_first() else { continue };
        if flags & FIRST != 0 {
            message = Some((record.number, Vec::new()));
        }
        if let Some((_, bytes)) = &mut message {
            bytes.extend_from_slice(piece);
            if flags & LAST != 0 {
                return Ok(message);
            }
        }
    }
    Ok(None)
}

/// What is in the log is not what was written there.
pub(super) fn damaged(what: &str, error: postcard::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} in the log cannot be read: {error}"))
}
