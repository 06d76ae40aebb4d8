//! Commands of one queue pair.
//!
//! A command has a slot from its submission until SPDK calls back; the callback gets the slot's address, notes the
//! outcome in it, and puts its number on a list that polling goes through. SPDK divides what is longer than the controller
//! takes, except for writing zeros and discarding: of those, one part follows the other.

use super::controller::Shared;
use super::environment::Registered;
use super::error::SpdkError;
use super::functions::{
    CAN_DEALLOCATE, CAN_FLUSH, CAN_WRITE_ZEROES, DEALLOCATE, RawCompletion, RawNamespace, RawQueuePair,
    RawRange,
};
use super::status;
use crate::{Command, Driver, Finished, Geometry, Piece, Submitted};
use demikernel_runtime::time::{Duration, Instant};
use demikernel_runtime::transport::{Interest, Turn};
use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::Arc;

/// Commands at a time. SPDK has room for 512 of them and their parts, unless it is told otherwise.
const SLOTS: u32 = 256;

/// How often a controller's events are looked for.
const ADMIN_PERIOD: Duration = Duration::from_millis(100);

/// How often a controller is looked for that is lost.
const LOST_PERIOD: Duration = Duration::from_millis(10);

/// Blocks that one command writes zeros to.
const ZEROED: u64 = 1 << 16;

/// `SPDK_NVME_IO_FLAGS_FORCE_UNIT_ACCESS`: a write is durable when it is completed.
const FORCE_UNIT_ACCESS: u32 = 1 << 30;

/// A queue pair to one namespace. See [`Controller::open`](super::Controller::open).
pub struct SpdkDriver {
    controller: Arc<Shared>,
    number: u32,
    geometry: Geometry,
    flags: u32,
    memory: Rc<Registered>,
    /// `None` while the controller is lost.
    lines: Option<Lines>,
    /// What the controller had been through when the queue pair was made, or given up.
    attempts: u64,
    slots: Box<Slots>,
    free: Vec<u32>,
    /// Slots of commands that go on with another part, for which there was no room.
    waiting: Vec<u32>,
    next_admin: Cell<Instant>,
    count: Count,
}

/// The namespace and the queue pair.
#[derive(Clone, Copy)]
struct Lines {
    namespace: NonNull<RawNamespace>,
    queue_pair: NonNull<RawQueuePair>,
}

#[derive(Default)]
struct Count {
    full: u64,
    lost: u64,
}

/// What callbacks touch: shared references only, as SPDK holds addresses of slots.
struct Slots {
    slots: Box<[Slot]>,
    /// Numbers of slots whose command, or part of it, is over. It has room for all.
    over: RefCell<Vec<u32>>,
}

#[derive(Default)]
struct Slot {
    number: u32,
    tag: Cell<u32>,
    owner: Cell<*const Slots>,
    outcome: Cell<Outcome>,
    /// What is left to be done after the part that is under way.
    rest: Cell<Rest>,
    /// The memory of a command with several pieces, and where SPDK is in it.
    pieces: RefCell<Vec<Piece>>,
    at: Cell<(usize, usize)>,
}

#[derive(Clone, Copy, Default)]
enum Outcome {
    #[default]
    Done,
    /// The status of a completion, without its phase.
    Status(u16),
    /// What a submission returned.
    Refused(c_int),
}

/// A range in blocks, and what is done to it.
#[derive(Clone, Copy, Default, PartialEq)]
enum Rest {
    #[default]
    Nothing,
    Discard(u64, u64),
    WriteZeroes(u64, u64),
}

