//! `Queue`: a block device, made of a driver.
//!
//! Operations stand in one table from their start until the driver has finished them, with their memory. Those for which
//! the driver has no room wait in order. Completions are delivered with nothing borrowed, as they may run anybody's code.

mod driver;
mod operation;
#[cfg(test)]
mod tests;
mod times;

pub use driver::{Command, Driver, Finished, Piece, Submitted};

use self::operation::{Operation, Work};
use self::times::Times;
use crate::{BlockDevice, Geometry};
use demikernel_runtime::buffer::{BufferMut, Sga};
use demikernel_runtime::inspect::Latencies;
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::{Device, Interest, Turn};
use demikernel_runtime::{Completion, DeviceId};
use slab::Slab;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// A block device on a driver.
pub struct Queue<D: Driver> {
    name: &'static str,
    geometry: Geometry,
    /// How many operations are in the table, so that a turn with none costs one load.
    under_way: Cell<usize>,
    /// When the driver wants to be polled though nothing is under way.
    due: Cell<Option<Instant>>,
    state: RefCell<State<D>>,
}

struct State<D> {
    driver: D,
    operations: Slab<Operation>,
    /// Those that the driver has not taken, in order.
    waiting: VecDeque<u32>,
    finished: Finished,
    /// Room for the list of an operation's pieces.
    pieces: Vec<Piece>,
    ended: bool,
    count: Count,
    times: Times,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    started: u64,
    bounced: u64,
    waited: u64,
    refused: u64,
    failed: u64,
}

impl<D: Driver> Queue<D> {
    /// Makes a block device of a driver.
    ///
    /// # Panics
    /// If the driver's geometry makes no sense.
    pub fn new(driver: D) -> Rc<Queue<D>> {
        let geometry = driver.geometry();
        assert!(geometry.is_valid(), "{}: {geometry:?}", driver.name());
        let name = driver.name();
        let due = Cell::new(driver.next_deadline());
        let state = State {
            driver,
            operations: Slab::new(),
            waiting: VecDeque::new(),
            finished: Vec::new(),
            pieces: Vec::new(),
            ended: false,
            count: Count::default(),
            times: Times::default(),
        };
        Rc::new(Queue { name, geometry, under_way: Cell::new(0), due, state: RefCell::new(state) })
    }

    #[inline]
    fn start(&self, work: Work) {
        let mut borrowed = self.state.borrow_mut();
        let state = &mut *borrowed;
        // Work is large: it is moved once, to its place.
        match Operation::admit(&work, &self.geometry, state.ended) {
            Ok(bounce) => {
                state.count.started += 1;
                state.count.bounced += u64::from(bounce.is_some());
                let tag =
                    state.operations.insert(Operation { work, bounce, began: Instant::of_turn() }) as u32;
                self.under_way.set(state.operations.len());
                if !state.waiting.is_empty() || !state.submit(tag) {
                    state.count.waited += 1;
                    state.waiting.push_back(tag);
                }
            }
            Err(error) => {
                state.count.refused += 1;
                drop(borrowed);
                work.finish(None, Err(error));
            }
        }
    }

    /// Delivers what is over. Returns whether anything was.
    fn deliver(&self) -> bool {
        let mut finished = std::mem::take(&mut self.state.borrow_mut().finished);
        let any = !finished.is_empty();
        for (tag, result) in finished.drain(..) {
            let mut state = self.state.borrow_mut();
            let Some(operation) = state.operations.try_remove(tag as usize) else {
                tracing::error!(device = self.name, tag, "something is over that was not started");
                continue;
            };
            state.count.failed += u64::from(result.is_err());
            state.times.count(&operation.work, operation.began);
            self.under_way.set(state.operations.len());
            drop(state);
            operation.finish(result);
        }
        // The list keeps its memory. Nothing was added meanwhile: only polling does that.
        self.state.borrow_mut().finished = finished;
        any
    }
}

impl<D: Driver> State<D> {
    /// Whether the driver takes it.
    #[inline]
    fn submit(&mut self, tag: u32) -> bool {
        let operation = &mut self.operations[tag as usize];
        let mut command = operation.command(&mut self.pieces);
        if !self.driver.reaches(&command) && !operation.is_bounced() {
            if let Err(error) = operation.bounce() {
                self.finished.push((tag, Err(error)));
                return true;
            }
            self.count.bounced += 1;
            command = operation.command(&mut self.pieces);
        }
        // SAFETY: the operation keeps its memory in the table until the driver has finished its tag, and hands it out to
        // nobody. Tags are places in the table.
        unsafe { self.driver.submit(tag, command) == Submitted::Taken }
    }

