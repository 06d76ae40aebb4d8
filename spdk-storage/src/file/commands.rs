//! The operations of an NVMe namespace: commands that the kernel's driver passes through.
//!
//! Structures and numbers are those of linux/nvme_ioctl.h.

use super::dialect::{Dialect, Handle, Outcome};
use super::transfer::{Kind, Transfer};
use crate::specification::command::{Blocks, Data, Opcode, Submission, range};
use crate::specification::identify::{ControllerData, NamespaceData};
use crate::specification::status::Status;
use io_uring::{cqueue, opcode, squeue};
use std::fs::File;
use std::io;

/// NVME_URING_CMD_IO and NVME_URING_CMD_IO_VEC: with one piece of memory, and with a list of them.
const ONE_PIECE: u32 = 0xc048_4e80;
const SEVERAL_PIECES: u32 = 0xc048_4e81;

/// Why a user may not.
pub(super) const ONLY_ROOT: &str = "the kernel does not pass this user's commands through: before Linux 6.2 only those of root (CAP_SYS_ADMIN)";

/// The most pieces that one command takes (IOV_MAX).
const PIECES: usize = 1024;

/// Blocks of Dataset Management, of anything else, in one command.
const MOST_DEALLOCATED: u64 = 1 << 31;
const MOST: u64 = 1 << 16;

/// `struct nvme_passthru_cmd`, whose last word `struct nvme_uring_cmd` has no use for.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct UserCommand {
    opcode: u8,
    flags: u8,
    reserved: u16,
    namespace: u32,
    words: [u32; 2],
    metadata: u64,
    pub(super) address: u64,
    metadata_length: u32,
    /// Of the memory; or how many pieces it is.
    pub(super) length: u32,
    arguments: [u32; 6],
    /// None: the kernel's.
    timeout: u32,
    result: u32,
}

const _: () = assert!(size_of::<UserCommand>() == 72);

impl From<Submission> for UserCommand {
    fn from(command: Submission) -> UserCommand {
        let Submission { opcode, namespace, arguments, .. } = command;
        UserCommand { opcode, namespace, arguments, ..UserCommand::default() }
    }
}

impl UserCommand {
    fn bytes(self) -> [u8; 80] {
        let mut bytes = [0; 80];
        // SAFETY: the structure is of so many bytes, and has no padding.
        let command: [u8; 72] = unsafe { std::mem::transmute(self) };
        bytes[..72].copy_from_slice(&command);
        bytes
    }
}

/// A namespace.
pub(super) struct Commands {
    pub(super) number: u32,
    /// The block's size is a power of two.
    pub(super) shift: u32,
    /// Bytes that a command moves at most: whole blocks.
    pub(super) largest: u64,
    pub(super) dataset_management: bool,
    pub(super) write_zeroes: bool,
    pub(super) deallocates_to_zeros: bool,
    /// The block device that is the same, so that nobody else mounts or writes it meanwhile.
    pub(super) _claim: Option<File>,
}

impl Commands {
    pub(super) fn new(
        controller: &ControllerData,
        namespace: &NamespaceData,
        largest: u64,
        claim: Option<File>,
    ) -> Commands {
        Commands {
            number: namespace.number,
            shift: namespace.block.trailing_zeros(),
            largest,
            dataset_management: controller.dataset_management,
            write_zeroes: controller.write_zeroes,
            deallocates_to_zeros: namespace.deallocates_to_zeros,
            _claim: claim,
        }
    }

    /// The next part of a range, of so many blocks at most, which is noted as issued.
    fn part(&self, transfer: &mut Transfer, most: u64) -> Blocks {
        let count = (transfer.left >> self.shift).min(most);
        transfer.issued = count << self.shift;
        Blocks { first: transfer.at >> self.shift, count: count as u32 }
    }