impl SpdkDriver {
    pub(super) fn new(
        controller: Arc<Shared>,
        number: u32,
        geometry: Geometry,
    ) -> Result<SpdkDriver, SpdkError> {
        let memory = Registered::with(controller.environment());
        let slots = (0..SLOTS).map(|number| Slot { number, ..Slot::default() }).collect();
        let slots = Box::new(Slots { slots, over: RefCell::new(Vec::with_capacity(SLOTS as usize)) });
        slots.slots.iter().for_each(|slot| slot.owner.set(&raw const *slots));
        let mut driver = SpdkDriver {
            number,
            geometry,
            flags: 0,
            memory,
            lines: None,
            attempts: controller.attempts(),
            slots,
            free: (0..SLOTS).rev().collect(),
            waiting: Vec::with_capacity(SLOTS as usize),
            next_admin: Cell::new(Instant::now()),
            count: Count::default(),
            controller,
        };
        if !driver.connect() {
            return Err(SpdkError::QueuePair { address: driver.controller.address().to_owned() });
        }
        Ok(driver)
    }

    /// Makes the queue pair. Returns whether there is one.
    fn connect(&mut self) -> bool {
        let Some(_used) = self.controller.try_use() else { return false };
        let Some(namespace) = self.controller.namespace(self.number) else { return false };
        // SAFETY: a namespace of a controller that is attached.
        self.flags = unsafe { (self.controller.functions().spdk_nvme_ns_get_flags)(namespace.as_ptr()) };
        let queue_pair = self.controller.queue_pair();
        self.lines = queue_pair.map(|queue_pair| Lines { namespace, queue_pair });
        self.lines.is_some()
    }

    /// Gives the queue pair up, which ends all commands under way. Returns whether that could be done.
    fn disconnect(&mut self) -> bool {
        let Some(lines) = self.lines else { return true };
        let Some(_used) = self.controller.try_use() else { return false };
        // SAFETY: it is this driver's, which uses it no more. Commands under way are called back from within.
        unsafe { (self.controller.functions().spdk_nvme_ctrlr_free_io_qpair)(lines.queue_pair.as_ptr()) };
        self.lines = None;
        true
    }

    /// Hands a command in, whose memory is noted in the slot if it is in several pieces. SPDK's code, negative if it was
    /// not taken.
    ///
    /// # Safety
    /// As of [`Driver::submit`].
    unsafe fn hand_in(&self, lines: Lines, slot: &Slot, command: Command<'_>) -> c_int {
        let functions = self.controller.functions();
        let (namespace, queue_pair) = (lines.namespace.as_ptr(), lines.queue_pair.as_ptr());
        let context: *mut c_void = ptr::from_ref(slot).cast_mut().cast();
        let block = u64::from(self.geometry.logical_block);
        let blocks = |pieces: &[Piece]| {
            let length: usize = pieces.iter().map(|piece| piece.length).sum();
            u32::try_from(length as u64 / block)
        };
        // SAFETY: the namespace and its queue pair are there; memory and slot stay until the callback.
        unsafe {
            match command {
                Command::Read(_, []) | Command::Write(_, []) | Command::WriteDurable(_, []) => {
                    self.end_at_once(slot)
                }
                Command::Read(at, pieces)
                | Command::Write(at, pieces)
                | Command::WriteDurable(at, pieces) => {
                    let Ok(count) = blocks(pieces) else { return -libc::EINVAL };
                    let is_durable = matches!(command, Command::WriteDurable(..));
                    let flags = if is_durable { FORCE_UNIT_ACCESS } else { 0 };
                    let is_read = matches!(command, Command::Read(..));
                    if let [piece] = pieces {
                        let one = if is_read {
                            functions.spdk_nvme_ns_cmd_read
                        } else {
                            functions.spdk_nvme_ns_cmd_write
                        };
                        return one(
                            namespace,
                            queue_pair,
                            piece.address.cast(),
                            at / block,
                            count,
                            done,
                            context,
                            flags,
                        );
                    }
                    slot.pieces.borrow_mut().clone_from_slice_of(pieces);
                    let all = if is_read {
                        functions.spdk_nvme_ns_cmd_readv
                    } else {
                        functions.spdk_nvme_ns_cmd_writev
                    };
                    all(namespace, queue_pair, at / block, count, done, context, flags, reset_sgl, next_sge)
                }
                Command::Flush if self.flags & CAN_FLUSH == 0 || !self.geometry.volatile_cache => {
                    self.end_at_once(slot)
                }
                Command::Flush => (functions.spdk_nvme_ns_cmd_flush)(namespace, queue_pair, done, context),
                Command::Discard(at, length) => {
                    self.go_on(lines, slot, Rest::Discard(at / block, length / block))
                }
                Command::WriteZeroes(at, length) => {
                    self.go_on(lines, slot, Rest::WriteZeroes(at / block, length / block))
                }
            }
        }
    }

