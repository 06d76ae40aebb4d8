//! What was pushed to a stream, and has not left.

use super::effect::Effect;
use super::waiting::Waiting;
use crate::buffer::Sga;
use crate::executor::Completion;
use std::io;

/// Pushes in their order. One whose token is dropped is taken back unless some of it has left: a stream is
/// never cut in the middle of a push.
#[derive(Default)]
pub(super) struct Pushes {
    queue: Waiting<Push>,
    bytes: usize,
}

struct Push {
    /// What of it has not left.
    data: Sga,
    started: bool,
    done: Completion<io::Result<()>>,
}

impl Pushes {
    /// The number that the next one gets.
    pub(super) fn next_number(&self) -> u32 {
        self.queue.next_number()
    }

    pub(super) fn push(&mut self, data: Sga, done: Completion<io::Result<()>>) {
        self.bytes += data.len();
        self.queue.push(Push { data, started: false, done });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that have not left.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the next `size` bytes, of which there are as many, and completes the pushes that end in them.
    pub(super) fn take(&mut self, size: usize, effects: &mut Vec<Effect>) -> Sga {
        self.bytes -= size;
        let mut taken = Sga::new();
        while taken.len() < size {
            self.complete_empty(effects);
            let front = self.queue.front_mut().expect("bytes are left in the queue");
            let mut piece = front.data.first().expect("it is not empty").clone();
            piece.truncate(size - taken.len());
            front.data.advance(piece.len());
            front.started = true;
            taken.push(piece);
        }
        self.complete_empty(effects);
        taken
    }

    /// Completes the pushes at the front of which nothing is left.
    pub(super) fn complete_empty(&mut self, effects: &mut Vec<Effect>) {
        while self.queue.front().is_some_and(|push| push.data.is_empty()) {
            let push = self.queue.pop();
            effects.extend(push.map(|push| Effect::Done(push.done, Ok(()))));
        }
    }

    /// Takes back a push of which nothing has left.
    pub(super) fn cancel(&mut self, number: u32) -> Option<Sga> {
        if self.queue.get(number)?.started {
            return None;
        }
        let push = self.queue.remove(number)?;
        self.bytes -= push.data.len();
        Some(push.data)
    }

    /// Nothing more will leave.
    pub(super) fn fail(&mut self, effects: &mut Vec<Effect>, error: impl Fn() -> io::Error) {
        while let Some(push) = self.queue.pop() {
            effects.push(Effect::Done(push.done, Err(error())));
            effects.push(Effect::Drop(push.data));
        }
        self.bytes = 0;
    }
}
