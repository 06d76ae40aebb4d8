//! Replies, one behind the other in buffers.

use demikernel::{Buffer, BufferMut, Sga};
use std::fmt;

/// Writes replies one behind the other, so that those of many requests leave as one push.
///
/// Short replies are written into one buffer. A large value is not copied: it stands between
/// two such buffers as a segment of its own.
pub(crate) struct Replies {
    out: Out,
    /// What is complete, before `out`.
    segments: Sga,
    pub(crate) version: Version,
}

/// The dialect that a client has asked for with HELLO.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version {
    Resp2 = 2,
    Resp3 = 3,
}

enum Out {
    None,
    Pool(BufferMut),
    /// The pool was exhausted in the middle of a batch: commands that have been carried out
    /// must be answered, so the heap serves until the batch has been pushed.
    Heap(Vec<u8>),
}

impl Replies {
    pub(crate) fn new() -> Replies {
        Replies { out: Out::None, segments: Sga::new(), version: Version::Resp2 }
    }

    /// Bytes written since the last `take`.
    pub(crate) fn len(&self) -> usize {
        let out = match &self.out {
            Out::None => 0,
            Out::Pool(buffer) => buffer.len(),
            Out::Heap(bytes) => bytes.len(),
        };
        self.segments.len() + out
    }

    /// Takes what has been written.
    pub(crate) fn take(&mut self) -> Sga {
        self.close_segment();
        std::mem::take(&mut self.segments)
    }

    pub(crate) fn ok(&mut self) {
        self.write(b"+OK\r\n");
    }

    pub(crate) fn simple(&mut self, text: &str) {
        self.write(b"+");
        self.write(text.as_bytes());
        self.write(b"\r\n");
    }

    /// An error reply. Line ends in `message`, which may quote the client, become spaces.
    pub(crate) fn error(&mut self, message: impl fmt::Display) {
        let mut line = format!("-{message}\r\n").into_bytes();
        let end = line.len() - 2;
        line[..end].iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
        self.write(&line);
    }

    pub(crate) fn integer(&mut self, value: i64) {
        self.prefixed(b':', value);
    }

    pub(crate) fn bulk(&mut self, bytes: &[u8]) {
        self.prefixed(b'$', bytes.len() as i64);
        self.write(bytes);
        self.write(b"\r\n");
    }

    /// As `bulk`, without copying the bytes.
    pub(crate) fn bulk_shared(&mut self, bytes: &Buffer) {
        self.prefixed(b'$', bytes.len() as i64);
        self.close_segment();
        self.segments.push(bytes.clone());
        self.write(b"\r\n");
    }

    pub(crate) fn null(&mut self) {
        self.write(match self.version {
            Version::Resp2 => b"$-1\r\n",
            Version::Resp3 => b"_\r\n",
        });
    }

    /// The head of a list; its `len` elements follow as replies of their own.
    pub(crate) fn array(&mut self, len: usize) {
        self.prefixed(b'*', len as i64);
    }

    /// The head of a map; `len` times a key and a value follow.
    pub(crate) fn map(&mut self, len: usize) {
        match self.version {
            Version::Resp2 => self.prefixed(b'*', 2 * len as i64),
            Version::Resp3 => self.prefixed(b'%', len as i64),
        }
    }

    /// `kind`, a number, and the end of the line.
    #[inline]
    fn prefixed(&mut self, kind: u8, value: i64) {
        match value {
            0..=9 => self.write(&[kind, b'0' + value as u8, b'\r', b'\n']),
            _ => self.prefixed_longer(kind, value),
        }
    }

    fn prefixed_longer(&mut self, kind: u8, value: i64) {
        let mut line = [0; 23];
        line[21..].copy_from_slice(b"\r\n");
        let digits = decimal(value, line[1..].first_chunk_mut().expect("20 of 22 bytes")).len();
        line[20 - digits] = kind;
        self.write(&line[20 - digits..]);
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        match &mut self.out {
            Out::Pool(buffer) if buffer.capacity() - buffer.len() >= bytes.len() => {
                buffer.extend_from_slice(bytes);
            }
            Out::Heap(buffer) => buffer.extend_from_slice(bytes),
            _ => self.write_elsewhere(bytes),
        }
    }

    /// Goes on in a new buffer: the first of a batch is small, as most batches are one short
    /// reply; the others are not.
    #[cold]
    fn write_elsewhere(&mut self, bytes: &[u8]) {
        let capacity =
            if matches!(self.out, Out::None) && self.segments.is_empty() { 256 } else { 16 * 1024 };
        self.close_segment();
        self.out = match BufferMut::with_capacity(capacity.max(bytes.len())) {
            Ok(buffer) => Out::Pool(buffer),
            Err(_) => Out::Heap(Vec::with_capacity(capacity.max(bytes.len()))),
        };
        self.write(bytes);
    }

    fn close_segment(&mut self) {
        match std::mem::replace(&mut self.out, Out::None) {
            Out::None => {}
            Out::Pool(buffer) => self.segments.push(buffer.freeze()),
            Out::Heap(bytes) => self.segments.push(Buffer::from(bytes)),
        }
    }
}

/// Writes an integer into the end of `line`, the part with its digits is returned.
pub(crate) fn decimal(value: i64, line: &mut [u8; 20]) -> &[u8] {
    let mut at = line.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        line[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        line[at] = b'-';
    }
    &line[at..]
}
