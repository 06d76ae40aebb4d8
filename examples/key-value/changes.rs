//! Changes of the store as bytes, and back.

use super::store::{Expiry, Store};
use demikernel::time::{Duration, Instant};
use std::time::SystemTime;

const PUT: u8 = 1;
const REMOVE: u8 = 2;
const CLEAR: u8 = 3;

/// Changes of a store, as bytes.
#[derive(Default)]
pub(crate) struct Changes(pub(super) Vec<u8>);

impl Changes {
    /// A key has this value, and expires then.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8], expires: Option<Instant>) {
        self.0.push(PUT);
        let millis = expires.map_or(0, |at| {
            let left = at.saturating_duration_since(Instant::now());
            (since_1970() + left).as_millis().max(1) as u64
        });
        self.0.extend_from_slice(&millis.to_le_bytes());
        self.bytes(key);
        self.bytes(value);
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        self.0.push(REMOVE);
        self.bytes(key);
    }

    /// Everything is gone, with what was changed before.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
        self.0.push(CLEAR);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// Makes the changes; `None` if they are no changes.
    pub(super) fn apply(&self, store: &mut Store, now: Instant) -> Option<()> {
        let mut rest = self.0.as_slice();
        while let Some((kind, after)) = rest.split_first() {
            rest = after;
            match *kind {
                PUT => {
                    let millis = number(&mut rest)?;
                    let (key, value) = (part(&mut rest)?, part(&mut rest)?);
                    let left = Duration::from_millis(millis).saturating_sub(since_1970());
                    match millis {
                        0 => drop(store.set(key, value.into(), Expiry::Never, None, now)),
                        _ if left.is_zero() => drop(store.remove(key, now)),
                        _ => drop(store.set(key, value.into(), Expiry::At(now + left), None, now)),
                    }
                }
                REMOVE => drop(store.remove(part(&mut rest)?, now)),
                CLEAR => store.clear(),
                _ => return None,
            }
        }
        Some(())
    }
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (number, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u64::from_le_bytes(*number))
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(number(rest)?).ok()?;
    let (part, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(part)
}

/// Times are of the calendar, as instants mean nothing to the next process.
fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
