//! A process that is killed while it writes a log: what it has told of is there, and nothing that it has not pushed.
#![cfg(feature = "io-uring")]

use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::{Builder, Idle, spawn};
use demikernel_spdk_storage::Volume;
use demikernel_spdk_storage::file::FileOptions;
use demikernel_spdk_storage::log::{Log, StoreOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Tells the process that is killed which file it writes.
const FILE: &str = "DEMIKERNEL_KILL_FILE";

const KILLS: usize = 20;
const PUSHERS: usize = 8;

/// How long the lock of a process that was killed may stay.
const PATIENCE: Duration = Duration::from_secs(10);

fn run<T>(main: impl Future<Output = T>) -> T {
    Builder::new().idle(Idle::Block).build().unwrap().block_on(main)
}

async fn open(path: &Path, patience: Duration) -> io::Result<Log> {
    let file = FileOptions::new().create(8 << 20).lock_patience(patience).open(path)?;
    let volume = Volume::attach(file);
    StoreOptions::new().create(true).segment_size(1 << 18).open(volume).await?.log("log").await
}

/// A record that says what it is, some of them longer than a block.
fn record(pusher: usize, count: u64) -> Vec<u8> {
    let word = format!("{pusher} {count} ");
    word.repeat(1 + (count as usize * 7 + pusher) % 400).into_bytes()
}

/// Pushes until it is killed, and tells of each record that is durable.
async fn write(path: PathBuf) -> io::Result<()> {
    let log = open(&path, PATIENCE).await?;
    println!("opened");
    let pushers: Vec<_> = (0..PUSHERS)
        .map(|pusher| {
            let log = log.clone();
            spawn(async move {
                for count in 0.. {
                    let data = record(pusher, count);
                    let appended = log.push(Buffer::from(data)).await.unwrap();
                    let mut out = io::stdout().lock();
                    writeln!(out, "acked {} {pusher} {count}", appended.number).unwrap();
                    out.flush().unwrap();
                    drop(out);
                    if pusher == 0 && appended.number > 2000 {
                        log.truncate(appended.number - 1000).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for pusher in pushers {
        pusher.await.unwrap();
    }
    Ok(())
}

#[test]
fn child() {
    if let Some(path) = std::env::var_os(FILE) {
        run(write(path.into())).unwrap();
    }
}

/// What a process has told: number, pusher and count of each record.
type Told = Vec<(u64, usize, u64)>;

/// Runs a process for a while, and kills it.
fn killed(path: &Path, after: Duration) -> Told {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(FILE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    // The harness writes the name of the test before, without an end of its line.
    assert!(lines.by_ref().any(|line| line.ends_with("opened")), "the process did not open its log");
    // Two processes do not write one log.
    let error = run(open(path, Duration::ZERO)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{error}");
    let killer = std::thread::spawn(move || {
        std::thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
    });
    let mut told = Told::new();
    for line in lines {
        let mut words = line.split(' ').skip(1).map_while(|word| word.parse::<u64>().ok());
        // The last line may be cut.
        if let (Some(number), Some(pusher), Some(count)) = (words.next(), words.next(), words.next()) {
            told.push((number, pusher as usize, count));
        }
    }
    killer.join().unwrap();
    // What stands at the end of the last line may be cut, too: a number that is too small.
    told.pop();
    told
}

#[test]
fn what_was_acknowledged_survives_kills() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kill-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let (mut before, mut records) = (0, 0);
    for kill in 0..KILLS {
        let start = Instant::now();
        let told = killed(&path, Duration::from_millis(20 + 17 * kill as u64 % 200));
        run(async {
            let mut log = open(&path, PATIENCE).await.unwrap();
            assert!(log.end() >= before, "kill {kill}");
            let mut found = std::collections::BTreeMap::new();
            while let Some(record) = log.next().await.unwrap() {
                found.insert(record.number, record.data);
            }
            assert_eq!(
                found.keys().copied().collect::<Vec<_>>(),
                (log.head()..log.end()).collect::<Vec<_>>()
            );
            for (number, pusher, count) in &told {
                if *number < log.head() {
                    continue;
                }
                let data =
                    found.get(number).unwrap_or_else(|| panic!("kill {kill}: record {number} is lost"));
                assert_eq!(*data, record(*pusher, *count), "kill {kill}: record {number} is altered");
            }
            // What nobody was told of is something that was pushed all the same.
            for data in found.values() {
                let text = std::str::from_utf8(data).unwrap();
                let mut words = text.split(' ').map(|word| word.parse::<u64>());
                let (Some(Ok(pusher)), Some(Ok(count))) = (words.next(), words.next()) else {
                    panic!("{text}")
                };
                assert_eq!(*data, record(pusher as usize, count));
            }
            before = log.end();
        });
        records += told.len();
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    let _ = std::fs::remove_file(&path);
    assert!(records > 100, "only {records} records were told of");
}
