//! The device as the runtime's loop sees it: it waits for nothing but times.

use super::Memory;
use super::effect::Effect;
use super::errors::{closed, ended};
use super::socket::{Role, Socket};
use super::state::{Entry, Event, State};
use super::untaken::Untaken;
use super::waiting::CancelKey;
use crate::executor::DeviceId;
use crate::time::Instant;
use crate::transport::{Device, Interest, Qd, Turn};
use std::any::Any;
use std::time::Duration;

/// Events in one turn of the runtime's loop. What is left is due at once in the next.
const BURST: usize = 256;

impl Device for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn attached(&self, id: DeviceId) {
        self.state.borrow_mut().id = Some(id);
    }

    fn poll(&self, _turn: Turn) -> bool {
        if self.state.borrow().schedule.is_empty() {
            return false;
        }
        let mut any = false;
        // One by one, so that what an event completes sees the state as that event has left it.
        for _ in 0..BURST {
            if !self.with(State::step) {
                break;
            }
            any = true;
        }
        any
    }

    fn interest(&self) -> Interest {
        Interest::None
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.state.borrow().schedule.next()
    }

    fn cancel(&self, key: u64) {
        self.with(|state| state.cancel(CancelKey::from(key)));
    }

    fn give_back(&self, key: u64, number: u32, result: Box<dyn Any>) {
        if let Some(untaken) = Untaken::new(result) {
            self.with(|state| state.take_back(CancelKey::from(key).qd, number, untaken));
        }
    }

    /// Nothing outside uses memory, and nobody is left to receive: everything ends at once.
    fn shutdown(&self, _grace: Duration) {
        self.with(|state| {
            state.ended = true;
            state.end_all();
        });
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let state = self.state.borrow();
        let count = &state.count;
        vec![
            ("sockets and files open", state.entries.len() as u64),
            ("operations waiting", state.waiting() as u64),
            ("events to come", state.schedule.len() as u64),
            ("events", count.events),
            ("connections made", count.connections),
            ("connections refused", count.refused),
            ("ends of connections reset", count.resets),
            ("connections given up", count.timeouts),
            ("pieces of streams sent", count.pieces),
            ("bytes of streams sent", count.bytes),
            ("datagrams sent", count.datagrams),
            ("datagrams lost", count.datagrams_lost),
            ("datagrams without room", count.datagrams_without_room),
            ("datagrams to nobody", count.datagrams_to_nobody),
            ("file operations", count.file_operations),
            ("file errors", count.file_errors),
        ]
    }
}

impl State {
    /// A socket is given up by the program.
    pub(super) fn close(&mut self, qd: Qd) {
        let Ok(socket) = self.socket(qd) else { return };
        match &socket.role {
            Role::New => {
                self.release_address(qd);
                self.entries.remove(&qd);
            }
            Role::Connecting(_) => {
                self.release_address(qd);
                if let Some(Entry::Socket(Socket { role: Role::Connecting(connecting), .. })) =
                    self.entries.remove(&qd)
                {
                    self.done(connecting.done, Err(closed()));
                }
            }
            Role::Listener(_) => self.close_listener(qd),
            Role::Connected(_) => self.close_stream(qd),
            Role::Datagram(_) => self.close_datagram(qd),
        }
    }

    fn end_all(&mut self) {
        for event in self.schedule.clear() {
            match event {
                Event::File(job) => self.fail_job(*job, ended()),
                Event::Datagram(flying) => self.effects.push(Effect::Drop(flying.into_data())),
                _ => {}
            }
        }
        let all: Vec<Qd> = self.entries.keys().copied().collect();
        for qd in all {
            if let Some(Socket { role: Role::Connected(_), .. }) = self.any_socket(qd) {
                self.fail_stream(qd, libc::ECONNABORTED);
            }
            self.close(qd);
        }
        self.schedule.clear().for_each(drop);
        self.entries.clear();
    }
}
