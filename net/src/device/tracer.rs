//! Writes what goes through a device to a capture.

use super::pcapng::{Direction, Writer};
use super::{Capabilities, Frame, FrameDevice};
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::time::Duration;

/// A device whose traffic is captured.
///
/// What is sent is captured as the device got it: a checksum that the device fills in is not yet right, and a segment
/// that it cuts is still whole. An output that fails ends the capture with a warning, and not the traffic.
///
/// ```
/// use demikernel_net::device::pcapng::Writer;
/// use demikernel_net::device::{Capabilities, Frame, FrameDevice, Medium, Pair, Tracer};
/// use demikernel_runtime::buffer::Buffer;
/// use std::time::Duration;
///
/// let capabilities = Capabilities::new(Medium::Ip, 1500);
/// let (left, _right) = Pair::new(capabilities, capabilities, 8);
/// let mut capture = vec![];
/// let writer = Writer::new(&mut capture, "left", capabilities.medium, 64)?;
/// let mut traced = Tracer::new(left, writer, || Duration::from_secs(1));
/// traced.transmit(&mut vec![Frame::new(Buffer::from(b"a frame".to_vec()))])?;
///
/// drop(traced);
/// assert!(capture.windows(7).any(|bytes| bytes == b"a frame"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Tracer<D, W: Write> {
    device: D,
    writer: Option<Writer<W>>,
    /// The time since the Unix epoch.
    clock: fn() -> Duration,
}

impl<D: FrameDevice, W: Write> Tracer<D, W> {
    /// Captures what goes through `device`, with the times that `clock` tells, since the Unix epoch.
    pub fn new(device: D, writer: Writer<W>, clock: fn() -> Duration) -> Tracer<D, W> {
        Tracer { device, writer: Some(writer), clock }
    }

    /// Captures nothing before it is [switched on](Self::switch).
    pub fn silent(device: D, clock: fn() -> Duration) -> Tracer<D, W> {
        Tracer { device, writer: None, clock }
    }

    /// Goes on with another writer, or with none.
    ///
    /// # Errors
    /// Those of the former output, of what it has not written yet.
    pub fn switch(&mut self, writer: Option<Writer<W>>) -> io::Result<()> {
        match std::mem::replace(&mut self.writer, writer) {
            Some(mut former) => former.flush(),
            None => Ok(()),
        }
    }

    #[cold]
    fn transmit_traced(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        // Which of them the device takes is known only when they are gone.
        let copies: Vec<_> = burst
            .iter()
            .map(|frame| Frame { head: frame.head.clone(), rest: frame.rest.clone(), ..Frame::default() })
            .collect();
        let count = self.device.transmit(burst)?;
        self.write(Direction::Out, &copies[..count]);
        Ok(count)
    }

    #[cold]
    fn write(&mut self, direction: Direction, frames: &[Frame]) {
        let Some(writer) = &mut self.writer else { return };
        let time = (self.clock)();
        let written = frames.iter().try_for_each(|frame| writer.packet(time, direction, frame));
        // A capture is looked at while it goes on, and after a crash.
        if let Err(error) = written.and_then(|()| writer.flush()) {
            tracing::warn!(%error, "the capture cannot be written any more");
            self.writer = None;
        }
    }
}

impl<D: FrameDevice, W: Write> FrameDevice for Tracer<D, W> {
    fn capabilities(&self) -> Capabilities {
        self.device.capabilities()
    }

    #[inline]
    fn receive(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        let before = burst.len();
        let count = self.device.receive(burst)?;
        if count > 0 && self.writer.is_some() {
            self.write(Direction::In, &burst[before..]);
        }
        Ok(count)
    }

    #[inline]
    fn transmit(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        if self.writer.is_none() || burst.is_empty() {
            return self.device.transmit(burst);
        }
        self.transmit_traced(burst)
    }

    fn descriptor(&self) -> Option<RawFd> {
        self.device.descriptor()
    }

    fn arm(&mut self) -> bool {
        self.device.arm()
    }

    fn is_awaited(&self) -> bool {
        self.device.is_awaited()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.device.counters()
    }
}
