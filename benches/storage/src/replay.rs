//! Reading a log from its beginning, and opening it after a crash, beside reading the same bytes in sequence.

use crate::fio;
use crate::machine::{Burst, Scratch, ratio};
use crate::table::{Row, time};
use demikernel_measure::stats::median;
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::{QToken, Runtime};
use demikernel_spdk_storage::Volume;
use demikernel_spdk_storage::file::FileOptions;
use demikernel_spdk_storage::log::StoreOptions;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of records, and of a log of them.
const LOGS: [(usize, u64); 2] = [(64, 256 << 20), (1024, 1 << 30)];
/// What a file has besides the log.
const SPARE: u64 = 64 << 20;

/// Makes a log that fills so much of a file, and leaves it as a process that was killed does.
fn fill(path: &Path, size: usize, bytes: u64) -> io::Result<()> {
    Runtime::new()?.block_on(async {
        let volume = Volume::attach(FileOptions::new().create(bytes + SPARE).open(path)?);
        let store = StoreOptions::new().create(true).open(volume).await?;
        let log = store.log("log").await?;
        let mut under_way: VecDeque<QToken<io::Result<_>>> = VecDeque::new();
        let mut number = 0_u64;
        while (log.segments() as u64) * u64::from(store.info().segment_size) < bytes {
            let data: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(size).collect();
            number += 1;
            under_way.push_back(log.push_unsynced(Buffer::from(data)));
            if under_way.len() > 4096
                && let Some(token) = under_way.pop_front()
            {
                token.await?;
            }
        }
        for token in under_way {
            token.await?;
        }
        log.sync().await
    })
}

/// What opening takes, and opening with a replay; and how many bytes of the device the log has.
fn replay(path: &Path, size: usize) -> io::Result<(Duration, Duration, u64)> {
    Runtime::new()?.block_on(async {
        let start = Instant::now();
        let volume = Volume::attach(FileOptions::new().open(path)?);
        let store = StoreOptions::new().open(volume).await?;
        let mut log = store.log("log").await?;
        let opened = start.elapsed();
        let mut expected = 0_u64;
        while let Some(record) = log.next().await? {
            if record.number != expected
                || record.data.len() != size
                || record.data[..8] != expected.to_le_bytes()
            {
                return Err(io::Error::other(format!("record {expected} is not what was pushed")));
            }
            expected += 1;
        }
        let bytes = log.segments() as u64 * u64::from(store.info().segment_size);
        Ok((opened, start.elapsed(), bytes))
    })
}

/// What reading so many bytes in sequence takes, past the page cache, several MiB at a time.
fn sequential(path: &Path, bytes: u64) -> io::Result<Duration> {
    let size = format!("--size={bytes}");
    let options = ["--ioengine=io_uring", "--direct=1", "--rw=read", "--bs=1m", "--iodepth=4", &size];
    Ok(Duration::from_secs_f64(bytes as f64 / fio::run(path, &options)?.bandwidth))
}

/// Rows for each log.
pub fn measure(scratch: &Scratch, rounds: usize) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (size, bytes) in LOGS {
        let path = scratch.path("replay");
        fill(&path, size, bytes)?;
        let [mut opened, mut replayed, mut read] = [const { Vec::new() }; 3];
        for round in 0..rounds {
            eprintln!("replay: records of {size} B, round {} of {rounds}", round + 1);
            let burst = Burst::start();
            let (open, all, bytes) = replay(&path, size)?;
            drop(burst);
            let _burst = Burst::start();
            opened.push(open.as_secs_f64());
            replayed.push(all.as_secs_f64());
            read.push(sequential(&path, bytes)?.as_secs_f64());
        }
        std::fs::remove_file(&path)?;
        rows.extend(compare(size, bytes, [opened, replayed, read]));
    }
    Ok(rows)
}

fn compare(size: usize, bytes: u64, [opened, replayed, read]: [Vec<f64>; 3]) -> Vec<Row> {
    let mib = bytes >> 20;
    let speed =
        |times: &[f64]| format!("{:.0} MB/s", median(times.iter().map(|time| bytes as f64 / time)) / 1e6);
    let replaying: Vec<f64> = replayed.iter().zip(&opened).map(|(all, open)| all - open).collect();
    let faster = ratio(&read, &replaying);
    let mut rows = vec![Row {
        name: format!("replay of {mib} MiB of records of {size} B"),
        figure: speed(&replaying),
        references: format!("sequential read {}: {faster:.2} x", speed(&read)),
        bar: Some((">= 0.8 x".to_owned(), faster >= 0.8)),
    }];
    if bytes == 1 << 30 {
        let (opening, all) = (ratio(&opened, &read), ratio(&replayed, &read));
        rows.push(Row {
            name: "recovery of a log of 1 GiB: opening; with replay".to_owned(),
            figure: format!("{}; {}", time(median(opened)), time(median(replayed))),
            references: format!("sequential read {}: {opening:.2} x; {all:.2} x", time(median(read))),
            bar: Some(("<= 2 x".to_owned(), all <= 2.0)),
        });
    }
    rows
}
