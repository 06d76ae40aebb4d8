//! Durable appends: our log beside a loop of system calls, fio, and a log of others.

use crate::fio;
use crate::machine::{Burst, Scratch, quantile, ratio};
use crate::table::{Row, rate, time};
use demikernel_measure::stats::median;
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::{Runtime, spawn};
use demikernel_spdk_storage::Volume;
use demikernel_spdk_storage::file::FileOptions;
use demikernel_spdk_storage::log::{Log, StoreOptions};
use okaywal::{LogVoid, WriteAheadLog};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of records.
const SIZES: [usize; 2] = [64, 1024];
/// How many push at once.
const PUSHERS: [usize; 3] = [1, 16, 64];
/// Bytes of our file.
const ROOM: u64 = 256 << 20;

/// What a window came to.
#[derive(Default)]
struct Window {
    rates: Vec<f64>,
    /// What each record took, in seconds.
    latencies: Vec<f64>,
}

impl Window {
    fn add(&mut self, latencies: Vec<f64>, took: Duration) {
        self.rates.push(latencies.len() as f64 / took.as_secs_f64());
        self.latencies.extend(latencies);
    }

    fn describe(&mut self) -> String {
        let rate = rate(median(self.rates.iter().copied()));
        let [p50, p99] = [0.5, 0.99].map(|part| time(quantile(&mut self.latencies, part)));
        format!("{rate}, p50 {p50}, p99 {p99}")
    }
}

/// One window of our log, made anew in a file that is there.
fn ours(path: &Path, size: usize, pushers: usize, window: Duration, result: &mut Window) -> io::Result<()> {
    Runtime::new()?.block_on(async {
        let volume = Volume::attach(FileOptions::new().create(ROOM).open(path)?);
        let store = StoreOptions::new().overwrite(true).open(volume).await?;
        let log = store.log("log").await?;
        let data = Buffer::from(vec![7; size]);
        let start = Instant::now();
        let task = |log: Log, data: Buffer| {
            spawn(async move {
                let mut latencies = Vec::new();
                while start.elapsed() < window {
                    let begin = Instant::now();
                    let appended = log.push(data.clone()).await?;
                    latencies.push(begin.elapsed().as_secs_f64());
                    if appended.number % 4096 == 0 {
                        log.truncate(appended.number).await?;
                    }
                }
                io::Result::Ok(latencies)
            })
        };
        let tasks: Vec<_> = (0..pushers).map(|_| task(log.clone(), data.clone())).collect();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await??);
        }
        result.add(latencies, start.elapsed());
        store.close().await
    })
}

/// Threads that do the same, until the window is over.
fn threads(
    count: usize,
    window: Duration,
    result: &mut Window,
    append: impl Fn() -> io::Result<()> + Sync,
) -> io::Result<()> {
    let start = Instant::now();
    let one = || {
        let mut latencies = Vec::new();
        while start.elapsed() < window {
            let begin = Instant::now();
            append()?;
            latencies.push(begin.elapsed().as_secs_f64());
        }
        io::Result::Ok(latencies)
    };
    let all = thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(one)).collect();
        let ended = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        ended.collect::<io::Result<Vec<_>>>()
    })?;
    result.add(all.concat(), start.elapsed());
    Ok(())
}

/// Threads that each write a record behind the last one and wait for fdatasync.
fn plain(path: &Path, size: usize, count: usize, window: Duration, result: &mut Window) -> io::Result<()> {
    let file = File::options().create(true).append(true).open(path)?;
    let data = vec![7; size];
    threads(count, window, result, || {
        (&file).write_all(&data)?;
        file.sync_data()
    })?;
    fs::remove_file(path)
}

/// okaywal, whose threads share what waits for the disk.
fn okaywal(path: &Path, size: usize, count: usize, window: Duration, result: &mut Window) -> io::Result<()> {
    let log = Arc::new(WriteAheadLog::recover(path, LogVoid)?);
    let data = vec![7; size];
    threads(count, window, result, || {
        let mut entry = log.begin_entry()?;
        entry.write_chunk(&data)?;
        entry.commit().map(drop)
    })?;
    if let Some(log) = Arc::into_inner(log) {
        log.shutdown()?;
    }
    fs::remove_dir_all(path)
}

/// fio, which does as [`plain`] does in one thread.
fn fio_sync(path: &Path, size: usize, window: Duration) -> io::Result<fio::Run> {
    let (size, window) = (format!("--bs={size}"), format!("--runtime={}ms", window.as_millis()));
    let options = ["--ioengine=sync", "--rw=write", "--fdatasync=1", "--size=64m", "--fallocate=none"];
    let run = fio::run(path, &[&options[..], &["--time_based=1", &size, &window]].concat())?;
    fs::remove_file(path)?;
    Ok(run)
}

/// The contenders of one row, by round.
#[derive(Default)]
struct Contenders {
    ours: Window,
    /// One thread, and as many as push.
    plain: Window,
    plains: Window,
    okaywal: Window,
    fio: Vec<f64>,
}

impl Contenders {
    fn round(
        &mut self,
        scratch: &Scratch,
        size: usize,
        pushers: usize,
        round: usize,
        window: Duration,
    ) -> io::Result<()> {
        let path = |name| scratch.path(name);
        // In another order each time.
        for turn in 0..5 {
            let _burst = Burst::start();
            match (turn + round) % 5 {
                0 => ours(&path("log"), size, pushers, window, &mut self.ours)?,
                1 => plain(&path("plain"), size, 1, window, &mut self.plain)?,
                2 if pushers > 1 => plain(&path("plains"), size, pushers, window, &mut self.plains)?,
                3 => okaywal(&path("okaywal"), size, pushers, window, &mut self.okaywal)?,
                4 if pushers == 1 => self.fio.push(fio_sync(&path("fio"), size, window)?.rate),
                _ => {}
            }
        }
        Ok(())
    }

    fn rows(mut self, size: usize, pushers: usize) -> Vec<Row> {
        let name = format!("log, {size} B durable, {pushers} pushing");
        let ratio_to = |other: &[f64]| ratio(&self.ours.rates, other);
        let to_plain = ratio_to(&self.plain.rates);
        let to_okaywal = ratio_to(&self.okaywal.rates);
        let mut others = format!("write + fdatasync {}: {to_plain:.2} x", self.plain.describe());
        if pushers == 1 {
            others += &format!(
                "; fio --fdatasync=1 {}: {:.2} x",
                rate(median(self.fio.clone())),
                ratio_to(&self.fio)
            );
        } else {
            let ratio = ratio_to(&self.plains.rates);
            others += &format!("; by {pushers} threads {}: {ratio:.2} x", self.plains.describe());
        }
        others += &format!("; okaywal {}: {to_okaywal:.2} x", self.okaywal.describe());
        let bar = match pushers {
            1 => Some((">= 1.0 x write + fdatasync".to_owned(), to_plain >= 1.0)),
            64 => Some((">= 8 x write + fdatasync".to_owned(), to_plain >= 8.0)),
            _ => None,
        };
        vec![Row { name, figure: self.ours.describe(), references: others, bar }]
    }
}

/// Rows for each size and number of pushers.
pub fn measure(scratch: &Scratch, rounds: usize, window: Duration) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for size in SIZES {
        for pushers in PUSHERS {
            let mut contenders = Contenders::default();
            for round in 0..rounds {
                eprintln!("log: {size} B, {pushers} pushing, round {} of {rounds}", round + 1);
                contenders.round(scratch, size, pushers, round, window)?;
            }
            rows.extend(contenders.rows(size, pushers));
        }
    }
    fs::remove_file(scratch.path("log"))?;
    Ok(rows)
}