    /// A read or write.
    #[inline]
    fn data(&self, transfer: &mut Transfer) -> (u32, UserCommand) {
        let mut list = std::mem::take(&mut transfer.list);
        list.clear();
        let most = self.largest.min(transfer.left);
        let (mut length, whole_blocks) = (0, !((1u64 << self.shift) - 1));
        for piece in transfer.pieces().iter().take(PIECES) {
            let iov_len = (most - length).min(piece.iov_len as u64) as usize;
            if iov_len > 0 {
                list.push(libc::iovec { iov_base: piece.iov_base, iov_len });
                length += iov_len as u64;
            }
        }
        debug_assert_eq!(length & !whole_blocks, 0, "pieces are of whole blocks, and so is the limit");
        transfer.issued = length;
        let blocks = Blocks { first: transfer.at >> self.shift, count: (length >> self.shift) as u32 };
        let opcode = if transfer.kind == Kind::Read { Opcode::Read } else { Opcode::Write };
        let durable = transfer.kind == Kind::WriteDurable;
        // Where the data is, the kernel fills in.
        let command = Submission::transfer(opcode, 0, self.number, blocks, Data::Pages(0, 0));
        let mut command = UserCommand::from(command.durable_if(durable));
        let operation = match list[..] {
            [libc::iovec { iov_base, iov_len }] => {
                (command.address, command.length) = (iov_base as u64, iov_len as u32);
                ONE_PIECE
            }
            _ => {
                (command.address, command.length) = (list.as_ptr() as u64, list.len() as u32);
                SEVERAL_PIECES
            }
        };
        transfer.list = list;
        (operation, command)
    }

    fn discard(&self, transfer: &mut Transfer) -> UserCommand {
        let blocks = self.part(transfer, MOST_DEALLOCATED);
        // The place of the list of ranges is the kernel's to fill in, too.
        let mut command = UserCommand::from(Submission::deallocate(0, self.number, 0));
        let list = transfer.range.get_or_insert_default();
        **list = range(&blocks);
        command.address = list.as_ptr() as u64;
        command.length = size_of_val(&**list) as u32;
        command
    }
}

impl Dialect for Commands {
    type Entry = squeue::Entry128;
    type Completed = cqueue::Entry32;

    const NAME: &'static str = "passthrough";

    fn refusal(&self, kind: Kind) -> Option<io::Error> {
        let what = match kind {
            Kind::Discard if !self.dataset_management => "Dataset Management",
            Kind::Zero if !self.write_zeroes => "Write Zeroes",
            _ => return None,
        };
        let text = format!("the drive has no {what}");
        Some(io::Error::new(io::ErrorKind::Unsupported, text))
    }

    /// Commands are never divided by the kernel.
    #[inline]
    fn can_poll(&self, _transfer: &Transfer) -> bool {
        true
    }

    #[inline]
    fn entry(&self, transfer: &mut Transfer, handle: Handle, region: Option<u16>) -> squeue::Entry128 {
        let (operation, command) = match transfer.kind {
            Kind::Read | Kind::Write | Kind::WriteDurable => self.data(transfer),
            Kind::Flush => (ONE_PIECE, UserCommand::from(Submission::flush(0, self.number))),
            Kind::Discard => (ONE_PIECE, self.discard(transfer)),
            Kind::Zero => {
                let blocks = self.part(transfer, MOST);
                let command = Submission::write_zeroes(0, self.number, blocks, self.deallocates_to_zeros);
                (ONE_PIECE, UserCommand::from(command))
            }
        };
        let entry = opcode::UringCmd80::new(handle.file, operation).cmd(command.bytes()).buf_index(region);
        entry.build().flags(handle.flags)
    }

    #[inline]
    fn outcome(&self, transfer: &Transfer, result: i32) -> Outcome {
        match result {
            0 => Outcome::Done(transfer.issued),
            _ => failure(transfer, result),
        }
    }
}

