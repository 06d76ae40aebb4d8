//! Everything of a device.

use super::address::Ports;
use super::config::MemoryConfig;
use super::datagram::Flying;
use super::effect::Effect;
use super::errors::{code, ended};
use super::files::{File, Files, Job};
use super::schedule::Schedule;
use super::socket::{Connecting, Connection, Role, Socket, Stream};
use super::trace::Trace;
use super::waiting::{CancelKey, Queue};
use crate::executor::{Completion, DeviceId};
use crate::random::Random;
use crate::time::Instant;
use crate::transport::Qd;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// Sockets, files, and what is under way between them. It reads no clock and completes nothing: it is told
/// the time, and leaves in `effects` what is to be done.
pub(super) struct State {
    pub(super) config: MemoryConfig,
    pub(super) now: Instant,
    pub(super) effects: Vec<Effect>,
    pub(super) id: Option<DeviceId>,
    pub(super) ended: bool,
    /// Numbers are never used again, so a stale one is an error and never another socket.
    pub(super) entries: BTreeMap<Qd, Entry>,
    next_qd: u32,
    pub(super) streams: Ports,
    pub(super) datagrams: Ports,
    /// Names of Unix sockets, also those that nobody has any more.
    pub(super) names: BTreeMap<PathBuf, Option<Qd>>,
    /// Addresses that do not reach each other.
    pub(super) cuts: Vec<(IpAddr, IpAddr)>,
    pub(super) files: Files,
    pub(super) random: Random,
    pub(super) schedule: Schedule<Event>,
    next_number: u64,
    pub(super) trace: Trace,
    pub(super) count: Counters,
}

#[expect(clippy::large_enum_variant, reason = "nearly all are sockets")]
pub(super) enum Entry {
    Socket(Socket),
    File(File),
}

/// Something that happens at a certain time.
pub(super) enum Event {
    /// An attempt to connect arrives at the address that it is for.
    Attempt {
        client: Qd,
        connection: Connection,
    },
    /// The answer to an attempt, if that has failed.
    Refusal {
        client: Qd,
        connection: Connection,
        error: i32,
    },
    /// What a stream socket sent first arrives at its peer.
    Arrival {
        sender: Qd,
    },
    /// The peer of a stream hears that the receiver has room.
    Room {
        receiver: Qd,
        peer: Qd,
        connection: Connection,
    },
    /// A socket hears that its peer does not know the connection.
    Reset {
        to: Qd,
        connection: Connection,
    },
    /// The time to wait for an answer is over, unless one came.
    GivingUp {
        qd: Qd,
        number: u64,
    },
    Datagram(Box<Flying>),
    File(Box<Job>),
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) events: u64,
    pub(super) connections: u64,
    pub(super) refused: u64,
    pub(super) resets: u64,
    pub(super) timeouts: u64,
    pub(super) pieces: u64,
    pub(super) bytes: u64,
    pub(super) datagrams: u64,
    pub(super) datagrams_lost: u64,
    pub(super) datagrams_without_room: u64,
    pub(super) datagrams_to_nobody: u64,
    pub(super) file_operations: u64,
    pub(super) file_errors: u64,
}

/// Writes down what has happened, if anybody wants to know.
macro_rules! note {
    ($state:expr, $($what:tt)+) => {
        $state.note(format_args!($($what)+))
    };
}
pub(super) use note;

impl State {
    pub(super) fn new(config: MemoryConfig) -> State {
        let seed = config.seed;
        State {
            config,
            now: Instant::from_nanos(0),
            effects: Vec::new(),
            id: None,
            ended: false,
            entries: BTreeMap::new(),
            next_qd: 0,
            streams: Ports::new(false, seed),
            datagrams: Ports::new(true, seed),
            names: BTreeMap::new(),
            cuts: Vec::new(),
            files: Files::new(Random::new(seed, 2)),
            random: Random::new(seed, 1),
            schedule: Schedule::new(),
            next_number: 0,
            trace: Trace::default(),
            count: Counters::default(),
        }
    }

    pub(super) fn note(&mut self, what: fmt::Arguments<'_>) {
        tracing::trace!("{what}");
        if self.config.trace {
            self.trace.add(self.now, what);
        }
    }

    /// Lets the next event happen, if its time has come.
    pub(super) fn step(&mut self) -> bool {
        let Some(event) = self.schedule.due(self.now) else { return false };
        self.count.events += 1;
        match event {
            Event::Attempt { client, connection } => self.attempt_arrives(client, connection),
            Event::Refusal { client, connection, error } => self.refusal_arrives(client, connection, error),
            Event::Arrival { sender } => self.item_arrives(sender),
            Event::Room { receiver, peer, connection } => self.room_is_told(receiver, peer, connection),
            Event::Reset { to, connection } => self.reset_arrives(to, connection),
            Event::GivingUp { qd, number } => self.give_up(qd, number),
            Event::Datagram(flying) => self.datagram_arrives(*flying),
            Event::File(job) => self.finish_job(*job),
        }
        true
    }

