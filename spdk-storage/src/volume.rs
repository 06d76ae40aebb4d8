//! `Volume`: a block device in the hands of a program.

use crate::{BlockDevice, Geometry};
use demikernel_runtime::buffer::{BufferMut, Sga};
use demikernel_runtime::transport::{Device, Transport};
use demikernel_runtime::{QToken, attach, detach, operation};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// How long operations under way may take when the last handle is dropped.
const GRACE: Duration = Duration::from_secs(10);

/// A block device that the runtime of this thread polls: reads and writes of blocks, as queue tokens.
///
/// Clones are handles of the same device, which the runtime lets go of with the last one. Operations are started at once,
/// and go on when their token is dropped.
///
/// ```
/// use demikernel_runtime::buffer::Buffer;
/// use demikernel_spdk_storage::{Geometry, Volume, memory::Disk};
///
/// # demikernel_runtime::Runtime::new()?.block_on(async {
/// let volume = Volume::attach(Disk::new(Geometry::new(512, 1 << 20)).device());
/// volume.write(4096, Buffer::from(vec![7; 512])).await?;
/// volume.flush().await?;
/// assert_eq!(volume.read(4096, 512).await?, vec![7; 512]);
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct Volume {
    attached: Rc<Attached>,
}

struct Attached {
    device: Rc<dyn BlockDevice>,
}

impl Volume {
    /// Has the runtime of this thread poll the device.
    ///
    /// # Panics
    /// Outside of a runtime, and in one that has 254 devices.
    pub fn attach<B: BlockDevice>(device: Rc<B>) -> Volume {
        attach(Transport::device(device.clone()));
        Volume { attached: Rc::new(Attached { device }) }
    }

    /// What the device is like.
    pub fn geometry(&self) -> Geometry {
        self.attached.device.geometry()
    }

    /// The device's name: `"memory"`, `"io_uring"`, ...
    pub fn name(&self) -> &'static str {
        self.attached.device.name()
    }

    /// What the device has counted, as name and value.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.attached.device.counters()
    }

    /// Reads `length` bytes from `at`, into memory of the pool.
    ///
    /// # Errors
    /// `InvalidInput` if the range is not whole blocks within the device; `OutOfMemory` if the pool is exhausted; those
    /// of the device.
    #[inline]
    pub fn read(&self, at: u64, length: usize) -> QToken<io::Result<BufferMut>> {
        match BufferMut::with_capacity(length) {
            Ok(buffer) => self.read_into(at, length, buffer),
            Err(error) => QToken::ready(Err(error.into())),
        }
    }

    /// Reads `length` bytes from `at` into the room behind the bytes of `buffer`.
    ///
    /// # Errors
    /// As [`read`](Self::read), and `InvalidInput` if there is less room.
    #[inline]
    pub fn read_into(&self, at: u64, length: usize, buffer: BufferMut) -> QToken<io::Result<BufferMut>> {
        let (token, done) = operation();
        self.attached.device.read(at, length, buffer, done);
        token
    }

    /// Reads from `at` what fills all the room in all of these buffers, in order.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_vectored(&self, at: u64, buffers: Vec<BufferMut>) -> QToken<io::Result<Vec<BufferMut>>> {
        let (token, done) = operation();
        self.attached.device.read_vectored(at, buffers, done);
        token
    }

    /// Writes a buffer, or a list of them, at `at`.
    ///
    /// # Errors
    /// As [`read`](Self::read), and `ReadOnlyFilesystem`. Some blocks may have been written.
    #[inline]
    pub fn write(&self, at: u64, data: impl Into<Sga>) -> QToken<io::Result<()>> {
        let (token, done) = operation();
        self.attached.device.write(at, data.into(), done);
        token
    }

    /// Writes likewise, and makes that durable, though not what was written before, where the device
    /// [can](Geometry::durable_writes) do so. It is faster than a write and a flush on most drives.
    ///
    /// # Errors
    /// As [`write`](Self::write), and `Unsupported`.
    pub fn write_durable(&self, at: u64, data: impl Into<Sga>) -> QToken<io::Result<()>> {
        let (token, done) = operation();
        self.attached.device.write_durable(at, data.into(), done);
        token
    }

    /// Makes durable what was written and done before.
    ///
    /// # Errors
    /// Those of the device. What was written since the last flush may be lost then, whatever later ones say.
    pub fn flush(&self) -> QToken<io::Result<()>> {
        let (token, done) = operation();
        self.attached.device.flush(done);
        token
    }

    /// Tells that nobody needs a range any more: it may read as anything.
    ///
    /// # Errors
    /// As [`write`](Self::write), and `Unsupported`.
    pub fn discard(&self, at: u64, length: u64) -> QToken<io::Result<()>> {
        let (token, done) = operation();
        self.attached.device.discard(at, length, done);
        token
    }

    /// Writes zeros.
    ///
    /// # Errors
    /// As [`write`](Self::write), and `Unsupported`.
    pub fn write_zeroes(&self, at: u64, length: u64) -> QToken<io::Result<()>> {
        let (token, done) = operation();
        self.attached.device.write_zeroes(at, length, done);
        token
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let device: Rc<dyn Device> = self.device.clone();
        device.shutdown(GRACE);
        detach(&device);
    }
}

impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Volume").field("device", &self.name()).field("geometry", &self.geometry()).finish()
    }
}