    /// Hands in the next part of a range, and notes what is left then.
    fn go_on(&self, lines: Lines, slot: &Slot, rest: Rest) -> c_int {
        let functions = self.controller.functions();
        let (namespace, queue_pair) = (lines.namespace.as_ptr(), lines.queue_pair.as_ptr());
        let context: *mut c_void = ptr::from_ref(slot).cast_mut().cast();
        let (code, left) = match rest {
            Rest::Nothing | Rest::Discard(_, 0) | Rest::WriteZeroes(_, 0) => {
                (self.end_at_once(slot), Rest::Nothing)
            }
            Rest::Discard(at, blocks) => {
                let part = blocks.min(u64::from(u32::MAX));
                let range = RawRange { attributes: 0, blocks: part as u32, first: at };
                // SAFETY: the namespace and its queue pair are there, and the slot stays. The range is copied.
                let code = unsafe {
                    let discard = functions.spdk_nvme_ns_cmd_dataset_management;
                    discard(namespace, queue_pair, DEALLOCATE, &raw const range, 1, done, context)
                };
                (code, Rest::Discard(at + part, blocks - part))
            }
            Rest::WriteZeroes(at, blocks) => {
                let part = blocks.min(ZEROED);
                // SAFETY: the namespace and its queue pair are there, and the slot stays.
                let code = unsafe {
                    let zero = functions.spdk_nvme_ns_cmd_write_zeroes;
                    zero(namespace, queue_pair, at, part as u32, done, context, 0)
                };
                (code, Rest::WriteZeroes(at + part, blocks - part))
            }
        };
        slot.rest.set(match left {
            Rest::Discard(_, 0) | Rest::WriteZeroes(_, 0) => Rest::Nothing,
            left if code >= 0 => left,
            _ => rest,
        });
        code
    }

    /// It is over at the next poll, without the controller.
    fn end_at_once(&self, slot: &Slot) -> c_int {
        slot.outcome.set(Outcome::Done);
        self.slots.over.borrow_mut().push(slot.number);
        0
    }

    /// Whether a command is supported, which SPDK leaves to the controller to refuse.
    fn supports(&self, command: &Command<'_>) -> bool {
        match command {
            Command::Discard(..) => self.flags & CAN_DEALLOCATE != 0,
            Command::WriteZeroes(..) => self.flags & CAN_WRITE_ZEROES != 0,
            _ => true,
        }
    }

    /// Goes on with commands that have parts left, as far as there is room.
    fn go_on_waiting(&mut self) {
        let Some(lines) = self.lines else { return };
        while let Some(&number) = self.waiting.last() {
            let slot = &self.slots.slots[number as usize];
            match self.go_on(lines, slot, slot.rest.get()) {
                code if code == -libc::ENOMEM => return,
                code if code < 0 => {
                    slot.rest.set(Rest::Nothing);
                    slot.outcome.set(Outcome::Refused(code));
                    self.slots.over.borrow_mut().push(number);
                }
                _ => {}
            }
            self.waiting.pop();
        }
    }

