//! What the stack asks of whatever carries its frames: bursts of owned buffers in and out.
//!
//! [`Frame`] is what travels, [`FrameDevice`] who carries it, [`Capabilities`] what it does better than software.
//!
//! Devices: [`Pair`], two in memory; [`Tap`], an interface of the Linux kernel;
//! [`PacketSocket`], any interface through the kernel; with the feature `xdp`, `Xdp`, queues of any interface past the
//! kernel's stack; with the feature `dpdk`, `Dpdk`, a port of DPDK. Around any of them: [`Tracer`], which writes what
//! passes with [`pcapng`]; [`FaultInjector`], which loses and alters some of it; and [`Vlan`], which tags it.

#[cfg(feature = "dpdk")]
mod dpdk;
mod fault;
mod frame;
mod interface;
mod packet;
mod pair;
pub mod pcapng;
mod tap;
mod tracer;
mod vlan;
#[cfg(feature = "xdp")]
mod xdp;

pub use crate::wire::ethernet::MacAddress;
#[cfg(feature = "dpdk")]
pub use dpdk::Dpdk;
pub use fault::{FaultInjector, FaultStats, Faults};
pub use frame::{ChecksumOffload, Frame, Received, Segmentation};
pub(crate) use interface::any_of;
pub use packet::{PacketConfig, PacketSocket};
pub use pair::Pair;
pub use tap::{Tap, TapConfig};
pub use tracer::Tracer;
pub use vlan::Vlan;
#[cfg(feature = "xdp")]
pub(crate) use xdp::XdpProgram;
#[cfg(feature = "xdp")]
pub use xdp::{Xdp, XdpConfig, XdpMode};

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How many frames a burst has at most.
pub const BURST: usize = 32;

/// What frames begin with.
///
/// ```
/// use demikernel_net::device::{Capabilities, MacAddress, Medium};
/// use demikernel_net::stack::{Stack, StackConfig};
/// use demikernel_runtime::buffer::{Buffer, Sga};
/// use demikernel_runtime::time::Instant;
/// use demikernel_runtime::transport::{Domain, SocketKind};
///
/// /// What a stack sends first when it has something for a host on the link.
/// fn first_frame(medium: Medium) -> std::io::Result<Vec<u8>> {
///     let config = StackConfig::new(Capabilities::new(medium, 1500), [7; 32]);
///     let config = config.address("192.0.2.1".parse().unwrap(), 24);
///     let (now, mut burst) = (Instant::from_nanos(1), vec![]);
///     let mut stack = Stack::new(now, config);
///     let socket = stack.socket(Domain::V4, SocketKind::Datagram)?;
///     let data = Sga::from(Buffer::from("hello"));
///     stack.send_to(now, socket, &data, Some("192.0.2.2:9".parse().unwrap()))?;
///     stack.transmit(now, &mut burst);
///     Ok(burst[0].head.to_vec())
/// }
///
/// assert_eq!(first_frame(Medium::Ip)?[0], 0x45, "the packet itself");
/// let ethernet = first_frame(Medium::Ethernet(MacAddress([2, 0, 0, 0, 0, 1])))?;
/// assert_eq!(ethernet[12..14], [0x08, 0x06], "a question to all: who is 192.0.2.2?");
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Medium {
    /// An Ethernet header; the device has an address.
    Ethernet(MacAddress),
    /// An IP header: point to point, without neighbours.
    Ip,
}

/// What a device does better than software. Without a bit, the stack does it.
///
/// ```
/// use demikernel_net::device::{Capabilities, ChecksumOffload, Medium};
/// use demikernel_net::stack::{Stack, StackConfig};
/// use demikernel_runtime::buffer::{Buffer, Sga};
/// use demikernel_runtime::time::Instant;
/// use demikernel_runtime::transport::{Domain, SocketKind};
///
/// let mut capabilities = Capabilities::new(Medium::Ip, 1500);
/// capabilities.transmit_l4_checksum = true;
/// let config = StackConfig::new(capabilities, [7; 32]).address("192.0.2.1".parse().unwrap(), 24);
/// let (now, mut burst) = (Instant::from_nanos(1), vec![]);
/// let mut stack = Stack::new(now, config);
/// let socket = stack.socket(Domain::V4, SocketKind::Datagram)?;
/// let data = Sga::from(Buffer::from("hello"));
/// stack.send_to(now, socket, &data, Some("192.0.2.2:9".parse().unwrap()))?;
/// stack.transmit(now, &mut burst);
/// // The header of UDP begins behind 20 bytes, and has its checksum at its sixth.
/// assert_eq!(burst[0].checksum, ChecksumOffload { ip: None, l4: Some((20, 6)) });
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Capabilities {
    /// What frames begin with.
    pub medium: Medium,
    /// The largest IP packet that goes through, in bytes.
    pub mtu: usize,
    /// It fills in checksums of IPv4 headers on transmit.
    pub transmit_ip_checksum: bool,
    /// It fills in checksums of TCP and UDP on transmit, over a pseudo-header sum that is in place.
    pub transmit_l4_checksum: bool,
    /// It cuts TCP segments up to this size, in bytes of payload; 0 if it does not.
    pub segmentation: usize,
    /// Pairs of queues; flows are spread over them by a hash.
    pub queues: u16,
    /// Frames may be in several pieces of memory.
    pub scatter: bool,
}

