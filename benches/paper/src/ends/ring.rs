//! A bare io_uring: one receive and one send per message, no futures, never waited for.

use super::wire::{Socket, Wire};
use io_uring::{IoUring, opcode, squeue, types};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Tags of the two operations, one of each at most.
const SEND: u64 = 0;
const RECEIVE: u64 = 1;

/// A socket and a ring for it alone.
pub(super) struct Ring {
    ring: IoUring,
    socket: Socket,
    /// Never freed: a receive that was given up is the kernel's to complete, for as long as the ring takes to end.
    room: *mut u8,
    size: usize,
    /// The receive under way has not completed.
    is_receiving: bool,
    received: Option<io::Result<usize>>,
    sent: Option<io::Result<usize>>,
}

impl Ring {
    pub(super) fn new((socket, size): (Socket, usize)) -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag().setup_defer_taskrun();
        let room = Box::leak(vec![0x5a; size].into_boxed_slice()).as_mut_ptr();
        Ok(Ring {
            ring: builder.build(8)?,
            socket,
            room,
            size,
            is_receiving: false,
            received: None,
            sent: None,
        })
    }

    fn socket(&self) -> types::Fd {
        types::Fd(match &self.socket {
            Socket::Tcp(stream) => stream.as_raw_fd(),
            Socket::Udp(socket) => socket.as_raw_fd(),
        })
    }

    fn submit(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: both operations name a part of the room, which lives as long as the process; the descriptor is open as
        // long as the ring.
        unsafe { self.ring.submission().push(entry) }.map_err(io::Error::other)
    }

    /// Submits what there is, has the kernel do what it has put off, and takes what has completed.
    fn turn(&mut self) -> io::Result<()> {
        const GET_EVENTS: u32 = 1;
        let submissions = self.ring.submission().len() as u32;
        // SAFETY: no argument is passed; the entries in the ring are valid as they were when pushed.
        unsafe { self.ring.submitter().enter::<libc::sigset_t>(submissions, 0, GET_EVENTS, None)? };
        for completion in self.ring.completion() {
            let result = match completion.result() {
                error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
                count => Ok(count as usize),
            };
            match completion.user_data() {
                SEND => self.sent = Some(result),
                _ => (self.received, self.is_receiving) = (Some(result), false),
            }
        }
        Ok(())
    }
}

impl Wire for Ring {
    fn send(&mut self, size: usize) -> io::Result<()> {
        assert!(size <= self.size, "there is room for so much");
        let mut sent = 0;
        while sent < size {
            // SAFETY: within the room, as was just asserted.
            let rest = unsafe { self.room.add(sent) };
            let send = opcode::Send::new(self.socket(), rest, (size - sent) as u32);
            self.submit(&send.build().user_data(SEND))?;
            sent += loop {
                self.turn()?;
                if let Some(result) = self.sent.take() {
                    break result?;
                }
            };
        }
        Ok(())
    }

    fn receive(&mut self, from: usize, to: usize, patience: Duration) -> io::Result<usize> {
        assert!(from <= to && to <= self.size, "within the room");
        if !self.is_receiving && self.received.is_none() {
            // SAFETY: within the room, as was just asserted.
            let part = unsafe { self.room.add(from) };
            let receive = opcode::Recv::new(self.socket(), part, (to - from) as u32);
            self.submit(&receive.build().user_data(RECEIVE))?;
            self.is_receiving = true;
        }
        let start = Instant::now();
        loop {
            if let Some(result) = self.received.take() {
                return result;
            }
            if start.elapsed() > patience {
                return Err(ErrorKind::TimedOut.into());
            }
            self.turn()?;
        }
    }

    fn room(&self) -> &[u8] {
        assert!(!self.is_receiving, "the kernel writes to it");
        // SAFETY: the room has so many bytes and is never freed; nobody writes to it, as was just asserted.
        unsafe { std::slice::from_raw_parts(self.room, self.size) }
    }
}
