//! The data: keys, values and when they expire. It reads no clock; `now` is passed in.

use super::changes::Changes;
use demikernel::Buffer;
use demikernel::time::Instant;
use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// Bytes that a key or a value consists of. Short ones, the most common, need no allocation.
#[derive(Clone)]
pub(crate) enum Blob {
    Short { len: u8, bytes: [u8; Blob::SHORT] },
    Long(Box<[u8]>),
    Shared(Buffer),
}

impl Blob {
    const SHORT: usize = 22;
}

const _: () = assert!(size_of::<Blob>() == 24);

impl From<&[u8]> for Blob {
    fn from(from: &[u8]) -> Blob {
        if from.len() > Blob::SHORT {
            return Blob::Long(from.into());
        }
        let mut bytes = [0; Blob::SHORT];
        bytes[..from.len()].copy_from_slice(from);
        Blob::Short { len: from.len() as u8, bytes }
    }
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Blob::Short { len, bytes } => &bytes[..usize::from(*len)],
            Blob::Long(bytes) => bytes,
            Blob::Shared(buffer) => buffer,
        }
    }
}

impl Borrow<[u8]> for Blob {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl Hash for Blob {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl PartialEq for Blob {
    fn eq(&self, other: &Blob) -> bool {
        **self == **other
    }
}

impl Eq for Blob {}

impl PartialOrd for Blob {
    fn partial_cmp(&self, other: &Blob) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Blob {
    fn cmp(&self, other: &Blob) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

struct Entry {
    value: Blob,
    expires: Option<Instant>,
}

impl Entry {
    fn is_alive(&self, now: Instant) -> bool {
        self.expires.is_none_or(|at| at > now)
    }
}

/// What a SET does with the time at which the key expires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Expiry {
    Never,
    At(Instant),
    Keep,
}

/// On what a SET depends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Only {
    IfMissing,
    IfPresent,
}

/// Why a value could not be counted up or down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CountError {
    NotAnInteger,
    Overflow,
}

/// When a key expires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lifetime {
    Missing,
    Endless,
    Until(Instant),
}

/// Keys and values.
///
/// A key that has expired is as good as absent from that instant on, whether or not its memory
/// has been given back, which `expire` does, in the order of the deadlines.
///
/// The hash is keyed at random for each process, so a client cannot prepare keys that collide;
/// SipHash, the standard library's, does the same for three times the price.
#[derive(Default)]
pub(crate) struct Store {
    entries: HashMap<Blob, Entry, ahash::RandomState>,
    /// One element for each entry that expires.
    deadlines: BTreeSet<(Instant, Blob)>,
    /// What has changed since somebody asked last, if anybody asks.
    changes: Option<Changes>,
}

impl Store {
    /// Keys, including those that have expired but have not been removed.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Keys that expire.
    pub(crate) fn expiring(&self) -> usize {
        self.deadlines.len()
    }

    pub(crate) fn clear(&mut self) {
        let mut changes = self.changes.take();
        changes.iter_mut().for_each(Changes::clear);
        *self = Store { changes, ..Store::default() };
    }

    /// Notes changes from now on, for `take_changes`.
    pub(crate) fn note_changes(&mut self) {
        self.changes.get_or_insert_default();
    }

