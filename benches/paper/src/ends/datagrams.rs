//! The relay's experiment on the kernel's sockets: who sends and waits for what comes back, and a plain relay.

use super::{End, Means, PATIENCE, Side, Times, announce};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// As in `wire`.
const HELLO: Duration = Duration::from_millis(100);

/// The longest datagram that is passed on.
const LONGEST: usize = 2048;

pub(super) fn run(end: &End) -> io::Result<()> {
    let back = end.back.ok_or(io::Error::new(ErrorKind::InvalidInput, "there is no --back"))?;
    match end.side {
        Side::Relay => relay(end.address, back, end.means == Means::Spinning),
        _ => generate(end, back),
    }
}

/// Passes on whatever comes, by two system calls each.
fn relay(listen: SocketAddr, forward: SocketAddr, spins: bool) -> io::Result<()> {
    let socket = UdpSocket::bind(listen)?;
    socket.set_nonblocking(spins)?;
    announce(socket.local_addr()?);
    let mut room = [0; LONGEST];
    loop {
        match socket.recv(&mut room) {
            Ok(count) => drop(socket.send_to(&room[..count], forward)?),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => return Err(error),
        }
    }
}

/// Waits until something comes; spins meanwhile.
fn receive(socket: &UdpSocket, patience: Duration) -> io::Result<()> {
    let start = Instant::now();
    loop {
        match socket.recv(&mut [0; LONGEST]) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if start.elapsed() > patience {
                    return Err(io::Error::new(ErrorKind::TimedOut, "no datagram comes back"));
                }
                std::hint::spin_loop();
            }
            Err(error) => return Err(error),
        }
    }
}

fn generate(end: &End, back: SocketAddr) -> io::Result<()> {
    let inbox = UdpSocket::bind(back)?;
    inbox.set_nonblocking(true)?;
    let outbox = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let message = vec![0x5a; end.sizes[0]];
    let deadline = Instant::now() + PATIENCE;
    loop {
        outbox.send_to(&message, end.address)?;
        match receive(&inbox, HELLO) {
            Ok(()) => break,
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => {}
        }
    }
    while receive(&inbox, HELLO).is_ok() {}
    let mut times = Times::start(message.len(), end.time());
    loop {
        let start = Instant::now();
        outbox.send_to(&message, end.address)?;
        receive(&inbox, PATIENCE)?;
        if !times.add(start) {
            times.print();
            return Ok(());
        }
    }
}
