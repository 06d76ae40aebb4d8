//! Requests out of the bytes of a connection.

use super::request::{Request, Span};
use demikernel::Buffer;
use std::fmt;

/// Longest inline request, as in Redis.
const INLINE: usize = 64 * 1024;
/// One argument more than a request may have, as in Redis.
const TOO_MANY: i64 = 1024 * 1024 + 1;
/// Longest argument that the protocol has, as in Redis.
const BULK: i64 = 512 * 1024 * 1024;
/// What a client did against the protocol. It is told, and its connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolError {
    ArgumentCount,
    BulkLength,
    ExpectedBulk(u8),
    ExpectedLineEnd,
    LongInline,
    UnbalancedQuotes,
    LongRequest(usize),
    NoMemory,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ArgumentCount => f.write_str("invalid multibulk length"),
            Self::BulkLength => f.write_str("invalid bulk length"),
            Self::ExpectedBulk(byte) => write!(f, "expected '$', got '{}'", byte.escape_ascii()),
            Self::ExpectedLineEnd => f.write_str("expected CR LF after an argument"),
            Self::LongInline => f.write_str("too big inline request"),
            Self::UnbalancedQuotes => f.write_str("unbalanced quotes in request"),
            Self::LongRequest(limit) => write!(f, "the request is longer than {limit} bytes"),
            Self::NoMemory => f.write_str("no memory for a request of this size"),
        }
    }
}

/// How far `Parser::parse` came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The first so many bytes are a request; `Parser::request` gives its arguments.
    Request(usize),
    /// The rest of a line is missing.
    NeedsLine,
    /// At least so many bytes are missing.
    NeedsBytes(usize),
}

#[derive(Clone, Copy)]
enum State {
    Start,
    Inline,
    /// So many arguments are missing.
    Arguments(u32),
}

/// Finds the arguments of one request after the other in bytes that stay where they are.
///
/// When a request is incomplete the parser remembers how far it came: the next call must pass
/// the same bytes and more, and does not look at the old ones again. So a request that arrives
/// byte by byte costs no more than one that arrives whole.
pub(crate) struct Parser {
    limit: usize,
    state: State,
    /// The first byte not yet understood.
    at: usize,
    spans: Vec<Span>,
    /// The arguments of an inline request with quotes and escapes resolved.
    unquoted: Vec<u8>,
    inline: bool,
}

impl Parser {
    /// A parser that refuses requests longer than `limit` bytes.
    pub(crate) fn new(limit: usize) -> Parser {
        let limit = limit.min(u32::MAX as usize);
        Parser { limit, state: State::Start, at: 0, spans: Vec::new(), unquoted: Vec::new(), inline: false }
    }

    /// Looks for one request at the start of `input`.
    pub(crate) fn parse(&mut self, input: &[u8]) -> Result<Progress, ProtocolError> {
        if let State::Start = self.state {
            self.forget();
            match input.first() {
                None => return Ok(Progress::NeedsLine),
                Some(b'*') => {}
                Some(_) => self.state = State::Inline,
            }
        }
        match self.state {
            State::Start => match count_line(input) {
                Err(Malformed) | Ok(Some((TOO_MANY.., _))) => Err(ProtocolError::ArgumentCount),
                Ok(None) => Ok(Progress::NeedsLine),
                Ok(Some((count, next))) => {
                    self.at = next;
                    self.arguments(input, count.max(0) as u32)
                }
            },
            State::Arguments(left) => self.arguments(input, left),
            State::Inline => self.inline(input),
        }
    }

    /// The request that `parse` has found complete in `input`. `owner` is the buffer around
    /// `input` if a value may keep it.
    pub(crate) fn request<'a>(&'a self, input: &'a [u8], owner: Option<&'a Buffer>) -> Request<'a> {
        let (bytes, owner) = if self.inline { (&self.unquoted[..], None) } else { (input, owner) };
        Request { bytes, spans: &self.spans, owner }
    }

    /// Reads what is missing of the arguments.
    fn arguments(&mut self, input: &[u8], left: u32) -> Result<Progress, ProtocolError> {
        let mut at = self.at;
        for left in (1..=left).rev() {
            let Some((len, start)) = argument_header(input, at)? else {
                return Ok(self.pause(at, left, Progress::NeedsLine));
            };
            let end = start + len;
            if end + 2 > self.limit {
                return Err(ProtocolError::LongRequest(self.limit));
            }
            match input.get(end..end + 2) {
                Some(b"\r\n") => {}
                Some(_) => return Err(ProtocolError::ExpectedLineEnd),
                None => return Ok(self.pause(at, left, Progress::NeedsBytes(end + 2 - input.len()))),
            }
            self.spans.push((start as u32, end as u32));
            at = end + 2;
        }
        self.state = State::Start;
        Ok(Progress::Request(at))
    }

    /// Remembers where to go on.
    #[cold]
    fn pause(&mut self, at: usize, left: u32, progress: Progress) -> Progress {
        self.at = at;
        self.state = State::Arguments(left);
        progress
    }

    /// Reads a request that is a line of words, as people type it.
    fn inline(&mut self, input: &[u8]) -> Result<Progress, ProtocolError> {
        let end = input[self.at..].iter().position(|&byte| byte == b'\n').map(|found| self.at + found);
        if end.unwrap_or(input.len()) > INLINE.min(self.limit) {
            return Err(ProtocolError::LongInline);
        }
        let Some(end) = end else {
            self.at = input.len();
            return Ok(Progress::NeedsLine);
        };
        let line = &input[..end];
        unquote(line.strip_suffix(b"\r").unwrap_or(line), &mut self.unquoted, &mut self.spans)?;
        self.inline = true;
        self.state = State::Start;
        Ok(Progress::Request(end + 1))
    }

    /// Drops the arguments of the last request, and the room for them if they were many.
    #[inline]
    fn forget(&mut self) {
        self.at = 0;
        self.spans.clear();
        if self.spans.capacity() > 64 {
            self.spans = Vec::new();
        }
        if self.inline {
            self.inline = false;
            self.unquoted = Vec::new();
        }
    }
}

