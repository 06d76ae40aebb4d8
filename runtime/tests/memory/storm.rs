//! Everything that can go wrong at once: whatever breaks, nothing is left in the end, and no byte is wrong.

use crate::simulated;
use demikernel_runtime::buffer::{Buffer, pool};
use demikernel_runtime::net::{TcpListener, TcpStream};
use demikernel_runtime::time::{Duration, sleep, timeout};
use demikernel_runtime::transport::Device;
use demikernel_runtime::transport::memory::{Memory, MemoryConfig};
use demikernel_runtime::{JoinHandle, spawn};
use std::io;
use std::net::Shutdown;
use std::rc::Rc;

/// Draws of the program's own, apart from those of the device.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn moment(&mut self) -> Duration {
        Duration::from_micros(self.roll(2000))
    }
}

/// The byte at a place of every stream, so that lost, doubled and moved bytes show.
fn byte(place: usize) -> u8 {
    (place * 31 + place / 251) as u8
}

/// Does things to one end of a connection until it is over or there was enough.
async fn end(stream: TcpStream, mut dice: Dice) -> io::Result<()> {
    let (mut sent, mut received) = (0, 0);
    let mut open = true;
    for _ in 0..dice.roll(30) {
        match dice.roll(10) {
            0..3 if open => {
                let size = dice.roll(30_000) as usize;
                let data = Buffer::from((sent..sent + size).map(byte).collect::<Vec<_>>());
                let push = stream.push(data);
                sent += size;
                if dice.roll(4) == 0 {
                    // Not awaited, and not cancelled either.
                    push.detach();
                } else {
                    // A push that is given up may be sent in part or not at all: then this end has to stop.
                    match timeout(dice.moment(), push).await {
                        Ok(result) => result?,
                        Err(_) => return Ok(()),
                    }
                }
            }
            3..8 => {
                if let Ok(data) = timeout(dice.moment(), stream.pop()).await {
                    let data = data?;
                    if data.is_empty() {
                        return Ok(());
                    }
                    for &got in &*data {
                        assert_eq!(got, byte(received), "byte {received} of a stream");
                        received += 1;
                    }
                }
            }
            8 if dice.roll(5) == 0 => {
                stream.shutdown(Shutdown::Write)?;
                open = false;
            }
            _ => sleep(dice.moment()).await,
        }
    }
    if dice.roll(4) == 0 {
        stream.set_linger(Some(Duration::ZERO))?;
    }
    Ok(())
}

async fn serve(listener: TcpListener, seed: u64) {
    let mut dice = Dice(seed);
    let mut ends: Vec<JoinHandle<_>> = Vec::new();
    while let Ok(accepted) = timeout(Duration::from_secs(60), listener.accept()).await {
        if dice.roll(10) > 0 {
            let (stream, _) = accepted.unwrap();
            ends.push(spawn(end(stream, Dice(dice.roll(u64::MAX)))));
        }
    }
    for end in ends {
        let _ = end.await.unwrap();
    }
}

async fn storm(memory: Rc<Memory>, seed: u64) {
    let addresses = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().unwrap());
    let listener = TcpListener::bind("0.0.0.0:80").await.unwrap();
    let server = spawn(serve(listener, seed));
    let clients: Vec<_> = (0..60u64)
        .map(|index| {
            let mut dice = Dice(seed << 32 | index);
            spawn(async move {
                sleep(dice.moment() * 10).await;
                let peer = format!("10.0.0.{}:80", 1 + dice.roll(2));
                let connect = timeout(dice.moment() * 5, TcpStream::connect(peer.as_str())).await;
                if let Ok(Ok(stream)) = connect {
                    let _ = end(stream, dice).await;
                }
            })
        })
        .collect();
    let mut dice = Dice(!seed);
    for _ in 0..10 {
        sleep(dice.moment()).await;
        let (one, other) = (addresses[dice.roll(2) as usize], addresses[dice.roll(2) as usize]);
        memory.partition(one, other);
        sleep(dice.moment() * dice.roll(3) as u32).await;
        memory.heal(one, other);
        if dice.roll(5) == 0 {
            memory.reset_all();
        }
    }
    for client in clients {
        client.await.unwrap();
    }
    server.await.unwrap();
}

#[test]
fn nothing_is_left_after_a_storm() {
    for seed in 0..40 {
        let before = pool::stats().in_use();
        let mut config = MemoryConfig::default();
        (config.seed, config.resets, config.window) = (seed, 0.002, 8000);
        config.timeout = Duration::from_millis(1 + seed % 20);
        let (runtime, memory) = simulated(config);
        runtime.block_on(async {
            storm(memory.clone(), seed).await;
            sleep(Duration::from_secs(1)).await;
        });
        for (name, count) in memory.counters().into_iter().take(3) {
            assert_eq!(count, 0, "{name}, seed {seed}");
        }
        assert_eq!(runtime.metrics().live_operations, 0, "seed {seed}");
        assert_eq!(runtime.metrics().parks, 0, "seed {seed}");
        assert_eq!(pool::stats().in_use(), before, "buffers, seed {seed}");
    }
}
