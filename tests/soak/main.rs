//! Connections opened, used and dropped at random against a server, until time is up; afterwards nothing may
//! have leaked: no operation, no buffer, no descriptor.
//!
//! `DEMIKERNEL_SOAK_SECONDS` sets for how long, on each transport (5 unless set).

#[cfg(feature = "dpdk")]
mod dpdk;
#[cfg(feature = "dpdk")]
#[path = "../programs/mod.rs"]
mod programs;

use demikernel::buffer::pool;
use demikernel::net::{TcpListener, TcpStream};
use demikernel::time::{Duration, Instant, sleep, timeout};
use demikernel::{Buffer, Builder, spawn};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Mutex;

/// At the least, so many connections are made on each transport.
const CONNECTIONS: u64 = 10_000;
/// Connections at a time.
const CLIENTS: u64 = 64;

/// Descriptors are counted of the whole process, so one test runs at a time.
static ONE: Mutex<()> = Mutex::new(());

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((u128::from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)) * u128::from(bound)) >> 64) as u64
    }
}

/// For how long on each transport.
fn seconds() -> u64 {
    std::env::var("DEMIKERNEL_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        spawn(async move {
            loop {
                match stream.pop().await {
                    Ok(data) if !data.is_empty() => {
                        if stream.push(data).await.is_err() {
                            break;
                        }
                    }
                    _ => break,
                }
            }
        })
        .detach();
    }
}

/// One connection, given up at any point.
async fn visit(server: SocketAddr, random: &mut Random) -> io::Result<()> {
    let patience = Duration::from_micros(random.below(3000));
    let visit = async {
        let stream = TcpStream::connect(server).await?;
        for _ in 0..random.below(5) {
            let message = Buffer::from(vec![7u8; 1 + random.below(40_000) as usize]);
            let mut missing = message.len();
            stream.push(message).await?;
            while missing > 0 {
                let data = stream.pop().await?;
                assert!(!data.is_empty() && data.iter().all(|&byte| byte == 7));
                missing -= data.len();
            }
            if random.below(4) == 0 {
                // Given up with data on its way, or there already.
                drop(stream.pop());
            }
        }
        Ok(())
    };
    match timeout(patience, visit).await {
        Ok(result) => result,
        Err(_) => Ok(()),
    }
}

async fn soak(seed: u64, time: Duration) -> u64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let serving = spawn(serve(listener));
    let count = Rc::new(Cell::new(0));
    let end = Instant::now() + time;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let count = count.clone();
            spawn(async move {
                let mut random = Random(seed + client * 7919 + 1);
                while Instant::now() < end || count.get() < CONNECTIONS {
                    if let Err(error) = visit(server, &mut random).await {
                        // Ports in use for a while after their connections are all that may run out.
                        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable, "{error}");
                        sleep(Duration::from_millis(50)).await;
                    }
                    count.set(count.get() + 1);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    serving.abort();
    assert!(serving.await.is_err());
    count.get()
}

#[test]
fn nothing_leaks() {
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let seconds = seconds();
    for &transport in demikernel::transports().iter().filter(|name| ["io_uring", "epoll"].contains(name)) {
        // What is made once per process and stays, such as the regions of the pool.
        drop(Builder::new().transport(transport).build().unwrap());
        let before = (descriptors(), pool::stats().in_use());
        let runtime = Builder::new().transport(transport).build().unwrap();
        let connections = runtime.block_on(soak(seconds, Duration::from_secs(seconds)));
        // The server's tasks see the ends of their connections.
        runtime.block_on(async {
            let patience = Instant::now() + Duration::from_secs(20);
            while runtime.metrics().live_operations > 1 && Instant::now() < patience {
                sleep(Duration::from_millis(10)).await;
            }
        });
        let live = runtime.metrics().live_operations;
        assert!(live <= 1, "{transport}: {live} operations are left");
        drop(runtime);
        pool::collect();
        assert_eq!((descriptors(), pool::stats().in_use()), before, "{transport}: descriptors, buffers");
        eprintln!("{transport}: {connections} connections");
    }
}
