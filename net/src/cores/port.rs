//! The device of one core: its queue of the port if it has one, and what other cores hand over.

use super::place::{Parcel, Place};
use super::ring::Consumer;
use crate::device::{self, BURST, Capabilities, Frame, FrameDevice};
use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

/// One core's share of a port.
pub(crate) struct SharedPort {
    place: Rc<Place>,
    device: Option<Box<dyn FrameDevice>>,
    capabilities: Capabilities,
    /// What cores without a queue want sent.
    to_send: Vec<Consumer<Parcel>>,
    /// Of that, what the device has not taken.
    sending: Vec<Frame>,
    arrived: Vec<Frame>,
    /// Others had more than there was room for.
    others_first: bool,
    /// Readable when the device or the bell is; made when it is first asked for.
    readable: Cell<Option<OwnedFd>>,
    descriptor: Cell<Option<RawFd>>,
}

impl SharedPort {
    pub(super) fn new(
        place: Rc<Place>,
        device: Option<Box<dyn FrameDevice>>,
        to_send: Vec<Consumer<Parcel>>,
        capabilities: Capabilities,
    ) -> SharedPort {
        SharedPort {
            place,
            device,
            capabilities,
            to_send,
            sending: Vec::with_capacity(BURST),
            arrived: Vec::with_capacity(BURST),
            others_first: false,
            readable: Cell::new(None),
            descriptor: Cell::new(None),
        }
    }

    /// Takes what the queue has, keeps what is this core's and hands over the rest.
    fn take_from_device(&mut self, burst: &mut Vec<Frame>) -> io::Result<()> {
        let Some(device) = &mut self.device else { return Ok(()) };
        if device.receive(&mut self.arrived)? > 0 {
            let arrived = self.arrived.iter_mut().map(std::mem::take);
            burst.extend(arrived.filter_map(|frame| self.place.steer(frame)));
            self.arrived.clear();
            self.place.tell();
        }
        Ok(())
    }

    /// Sends for those that have no queue.
    fn send_for_others(&mut self) -> io::Result<()> {
        let Some(device) = &mut self.device else { return Ok(()) };
        for consumer in &mut self.to_send {
            while self.sending.len() < BURST
                && let Some(parcel) = consumer.pop()
            {
                self.sending.push(parcel.into_frame());
            }
        }
        if !self.sending.is_empty() {
            let gone = device.transmit(&mut self.sending)?;
            self.place.has_sent_for_others(gone);
        }
        Ok(())
    }

    /// The descriptor of both, or why there is none.
    fn make_descriptor(&self, of_device: RawFd) -> io::Result<RawFd> {
        let readable = device::any_of([of_device, self.place.descriptor()].into_iter())?;
        let fd = readable.as_raw_fd();
        self.readable.set(Some(readable));
        self.descriptor.set(Some(fd));
        Ok(fd)
    }
}

impl FrameDevice for SharedPort {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn receive(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        let before = burst.len();
        self.place.wake_up();
        let most = before + BURST;
        if self.others_first {
            self.others_first = self.place.take(burst, most);
        }
        self.take_from_device(burst)?;
        if !self.others_first {
            self.others_first = self.place.take(burst, most);
        }
        if !self.to_send.is_empty() {
            self.send_for_others()?;
        }
        Ok(burst.len() - before + self.place.waiting())
    }

    fn transmit(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        match &mut self.device {
            Some(device) => device.transmit(burst),
            None => Ok(self.place.send_through(burst)),
        }
    }

    fn descriptor(&self) -> Option<RawFd> {
        let Some(device) = &self.device else { return Some(self.place.descriptor()) };
        let of_device = device.descriptor()?;
        self.descriptor.get().or_else(|| self.make_descriptor(of_device).ok())
    }

    fn arm(&mut self) -> bool {
        if let Some(device) = &mut self.device
            && !device.arm()
        {
            return false;
        }
        let is_busy = || {
            let waits = self.to_send.iter().any(|consumer| !consumer.is_empty());
            self.others_first || waits || !self.sending.is_empty()
        };
        self.place.arm(is_busy)
    }

    fn is_awaited(&self) -> bool {
        true
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let of_device = self.device.iter().flat_map(|device| device.counters());
        of_device.chain(self.place.counters()).collect()
    }
}
