//! The log on a drive.

use super::guest::{self, TWO, open, pattern};
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::{Runtime, spawn};
use demikernel_spdk_storage::log::{Log, Record, Seek, StoreOptions};
use demikernel_spdk_storage::nvme::Options;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;

/// Set in the process that is killed.
const WRITER: &str = "DEMIKERNEL_NVME_WRITER";
const PUSHERS: u64 = 8;

async fn log(options: StoreOptions) -> io::Result<Log> {
    let volume = open(&format!("{TWO}/2"), Options::default())?;
    options.segment_size(1 << 20).open(volume).await?.log("log").await
}

/// A record that says what it is.
fn record(pusher: u64, count: u64) -> Vec<u8> {
    let mut record = format!("{pusher} {count} ").into_bytes();
    record.extend(pattern(pusher << 32 | count, (count * 97 % 5000) as usize));
    record
}

fn told(record: &Record) -> (u64, u64) {
    let bytes = record.data.to_vec();
    let mut words = bytes.splitn(3, |&byte| byte == b' ').map(|word| std::str::from_utf8(word).unwrap_or(""));
    let mut number = || words.next().unwrap().parse::<u64>().unwrap();
    (number(), number())
}

/// All records, each as it was pushed.
async fn read(log: &mut Log) -> Vec<(u64, u64)> {
    log.seek(Seek::Head).unwrap();
    let mut found = Vec::new();
    while let Some(record) = log.next().await.unwrap() {
        let (pusher, count) = told(&record);
        assert!(record.data.to_vec() == self::record(pusher, count), "record {} is altered", record.number);
        found.push((pusher, count));
    }
    found
}

/// Does something in a runtime of its own, which lets go of the drive at its end.
pub(crate) fn apart<T: Send>(what: impl AsyncFnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(|| Runtime::new().unwrap().block_on(what())).join().unwrap())
}

/// Pushes until it is killed, and tells of each record that is durable. After some of them it does something.
fn write(options: StoreOptions, then: impl Fn() + Clone + 'static) {
    Runtime::new().unwrap().block_on(async {
        let log = log(options).await.unwrap();
        let pushers: Vec<_> = (0..PUSHERS)
            .map(|pusher| {
                let (log, then) = (log.clone(), then.clone());
                spawn(async move {
                    for count in 0.. {
                        log.push(Buffer::from(record(pusher, count))).await.unwrap();
                        println!("acknowledged {pusher} {count}");
                        if (pusher, count) == (0, 50) {
                            then();
                        }
                    }
                })
            })
            .collect();
        for pusher in pushers {
            pusher.await.unwrap();
        }
    });
}

/// All that was told of is there, and of each pusher everything in order and once.
fn check(found: &[(u64, u64)], told: impl Iterator<Item = String>) {
    for line in told {
        let words: Vec<u64> = line.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
        assert!(found.contains(&(words[0], words[1])), "{line}, but it is not there");
    }
    for pusher in 0..PUSHERS {
        let counts = found.iter().filter(|(of, _)| *of == pusher).map(|(_, count)| *count);
        assert!(counts.enumerate().all(|(index, count)| count == index as u64));
    }
}

#[test]
fn a_log_survives_the_death_of_its_writer() {
    const NAME: &str = "log::a_log_survives_the_death_of_its_writer";
    const LINES: usize = 300;
    if std::env::var_os(WRITER).is_some() {
        return write(StoreOptions::new(), || {});
    }
    guest::run(async || {
        guest::bind(TWO);
        apart(async || drop(log(StoreOptions::new().overwrite(true)).await.unwrap()));
        let mut expected = 0;
        for _ in 0..2 {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args([NAME, "--exact", "--nocapture"]).env(WRITER, "");
            let mut writer = command.stdout(Stdio::piped()).spawn().unwrap();
            let lines = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
            let mut lines = lines.filter(|line| line.starts_with("acknowledged"));
            let mut told: Vec<String> = lines.by_ref().take(LINES).collect();
            writer.kill().unwrap();
            told.extend(lines);
            writer.wait().unwrap();
            assert!(told.len() >= LINES);
            let found = apart(async || read(&mut log(StoreOptions::new()).await.unwrap()).await);
            // What this writer has pushed comes behind what earlier ones have.
            let (before, new) = found.split_at(expected);
            assert_eq!(before.len(), expected);
            check(new, told.into_iter());
            expected = found.len();
        }
    });
}

#[test]
fn a_drive_with_other_data_is_refused() {
    guest::run(async || {
        guest::bind(TWO);
        let volume = open(&format!("{TWO}/2"), Options::default()).unwrap();
        volume.write(0, Buffer::from(pattern(77, 65536))).await.unwrap();
        drop(volume);
        let error = log(StoreOptions::new().create(true)).await.unwrap_err();
        println!("{error}");
        let volume = open(&format!("{TWO}/2"), Options::default()).unwrap();
        assert!(volume.read(0, 65536).await.unwrap() == pattern(77, 65536));
    });
}

/// In two guests, of which the first is switched off.
#[test]
fn what_is_written_when_the_power_goes() {
    if let Some(switch) = std::env::var_os("DEMIKERNEL_NVME_SWITCH") {
        guest::bind(TWO);
        return write(StoreOptions::new().overwrite(true), move || fs::write(&switch, "").unwrap());
    }
    let Some(told) = std::env::var_os("DEMIKERNEL_NVME_TOLD") else {
        eprintln!("skipped: this is done in two guests (cargo xtask test --only nvme)");
        return;
    };
    let told = fs::read_to_string(told).unwrap();
    // The last line may have been cut.
    let (told, _) = told.rsplit_once('\n').expect("the first guest has told of something");
    let told = told.lines().filter(|line| line.starts_with("acknowledged")).map(str::to_owned);
    guest::bind(TWO);
    let found = apart(async || read(&mut log(StoreOptions::new()).await.unwrap()).await);
    let told: Vec<String> = told.collect();
    println!("{} records were told of, and {} are there", told.len(), found.len());
    assert!(told.len() >= 50);
    check(&found, told.into_iter());
}
