//! What the ports share.

#![allow(dead_code, reason = "each program uses some of it")]

use demikernel::pdpix::{self, Opcode, QResult, Qd, Qt};
use demikernel::signal::shutdown;
use demikernel::time::{Duration, Instant};
use demikernel::transport::{Endpoint, SocketKind, SocketOption};
use demikernel::{BufferMut, Builder};
use futures::future::{Either, select};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;

/// Runs a program on so many cores, on the transport that `DEMIKERNEL_TRANSPORT` names, until it has ended or is asked to.
pub(crate) fn run<M, F>(cores: usize, program: M) -> ExitCode
where
    M: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<()>>,
{
    let log = tracing_subscriber::fmt().with_writer(io::stderr);
    log.with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    Builder::new().cores(cores).run(move || {
        let program = program();
        async move {
            // Before the program says anything: whoever reads that may ask for the end.
            let end = shutdown()?;
            match select(pin!(program), end).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => Ok(()),
            }
        }
    })
}

/// A socket for an address of this family.
pub(crate) fn socket(address: SocketAddr, kind: SocketKind) -> io::Result<Qd> {
    pdpix::socket(Endpoint::from(address).domain(), kind)
}

/// A socket that listens.
pub(crate) fn listener(address: SocketAddr) -> io::Result<Qd> {
    let qd = socket(address, SocketKind::Stream)?;
    if demikernel::core_count() > 1 {
        pdpix::setsockopt(qd, SocketOption::ReusePort(true))?;
    }
    pdpix::bind(qd, address).map_err(|error| named(error, "cannot listen on", address))?;
    pdpix::listen(qd, 1024)?;
    Ok(qd)
}

pub(crate) fn named(error: io::Error, what: &str, address: SocketAddr) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {address}: {error}"))
}

/// A socket that is connected.
pub(crate) async fn connected(peer: SocketAddr) -> io::Result<Qd> {
    let qd = socket(peer, SocketKind::Stream)?;
    let connected = pdpix::wait(pdpix::connect(qd, peer)?, None).await?.ok();
    connected.map_err(|error| named(error, "cannot connect to", peer))?;
    without_delay(qd)?;
    Ok(qd)
}

/// Has small messages sent at once, though earlier ones were not acknowledged.
pub(crate) fn without_delay(connection: Qd) -> io::Result<()> {
    pdpix::setsockopt(connection, SocketOption::NoDelay(true))
}

/// The bytes of a round: each is one more than that before, from 1 to 254 and again, and the first one's place goes by
/// the round.
pub(crate) fn letters(round: usize) -> impl Iterator<Item = u8> {
    (round % 254..).map(|place| (place % 254 + 1) as u8)
}

/// A message of a round.
pub(crate) fn message(size: usize, round: usize) -> io::Result<BufferMut> {
    let mut sga = pdpix::sgaalloc(size)?;
    sga.iter_mut().zip(letters(round)).for_each(|(byte, letter)| *byte = letter);
    Ok(sga)
}

/// Pushes a message of a round.
pub(crate) async fn push_and_wait(qd: Qd, size: usize, round: usize) -> io::Result<()> {
    let result = pdpix::wait(pdpix::push(qd, message(size, round)?)?, None).await?;
    expect(result, Opcode::Push).map(drop)
}

/// Pops a message, however many pieces it comes in, and checks each byte of it. `false` at the end.
pub(crate) async fn pop_and_wait(qd: Qd, size: usize, round: usize) -> io::Result<bool> {
    let mut letters = letters(round);
    let mut missing = size;
    while missing > 0 {
        let popped = pdpix::wait(pdpix::pop(qd, Some(missing))?, None).await?;
        let sga = expect(popped, Opcode::Pop)?.value.into_sga().unwrap_or_default();
        match sga.len() {
            0 if missing == size => return Ok(false),
            0 => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the end in the middle of a message",
                ));
            }
            length if length > missing => return Err(io::Error::other("more bytes than were asked for")),
            length => missing -= length,
        }
        for (byte, letter) in sga.iter().flat_map(|buffer| buffer.iter()).zip(&mut letters) {
            if *byte != letter {
                let text = format!("round {round}: {byte} came back instead of {letter}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
    }
    Ok(true)
}

/// The result, if it is of such an operation, and that has not failed.
pub(crate) fn expect(result: QResult, opcode: Opcode) -> io::Result<QResult> {
    if let Some(error) = result.value.error() {
        return Err(io::Error::new(error.kind(), format!("{opcode:?} failed: {error}")));
    }
    assert_eq!(result.opcode, opcode, "a token is of one operation");
    Ok(result)
}

/// Says when it is time to tell what was done.
pub(crate) struct Log {
    interval: Option<Duration>,
    next: Instant,
}

impl Log {
    pub(crate) fn new(seconds: Option<u64>) -> Log {
        let interval = seconds.map(Duration::from_secs);
        Log { interval, next: Instant::now() + interval.unwrap_or_default() }
    }

    pub(crate) fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let Some(interval) = self.interval.filter(|_| now >= self.next) else { return false };
        self.next = now + interval;
        true
    }

    /// Waits for one of the operations, or `None` when it is time to tell.
    pub(crate) async fn wait_any(&self, tokens: &[Qt]) -> io::Result<Option<(usize, QResult)>> {
        let limit = self.interval.map(|_| self.next.saturating_duration_since(Instant::now()));
        match pdpix::wait_any(tokens, limit).await {
            Ok(done) => Ok(Some(done)),
            Err(error) if error.raw_os_error() == Some(libc::ETIMEDOUT) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