#[cold]
fn failure(transfer: &Transfer, result: i32) -> Outcome {
    if let Ok(status @ 1..) = u16::try_from(result) {
        return Outcome::Failed(Status::from_kernel(status).error(transfer));
    }
    let told = |kind, text: &str| {
        Outcome::Failed(io::Error::new(kind, format!("NVMe: {transfer} has failed: {text}")))
    };
    match -result {
        libc::EAGAIN => Outcome::Again,
        // Linux 6.1 refuses a region that lies in more pieces than a command may have, whatever part of it is meant.
        number @ libc::EINVAL => Outcome::Unnamed(io::Error::from_raw_os_error(number)),
        number @ libc::EOPNOTSUPP => Outcome::Unpolled(io::Error::from_raw_os_error(number)),
        libc::EINTR => told(
            io::ErrorKind::ConnectionReset,
            "the kernel has cancelled it, as the controller is reset or gone",
        ),
        libc::ENODEV | libc::ENXIO => told(io::ErrorKind::NotConnected, "the drive is gone"),
        libc::EACCES => told(io::ErrorKind::PermissionDenied, ONLY_ROOT),
        number => Outcome::Failed(io::Error::from_raw_os_error(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{Command, Piece};

    fn namespace(largest: u64) -> Commands {
        Commands {
            number: 3,
            shift: 9,
            largest,
            dataset_management: true,
            write_zeroes: false,
            deallocates_to_zeros: false,
            _claim: None,
        }
    }

    fn transfer(command: Command<'_>) -> Transfer {
        let mut transfer = Transfer::default();
        transfer.set(command);
        transfer
    }

    fn piece(memory: &mut [u8]) -> Piece {
        Piece { address: memory.as_mut_ptr(), length: memory.len(), region: None }
    }

    #[test]
    fn what_is_longer_than_a_command_is_divided_and_ends_with_the_last_part() {
        let (mut first, mut second) = ([0; 1024], [0; 4096]);
        let pieces = [piece(&mut first), piece(&mut second)];
        let mut transfer = transfer(Command::WriteDurable(512, &pieces));
        let namespace = namespace(2048);
        let mut seen = Vec::new();
        loop {
            let (operation, command) = namespace.data(&mut transfer);
            let [first, _, rest, ..] = command.arguments;
            seen.push((operation, first, rest & 0xffff, command.length));
            assert_eq!((command.opcode, command.namespace, rest >> 30), (1, 3, 1));
            match namespace.outcome(&transfer, 0) {
                Outcome::Done(moved) if transfer.advance(moved) => break,
                Outcome::Done(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, [(SEVERAL_PIECES, 1, 3, 2), (ONE_PIECE, 5, 3, 2048), (ONE_PIECE, 9, 1, 1024)]);
    }

    #[test]
    fn a_discard_names_its_range_at_a_place_that_stays() {
        let mut transfer = transfer(Command::Discard(1 << 20, 8192));
        let command = namespace(4096).discard(&mut transfer);
        let moved = transfer;
        let list = moved.range.unwrap();
        assert_eq!((command.address, command.length), (list.as_ptr() as u64, 16));
        assert_eq!((*list, command.arguments[1]), ([16 << 32, 2048], 4));
    }

    #[test]
    fn failures_are_what_the_drive_or_the_kernel_says() {
        let transfer = transfer(Command::Flush);
        let namespace = namespace(4096);
        let failed = |result| match namespace.outcome(&transfer, result) {
            Outcome::Failed(error) => error,
            other => panic!("{other:?}"),
        };
        let error = failed(0x4281);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("a flush failed: unrecovered read error"), "{error}");
        assert!(error.to_string().contains("do not retry"), "{error}");
        assert_eq!(failed(0x370).kind(), io::ErrorKind::NotConnected);
        assert_eq!(failed(-libc::EINTR).kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(failed(-libc::EIO).raw_os_error(), Some(libc::EIO));
        assert!(matches!(namespace.outcome(&transfer, -libc::EINVAL), Outcome::Unnamed(_)));
        assert!(matches!(namespace.outcome(&transfer, -libc::EOPNOTSUPP), Outcome::Unpolled(_)));
        assert_eq!(namespace.refusal(Kind::Zero).unwrap().kind(), io::ErrorKind::Unsupported);
        assert!(namespace.refusal(Kind::Discard).is_none());
    }
}
