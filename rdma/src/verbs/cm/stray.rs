//! Ids on their way from one thread's channel to another's.

use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::super::error::check;
use super::super::provider::SYSTEM_MANAGER;
use super::super::raw::*;
use super::{ConnectionId, EventChannel, Inner};

/// A channel as other threads know it: they may move ids there.
#[derive(Clone)]
pub(crate) struct ChannelHandle(Arc<Inner>);

/// An id that was moved to a channel, for the channel's thread to [take](Stray::take). Dropped, it is destroyed.
pub(crate) struct Stray {
    id: NonNull<rdma_cm_id>,
    channel: Arc<Inner>,
}

// SAFETY: nobody else has the id, whose functions the library lets any thread call.
unsafe impl Send for Stray {}

impl EventChannel {
    /// The same for other threads, of its [realm](EventChannel::realm).
    pub(crate) fn handle(&self) -> ChannelHandle {
        ChannelHandle(self.inner.clone())
    }

    /// Channels of other realms know nothing of this one's ids: those of a double are a thread's, all others the system's.
    pub(crate) fn realm(&self) -> usize {
        if ptr::eq(self.inner.manager, &SYSTEM_MANAGER) { 0 } else { super::super::double::realm() }
    }
}

impl ConnectionId {
    /// Moves it to another channel of this realm, whose events of it have this tag until it is [taken](Stray::take).
    ///
    /// # Errors
    /// If the manager does not move it. Then it is gone.
    pub(crate) fn hand_over(self, to: &ChannelHandle, tag: u64) -> io::Result<Stray> {
        self.set_tag(tag);
        let migrate = self.manager().migrate;
        // SAFETY: both channels are there, and nobody is in a function with the id, which this owns.
        check("move an id to another core", unsafe { migrate(self.raw(), to.0.channel.as_ptr()) })?;
        let this = ManuallyDrop::new(self);
        // SAFETY: read once, as the original is not dropped.
        drop(unsafe { ptr::read(&this.channel) });
        Ok(Stray { id: this.id, channel: to.0.clone() })
    }
}

impl Stray {
    /// The id, on the thread of its channel.
    ///
    /// # Panics
    /// If it was moved to another channel.
    pub(crate) fn take(self, channel: &EventChannel) -> ConnectionId {
        assert!(Arc::ptr_eq(&self.channel, &channel.inner), "an id of another channel");
        let this = ManuallyDrop::new(self);
        // SAFETY: read once, as the original is not dropped.
        let inner = unsafe { ptr::read(&this.channel) };
        ConnectionId { id: this.id, channel: EventChannel { inner, on_thread: PhantomData } }
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        // SAFETY: nobody else has it, and events of it are acknowledged when they are read.
        unsafe { (self.channel.manager.destroy_id)(self.id.as_ptr()) };
    }
}
