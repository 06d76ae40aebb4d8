//! What the controller in memory does with commands.

use super::super::command::{Data, Submission};
use super::super::data::tests::walk;
use super::super::status::{self, Status};
use super::{CompletionQueue, Reaction, State, SubmissionQueue};
use std::collections::BTreeSet;

const PAGE: u64 = 4096;

impl State {
    pub(super) fn fetch(&mut self, place: u64) -> Submission {
        let bytes = self.read_memory(place, 64);
        let word = |index: usize| u32::from_le_bytes(bytes[4 * index..][..4].try_into().unwrap());
        let long = |index: usize| u64::from(word(index)) | u64::from(word(index + 1)) << 32;
        Submission {
            opcode: word(0) as u8,
            flags: (word(0) >> 8) as u8,
            id: (word(0) >> 16) as u16,
            namespace: word(1),
            reserved: [word(2), word(3)],
            metadata: long(4),
            data: [long(6), long(8)],
            arguments: std::array::from_fn(|index| word(10 + index)),
        }
    }

    pub(super) fn take(&mut self, queue: u16, command: Submission) {
        self.log.push((queue, command));
        match (self.script)(queue, &command) {
            Reaction::Perform if queue == 0 => self.administer(command),
            Reaction::Perform => {
                let code = self.perform(command).err().unwrap_or((0, 0));
                self.end(queue, command.id, 0, Status::new(code));
            }
            Reaction::Fail(code) => self.end(queue, command.id, 0, Status::new(code)),
            Reaction::Ignore => {
                self.ignored.insert((queue, command.id), command);
            }
        }
    }

    /// Does what was ignored, of some queues: as late as it may.
    pub(super) fn do_at_last(&mut self, of: impl Fn(u16) -> bool) {
        let ignored = std::mem::take(&mut self.ignored);
        for ((queue, id), command) in ignored {
            if !of(queue) {
                self.ignored.insert((queue, id), command);
            } else if queue != 0 {
                // Nobody hears how it ends.
                let _ = self.perform(command);
            }
        }
    }

    fn perform(&mut self, command: Submission) -> Result<(), (u8, u8)> {
        let index = (command.namespace as usize).wrapping_sub(1);
        let Some(&(block, _)) = self.settings.namespaces.get(index) else { return Err((0, 0x0b)) };
        let block = block as usize;
        let first = command.arguments[0] as usize | (command.arguments[1] as usize) << 32;
        let count = (command.arguments[2] & 0xffff) as usize + 1;
        let range = |disk: &[u8], first: usize, count: usize| {
            let end = first.checked_add(count).filter(|end| *end <= disk.len() / block);
            end.map(|end| first * block..end * block).ok_or(status::OUT_OF_RANGE)
        };
        match command.opcode {
            0x00 => Ok(()),
            0x01 | 0x02 => {
                let limit = (PAGE as usize) << self.settings.mdts;
                if self.settings.mdts > 0 && count * block > limit {
                    return Err(status::INVALID_FIELD);
                }
                let range = range(&self.disks[index], first, count)?;
                self.transfer(index, command, range)
            }
            0x08 if self.settings.optional >> 3 & 1 == 1 => {
                let range = range(&self.disks[index], first, count)?;
                self.disks[index][range].fill(0);
                Ok(())
            }
            0x09 if self.settings.optional >> 2 & 1 == 1 => {
                for number in 0..=u64::from(command.arguments[0] & 0xff) {
                    let range_list = self.read_memory(command.data[0] + 16 * number, 16);
                    let field =
                        |at: usize| u32::from_le_bytes(range_list[at..at + 4].try_into().unwrap()) as usize;
                    let range = range(&self.disks[index], field(8) | field(12) << 32, field(4))?;
                    // Anything may be there.
                    self.disks[index][range].fill(0xdd);
                }
                Ok(())
            }
            _ => Err(status::INVALID_OPCODE),
        }
    }

