//! The end of a link as a machine's device sees it.

use crate::device::{BURST, Capabilities, Frame, FrameDevice, Medium};
use demikernel_runtime::buffer::Buffer;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// Packets between a machine and the links, which whoever runs the machine moves on.
#[derive(Debug, Default)]
pub(super) struct Cable {
    inbound: RefCell<VecDeque<Vec<u8>>>,
    outbound: RefCell<VecDeque<Vec<u8>>>,
    /// Packets that arrived when there was no memory for them.
    lost: Cell<u64>,
}

impl Cable {
    pub(super) fn deliver(&self, packet: Vec<u8>) {
        self.inbound.borrow_mut().push_back(packet);
    }

    /// The next packet that the machine has sent.
    pub(super) fn take(&self) -> Option<Vec<u8>> {
        self.outbound.borrow_mut().pop_front()
    }
}

/// A device that carries IP packets to and from a [`Cable`], or nowhere.
#[derive(Debug)]
pub(super) struct Port {
    cable: Option<Rc<Cable>>,
    mtu: usize,
}

impl Port {
    pub(super) fn new(cable: Rc<Cable>, mtu: usize) -> Port {
        Port { cable: Some(cable), mtu }
    }

    /// With nothing at the other end.
    pub(super) fn unplugged(mtu: usize) -> Port {
        Port { cable: None, mtu }
    }

    pub(super) fn capabilities(mtu: usize) -> Capabilities {
        Capabilities::new(Medium::Ip, mtu)
    }
}

impl FrameDevice for Port {
    fn capabilities(&self) -> Capabilities {
        Port::capabilities(self.mtu)
    }

    fn receive(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        let Some(cable) = &self.cable else { return Ok(0) };
        let mut inbound = cable.inbound.borrow_mut();
        let count = inbound.len().min(BURST);
        for packet in inbound.drain(..count) {
            match Buffer::copy_from_slice(&packet) {
                Ok(head) => burst.push(Frame::new(head)),
                Err(_) => cable.lost.set(cable.lost.get() + 1),
            }
        }
        Ok(count)
    }

    fn transmit(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        let count = burst.len();
        for frame in burst.drain(..) {
            let Some(cable) = &self.cable else { continue };
            let mut packet = Vec::with_capacity(frame.len());
            frame.copy_to(&mut packet);
            cable.outbound.borrow_mut().push_back(packet);
        }
        Ok(count)
    }

    fn is_awaited(&self) -> bool {
        false
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let lost = self.cable.as_ref().map_or(0, |cable| cable.lost.get());
        vec![("packets without memory", lost)]
    }
}