    fn poll(&mut self, turn: Turn) {
        self.driver.poll(turn, &mut self.finished);
        while let Some(&tag) = self.waiting.front() {
            if !self.submit(tag) {
                break;
            }
            self.waiting.pop_front();
        }
    }
}

impl<D: Driver> Device for Queue<D> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn attached(&self, _id: DeviceId) {}

    #[inline]
    fn poll(&self, turn: Turn) -> bool {
        if self.under_way.get() == 0 && self.due.get().is_none_or(|due| Instant::now() < due) {
            return false;
        }
        let mut state = self.state.borrow_mut();
        state.poll(turn);
        self.due.set(state.driver.next_deadline());
        drop(state);
        self.deliver()
    }

    fn interest(&self) -> Interest {
        match self.under_way.get() {
            0 => Interest::None,
            _ => self.state.borrow_mut().driver.interest(),
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.state.borrow().driver.next_deadline()
    }

    /// Operations go on when nobody waits for them: what a device has begun cannot be stopped faster than it ends.
    fn cancel(&self, _key: u64) {}

    fn give_back(&self, _key: u64, _number: u32, _result: Box<dyn Any>) {}

    fn shutdown(&self, grace: Duration) {
        self.state.borrow_mut().ended = true;
        let start = std::time::Instant::now();
        while self.under_way.get() > 0 && start.elapsed() < grace {
            if !self.poll(Turn::Idle) {
                std::thread::yield_now();
            }
        }
        let mut borrowed = self.state.borrow_mut();
        let state = &mut *borrowed;
        state.driver.shut_down(Duration::ZERO, &mut state.finished);
        for tag in state.waiting.drain(..) {
            let text = "the runtime ended before the device had room for this operation";
            state.finished.push((tag, Err(io::Error::new(io::ErrorKind::NotConnected, text))));
        }
        drop(borrowed);
        self.finish_all();
    }

    fn latencies(&self) -> Vec<Latencies> {
        self.state.borrow().times.latencies()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let state = self.state.borrow();
        let Count { started, bounced, waited, refused, failed } = state.count;
        let mut counters = vec![
            ("started", started),
            ("bounced", bounced),
            ("waited", waited),
            ("refused", refused),
            ("failed", failed),
        ];
        counters.extend(state.driver.counters());
        counters
    }
}

impl<D: Driver> Queue<D> {
    /// Delivers what has ended, after which nothing is left.
    fn finish_all(&self) {
        self.deliver();
        let left = std::mem::take(&mut self.state.borrow_mut().operations);
        if !left.is_empty() {
            tracing::error!(
                device = self.name,
                operations = left.len(),
                "never finished: their memory is lost"
            );
            // Something outside may still write there.
            std::mem::forget(left);
        }
        self.under_way.set(0);
    }
}

impl<D: Driver> BlockDevice for Queue<D> {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    #[inline]
    fn read(&self, at: u64, length: usize, buffer: BufferMut, done: Completion<io::Result<BufferMut>>) {
        self.start(Work::Read { at, length, buffer, done });
    }

    fn read_vectored(&self, at: u64, buffers: Vec<BufferMut>, done: Completion<io::Result<Vec<BufferMut>>>) {
        self.start(Work::ReadVectored { at, buffers, done });
    }

    #[inline]
    fn write(&self, at: u64, data: Sga, done: Completion<io::Result<()>>) {
        self.start(Work::Write { at, data, done });
    }

    fn write_durable(&self, at: u64, data: Sga, done: Completion<io::Result<()>>) {
        self.start(Work::WriteDurable { at, data, done });
    }

    fn flush(&self, done: Completion<io::Result<()>>) {
        self.start(Work::Flush { done });
    }

    fn discard(&self, at: u64, length: u64, done: Completion<io::Result<()>>) {
        self.start(Work::Discard { at, length, done });
    }

    fn write_zeroes(&self, at: u64, length: u64, done: Completion<io::Result<()>>) {
        self.start(Work::WriteZeroes { at, length, done });
    }
}

impl<D: Driver> Drop for Queue<D> {
    fn drop(&mut self) {
        self.shutdown(Duration::ZERO);
    }
}

impl<D: Driver> fmt::Debug for Queue<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("device", &self.name)
            .field("geometry", &self.geometry)
            .field("under_way", &self.under_way.get())
            .finish()
    }
}
