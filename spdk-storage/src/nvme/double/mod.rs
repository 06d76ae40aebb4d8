//! A controller in plain memory, for tests: it takes entries from the memory of queues, obeys doorbells, and answers.
//!
//! It reads memory only where it has been mapped, as an IOMMU has it, and notes each access elsewhere. It does something
//! when it is [stepped](Double::step), and whenever a register is read. `execute` is what it does with commands.

mod execute;

use super::bus::Bus;
use super::command::{Completion, Submission};
use super::iova::Ranges;
use super::status::Status;
use std::cell::UnsafeCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

/// What it does with a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reaction {
    Perform,
    /// Nothing is done, and this is said.
    Fail((u8, u8)),
    /// Nothing is said; and nothing done before the last moment at which it may be, that of a reset.
    Ignore,
}

/// What it is like.
pub(super) struct Settings {
    /// 2^this pages, or no limit.
    pub(super) mdts: u8,
    pub(super) queue_entries: u32,
    pub(super) queues: u32,
    pub(super) sgls: bool,
    pub(super) optional: u16,
    pub(super) atomic_write: u16,
    /// Blocks and how many, of the namespaces from number 1 on.
    pub(super) namespaces: Vec<(u32, u64)>,
    /// Completes what it has at once in an order of chance, from this seed.
    pub(super) shuffle: Option<u64>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            mdts: 5,
            queue_entries: 64,
            queues: 8,
            sgls: false,
            optional: 0b1100,
            atomic_write: 0,
            namespaces: vec![(512, 4096)],
            shuffle: None,
        }
    }
}

/// What is wrong with it.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Faults {
    /// Nobody answers.
    pub(super) is_gone: bool,
    /// It stays ready, whatever CC says.
    pub(super) is_stuck: bool,
    /// It does not become ready.
    pub(super) is_lame: bool,
    pub(super) is_fatal: bool,
    pub(super) has_no_reset: bool,
    pub(super) is_wanted_back: bool,
}

type Script = Box<dyn FnMut(u16, &Submission) -> Reaction + Send>;

/// The controller.
pub(super) struct Double {
    doorbells: Box<[UnsafeCell<u32>]>,
    state: Mutex<State>,
}

// SAFETY: doorbells are read and written as registers are, whole.
unsafe impl Sync for Double {}

pub(super) struct State {
    settings: Settings,
    pub(super) faults: Faults,
    script: Script,
    registers: BTreeMap<usize, u32>,
    mapped: BTreeMap<u64, (usize, usize)>,
    submission_queues: BTreeMap<u16, SubmissionQueue>,
    completion_queues: BTreeMap<u16, CompletionQueue>,
    /// Contents of namespaces.
    pub(super) disks: Vec<Vec<u8>>,
    /// Commands that are ignored.
    ignored: BTreeMap<(u16, u16), Submission>,
    /// Requests for events, and events that nobody has been told of.
    requests: VecDeque<u16>,
    events: VecDeque<u32>,
    masked: BTreeSet<u8>,
    /// Queues that were made just now, whose doorbells begin at zero.
    made: Vec<u16>,
    /// In how many steps it is not ready any more, if it is being switched off.
    ends_in: Option<u32>,
    /// Completions that wait for room.
    unsaid: VecDeque<(u16, Completion)>,
    random: u64,
    pub(super) log: Vec<(u16, Submission)>,
    /// Accesses to what is not mapped, and other rules that were broken.
    pub(super) violations: Vec<String>,
    pub(super) function_resets: u32,
    pub(super) is_severed: bool,
}

struct SubmissionQueue {
    base: u64,
    entries: u32,
    head: u32,
    under_way: BTreeSet<u16>,
}

struct CompletionQueue {
    base: u64,
    entries: u32,
    tail: u32,
    phase: bool,
}

const DOORBELLS: usize = 256;
/// How long it takes to switch it off, in steps.
const DISABLING: u32 = 5;
const CC: usize = 0x14;
const CSTS: usize = 0x1c;

