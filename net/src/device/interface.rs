//! What the kernel tells of its network interfaces (netdevice(7)).

use super::MacAddress;
use std::ffi::{c_char, c_int};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A request about the interface of this name.
///
/// # Errors
/// `InvalidInput` for what no interface can be called.
pub(super) fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: a structure of numbers, for which zeros are values.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    if name.len() > room || name.bytes().any(|byte| byte == 0 || byte == b'/') {
        let text = format!("a name of an interface has at most {room} bytes, without '/'");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    for (letter, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *letter = byte as c_char;
    }
    Ok(request)
}

/// Any socket, to ask through.
pub(super) fn any_socket() -> io::Result<OwnedFd> {
    socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC)
}

/// A descriptor that is readable when one of these is.
pub(crate) fn any_of(descriptors: impl Iterator<Item = RawFd>) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers; the descriptor, if there is one, is new and nobody else's.
    let any = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
    for fd in descriptors {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        // SAFETY: the event is only read.
        check(unsafe { libc::epoll_ctl(any.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
    }
    Ok(any)
}

/// A new socket.
pub(super) fn socket(family: c_int, kind: c_int) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers; the descriptor, if there is one, is new and nobody else's.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::socket(family, kind, 0))?)) }
}

/// The number of an interface.
pub(super) fn index(socket: &OwnedFd, name: &str) -> io::Result<c_int> {
    let answer = ask(socket.as_raw_fd(), name, libc::SIOCGIFINDEX as _)?;
    // SAFETY: what SIOCGIFINDEX writes.
    Ok(unsafe { answer.ifr_ifru.ifru_ifindex })
}

/// The MTU of an interface, in bytes.
pub(super) fn mtu(socket: &OwnedFd, name: &str) -> io::Result<usize> {
    let answer = ask(socket.as_raw_fd(), name, libc::SIOCGIFMTU as _)?;
    // SAFETY: what SIOCGIFMTU writes.
    Ok(usize::try_from(unsafe { answer.ifr_ifru.ifru_mtu }).unwrap_or(0))
}

/// The Ethernet address of an interface.
pub(super) fn hardware_address(socket: &OwnedFd, name: &str) -> io::Result<MacAddress> {
    let answer = ask(socket.as_raw_fd(), name, libc::SIOCGIFHWADDR as _)?;
    // SAFETY: what SIOCGIFHWADDR writes.
    let data = unsafe { answer.ifr_ifru.ifru_hwaddr.sa_data };
    let mut address = MacAddress::default();
    for (byte, letter) in address.0.iter_mut().zip(data) {
        *byte = letter as u8;
    }
    Ok(address)
}

/// The flags of the interface of this number (IFF_UP and others); none if it is gone.
#[cfg(feature = "xdp")]
pub(super) fn flags(socket: &OwnedFd, index: u32) -> io::Result<Option<c_int>> {
    let mut request = request("")?;
    request.ifr_ifru.ifru_ifindex = index as c_int;
    for code in [libc::SIOCGIFNAME, libc::SIOCGIFFLAGS] {
        // SAFETY: the first reads a number from an `ifreq` and writes the name, the second the other way around.
        let result = check(unsafe { libc::ioctl(socket.as_raw_fd(), code as _, &raw mut request) });
        match result {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
            result => result?,
        };
    }
    // SAFETY: what SIOCGIFFLAGS writes.
    Ok(Some(c_int::from(unsafe { request.ifr_ifru.ifru_flags })))
}

/// Has the interface receive frames for all addresses, as long as this packet socket is open.
pub(super) fn receive_everything(socket: &OwnedFd, index: c_int) -> io::Result<()> {
    // SAFETY: a structure of numbers, for which zeros are values.
    let mut membership: libc::packet_mreq = unsafe { std::mem::zeroed() };
    membership.mr_ifindex = index;
    membership.mr_type = libc::PACKET_MR_PROMISC as u16;
    let length = size_of_val(&membership) as libc::socklen_t;
    let (option, value) = (libc::PACKET_ADD_MEMBERSHIP, (&raw const membership).cast());
    // SAFETY: the value is as long as is said, and only read.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, value, length) })?;
    Ok(())
}

/// The result of a call, or why there is none.
pub(super) fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A request that names an interface and gets an answer of a few bytes.
fn ask(fd: RawFd, name: &str, code: libc::c_ulong) -> io::Result<libc::ifreq> {
    let mut request = request(name)?;
    // SAFETY: the requests above read the name from an `ifreq`, and write no more than one.
    check(unsafe { libc::ioctl(fd, code as _, &raw mut request) })?;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_there_and_others_are_not() {
        let socket = any_socket().unwrap();
        assert!(index(&socket, "lo").unwrap() > 0 && mtu(&socket, "lo").unwrap() > 1000);
        assert_eq!(hardware_address(&socket, "lo").unwrap(), MacAddress::default());
        assert_eq!(index(&socket, "none99").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        for name in ["a name of sixteen", "a/b", "a\0b"] {
            assert_eq!(index(&socket, name).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
