//! Queues of a network interface through AF_XDP sockets, past the kernel's own stack
//! (Documentation/networking/af_xdp.rst).
//!
//! - [`Xdp`], [`XdpConfig`], [`XdpMode`]: the device.
//! - `open`: how it comes to be, and what can be wrong. `program`: what the kernel runs for each frame that arrives.
//! - `queue`: a socket with its four rings. `ring`: one ring. `umem`: the memory, and what of it the kernel has.
//! - `patience`: what somebody else has is waited for. `watch`: whether the interface is up, down or gone. `release`: when the kernel has let go of the memory.
//! - `kernel`: system calls.
//!
//! # Memory
//!
//! The kernel takes one range of addresses as the memory of a socket, once, and the heap of a thread is regions that come
//! as they are needed. So the device has the heap map a [range] ahead, from which all buffers of the thread then come as
//! long as there is room: those that the kernel fills, those that the stack writes headers into, and those of the
//! program. What is received is a buffer of the program without a copy, whatever the driver can do; what is
//! sent is taken where it lies. Sockets of several queues share the range.
//!
//! The range is divided into chunks of 2 or 4 KiB, to which the heap's own are aligned. The other mode of the kernel, any
//! place for a frame, would gain nothing for receiving, and a driver refuses frames there that cross a page. What is
//! longer than a chunk, or lies across two, is sent as several pieces of one frame, which Linux takes since 6.6. Payload
//! outside of the range (of before the device was opened, or when the range is full) cannot be sent by any kind of
//! descriptor: such frames are copied, as are those in too many pieces, and counted.
//!
//! Where the kernel copies anyhow (copy mode), pieces would cost a page each in the kernel: there the stack is asked for
//! frames in one piece.
//!
//! [range]: demikernel_runtime::buffer::pool::contiguous

mod kernel;
mod open;
mod patience;
mod program;
mod queue;
mod release;
mod ring;
#[cfg(test)]
mod tests;
mod umem;
mod watch;

use super::{BURST, Capabilities, Frame, FrameDevice, MacAddress};
use program::Program;
use queue::{Counters, Kick, Queue, Taken};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;
use umem::Umem;
use watch::{Link, Watch};

/// Turns in which nothing comes until the interface is looked at.
const LOOK: u32 = 256;

/// How long it is until the kernel is asked again to send what it has left.
const AGAIN: Duration = Duration::from_millis(1);

/// How queues of an interface are opened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct XdpConfig {
    /// The name of the interface.
    pub interface: String,
    /// The address of this side; the interface's own unless set. With another one the interface is made to receive
    /// everything (promiscuous).
    pub address: Option<MacAddress>,
    /// The queues whose frames come here, each once. Frames are sent through the first.
    pub queues: Vec<u32>,
    /// Whether frames are copied.
    pub mode: XdpMode,
    /// Entries of each ring for what is received, a power of two. So many chunks wait for frames.
    pub receive_ring: u32,
    /// Entries of each ring for what is sent, a power of two.
    pub transmit_ring: u32,
    /// How much of the heap the kernel can reach, in bytes; it stays in memory.
    pub memory: usize,
    /// Whether the kernel sleeps where it is asked for nothing, and says when it wants to be woken; else the driver goes on
    /// looking by itself.
    pub need_wakeup: bool,
}

impl XdpConfig {
    /// The first queue, rings of 2048, 32 MiB.
    pub fn new(interface: impl Into<String>) -> XdpConfig {
        XdpConfig {
            interface: interface.into(),
            address: None,
            queues: vec![0],
            mode: XdpMode::Auto,
            receive_ring: 2048,
            transmit_ring: 2048,
            memory: 32 << 20,
            need_wakeup: true,
        }
    }
}

/// Whether frames are copied between the driver and the shared memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum XdpMode {
    /// They are not, if the driver can do without.
    #[default]
    Auto,
    /// They are not; it is an error if the driver cannot do without.
    ZeroCopy,
    /// They are: works with every driver.
    Copy,
}

/// What leads the frames of an interface to sockets, each with those of its queue.
#[derive(Clone, Debug)]
pub(crate) struct XdpProgram(Arc<Program>);

/// Queues of a network interface, through AF_XDP sockets.
///
/// All that these queues receive comes here and not to the kernel's stack, whoever it is for; other queues are as before.
/// The kernel's own sending goes on. `ethtool -L INTERFACE combined 1` makes an interface have one queue, and
/// `ethtool -N` says which flows come to which.
///
/// Checksums are computed and looked at by the stack. At the other end of a veth pair the kernel must not leave any to a
/// device, nor segments uncut: `ethtool -K INTERFACE tx off` there, which turns the latter off too.
///
/// Dropping it waits until the kernel has let go of the memory, a few milliseconds.
#[derive(Debug)]
pub struct Xdp {
    /// What leads frames here: gone first.
    program: Option<Arc<Program>>,
    queues: Vec<Queue>,
    /// Readable when any of them is, or the interface has changed, or it is time to look again at what was not sent.
    readable: OwnedFd,
    /// Says when that is.
    alarm: OwnedFd,
    is_alarm_set: bool,
    /// As long as it is open, the interface receives everything.
    _promiscuous: Option<OwnedFd>,
    umem: Umem,
    watch: Watch,
    interface: String,
    index: u32,
    numbers: Vec<u32>,
    capabilities: Capabilities,
    /// Of a frame, in bytes.
    longest: usize,
    zero_copy: bool,
    /// Which queue is the first to be looked at.
    turn: usize,
    /// Turns without a frame.
    idle: u32,
    is_down: bool,
    counters: Counters,
}

