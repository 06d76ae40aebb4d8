//! The floor of readiness: level-triggered epoll, no futures; `spin` waits with a timeout of zero.

use super::{ANY, BUFFER, announce, seen};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

/// An epoll instance; the events carry the descriptor that they are about.
pub(crate) struct Epoll {
    epoll: RawFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: takes nothing but a number.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; 1024] })
    }

    /// Adds a descriptor, or changes what it is watched for.
    pub(crate) fn watch(&self, fd: RawFd, interest: libc::c_int, add: bool) {
        let mut event = libc::epoll_event { events: interest as u32, u64: fd as u64 };
        let operation = if add { libc::EPOLL_CTL_ADD } else { libc::EPOLL_CTL_MOD };
        // SAFETY: the kernel reads one event that lives across the call.
        let result = unsafe { libc::epoll_ctl(self.epoll, operation, fd, &raw mut event) };
        assert_eq!(result, 0, "epoll_ctl: {}", io::Error::last_os_error());
    }

    /// Waits, and gives the descriptors with what they are ready for.
    pub(crate) fn wait(&mut self, timeout_ms: libc::c_int) -> impl Iterator<Item = (RawFd, u32)> {
        let (events, capacity) = (self.events.as_mut_ptr(), self.events.len() as libc::c_int);
        // SAFETY: the kernel writes at most `capacity` events into memory that is theirs.
        let ready = unsafe { libc::epoll_wait(self.epoll, events, capacity, timeout_ms) };
        self.events[..ready.max(0) as usize].iter().map(|event| (event.u64 as RawFd, event.events))
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        // SAFETY: this is the descriptor's owner.
        unsafe { libc::close(self.epoll) };
    }
}

/// Serves until killed.
pub(super) fn serve(spin: bool) {
    let listener = TcpListener::bind(ANY).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut epoll = Epoll::new().unwrap();
    epoll.watch(listener.as_raw_fd(), libc::EPOLLIN, true);
    announce(listener.local_addr().unwrap());
    // By descriptor: a look-up is one index.
    let mut connections: Vec<Option<TcpStream>> = vec![];
    let mut buffer = vec![0; BUFFER];
    let mut ready = vec![];
    loop {
        ready.extend(epoll.wait(if spin { 0 } else { -1 }).map(|event| event.0));
        for fd in ready.drain(..) {
            if fd == listener.as_raw_fd() {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).unwrap();
                    stream.set_nodelay(true).unwrap();
                    let fd = stream.as_raw_fd();
                    epoll.watch(fd, libc::EPOLLIN, true);
                    connections.resize_with(connections.len().max(fd as usize + 1), || None);
                    connections[fd as usize] = Some(stream);
                }
            } else if let Some(stream) = &mut connections[fd as usize]
                && !answer(stream, &mut buffer)
            {
                connections[fd as usize] = None;
            }
        }
    }
}

/// One read and what it takes to write it back; false at the end of the connection.
fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> bool {
    let mut rest = match stream.read(buffer) {
        Ok(0) => return false,
        Ok(n) => &buffer[..n],
        Err(error) => return error.kind() == ErrorKind::WouldBlock,
    };
    seen(rest);
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(n) => rest = &rest[n..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(_) => return false,
        }
    }
    true
}
