//! A TAP interface: frames to and from the Linux kernel, which takes this side for another host on an Ethernet.
//!
//! Frames travel with a `virtio_net_hdr` in front (linux/virtio_net.h), so that both sides leave checksums to each
//! other, and segments that are larger than the MTU go into the kernel in one piece.

mod kernel;

use super::{
    BURST, Capabilities, ChecksumOffload, Frame, FrameDevice, MacAddress, Medium, Received, interface,
};
use demikernel_runtime::buffer::BufferMut;
use kernel::{Ethernet, NetHeader};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// Bytes of an Ethernet header and of a VLAN tag, beyond the MTU.
const LINK_HEADER: usize = 14 + 4;

/// The most that one segment may carry for the kernel to cut: an IP packet has 16 bits for its length.
const SEGMENTATION: usize = 65_535 - 128;

/// How many pieces of memory one system call takes; longer lists are copied into one.
const PIECES: usize = 16;

/// How long an interface that is in use is waited for: a ring of a process that was killed, which polled the interface,
/// lets go of it some time after the process is gone.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a TAP interface is opened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TapConfig {
    /// Its name; with `%d` in it the kernel chooses a number. At most 15 bytes.
    pub name: String,
    /// The address of this side. The kernel's side has one of its own.
    pub address: MacAddress,
    /// Whether the kernel may leave checksums to this side and this side to the kernel, and cuts large segments.
    pub offload: bool,
    /// Whether several queues can be opened under the same name.
    pub multiple_queues: bool,
}

impl TapConfig {
    /// An interface of this name, with offloads and one queue.
    pub fn new(name: impl Into<String>, address: MacAddress) -> TapConfig {
        TapConfig { name: name.into(), address, offload: true, multiple_queues: false }
    }
}

/// One queue of a TAP interface.
///
/// The interface is there as long as it is open, unless it was made persistent (`ip tuntap add`) before. It carries
/// nothing until the kernel's side is up.
#[derive(Debug)]
pub struct Tap {
    file: File,
    name: String,
    capabilities: Capabilities,
    counters: Counters,
}

#[derive(Clone, Copy, Default, Debug)]
struct Counters {
    received: u64,
    transmitted: u64,
    /// Longer than a frame of this MTU.
    oversized: u64,
    /// There was no buffer for the next frame; it waits in the kernel.
    no_buffer: u64,
    /// Frames that the kernel would not have, such as when its side is down.
    refused: u64,
    /// Turns in which the kernel's queue was full.
    full: u64,
}

