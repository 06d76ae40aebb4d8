//! The device as the runtime's loop sees it.

use super::{RdmaTransport, State, errors};
use demikernel_runtime::DeviceId;
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::{Device, Interest, Turn};
use std::any::Any;
use std::io;
use std::time::Duration;

impl Device for RdmaTransport {
    fn name(&self) -> &'static str {
        "rdma"
    }

    fn attached(&self, id: DeviceId) {
        self.id.set(Some(id));
    }

    fn poll(&self, turn: Turn) -> bool {
        if !self.is_running() {
            return false;
        }
        self.turn(turn == Turn::BeforeParking).unwrap_or_else(|error| {
            self.fail(error);
            true
        })
    }

    fn interest(&self) -> Interest {
        if !self.is_running() {
            return Interest::None;
        }
        let engine = self.engine.borrow();
        if engine.is_busy() || !self.again.borrow().is_empty() {
            return Interest::Polling;
        }
        if !engine.is_used() {
            return Interest::None;
        }
        Interest::Descriptor(engine.descriptor())
    }

    fn arm(&self) -> bool {
        let armed = self.engine.borrow_mut().arm();
        armed.unwrap_or_else(|error| {
            self.fail(error);
            false
        })
    }

    fn next_deadline(&self) -> Option<Instant> {
        match *self.state.borrow() {
            State::Running => self.engine.borrow().next_deadline(),
            _ => None,
        }
    }

    fn cancel(&self, key: u64) {
        self.cancel_operation(key.into());
    }

    fn give_back(&self, key: u64, number: u32, result: Box<dyn Any>) {
        self.take_back(key.into(), number, result);
    }

    fn shutdown(&self, grace: Duration) {
        let end = std::time::Instant::now() + grace;
        if self.is_running() {
            self.turn_until(end, || !self.has_sends());
        }
        // From here on destructors of memory that is let go can make no more work.
        let was_running = matches!(self.state.replace(State::Ended), State::Running);
        for socket in self.all_sockets() {
            socket.closing.set(true);
            self.abandon(&socket, &errors::ended());
            self.remove(&socket);
        }
        if was_running {
            self.turn_until(end, || self.engine.borrow().link.connections() == 0);
        }
        self.engine.borrow_mut().end();
        self.tell_finished();
        if tracing::enabled!(tracing::Level::DEBUG) {
            let counted: Vec<_> = self.counters().into_iter().filter(|(_, value)| *value != 0).collect();
            tracing::debug!(transport = "rdma", ?counted, "ended");
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let open = self.sockets.borrow().len();
        let mut counters =
            vec![("sockets open", open as u64), ("operations waiting", self.waiting.get() as u64)];
        if let Ok(engine) = self.engine.try_borrow() {
            counters.extend(engine.counters());
        }
        counters
    }
}

impl RdmaTransport {
    fn is_running(&self) -> bool {
        matches!(*self.state.borrow(), State::Running)
    }

    /// One turn: out with what tasks have asked for, in, up to those who wait, and out with what came of that.
    fn turn(&self, before_parking: bool) -> io::Result<bool> {
        let mut any = self.engine.borrow_mut().turn(before_parking)?;
        any |= self.progress_events();
        any |= self.tell_finished();
        if !self.again.borrow().is_empty() {
            any |= self.progress_again();
        }
        let mut engine = self.engine.borrow_mut();
        any |= engine.transmit();
        engine.watch_waiting();
        // Those who wait for what has come have it before.
        engine.refill(before_parking)?;
        Ok(any)
    }

    /// Goes on without the runtime's loop, until `done` or the end.
    fn turn_until(&self, end: std::time::Instant, done: impl Fn() -> bool) {
        loop {
            match self.turn(true) {
                Ok(_) if done() => return,
                Ok(_) => {}
                Err(error) => return self.fail(error),
            }
            if std::time::Instant::now() >= end {
                return;
            }
            std::thread::yield_now();
        }
    }
}
