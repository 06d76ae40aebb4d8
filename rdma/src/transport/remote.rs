//! One-sided operations on streams.

use super::engine::Engine;
use super::{RdmaTransport, errors};
use crate::link::{Id, Notice};
use crate::onesided::{Finished, Job, Pending, What};
use crate::verbs::{Access, MemoryRegion, RemoteMemory};
use demikernel_runtime::buffer::{Buffer, BufferMut, Sga};
use demikernel_runtime::net::TcpStream;
use demikernel_runtime::transport::Qd;
use demikernel_runtime::{Completion, QToken, operation};
use std::any::Any;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::rc::Rc;

/// The memory of a stream's peer, and of this side for the peer: one-sided operations as queue tokens.
///
/// A peer can do nothing with memory of this side before something is [exported](Remote::export) to it on its stream. What
/// it can do then it can with each window of this runtime whose key it knows, as far as the window lets others: windows are
/// for peers that may know of each other's.
///
/// Operations are begun in their order, after what was pushed before them; [`write`](Remote::write) is done when the bytes
/// are in the peer's memory. They go on while their tokens are dropped, which keep the buffers until then, but what waits
/// for room is not begun any more. All end with the stream: wait for them before it is dropped.
///
/// An operation that the peer's device refuses fails with [`PermissionDenied`](io::ErrorKind::PermissionDenied), whatever is
/// behind it, and ends the connection, as RDMA has it; [`WorkError`](crate::verbs::WorkError) says what the device said.
/// The peer finds its stream reset, and its other connections as they were.
///
/// ```
/// use demikernel_rdma::{Access, Remote, RemoteMemory, verbs::double};
/// use demikernel_rdma::transport::{RdmaConfig, RdmaTransport};
/// use demikernel_runtime::buffer::{Buffer, BufferMut};
/// use demikernel_runtime::net::{TcpListener, TcpStream};
///
/// # let runtime = demikernel_runtime::Runtime::new()?;
/// # let (device, manager) = (double::device()?, double::event_channel()?);
/// # let transport = RdmaTransport::with_device(device, manager, &RdmaConfig::default())?;
/// # runtime.attach(transport.transport());
/// # runtime.block_on(async {
/// # let listener = TcpListener::bind((double::ADDRESS, 0)).await?;
/// # let client = TcpStream::connect(listener.local_addr()?).await?;
/// # let (server, _) = listener.accept().await?;
/// // One side exports memory, and says where it is.
/// let mut memory = BufferMut::with_capacity(4096)?;
/// memory.resize(4096, 0);
/// let window = Remote::of(&server)?.export(memory, Access::READ | Access::WRITE | Access::ATOMIC)?;
/// server.push(Buffer::copy_from_slice(&window.describe().to_bytes())?).await?;
///
/// // The other one uses it, of which the first hears nothing, unless it is told.
/// let told = client.pop().await?;
/// let memory = RemoteMemory::from_bytes(told.first_chunk().unwrap());
/// let remote = Remote::of(&client)?;
/// remote.write(memory, 8, Buffer::copy_from_slice(b"one-sided")?.into()).await?;
/// assert_eq!(remote.read(memory, 8, 9).await?, b"one-sided");
/// assert_eq!(remote.fetch_add(memory, 128, 5).await?, 0);
/// assert_eq!(remote.compare_swap(memory, 128, 5, 6).await?, 5);
/// remote.write_imm(memory, 0, Buffer::copy_from_slice(b"done")?.into(), 42).await?;
///
/// let notice = Remote::of(&server)?.notice().await?.expect("the stream has not ended");
/// assert_eq!((notice.immediate, notice.len), (42, 4));
/// assert_eq!(window.load(128), 6);
/// let memory = window.revoke()?; // nobody else can use it from now on
/// assert_eq!(&memory[8..17], b"one-sided");
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
pub struct Remote<'a> {
    transport: Rc<RdmaTransport>,
    qd: Qd,
    /// The number is the stream's as long as that is not closed.
    stream: PhantomData<&'a TcpStream>,
}

