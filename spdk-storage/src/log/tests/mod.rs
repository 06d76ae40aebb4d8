//! The log without a runtime: the state machines on a disk in memory, which is called directly.

mod crash;
mod limits;
mod rot;
mod store;

use super::create::Plan;
use super::cursor::{Cursor, Next, Record};
use super::engine::{Action, Appended, Change, Engine, Outcome, Sync};
use super::error::{Damage, LogError};
use super::recovery::{Recovered, Recovery, Step};
use crate::Geometry;
use crate::memory::Disk;
use demikernel_runtime::buffer::{Buffer, Sga};
use std::collections::BTreeMap;

type Ticket = u64;
type Result<T> = std::result::Result<T, LogError>;

/// A disk of so many segments of this size, with a store on it.
fn formatted(block: u32, segment: u32, segments: u32) -> Disk {
    formatted_on(Geometry::new(block, 0), segment, segments)
}

/// Likewise, on a device like this.
fn formatted_on(geometry: Geometry, segment: u32, segments: u32) -> Disk {
    let block = geometry.logical_block;
    let capacity = 64 * 1024 + u64::from(segment) * u64::from(segments);
    let mut geometry = Geometry { capacity, optimal: block, ..geometry };
    let mut plan = Plan::new(&geometry, Some(segment), *b"a store of tests").unwrap();
    plan.superblock.segments = segments;
    geometry.capacity = plan.superblock.size();
    let disk = Disk::new(geometry);
    let bytes = plan.superblock.encode();
    disk.write(0, &bytes).unwrap();
    disk.write(super::format::SLOT as u64, &bytes).unwrap();
    disk.flush().unwrap();
    disk
}

fn recover(disk: &Disk) -> Result<Recovered> {
    let mut recovery = Recovery::new(disk.geometry());
    let mut read: Vec<Vec<u8>> = Vec::new();
    loop {
        match recovery.step(&read)? {
            Step::Read(ranges) => {
                read = ranges.iter().map(|range| disk.read(range.at, range.length).unwrap()).collect();
            }
            Step::Done(recovered) => return Ok(*recovered),
        }
    }
}

/// An open store, and what came of what was asked of it.
struct Store {
    disk: Disk,
    engine: Engine<Ticket>,
    /// What is to be written durably, and has been written so that it may be lost: a crash may fall in between.
    torn: Option<(u64, Buffer)>,
    next: Ticket,
    over: BTreeMap<Ticket, Result<Outcome>>,
}

impl Store {
    /// Opens a store for writing; its mount has not been done.
    fn begin(disk: &Disk, recovered: Recovered) -> Store {
        let engine = Engine::open(recovered, &disk.geometry(), 0);
        Store { disk: disk.clone(), engine, torn: None, next: 1, over: BTreeMap::new() }
    }

    fn open(disk: &Disk) -> Store {
        let mut store = Store::begin(disk, recover(disk).unwrap());
        store.run();
        assert!(matches!(store.over[&0], Ok(Outcome::Done)));
        store
    }

    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        self.next - 1
    }

    fn push(&mut self, log: usize, data: &[u8], sync: Sync) -> Ticket {
        let ticket = self.ticket();
        let data = if data.is_empty() { Sga::new() } else { Buffer::from(data.to_vec()).into() };
        self.engine.push(log, data, sync, ticket);
        ticket
    }

    fn change(&mut self, change: Change) -> Ticket {
        let ticket = self.ticket();
        self.engine.change(change, ticket);
        ticket
    }

    fn sync(&mut self, log: usize) -> Ticket {
        let ticket = self.ticket();
        self.engine.sync(log, ticket);
        ticket
    }

    /// One action, if there is one.
    fn step(&mut self) -> bool {
        if let Some((at, data)) = self.torn.take() {
            let result = self.disk.write_durable(at, &data);
            self.engine.write_done(result);
            self.take_events();
            return true;
        }
        let action = self.engine.poll_action();
        let any = action.is_some();
        match action {
            Some(Action::Write(at, data)) => {
                let result = self.disk.write(at, &data);
                self.engine.write_done(result);
            }
            Some(Action::WriteDurable(at, data)) => {
                // It comes again, and fails then if it fails now.
                let _ = self.disk.write(at, &data);
                self.torn = Some((at, data));
            }
            Some(Action::Flush) => {
                let result = self.disk.flush();
                self.engine.flush_done(result);
            }
            None => {}
        }
        self.take_events();
        any
    }

    fn take_events(&mut self) {
        while let Some((ticket, result)) = self.engine.poll_event() {
            assert!(self.over.insert(ticket, result).is_none(), "{ticket} is over twice");
        }
    }

    /// Everything that there is to do.
    fn run(&mut self) {
        while self.step() {}
        assert!(self.engine.is_idle() || self.engine.stopped().is_some());
    }

    fn create(&mut self, name: &str) -> usize {
        let ticket = self.change(Change::Create(name.to_owned()));
        self.run();
        match &self.over[&ticket] {
            Ok(Outcome::Opened(log)) => *log,
            other => panic!("{other:?}"),
        }
    }

    fn append(&mut self, log: usize, data: &[u8]) -> Result<Appended> {
        let ticket = self.push(log, data, Sync::Durable);
        self.run();
        match self.over.remove(&ticket) {
            Some(Ok(Outcome::Appended(appended))) => Ok(appended),
            Some(Err(error)) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    fn done(&mut self, ticket: Ticket) {
        self.run();
        assert!(matches!(self.over[&ticket], Ok(Outcome::Done)), "{:?}", self.over[&ticket]);
    }

    fn read(&self, log: usize) -> (Vec<Record>, Vec<Damage>) {
        read_all(&self.engine, &self.disk, log)
    }
}

/// What comes next of a log.
fn next(cursor: &mut Cursor, engine: &Engine<Ticket>, disk: &Disk) -> Next {
    loop {
        match cursor.next(engine) {
            Next::Read(range) => {
                let data = disk.read(range.at, range.length).unwrap();
                cursor.supply(range, data.into());
            }
            next => return next,
        }
    }
}

/// All records of a log that can be read, and its holes.
fn read_all(engine: &Engine<Ticket>, disk: &Disk, log: usize) -> (Vec<Record>, Vec<Damage>) {
    let (mut records, mut holes) = (Vec::new(), Vec::new());
    let mut cursor = Cursor::new(log);
    loop {
        match next(&mut cursor, engine, disk) {
            Next::Record(record) => records.push(record),
            Next::Failed(LogError::Damaged(damage)) => holes.push(damage),
            Next::End => return (records, holes),
            other => panic!("{other:?}"),
        }
    }
}
