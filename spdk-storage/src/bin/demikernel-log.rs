//! Looks into stores of logs, and makes them.
//!
//! ```text
//! demikernel-log create PATH --size 256M [--segment 1M] [--overwrite]
//! demikernel-log info PATH
//! demikernel-log verify PATH
//! demikernel-log dump PATH LOG [--from NUMBER] [--count NUMBER] [--hex]
//! ```
//!
//! All but `create` only read. `verify` reads every record, and ends with status 1 if any is damaged.

use demikernel_runtime::{Builder, Idle};
use demikernel_spdk_storage::Volume;
use demikernel_spdk_storage::file::FileOptions;
use demikernel_spdk_storage::log::{Log, LogError, Seek, Store, StoreOptions, log_error};
use std::io::{self, Write};
use std::process::ExitCode;

const USAGE: &str = "usage: demikernel-log create PATH --size BYTES [--segment BYTES] [--overwrite]
       demikernel-log info PATH
       demikernel-log verify PATH
       demikernel-log dump PATH LOG [--from NUMBER] [--count NUMBER] [--hex]
BYTES may end in K, M or G. PATH is a file or a block device.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(command) = Command::parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let result = Builder::new().idle(Idle::Block).build().and_then(|runtime| runtime.block_on(command.run()));
    match result {
        Ok(code) => code,
        // Whoever has read enough closes the pipe.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demikernel-log: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(PartialEq, Debug)]
enum Command {
    Create { path: String, size: Option<u64>, segment: Option<u32>, overwrite: bool },
    Info { path: String },
    Verify { path: String },
    Dump { path: String, log: String, from: u64, count: u64, hex: bool },
}

impl Command {
    fn parse(arguments: &[String]) -> Option<Command> {
        let (mut words, mut flags, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--overwrite" | "--hex" => flags.push(argument.as_str()),
                "--size" | "--segment" | "--from" | "--count" => {
                    values.push((argument.as_str(), bytes(rest.next()?)?));
                }
                other if other.starts_with("--") => return None,
                other => words.push(other.to_owned()),
            }
        }
        let value = |name: &str| values.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
        let flag = |name: &str| flags.contains(&name);
        match (words.first()?.as_str(), &words[1..]) {
            ("create", [path]) => Some(Command::Create {
                path: path.clone(),
                size: value("--size"),
                segment: value("--segment").map(u32::try_from).transpose().ok()?,
                overwrite: flag("--overwrite"),
            }),
            ("info", [path]) => Some(Command::Info { path: path.clone() }),
            ("verify", [path]) => Some(Command::Verify { path: path.clone() }),
            ("dump", [path, log]) => Some(Command::Dump {
                path: path.clone(),
                log: log.clone(),
                from: value("--from").unwrap_or(0),
                count: value("--count").unwrap_or(u64::MAX),
                hex: flag("--hex"),
            }),
            _ => None,
        }
    }

    async fn run(self) -> io::Result<ExitCode> {
        match self {
            Command::Create { path, size, segment, overwrite } => {
                create(&path, size, segment, overwrite).await?
            }
            Command::Info { path } => info(&open(&path).await?)?,
            Command::Verify { path } => return verify(&open(&path).await?).await,
            Command::Dump { path, log, from, count, hex } => {
                let store = open(&path).await?;
                let log = store.find(&log).ok_or_else(|| io::Error::from(LogError::NoLog { name: log }))?;
                dump(log, from, count, hex).await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A number, perhaps of kibi-, mebi- or gibibytes.
fn bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

async fn open(path: &str) -> io::Result<Store> {
    let file = FileOptions::new().read_only(true).open(path)?;
    StoreOptions::new().read_only(true).open(Volume::attach(file)).await
}

async fn create(path: &str, size: Option<u64>, segment: Option<u32>, overwrite: bool) -> io::Result<()> {
    let mut file = FileOptions::new();
    if let Some(size) = size {
        file = file.create(size);
    }
    let volume = Volume::attach(file.open(path)?);
    let mut options = StoreOptions::new().create(true).create_new(true).overwrite(overwrite);
    if let Some(segment) = segment {
        options = options.segment_size(segment);
    }
    let store = options.open(volume).await?;
    store.close().await?;
    info(&store)
}

fn info(store: &Store) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let info = store.info();
    let uuid: String = info.uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(out, "store {uuid}, {}", if info.clean { "closed" } else { "in use, or not closed" })?;
    writeln!(out, "blocks of {} bytes, superblock {}, epoch {}", info.block, info.generation, info.epoch)?;
    let (free, all, size) = (info.free_segments, info.segments, info.segment_size);
    writeln!(
        out,
        "{all} segments of {size} bytes, {free} of them free; records up to {} bytes",
        info.longest_record
    )?;
    for note in store.notes() {
        writeln!(out, "note: {note}")?;
    }
    for log in store.names().iter().filter_map(|name| store.find(name)) {
        let (head, end, segments) = (log.head(), log.end(), log.segments());
        writeln!(out, "log {:?}: records {head} to {end} (exclusive), in {segments} segments", log.name())?;
    }
    Ok(())
}

async fn verify(store: &Store) -> io::Result<ExitCode> {
    let mut damaged = !store.notes().is_empty();
    for note in store.notes() {
        println!("{note}");
    }
    for mut log in store.names().iter().filter_map(|name| store.find(name)) {
        let (mut records, mut bytes) = (0u64, 0u64);
        loop {
            match log.next().await {
                Ok(None) => break,
                Ok(Some(record)) => (records, bytes) = (records + 1, bytes + record.data.len() as u64),
                Err(error) if matches!(log_error(&error), Some(LogError::Damaged(_))) => {
                    damaged = true;
                    println!("{error}");
                }
                Err(error) => return Err(error),
            }
        }
        println!("log {:?}: {records} records, {bytes} bytes", log.name());
    }
    println!("{}", if damaged { "damaged" } else { "intact" });
    Ok(if damaged { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn dump(mut log: Log, from: u64, count: u64, hex: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    log.seek(Seek::Number(from))?;
    let mut left = count;
    while left > 0 {
        match log.next().await {
            Ok(None) => break,
            Ok(Some(record)) => {
                let data = match hex {
                    true => record.data.iter().map(|byte| format!("{byte:02x}")).collect(),
                    false => record.data.escape_ascii().to_string(),
                };
                writeln!(out, "{} {} {} {data}", record.number, record.position, record.data.len())?;
                left -= 1;
            }
            Err(error) if matches!(log_error(&error), Some(LogError::Damaged(_))) => {
                eprintln!("demikernel-log: {error}");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Command> {
        Command::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn command_lines_are_understood() {
        let create =
            Command::Create { path: "f".into(), size: Some(2 << 20), segment: None, overwrite: true };
        assert_eq!(parse("create f --size 2M --overwrite"), Some(create));
        let dump = Command::Dump { path: "f".into(), log: "l".into(), from: 7, count: u64::MAX, hex: false };
        assert_eq!(parse("dump f l --from 7"), Some(dump));
        for bad in [
            "",
            "create",
            "info",
            "info a b",
            "dump f",
            "verify f --what",
            "create f --size x",
            "create f --size",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("3K"), Some(3072));
        assert_eq!(bytes("1G"), Some(1 << 30));
        assert_eq!((bytes(""), bytes("K"), bytes("-1"), bytes("99999999999G")), (None, None, None, None));
    }
}
