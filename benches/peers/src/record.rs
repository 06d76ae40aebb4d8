//! The figures as they are measured: one line of text each, kept in a file, so that tables can be printed
//! again and runs can be continued.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

/// What a record measures.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// An executor operation: CPU ns per operation (median and least of the child's repetitions).
    Time,
    /// An executor operation: heap allocations per operation.
    Allocations,
    /// An executor operation: instructions in user space per operation.
    Instructions,
    /// Echo: p50 and p99 of one burst, ns.
    Latency,
    /// Echo: messages/s, server's CPU ns per message, server's share of its core.
    Throughput,
    /// Echo: the server's instructions in user space per message.
    MessageInstructions,
    /// Key-value: requests/s, server's CPU ns per request.
    Requests,
    /// Sharded key-value: requests/s, server's CPU ns per request.
    Shards,
    /// Sharded key-value: instructions in user space per request.
    ShardInstructions,
    /// Web servers: requests/s, server's CPU ns per request, server's share of its core.
    Web,
    /// Web servers: instructions in user space per request.
    WebInstructions,
    /// The userspace stack: CPU ns per operation, or what the item is measured in.
    Stack,
    /// The userspace stack: instructions per operation.
    StackInstructions,
}

const KINDS: [(Kind, &str); 13] = [
    (Kind::Time, "time"),
    (Kind::Allocations, "allocations"),
    (Kind::Instructions, "instructions"),
    (Kind::Latency, "latency"),
    (Kind::Throughput, "throughput"),
    (Kind::MessageInstructions, "message-instructions"),
    (Kind::Requests, "requests"),
    (Kind::Shards, "shards"),
    (Kind::ShardInstructions, "shard-instructions"),
    (Kind::Web, "web"),
    (Kind::WebInstructions, "web-instructions"),
    (Kind::Stack, "stack"),
    (Kind::StackInstructions, "stack-instructions"),
];

/// One measurement.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// What was measured.
    pub kind: Kind,
    /// Of whom.
    pub contender: String,
    /// Which operation or configuration.
    pub item: String,
    /// In which round: only figures of one round are divided by each other.
    pub round: usize,
    /// The figures; [`Kind`] says which.
    pub values: Vec<f64>,
}

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = KINDS.iter().find(|x| x.0 == self.kind).expect("every kind is listed").1;
        write!(f, "{kind} {} {} {}", self.contender, self.item, self.round)?;
        self.values.iter().try_for_each(|value| write!(f, " {value:.4}"))
    }
}

impl FromStr for Record {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut fields = line.split_whitespace();
        let parsed = (|| {
            let name = fields.next()?;
            Some(Record {
                kind: KINDS.iter().find(|x| x.1 == name)?.0,
                contender: fields.next()?.into(),
                item: fields.next()?.into(),
                round: fields.next()?.parse().ok()?,
                values: fields.map(|x| x.parse().ok()).collect::<Option<_>>()?,
            })
        })();
        parsed.ok_or_else(|| format!("not a record: {line:?}"))
    }
}

/// All records of a run, on disk as soon as they are made if there is a file.
pub struct Log {
    file: Option<File>,
    records: Vec<Record>,
}

impl Log {
    /// Opens a file, with the records that are in it already.
    pub fn open(path: &Path) -> io::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        let records = text.lines().map(str::parse).collect::<Result<_, _>>().map_err(io::Error::other)?;
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file: Some(file), records })
    }

    /// A log without a file.
    pub fn in_memory() -> Self {
        Self { file: None, records: vec![] }
    }

    /// Adds one.
    pub fn push(&mut self, record: Record) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            writeln!(file, "{record}")?;
        }
        self.records.push(record);
        Ok(())
    }

    /// The number that the next round of a kind gets, so that a continued run mixes no rounds.
    pub fn next_round(&self, kind: Kind) -> usize {
        self.records.iter().filter(|x| x.kind == kind).map(|x| x.round + 1).max().unwrap_or(0)
    }

    /// One figure of one contender by round. A second measurement within a round replaces the first.
    pub fn series(&self, kind: Kind, contender: &str, item: &str, index: usize) -> BTreeMap<usize, f64> {
        let of_this = |x: &&Record| x.kind == kind && x.contender == contender && x.item == item;
        self.records.iter().filter(of_this).filter_map(|x| Some((x.round, *x.values.get(index)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_text() {
        let record = Record {
            kind: Kind::MessageInstructions,
            contender: "tokio-local".into(),
            item: "32x64".into(),
            round: 3,
            values: vec![1.5, 2.0],
        };
        assert_eq!(record.to_string().parse(), Ok(record));
        assert!("time tokio".parse::<Record>().is_err());
        assert!("time tokio yield_1 0 x".parse::<Record>().is_err());
    }
}
