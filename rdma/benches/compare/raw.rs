//! The floor: messages to and fro on libibverbs and librdmacm alone, as one would write them by hand for that. Receives
//! are posted beforehand and anew, sends go inline, one of [`SIGNALLED`] tells of its completion, and who waits spins.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ptr;
use std::time::Instant;

use ibverbs_sys::*;

use super::MESSAGE;
use super::manager::{Manager, event};

const RECEIVES: usize = 64;
const SENDS: u32 = 128;
const SIGNALLED: u32 = 32;
const BATCH: usize = 16;

/// An end: a queue pair with what belongs to it. What the device has of it stays as long as the program.
pub(super) struct Raw {
    queue: *mut ibv_cq,
    pair: *mut ibv_qp,
    key: u32,
    memory: &'static mut [[u8; MESSAGE]; RECEIVES + 1],
    unsignalled: u32,
}

// SAFETY: nobody else uses what the pointers point to, and the library may be called on any thread.
unsafe impl Send for Raw {}

fn check<T>(what: &str, pointer: *mut T) -> io::Result<*mut T> {
    let error = || io::Error::other(format!("{what}: {}", io::Error::last_os_error()));
    if pointer.is_null() { Err(error()) } else { Ok(pointer) }
}

fn succeed(what: &str, code: i32) -> io::Result<()> {
    match code {
        0 => Ok(()),
        -1 => Err(io::Error::other(format!("{what}: {}", io::Error::last_os_error()))),
        code => Err(io::Error::other(format!("{what}: {}", io::Error::from_raw_os_error(code.abs())))),
    }
}

impl Raw {
    /// Two ends of a connection.
    pub(super) fn pair(address: IpAddr) -> io::Result<[Raw; 2]> {
        let (listener, manager) = (Manager::new()?, Manager::new()?);
        listener.listen(address)?;
        manager.resolve_address(SocketAddr::new(address, listener.port()))?;
        manager.next(event::ADDRESS_RESOLVED)?;
        manager.resolve_route()?;
        manager.next(event::ROUTE_RESOLVED)?;
        let near = Raw::on(&manager)?;
        manager.connect()?;
        let accepted = listener.next(event::REQUEST)?;
        let far = Raw::on(&accepted)?;
        accepted.accept()?;
        manager.next(event::ESTABLISHED)?;
        accepted.next(event::ESTABLISHED)?;
        Ok([near, far])
    }

    /// For a connection that is being made, with its receives posted.
    fn on(manager: &Manager) -> io::Result<Raw> {
        let memory = Box::leak(Box::new([[7; MESSAGE]; RECEIVES + 1]));
        // SAFETY: all that is made stays, and so does the memory.
        let mut raw = unsafe {
            let context = manager.context();
            let domain = check("make a domain", ibv_alloc_pd(context))?;
            let access = ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0 as i32;
            let (start, length) = (memory.as_mut_ptr().cast(), size_of_val(memory));
            let region = check("register memory", ibv_reg_mr(domain, start, length, access))?;
            let completions = SENDS as i32 + RECEIVES as i32;
            let queue = ibv_create_cq(context, completions, ptr::null_mut(), ptr::null_mut(), 0);
            let queue = check("make a completion queue", queue)?;
            let mut attributes = ibv_qp_init_attr {
                qp_context: ptr::null_mut(),
                send_cq: queue,
                recv_cq: queue,
                srq: ptr::null_mut(),
                cap: ibv_qp_cap {
                    max_send_wr: SENDS,
                    max_recv_wr: RECEIVES as u32,
                    max_send_sge: 1,
                    max_recv_sge: 1,
                    max_inline_data: MESSAGE as u32,
                },
                qp_type: ibv_qp_type::IBV_QPT_RC,
                sq_sig_all: 0,
            };
            let pair = manager.make_pair(domain, &mut attributes)?;
            Raw { queue, pair, key: (*region).lkey, memory, unsignalled: 0 }
        };
        (0..RECEIVES).try_for_each(|index| raw.post_receive(index))?;
        Ok(raw)
    }

