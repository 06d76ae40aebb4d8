//! A network interface through a packet socket (packet(7)), with rings in shared memory.
//!
//! It works on every interface without a driver of its own, and shares it with the kernel, which goes on using it: so
//! the stack needs addresses that the kernel does not have. Each frame is copied once each way. Transmission takes
//! one system call a burst, reception none.

mod ring;

use super::{BURST, Capabilities, Frame, FrameDevice, MacAddress, Medium, Received, interface};
use demikernel_runtime::buffer::BufferMut;
use ring::{Geometry, Ring, Slot};
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Bytes of an Ethernet header and of a VLAN tag, beyond the MTU.
const LINK_HEADER: usize = 14 + 4;

/// Where the tag stands in a frame: behind the addresses.
const TAG: usize = 12;

/// How a packet socket is opened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PacketConfig {
    /// The name of the interface.
    pub interface: String,
    /// The address of this side; the interface's own unless set. With another one the interface is made to receive
    /// everything (promiscuous).
    pub address: Option<MacAddress>,
    /// Frames in each ring, a power of two.
    pub frames: usize,
}

impl PacketConfig {
    /// The interface's own address, 512 frames in each ring.
    pub fn new(interface: impl Into<String>) -> PacketConfig {
        PacketConfig { interface: interface.into(), address: None, frames: 512 }
    }
}

/// A network interface, through a packet socket.
///
/// Checksums that the sender on this machine left to a device are taken for good. Frames longer than the MTU are dropped
/// and counted: the kernel makes such of several that arrived (GRO), or sends them over a veth pair uncut (TSO). For bulk
/// data, turn that off: `ethtool -K INTERFACE gro off` here, `tso off gso off` at the other end of a veth pair.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
    ring: Ring,
    capabilities: Capabilities,
    counters: Counters,
}

#[derive(Clone, Copy, Default, Debug)]
struct Counters {
    received: u64,
    transmitted: u64,
    no_buffer: u64,
    oversized: u64,
    refused: u64,
}

impl PacketSocket {
    /// Opens the interface.
    ///
    /// # Errors
    /// What the kernel says, with what to do: it takes CAP_NET_RAW, and the interface must be there.
    pub fn open(config: &PacketConfig) -> io::Result<PacketSocket> {
        let name = &config.interface;
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // Without a protocol it receives nothing before it is bound.
        let socket = interface::socket(libc::AF_PACKET, kind).map_err(|error| {
            let text = format!("cannot open a packet socket: {error}; it takes root, or CAP_NET_RAW");
            io::Error::new(error.kind(), text)
        })?;
        let fd = socket.as_raw_fd();
        let index = interface::index(&socket, name).map_err(|error| {
            let text = format!("no interface {name:?}: {error}; `ip link` shows those that there are");
            io::Error::new(error.kind(), text)
        })?;
        let mtu = interface::mtu(&socket, name)?;
        let own = interface::hardware_address(&socket, name)?;
        let address = config.address.unwrap_or(own);
        let geometry = Geometry::new(mtu + LINK_HEADER, config.frames)?;
        let ring = Ring::new(fd, geometry)?;
        bind(fd, index)?;
        if address != own {
            interface::receive_everything(&socket, index)?;
        }
        let capabilities =
            Capabilities { scatter: true, ..Capabilities::new(Medium::Ethernet(address), mtu) };
        tracing::debug!(name, mtu, %address, frames = config.frames, "packet socket opened");
        Ok(PacketSocket { socket, ring, capabilities, counters: Counters::default() })
    }
}

/// Of sockets of several cores on one interface.
impl PacketSocket {
    /// Founds a group of sockets over which the kernel spreads flows, and joins it. `None` if the kernel is too old to do
    /// so without giving each what others of them send (Linux 5.10).
    pub(crate) fn found_group(&self) -> Option<u16> {
        set_option(self.socket.as_raw_fd(), libc::PACKET_FANOUT, &fanout(0, UNIQUE_GROUP)).ok()?;
        let (mut group, mut length) = (0_u32, size_of::<u32>() as libc::socklen_t);
        // SAFETY: a place for a number of four bytes, and for its length.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_FANOUT,
                (&raw mut group).cast(),
                &raw mut length,
            )
        };
        (result == 0).then_some(group as u16)
    }

    /// Joins a group.
    pub(crate) fn join_group(&self, group: u16) -> io::Result<()> {
        set_option(self.socket.as_raw_fd(), libc::PACKET_FANOUT, &fanout(group, 0)).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot have the kernel spread flows over sockets: {error}"))
        })
    }
}

