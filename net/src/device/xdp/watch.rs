//! Whether an interface is up, down or gone: rtnetlink(7) says when to look.

use crate::device::interface::{self, check};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Changes of interfaces.
const RTMGRP_LINK: u32 = 1;

/// What an interface is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Link {
    /// Frames can be sent; whether there is a cable is another question.
    Up,
    /// It was switched off.
    Down,
    /// There is no such interface any more.
    Gone,
}

/// Hears when an interface changes.
#[derive(Debug)]
pub(super) struct Watch {
    socket: OwnedFd,
    index: u32,
}

impl Watch {
    /// Listens for changes of the interface of this number.
    pub(super) fn new(index: u32) -> io::Result<Watch> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let socket = interface::socket(libc::AF_NETLINK, kind)?;
        // SAFETY: a structure of numbers, for which zeros are values.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        (address.nl_family, address.nl_groups) = (libc::AF_NETLINK as u16, RTMGRP_LINK);
        let length = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the address is as long as is said, and only read.
        check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
        Ok(Watch { socket, index })
    }

    /// Readable when something has changed.
    pub(super) fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Whether any interface has changed since the last call. What it was is easier asked for than read.
    pub(super) fn has_changed(&self) -> bool {
        let mut any = false;
        let mut start = [0_u8; 16];
        loop {
            let place = start.as_mut_ptr().cast();
            // SAFETY: no more is written than there is room for; what is longer is cut off.
            let got = unsafe { libc::recv(self.socket.as_raw_fd(), place, start.len(), libc::MSG_DONTWAIT) };
            // With ENOBUFS there were more changes than fit the socket.
            let missed = got < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS);
            if got <= 0 && !missed {
                return any;
            }
            any = true;
        }
    }

    /// What the interface is like now.
    pub(super) fn link(&self) -> io::Result<Link> {
        Ok(match interface::flags(&self.socket, self.index)? {
            Some(flags) if flags & libc::IFF_UP != 0 => Link::Up,
            Some(_) => Link::Down,
            None => Link::Gone,
        })
    }
}