impl Xdp {
    /// Opens queues of an interface. Waits up to two seconds for what somebody else has, who may be ending.
    ///
    /// # Errors
    /// What the kernel says, with what to do; `InvalidInput` for what cannot be.
    pub fn open(config: &XdpConfig) -> io::Result<Xdp> {
        open::open(config, None)
    }

    /// The same beside queues of other cores, which share what leads frames to them.
    pub(crate) fn open_with(config: &XdpConfig, program: Option<XdpProgram>) -> io::Result<Xdp> {
        open::open(config, program)
    }

    /// What leads frames here, for the queues of other cores.
    pub(crate) fn program(&self) -> Option<XdpProgram> {
        self.program.clone().map(XdpProgram)
    }

    /// Whether frames go to and from the memory without a copy by the kernel.
    pub fn is_zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Whether the driver hands frames over, before the kernel has made packets of them.
    pub fn is_in_driver(&self) -> bool {
        self.program.as_ref().is_some_and(|program| program.in_driver)
    }

    /// Looks whether the interface is still there, and up.
    #[cold]
    fn look(&mut self) -> io::Result<()> {
        if !self.watch.has_changed() && !self.is_down {
            return Ok(());
        }
        let was_down = self.is_down;
        match self.watch.link()? {
            Link::Gone => return Err(self.gone()),
            link => self.is_down = link == Link::Down,
        }
        if was_down != self.is_down {
            tracing::warn!(name = self.interface, up = !self.is_down, "the interface was switched");
        }
        Ok(())
    }

    fn gone(&self) -> io::Error {
        let text = format!("the interface {:?} is gone", self.interface);
        io::Error::new(io::ErrorKind::NotConnected, text)
    }

    /// Has the kernel send what is in the ring of the first queue.
    fn kick(&mut self) -> io::Result<()> {
        match self.queues[0].kick(&mut self.umem, &mut self.counters) {
            Ok(Kick::Done) if !self.is_alarm_set => Ok(()),
            Ok(kick) => {
                self.is_down = kick == Kick::Down;
                self.is_alarm_set = kick == Kick::Later;
                let after = if self.is_alarm_set { AGAIN } else { Duration::ZERO };
                kernel::set_alarm(&self.alarm, after)
            }
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Err(self.gone()),
            Err(error) => Err(error),
        }
    }
}

impl FrameDevice for Xdp {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn receive(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        self.queues[0].reap(&mut self.umem);
        // What the kernel has not taken in one go, or while the interface was down.
        if !self.is_down {
            self.kick()?;
        }
        let mut count = 0;
        for _ in 0..self.queues.len() {
            self.turn = (self.turn + 1) % self.queues.len();
            let limits = (BURST - count, self.longest);
            count += self.queues[self.turn].receive(&mut self.umem, burst, limits, &mut self.counters);
        }
        if count == 0 {
            self.idle += 1;
            if self.idle == LOOK {
                self.idle = 0;
                self.look()?;
                self.queues.iter().for_each(|queue| queue.wake(&mut self.counters));
            }
        }
        Ok(count)
    }

    fn transmit(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        if self.is_down {
            self.look()?;
        }
        if self.is_down {
            // Lost, as on a cable that nobody is at.
            let count = burst.drain(..).count();
            self.counters.refused += count as u64;
            return Ok(count);
        }
        let queue = &mut self.queues[0];
        queue.reap(&mut self.umem);
        let mut gone = 0;
        for frame in burst.iter() {
            if frame.len() > self.longest {
                self.counters.oversized += 1;
            } else if queue.send(frame, &mut self.umem, &mut self.counters) == Taken::Full {
                break;
            }
            gone += 1;
        }
        queue.publish();
        burst.drain(..gone);
        self.kick()?;
        Ok(gone)
    }

    fn descriptor(&self) -> Option<RawFd> {
        Some(self.readable.as_raw_fd())
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let counters = &self.counters;
        let mut all = vec![
            ("frames received", counters.received),
            ("frames transmitted", counters.transmitted),
            ("frames copied to be sent", counters.copied),
            ("frames copied as received", counters.received_copied),
            ("frames too long", counters.oversized),
            ("frames refused", counters.refused),
            ("frames the device dropped", counters.dropped),
            ("frames without a buffer", counters.no_buffer),
            ("wake-ups of the kernel", counters.wakeups),
        ];
        all.extend(self.statistics());
        all
    }
}

impl Xdp {
    /// What the kernel has counted, of all queues.
    fn statistics(&self) -> [(&'static str, u64); 6] {
        let mut all = [
            ("kernel: frames dropped", 0),
            ("kernel: frames without room in the receive ring", 0),
            ("kernel: frames without a chunk to receive into", 0),
            ("kernel: invalid chunks", 0),
            ("kernel: invalid frames", 0),
            ("kernel: times without a frame to send", 0),
        ];
        for statistics in self.queues.iter().filter_map(|queue| kernel::statistics(queue.socket()).ok()) {
            let figures = [
                statistics.rx_dropped,
                statistics.rx_ring_full,
                statistics.rx_fill_ring_empty_descs,
                statistics.rx_invalid_descs,
                statistics.tx_invalid_descs,
                statistics.tx_ring_empty_descs,
            ];
            all.iter_mut().zip(figures).for_each(|((_, sum), figure)| *sum += figure);
        }
        all
    }
}

impl Drop for Xdp {
    fn drop(&mut self) {
        self.program = None;
        self.queues.clear();
        if !release::wait(self.index, &self.numbers) {
            tracing::warn!(name = self.interface, "the kernel keeps the memory of a queue: it is left to it");
            self.umem.give_up();
        }
    }
}