impl Tap {
    /// Opens the interface, and makes it if it is not there; one that was made for several queues is opened with one of
    /// them. Waits up to two seconds for one that another process has,
    /// which may be ending.
    ///
    /// # Errors
    /// What the kernel says, with what to do: without CAP_NET_ADMIN only interfaces that were made for this user can be
    /// opened.
    pub fn open(config: &TapConfig) -> io::Result<Tap> {
        let file = File::options().read(true).write(true).open("/dev/net/tun").map_err(|error| {
            explain(&error, "open /dev/net/tun", "load the module tun, or give the container /dev/net/tun")
        })?;
        let several = TapConfig { multiple_queues: true, ..config.clone() };
        let attached = attach(file.as_raw_fd(), config).or_else(|error| match error.raw_os_error() {
            Some(libc::EINVAL) if !config.multiple_queues => attach(file.as_raw_fd(), &several),
            _ => Err(error),
        });
        let name = attached.map_err(|error| {
            let remedy = match error.raw_os_error() {
                Some(libc::EBUSY) => "another process has it: end that one, or take another interface",
                _ => "run as root, or have root make it: ip tuntap add NAME mode tap user USER",
            };
            explain(&error, &format!("open the TAP interface {:?}", config.name), remedy)
        })?;
        kernel::set_offload(file.as_raw_fd(), config.offload)?;
        let mtu = interface::mtu(&interface::any_socket()?, &name)?;
        let mut capabilities = Capabilities::new(Medium::Ethernet(config.address), mtu);
        capabilities.scatter = true;
        if config.offload {
            capabilities.transmit_l4_checksum = true;
            capabilities.segmentation = SEGMENTATION;
        }
        tracing::debug!(name, mtu, offload = config.offload, "TAP interface opened");
        Ok(Tap { file, name, capabilities, counters: Counters::default() })
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads one frame: `None` when there is no more now.
    fn read(&mut self) -> io::Result<Option<Frame>> {
        let room = self.capabilities.mtu + LINK_HEADER;
        let Ok(mut buffer) = BufferMut::with_capacity(NetHeader::LENGTH + room) else {
            self.counters.no_buffer += 1;
            return Ok(None);
        };
        let length = match kernel::read(self.file.as_raw_fd(), &mut buffer) {
            Ok(length) => length,
            Err(error) if is_transient(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(header) = NetHeader::parse(&buffer[..length]) else { return Ok(Some(Frame::default())) };
        buffer.advance(NetHeader::LENGTH);
        self.counters.received += 1;
        let mut frame = Frame::new(buffer.freeze());
        frame.received = Received { l4_checksum_good: header.is_checksum_good(), ..Received::default() };
        Ok(Some(frame))
    }

    fn write(&mut self, frame: &Frame) -> io::Result<Written> {
        let header = match net_header(frame) {
            Some(header) => header.to_bytes(),
            None => {
                self.counters.refused += 1;
                return Ok(Written::Refused);
            }
        };
        let mut pieces = [IoSlice::new(&[]); PIECES];
        pieces[0] = IoSlice::new(&header);
        pieces[1] = IoSlice::new(&frame.head);
        let whole;
        let filled = if frame.rest.segments() <= PIECES - 2 {
            2 + frame.rest.io_slices(&mut pieces[2..])
        } else {
            whole = frame.rest.to_vec();
            pieces[2] = IoSlice::new(&whole);
            3
        };
        match kernel::write(self.file.as_raw_fd(), &pieces[..filled]) {
            Ok(()) => {
                self.counters.transmitted += 1;
                Ok(Written::Taken)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.counters.full += 1;
                Ok(Written::Full)
            }
            // EIO while the kernel's side is down, EINVAL for what it cannot make sense of: such frames are lost, as
            // on a cable that nobody is at.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::ENOBUFS)) => {
                self.counters.refused += 1;
                Ok(Written::Refused)
            }
            Err(error) => Err(error),
        }
    }
}

/// Attaches the descriptor to the interface, as soon as nobody else has it.
fn attach(fd: RawFd, config: &TapConfig) -> io::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match kernel::attach(fd, &config.name, config.multiple_queues) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

enum Written {
    Taken,
    Refused,
    Full,
}

impl FrameDevice for Tap {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn receive(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        let before = burst.len();
        for _ in 0..BURST {
            let Some(frame) = self.read()? else { break };
            if frame.is_empty() || frame.len() > self.capabilities.mtu + LINK_HEADER {
                self.counters.oversized += 1;
            } else {
                burst.push(frame);
            }
        }
        Ok(burst.len() - before)
    }

    fn transmit(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        let mut gone = 0;
        for frame in burst.iter() {
            match self.write(frame)? {
                Written::Full => break,
                Written::Taken | Written::Refused => gone += 1,
            }
        }
        burst.drain(..gone);
        Ok(gone)
    }

    fn descriptor(&self) -> Option<RawFd> {
        Some(self.file.as_raw_fd())
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let counters = &self.counters;
        vec![
            ("frames received", counters.received),
            ("frames transmitted", counters.transmitted),
            ("frames too long", counters.oversized),
            ("turns without a buffer", counters.no_buffer),
            ("frames the kernel refused", counters.refused),
            ("turns with a full queue", counters.full),
        ]
    }
}

/// What the kernel is to fill in and cut; `None` if the frame does not have the headers that it names.
fn net_header(frame: &Frame) -> Option<NetHeader> {
    let ChecksumOffload { l4: Some((start, offset)), .. } = frame.checksum else {
        return Some(NetHeader::default());
    };
    let mut header = NetHeader::checksum(start, offset);
    if let Some(segmentation) = frame.segmentation {
        header.cut(segmentation, Ethernet::of(&frame.head)?);
    }
    Some(header)
}

/// Nothing to read now, or nothing more will come until the kernel's side is up again.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR | libc::EIO))
}

fn explain(error: &io::Error, what: &str, remedy: &str) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what}: {error}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Segmentation;
    use demikernel_runtime::buffer::Buffer;

    #[test]
    fn the_kernel_is_told_what_to_fill_in_and_where_to_cut() {
        let mut head = vec![0; 54];
        head[12..14].copy_from_slice(&[0x86, 0xdd]);
        let mut frame = Frame::new(Buffer::from(head));
        assert_eq!(net_header(&frame).unwrap().to_bytes(), [0; NetHeader::LENGTH]);
        frame.checksum.l4 = Some((54, 16));
        frame.segmentation = Some(Segmentation { segment: 1440, headers: 74 });
        // NEEDS_CSUM, TCPV6, and the fields in the machine's byte order.
        let fields: Vec<u8> = [74_u16, 1440, 54, 16].iter().flat_map(|field| field.to_ne_bytes()).collect();
        assert_eq!(net_header(&frame).unwrap().to_bytes(), [&[1, 4][..], &fields].concat()[..]);
    }

    #[test]
    fn a_name_that_is_too_long_is_refused() {
        let config = TapConfig::new("a name of twenty letters", MacAddress::default());
        match Tap::open(&config) {
            Ok(tap) => panic!("{} was opened", tap.name()),
            Err(error) => assert!(error.to_string().starts_with("cannot open "), "{error}"),
        }
    }
}
