//! Completion channels: descriptors that become readable when completions arrive.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::rc::Rc;

use super::device::Device;
use super::error::last;
use super::events::{nothing_yet, unblock};
use super::raw::*;

/// A descriptor for the notifications of completion queues. A clone is the same.
///
/// ```
/// use demikernel_rdma::verbs::{CompletionChannel, CompletionQueue, double};
///
/// let device = double::device()?;
/// let channel = CompletionChannel::new(&device)?;
/// let completions = CompletionQueue::new(&device, 64, Some(&channel))?;
/// completions.arm(false)?; // whatever completes from here on makes the channel readable
/// assert_eq!(channel.drain()?, 0);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct CompletionChannel(Rc<Inner>);

struct Inner {
    channel: NonNull<ibv_comp_channel>,
    device: Device,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: the queues that it was for hold it, so there are none.
        unsafe { (self.device.provider().destroy_comp_channel)(self.channel.as_ptr()) };
    }
}

impl CompletionChannel {
    /// A channel of a device.
    ///
    /// # Errors
    /// If the process may have no more descriptors.
    pub fn new(device: &Device) -> io::Result<CompletionChannel> {
        // SAFETY: the context is open.
        let channel = NonNull::new(unsafe { (device.provider().create_comp_channel)(device.context()) });
        let channel = channel.ok_or_else(|| last("make a completion channel"))?;
        let this = CompletionChannel(Rc::new(Inner { channel, device: device.clone() }));
        // SAFETY: it is there until `this` is dropped.
        unblock(unsafe { channel.as_ref() }.fd)?;
        Ok(this)
    }

    /// Takes the notifications that have come, and says how many. Their queues send no other until they are
    /// [armed](super::CompletionQueue::arm).
    ///
    /// # Errors
    /// If the device is gone.
    pub fn drain(&self) -> io::Result<usize> {
        let mut count = 0;
        loop {
            let (mut queue, mut context) = (ptr::null_mut(), ptr::null_mut());
            let provider = self.0.device.provider();
            // SAFETY: the channel is there, and does not block.
            if unsafe { (provider.get_cq_event)(self.0.channel.as_ptr(), &mut queue, &mut context) } != 0 {
                return nothing_yet("read a notification of completions").map(|()| count);
            }
            // At once, as a queue is not destroyed before.
            // SAFETY: the notification of a queue that is there: those of destroyed ones are forgotten with them.
            unsafe { (provider.ack_cq_events)(queue, 1) };
            count += 1;
        }
    }

    pub(super) fn device(&self) -> &Device {
        &self.0.device
    }

    pub(super) fn raw(&self) -> *mut ibv_comp_channel {
        self.0.channel.as_ptr()
    }
}

impl AsFd for CompletionChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: open as long as the channel, which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.0.channel.as_ref().fd) }
    }
}

impl fmt::Debug for CompletionChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionChannel").field("device", &self.0.device).finish_non_exhaustive()
    }
}
