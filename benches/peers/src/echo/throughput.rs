//! Many connections, one message in flight on each, one epoll thread.

use super::raw_epoll::Epoll;
use super::server::Server;
use crate::machine::{Burst, Pace, Scheduled};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// What one burst showed.
pub struct Figures {
    /// Messages echoed in a second.
    pub rate: f64,
    /// The server's CPU time per message, user and kernel.
    pub server_ns: f64,
    /// The share of its core that the server used: 1 says that the server was the limit.
    pub utilisation: f64,
}

/// Time before the window that counts.
const WARM_UP: Duration = Duration::from_millis(8);

/// One burst: a window of the given length.
pub(super) fn burst(
    server: &Server,
    connections: usize,
    size: usize,
    window: Duration,
    pace: Pace,
) -> io::Result<Figures> {
    let mut load = Load::connect(server.address, connections, size)?;
    std::thread::sleep(pace.pause);
    let burst = Burst::start(server.pid(), pace.real_time);
    load.start()?;
    load.run_for(WARM_UP)?;
    let before = Scheduled::of(server.pid());
    let (messages, wall) = load.run_for(window)?;
    let server_cpu = Scheduled::of(server.pid()).since(before).running as f64;
    drop(burst);
    Ok(Figures {
        rate: messages as f64 / wall.as_secs_f64(),
        server_ns: server_cpu / messages as f64,
        utilisation: server_cpu / wall.as_nanos() as f64,
    })
}

/// Connections with one message in flight on each.
pub struct Load {
    epoll: Epoll,
    clients: Vec<Client>,
    /// From descriptor to client.
    index: Vec<usize>,
    message: Vec<u8>,
    buffer: Vec<u8>,
    ready: Vec<(RawFd, u32)>,
}

struct Client {
    stream: TcpStream,
    sent: usize,
    received: usize,
}

impl Load {
    /// Connects them all; nothing is sent yet.
    pub fn connect(server: SocketAddr, connections: usize, size: usize) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let (mut clients, mut index) = (vec![], vec![]);
        for client in 0..connections {
            let stream = TcpStream::connect(server)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let fd = stream.as_raw_fd();
            epoll.watch(fd, libc::EPOLLIN, true);
            index.resize(index.len().max(fd as usize + 1), usize::MAX);
            index[fd as usize] = client;
            clients.push(Client { stream, sent: 0, received: 0 });
        }
        let (message, buffer) = (vec![0xa5; size], vec![0; 64 * 1024]);
        Ok(Self { epoll, clients, index, message, buffer, ready: vec![] })
    }

    /// Sends the first message on every connection.
    pub fn start(&mut self) -> io::Result<()> {
        (0..self.clients.len()).try_for_each(|client| self.push(client))
    }

    /// Echoes until `time` has passed; how many messages came back, and how long it took.
    fn run_for(&mut self, time: Duration) -> io::Result<(u64, Duration)> {
        let start = Instant::now();
        let mut messages = 0;
        while start.elapsed() < time {
            messages += self.turn()?;
        }
        Ok((messages, start.elapsed()))
    }

    /// Echoes until at least `count` messages have come back; gives how many did.
    pub fn run_messages(&mut self, count: u64) -> io::Result<u64> {
        let mut messages = 0;
        while messages < count {
            messages += self.turn()?;
        }
        Ok(messages)
    }

    /// Waits for the server once; gives the number of messages that came back whole.
    fn turn(&mut self) -> io::Result<u64> {
        const PATIENCE_MS: libc::c_int = 10_000;
        self.ready.extend(self.epoll.wait(PATIENCE_MS));
        if self.ready.is_empty() {
            return Err(io::Error::new(ErrorKind::TimedOut, "the server does not answer"));
        }
        let mut messages = 0;
        for (fd, events) in std::mem::take(&mut self.ready) {
            let client = self.index[fd as usize];
            if events & libc::EPOLLOUT as u32 != 0 {
                self.epoll.watch(fd, libc::EPOLLIN, false);
                self.push(client)?;
            }
            messages += self.pull(client)?;
        }
        Ok(messages)
    }

    /// Sends the rest of a client's message; if the socket is full, watches for it to empty.
    fn push(&mut self, client: usize) -> io::Result<()> {
        let Client { stream, sent, .. } = &mut self.clients[client];
        while *sent < self.message.len() {
            match stream.write(&self.message[*sent..]) {
                Ok(n) => *sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.epoll.watch(stream.as_raw_fd(), libc::EPOLLIN | libc::EPOLLOUT, false);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads once; when the message is complete, sends the next.
    fn pull(&mut self, client: usize) -> io::Result<u64> {
        let Client { stream, sent, received } = &mut self.clients[client];
        match stream.read(&mut self.buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => *received += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        }
        if *received < self.message.len() {
            return Ok(0);
        }
        (*received, *sent) = (*received - self.message.len(), 0);
        self.push(client)?;
        Ok(1)
    }
}
