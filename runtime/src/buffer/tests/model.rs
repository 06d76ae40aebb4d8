//! Random operations against a naive model: each handle has a copy of its bytes beside it, and a
//! token that says with whom it shares memory.

use std::rc::Rc;
use std::thread;

use bytes::Bytes;
use proptest::prelude::*;

use crate::buffer::{Buffer, BufferMut, pool};

/// Memory in the model; handles to the same memory hold the same one.
type Memory = Rc<Kind>;

#[derive(PartialEq)]
enum Kind {
    Writable,
    /// `'static`, or a view of `Bytes`, which keep this in use.
    ReadOnly(Option<Memory>),
    Nothing,
}

struct Handle {
    buffer: Buffer,
    bytes: Vec<u8>,
    memory: Memory,
}

/// What left as `Bytes`; it keeps the memory in use.
struct Away {
    bytes: Bytes,
    expected: Vec<u8>,
    memory: Option<Memory>,
}

#[derive(Default)]
struct Model {
    handles: Vec<Handle>,
    away: Vec<Away>,
    next_byte: u8,
}

#[derive(Clone, Debug)]
enum Op {
    Allocate(usize),
    FromVec(usize),
    FromStatic(usize),
    Clone(usize),
    Slice(usize, usize, usize),
    SplitTo(usize, usize),
    SplitOff(usize, usize),
    Advance(usize, usize),
    Truncate(usize, usize),
    Write(usize, usize),
    IntoBytes(usize),
    FromBytes(usize),
    Drop(usize),
    DropBytes(usize),
    DropElsewhere(usize),
    Collect,
    Trim,
}

fn op() -> impl Strategy<Value = Op> {
    let i = || 0..1000_usize;
    let size = || prop_oneof![4 => 0..300_usize, 2 => 0..5000_usize, 1 => 60_000..70_000_usize];
    prop_oneof![
        4 => size().prop_map(Op::Allocate),
        1 => size().prop_map(Op::FromVec),
        1 => (0..40_usize).prop_map(Op::FromStatic),
        3 => i().prop_map(Op::Clone),
        3 => (i(), i(), i()).prop_map(|(a, b, c)| Op::Slice(a, b, c)),
        2 => (i(), i()).prop_map(|(a, b)| Op::SplitTo(a, b)),
        2 => (i(), i()).prop_map(|(a, b)| Op::SplitOff(a, b)),
        1 => (i(), i()).prop_map(|(a, b)| Op::Advance(a, b)),
        1 => (i(), i()).prop_map(|(a, b)| Op::Truncate(a, b)),
        4 => (i(), size()).prop_map(|(a, b)| Op::Write(a, b)),
        2 => i().prop_map(Op::IntoBytes),
        2 => i().prop_map(Op::FromBytes),
        4 => i().prop_map(Op::Drop),
        2 => i().prop_map(Op::DropBytes),
        1 => i().prop_map(Op::DropElsewhere),
        1 => Just(Op::Collect),
        1 => Just(Op::Trim),
    ]
}

const STATIC: &[u8; 40] = b"forty bytes that live as long as we test";

/// A number in `0..=len` from any number.
fn position(any: usize, len: usize) -> usize {
    any * 7919 % (len + 1)
}

impl Model {
    fn fresh(&mut self, size: usize) -> Vec<u8> {
        self.next_byte = self.next_byte.wrapping_add(1);
        vec![self.next_byte; size]
    }

    fn add(&mut self, buffer: Buffer, bytes: Vec<u8>, kind: Kind) {
        let kind = if bytes.is_empty() { Kind::Nothing } else { kind };
        self.handles.push(Handle { buffer, bytes, memory: Rc::new(kind) });
    }

