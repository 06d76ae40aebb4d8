//! What a runtime asks of its devices.
//!
//! [`Device`] is the common part: something that is polled for progress, can be waited for, and cancels
//! operations. [`Network`] adds sockets, [`Storage`] files. A runtime may have several of each; a socket
//! stays on the one it was made with. All calls come from the runtime's thread, so implementations are
//! single-threaded and use interior mutability; no call may block, except [`Parker::park`].
//!
//! Operations are started by giving the device a [`Completion`], which it keeps until it can complete it.
//! It may do so at once, inside of the call.

mod endpoint;
pub mod epoll;
pub(crate) mod kernel;
mod logs;
pub mod memory;
mod options;
pub mod readiness;
// Epoll leaves the state of a stream to the kernel.
#[cfg_attr(not(feature = "io-uring"), allow(dead_code))]
pub mod stream;
#[cfg(feature = "io-uring")]
pub mod uring;

pub use endpoint::{Domain, Endpoint, SocketKind};
pub use logs::{LogQueue, Logs};
pub use options::{OptionName, SocketOption};

use crate::buffer::{Buffer, BufferMut, Sga};
use crate::executor::{Completion, DeviceId};
use crate::inspect::{Connection, Latencies};
use crate::time::Instant;
use std::any::Any;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::RawFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// The number of a socket or a file within its device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Qd(pub u32);

/// When a device is polled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Tasks are ready to run: take what is there, and enter the kernel only if it is known to have
    /// something to do.
    Busy,
    /// Nothing is ready, and the runtime goes on polling: submit what is waiting.
    Idle,
    /// Nothing is ready, and if the poll brings nothing the runtime will block. A device that parks the
    /// runtime may leave submission to [`Parker::park`], which spares a system call.
    BeforeParking,
}

/// What a device that is not the parker needs while the runtime blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    /// Nothing is under way.
    None,
    /// The descriptor becomes readable when there is something to poll, once it is [armed](Device::arm).
    Descriptor(RawFd),
    /// It must be polled: the runtime does not block.
    Polling,
    /// It tells nobody when something comes: the runtime blocks for so long at most before it polls again.
    Pause(Duration),
    /// Something is under way, and the device itself will park the runtime.
    Parker,
}

/// Progress, cancellation and end of a device.
///
/// What a device can do beyond these traits is found by what it really is: an `Rc<dyn Network>` is an `Rc<dyn Any>`, too.
pub trait Device: Any {
    /// Its name, as it is chosen by: `"io_uring"`, `"dpdk"`, ...
    fn name(&self) -> &'static str;

    /// Called once, before anything else, with the identity to give to [`Completion::on_cancel`].
    fn attached(&self, id: DeviceId);

    /// Moves things along and completes what can be completed. Returns whether anything happened.
    fn poll(&self, turn: Turn) -> bool;

    /// What to wait for when the runtime blocks.
    fn interest(&self) -> Interest;

    /// Called when the runtime is about to block on the descriptor that [`interest`](Self::interest) gave: what becomes
    /// readable only on demand is armed here, and whoever brings something from now on wakes the thread. False if
    /// something may have come before: then the device is polled once more, and this called again.
    fn arm(&self) -> bool {
        true
    }

    /// When it must be polled though nothing has happened outside, such as a retransmission.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// The ability to block the thread, for a device that has it.
    fn parker(&self) -> Option<&dyn Parker> {
        None
    }

    /// The token of the operation that said [`Completion::on_cancel`] with this key has been dropped. Its
    /// completion [is cancelled](Completion::is_cancelled) now. The device gives it up as soon as nothing
    /// outside uses its memory any more.
    fn cancel(&self, key: u64);

    /// The token of an operation that said [`Completion::on_cancel`] with this key has been dropped although
    /// the operation was done, and this is the result that nobody took: of the type of its [`Completion`].
    /// The device gives data and connections to the next who asks, so that giving up loses nothing even
    /// when it comes a moment too late; everything else can be dropped.
    ///
    /// It is called before the next operation begins, or when the tasks of the present turn have run. `number`
    /// counts operations in the order in which they were started (and wraps around): what was given up together
    /// comes back in that order, while what is given up in a later turn may have an earlier number.
    fn give_back(&self, key: u64, number: u32, result: Box<dyn Any>);