    fn post_receive(&mut self, index: usize) -> io::Result<()> {
        let mut segment = self.segment(index);
        let (next, sg_list) = (ptr::null_mut(), &raw mut segment);
        let mut request = ibv_recv_wr { wr_id: index as u64, next, sg_list, num_sge: 1 };
        let mut bad = ptr::null_mut();
        // SAFETY: the queue pair is there, and so is the memory.
        let failed = unsafe {
            let post = (*(*self.pair).context).ops.post_recv.expect("all drivers have it");
            post(self.pair, &mut request, &mut bad)
        };
        succeed("post a receive", failed)
    }

    fn segment(&self, index: usize) -> ibv_sge {
        ibv_sge { addr: self.memory[index].as_ptr() as u64, length: MESSAGE as u32, lkey: self.key }
    }

    fn send(&mut self, index: usize) -> io::Result<()> {
        let mut segment = self.segment(index);
        self.unsignalled = (self.unsignalled + 1) % SIGNALLED;
        let signalled = if self.unsignalled == 0 { ibv_send_flags::IBV_SEND_SIGNALED.0 } else { 0 };
        // SAFETY: numbers and pointers, all of which may be zero. The queue pair is there, and so is the memory.
        let failed = unsafe {
            let mut request: ibv_send_wr = std::mem::zeroed();
            request.wr_id = RECEIVES as u64;
            (request.sg_list, request.num_sge) = (&mut segment, 1);
            request.opcode = ibv_wr_opcode::IBV_WR_SEND;
            request.send_flags = ibv_send_flags::IBV_SEND_INLINE.0 | signalled;
            let mut bad = ptr::null_mut();
            let post = (*(*self.pair).context).ops.post_send.expect("all drivers have it");
            post(self.pair, &mut request, &mut bad)
        };
        succeed("post a send", failed)
    }

    /// Spins until a message has come, and says where it is.
    fn receive(&mut self) -> io::Result<usize> {
        let mut batch = [ibv_wc::default(); BATCH];
        loop {
            // SAFETY: the queue is there, and there is room for as many.
            let count = unsafe {
                let poll = (*(*self.queue).context).ops.poll_cq.expect("all drivers have it");
                poll(self.queue, BATCH as i32, batch.as_mut_ptr().cast())
            };
            let mut come = None;
            for completion in &batch[..usize::try_from(count).map_err(io::Error::other)?] {
                if let Some((status, vendor)) = completion.error() {
                    return Err(io::Error::other(format!("a request has failed: {status}, {vendor}")));
                }
                if completion.opcode() == ibv_wc_opcode::IBV_WC_RECV {
                    come = Some(completion.wr_id() as usize);
                }
            }
            // One message is under way at a time.
            if let Some(index) = come {
                return Ok(index);
            }
        }
    }

    /// Sends and waits for the answer, so many times; how many ns each took.
    pub(super) fn ping(&mut self, count: usize) -> io::Result<Vec<u64>> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            self.send(RECEIVES)?;
            let index = self.receive()?;
            assert_eq!(std::hint::black_box(&self.memory)[index], [7; MESSAGE]);
            times.push(start.elapsed().as_nanos() as u64);
            self.post_receive(index)?;
        }
        Ok(times)
    }

    /// The same with the other end in the same thread, and other code before each message, whose time does not count.
    pub(super) fn ping_alone(
        &mut self,
        other: &mut Raw,
        between: fn() -> u64,
        count: usize,
    ) -> io::Result<Vec<u64>> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            let mut others = between();
            self.send(RECEIVES)?;
            let index = other.receive()?;
            others += between();
            other.send(index)?;
            other.post_receive(index)?;
            let index = self.receive()?;
            assert_eq!(std::hint::black_box(&self.memory)[index], [7; MESSAGE]);
            times.push((start.elapsed().as_nanos() as u64).saturating_sub(others));
            self.post_receive(index)?;
        }
        Ok(times)
    }

    /// Answers so many times.
    pub(super) fn pong(&mut self, count: usize) -> io::Result<()> {
        for _ in 0..count {
            let index = self.receive()?;
            self.send(index)?;
            self.post_receive(index)?;
        }
        Ok(())
    }
}
