//! The two rings of a packet socket in memory shared with the kernel (TPACKET_V2; linux/if_packet.h,
//! Documentation/networking/packet_mmap.rst).
//!
//! Each slot begins with a header whose status says whose it is. Whoever has it may use all of it, and hands it over
//! by writing the status last: hence the ordering of those accesses.

use super::set_option;
use crate::device::Frame;
use std::io;
use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};

/// `TPACKET_V2` of `enum tpacket_versions`.
const VERSION: i32 = 1;
/// Where the kernel looks for a frame to send: behind the header, with padding.
const SEND_OFFSET: usize = (size_of::<libc::tpacket2_hdr>() + 15) & !15;
/// The most that the kernel puts in front of a received frame: header, address, alignment.
const RECEIVE_OFFSET: usize = 96;
/// The kernel takes memory in blocks of pages.
const BLOCK: usize = 64 << 10;

/// Sizes of the rings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    /// Of a slot, in bytes.
    slot: usize,
    /// Slots of each ring.
    slots: usize,
}

impl Geometry {
    pub(super) fn new(longest: usize, slots: usize) -> io::Result<Geometry> {
        let slot = (longest + RECEIVE_OFFSET).next_power_of_two();
        if !slots.is_power_of_two() || slots * slot < BLOCK || slots * slot > 1 << 30 {
            let text =
                format!("{slots} frames in a ring: expected a power of two, and 64 KiB to 1 GiB in all");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(Geometry { slot, slots })
    }

    fn bytes(self) -> usize {
        self.slot * self.slots
    }

    fn request(self) -> libc::tpacket_req {
        let block = BLOCK.max(self.slot);
        libc::tpacket_req {
            tp_block_size: block as u32,
            tp_block_nr: (self.bytes() / block) as u32,
            tp_frame_size: self.slot as u32,
            tp_frame_nr: self.slots as u32,
        }
    }
}

/// The two rings, one behind the other.
#[derive(Debug)]
pub(super) struct Ring {
    memory: NonNull<u8>,
    geometry: Geometry,
    /// The next slots to look at.
    receive: usize,
    send: usize,
    unsent: usize,
}

impl Ring {
    /// Has the kernel make the rings, and maps them.
    pub(super) fn new(fd: RawFd, geometry: Geometry) -> io::Result<Ring> {
        set_option(fd, libc::PACKET_VERSION, &VERSION)?;
        let request = geometry.request();
        for ring in [libc::PACKET_RX_RING, libc::PACKET_TX_RING] {
            set_option(fd, ring, &request).map_err(|error| {
                let bytes = geometry.bytes();
                io::Error::new(error.kind(), format!("no memory for a ring of {bytes} bytes: {error}"))
            })?;
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let bytes = 2 * geometry.bytes();
        // SAFETY: a new mapping at a place of the kernel's choice.
        let memory = unsafe { libc::mmap(ptr::null_mut(), bytes, access, libc::MAP_SHARED, fd, 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).expect("no mapping is at the address zero");
        Ok(Ring { memory, geometry, receive: 0, send: 0, unsent: 0 })
    }

    /// The next frame that has arrived.
    pub(super) fn received(&self) -> Option<Slot<'_>> {
        let header = self.header(self.receive);
        if status(header).load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        Some(Slot { header, room: self.geometry.slot, _ring: PhantomData })
    }

    /// Lets the kernel have the slot of the frame that [`received`](Self::received) gives.
    pub(super) fn give_back(&mut self) {
        status(self.header(self.receive)).store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.receive = (self.receive + 1) % self.geometry.slots;
    }

    /// Copies a frame, which is no longer than said before, to the next free slot; whether there was one.
    pub(super) fn send(&mut self, frame: &Frame) -> bool {
        assert!(frame.len() <= self.geometry.slot - SEND_OFFSET);
        let header = self.header(self.geometry.slots + self.send);
        let state = status(header).load(Ordering::Acquire);
        if state != libc::TP_STATUS_AVAILABLE && state & libc::TP_STATUS_WRONG_FORMAT == 0 {
            return false;
        }
        let parts = std::iter::once(&frame.head).chain(frame.rest.iter());
        // SAFETY: an available slot is ours, and the frame fits behind its header, as was asserted.
        unsafe {
            let mut to = header.cast::<u8>().add(SEND_OFFSET);
            for part in parts {
                to.copy_from_nonoverlapping(NonNull::from(part.as_slice()).cast(), part.len());
                to = to.add(part.len());
            }
            (&raw mut (*header.as_ptr()).tp_len).write(frame.len() as u32);
        }
        status(header).store(libc::TP_STATUS_SEND_REQUEST, Ordering::Release);
        self.send = (self.send + 1) % self.geometry.slots;
        self.unsent += 1;
        true
    }

    /// Whether the kernel has not been told of frames.
    pub(super) fn has_unsent(&self) -> bool {
        self.unsent > 0
    }

    /// The kernel has been told of all frames.
    pub(super) fn sent(&mut self) {
        self.unsent = 0;
    }

    fn header(&self, slot: usize) -> NonNull<libc::tpacket2_hdr> {
        debug_assert!(slot < 2 * self.geometry.slots);
        // SAFETY: within the mapping, and aligned as slots are.
        unsafe { self.memory.add(slot * self.geometry.slot).cast() }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping is this ring's, and slots borrow from it.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), 2 * self.geometry.bytes()) };
    }
}

/// The word of a header that is written from both sides.
fn status<'a>(header: NonNull<libc::tpacket2_hdr>) -> &'a AtomicU32 {
    // SAFETY: in the mapping, which `Ring` keeps; nobody accesses it but as an atomic.
    unsafe { AtomicU32::from_ptr(&raw mut (*header.as_ptr()).tp_status) }
}

/// A frame that has arrived, in the ring.
pub(super) struct Slot<'a> {
    header: NonNull<libc::tpacket2_hdr>,
    room: usize,
    _ring: PhantomData<&'a Ring>,
}

impl Slot<'_> {
    /// The frame, as far as it has been kept.
    pub(super) fn bytes(&self) -> &[u8] {
        let header = self.fields();
        let start = usize::from(header.tp_mac).min(self.room);
        let length = (header.tp_snaplen as usize).min(self.room - start);
        // SAFETY: in the slot, which is ours until it is given back, and that takes the ring.
        unsafe { slice::from_raw_parts(self.header.cast::<u8>().add(start).as_ptr(), length) }
    }

    /// Whether nothing of it is missing.
    pub(super) fn is_whole(&self) -> bool {
        let header = self.fields();
        header.tp_len == header.tp_snaplen
    }

    /// The VLAN tag that stood in it.
    pub(super) fn tag(&self) -> Option<[u8; 4]> {
        let header = self.fields();
        if header.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
            return None;
        }
        let known = header.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
        let protocol = if known { header.tp_vlan_tpid } else { libc::ETH_P_8021Q as u16 };
        let ([a, b], [c, d]) = (protocol.to_be_bytes(), header.tp_vlan_tci.to_be_bytes());
        Some([a, b, c, d])
    }

    /// Whether its checksum was looked at, or never left this machine.
    pub(super) fn is_checksum_good(&self) -> bool {
        self.fields().tp_status & (libc::TP_STATUS_CSUMNOTREADY | libc::TP_STATUS_CSUM_VALID) != 0
    }

    fn fields(&self) -> libc::tpacket2_hdr {
        // SAFETY: the header of a slot that is ours: the kernel does not write to it.
        unsafe { self.header.read() }
    }
}