/// The kernel chooses a number that is free.
const UNIQUE_GROUP: u32 = 0x2000;

/// What this machine sends goes to no member, as is said of each socket by itself (PACKET_FANOUT_FLAG_IGNORE_OUTGOING).
const IGNORE_OUTGOING: u32 = 0x4000;

/// A group, by hash (PACKET_FANOUT_HASH, which is 0).
fn fanout(group: u16, flags: u32) -> u32 {
    u32::from(group) | (IGNORE_OUTGOING | flags) << 16
}

impl FrameDevice for PacketSocket {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn receive(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        let before = burst.len();
        for _ in 0..BURST {
            let Some(slot) = self.ring.received() else { break };
            if slot.is_whole() {
                let Some(frame) = copy(&slot) else {
                    // It stays in the ring until there is a buffer.
                    self.counters.no_buffer += 1;
                    break;
                };
                burst.push(frame);
                self.counters.received += 1;
            } else {
                self.counters.oversized += 1;
            }
            self.ring.give_back();
        }
        Ok(burst.len() - before)
    }

    fn transmit(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        let mut gone = 0;
        for frame in burst.iter() {
            if frame.len() > self.capabilities.mtu + LINK_HEADER {
                self.counters.oversized += 1;
            } else if !self.ring.send(frame) {
                break;
            } else {
                self.counters.transmitted += 1;
            }
            gone += 1;
        }
        if gone > 0 {
            burst.drain(..gone);
        }
        if self.ring.has_unsent() {
            self.kick()?;
        }
        Ok(gone)
    }

    fn descriptor(&self) -> Option<RawFd> {
        Some(self.socket.as_raw_fd())
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let counters = &self.counters;
        vec![
            ("frames received", counters.received),
            ("frames transmitted", counters.transmitted),
            ("turns without a buffer", counters.no_buffer),
            ("frames too long", counters.oversized),
            ("bursts the kernel refused", counters.refused),
        ]
    }
}

impl PacketSocket {
    /// Has the kernel send what is in the ring.
    fn kick(&mut self) -> io::Result<()> {
        // SAFETY: nothing is handed over but the descriptor: the frames are in the ring.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                std::ptr::null(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null(),
                0,
            )
        };
        if sent >= 0 {
            self.ring.sent();
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // Its queue is full; what is left goes with the next burst.
            Some(libc::EAGAIN | libc::EINTR | libc::ENOBUFS) => Ok(()),
            // The interface is down: the frames are lost, as on a cable that nobody is at.
            Some(libc::ENETDOWN) => {
                self.counters.refused += 1;
                self.ring.sent();
                Ok(())
            }
            _ => Err(error),
        }
    }
}

/// Copies a frame out of the ring; `None` if there is no memory for it.
fn copy(slot: &Slot<'_>) -> Option<Frame> {
    let bytes = slot.bytes();
    let mut buffer = BufferMut::with_capacity(bytes.len() + 4).ok()?;
    match slot.tag() {
        // The kernel has put the tag aside.
        Some(tag) if bytes.len() >= TAG => {
            buffer.extend_from_slice(&bytes[..TAG]);
            buffer.extend_from_slice(&tag);
            buffer.extend_from_slice(&bytes[TAG..]);
        }
        _ => buffer.extend_from_slice(bytes),
    }
    let mut frame = Frame::new(buffer.freeze());
    frame.received = Received { l4_checksum_good: slot.is_checksum_good(), ..Received::default() };
    Some(frame)
}

fn bind(fd: RawFd, index: c_int) -> io::Result<()> {
    set_option(fd, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
    // SAFETY: a structure of numbers, for which zeros are values.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index;
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is a `sockaddr_ll` of that length.
    if unsafe { libc::bind(fd, (&raw const address).cast(), length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn set_option<T>(fd: RawFd, name: c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is as long as is said, and only read.
    let result = unsafe { libc::setsockopt(fd, libc::SOL_PACKET, name, (&raw const *value).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