impl Double {
    pub(super) fn new(settings: Settings) -> Arc<Double> {
        let disks = settings.namespaces.iter().map(|&(block, size)| vec![0; block as usize * size as usize]);
        let state = State {
            disks: disks.collect(),
            random: settings.shuffle.unwrap_or(1),
            settings,
            faults: Faults::default(),
            script: Box::new(|_, _| Reaction::Perform),
            registers: BTreeMap::new(),
            mapped: BTreeMap::new(),
            submission_queues: BTreeMap::new(),
            completion_queues: BTreeMap::new(),
            ignored: BTreeMap::new(),
            requests: VecDeque::new(),
            events: VecDeque::new(),
            masked: BTreeSet::new(),
            made: Vec::new(),
            ends_in: None,
            unsaid: VecDeque::new(),
            log: Vec::new(),
            violations: Vec::new(),
            function_resets: 0,
            is_severed: false,
        };
        let doorbells = (0..DOORBELLS).map(|_| UnsafeCell::new(0)).collect();
        Arc::new(Double { doorbells, state: Mutex::new(state) })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Decides what happens to commands, by the number of their queue.
    pub(super) fn set_script(&self, script: impl FnMut(u16, &Submission) -> Reaction + Send + 'static) {
        self.state().script = Box::new(script);
    }

    /// Something has happened: type, information, log.
    pub(super) fn report(&self, kind: u8, information: u8, log: u8) {
        self.state().events.push_back(u32::from_le_bytes([kind, information, log, 0]));
    }

    /// Says that a command has ended, whether there is such a one or not.
    pub(super) fn invent(&self, queue: u16, id: u16) {
        self.state().end(queue, id, 0, Status::default());
    }

    /// Does everything that there is to do.
    pub(super) fn step(&self) {
        self.state().step(self);
    }

    fn doorbell(&self, index: usize) -> u32 {
        // SAFETY: a word of ours, that others write whole.
        unsafe { self.doorbells[index].get().read_volatile() }
    }

    fn clear_doorbells(&self, which: Range<usize>) {
        for doorbell in &self.doorbells[which] {
            // SAFETY: the same.
            unsafe { doorbell.get().write_volatile(0) };
        }
    }
}

impl State {
    fn step(&mut self, double: &Double) {
        if let Some(steps) = &mut self.ends_in {
            *steps -= 1;
            if *steps == 0 {
                self.forget(double);
                self.registers.insert(CSTS, 0);
            }
            return;
        }
        if self.faults.is_gone || self.faults.is_fatal || self.register(CSTS) & 1 == 0 {
            return;
        }
        let mut fetched = Vec::new();
        for (&number, queue) in &mut self.submission_queues {
            let tail = double.doorbell(2 * usize::from(number));
            if tail >= queue.entries {
                self.violations.push(format!("doorbell of queue {number} is {tail}"));
                continue;
            }
            while queue.head != tail {
                fetched.push((number, queue.base + 64 * u64::from(queue.head)));
                queue.head = (queue.head + 1) % queue.entries;
            }
        }
        let mut commands: Vec<_> =
            fetched.into_iter().map(|(number, place)| (number, self.fetch(place))).collect();
        self.shuffle(&mut commands);
        for (number, command) in commands {
            if let Some(queue) = self.submission_queues.get_mut(&number)
                && !queue.under_way.insert(command.id)
            {
                self.violations.push(format!("command {} of queue {number} is under way twice", command.id));
            }
            self.take(number, command);
        }
        for number in self.made.drain(..) {
            double.clear_doorbells(2 * usize::from(number)..2 * usize::from(number) + 2);
        }
        self.tell_events();
        self.say(double);
    }

    fn shuffle(&mut self, commands: &mut [(u16, Submission)]) {
        if self.settings.shuffle.is_none() {
            return;
        }
        for place in (1..commands.len()).rev() {
            self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            commands.swap(place, (self.random >> 33) as usize % (place + 1));
        }
    }

    /// Puts completions into their queues, as far as there is room.
    fn say(&mut self, double: &Double) {
        for (number, mut completion) in std::mem::take(&mut self.unsaid) {
            let Some(queue) = self.completion_queues.get_mut(&number) else { continue };
            let head = double.doorbell(2 * usize::from(number) + 1);
            let next = (queue.tail + 1) % queue.entries;
            if next == head {
                self.unsaid.push_back((number, completion));
                continue;
            }
            let place = queue.base + 16 * u64::from(queue.tail);
            completion.status = Status(completion.status.0 & !1 | u16::from(queue.phase));
            queue.tail = next;
            queue.phase ^= next == 0;
            let Some(submission) = self.submission_queues.get_mut(&number) else { continue };
            completion.head = submission.head as u16;
            submission.under_way.remove(&completion.id);
            let words = [
                u64::from(completion.result),
                u64::from(completion.head)
                    | u64::from(number) << 16
                    | u64::from(completion.id) << 32
                    | u64::from(completion.status.0) << 48,
            ];
            self.write_memory(place, &words.map(u64::to_le_bytes).concat());
        }
    }

    fn tell_events(&mut self) {
        let events = std::mem::take(&mut self.events);
        for event in events {
            let kind = event as u8 & 7;
            if self.masked.contains(&kind) || self.requests.is_empty() {
                self.events.push_back(event);
                continue;
            }
            self.masked.insert(kind);
            let id = self.requests.pop_front().unwrap();
            self.end(0, id, event, Status::default());
        }
    }

    /// Ends a command.
    fn end(&mut self, number: u16, id: u16, result: u32, status: Status) {
        self.unsaid.push_back((number, Completion { result, id, status, ..Completion::default() }));
    }

    fn register(&self, offset: usize) -> u32 {
        self.registers.get(&offset).copied().unwrap_or(0)
    }

    fn capabilities(&self) -> u64 {
        // Queues may be in pieces; a second at most; the NVM command set.
        u64::from(self.settings.queue_entries - 1) | 1 << 24 | 1 << 37
    }

