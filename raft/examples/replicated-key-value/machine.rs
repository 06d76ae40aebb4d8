//! What is replicated: keys and values, and what changes them.

use demikernel_raft::{Machine, Runtime, openraft};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io;

openraft::declare_raft_types!(
    /// What openraft is configured with.
    pub(crate) Types:
        D = Command,
        R = Reply,
        NodeId = u64,
        Node = openraft::BasicNode,
        AsyncRuntime = Runtime,
);

/// A change.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    Set(Vec<u8>, Vec<u8>),
    Delete(Vec<Vec<u8>>),
    Add(Vec<u8>, i64),
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Set(key, _) => write!(f, "SET {}", key.escape_ascii()),
            Command::Delete(keys) => write!(f, "DEL of {} keys", keys.len()),
            Command::Add(key, number) => write!(f, "INCRBY {} {number}", key.escape_ascii()),
        }
    }
}

/// What a change gives.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) enum Reply {
    #[default]
    Done,
    Integer(i64),
    NotAnInteger,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The keys and their values, in an order that is the same on each node.
#[derive(Default)]
pub(crate) struct KeyValue(BTreeMap<Vec<u8>, Vec<u8>>);

impl KeyValue {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.0.get(key).map(Vec::as_slice)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn add(&mut self, key: Vec<u8>, number: i64) -> Reply {
        let value = match self.0.get(&key) {
            Some(value) => std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok()),
            None => Some(0),
        };
        let Some(sum) = value.and_then(|value| value.checked_add(number)) else { return Reply::NotAnInteger };
        self.0.insert(key, sum.to_string().into_bytes());
        Reply::Integer(sum)
    }
}

impl Machine<Types> for KeyValue {
    fn apply(&mut self, command: Command) -> Reply {
        match command {
            Command::Set(key, value) => {
                self.0.insert(key, value);
                Reply::Done
            }
            Command::Delete(keys) => {
                Reply::Integer(keys.iter().filter(|key| self.0.remove(*key).is_some()).count() as i64)
            }
            Command::Add(key, number) => self.add(key, number),
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        postcard::to_stdvec(&self.0).expect("maps of bytes have a form in bytes")
    }

    fn restore(&mut self, snapshot: &[u8]) -> io::Result<()> {
        self.0 = postcard::from_bytes(snapshot)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("a snapshot: {error}")))?;
        Ok(())
    }
}
