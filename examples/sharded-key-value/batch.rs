//! What a client asks of a core together, and the answers.
//!
//! A batch goes to the core that has the keys, comes back with the answers, and is used again: memory that one core
//! allocates and another one frees would cost both of them more than the request itself.

use super::shard::{Answer, Op, Shard};

/// So much memory a batch keeps for the next time.
const KEPT: usize = 64 * 1024;

#[derive(Default)]
pub(crate) struct Batch {
    questions: Vec<Question>,
    /// The keys and values of the questions, one after the other.
    asked: Vec<u8>,
    replies: Vec<Reply>,
    /// The values of the answers.
    answered: Vec<u8>,
    /// How many answers have been taken, and how many bytes of values with them.
    taken: (usize, usize),
}

/// An [`Op`], with the lengths of its arguments.
enum Question {
    Get(usize),
    Set(usize, usize),
    Delete(usize),
    Exists(usize),
    Add(usize, i64),
    Size,
}

/// An [`Answer`], likewise.
enum Reply {
    Done,
    Value(Option<usize>),
    Integer(i64),
    NotAnInteger,
}

/// The next part of `bytes`, behind `at`.
fn part<'a>(bytes: &'a [u8], at: &mut usize, length: usize) -> &'a [u8] {
    let start = *at;
    *at += length;
    &bytes[start..*at]
}

impl Batch {
    pub(crate) fn len(&self) -> usize {
        self.questions.len()
    }

    pub(crate) fn push(&mut self, op: Op<'_>) {
        self.asked.extend_from_slice(op.key().unwrap_or_default());
        let question = match op {
            Op::Get(key) => Question::Get(key.len()),
            Op::Set(key, value) => {
                self.asked.extend_from_slice(value);
                Question::Set(key.len(), value.len())
            }
            Op::Delete(key) => Question::Delete(key.len()),
            Op::Exists(key) => Question::Exists(key.len()),
            Op::Add(key, number) => Question::Add(key.len(), number),
            Op::Size => Question::Size,
        };
        self.questions.push(question);
    }

    /// Answers everything.
    pub(crate) fn carry_out(&mut self, shard: &mut Shard) {
        let mut at = 0;
        for question in &self.questions {
            let mut next = |length| part(&self.asked, &mut at, length);
            let op = match *question {
                Question::Get(key) => Op::Get(next(key)),
                Question::Set(key, value) => Op::Set(next(key), next(value)),
                Question::Delete(key) => Op::Delete(next(key)),
                Question::Exists(key) => Op::Exists(next(key)),
                Question::Add(key, number) => Op::Add(next(key), number),
                Question::Size => Op::Size,
            };
            self.replies.push(match shard.apply(op) {
                Answer::Done => Reply::Done,
                Answer::Value(value) => {
                    self.answered.extend_from_slice(value.unwrap_or_default());
                    Reply::Value(value.map(<[u8]>::len))
                }
                Answer::Integer(number) => Reply::Integer(number),
                Answer::NotAnInteger => Reply::NotAnInteger,
            });
        }
    }

    /// The next answer, in the order of the questions.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn next(&mut self) -> Answer<'_> {
        let (index, at) = &mut self.taken;
        *index += 1;
        match self.replies[*index - 1] {
            Reply::Done => Answer::Done,
            Reply::Value(length) => Answer::Value(length.map(|length| part(&self.answered, at, length))),
            Reply::Integer(number) => Answer::Integer(number),
            Reply::NotAnInteger => Answer::NotAnInteger,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.questions.clear();
        self.replies.clear();
        self.taken = (0, 0);
        for bytes in [&mut self.asked, &mut self.answered] {
            bytes.clear();
            bytes.shrink_to(KEPT);
        }
    }
}
