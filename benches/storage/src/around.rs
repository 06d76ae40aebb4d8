//! What an operation costs around the device: a driver that does nothing completes at once, so that what is left is ours.

use crate::machine::Burst;
use crate::table::Row;
use demikernel_allocations::of_thread as allocations;
use demikernel_measure::machine::thread_ns;
use demikernel_measure::stats::median;
use demikernel_runtime::Runtime;
use demikernel_runtime::buffer::{Buffer, BufferMut};
use demikernel_runtime::transport::{Interest, Turn};
use demikernel_spdk_storage::{Command, Driver, Finished, Geometry, Queue, Submitted, Volume, memory};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// Bytes of an operation.
pub const BLOCK: usize = 4096;

/// Places that are read and written in turn.
const PLACES: u64 = 200;

/// A driver whose operations are over by the next poll.
#[derive(Default)]
struct Null {
    tags: Vec<u32>,
}

// SAFETY: no memory is used at all. That a read leaves it as it was is for `reads` to care for, which has filled it.
unsafe impl Driver for Null {
    fn name(&self) -> &'static str {
        "null"
    }

    fn geometry(&self) -> Geometry {
        Geometry { volatile_cache: false, ..Geometry::new(BLOCK as u32, PLACES * BLOCK as u64) }
    }

    #[inline]
    unsafe fn submit(&mut self, tag: u32, _command: Command<'_>) -> Submitted {
        self.tags.push(tag);
        Submitted::Taken
    }

    #[inline]
    fn poll(&mut self, _turn: Turn, finished: &mut Finished) {
        finished.extend(self.tags.drain(..).map(|tag| (tag, Ok(()))));
    }

    fn interest(&mut self) -> Interest {
        if self.tags.is_empty() { Interest::None } else { Interest::Polling }
    }

    fn shut_down(&mut self, _grace: Duration, finished: &mut Finished) {
        self.poll(Turn::Idle, finished);
    }
}

/// The devices that can be measured.
pub const DEVICES: [&str; 2] = ["null", "memory"];

/// Their operations.
pub const OPERATIONS: [&str; 2] = ["read", "write"];

fn attach(device: &str) -> Volume {
    match device {
        "null" => Volume::attach(Queue::new(Null::default())),
        _ => Volume::attach(memory::Disk::new(Null::default().geometry()).device()),
    }
}

/// Reads, so many at a time, into buffers that hold something already.
async fn reads(volume: &Volume, depth: usize, count: usize) -> io::Result<()> {
    let mut tokens = VecDeque::with_capacity(depth);
    for at in 0..depth.min(count) {
        let mut buffer = BufferMut::with_capacity(BLOCK)?;
        buffer.resize(BLOCK, 0);
        buffer.clear();
        tokens.push_back(volume.read_into(at as u64 % PLACES * BLOCK as u64, BLOCK, buffer));
    }
    let mut started = tokens.len();
    while let Some(token) = tokens.pop_front() {
        let mut buffer = token.await?;
        if started < count {
            buffer.clear();
            tokens.push_back(volume.read_into(started as u64 % PLACES * BLOCK as u64, BLOCK, buffer));
            started += 1;
        }
    }
    Ok(())
}

/// Writes the same bytes, so many at a time.
async fn writes(volume: &Volume, depth: usize, count: usize) -> io::Result<()> {
    let data = Buffer::from(vec![1; BLOCK]);
    let write = |at: usize| volume.write(at as u64 % PLACES * BLOCK as u64, data.clone());
    let mut tokens: VecDeque<_> = (0..depth.min(count)).map(write).collect();
    let mut started = tokens.len();
    while let Some(token) = tokens.pop_front() {
        token.await?;
        if started < count {
            tokens.push_back(write(started));
            started += 1;
        }
    }
    Ok(())
}

/// So many operations.
pub async fn operations(volume: &Volume, operation: &str, depth: usize, count: usize) -> io::Result<()> {
    match operation {
        "read" => reads(volume, depth, count).await,
        _ => writes(volume, depth, count).await,
    }
}

/// What one operation takes.
struct Cost {
    /// CPU time, in nanoseconds.
    time: f64,
    allocations: f64,
}

/// Measures some repetitions of so many operations.
fn measure(device: &str, operation: &str, depth: usize, count: usize) -> io::Result<Cost> {
    let _burst = Burst::start();
    const REPETITIONS: usize = 9;
    Runtime::new()?.block_on(async {
        let volume = attach(device);
        operations(&volume, operation, depth, count / 10).await?;
        let mut times = Vec::with_capacity(REPETITIONS);
        let mut allocated = 0;
        for _ in 0..REPETITIONS {
            let (before, start) = (allocations(), thread_ns());
            operations(&volume, operation, depth, count).await?;
            times.push((thread_ns() - start) as f64 / count as f64);
            allocated += allocations() - before;
        }
        // Lists and buffers of each repetition are the program's.
        let per_operation = allocated as f64 / (REPETITIONS * count) as f64;
        Ok(Cost { time: median(times), allocations: per_operation })
    })
}

/// Does as many operations as that, for those who count from outside.
pub fn repeat(device: &str, operation: &str, depth: usize, count: usize) -> io::Result<()> {
    Runtime::new()?.block_on(async { operations(&attach(device), operation, depth, count).await })
}

/// CPU time of copying a block from one of many places to another.
fn copy(count: usize) -> f64 {
    let from = vec![1_u8; PLACES as usize * BLOCK];
    let mut to = vec![0_u8; BLOCK];
    let times = (0..9).map(|_| {
        let start = thread_ns();
        for at in 0..count {
            let place = at % PLACES as usize * BLOCK;
            to.copy_from_slice(&from[place..place + BLOCK]);
            std::hint::black_box(&mut to);
        }
        (thread_ns() - start) as f64 / count as f64
    });
    median(times)
}

/// A row for each depth.
pub fn rows() -> io::Result<Vec<Row>> {
    const COUNT: usize = 200_000;
    const BAR: f64 = 60.0;
    let copied = copy(COUNT);
    let row = |depth| {
        let [read, write] = OPERATIONS.map(|operation| measure("null", operation, depth, COUNT));
        let (read, write) = (read?, write?);
        let most = read.time.max(write.time);
        let allocations = read.allocations.max(write.allocations);
        let memory = measure("memory", "read", depth, COUNT)?;
        Ok(Row {
            name: format!("around the device, 4 KiB, QD {depth}"),
            figure: format!(
                "read {:.1} ns, write {:.1} ns, {allocations:.3} allocations",
                read.time, write.time
            ),
            references: format!(
                "disk in memory: read {:.0} ns, of which copying {copied:.0} ns",
                memory.time
            ),
            // A buffer and two lists of a repetition are the program's own.
            bar: Some((format!("<= {BAR} ns, no allocations"), most <= BAR && allocations < 0.001)),
        })
    };
    [1, 32].into_iter().map(row).collect()
}
