//! When the kernel has let go of the memory of a queue.
//!
//! close(2) of a socket does not say so: frames that are being sent hold the socket, and a driver is told to stop by a
//! task of the kernel that runs some time later. While any of that is left, the queue is the former socket's, and bind(2)
//! says so to another one. So the queue is bound to a small socket of no other use: when that is possible, or there is no
//! interface any more, nobody uses the memory.

use super::kernel::{self, Mapping};
use crate::device::interface;
use std::io;
use std::time::{Duration, Instant};

/// How long it is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long between two attempts.
const PAUSE: Duration = Duration::from_millis(1);

/// Waits until these queues have no sockets; whether that is so.
pub(super) fn wait(index: u32, queues: &[u32]) -> bool {
    wait_until(Instant::now() + PATIENCE, index, queues)
}

/// The same until `end` at most.
pub(super) fn wait_until(end: Instant, index: u32, queues: &[u32]) -> bool {
    queues.iter().all(|&queue| {
        loop {
            match probe(index, queue) {
                Ok(()) => return true,
                // There is none, or none of this number.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EINVAL)) => {
                    return true;
                }
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < end => {}
                Err(_) => return false,
            }
            std::thread::sleep(PAUSE);
        }
    })
}

/// Binds a socket of its own to the queue.
fn probe(index: u32, queue: u32) -> io::Result<()> {
    const CHUNK: usize = 2048;
    const LEN: usize = 64 << 10;
    let memory = Mapping::anonymous(LEN)?;
    let socket = interface::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC)?;
    // SAFETY: the mapping outlives the call, and no address of it is given to the kernel.
    unsafe { kernel::register(&socket, memory.base(), LEN, CHUNK)? };
    for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_RX_RING] {
        kernel::make_ring(&socket, ring, 2)?;
    }
    kernel::bind(&socket, index, queue, libc::XDP_COPY, None)
}