    /// What has changed since the last call.
    pub(crate) fn take_changes(&mut self) -> Changes {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// All that there is, as changes of an empty store.
    pub(crate) fn snapshot(&self, now: Instant) -> Changes {
        let mut changes = Changes::default();
        let alive = self.entries.iter().filter(|(_, entry)| entry.is_alive(now));
        alive.for_each(|(key, entry)| changes.put(key, &entry.value, entry.expires));
        changes
    }

    fn note_entry(&mut self, key: &[u8]) {
        if let Some(changes) = &mut self.changes
            && let Some(entry) = self.entries.get(key)
        {
            changes.put(key, &entry.value, entry.expires);
        }
    }

    pub(crate) fn get(&self, key: &[u8], now: Instant) -> Option<&Blob> {
        self.entries.get(key).filter(|entry| entry.is_alive(now)).map(|entry| &entry.value)
    }

    /// Sets `key` if `only` allows it: whether it did, and the value before.
    pub(crate) fn set(
        &mut self,
        key: &[u8],
        value: Blob,
        expiry: Expiry,
        only: Option<Only>,
        now: Instant,
    ) -> (bool, Option<Blob>) {
        let result = self.set_quietly(key, value, expiry, only, now);
        if result.0 {
            self.note_entry(key);
        }
        result
    }

    fn set_quietly(
        &mut self,
        key: &[u8],
        value: Blob,
        expiry: Expiry,
        only: Option<Only>,
        now: Instant,
    ) -> (bool, Option<Blob>) {
        let Some(entry) = self.entries.get_mut(key) else {
            if only == Some(Only::IfPresent) {
                return (false, None);
            }
            let expires = match expiry {
                Expiry::At(at) => Some(at),
                Expiry::Never | Expiry::Keep => None,
            };
            if let Some(at) = expires {
                self.deadlines.insert((at, key.into()));
            }
            self.entries.insert(key.into(), Entry { value, expires });
            return (true, None);
        };
        let alive = entry.is_alive(now);
        if only == Some(if alive { Only::IfMissing } else { Only::IfPresent }) {
            return (false, alive.then(|| entry.value.clone()));
        }
        let expires = match expiry {
            Expiry::Never => None,
            Expiry::At(at) => Some(at),
            Expiry::Keep => entry.expires.filter(|_| alive),
        };
        let old = std::mem::replace(&mut entry.value, value);
        move_deadline(&mut self.deadlines, key, &mut entry.expires, expires);
        (true, alive.then_some(old))
    }

    /// Removes `key`; whether it was there.
    pub(crate) fn remove(&mut self, key: &[u8], now: Instant) -> bool {
        let Some((key, mut entry)) = self.entries.remove_entry(key) else { return false };
        let alive = entry.is_alive(now);
        move_deadline(&mut self.deadlines, &key, &mut entry.expires, None);
        if let Some(changes) = &mut self.changes {
            changes.remove(&key);
        }
        alive
    }

    /// Adds to the integer that a key holds (zero if it is missing).
    pub(crate) fn count(&mut self, key: &[u8], by: i64, now: Instant) -> Result<i64, CountError> {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.is_alive(now)) else {
            self.set(key, decimal(by), Expiry::Never, None, now);
            return Ok(by);
        };
        let old = parse_integer(&entry.value).ok_or(CountError::NotAnInteger)?;
        let new = old.checked_add(by).ok_or(CountError::Overflow)?;
        entry.value = decimal(new);
        self.note_entry(key);
        Ok(new)
    }

    pub(crate) fn lifetime(&self, key: &[u8], now: Instant) -> Lifetime {
        match self.entries.get(key).filter(|entry| entry.is_alive(now)) {
            None => Lifetime::Missing,
            Some(Entry { expires: None, .. }) => Lifetime::Endless,
            Some(Entry { expires: Some(at), .. }) => Lifetime::Until(*at),
        }
    }

    /// Lets a key expire at `at`, or not at all; whether it was there. A time that has passed removes it at once.
    pub(crate) fn set_deadline(&mut self, key: &[u8], at: Option<Instant>, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.is_alive(now)) else {
            return false;
        };
        move_deadline(&mut self.deadlines, key, &mut entry.expires, at);
        match entry.is_alive(now) {
            true => self.note_entry(key),
            false => drop(self.remove(key, now)),
        }
        true
    }

    /// Removes up to `budget` keys that have expired, and returns how many.
    pub(crate) fn expire(&mut self, now: Instant, budget: usize) -> usize {
        let mut removed = 0;
        while removed < budget
            && let Some((at, _)) = self.deadlines.first()
            && *at <= now
            && let Some((_, key)) = self.deadlines.pop_first()
        {
            self.entries.remove(&*key);
            removed += 1;
        }
        removed
    }
}

/// Changes when an entry expires, in the entry and in the set of deadlines.
fn move_deadline(
    deadlines: &mut BTreeSet<(Instant, Blob)>,
    key: &[u8],
    expires: &mut Option<Instant>,
    new: Option<Instant>,
) {
    if *expires == new {
        return;
    }
    let key = Blob::from(key);
    let key = match std::mem::replace(expires, new) {
        Some(old) => deadlines.take(&(old, key.clone())).map_or(key, |(_, key)| key),
        None => key,
    };
    if let Some(at) = new {
        deadlines.insert((at, key));
    }
}

fn decimal(value: i64) -> Blob {
    let mut line = [0; 20];
    Blob::from(super::resp::decimal(value, &mut line))
}

/// An integer exactly as `decimal` writes it: no leading zero, plus or space.
pub(crate) fn parse_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', ..] => digits.len() <= 19,
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
