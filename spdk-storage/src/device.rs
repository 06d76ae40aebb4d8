//! The trait of a block device as the runtime and its users see it.

use crate::Geometry;
use demikernel_runtime::Completion;
use demikernel_runtime::buffer::{BufferMut, Sga};
use demikernel_runtime::transport::Device;
use std::io;

/// A block device: something that the runtime polls, and that reads and writes blocks.
///
/// Each operation is started by giving the device a [`Completion`], as with the runtime's
/// [transports](demikernel_runtime::transport). Memory belongs to the operation until it is done, also if its token is
/// dropped: the operation then goes on, and its memory is freed when the device has finished with it.
///
/// More operations than the device takes at once wait their turn, in order. Operations that are under way together take
/// effect in any order: who needs one waits for the completion. What is wrong with a range is an error of kind
/// `InvalidInput` at once; memory that the device cannot reach as it lies is copied, and counted as bounced.
///
/// Who drives a device of another kind implements [`Driver`](crate::Driver), and has this from [`Queue`](crate::Queue).
/// Who uses one has a [`Volume`](crate::Volume).
pub trait BlockDevice: Device {
    /// What it is like.
    fn geometry(&self) -> Geometry;

    /// Reads `length` bytes from `at` into the room behind the bytes of `buffer`, which has so much, and gives it back
    /// longer by exactly that.
    fn read(&self, at: u64, length: usize, buffer: BufferMut, done: Completion<io::Result<BufferMut>>);

    /// Reads from `at` on what fills all the room in all of these, in order.
    fn read_vectored(&self, at: u64, buffers: Vec<BufferMut>, done: Completion<io::Result<Vec<BufferMut>>>);

    /// Writes all of a list of buffers at `at`. After an error, and after a loss of power until a flush is done, each
    /// block of it may have been written or not.
    fn write(&self, at: u64, data: Sga, done: Completion<io::Result<()>>);

    /// Writes likewise, so that this is durable when it is done, and nothing is said of other writes.
    ///
    /// `Unsupported` where the geometry does not say that it can.
    fn write_durable(&self, at: u64, data: Sga, done: Completion<io::Result<()>>);

    /// Makes all writes that were done before this call durable.
    fn flush(&self, done: Completion<io::Result<()>>);

    /// Tells that nobody needs what is there any more: it may read as anything.
    ///
    /// `Unsupported` where the device has no such thing.
    fn discard(&self, at: u64, length: u64, done: Completion<io::Result<()>>);

    /// Writes zeros.
    ///
    /// `Unsupported` where the device has no better way than to be given them.
    fn write_zeroes(&self, at: u64, length: u64, done: Completion<io::Result<()>>);
}