/// Reads the `*count` line of a request: the count, and where the next line starts.
#[inline]
fn count_line(input: &[u8]) -> Result<Option<(i64, usize)>, Malformed> {
    match *input {
        [b'*', ones @ b'0'..=b'9', b'\r', b'\n', ..] => Ok(Some((i64::from(ones - b'0'), 4))),
        _ => number_line(input, 1),
    }
}

/// Reads the `$length` line of an argument: the length, and where the argument starts.
#[inline]
fn argument_header(input: &[u8], at: usize) -> Result<Option<(usize, usize)>, ProtocolError> {
    // Nearly all lengths have one digit or two.
    match *input.get(at..).unwrap_or_default() {
        [b'$', ones @ b'0'..=b'9', b'\r', b'\n', ..] => Ok(Some((usize::from(ones - b'0'), at + 4))),
        [b'$', tens @ b'0'..=b'9', ones @ b'0'..=b'9', b'\r', b'\n', ..] => {
            Ok(Some((usize::from(tens - b'0') * 10 + usize::from(ones - b'0'), at + 5)))
        }
        [b'$', ..] => match number_line(input, at + 1) {
            Ok(Some((len @ 0..=BULK, start))) => Ok(Some((len as usize, start))),
            Ok(None) => Ok(None),
            Ok(Some(_)) | Err(Malformed) => Err(ProtocolError::BulkLength),
        },
        [] => Ok(None),
        [other, ..] => Err(ProtocolError::ExpectedBulk(other)),
    }
}

struct Malformed;

/// Reads `[-]digits CR LF` at `at`: the number and where the next line starts, or `None` if the
/// line is not complete.
fn number_line(input: &[u8], at: usize) -> Result<Option<(i64, usize)>, Malformed> {
    let mut digits = input.get(at..).unwrap_or_default();
    let negative = digits.first() == Some(&b'-');
    if negative {
        digits = &digits[1..];
    }
    let start = at + negative as usize;
    let mut value = 0;
    for (index, &byte) in digits.iter().enumerate() {
        match byte {
            // Eighteen digits cannot overflow, and no valid length has as many.
            b'0'..=b'9' if index < 18 => value = value * 10 + i64::from(byte - b'0'),
            b'\r' if index > 0 => {
                return match digits.get(index + 1) {
                    Some(b'\n') => Ok(Some((if negative { -value } else { value }, start + index + 2))),
                    Some(_) => Err(Malformed),
                    None => Ok(None),
                };
            }
            _ => return Err(Malformed),
        }
    }
    Ok(None)
}

/// Splits a line into words. Words may be quoted: with `"` as in C, with `'` literally.
fn unquote(line: &[u8], words: &mut Vec<u8>, spans: &mut Vec<Span>) -> Result<(), ProtocolError> {
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        if at == line.len() {
            return Ok(());
        }
        let start = words.len() as u32;
        while let Some(&byte) = line.get(at).filter(|byte| !byte.is_ascii_whitespace()) {
            if byte == b'"' || byte == b'\'' {
                at = unquote_part(line, at, words).ok_or(ProtocolError::UnbalancedQuotes)?;
            } else {
                words.push(byte);
                at += 1;
            }
        }
        spans.push((start, words.len() as u32));
    }
}

/// Reads the quoted part that begins at `at`, and returns where it ends; `None` if it does not
/// end, or if no space follows.
fn unquote_part(line: &[u8], mut at: usize, words: &mut Vec<u8>) -> Option<usize> {
    let quote = line[at];
    at += 1;
    loop {
        let (byte, used) = match line[at..] {
            [b'\\', b'x', high, low, ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digit = |byte| (byte as char).to_digit(16).unwrap_or(0) as u8;
                (digit(high) << 4 | digit(low), 4)
            }
            [b'\\', escaped, ..] if quote == b'"' => {
                let byte = match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => other,
                };
                (byte, 2)
            }
            [b'\\', b'\'', ..] if quote == b'\'' => (b'\'', 2),
            [byte, ref rest @ ..] if byte == quote => {
                return rest.first().is_none_or(u8::is_ascii_whitespace).then_some(at + 1);
            }
            [byte, ..] => (byte, 1),
            [] => return None,
        };
        words.push(byte);
        at += used;
    }
}
