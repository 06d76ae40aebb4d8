//! Who waits for something, in the order in which they came.

use std::collections::VecDeque;
use std::task::{Context, Waker};

/// Wakers, each under the ticket of a future, which takes it back when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    waiting: VecDeque<(u64, Waker)>,
    tickets: u64,
}

impl Waiters {
    /// Has the future of this ticket woken; one that has none is given one.
    pub(super) fn wait(&mut self, ticket: &mut Option<u64>, cx: &Context<'_>) {
        let number = *ticket.get_or_insert_with(|| {
            self.tickets += 1;
            self.tickets
        });
        match self.waiting.binary_search_by_key(&number, |(number, _)| *number) {
            Ok(index) => self.waiting[index].1.clone_from(cx.waker()),
            Err(index) => self.waiting.insert(index, (number, cx.waker().clone())),
        }
    }

    /// Takes a ticket back.
    pub(super) fn leave(&mut self, ticket: &mut Option<u64>) {
        if let Some(number) = ticket.take()
            && let Ok(index) = self.waiting.binary_search_by_key(&number, |(number, _)| *number)
        {
            self.waiting.remove(index);
        }
    }

    /// Whether somebody waits who came before the one with this ticket.
    pub(super) fn is_any_before(&self, ticket: Option<u64>) -> bool {
        self.waiting.front().is_some_and(|(first, _)| Some(*first) != ticket)
    }

    /// The waker of who came first. It stays in the list, as its future may be dropped before it runs.
    ///
    /// Wakers are given out rather than woken here: what they do is not to meet what is borrowed.
    pub(super) fn first(&self) -> Option<Waker> {
        self.waiting.front().map(|(_, waker)| waker.clone())
    }

    /// The wakers of all. They do not wait any longer.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Waker> + use<> {
        std::mem::take(&mut self.waiting).into_iter().map(|(_, waker)| waker)
    }
}