    /// Ends: lets sends under way finish for at most `grace`, cancels everything else, and returns when no
    /// memory of the runtime is used by anything outside. Completions left are completed with an error.
    fn shutdown(&self, grace: Duration);

    /// Counters for people, as name and value.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// How long operations took, by kind, if that is measured.
    fn latencies(&self) -> Vec<Latencies> {
        Vec::new()
    }

    /// For people: what an operation does that said [`Completion::on_cancel`] with this key, such as `pop of socket 3`.
    fn describe(&self, key: u64) -> Option<String> {
        let _ = key;
        None
    }

    /// Its connections, and other sockets, with what is known of each: no more than `most`.
    fn connections(&self, most: usize) -> Vec<Connection> {
        let _ = most;
        Vec::new()
    }

    /// Whether [`capture`](Self::capture) is more than an error.
    fn can_capture(&self) -> bool {
        false
    }

    /// Writes what goes through the device to `output` in the pcapng format, in place of where it did before; with
    /// `None` no more.
    ///
    /// # Errors
    /// `Unsupported`; those of the output.
    fn capture(&self, output: Option<Box<dyn io::Write>>) -> io::Result<()> {
        let _ = output;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Blocks the thread until one of a set of descriptors is readable, or the device itself has something.
pub trait Parker {
    /// Has `fd` end [`park`](Self::park) whenever it is readable, from now on.
    ///
    /// # Errors
    /// Those of the kernel.
    fn watch(&self, fd: RawFd) -> io::Result<()>;

    /// Submits what is waiting, and blocks for at most `timeout` (for ever without).
    ///
    /// # Errors
    /// Those of the kernel; an interruption by a signal is not one.
    fn park(&self, timeout: Option<Duration>) -> io::Result<()>;
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Accepted {
    /// The new socket.
    pub qd: Qd,
    /// Where it came from.
    pub peer: Endpoint,
}

/// Sockets.
///
/// Stream sockets keep the order of pushes among themselves and of pops among themselves, however many are
/// under way. Data that arrives for a pop that was cancelled goes to the next one; so does a connection
/// that arrives for a cancelled accept.
pub trait Network: Device {
    /// Whether it has Unix sockets. If not, `net` makes those on the runtime's next device that has.
    fn has_unix(&self) -> bool {
        true
    }

    /// The addresses of a host that this network knows by name, or why it has none. `None` leaves names to the system.
    fn lookup(&self, host: &str) -> Option<io::Result<Vec<IpAddr>>> {
        let _ = host;
        None
    }

    /// Makes a socket.
    ///
    /// # Errors
    /// As socket(2), and `Unsupported` for what the device does not have.
    fn socket(&self, domain: Domain, kind: SocketKind) -> io::Result<Qd>;

    /// As bind(2).
    ///
    /// # Errors
    /// As bind(2).
    fn bind(&self, qd: Qd, local: &Endpoint) -> io::Result<()>;

    /// As listen(2).
    ///
    /// # Errors
    /// As listen(2).
    fn listen(&self, qd: Qd, backlog: u32) -> io::Result<()>;

    /// Takes the next connection of a listening socket.
    fn accept(&self, qd: Qd, done: Completion<io::Result<Accepted>>);

    /// As connect(2). For datagrams, sets the peer of `push` and `pop`.
    fn connect(&self, qd: Qd, peer: &Endpoint, done: Completion<io::Result<()>>);

    /// Sends all of `data` in order on a connected socket; for datagrams, as one. Done when the device (or
    /// the kernel) has taken it.
    fn push(&self, qd: Qd, data: Sga, done: Completion<io::Result<()>>);

    /// Receives from a connected socket what there is, at most `limit` bytes: an empty buffer is the end of
    /// a stream.
    fn pop(&self, qd: Qd, limit: usize, done: Completion<io::Result<Buffer>>);

    /// Sends one datagram.
    fn push_to(&self, qd: Qd, data: Sga, peer: SocketAddr, done: Completion<io::Result<()>>);

    /// Receives one datagram; what is longer than `limit` is cut.
    fn pop_from(&self, qd: Qd, limit: usize, done: Completion<io::Result<(Buffer, SocketAddr)>>);

    /// Ends one direction or both, as shutdown(2); pushes under way go first.
    ///
    /// # Errors
    /// As shutdown(2).
    fn shutdown_socket(&self, qd: Qd, how: Shutdown) -> io::Result<()>;

    /// Gives the socket up. Pushes under way go first, then it closes as close(2) does; operations still
    /// waiting end with an error. The number is not used again while something of it is under way.
    fn close(&self, qd: Qd);

    /// The socket's own address.
    ///
    /// # Errors
    /// As getsockname(2).
    fn local(&self, qd: Qd) -> io::Result<Endpoint>;

    /// The address of the socket's peer.
    ///
    /// # Errors
    /// As getpeername(2).
    fn peer(&self, qd: Qd) -> io::Result<Endpoint>;

    /// Sets an option.
    ///
    /// # Errors
    /// As setsockopt(2), and `Unsupported` for what the device does not have.
    fn set_option(&self, qd: Qd, option: SocketOption) -> io::Result<()>;

    /// Reads an option.
    ///
    /// # Errors
    /// As getsockopt(2), and `Unsupported` for what the device does not have.
    fn option(&self, qd: Qd, name: OptionName) -> io::Result<SocketOption>;
}

/// How a file is opened; the fields are those of [`std::fs::OpenOptions`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct OpenMode {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Every write goes to the end.
    pub append: bool,
    /// Cut to nothing when opened.
    pub truncate: bool,
    /// Made if it does not exist.
    pub create: bool,
    /// Made; refused if it exists.
    pub create_new: bool,
    /// Past the page cache (O_DIRECT): offsets, lengths and addresses must be multiples of the block size.
    pub direct: bool,
    /// Permissions of a file that is made, before the umask.
    pub mode: u32,
    /// More flags of open(2).
    pub custom_flags: i32,
}

/// Files.
pub trait Storage: Device {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode, done: Completion<io::Result<Qd>>);

    /// Reads into the spare capacity of `buffer` from `offset`; gives it back longer by what was read, by
    /// nothing at the end of the file.
    fn read_at(&self, qd: Qd, offset: u64, buffer: BufferMut, done: Completion<io::Result<BufferMut>>);

    /// Writes all of `data` at `offset`.
    fn write_at(&self, qd: Qd, offset: u64, data: Sga, done: Completion<io::Result<()>>);

    /// Makes what was written durable, as fsync(2), or fdatasync(2) if `data_only`.
    fn sync(&self, qd: Qd, data_only: bool, done: Completion<io::Result<()>>);

    /// Sets the length, as ftruncate(2).
    fn truncate(&self, qd: Qd, length: u64, done: Completion<io::Result<()>>);

    /// The length in bytes.
    ///
    /// # Errors
    /// As fstat(2).
    fn length(&self, qd: Qd) -> io::Result<u64>;

    /// Gives the file up, after what is under way.
    fn close_file(&self, qd: Qd);
}

/// A device, and what it can be used as.
#[derive(Clone)]
#[non_exhaustive]
pub struct Transport {
    /// The device itself.
    pub device: Rc<dyn Device>,
    /// Its sockets.
    pub network: Option<Rc<dyn Network>>,
    /// Its files.
    pub storage: Option<Rc<dyn Storage>>,
}

impl Transport {
    /// A device for sockets.
    pub fn network<N: Network>(device: Rc<N>) -> Transport {
        Transport { device: device.clone(), network: Some(device), storage: None }
    }

    /// A device for neither sockets nor files, such as a block device: it is polled, and its users have their own handle.
    pub fn device<D: Device>(device: Rc<D>) -> Transport {
        Transport { device, network: None, storage: None }
    }

    /// A device for files.
    pub fn storage<S: Storage>(device: Rc<S>) -> Transport {
        Transport { device: device.clone(), network: None, storage: Some(device) }
    }

    /// The same, not used for files.
    pub fn without_storage(self) -> Transport {
        Transport { storage: None, ..self }
    }

    /// The same, not used for sockets.
    pub fn without_network(self) -> Transport {
        Transport { network: None, ..self }
    }

    /// A device for both.
    pub fn both<D: Network + Storage>(device: Rc<D>) -> Transport {
        Transport { device: device.clone(), network: Some(device.clone()), storage: Some(device) }
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport")
            .field("name", &self.device.name())
            .field("network", &self.network.is_some())
            .field("storage", &self.storage.is_some())
            .finish()
    }
}
