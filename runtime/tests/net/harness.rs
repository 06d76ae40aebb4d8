//! Running a test on a transport, and peers in threads.

use demikernel_runtime::buffer::pool;
use demikernel_runtime::net::{TcpListener, TcpStream};
use demikernel_runtime::time::timeout;
use demikernel_runtime::transport::Transport;
use demikernel_runtime::{Builder, Idle};
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub(crate) type Make = fn() -> io::Result<Transport>;

/// Descriptors are the process's, so one test runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs a test, and sees that nothing is left.
pub(crate) fn check<F: Future<Output = io::Result<()>>>(make: Make, test: fn() -> F) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for idle in [Idle::Spin, Idle::Block] {
        let buffers = pool::stats().in_use();
        let descriptors = open_descriptors();
        let transport = match make() {
            Ok(transport) => transport,
            Err(error) => return eprintln!("skipped: {error}"),
        };
        let runtime = Builder::new().idle(idle).build().unwrap();
        runtime.attach(transport);
        runtime.block_on(async {
            let test = timeout(Duration::from_secs(60), test());
            test.await.expect("the test is done in time").expect("no operation fails");
        });
        drop(runtime);
        assert_eq!(pool::stats().in_use(), buffers, "buffers left, idle {idle:?}");
        let start = Instant::now();
        while open_descriptors() != descriptors && start.elapsed() < Duration::from_secs(2) {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(open_descriptors(), descriptors, "descriptors left, idle {idle:?}");
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A peer in a thread, which gets the other end of a connection.
pub(crate) struct Peer<T>(JoinHandle<T>);

impl<T: Send + 'static> Peer<T> {
    /// Waits for the thread without keeping the runtime from its work.
    pub(crate) async fn join(self) -> T {
        let joined = blocking::unblock(move || self.0.join()).await;
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Runs a client of the standard library in a thread; gives the accepted connection.
pub(crate) async fn client<T: Send + 'static>(
    run: impl FnOnce(net::TcpStream) -> T + Send + 'static,
) -> io::Result<(TcpStream, Peer<T>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let thread = thread::spawn(move || run(net::TcpStream::connect(address).unwrap()));
    let (stream, _) = listener.accept().await?;
    Ok((stream, Peer(thread)))
}

/// Runs a server of the standard library for one connection in a thread; gives the connection to it.
pub(crate) async fn server<T: Send + 'static>(
    run: impl FnOnce(net::TcpStream) -> T + Send + 'static,
) -> io::Result<(TcpStream, Peer<T>)> {
    let listener = net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let thread = thread::spawn(move || run(listener.accept().unwrap().0));
    Ok((TcpStream::connect(address).await?, Peer(thread)))
}

/// Two ends of a connection, both of the runtime.
pub(crate) async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let accept = listener.accept();
    let client = TcpStream::connect(listener.local_addr()?).await?;
    Ok((client, accept.await?.0))
}

/// Bytes that differ from place to place and from seed to seed.
pub(crate) fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut word = seed << 1 | 1;
    for chunk in bytes.chunks_mut(8) {
        word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ seed;
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
    bytes
}

/// Whether the test runs many times slower than usual.
pub(crate) fn under_valgrind() -> bool {
    std::env::var_os("DEMIKERNEL_VALGRIND").is_some()
}

/// All that the peer reads up to the end.
pub(crate) fn read_all(mut peer: net::TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    all
}

/// Echoes up to the end.
pub(crate) fn echo(mut peer: net::TcpStream) {
    let mut room = vec![0; 64 << 10];
    loop {
        match peer.read(&mut room).unwrap() {
            0 => break,
            count => peer.write_all(&room[..count]).unwrap(),
        }
    }
}

/// Polls a future once, and drops it; its output if it was ready.
pub(crate) async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}
