//! Entries of queues: commands, and how they ended.
//!
//! Layouts are those of the NVM Express Base Specification 2.0, sections 3.3.3 and 5, and of the NVM Command Set
//! Specification 1.0, section 3.

use super::status::Status;

/// What may be asked on I/O queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Opcode {
    Flush = 0x00,
    Write = 0x01,
    Read = 0x02,
    WriteZeroes = 0x08,
    DatasetManagement = 0x09,
}

/// What may be asked on the admin queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum AdminOpcode {
    DeleteSubmissionQueue = 0x00,
    CreateSubmissionQueue = 0x01,
    GetLogPage = 0x02,
    DeleteCompletionQueue = 0x04,
    CreateCompletionQueue = 0x05,
    Identify = 0x06,
    Abort = 0x08,
    SetFeatures = 0x09,
    AsynchronousEvent = 0x0c,
}

/// Features that are set.
const NUMBER_OF_QUEUES: u32 = 0x07;
const EVENT_CONFIGURATION: u32 = 0x0b;

/// Of Write Zeroes: blocks may be deallocated if they then read as zeros.
const DEALLOCATE: u32 = 1 << 25;

/// Of a write: it is durable when it is completed, past the cache.
const FORCE_UNIT_ACCESS: u32 = 1 << 30;

/// Where the data of a command is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Data {
    /// Two pages, or one and a list of others.
    Pages(u64, u64),
    /// A descriptor of a scatter-gather list.
    Descriptor(u64, u64),
}

/// An entry of a submission queue.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C, align(64))]
pub(crate) struct Submission {
    pub(crate) opcode: u8,
    pub(crate) flags: u8,
    pub(crate) id: u16,
    pub(crate) namespace: u32,
    pub(crate) reserved: [u32; 2],
    pub(crate) metadata: u64,
    pub(crate) data: [u64; 2],
    /// Double words 10 to 15.
    pub(crate) arguments: [u32; 6],
}

/// An entry of a completion queue.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C, align(16))]
pub(crate) struct Completion {
    pub(crate) result: u32,
    pub(crate) reserved: u32,
    /// How far the submission queue has been taken.
    pub(crate) head: u16,
    pub(crate) queue: u16,
    pub(crate) id: u16,
    pub(crate) status: Status,
}

const _: () = assert!(size_of::<Submission>() == 64 && size_of::<Completion>() == 16);

/// What has moved between a namespace and memory.
pub(crate) struct Blocks {
    pub(crate) first: u64,
    /// How many: of a read or write at most 65,536.
    pub(crate) count: u32,
}

impl Submission {
    fn io(opcode: Opcode, id: u16, namespace: u32) -> Submission {
        Submission { opcode: opcode as u8, id, namespace, ..Submission::default() }
    }

    fn admin(opcode: AdminOpcode) -> Submission {
        Submission { opcode: opcode as u8, ..Submission::default() }
    }

    pub(crate) fn flush(id: u16, namespace: u32) -> Submission {
        Submission::io(Opcode::Flush, id, namespace)
    }

    /// A read or write.
    #[inline]
    pub(crate) fn transfer(
        opcode: Opcode,
        id: u16,
        namespace: u32,
        blocks: Blocks,
        data: Data,
    ) -> Submission {
        let mut new = Submission::io(opcode, id, namespace);
        new.set_data(data);
        new.set_blocks(&blocks);
        new
    }

    /// The same write, durable when it is completed.
    #[inline]
    pub(crate) fn durable_if(mut self, yes: bool) -> Submission {
        self.arguments[2] |= if yes { FORCE_UNIT_ACCESS } else { 0 };
        self
    }

    pub(crate) fn write_zeroes(id: u16, namespace: u32, blocks: Blocks, deallocate: bool) -> Submission {
        let mut new = Submission::io(Opcode::WriteZeroes, id, namespace);
        new.set_blocks(&blocks);
        new.arguments[2] |= if deallocate { DEALLOCATE } else { 0 };
        new
    }

