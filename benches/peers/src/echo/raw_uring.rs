//! The floor of completion: io_uring with one receive and one send per message, no futures.

use super::{ANY, BUFFER, announce, seen, set_nodelay};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use slab::Slab;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// How the ring is set up and waited for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Mode {
    /// No flags.
    Plain,
    /// SINGLE_ISSUER and DEFER_TASKRUN.
    Defer,
    /// The same, never sleeping.
    DeferSpin,
}

/// SINGLE_ISSUER and DEFER_TASKRUN, as a runtime of one thread would have them.
pub(crate) fn deferring() -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag().setup_defer_taskrun();
    builder
}

struct Connection {
    socket: OwnedFd,
    buffer: Box<[u8]>,
    received: usize,
    sent: usize,
}

/// The low bits of an operation's user data; the connection's key is above them.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;

struct Server {
    listener: TcpListener,
    connections: Slab<Connection>,
    submissions: Vec<squeue::Entry>,
}

/// Serves until killed.
pub(super) fn serve(mode: Mode) {
    let builder = if mode == Mode::Plain { IoUring::builder() } else { deferring() };
    let mut ring: IoUring = builder.build(1024).unwrap();
    let listener = TcpListener::bind(ANY).unwrap();
    announce(listener.local_addr().unwrap());
    let mut server = Server { listener, connections: Slab::new(), submissions: vec![] };
    server.accept();
    let mut completions = Vec::with_capacity(1024);
    loop {
        push(&mut ring, &mut server.submissions);
        if mode == Mode::DeferSpin {
            poll(&mut ring);
        } else {
            let _ = ring.submit_and_wait(1);
        }
        completions.extend(ring.completion().map(|x| (x.user_data(), x.result(), x.flags())));
        for (data, result, flags) in completions.drain(..) {
            server.complete(data, result, flags);
        }
    }
}

/// Moves submissions into the ring.
pub(super) fn push(ring: &mut IoUring, submissions: &mut Vec<squeue::Entry>) {
    for entry in submissions.drain(..) {
        // SAFETY: buffers belong to connections, and a connection is removed only when its one operation has
        // completed.
        while unsafe { ring.submission().push(&entry) }.is_err() {
            ring.submit().unwrap();
        }
    }
}

/// Submits and lets the kernel run what it has deferred, without waiting.
fn poll(ring: &mut IoUring) {
    const GET_EVENTS: u32 = 1;
    let submissions = ring.submission().len() as u32;
    // SAFETY: no argument is passed; the entries in the ring are valid as they were when pushed.
    let _ = unsafe { ring.submitter().enter::<libc::sigset_t>(submissions, 0, GET_EVENTS, None) };
}

impl Server {
    fn accept(&mut self) {
        let accept = opcode::AcceptMulti::new(types::Fd(self.listener.as_raw_fd()));
        self.submissions.push(accept.build().user_data(ACCEPT));
    }

    fn receive(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        let socket = types::Fd(connection.socket.as_raw_fd());
        let receive = opcode::Recv::new(socket, connection.buffer.as_mut_ptr(), BUFFER as u32);
        self.submissions.push(receive.build().user_data((key as u64) << 2 | RECEIVE));
    }

    fn send(&mut self, key: usize) {
        let connection = &self.connections[key];
        let rest = &connection.buffer[connection.sent..connection.received];
        let socket = types::Fd(connection.socket.as_raw_fd());
        let send = opcode::Send::new(socket, rest.as_ptr(), rest.len() as u32);
        self.submissions.push(send.build().user_data((key as u64) << 2 | SEND));
    }

    fn complete(&mut self, data: u64, result: i32, flags: u32) {
        let key = (data >> 2) as usize;
        match data & 3 {
            ACCEPT => {
                if result >= 0 {
                    set_nodelay(result);
                    // SAFETY: the kernel has just given this descriptor to nobody else.
                    let socket = unsafe { OwnedFd::from_raw_fd(result) };
                    let buffer = vec![0; BUFFER].into_boxed_slice();
                    let connection = Connection { socket, buffer, received: 0, sent: 0 };
                    let key = self.connections.insert(connection);
                    self.receive(key);
                }
                if !cqueue::more(flags) {
                    self.accept();
                }
            }
            RECEIVE if result > 0 => {
                let connection = &mut self.connections[key];
                (connection.received, connection.sent) = (result as usize, 0);
                seen(&connection.buffer[..connection.received]);
                self.send(key);
            }
            SEND if result > 0 => {
                let connection = &mut self.connections[key];
                connection.sent += result as usize;
                if connection.sent < connection.received {
                    self.send(key);
                } else {
                    self.receive(key);
                }
            }
            _ => drop(self.connections.remove(key)),
        }
    }
}