impl Capabilities {
    /// A device that does nothing for the stack.
    pub const fn new(medium: Medium, mtu: usize) -> Capabilities {
        Capabilities {
            medium,
            mtu,
            transmit_ip_checksum: false,
            transmit_l4_checksum: false,
            segmentation: 0,
            queues: 1,
            scatter: false,
        }
    }
}

/// The moment, since the Unix epoch, as captures have it.
pub(crate) fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

/// Carries frames. All calls come from one thread and none blocks.
///
/// ```
/// use demikernel_net::device::{BURST, Capabilities, Frame, FrameDevice, Medium};
/// use demikernel_runtime::buffer::Buffer;
/// use std::{collections::VecDeque, io};
///
/// /// What is sent comes back.
/// #[derive(Default)]
/// struct Mirror(VecDeque<Frame>);
///
/// impl FrameDevice for Mirror {
///     fn capabilities(&self) -> Capabilities {
///         Capabilities::new(Medium::Ip, 1500)
///     }
///
///     fn receive(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
///         let count = self.0.len().min(BURST);
///         burst.extend(self.0.drain(..count));
///         Ok(count)
///     }
///
///     fn transmit(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
///         let count = burst.len();
///         self.0.extend(burst.drain(..));
///         Ok(count)
///     }
/// }
///
/// let mut mirror = Mirror::default();
/// let mut burst = vec![Frame::new(Buffer::from("a packet"))];
/// assert_eq!((mirror.transmit(&mut burst)?, burst.len()), (1, 0));
/// assert_eq!((mirror.receive(&mut burst)?, &burst[0].head[..]), (1, &b"a packet"[..]));
/// assert!(mirror.descriptor().is_none() && mirror.counters().is_empty(), "unless it says otherwise");
/// # io::Result::Ok(())
/// ```
pub trait FrameDevice {
    /// What it does. Constant but for the MTU.
    fn capabilities(&self) -> Capabilities;

    /// Adds what has arrived to `burst`, [`BURST`] frames at most (as many again if they come from several places);
    /// returns how many.
    ///
    /// # Errors
    /// When the device is gone for good. What may pass is counted and reported as no frames.
    fn receive(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize>;

    /// Takes frames from the front of `burst`, in order, as many as it has room for; leaves the others.
    ///
    /// # Errors
    /// When the device is gone for good.
    fn transmit(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize>;

    /// A descriptor that is readable when there is something to receive, for devices that have one.
    fn descriptor(&self) -> Option<std::os::fd::RawFd> {
        None
    }

    /// Called before a thread waits for the descriptor: has it be readable when something comes. False if something may
    /// have come before: then the device is to be asked for frames before this is called again.
    fn arm(&mut self) -> bool {
        true
    }

    /// Whether frames may come without anything else happening here. If not, a runtime may sleep until a timer is due
    /// without asking; whoever brings frames then makes it ask.
    fn is_awaited(&self) -> bool {
        true
    }

    /// Counters for people, as name and value.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

impl<D: FrameDevice + ?Sized> FrameDevice for Box<D> {
    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }

    #[inline]
    fn receive(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        (**self).receive(burst)
    }

    #[inline]
    fn transmit(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        (**self).transmit(burst)
    }

    fn descriptor(&self) -> Option<std::os::fd::RawFd> {
        (**self).descriptor()
    }

    fn arm(&mut self) -> bool {
        (**self).arm()
    }

    fn is_awaited(&self) -> bool {
        (**self).is_awaited()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        (**self).counters()
    }
}
