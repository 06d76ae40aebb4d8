//! One connection without its socket: bytes that were received go in, replies come out.

use super::commands::{Client, Server, Session, execute};
use super::resp::{LARGE, Parser, Progress, ProtocolError, Replies};
use super::store::Store;
use demikernel::Buffer;
use demikernel::time::Instant;

/// Replies are pushed when so many bytes have come together, before further requests run.
const BATCH: usize = 64 * 1024;

/// Why `Connection::run` has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The replies are many: push them, then call again.
    More,
    /// All that was received has been used.
    Receive,
    /// Push the replies, then close.
    Close,
}

pub(crate) struct Connection {
    client: Client,
    parser: Parser,
    pub(crate) replies: Replies,
    /// What has been received and not used.
    received: Buffer,
    /// The beginning of a request of which `wanted` is missing. Requests that arrive whole
    /// never come here.
    partial: Vec<u8>,
    wanted: Progress,
}

impl Connection {
    /// A connection whose requests may not be longer than `limit` bytes.
    pub(crate) fn new(id: i64, limit: usize) -> Connection {
        Connection {
            client: Client { id, name: Vec::new(), closing: false },
            parser: Parser::new(limit),
            replies: Replies::new(),
            received: Buffer::new(),
            partial: Vec::new(),
            wanted: Progress::NeedsLine,
        }
    }

    /// Takes the next bytes of the stream; only after `run` has returned `Next::Receive`.
    pub(crate) fn receive(&mut self, buffer: Buffer) {
        debug_assert!(self.received.is_empty(), "run has not used up the last buffer");
        self.received = buffer;
    }

    /// Carries out the requests that are complete.
    pub(crate) fn run(&mut self, store: &mut Store, server: &mut Server, now: Instant) -> Next {
        loop {
            if self.client.closing {
                return Next::Close;
            }
            if self.received.is_empty() {
                return Next::Receive;
            }
            if self.replies.len() >= BATCH {
                return Next::More;
            }
            let step = match self.partial.is_empty() {
                true => self.run_in_place(store, server, now),
                false => self.run_partial(store, server, now),
            };
            if let Err(error) = step {
                self.replies.error(format_args!("ERR Protocol error: {error}"));
                self.client.closing = true;
            }
        }
    }

    /// Takes requests from where they were received, until one is incomplete.
    fn run_in_place(
        &mut self,
        store: &mut Store,
        server: &mut Server,
        now: Instant,
    ) -> Result<(), ProtocolError> {
        let Connection { client, parser, replies, received, .. } = self;
        let mut used = 0;
        let wanted = loop {
            let rest = &received[used..];
            if rest.is_empty() || client.closing || replies.len() >= BATCH {
                received.advance(used);
                return Ok(());
            }
            match parser.parse(rest)? {
                Progress::Request(len) => {
                    let mut session = Session { store, server, client, replies, now };
                    execute(&mut session, parser.request(rest, None));
                    used += len;
                }
                wanted => break wanted,
            }
        };
        received.advance(used);
        self.wanted = wanted;
        let count = self.received.len();
        let missing = if let Progress::NeedsBytes(missing) = wanted { missing } else { 0 };
        self.append(count, count + missing)
    }

    /// Completes the request that has begun, with no more of what was received than it needs.
    fn run_partial(
        &mut self,
        store: &mut Store,
        server: &mut Server,
        now: Instant,
    ) -> Result<(), ProtocolError> {
        let available = self.received.len();
        let missing = match self.wanted {
            Progress::NeedsBytes(count) => count,
            _ => self.received.iter().position(|&byte| byte == b'\n').map_or(available, |at| at + 1),
        };
        self.append(missing.min(available), missing)?;
        let Connection { client, parser, replies, partial, .. } = self;
        match parser.parse(partial)? {
            Progress::Request(len) => {
                debug_assert_eq!(len, partial.len(), "more was taken than the request needed");
                let mut session = Session { store, server, client, replies, now };
                if len < LARGE {
                    execute(&mut session, parser.request(partial, None));
                    partial.clear();
                } else {
                    let owner = Buffer::from(std::mem::take(partial));
                    execute(&mut session, parser.request(&owner, Some(&owner)));
                }
            }
            wanted => self.wanted = wanted,
        }
        Ok(())
    }

    /// Moves the next `count` received bytes to the incomplete request, which is known to lack
    /// `missing` bytes.
    ///
    /// The memory there grows to what the request needs, but not to more than twice of what has
    /// arrived, so that a client cannot have much memory by announcing a large argument.
    fn append(&mut self, count: usize, missing: usize) -> Result<(), ProtocolError> {
        let Connection { partial, received, .. } = self;
        let len = partial.len() + count;
        if len > partial.capacity() {
            let most = (2 * len).max(64 * 1024);
            let wanted = (partial.len() + missing).min(most).max(len);
            partial.try_reserve_exact(wanted - partial.len()).map_err(|_| ProtocolError::NoMemory)?;
        }
        partial.extend_from_slice(&received[..count]);
        received.advance(count);
        Ok(())
    }
}