    /// Everything that a reset forgets.
    fn forget(&mut self, double: &Double) {
        self.do_at_last(|_| true);
        self.ends_in = None;
        self.submission_queues.clear();
        self.completion_queues.clear();
        self.requests.clear();
        self.masked.clear();
        self.unsaid.clear();
        double.clear_doorbells(0..DOORBELLS);
    }

    fn configure(&mut self, before: u32, now: u32) {
        if now >> 14 & 3 != 0 {
            self.registers.insert(CSTS, self.register(CSTS) | 2 << 2);
        }
        if before & 1 == now & 1 {
            return;
        }
        if now & 1 == 0 {
            self.ends_in = if self.faults.is_stuck { None } else { Some(DISABLING) };
            return;
        }
        if self.faults.is_lame {
            return;
        }
        let [attributes, submission, completion] = [0x24, 0x28, 0x30].map(|register| self.register(register));
        let high = |register: usize| u64::from(self.register(register)) << 32;
        let bases = (u64::from(submission) | high(0x2c), u64::from(completion) | high(0x34));
        self.add_queues(0, bases, (attributes & 0xfff) + 1);
        self.registers.insert(CSTS, 1);
    }

    fn add_queues(&mut self, number: u16, (submission, completion): (u64, u64), entries: u32) {
        let queue = SubmissionQueue { base: submission, entries, head: 0, under_way: BTreeSet::new() };
        self.submission_queues.insert(number, queue);
        let queue = CompletionQueue { base: completion, entries, tail: 0, phase: true };
        self.completion_queues.insert(number, queue);
    }

    /// The memory at an address, and whether there is so much.
    fn memory(&mut self, iova: u64, length: usize) -> Option<*mut u8> {
        let found = self
            .mapped
            .range(..=iova)
            .next_back()
            .filter(|(start, (_, size))| iova + length as u64 <= *start + *size as u64);
        let found =
            found.filter(|_| !self.is_severed).map(|(start, (memory, _))| memory + (iova - start) as usize);
        if found.is_none() {
            self.violations.push(format!("{length} bytes at {iova:#x} are not mapped"));
        }
        found.map(|address| address as *mut u8)
    }

    fn read_memory(&mut self, iova: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        if let Some(memory) = self.memory(iova, length) {
            // SAFETY: whoever mapped it keeps it until it is unmapped here, and allows for the device's use.
            unsafe { memory.copy_to_nonoverlapping(bytes.as_mut_ptr(), length) };
        }
        bytes
    }

    fn write_memory(&mut self, iova: u64, bytes: &[u8]) {
        if let Some(memory) = self.memory(iova, bytes.len()) {
            // SAFETY: the same.
            unsafe { memory.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        }
    }
}

// SAFETY: memory is used where it is mapped. Doorbells are memory of its own.
unsafe impl Bus for Double {
    fn read(&self, offset: usize) -> u32 {
        let mut state = self.state();
        state.step(self);
        if state.faults.is_gone {
            return u32::MAX;
        }
        match offset {
            0x00 => state.capabilities() as u32,
            0x04 => (state.capabilities() >> 32) as u32,
            0x08 => 0x0001_0400,
            CSTS => state.register(CSTS) | u32::from(state.faults.is_fatal) << 1,
            _ => state.register(offset),
        }
    }

    fn write(&self, offset: usize, value: u32) {
        let mut state = self.state();
        if state.faults.is_gone {
            return;
        }
        let before = state.registers.insert(offset, value).unwrap_or(0);
        if offset == CC {
            state.configure(before, value);
        }
    }

    fn doorbells(&self) -> (*mut u32, usize) {
        (self.doorbells[0].get(), DOORBELLS * 4)
    }

    fn addresses(&self) -> Ranges {
        vec![(0, 0xfedf_ffff), (0xfef0_0000, (1 << 39) - 1)]
    }

    unsafe fn map(&self, iova: u64, memory: *mut u8, length: usize) -> io::Result<()> {
        let mut state = self.state();
        assert!(
            iova.is_multiple_of(4096)
                && (memory as usize).is_multiple_of(4096)
                && length.is_multiple_of(4096)
        );
        let overlaps = state
            .mapped
            .range(..iova + length as u64)
            .next_back()
            .is_some_and(|(start, (_, size))| start + *size as u64 > iova);
        assert!(!overlaps, "mapped twice");
        state.mapped.insert(iova, (memory as usize, length));
        Ok(())
    }

    fn unmap(&self, iova: u64, length: usize) -> io::Result<()> {
        let (_, mapped) = self.state().mapped.remove(&iova).expect("it was mapped");
        assert_eq!(mapped, length);
        Ok(())
    }

    fn reset(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.faults.has_no_reset {
            return Err(io::Error::from_raw_os_error(libc::ENOTTY));
        }
        state.function_resets += 1;
        state.forget(self);
        state.registers.clear();
        state.faults.is_fatal = false;
        Ok(())
    }

    fn sever(&self) -> io::Result<()> {
        self.state().is_severed = true;
        Ok(())
    }

    fn is_wanted_back(&self) -> bool {
        self.state().faults.is_wanted_back
    }
}
