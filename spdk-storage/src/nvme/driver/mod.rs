//! The driver of a namespace on one core: a pair of I/O queues, and what is under way there.
//!
//! - `issue`: from an operation to commands.
//! - `table`: operations and commands under way, by number.
//! - `follow`: what becomes of them when the controller is reset or gone, or a command takes too long.

mod follow;
mod issue;
mod table;
#[cfg(test)]
mod tests;

use self::follow::{Clock, Link};
use self::issue::Partial;
use self::table::Table;
use super::Options;
use super::command::{Completion, Opcode};
use super::controller::{Controller, Standing};
use super::data::{Format, Segment};
use super::dma::Dma;
use super::identify::NamespaceData;
use super::queue::QueuePair;
use super::reach::Reach;
use super::status;
use crate::Geometry;
use crate::queue::{Command, Driver, Finished, Submitted};
use demikernel_runtime::transport::{Interest, Turn};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What a command moves at most, so that lists are short: memory for them is provided for each command.
const LARGEST: u64 = 1 << 20;

/// The driver of a namespace of an NVMe controller, for [`Queue`](crate::Queue).
pub struct NvmeDriver {
    geometry: Geometry,
    namespace: Namespace,
    format: Format,
    reach: Reach,
    pair: QueuePair,
    lists: Lists,
    table: Table,
    /// The operation that is being divided: others wait behind it.
    partial: Partial,
    /// Those that have ended without a command.
    early: Finished,
    link: Link,
    /// How it stood with the controller when the queues were made.
    standing: Standing,
    clock: Clock,
    count: Count,
    // Last, as it is to end when nothing uses it.
    controller: Arc<Controller>,
}

/// What of a namespace matters to each command.
struct Namespace {
    number: u32,
    /// The block, as a power of two.
    shift: u32,
    /// Bytes of a command at most.
    largest: u32,
    write_zeroes: bool,
    dataset_management: bool,
    deallocates_to_zeros: bool,
}

/// Memory for lists of pages or descriptors, of one length for each command.
struct Lists {
    memory: Dma,
    entries: usize,
}

#[derive(Clone, Copy, Default, Debug)]
struct Count {
    commands: u64,
    divided: u64,
    doorbells: u64,
    lists: u64,
    lost: u64,
}

impl NvmeDriver {
    /// A pair of queues for a namespace, which is not made before the first poll.
    pub(super) fn new(controller: &Arc<Controller>, data: &NamespaceData) -> io::Result<NvmeDriver> {
        let Options { depth, timeout, .. } = controller.options();
        let (of_controller, page) = (controller.data(), controller.capabilities().page());
        let largest = of_controller.largest_transfer.unwrap_or(LARGEST).clamp(4096, LARGEST);
        // Lengths are in 16 bits, of blocks.
        let largest = largest.min(u64::from(data.block) << 16).max(u64::from(data.block)) as u32;
        let pair = controller.queue_pair(depth.clamp(1, 4096) + 1)?;
        let commands = pair.entries() as usize - 1;
        let lists = Lists::new(controller, largest, page, commands);
        let lists = lists.inspect_err(|_| controller.release(pair.number()))?;
        Ok(NvmeDriver {
            geometry: data.geometry(&of_controller, largest),
            namespace: Namespace {
                number: data.number,
                shift: data.block.trailing_zeros(),
                largest,
                write_zeroes: of_controller.write_zeroes,
                dataset_management: of_controller.dataset_management,
                deallocates_to_zeros: data.deallocates_to_zeros,
            },
            format: Format { page, descriptors: of_controller.descriptors },
            reach: Reach::new(controller.space()),
            pair,
            lists,
            table: Table::new(commands),
            partial: Partial::default(),
            early: Vec::new(),
            link: Link::Down,
            standing: controller.standing(),
            clock: Clock::new(timeout),
            count: Count::default(),
            controller: controller.clone(),
        })
    }

    /// Takes what the device has ended.
    #[inline]
    fn reap(&mut self, finished: &mut Finished) {
        while let Some(completion) = self.pair.take() {
            self.complete(completion, finished);
        }
        self.pair.acknowledge();
    }

    #[inline]
    fn complete(&mut self, completion: Completion, finished: &mut Finished) {
        let Some((index, was_aborted)) = self.table.end_command(completion.id) else {
            tracing::error!(?completion, "an NVMe controller has ended a command that was not given");
            return;
        };
        if !completion.status.is_success() {
            self.note_failure(index, completion, was_aborted);
        }
        self.settle(index, finished);
    }

