//! The keys of a core, and what is asked of them.

use std::collections::HashMap;

/// What is asked of a key.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Op {
    Get(Vec<u8>),
    Set(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Exists(Vec<u8>),
    Add(Vec<u8>, i64),
    /// How many keys there are: of each core.
    Size,
}

/// What is answered.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Answer {
    Done,
    Value(Option<Vec<u8>>),
    Integer(i64),
    NotAnInteger,
}

impl Op {
    /// The key that says which core it is for.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        match self {
            Op::Get(key) | Op::Set(key, _) | Op::Delete(key) | Op::Exists(key) | Op::Add(key, _) => Some(key),
            Op::Size => None,
        }
    }
}

/// The keys of one core.
pub(crate) struct Shard(HashMap<Vec<u8>, Vec<u8>, ahash::RandomState>);

impl Shard {
    pub(crate) fn new(hash: ahash::RandomState) -> Shard {
        Shard(HashMap::with_hasher(hash))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn apply(&mut self, op: Op) -> Answer {
        match op {
            Op::Get(key) => Answer::Value(self.0.get(&key).cloned()),
            Op::Set(key, value) => {
                self.0.insert(key, value);
                Answer::Done
            }
            Op::Delete(key) => Answer::Integer(self.0.remove(&key).is_some().into()),
            Op::Exists(key) => Answer::Integer(self.0.contains_key(&key).into()),
            Op::Add(key, number) => self.add(key, number),
            Op::Size => Answer::Integer(self.0.len() as i64),
        }
    }

    fn add(&mut self, key: Vec<u8>, number: i64) -> Answer {
        let value = match self.0.get(&key) {
            Some(value) => std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok()),
            None => Some(0),
        };
        let Some(sum) = value.and_then(|value| value.checked_add(number)) else {
            return Answer::NotAnInteger;
        };
        self.0.insert(key, sum.to_string().into_bytes());
        Answer::Integer(sum)
    }
}
