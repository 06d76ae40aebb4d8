//! The kernel's interface to AF_XDP sockets, a function per call: linux/if_xdp.h.

use crate::device::interface::check;
use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::time::Duration;

/// What the kernel keeps free in front of each frame that it writes (XDP_PACKET_HEADROOM of linux/bpf.h).
pub(super) const HEADROOM: usize = 256;

/// Memory that was mapped, unmapped when dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<c_void>,
    len: usize,
}

impl Mapping {
    /// A ring of a socket.
    pub(super) fn ring(socket: &OwnedFd, offset: u64, len: usize) -> io::Result<Mapping> {
        Mapping::new(socket.as_raw_fd(), libc::MAP_SHARED | libc::MAP_POPULATE, offset, len)
    }

    /// Zeros.
    pub(super) fn anonymous(len: usize) -> io::Result<Mapping> {
        Mapping::new(-1, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, 0, len)
    }

    fn new(fd: RawFd, flags: c_int, offset: u64, len: usize) -> io::Result<Mapping> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice touches no memory of ours.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, fd, offset as libc::off_t) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base).expect("no mapping is at the address zero");
        Ok(Mapping { base, len })
    }

    /// The first byte.
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base.cast()
    }

    /// `count` values at an offset.
    ///
    /// # Panics
    /// If they are not inside, or not aligned.
    pub(super) fn at<T>(&self, offset: usize, count: usize) -> NonNull<T> {
        let end = count.checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_add(offset));
        assert!(end.is_some_and(|end| end <= self.len), "outside of a mapping");
        // SAFETY: the offset is inside the mapping.
        let pointer = unsafe { self.base.byte_add(offset) }.cast::<T>();
        assert!(pointer.is_aligned());
        pointer
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's; whoever points into it holds it.
        unsafe { libc::munmap(self.base.as_ptr(), self.len) };
    }
}

/// Tells a socket of the memory that its frames are in.
///
/// # Safety
///
/// The memory is mapped. From now on the kernel may write to what the fill ring of this socket, or of one that shares
/// its memory, names of it: nobody else uses that, until the receive ring names it or the kernel has let go of the
/// memory.
pub(super) unsafe fn register(
    socket: &OwnedFd,
    base: NonNull<u8>,
    len: usize,
    chunk: usize,
) -> io::Result<()> {
    // SAFETY: a structure of numbers, for which zeros are values.
    let mut memory: libc::xdp_umem_reg = unsafe { std::mem::zeroed() };
    (memory.addr, memory.len) = (base.as_ptr() as u64, len as u64);
    memory.chunk_size = chunk as u32;
    set_option(socket, libc::XDP_UMEM_REG, &memory)
}

/// Makes a ring of a socket.
pub(super) fn make_ring(socket: &OwnedFd, name: c_int, entries: u32) -> io::Result<()> {
    set_option(socket, name, &entries)
}

/// Where the parts of the rings are.
pub(super) fn offsets(socket: &OwnedFd) -> io::Result<libc::xdp_mmap_offsets> {
    option(socket, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS)
}

/// What the kernel has counted for a socket.
pub(super) fn statistics(socket: &OwnedFd) -> io::Result<libc::xdp_statistics> {
    option(socket, libc::SOL_XDP, libc::XDP_STATISTICS)
}

/// Whether frames go to and from the memory of a bound socket without a copy.
pub(super) fn is_zero_copy(socket: &OwnedFd) -> io::Result<bool> {
    let options: libc::xdp_options = option(socket, libc::SOL_XDP, libc::XDP_OPTIONS)?;
    Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
}

/// Binds a socket to a queue; with another one's descriptor it shares that one's memory.
pub(super) fn bind(
    socket: &OwnedFd,
    index: u32,
    queue: u32,
    flags: u16,
    shared: Option<RawFd>,
) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: flags,
        sxdp_ifindex: index,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: shared.unwrap_or(0) as u32,
    };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is as long as is said, and only read.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(())
}

/// Has the kernel look at the transmit ring.
pub(super) fn wake_transmit(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: nothing is handed over but the descriptor: the frames are in the ring.
    let sent =
        unsafe { libc::sendto(socket.as_raw_fd(), ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Has the driver look at the fill ring. Not recvfrom(2): a socket has that since Linux 5.11 only.
pub(super) fn wake_receive(socket: &OwnedFd) {
    let mut fd = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor, as is said; with an error, the next turn asks again.
    unsafe { libc::poll(&raw mut fd, 1, 0) };
}

/// A clock that is never readable, until it is [set](set_alarm).
pub(super) fn alarm() -> io::Result<OwnedFd> {
    let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
    // SAFETY: plain numbers; the descriptor, if there is one, is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(check(libc::timerfd_create(libc::CLOCK_MONOTONIC, flags))?) })
}

/// Makes a clock readable after this time, once, and not before; with zero, never.
pub(super) fn set_alarm(alarm: &OwnedFd, after: Duration) -> io::Result<()> {
    // SAFETY: a structure of numbers, for which zeros are values.
    let mut time: libc::itimerspec = unsafe { std::mem::zeroed() };
    time.it_value.tv_sec = after.as_secs() as libc::time_t;
    time.it_value.tv_nsec = after.subsec_nanos() as libc::c_long;
    // SAFETY: the time is only read, and what it was before is not asked for.
    check(unsafe { libc::timerfd_settime(alarm.as_raw_fd(), 0, &raw const time, ptr::null_mut()) })?;
    Ok(())
}

fn set_option<T>(socket: &OwnedFd, name: c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    let value = (&raw const *value).cast();
    // SAFETY: the value is as long as is said, and only read.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_XDP, name, value, length) })?;
    Ok(())
}

/// An option whose value is a structure of numbers. What an old kernel does not write of it stays zero.
fn option<T: Copy>(socket: &OwnedFd, level: c_int, name: c_int) -> io::Result<T> {
    // SAFETY: the callers ask for structures of numbers, for which zeros are values.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut length = size_of::<T>() as libc::socklen_t;
    let place = (&raw mut value).cast();
    // SAFETY: the kernel writes no more than the length.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, place, &raw mut length) })?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_goes_off_once_it_is_set_and_not_after_it_is_unset() {
        let alarm = alarm().unwrap();
        let any = crate::device::any_of([alarm.as_raw_fd()].into_iter()).unwrap();
        let is_readable = |milliseconds| {
            let mut fd = libc::pollfd { fd: any.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one descriptor, as is said.
            unsafe { libc::poll(&raw mut fd, 1, milliseconds) == 1 }
        };
        assert!(!is_readable(2));
        set_alarm(&alarm, Duration::from_millis(1)).unwrap();
        assert!(is_readable(5000) && is_readable(0));
        set_alarm(&alarm, Duration::ZERO).unwrap();
        assert!(!is_readable(2));
    }

    #[test]
    #[should_panic(expected = "outside of a mapping")]
    fn what_is_outside_of_a_mapping_is_not_pointed_to() {
        Mapping::anonymous(4096).unwrap().at::<u64>(4090, 1);
    }
}
