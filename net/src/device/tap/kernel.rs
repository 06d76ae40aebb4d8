//! The kernel's interface to TAP devices: linux/if_tun.h, linux/if.h and linux/virtio_net.h.

use crate::device::Segmentation;
use crate::device::interface::{check, request};
use demikernel_runtime::buffer::BufferMut;
use std::ffi::{c_int, c_uint};
use std::io::{self, IoSlice};
use std::os::fd::RawFd;

/// Leave checksums of received frames to us (TUN_F_CSUM).
const TUN_F_CSUM: c_uint = 0x01;

const VIRTIO_NET_HDR_F_NEEDS_CSUM: u8 = 1;
const VIRTIO_NET_HDR_F_DATA_VALID: u8 = 2;
const VIRTIO_NET_HDR_GSO_TCPV4: u8 = 1;
const VIRTIO_NET_HDR_GSO_TCPV6: u8 = 4;

/// Attaches a descriptor of /dev/net/tun to the interface of this name, and makes it non-blocking. Returns the name.
pub(super) fn attach(fd: RawFd, name: &str, multiple_queues: bool) -> io::Result<String> {
    let mut request = request(name)?;
    let queues = if multiple_queues { libc::IFF_MULTI_QUEUE } else { 0 };
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | queues;
    request.ifr_ifru.ifru_flags = flags as i16;
    // SAFETY: the request is an `ifreq`, which TUNSETIFF reads and writes.
    check(unsafe { libc::ioctl(fd, libc::TUNSETIFF as _, &raw mut request) })?;
    // SAFETY: the descriptor is open; these arguments are plain numbers.
    unsafe {
        let flags = check(libc::fcntl(fd, libc::F_GETFL))?;
        check(libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK))?;
    }
    let bytes: Vec<u8> =
        request.ifr_name.iter().map(|&letter| letter as u8).take_while(|&letter| letter != 0).collect();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether frames may be received without checksums.
pub(super) fn set_offload(fd: RawFd, checksum: bool) -> io::Result<()> {
    let flags = if checksum { TUN_F_CSUM } else { 0 };
    // SAFETY: TUNSETOFFLOAD takes its flags as a number.
    check(unsafe { libc::ioctl(fd, libc::TUNSETOFFLOAD as _, libc::c_ulong::from(flags)) })?;
    Ok(())
}

/// Reads one frame to the end of a buffer; returns how long it is.
pub(super) fn read(fd: RawFd, buffer: &mut BufferMut) -> io::Result<usize> {
    let spare = buffer.spare_capacity_mut();
    // SAFETY: the kernel writes no more than the spare capacity.
    let length = unsafe { libc::read(fd, spare.as_mut_ptr().cast(), spare.len()) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let end = buffer.len() + length;
    // SAFETY: so many bytes behind the former end have just been written.
    unsafe { buffer.set_len(end) };
    Ok(end)
}

/// Writes one frame.
pub(super) fn write(fd: RawFd, pieces: &[IoSlice<'_>]) -> io::Result<()> {
    // SAFETY: an `IoSlice` is an `iovec` of memory that is borrowed for this call.
    let written = unsafe { libc::writev(fd, pieces.as_ptr().cast(), pieces.len() as c_int) };
    if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The protocols behind an Ethernet header for which the kernel cuts segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ethernet {
    V4,
    V6,
}

impl Ethernet {
    /// What a frame carries, behind VLAN tags if there are any.
    pub(super) fn of(head: &[u8]) -> Option<Ethernet> {
        let mut at = 12;
        loop {
            match head.get(at..at + 2)? {
                [0x08, 0x00] => return Some(Ethernet::V4),
                [0x86, 0xdd] => return Some(Ethernet::V6),
                [0x81, 0x00] | [0x88, 0xa8] => at += 4,
                _ => return None,
            }
        }
    }
}

/// `struct virtio_net_hdr`, in the machine's byte order.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct NetHeader {
    flags: u8,
    segmentation: u8,
    headers: u16,
    segment: u16,
    checksum_start: u16,
    checksum_offset: u16,
}

impl NetHeader {
    /// Bytes.
    pub(super) const LENGTH: usize = 10;

    /// Have the checksum filled in over what is behind `start`.
    pub(super) fn checksum(start: u16, offset: u16) -> NetHeader {
        NetHeader {
            flags: VIRTIO_NET_HDR_F_NEEDS_CSUM,
            checksum_start: start,
            checksum_offset: offset,
            ..NetHeader::default()
        }
    }

    /// Have it cut.
    pub(super) fn cut(&mut self, segmentation: Segmentation, protocol: Ethernet) {
        self.segmentation = match protocol {
            Ethernet::V4 => VIRTIO_NET_HDR_GSO_TCPV4,
            Ethernet::V6 => VIRTIO_NET_HDR_GSO_TCPV6,
        };
        self.headers = segmentation.headers;
        self.segment = segmentation.segment;
    }

    /// Of the beginning of what was read.
    pub(super) fn parse(bytes: &[u8]) -> Option<NetHeader> {
        let field = |at: usize| Some(u16::from_ne_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        Some(NetHeader {
            flags: *bytes.first()?,
            segmentation: *bytes.get(1)?,
            headers: field(2)?,
            segment: field(4)?,
            checksum_start: field(6)?,
            checksum_offset: field(8)?,
        })
    }

    /// Whether the checksum of what follows was looked at, or never left this machine.
    pub(super) fn is_checksum_good(&self) -> bool {
        self.flags & (VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID) != 0
    }

    pub(super) fn to_bytes(self) -> [u8; NetHeader::LENGTH] {
        let [h0, h1] = self.headers.to_ne_bytes();
        let [s0, s1] = self.segment.to_ne_bytes();
        let [c0, c1] = self.checksum_start.to_ne_bytes();
        let [o0, o1] = self.checksum_offset.to_ne_bytes();
        [self.flags, self.segmentation, h0, h1, s0, s1, c0, c1, o0, o1]
    }
}
