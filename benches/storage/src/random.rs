//! Random reads of a file: our device of the kernel beside fio's engine with the same options.

use crate::fio;
use crate::machine::{Burst, Scratch, ratio};
use crate::table::{Row, rate};
use demikernel_measure::stats::median;
use demikernel_runtime::buffer::BufferMut;
use demikernel_runtime::{Runtime, spawn};
use demikernel_spdk_storage::Volume;
use demikernel_spdk_storage::file::FileOptions;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of the file.
const SIZE: u64 = 512 << 20;
const BLOCK: usize = 4096;
const DEPTHS: [usize; 2] = [1, 32];

/// A small generator (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((u128::from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)) * u128::from(n)) >> 64) as u64
    }
}

/// Writes what is to be read: not zeros, which something below might not store.
fn fill(path: &Path) -> io::Result<()> {
    let mut random = Random(1);
    let mut file = std::fs::File::create(path)?;
    let mut piece = vec![0; 1 << 20];
    for _ in 0..SIZE / piece.len() as u64 {
        piece.chunks_mut(8).for_each(|bytes| bytes.copy_from_slice(&random.below(u64::MAX).to_le_bytes()));
        file.write_all(&piece)?;
    }
    file.sync_all()
}

/// Reads for so long, by a task for each operation that is under way, and tells how many there were per second.
pub async fn reads(volume: &Volume, size: u64, depth: usize, window: Duration) -> io::Result<f64> {
    let start = Instant::now();
    let task = |seed: usize| {
        let volume = volume.clone();
        spawn(async move {
            let mut random = Random(seed as u64 + 1);
            let mut buffer = BufferMut::with_capacity(BLOCK)?;
            let mut done = 0;
            while start.elapsed() < window {
                buffer.clear();
                let at = random.below(size / BLOCK as u64) * BLOCK as u64;
                buffer = volume.read_into(at, BLOCK, buffer).await?;
                done += 1;
            }
            io::Result::Ok(done)
        })
    };
    let tasks: Vec<_> = (0..depth).map(task).collect();
    let mut done = 0;
    for task in tasks {
        done += task.await??;
    }
    Ok(f64::from(done) / start.elapsed().as_secs_f64())
}

fn ours(path: &Path, depth: usize, window: Duration) -> io::Result<f64> {
    let _burst = Burst::start();
    Runtime::new()?.block_on(async {
        let volume = Volume::attach(FileOptions::new().read_only(true).open(path)?);
        reads(&volume, SIZE, depth, window).await
    })
}

fn theirs(path: &Path, depth: usize, window: Duration) -> io::Result<f64> {
    let _burst = Burst::start();
    let (depth, window) = (format!("--iodepth={depth}"), format!("--runtime={}ms", window.as_millis()));
    let options = ["--ioengine=io_uring", "--direct=1", "--fixedbufs=1", "--registerfiles=1", "--bs=4k"];
    let more = ["--rw=randread", "--norandommap=1", "--time_based=1", &depth, &window];
    Ok(fio::run(path, &[options, more].concat())?.rate)
}

/// Rows for each depth.
pub fn measure(scratch: &Scratch, rounds: usize, window: Duration) -> io::Result<Vec<Row>> {
    let path = scratch.path("random");
    fill(&path)?;
    let mut rows = Vec::new();
    for depth in DEPTHS {
        let (mut own, mut other) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            eprintln!("random reads: depth {depth}, round {} of {rounds}", round + 1);
            // Each goes first half of the time.
            if round % 2 == 0 {
                own.push(ours(&path, depth, window)?);
                other.push(theirs(&path, depth, window)?);
            } else {
                other.push(theirs(&path, depth, window)?);
                own.push(ours(&path, depth, window)?);
            }
        }
        let ratio = ratio(&own, &other);
        rows.push(Row {
            name: format!("random reads of 4 KiB, io_uring, QD {depth}"),
            figure: rate(median(own)),
            references: format!("fio {}: {ratio:.2} x", rate(median(other))),
            bar: Some((">= 0.95 x".to_owned(), ratio >= 0.95)),
        });
    }
    std::fs::remove_file(path)?;
    Ok(rows)
}
