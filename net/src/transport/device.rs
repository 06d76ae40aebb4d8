//! The device as the runtime's loop sees it.

use super::{Key, NetTransport, Socket, State, errors};
use crate::device::FrameDevice;
use crate::device::pcapng::Writer;
use demikernel_runtime::DeviceId;
use demikernel_runtime::inspect::Connection;
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::{Device, Interest, Turn};
use std::any::Any;
use std::io::{self, Write};
use std::time::Duration;

/// How long a runtime that does not spin leaves a device alone that cannot tell when something comes: what it costs to
/// go to sleep and wake up, as with the runtime's own spinning.
const PAUSE: Duration = Duration::from_micros(50);

/// How much of a packet a capture has that is switched on: all of it.
const WHOLE: usize = 1 << 18;

impl Device for NetTransport {
    fn name(&self) -> &'static str {
        self.name
    }

    fn attached(&self, id: DeviceId) {
        self.id.set(Some(id));
    }

    fn poll(&self, _turn: Turn) -> bool {
        if !self.is_running() {
            return false;
        }
        self.turn().unwrap_or_else(|error| {
            self.fail(error);
            true
        })
    }

    fn interest(&self) -> Interest {
        if !self.is_running() {
            return Interest::None;
        }
        let engine = self.engine.borrow();
        match engine.device.descriptor() {
            Some(descriptor) if !engine.is_busy() && self.again.borrow().is_empty() => {
                Interest::Descriptor(descriptor)
            }
            None if !engine.device.is_awaited() && !engine.is_busy() && self.again.borrow().is_empty() => {
                Interest::None
            }
            None if engine.device.is_awaited() && !engine.is_busy() && self.again.borrow().is_empty() => {
                Interest::Pause(PAUSE)
            }
            _ => Interest::Polling,
        }
    }

    fn arm(&self) -> bool {
        self.engine.borrow_mut().device.arm()
    }

    fn next_deadline(&self) -> Option<Instant> {
        if self.is_running() { self.engine.borrow().stack.next_deadline() } else { None }
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
        let was_running = self.leave(State::Ended);
        let sockets: Vec<_> = self.sockets.borrow().iter().flatten().cloned().collect();
        for socket in sockets {
            socket.closing.set(true);
            self.abandon(&socket, &errors::ended());
            self.remove(&socket);
        }
        if was_running {
            self.turn_until(end, || !self.engine.borrow().stack.has_unfinished());
            self.serve_other_cores();
            self.engine.borrow_mut().stack.abort_all(Instant::now());
            // Resets, as far as the device takes them now.
            let _ = self.turn();
            self.engine.borrow_mut().stack.release_lease(Instant::now());
            let _ = self.turn();
        }
        self.leave(State::Ended);
        if tracing::enabled!(tracing::Level::DEBUG) {
            let counted: Vec<_> = self.counters().into_iter().filter(|(_, value)| *value != 0).collect();
            tracing::debug!(transport = self.name, ?counted, "ended");
        }
    }

    fn describe(&self, key: u64) -> Option<String> {
        Some(match Key::from(key) {
            Key::Receive(id) => format!("receive of socket {}", id.index()),
            Key::Send(qd, _) => format!("send of socket {}", qd.0),
        })
    }

    fn connections(&self, most: usize) -> Vec<Connection> {
        let sockets: Vec<_> = self.sockets.borrow().iter().flatten().take(most).cloned().collect();
        sockets.iter().map(|socket| self.connection(socket)).collect()
    }

    fn can_capture(&self) -> bool {
        true
    }

    fn capture(&self, output: Option<Box<dyn Write>>) -> io::Result<()> {
        let mut engine = self.engine.try_borrow_mut().map_err(|_| errors::busy())?;
        let medium = engine.device.capabilities().medium;
        let writer = output.map(|output| Writer::new(output, self.name, medium, WHOLE)).transpose()?;
        engine.device.switch(writer)
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let open = self.sockets.borrow().iter().flatten().count();
        let mut counters =
            vec![("sockets open", open as u64), ("operations waiting", self.waiting.get() as u64)];
        if let Ok(engine) = self.engine.try_borrow() {
            counters.extend(engine.device.counters());
            counters.extend(engine.stack.counters());
        }
        counters
    }
}

impl NetTransport {
    fn connection(&self, socket: &Socket) -> Connection {
        let mut connection = Connection::new(self.name, socket.id.index());
        connection.local = self.call(|stack, _| stack.local(socket.id)).ok().map(|local| local.to_string());
        connection.peer = self.call(|stack, _| stack.peer(socket.id)).ok().map(|peer| peer.to_string());
        if let Ok(info) = self.call(|stack, now| stack.tcp_info(now, socket.id)) {
            connection.state = Some(info.state.name().into());
            let figures = info.figures().into_iter();
            connection.figures = figures.map(|(name, value)| (name.into(), value)).collect();
        }
        connection
    }

    fn is_running(&self) -> bool {
        self.running.get()
    }

    /// Goes on until all cores on the device are done: frames for others come to this one's queue.
    fn serve_other_cores(&self) {
        let place = self.engine.borrow().stack.place();
        if let Some(place) = place {
            place.finish();
            let for_ever = std::time::Instant::now() + Duration::from_secs(u64::from(u32::MAX));
            self.turn_until(for_ever, || place.is_free());
        }
    }

    /// One turn: out with what tasks have asked for, which does not wait for a look at what has come; in, up to those
    /// who wait, and out with what the stack says by itself.
    ///
    /// What came alone, and for somebody who waits, is likely to be answered: what the stack says by itself goes along with
    /// the answer, which leaves [at once](Self::send_early), or else with the next turn.
    fn turn(&self) -> io::Result<bool> {
        let now = Instant::now();
        self.turned.set(now);
        let (sent, count) = {
            let mut engine = self.engine.borrow_mut();
            let sent = engine.send_out(now)?;
            (sent, engine.take_in(now)?)
        };
        let told = self.progress_events();
        let again = !self.again.borrow().is_empty() && self.progress_again();
        self.lone.set(count <= 1);
        let waits = count == 1 && told;
        let sent = sent | (!waits && self.engine.borrow_mut().send_out(now)?);
        Ok(sent | told | again | (count > 0))
    }

    /// Goes on without the runtime's loop, until `done` or the end.
    pub(super) fn turn_until(&self, end: std::time::Instant, done: impl Fn() -> bool) {
        loop {
            match self.turn() {
                Ok(_) if done() => return,
                Ok(_) => {}
                Err(error) => return self.fail(error),
            }
            let left = end.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return;
            }
            self.engine.borrow_mut().wait(left);
        }
    }
}
