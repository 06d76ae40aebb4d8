//! Numbers that peers tell with a write, and who waits for them.

use super::socket::Socket;
use super::{Key, RdmaTransport, errors};
use crate::link::{Id, Notice};
use demikernel_runtime::Completion;
use demikernel_runtime::transport::Qd;
use std::any::Any;
use std::collections::VecDeque;
use std::io;

/// A promise of the next one, or of the end.
pub(super) type Promise = Completion<io::Result<Option<Notice>>>;

/// Who waits for notices of a socket.
#[derive(Default)]
pub(super) struct Takers {
    waiting: VecDeque<Promise>,
    /// What came for somebody who did not take it, by the numbers of operations.
    untaken: VecDeque<(u32, Notice)>,
}

impl RdmaTransport {
    pub(super) fn start_notice(&self, qd: Qd, done: Promise) {
        let socket = match self.socket_of(qd).and_then(|socket| socket.stream().map(|_| socket)) {
            Ok(socket) => socket,
            Err(error) => return done.complete(Err(error)),
        };
        if let Some(id) = self.id.get() {
            done.on_cancel(id, Key::Receive(socket.id.get()).into());
        }
        self.takers.borrow_mut().entry(socket.id.get()).or_default().waiting.push_back(done);
        self.progress_notices(&socket);
    }

    /// Tells those who wait what has come.
    pub(super) fn progress_notices(&self, socket: &Socket) {
        while let Some((done, result)) = self.next_notice(socket) {
            done.complete(result);
        }
    }

    /// Who is first, and what there is for it.
    fn next_notice(&self, socket: &Socket) -> Option<(Promise, io::Result<Option<Notice>>)> {
        let mut takers = self.takers.borrow_mut();
        let id = socket.id.get();
        let those = takers.get_mut(&id)?;
        those.waiting.retain(|done| !done.is_cancelled());
        if those.waiting.is_empty() {
            if those.untaken.is_empty() {
                takers.remove(&id);
            }
            return None;
        }
        let untaken = those.untaken.pop_front().map(|(_, notice)| Ok(Some(notice)));
        let result =
            untaken.or_else(|| self.attempt(socket, |engine| engine.link.take_notice(socket.stream()?)))?;
        those.waiting.pop_front().map(|done| (done, result))
    }

    /// Ends everything that waits for notices.
    pub(super) fn fail_notices(&self, socket: &Socket, error: &io::Error) {
        let takers = self.takers.borrow_mut().remove(&socket.id.get());
        for done in takers.into_iter().flat_map(|takers| takers.waiting) {
            done.complete(Err(errors::copy(error)));
        }
    }

    /// Gives a notice that nobody took to the next who asks.
    pub(super) fn take_back_notice(&self, id: Id, number: u32, result: Box<dyn Any>) {
        let Ok(result) = result.downcast::<io::Result<Option<Notice>>>() else { return };
        let (Ok(Some(notice)), Some(socket)) = (*result, self.socket_by_id(id)) else { return };
        if !socket.closing.get() {
            let mut takers = self.takers.borrow_mut();
            let untaken = &mut takers.entry(id).or_default().untaken;
            let at = untaken.iter().position(|(other, _)| (number.wrapping_sub(*other) as i32) < 0);
            untaken.insert(at.unwrap_or(untaken.len()), (number, notice));
            drop(takers);
            self.progress_notices(&socket);
        }
    }
}
