//! The connection manager: addresses, listening, connecting.
//!
//! Queue pairs are made by their user and only joined here: the manager is told their numbers, and says in which state
//! they are to be put. So they are on this thread's own device, which the manager's are not.

mod event; // what happens, and what went wrong
mod id; // one end of a connection, or a listener
pub(super) mod socket_address; // as the C library has them
mod stray; // ids on their way to another thread

pub use event::{ConnectError, Destination, Event, EventKind, PrivateData, Request};
pub use id::{ConnectionId, Parameters, PortSpace};
pub(crate) use stray::{ChannelHandle, Stray};

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::Arc;

use super::error::last;
use super::events::{nothing_yet, unblock};
use super::provider::{Manager, SYSTEM_MANAGER};
use super::raw::*;

/// A descriptor for events of connections. A clone is the same.
#[derive(Clone)]
pub struct EventChannel {
    inner: Arc<Inner>,
    /// Its ids are a thread's own, so is what tells of them.
    on_thread: PhantomData<Rc<()>>,
}

struct Inner {
    channel: NonNull<rdma_event_channel>,
    manager: &'static Manager,
}

// SAFETY: the structure is a descriptor that nobody writes to. Other threads than the channel's own only have ids moved to
// it, which the library lets any thread do at any time, and may be the last to let go of it.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: made by this manager, and the ids that it was for hold it.
        unsafe { (self.manager.destroy_event_channel)(self.channel.as_ptr()) };
    }
}

impl EventChannel {
    /// A channel of the system's connection manager.
    ///
    /// # Errors
    /// If this machine has none: `modprobe rdma_ucm`.
    pub fn new() -> io::Result<EventChannel> {
        EventChannel::of(&SYSTEM_MANAGER)
    }

    pub(super) fn of(manager: &'static Manager) -> io::Result<EventChannel> {
        // SAFETY: the function takes nothing.
        let channel = NonNull::new(unsafe { (manager.create_event_channel)() });
        let channel = channel.ok_or_else(|| last("open the RDMA connection manager (modprobe rdma_ucm)"))?;
        let inner = Arc::new(Inner { channel, manager });
        let this = EventChannel { inner, on_thread: PhantomData };
        // SAFETY: it is there until `this` is dropped.
        unblock(unsafe { channel.as_ref() }.fd)?;
        Ok(this)
    }

    /// The next event, if there is one.
    ///
    /// # Errors
    /// If the manager does not say.
    pub fn next_event(&self) -> io::Result<Option<Event>> {
        let mut raw = ptr::null_mut();
        // SAFETY: the channel is there, and does not block.
        if unsafe { (self.inner.manager.get_cm_event)(self.raw(), &mut raw) } != 0 {
            return nothing_yet("read an event of connections").map(|()| None);
        }
        // SAFETY: the event was just got, with its ids: no id is destroyed while an event of it is not acknowledged. What
        // is new among them is this event's to give away.
        let event = unsafe { Event::of(&*raw, self) };
        // SAFETY: got above, read, and acknowledged once.
        unsafe { (self.inner.manager.ack_cm_event)(raw) };
        Ok(Some(event))
    }

    fn raw(&self) -> *mut rdma_event_channel {
        self.inner.channel.as_ptr()
    }

    fn manager(&self) -> &'static Manager {
        self.inner.manager
    }
}

impl AsFd for EventChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: open as long as the channel, which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.inner.channel.as_ref().fd) }
    }
}

impl fmt::Debug for EventChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventChannel").finish_non_exhaustive()
    }
}
