//! What a device says of its own accord: ports that come and go, queue pairs that fail, its own removal.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use super::device::Device;
use super::error::last;
use super::raw::*;

/// What has happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DeviceEvent {
    /// A queue pair, by its tag, has failed.
    QueuePairFailed {
        /// Of the queue pair.
        tag: u64,
    },
    /// The first message has come on a queue pair whose connection the manager does not yet know to be established.
    Established {
        /// Of the queue pair.
        tag: u64,
    },
    /// A queue pair in its error state has taken the last receive of its shared queue.
    LastReceive {
        /// Of the queue pair.
        tag: u64,
    },
    /// A completion queue was too short. Nothing works that completes there.
    CompletionsLost,
    /// Fewer receives are left than asked for with
    /// [`SharedReceiveQueue::warn_below`](super::SharedReceiveQueue::warn_below).
    ReceivesLow,
    /// A shared receive queue has failed.
    SharedReceiveQueueFailed,
    /// A port is up.
    PortUp {
        /// Its number.
        port: u8,
    },
    /// A port is down.
    PortDown {
        /// Its number.
        port: u8,
    },
    /// The addresses of a port have changed.
    AddressesChanged {
        /// Its number.
        port: u8,
    },
    /// The device has failed, or is removed: all its queues are dead.
    DeviceLost,
    /// Another one, or one of a queue pair that is gone.
    Other(u32),
}

impl Device {
    /// Readable when [`next_event`](Device::next_event) has something.
    pub fn events_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: open as long as the device is, which the result borrows.
        unsafe { BorrowedFd::borrow_raw((*self.context()).async_fd) }
    }

    /// The next event, if there is one.
    ///
    /// # Errors
    /// If the device does not say, as it may when it is gone.
    pub fn next_event(&self) -> io::Result<Option<DeviceEvent>> {
        let mut event = ibv_async_event::default();
        // SAFETY: the context is open and its descriptor does not block.
        let failed = unsafe { (self.provider().get_async_event)(self.context(), &mut event) };
        if failed != 0 {
            return nothing_yet("read an event of a device").map(|()| None);
        }
        let what = self.describe(&event);
        // SAFETY: got above, and acknowledged once. What it was of is read before, as it may go from now on.
        unsafe { (self.provider().ack_async_event)(&mut event) };
        Ok(Some(what))
    }

    fn describe(&self, event: &ibv_async_event) -> DeviceEvent {
        let of_pair = |make: fn(u64) -> DeviceEvent| {
            // SAFETY: the event is of a queue pair, which cannot be destroyed before it is acknowledged.
            let number = unsafe { (*event.element.qp).qp_num };
            self.work().borrow().tag_of_number(number).map_or(DeviceEvent::Other(event.event_type), make)
        };
        // SAFETY: any bytes are a number; that of a port if it is one's.
        let port = unsafe { event.element.port_num } as u8;
        match event.event_type {
            IBV_EVENT_QP_FATAL | IBV_EVENT_QP_REQ_ERR | IBV_EVENT_QP_ACCESS_ERR => {
                of_pair(|tag| DeviceEvent::QueuePairFailed { tag })
            }
            IBV_EVENT_COMM_EST => of_pair(|tag| DeviceEvent::Established { tag }),
            IBV_EVENT_QP_LAST_WQE_REACHED => of_pair(|tag| DeviceEvent::LastReceive { tag }),
            IBV_EVENT_CQ_ERR => DeviceEvent::CompletionsLost,
            IBV_EVENT_SRQ_LIMIT_REACHED => DeviceEvent::ReceivesLow,
            IBV_EVENT_SRQ_ERR => DeviceEvent::SharedReceiveQueueFailed,
            IBV_EVENT_PORT_ACTIVE => DeviceEvent::PortUp { port },
            IBV_EVENT_PORT_ERR => DeviceEvent::PortDown { port },
            IBV_EVENT_GID_CHANGE | IBV_EVENT_LID_CHANGE => DeviceEvent::AddressesChanged { port },
            IBV_EVENT_DEVICE_FATAL => DeviceEvent::DeviceLost,
            other => DeviceEvent::Other(other),
        }
    }
}

/// An error, unless it is that there is nothing.
pub(super) fn nothing_yet(what: &'static str) -> io::Result<()> {
    match io::Error::last_os_error().kind() {
        io::ErrorKind::WouldBlock => Ok(()),
        _ => Err(last(what)),
    }
}

/// Has reads of a descriptor come back at once.
pub(super) fn unblock(descriptor: RawFd) -> io::Result<()> {
    // SAFETY: flags are read and written, of whatever it is.
    let done = unsafe {
        let flags = libc::fcntl(descriptor, libc::F_GETFL);
        flags >= 0 && libc::fcntl(descriptor, libc::F_SETFL, flags | libc::O_NONBLOCK) >= 0
    };
    if done { Ok(()) } else { Err(last("make a descriptor of RDMA not block")) }
}