    /// Tells what is over, and has what is so only in part go on.
    fn collect(&mut self, finished: &mut Finished) {
        let mut over = self.slots.over.take();
        for number in over.drain(..) {
            let slot = &self.slots.slots[number as usize];
            let failed = match slot.outcome.get() {
                Outcome::Done | Outcome::Status(0) => None,
                Outcome::Status(status) => Some(status::error(status, self.controller.address())),
                Outcome::Refused(code) => Some(status::refused(code, self.controller.address())),
            };
            if failed.is_none() && slot.rest.get() != Rest::Nothing && self.lines.is_some() {
                self.waiting.push(number);
                continue;
            }
            let gone = || status::refused(-libc::ENXIO, self.controller.address());
            let left = slot.rest.replace(Rest::Nothing) != Rest::Nothing;
            let result = failed.or_else(|| left.then(gone)).map_or(Ok(()), Err);
            finished.push((slot.tag.get(), result));
            self.free.push(number);
        }
        // The list keeps its memory.
        self.slots.over.replace(over);
        self.go_on_waiting();
    }

    /// The queue pair has failed, or the controller is silent: it is reset, and the queue pair made anew.
    fn recover(&mut self) {
        if !self.controller.is_lost() {
            self.count.lost += 1;
        }
        self.controller.recover(self.attempts);
    }

    /// While the controller is lost: gives the queue pair up once the controller has been told to stop.
    fn poll_lost(&mut self) {
        if self.controller.attempts() == self.attempts {
            return;
        }
        if self.lines.is_some() && !self.disconnect() {
            return;
        }
        // Those that wait for room have nothing under way.
        for number in self.waiting.drain(..) {
            let slot = &self.slots.slots[number as usize];
            slot.rest.set(Rest::Nothing);
            slot.outcome.set(Outcome::Refused(-libc::ENXIO));
            self.slots.over.borrow_mut().push(number);
        }
        if !self.controller.is_lost() && self.connect() {
            self.attempts = self.controller.attempts();
        }
    }

    fn is_lost(&self) -> bool {
        self.lines.is_none() || self.controller.is_lost() || self.controller.attempts() != self.attempts
    }

    fn poll_queue_pair(&mut self) {
        let Some(lines) = self.lines else { return };
        let poll = self.controller.functions().spdk_nvme_qpair_process_completions;
        // SAFETY: the queue pair is this thread's.
        let code = unsafe { poll(lines.queue_pair.as_ptr(), 0) };
        if code < 0 || self.controller.is_silent() {
            tracing::warn!(address = self.controller.address(), code, "a queue pair has failed");
            self.recover();
        }
    }
}

// SAFETY: SPDK calls back once for each command that it took, after the controller has done with its memory, and not
// before it has written all that a read asked for. Slots outlive the queue pair, whose end calls back for the rest.
unsafe impl Driver for SpdkDriver {
    fn name(&self) -> &'static str {
        "spdk"
    }

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    #[inline]
    fn reaches(&self, command: &Command<'_>) -> bool {
        let (Command::Read(_, pieces) | Command::Write(_, pieces) | Command::WriteDurable(_, pieces)) =
            command
        else {
            return true;
        };
        pieces.iter().all(|piece| self.memory.has(piece.region))
    }

    unsafe fn submit(&mut self, tag: u32, command: Command<'_>) -> Submitted {
        let Some(number) = self.free.pop() else {
            self.count.full += 1;
            return Submitted::Full;
        };
        let slot = &self.slots.slots[number as usize];
        slot.tag.set(tag);
        let code = match self.lines {
            Some(_) if !self.supports(&command) => -libc::EOPNOTSUPP,
            // SAFETY: as the caller promises.
            Some(lines) if !self.is_lost() => unsafe { self.hand_in(lines, slot, command) },
            _ => -libc::ENXIO,
        };
        if code == -libc::ENOMEM {
            slot.rest.set(Rest::Nothing);
            self.free.push(number);
            self.count.full += 1;
            return Submitted::Full;
        }
        if code < 0 {
            slot.rest.set(Rest::Nothing);
            slot.outcome.set(Outcome::Refused(code));
            self.slots.over.borrow_mut().push(number);
        }
        Submitted::Taken
    }

    fn poll(&mut self, _turn: Turn, finished: &mut Finished) {
        if self.is_lost() {
            self.poll_lost();
        } else {
            self.poll_queue_pair();
            let now = Instant::now();
            if now >= self.next_admin.get() {
                self.controller.poll_admin();
                self.next_admin.set(now + ADMIN_PERIOD);
            }
        }
        self.collect(finished);
    }

    fn interest(&mut self) -> Interest {
        if self.is_lost() { Interest::Pause(LOST_PERIOD) } else { Interest::Polling }
    }

    fn next_deadline(&self) -> Option<Instant> {
        Some(self.next_admin.get())
    }

    fn shut_down(&mut self, grace: Duration, finished: &mut Finished) {
        let start = std::time::Instant::now();
        let is_over = |driver: &SpdkDriver| driver.free.len() == SLOTS as usize;
        while !is_over(self) && start.elapsed() < grace {
            self.poll(Turn::Idle, finished);
            std::thread::yield_now();
        }
        // Nothing is under way on a queue pair that is gone. What holds the controller up meanwhile is a reset.
        while !self.disconnect() {
            std::thread::sleep(LOST_PERIOD);
        }
        self.attempts = self.controller.attempts();
        let parts = self.waiting.drain(..).collect::<Vec<_>>();
        for number in parts {
            self.slots.slots[number as usize].outcome.set(Outcome::Refused(-libc::ENXIO));
            self.slots.over.borrow_mut().push(number);
        }
        self.collect(finished);
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("full", self.count.full), ("lost", self.count.lost)]
    }
}