    fn transfer(
        &mut self,
        index: usize,
        command: Submission,
        range: std::ops::Range<usize>,
    ) -> Result<(), (u8, u8)> {
        let [first, second] = command.data;
        let data = match command.flags >> 6 {
            0 => Data::Pages(first, second),
            1 if self.settings.sgls => Data::Descriptor(first, second),
            _ => return Err(status::INVALID_FIELD),
        };
        let parts = walk(data, range.len() as u64, PAGE, |place| {
            u64::from_le_bytes(self.read_memory(place, 8).try_into().unwrap())
        });
        let mut at = range.start;
        for (address, length) in parts {
            let part = at..at + length as usize;
            if command.opcode == 1 {
                let bytes = self.read_memory(address, part.len());
                self.disks[index][part.clone()].copy_from_slice(&bytes);
            } else {
                let bytes = self.disks[index][part.clone()].to_vec();
                self.write_memory(address, &bytes);
            }
            at = part.end;
        }
        Ok(())
    }

    fn administer(&mut self, command: Submission) {
        let [first, second, ..] = command.arguments;
        let number = first as u16;
        let mut result = 0;
        let mut code = (0, 0);
        match command.opcode {
            0x00 => {
                let queue = self.submission_queues.remove(&number);
                self.do_at_last(|queue| queue == number);
                code = if queue.is_none() { (1, 1) } else { (0, 0) };
            }
            0x04 => code = if self.completion_queues.remove(&number).is_none() { (1, 1) } else { (0, 0) },
            0x01 if self.completion_queues.contains_key(&number) => {
                let entries = (first >> 16) + 1;
                let base = command.data[0];
                let queue = SubmissionQueue { base, entries, head: 0, under_way: BTreeSet::new() };
                self.submission_queues.insert(number, queue);
                self.made.push(number);
            }
            0x05 if u32::from(number) <= self.settings.queues => {
                let queue = CompletionQueue {
                    base: command.data[0],
                    entries: (first >> 16) + 1,
                    tail: 0,
                    phase: true,
                };
                self.completion_queues.insert(number, queue);
            }
            0x01 | 0x05 => code = (1, 1),
            0x02 => {
                self.masked.clear();
                self.write_memory(command.data[0], &[0x5a; 512]);
            }
            0x06 => self.identify(first as u8, command),
            0x08 => {
                let (queue, id) = (number, (first >> 16) as u16);
                if self.ignored.remove(&(queue, id)).is_some() {
                    self.end(queue, id, 0, Status::new(status::ABORT_REQUESTED));
                } else {
                    result = 1;
                }
            }
            0x09 if first == 7 => {
                let granted = self.settings.queues - 1;
                result = granted << 16 | granted.min(second & 0xffff);
            }
            0x09 => {}
            0x0c => return self.requests.push_back(command.id),
            _ => code = status::INVALID_OPCODE,
        }
        self.end(0, command.id, result, Status::new(code));
    }

    fn identify(&mut self, what: u8, command: Submission) {
        let mut answer = vec![0; 4096];
        match what {
            0x00 => {
                let index = command.namespace as usize - 1;
                if let Some(&(block, size)) = self.settings.namespaces.get(index) {
                    answer[..8].copy_from_slice(&size.to_le_bytes());
                    answer[128 + 2] = block.trailing_zeros() as u8;
                }
            }
            0x01 => {
                answer[24..30].copy_from_slice(b"double");
                answer[77] = self.settings.mdts;
                answer[258] = 1;
                answer[259] = 1;
                answer[520..522].copy_from_slice(&self.settings.optional.to_le_bytes());
                answer[525] = 1;
                answer[528..530].copy_from_slice(&self.settings.atomic_write.to_le_bytes());
                answer[536] = u8::from(self.settings.sgls);
            }
            _ => {
                for index in 0..self.settings.namespaces.len() {
                    answer[4 * index..][..4].copy_from_slice(&(index as u32 + 1).to_le_bytes());
                }
            }
        }
        self.write_memory(command.data[0], &answer);
    }
}