    /// Finishes an operation if nothing of it is under way or yet to be issued.
    #[inline]
    fn settle(&mut self, index: u16, finished: &mut Finished) {
        let operation = self.table.operation(index);
        if operation.under_way == 0 && !self.partial.is_of(index) {
            finished.push(self.table.finish(index));
        }
    }

    #[cold]
    fn note_failure(&mut self, index: u16, completion: Completion, was_aborted: bool) {
        // What has failed in part is not continued.
        self.partial.give_up(index);
        let what = self.table.operation(index).what;
        let error = if was_aborted && completion.status.code() == status::ABORT_REQUESTED {
            let timeout = self.clock.timeout();
            let text = format!("NVMe: {what} has taken longer than {timeout:?}, and was aborted");
            io::Error::new(io::ErrorKind::TimedOut, text)
        } else {
            completion.status.error(what)
        };
        self.table.fail(index, error);
    }

    #[inline]
    fn ring(&mut self) {
        self.count.doorbells += u64::from(self.pair.ring());
    }
}

impl Lists {
    fn new(controller: &Controller, largest: u32, page: u32, commands: usize) -> io::Result<Lists> {
        // The first page of the data is in the command. A power of two, so that none crosses a page; and some descriptors,
        // however little a command moves.
        const LEAST: usize = 32;
        let entries = (largest.div_ceil(page) as usize).max(LEAST).next_power_of_two();
        assert!(
            entries * 8 <= page as usize,
            "what a command moves is limited, so that its list is within a page"
        );
        let memory = Dma::new(controller.space(), commands * entries * 8)?;
        Ok(Lists { memory, entries })
    }
}

// SAFETY: a device has written all of a read that it ends with success, as the command's length is that of its data.
// Memory is the device's until it has ended the command, or the epoch of its controller has gone by, or the controller has
// deleted the queue; tags are finished then only.
unsafe impl Driver for NvmeDriver {
    fn name(&self) -> &'static str {
        "nvme"
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
        pieces.iter().all(|piece| self.reach.address(piece).is_some())
            && (pieces.len() <= 1 || matches!(command, Command::Read(..)) || self.keeps_atomic(pieces))
    }

    #[inline]
    unsafe fn submit(&mut self, tag: u32, command: Command<'_>) -> Submitted {
        if !self.is_up() {
            return self.refuse(tag);
        }
        if self.partial.is_any() || !self.table.has_room() {
            return Submitted::Full;
        }
        if let Command::Read(at, &[piece]) | Command::Write(at, &[piece]) = command
            && let Some(address) = self.reach.address(&piece)
            && (1..=self.namespace.largest as usize).contains(&piece.length)
            && self.pair.has_room()
        {
            let segment = Segment { address, length: piece.length as u32 };
            let opcode = if matches!(command, Command::Read(..)) { Opcode::Read } else { Opcode::Write };
            self.start_one(tag, opcode, at, segment);
        } else {
            self.start_any(tag, command);
        }
        Submitted::Taken
    }

    #[inline]
    fn poll(&mut self, turn: Turn, finished: &mut Finished) {
        finished.append(&mut self.early);
        if !self.is_up() {
            return self.follow(finished);
        }
        self.ring();
        self.reap(finished);
        if self.partial.is_any() {
            self.issue();
            self.ring();
        }
        if self.clock.is_asked(turn) {
            self.keep_time();
        }
    }

    fn interest(&mut self) -> Interest {
        self.interest_now()
    }

    fn shut_down(&mut self, grace: Duration, finished: &mut Finished) {
        finished.append(&mut self.early);
        self.close(grace, finished);
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let Count { commands, divided, doorbells, lists, lost } = self.count;
        let of_controller = self.controller.count();
        vec![
            ("commands", commands),
            ("divided", divided),
            ("doorbells", doorbells),
            ("lists", lists),
            ("lost", lost),
            ("aborts", of_controller.aborts),
            ("resets", of_controller.resets),
            ("events", of_controller.events),
        ]
    }
}

impl Drop for NvmeDriver {
    fn drop(&mut self) {
        self.close(Duration::ZERO, &mut Vec::new());
    }
}