impl Drop for SpdkDriver {
    fn drop(&mut self) {
        while !self.disconnect() {
            std::thread::sleep(LOST_PERIOD);
        }
    }
}

/// Copying into a list that keeps its memory.
trait CloneFromSliceOf {
    fn clone_from_slice_of(&mut self, pieces: &[Piece]);
}

impl CloneFromSliceOf for Vec<Piece> {
    fn clone_from_slice_of(&mut self, pieces: &[Piece]) {
        self.clear();
        self.extend_from_slice(pieces);
    }
}

unsafe extern "C" fn done(context: *mut c_void, completion: *const RawCompletion) {
    // SAFETY: the slot of this command, which outlives its queue pair, as does the list; and a completion.
    let (slot, completion) = unsafe { (&*context.cast::<Slot>(), &*completion) };
    slot.outcome.set(Outcome::Status(completion.status >> 1));
    // SAFETY: the list that the slot is of, which outlives the queue pair, too.
    unsafe { &*slot.owner.get() }.over.borrow_mut().push(slot.number);
}

/// SPDK goes to a place in a command's memory.
unsafe extern "C" fn reset_sgl(context: *mut c_void, offset: u32) {
    // SAFETY: the slot of this command.
    let slot = unsafe { &*context.cast::<Slot>() };
    let (mut index, mut left) = (0, offset as usize);
    for piece in slot.pieces.borrow().iter() {
        if left < piece.length {
            break;
        }
        left -= piece.length;
        index += 1;
    }
    slot.at.set((index, left));
}

/// SPDK takes the next piece of a command's memory.
unsafe extern "C" fn next_sge(context: *mut c_void, address: *mut *mut c_void, length: *mut u32) -> c_int {
    // SAFETY: the slot of this command.
    let slot = unsafe { &*context.cast::<Slot>() };
    let (index, offset) = slot.at.get();
    let pieces = slot.pieces.borrow();
    let Some(piece) = pieces.get(index) else { return -libc::EINVAL };
    let rest = piece.length - offset;
    let part = u32::try_from(rest).unwrap_or(!4095);
    slot.at.set(if part as usize == rest { (index + 1, 0) } else { (index, offset + part as usize) });
    // SAFETY: two places that SPDK wants filled in, and an address within the piece.
    unsafe {
        *address = piece.address.add(offset).cast();
        *length = part;
    }
    0
}