impl<'a> Remote<'a> {
    /// Of a stream.
    ///
    /// # Errors
    /// `Unsupported` if the stream is on another transport.
    pub fn of(stream: &'a TcpStream) -> io::Result<Remote<'a>> {
        let network: Rc<dyn Any> = stream.network().clone();
        match network.downcast::<RdmaTransport>() {
            Ok(transport) => Ok(Remote { transport, qd: stream.qd(), stream: PhantomData }),
            Err(_) => Err(errors::unsupported(&format!(
                "one-sided operations are on streams of the transport rdma, and this one is on {}",
                stream.network().name()
            ))),
        }
    }

    /// Exports all of a buffer's bytes to the peer, until the window is [revoked](MemoryRegion::revoke) or dropped. The
    /// peer is told of it by [`describe`](MemoryRegion::describe), in whatever way.
    ///
    /// # Errors
    /// As [`grant`](Remote::grant); if the buffer is empty, the process may not lock as much memory, or the device has no
    /// atomic operations.
    pub fn export(&self, memory: BufferMut, access: Access) -> io::Result<MemoryRegion> {
        self.on_connection(|engine, id| {
            let window = MemoryRegion::new(engine.domain(), memory, access)?;
            engine.grant(id, access)?;
            Ok(window)
        })
    }

    /// Lets this peer, too, do this with windows that were exported to others.
    ///
    /// # Errors
    /// `NotConnected` if there is no connection, or none any more; `InvalidInput` if the peer is to read or count and
    /// `read-depth` under `[rdma]` is 0, of either side.
    pub fn grant(&self, access: Access) -> io::Result<()> {
        self.on_connection(|engine, id| engine.grant(id, access))
    }

    /// Reads bytes of the peer's memory.
    ///
    /// # Errors
    /// As all of these: `InvalidInput` if it is out of bounds, `PermissionDenied` if the peer does not let it be,
    /// `NotConnected` if there is no connection, and what has ended it. `Unsupported` if the peer answers no reads.
    pub fn read(&self, from: RemoteMemory, offset: u64, len: usize) -> QToken<io::Result<Buffer>> {
        let (token, done) = operation();
        match Job::read(from, offset, len) {
            Ok(job) => self.start(job, done),
            Err(error) => done.complete(Err(error)),
        }
        token
    }

    /// Writes to the peer's memory. When it is done, the bytes are there.
    ///
    /// # Errors
    /// As [`read`](Remote::read).
    pub fn write(&self, to: RemoteMemory, offset: u64, data: Sga) -> QToken<io::Result<()>> {
        let (token, done) = operation();
        self.start_write(Job::write(to, offset, data, None), done);
        token
    }

    /// Writes to the peer's memory, and then tells the peer's [`notice`](Remote::notice) a number. It waits while the peer
    /// has not taken what it was told and sent before, as a push does.
    ///
    /// # Errors
    /// As [`read`](Remote::read); `BrokenPipe` after the sending direction has ended; `Unsupported` if the peer is of a
    /// version that takes no numbers.
    pub fn write_imm(
        &self,
        to: RemoteMemory,
        offset: u64,
        data: Sga,
        immediate: u32,
    ) -> QToken<io::Result<()>> {
        let (token, done) = operation();
        self.start_write(Job::write(to, offset, data, Some(immediate)), done);
        token
    }

    /// Adds to a number of 8 bytes in the peer's memory, at a multiple of 8, and gives what it was before.
    ///
    /// # Errors
    /// As [`read`](Remote::read).
    pub fn fetch_add(&self, at: RemoteMemory, offset: u64, add: u64) -> QToken<io::Result<u64>> {
        let (token, done) = operation();
        self.start(Job { at, offset, what: What::FetchAdd(add) }, done);
        token
    }

    /// Replaces a number of 8 bytes in the peer's memory, at a multiple of 8, if it is as expected, and gives what it was
    /// before.
    ///
    /// # Errors
    /// As [`read`](Remote::read).
    pub fn compare_swap(
        &self,
        at: RemoteMemory,
        offset: u64,
        expected: u64,
        new: u64,
    ) -> QToken<io::Result<u64>> {
        let (token, done) = operation();
        self.start(Job { at, offset, what: What::CompareSwap(expected, new) }, done);
        token
    }

    /// The next number that the peer tells by [`write_imm`](Remote::write_imm): what it has written before is there. None
    /// if it has ended its direction of the stream.
    ///
    /// Numbers that nobody takes keep the peer from sending, as data do that nobody pops.
    ///
    /// # Cancel safety
    /// Dropping the token loses nothing: what arrives for it, or has arrived, goes to the next one.
    ///
    /// # Errors
    /// What has ended the connection.
    pub fn notice(&self) -> QToken<io::Result<Option<Notice>>> {
        let (token, done) = operation();
        self.transport.start_notice(self.qd, done);
        token
    }

    /// One that may be of bytes that the device does not reach, which are copied.
    fn start_write(&self, mut job: Job, done: Completion<io::Result<()>>) {
        if let What::Write(data, _) = &mut job.what
            && let Err(error) = self.transport.call(|engine| engine.make_reachable(data))
        {
            return done.complete(Err(error));
        }
        self.start(job, done);
    }

    fn start<T: 'static>(&self, job: Job, done: Completion<io::Result<T>>)
    where
        Pending: From<Completion<io::Result<T>>>,
    {
        let id = self.transport.socket_of(self.qd).and_then(|socket| socket.stream());
        let finished = match (id, self.transport.engine.try_borrow_mut()) {
            (Ok(id), Ok(mut engine)) => engine.start_one_sided(id, job, done.into()),
            (Err(error), _) => Some(Finished::failed(done.into(), error)),
            (_, Err(_)) => Some(Finished::failed(done.into(), errors::busy())),
        };
        if let Some(finished) = finished {
            finished.tell();
        }
    }

    fn on_connection<T>(&self, call: impl FnOnce(&mut Engine, Id) -> io::Result<T>) -> io::Result<T> {
        let id = self.transport.socket_of(self.qd)?.stream()?;
        self.transport.call(|engine| {
            // Why it has ended, if it has.
            engine.link.connected(id)?;
            call(engine, id)
        })
    }
}

impl fmt::Debug for Remote<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("qd", &self.qd.0).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
