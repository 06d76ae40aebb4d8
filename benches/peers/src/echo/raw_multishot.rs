//! io_uring with multishot receive into a ring of provided buffers: no receive has to be armed again.

use super::raw_uring::{deferring, push};
use super::{ANY, BUFFER, announce, seen, set_nodelay};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU16, Ordering};

const BUFFERS: u16 = 1024;
const GROUP: u16 = 7;

/// Buffers that the kernel takes from a ring shared with it; they live as long as the process.
struct Provided {
    entries: *mut types::BufRingEntry,
    data: *mut u8,
    tail: u16,
}

impl Provided {
    fn register(ring: &IoUring) -> Self {
        let size = usize::from(BUFFERS) * size_of::<types::BufRingEntry>();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_POPULATE;
        // SAFETY: a new anonymous mapping, checked below.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), size, protection, flags, -1, 0) };
        assert_ne!(memory, libc::MAP_FAILED);
        // SAFETY: the mapping holds that many entries, is aligned to a page and is never unmapped.
        unsafe { ring.submitter().register_buf_ring_with_flags(memory as u64, BUFFERS, GROUP, 0).unwrap() };
        let data = vec![0; usize::from(BUFFERS) * BUFFER].leak().as_mut_ptr();
        let mut provided = Self { entries: memory.cast(), data, tail: 0 };
        (0..BUFFERS).for_each(|buffer| provided.give_back(buffer));
        provided
    }

    fn address(&self, buffer: u16) -> *mut u8 {
        // SAFETY: the kernel and this program name only buffers below BUFFERS.
        unsafe { self.data.add(usize::from(buffer) * BUFFER) }
    }

    /// Makes a buffer available to the kernel.
    fn give_back(&mut self, buffer: u16) {
        // SAFETY: the index is within the ring. The kernel reads an entry only after the tail has passed it,
        // which the release store does last; the tail lies inside the ring's memory.
        unsafe {
            let entry = &mut *self.entries.add(usize::from(self.tail & (BUFFERS - 1)));
            entry.set_addr(self.address(buffer) as u64);
            entry.set_len(BUFFER as u32);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
            let tail = types::BufRingEntry::tail(self.entries).cast_mut().cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

/// The low bits of an operation's user data; then the buffer, and the socket in the upper half.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;

fn accept(listener: &TcpListener) -> squeue::Entry {
    opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).build().user_data(ACCEPT)
}

fn receive(socket: RawFd) -> squeue::Entry {
    opcode::RecvMulti::new(types::Fd(socket), GROUP).build().user_data((socket as u64) << 32 | RECEIVE)
}

/// Serves until killed.
pub(super) fn serve() {
    let mut ring: IoUring = deferring().build(1024).unwrap();
    let mut provided = Provided::register(&ring);
    let listener = TcpListener::bind(ANY).unwrap();
    announce(listener.local_addr().unwrap());
    let mut submissions = vec![accept(&listener)];
    let mut completions = Vec::with_capacity(1024);
    loop {
        push(&mut ring, &mut submissions);
        let _ = ring.submit_and_wait(1);
        completions.extend(ring.completion().map(|x| (x.user_data(), x.result(), x.flags())));
        for (data, result, flags) in completions.drain(..) {
            let socket = (data >> 32) as RawFd;
            let armed = cqueue::more(flags);
            match data & 3 {
                ACCEPT => {
                    if result >= 0 {
                        set_nodelay(result);
                        submissions.push(receive(result));
                    }
                    if !armed {
                        submissions.push(accept(&listener));
                    }
                }
                RECEIVE => {
                    if result > 0 {
                        let buffer = cqueue::buffer_select(flags).expect("data comes in a buffer");
                        let bytes = provided.address(buffer).cast_const();
                        // SAFETY: the kernel has filled so much of the buffer, and will not write to it again
                        // before it is given back.
                        seen(unsafe { std::slice::from_raw_parts(bytes, result as usize) });
                        // The kernel repeats a short send by itself.
                        let send = opcode::Send::new(types::Fd(socket), bytes, result as u32)
                            .flags(libc::MSG_WAITALL)
                            .build();
                        let data = (socket as u64) << 32 | u64::from(buffer) << 2 | SEND;
                        submissions.push(send.user_data(data));
                    }
                    if result > 0 || result == -libc::ENOBUFS {
                        if !armed {
                            submissions.push(receive(socket));
                        }
                    } else if !armed {
                        // SAFETY: the kernel gave this descriptor to this program, which has no other use of
                        // it: the receive has ended.
                        unsafe { libc::close(socket) };
                    }
                }
                _ => provided.give_back((data >> 2) as u16),
            }
        }
    }
}