    /// Deallocates the one range that is described at `list` as by [`range`].
    pub(crate) fn deallocate(id: u16, namespace: u32, list: u64) -> Submission {
        const DEALLOCATE: u32 = 1 << 2;
        let mut new = Submission::io(Opcode::DatasetManagement, id, namespace);
        new.set_data(Data::Pages(list, 0));
        new.arguments[1] = DEALLOCATE;
        new
    }

    #[inline]
    fn set_data(&mut self, data: Data) {
        const DESCRIPTORS: u8 = 1 << 6;
        self.data = match data {
            Data::Pages(first, second) => [first, second],
            Data::Descriptor(address, rest) => {
                self.flags |= DESCRIPTORS;
                [address, rest]
            }
        };
    }

    #[inline]
    fn set_blocks(&mut self, blocks: &Blocks) {
        debug_assert!((1..=1 << 16).contains(&blocks.count));
        self.arguments[0] = blocks.first as u32;
        self.arguments[1] = (blocks.first >> 32) as u32;
        self.arguments[2] = blocks.count - 1;
    }

    /// Asks for 4 KiB about the controller or a namespace.
    pub(crate) fn identify(what: u8, namespace: u32, page: u64) -> Submission {
        let mut new = Submission { namespace, ..Submission::admin(AdminOpcode::Identify) };
        new.set_data(Data::Pages(page, 0));
        new.arguments[0] = u32::from(what);
        new
    }

    /// Makes one half of a pair of I/O queues.
    pub(crate) fn create(opcode: AdminOpcode, queue: u16, entries: u32, memory: u64) -> Submission {
        const CONTIGUOUS: u32 = 1;
        let mut new = Submission::admin(opcode);
        new.set_data(Data::Pages(memory, 0));
        new.arguments[0] = (entries - 1) << 16 | u32::from(queue);
        new.arguments[1] = CONTIGUOUS;
        if opcode == AdminOpcode::CreateSubmissionQueue {
            // Completions come to the queue of the same number.
            new.arguments[1] |= u32::from(queue) << 16;
        }
        new
    }

    /// Ends one half of a pair of I/O queues.
    pub(crate) fn delete(opcode: AdminOpcode, queue: u16) -> Submission {
        let mut new = Submission::admin(opcode);
        new.arguments[0] = u32::from(queue);
        new
    }

    pub(crate) fn abort(queue: u16, id: u16) -> Submission {
        let mut new = Submission::admin(AdminOpcode::Abort);
        new.arguments[0] = u32::from(id) << 16 | u32::from(queue);
        new
    }

    /// Asks for so many pairs of I/O queues.
    pub(crate) fn number_of_queues(pairs: u16) -> Submission {
        let count = u32::from(pairs) - 1;
        let mut new = Submission::admin(AdminOpcode::SetFeatures);
        new.arguments[0] = NUMBER_OF_QUEUES;
        new.arguments[1] = count << 16 | count;
        new
    }

    /// Says which events it is to tell of.
    pub(crate) fn event_configuration(events: u32) -> Submission {
        let mut new = Submission::admin(AdminOpcode::SetFeatures);
        new.arguments[0] = EVENT_CONFIGURATION;
        new.arguments[1] = events;
        new
    }

    /// Ends when something has happened.
    pub(crate) fn asynchronous_event() -> Submission {
        Submission::admin(AdminOpcode::AsynchronousEvent)
    }

    /// Reads the first `length` bytes of a log, which has the controller tell of the next event that is noted there.
    pub(crate) fn log_page(log: u8, page: u64, length: u32) -> Submission {
        let mut new = Submission { namespace: u32::MAX, ..Submission::admin(AdminOpcode::GetLogPage) };
        new.set_data(Data::Pages(page, 0));
        new.arguments[0] = (length / 4 - 1) << 16 | u32::from(log);
        new
    }
}

/// A range of Dataset Management, as two double words each.
pub(crate) fn range(blocks: &Blocks) -> [u64; 2] {
    [u64::from(blocks.count) << 32, blocks.first]
}