    /// When something arrives that leaves now.
    pub(super) fn arrival(&mut self) -> Instant {
        self.now + self.config.latency + self.random.up_to(self.config.jitter)
    }

    /// Has an event happen on the other side.
    pub(super) fn send_event(&mut self, event: Event) {
        let at = self.arrival();
        self.schedule.add(at, event);
    }

    /// Gives a connection some time for an answer. Returns the number of the event that then gives it up.
    pub(super) fn limit_waiting(&mut self, qd: Qd) -> u64 {
        let number = self.number();
        self.schedule.add(self.now + self.config.timeout, Event::GivingUp { qd, number });
        number
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub(super) fn new_connection(&mut self) -> Connection {
        Connection(self.number())
    }

    pub(super) fn done(&mut self, done: Completion<io::Result<()>>, result: io::Result<()>) {
        self.effects.push(Effect::Done(done, result));
    }
}

/// The table.
impl State {
    pub(super) fn insert(&mut self, entry: Entry) -> io::Result<Qd> {
        if self.ended {
            return Err(ended());
        }
        let qd = Qd(self.next_qd);
        self.next_qd = self.next_qd.checked_add(1).ok_or_else(|| code(libc::EMFILE))?;
        self.entries.insert(qd, entry);
        Ok(qd)
    }

    /// Why there is no socket or file of a number.
    pub(super) fn nothing(&self) -> io::Error {
        if self.ended { ended() } else { code(libc::EBADF) }
    }

    /// A socket that the program has not closed.
    pub(super) fn socket(&mut self, qd: Qd) -> io::Result<&mut Socket> {
        let error = self.nothing();
        match self.entries.get_mut(&qd) {
            Some(Entry::Socket(socket)) if !socket.closing => Ok(socket),
            _ => Err(error),
        }
    }

    /// A socket, which may be closing.
    pub(super) fn any_socket(&mut self, qd: Qd) -> Option<&mut Socket> {
        match self.entries.get_mut(&qd) {
            Some(Entry::Socket(socket)) => Some(socket),
            _ => None,
        }
    }

    /// One end of a connection, which may be closing.
    pub(super) fn stream(&mut self, qd: Qd) -> Option<&mut Stream> {
        match self.any_socket(qd) {
            Some(Socket { role: Role::Connected(stream), .. }) => Some(stream),
            _ => None,
        }
    }

    /// One end of a certain connection.
    pub(super) fn stream_of(&mut self, qd: Qd, connection: Connection) -> Option<&mut Stream> {
        self.stream(qd).filter(|stream| stream.connection == connection)
    }

    /// A socket that is making a certain connection.
    pub(super) fn connecting(&mut self, qd: Qd, connection: Connection) -> Option<&mut Connecting> {
        match self.any_socket(qd) {
            Some(Socket { role: Role::Connecting(connecting), .. })
                if connecting.connection == connection =>
            {
                Some(connecting)
            }
            _ => None,
        }
    }

    /// Has the device called when the token of an operation that is about to wait is dropped.
    pub(super) fn watch<T>(&self, done: &Completion<T>, qd: Qd, queue: Queue, number: u32) {
        if let Some(id) = self.id {
            done.on_cancel(id, CancelKey { qd, queue, number }.into());
        }
    }

    /// The token of a waiting operation was dropped.
    pub(super) fn cancel(&mut self, key: CancelKey) {
        let Some(socket) = self.any_socket(key.qd) else { return };
        // Completions of dropped tokens may be dropped anywhere.
        match (&mut socket.role, key.queue) {
            (Role::Listener(listener), Queue::Receives) => drop(listener.accepts.remove(key.number)),
            (Role::Connected(stream), Queue::Receives) => drop(stream.pops.remove(key.number)),
            (Role::Datagram(datagram), Queue::Receives) => drop(datagram.pops.remove(key.number)),
            (Role::Connected(_), Queue::Sends) => self.cancel_push(key.qd, key.number),
            (Role::Datagram(datagram), Queue::Sends) => {
                if let Some(send) = datagram.sends.remove(key.number) {
                    self.effects.push(Effect::Drop(send.data));
                }
            }
            (Role::Connecting(connecting), Queue::Connect) if connecting.done.is_cancelled() => {
                socket.role = Role::New;
            }
            _ => {}
        }
    }

    /// Operations that wait.
    pub(super) fn waiting(&self) -> usize {
        let waiting = |entry: &Entry| match entry {
            Entry::Socket(Socket { role, .. }) => match role {
                Role::New => 0,
                Role::Listener(listener) => listener.accepts.len(),
                Role::Connecting(_) => 1,
                Role::Connected(stream) => stream.pops.len() + usize::from(!stream.outbound.is_empty()),
                Role::Datagram(datagram) => datagram.pops.len() + datagram.sends.len(),
            },
            Entry::File(_) => 0,
        };
        self.entries.values().map(waiting).sum()
    }
}
