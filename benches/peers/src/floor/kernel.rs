//! Crossings into the kernel: system calls, epoll, io_uring, loopback TCP without a wake-up.

use super::row;
use crate::echo::raw_epoll::Epoll;
use crate::echo::raw_uring::deferring;
use io_uring::{IoUring, opcode};
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};

const CALLS: u64 = 300_000;

/// A new eventfd.
pub(super) fn eventfd(flags: libc::c_int) -> io::Result<File> {
    // SAFETY: takes nothing but numbers.
    let fd = unsafe { libc::eventfd(0, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to nobody else.
    Ok(unsafe { File::from_raw_fd(fd) })
}

pub(super) fn run() {
    row("system call (getppid)", CALLS, || {
        for _ in 0..CALLS {
            // SAFETY: has neither arguments nor effects.
            unsafe { libc::syscall(libc::SYS_getppid) };
        }
    });
    epoll();
    uring("no flags", IoUring::builder().build(256).unwrap());
    uring("SINGLE_ISSUER, DEFER_TASKRUN", deferring().build(256).unwrap());
    loopback().unwrap();
}

fn epoll() {
    let mut event = eventfd(libc::EFD_NONBLOCK).unwrap();
    let mut epoll = Epoll::new().unwrap();
    epoll.watch(event.as_raw_fd(), libc::EPOLLIN, true);
    row("epoll_wait(0), nothing ready", CALLS, || {
        for _ in 0..CALLS {
            black_box(epoll.wait(0).count());
        }
    });
    row("eventfd: write, epoll_wait, read", CALLS / 4, || {
        for _ in 0..CALLS / 4 {
            event.write_all(&1_u64.to_ne_bytes()).unwrap();
            black_box(epoll.wait(0).count());
            event.read_exact(&mut [0; 8]).unwrap();
        }
    });
}

fn uring(flags: &str, mut ring: IoUring) {
    const GET_EVENTS: u32 = 1;
    row(&format!("io_uring_enter, nothing to do, {flags}"), CALLS, || {
        for _ in 0..CALLS {
            // SAFETY: no argument is passed, and nothing has been submitted.
            let _ = unsafe { ring.submitter().enter::<libc::sigset_t>(0, 0, GET_EVENTS, None) };
        }
    });
    for batch in [1, 32] {
        let batches = CALLS / 4 / batch;
        row(&format!("io_uring no-op, {batch} at a time, {flags}"), batches * batch, || {
            for _ in 0..batches {
                for _ in 0..batch {
                    // SAFETY: a no-op refers to no memory.
                    unsafe { ring.submission().push(&opcode::Nop::new().build()).unwrap() };
                }
                ring.submit_and_wait(batch as usize).unwrap();
                black_box(ring.completion().count());
            }
        });
    }
}

fn loopback() -> io::Result<()> {
    let listener = TcpListener::bind(crate::echo::ANY)?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    server.set_nonblocking(true)?;
    row("read of an empty socket", CALLS, || {
        for _ in 0..CALLS {
            black_box(server.read(&mut buffer).is_err());
        }
    });
    server.set_nonblocking(false)?;
    for size in [64, 16 * 1024] {
        row(&format!("loopback TCP, {size} B: write and read, one thread, one way"), CALLS / 10, || {
            for _ in 0..CALLS / 10 {
                client.write_all(&buffer[..size]).unwrap();
                server.read_exact(&mut buffer[..size]).unwrap();
            }
        });
    }
    Ok(())
}
