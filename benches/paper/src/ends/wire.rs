//! Ends that wait for one message at a time, whatever carries it.

use super::{End, Means, PATIENCE, Side, Times, announce};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// How long a datagram may take that is the first of all: neighbours are looked for meanwhile.
const HELLO: Duration = Duration::from_millis(100);

/// A connected socket.
pub(super) enum Socket {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Socket {
    fn send(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(data),
            Socket::Udp(socket) => socket.send(data),
        }
    }

    fn receive(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(room),
            Socket::Udp(socket) => socket.recv(room),
        }
    }
}

/// A connection with room for a message, in which it is received and from which it is sent.
pub(super) trait Wire {
    /// Sends the first `size` bytes of the room.
    fn send(&mut self, size: usize) -> io::Result<()>;

    /// Receives some bytes into this part of the room; 0 at the end of the stream.
    ///
    /// `TimedOut` after `patience`: then what comes later is taken by the next call, which has to be the same.
    fn receive(&mut self, from: usize, to: usize, patience: Duration) -> io::Result<usize>;

    /// The room.
    fn room(&self) -> &[u8];
}

/// Serves or drives by the means that `wrap` makes of a socket with room for so many bytes.
pub(super) fn run<W: Wire>(end: &End, wrap: impl Fn((Socket, usize)) -> io::Result<W>) -> io::Result<()> {
    if end.side == Side::Client {
        for &size in &end.sizes {
            let mut wire = wrap((connect(end)?, size))?;
            if end.udp {
                hello(&mut wire, size)?;
            }
            ping(&mut wire, size, end.time())?.print();
        }
        return Ok(());
    }
    let mut log = match &end.log {
        Some(path) => Some(File::options().create(true).append(true).open(path)?),
        None => None,
    };
    if end.udp {
        let socket = UdpSocket::bind(end.address)?;
        announce(socket.local_addr()?);
        let (_, peer) = socket.peek_from(&mut [0; 1])?;
        socket.connect(peer)?;
        let size = end.sizes[0];
        return echo(&mut wrap((Socket::Udp(socket), size))?, size, log.as_mut());
    }
    let listener = TcpListener::bind(end.address)?;
    announce(listener.local_addr()?);
    for &size in end.sizes.iter().cycle() {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        echo(&mut wrap((Socket::Tcp(stream), size))?, size, log.as_mut())?;
    }
    Ok(())
}

fn connect(end: &End) -> io::Result<Socket> {
    if end.udp {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let socket = UdpSocket::bind(any)?;
        socket.connect(end.address)?;
        return Ok(Socket::Udp(socket));
    }
    let stream = TcpStream::connect(end.address)?;
    stream.set_nodelay(true)?;
    Ok(Socket::Tcp(stream))
}

/// Sends a datagram until it is answered, then waits until nothing more comes: from then on none is lost, and each answer
/// is that to the last one.
fn hello(wire: &mut impl Wire, size: usize) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut is_answered = false;
    while !is_answered {
        if Instant::now() > deadline {
            return Err(io::Error::new(ErrorKind::TimedOut, "no datagram is answered"));
        }
        wire.send(size)?;
        is_answered = wire.receive(0, size, HELLO).is_ok();
    }
    while wire.receive(0, size, HELLO).is_ok() {}
    Ok(())
}

fn ping(wire: &mut impl Wire, size: usize, time: Duration) -> io::Result<Times> {
    let mut times = Times::start(size, time);
    loop {
        let start = Instant::now();
        wire.send(size)?;
        if !message(wire, size, PATIENCE)? {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if !times.add(start) {
            return Ok(times);
        }
    }
}

/// Receives a message; false at the end of the connection.
fn message(wire: &mut impl Wire, size: usize, patience: Duration) -> io::Result<bool> {
    let mut received = 0;
    while received < size {
        match wire.receive(received, size, patience)? {
            0 => return Ok(false),
            count => received += count,
        }
    }
    Ok(true)
}

/// Answers messages until the connection ends.
fn echo(wire: &mut impl Wire, size: usize, mut log: Option<&mut File>) -> io::Result<()> {
    // The client of a connection that says nothing is gone with the parent, who will end this.
    while message(wire, size, Duration::MAX)? {
        if let Some(log) = &mut log {
            log.write_all(&wire.room()[..size])?;
            log.sync_data()?;
        }
        wire.send(size)?;
    }
    Ok(())
}

/// System calls that wait, or that never do.
pub(super) struct Calls {
    socket: Socket,
    room: Vec<u8>,
    spins: bool,
    /// What the socket has been told last.
    patience: Option<Duration>,
}

impl Calls {
    pub(super) fn new((socket, size): (Socket, usize), means: Means) -> io::Result<Calls> {
        let spins = means == Means::Spinning;
        match &socket {
            Socket::Tcp(stream) => stream.set_nonblocking(spins)?,
            Socket::Udp(socket) => socket.set_nonblocking(spins)?,
        }
        Ok(Calls { socket, room: vec![0x5a; size], spins, patience: None })
    }

    fn be_patient(&mut self, patience: Duration) -> io::Result<()> {
        let patience = Some(patience).filter(|patience| *patience < Duration::MAX);
        if self.patience != patience {
            match &self.socket {
                Socket::Tcp(stream) => stream.set_read_timeout(patience)?,
                Socket::Udp(socket) => socket.set_read_timeout(patience)?,
            }
            self.patience = patience;
        }
        Ok(())
    }
}

impl Wire for Calls {
    fn send(&mut self, size: usize) -> io::Result<()> {
        let mut sent = 0;
        while sent < size {
            match self.socket.send(&self.room[sent..size]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive(&mut self, from: usize, to: usize, patience: Duration) -> io::Result<usize> {
        if !self.spins {
            self.be_patient(patience)?;
        }
        let start = Instant::now();
        loop {
            match self.socket.receive(&mut self.room[from..to]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !self.spins || start.elapsed() > patience {
                        return Err(ErrorKind::TimedOut.into());
                    }
                    std::hint::spin_loop();
                }
                result => return result,
            }
        }
    }

    fn room(&self) -> &[u8] {
        &self.room
    }
}