    /// A part of a handle's memory, which an empty part does not keep.
    fn add_part(&mut self, buffer: Buffer, bytes: Vec<u8>, memory: &Memory) {
        let memory = if bytes.is_empty() { Rc::new(Kind::Nothing) } else { memory.clone() };
        self.handles.push(Handle { buffer, bytes, memory });
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Allocate(size) => {
                let bytes = self.fresh(size);
                self.add(Buffer::copy_from_slice(&bytes).unwrap(), bytes, Kind::Writable);
            }
            Op::FromVec(size) => {
                let bytes = self.fresh(size);
                self.add(Buffer::from(bytes.clone()), bytes, Kind::Writable);
            }
            Op::FromStatic(size) => {
                self.add(Buffer::from_static(&STATIC[..size]), STATIC[..size].to_vec(), Kind::ReadOnly(None));
            }
            Op::FromBytes(i) if !self.away.is_empty() => {
                let away = &self.away[i % self.away.len()];
                let (buffer, bytes) = (Buffer::from(away.bytes.clone()), away.expected.clone());
                let memory = away.memory.clone();
                self.add(buffer, bytes, Kind::ReadOnly(memory));
            }
            Op::DropBytes(i) if !self.away.is_empty() => drop(self.away.swap_remove(i % self.away.len())),
            Op::DropElsewhere(i) if !self.away.is_empty() => {
                let away = self.away.swap_remove(i % self.away.len());
                thread::spawn(move || drop(away.bytes)).join().unwrap();
            }
            Op::Collect => pool::collect(),
            Op::Trim => pool::trim(),
            _ if !self.handles.is_empty() => self.apply_to_handle(op),
            _ => {}
        }
    }

    fn apply_to_handle(&mut self, op: Op) {
        let count = self.handles.len();
        match op {
            Op::Clone(i) => {
                let Handle { buffer, bytes, memory } = &self.handles[i % count];
                let copy = Handle { buffer: buffer.clone(), bytes: bytes.clone(), memory: memory.clone() };
                self.handles.push(copy);
            }
            Op::Slice(i, a, b) => {
                let Handle { buffer, bytes, memory } = &self.handles[i % count];
                let (a, b) = (position(a, bytes.len()), position(b, bytes.len()));
                let range = a.min(b)..a.max(b);
                let (part, bytes, memory) =
                    (buffer.slice(range.clone()), bytes[range].to_vec(), memory.clone());
                self.add_part(part, bytes, &memory);
            }
            Op::SplitTo(i, at) | Op::SplitOff(i, at) => {
                self.split(i % count, at, matches!(op, Op::SplitTo(..)))
            }
            Op::Advance(i, at) => {
                let handle = &mut self.handles[i % count];
                let at = position(at, handle.bytes.len());
                handle.buffer.advance(at);
                handle.bytes.drain(..at);
            }
            Op::Truncate(i, at) => {
                let handle = &mut self.handles[i % count];
                let at = position(at, handle.bytes.len());
                handle.buffer.truncate(at);
                handle.bytes.truncate(at);
            }
            Op::Write(i, size) => self.write(i % count, size),
            Op::IntoBytes(i) => {
                let Handle { buffer, bytes, memory } = self.handles.swap_remove(i % count);
                let memory = match &*memory {
                    _ if bytes.is_empty() => None,
                    // The original comes back, not a view of a view.
                    Kind::ReadOnly(original) => original.clone(),
                    _ => Some(memory),
                };
                self.away.push(Away { bytes: buffer.into_bytes(), expected: bytes, memory });
            }
            Op::Drop(i) => drop(self.handles.swap_remove(i % count)),
            _ => {}
        }
    }

    fn split(&mut self, i: usize, at: usize, front: bool) {
        let handle = &mut self.handles[i];
        let at = position(at, handle.bytes.len());
        let memory = handle.memory.clone();
        let (part, bytes) = if front {
            let rest = handle.bytes.split_off(at);
            (handle.buffer.split_to(at), std::mem::replace(&mut handle.bytes, rest))
        } else {
            (handle.buffer.split_off(at), handle.bytes.split_off(at))
        };
        // The handle that is left with nothing gives the memory up, if the other has something; if
        // neither has, only one of them keeps it, and which one is not the model's business.
        if handle.bytes.is_empty() && !bytes.is_empty() {
            handle.memory = Rc::new(Kind::Nothing);
        }
        if handle.bytes.is_empty() && bytes.is_empty() {
            self.handles.swap_remove(i);
            return;
        }
        self.add_part(part, bytes, &memory);
    }

    /// Writes to a handle if it can, which must be exactly if nobody else has its memory.
    fn write(&mut self, i: usize, size: usize) {
        let Handle { buffer, mut bytes, memory } = self.handles.swap_remove(i);
        let may = *memory == Kind::Writable && Rc::strong_count(&memory) == 1;
        let buffer = match buffer.try_into_mut() {
            Ok(mut unique) => {
                assert!(may, "somebody else has the memory");
                self.write_to(&mut unique, &mut bytes, size);
                unique.freeze()
            }
            Err(buffer) => {
                assert!(!may, "nobody else has the memory");
                buffer
            }
        };
        self.handles.push(Handle { buffer, bytes, memory });
    }

    fn write_to(&mut self, unique: &mut BufferMut, bytes: &mut Vec<u8>, size: usize) {
        let more = self.fresh(size.min(unique.capacity() - unique.len()));
        unique.extend_from_slice(&more);
        bytes.extend_from_slice(&more);
        let before = self.fresh(unique.headroom().min(5));
        unique.prepend(before.len()).copy_from_slice(&before);
        bytes.splice(..0, before);
        unique.reverse();
        bytes.reverse();
    }

    fn check(&self) {
        for Handle { buffer, bytes, .. } in &self.handles {
            assert_eq!(buffer, bytes);
        }
        for Away { bytes, expected, .. } in &self.away {
            assert_eq!(bytes, expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_operations_agree_with_the_model(ops in prop::collection::vec(op(), 1..120)) {
        let mut model = Model::default();
        for op in ops {
            model.apply(op);
            model.check();
        }
        drop(model);
        pool::trim();
        let stats = pool::stats();
        prop_assert_eq!((stats.in_use(), stats.foreign, stats.mapped), (0, 0, 0));
    }
}
