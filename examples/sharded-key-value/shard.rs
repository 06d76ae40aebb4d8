//! The keys of a core, and what is asked of them.

use super::resp::decimal;
use std::collections::HashMap;

/// What is asked of a key.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Op<'a> {
    Get(&'a [u8]),
    Set(&'a [u8], &'a [u8]),
    Delete(&'a [u8]),
    Exists(&'a [u8]),
    Add(&'a [u8], i64),
    /// How many keys there are: of each core.
    Size,
}

/// What is answered.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Answer<'a> {
    Done,
    Value(Option<&'a [u8]>),
    Integer(i64),
    NotAnInteger,
}

impl<'a> Op<'a> {
    /// The key that says which core it is for.
    pub(crate) fn key(&self) -> Option<&'a [u8]> {
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

    pub(crate) fn apply(&mut self, op: Op<'_>) -> Answer<'_> {
        match op {
            Op::Get(key) => Answer::Value(self.0.get(key).map(Vec::as_slice)),
            Op::Set(key, value) => {
                self.set(key, value);
                Answer::Done
            }
            Op::Delete(key) => Answer::Integer(self.0.remove(key).is_some().into()),
            Op::Exists(key) => Answer::Integer(self.0.contains_key(key).into()),
            Op::Add(key, number) => self.add(key, number),
            Op::Size => Answer::Integer(self.0.len() as i64),
        }
    }

    /// In the memory of the value before, if it fits there.
    fn set(&mut self, key: &[u8], value: &[u8]) {
        match self.0.get_mut(key) {
            Some(before) if before.capacity() >= value.len() && before.capacity() < value.len() * 2 + 64 => {
                before.clear();
                before.extend_from_slice(value);
            }
            Some(before) => *before = value.to_vec(),
            None => drop(self.0.insert(key.to_vec(), value.to_vec())),
        }
    }

    fn add(&mut self, key: &[u8], number: i64) -> Answer<'_> {
        let value = match self.0.get(key) {
            Some(value) => std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok()),
            None => Some(0),
        };
        let Some(sum) = value.and_then(|value| value.checked_add(number)) else {
            return Answer::NotAnInteger;
        };
        self.set(key, decimal(sum, &mut [0; 20]));
        Answer::Integer(sum)
    }
}
