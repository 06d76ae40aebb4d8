//! The program that the kernel runs for each frame which an interface receives, and its attachment: linux/bpf.h.
//!
//! It hands the frames of a queue to the socket that stands for it in a map, and those of other queues to the kernel's
//! own stack. It is so short that it stands here as instructions; neither a compiler nor a library is needed. What
//! attaches it is a link, which the kernel removes with the last descriptor of it: so also when a process is killed.

use super::patience::{Patience, is_in_use};
use std::ffi::{c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

// Commands of bpf(2).
const BPF_MAP_CREATE: c_int = 0;
const BPF_MAP_UPDATE_ELEM: c_int = 2;
const BPF_PROG_LOAD: c_int = 5;
const BPF_LINK_CREATE: c_int = 28;

const BPF_MAP_TYPE_XSKMAP: u32 = 17;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
/// That the immediate of an instruction is the descriptor of a map.
const BPF_PSEUDO_MAP_FD: u8 = 1;
const BPF_FUNC_REDIRECT_MAP: i32 = 51;
/// Go on to the kernel's own stack.
const XDP_PASS: i32 = 2;
/// Where `struct xdp_md` has the number of the queue.
const RX_QUEUE_INDEX: i16 = 16;

const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// Queues that there may be; a place in the map has 8 bytes.
pub(super) const MOST_QUEUES: u32 = 1024;

/// A program on an interface, which is gone when this is dropped.
#[derive(Debug)]
pub(super) struct Program {
    map: OwnedFd,
    _link: OwnedFd,
    /// The driver runs it, before the kernel has made a packet of the frame.
    pub(super) in_driver: bool,
}

impl Program {
    /// Loads the program and attaches it to the interface of this number, in the driver if that can run it.
    pub(super) fn attach(index: u32, patience: Patience) -> io::Result<Program> {
        let map = create_map().map_err(|error| explain(&error, "make a map of sockets"))?;
        let program = load(&map).map_err(|error| explain(&error, "load an XDP program"))?;
        let (link, in_driver) = patience
            .try_for(|| attach_once(&program, index))
            .map_err(|error| explain(&error, "attach an XDP program"))?;
        Ok(Program { map, _link: link, in_driver })
    }

    /// From now on, what this queue receives goes to this socket.
    pub(super) fn redirect(&self, queue: u32, socket: &OwnedFd) -> io::Result<()> {
        let value = socket.as_raw_fd();
        let mut update = Update {
            map: self.map.as_raw_fd() as u32,
            _padding: 0,
            key: (&raw const queue) as u64,
            value: (&raw const value) as u64,
            flags: 0,
        };
        // SAFETY: key and value have the four bytes each that the map was made with, and live during the call.
        unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut update) }?;
        Ok(())
    }
}

/// `bpf_attr` of BPF_MAP_CREATE, up to what is needed.
#[repr(C)]
struct Map {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
}

/// Of BPF_MAP_UPDATE_ELEM.
#[repr(C)]
struct Update {
    map: u32,
    _padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Of BPF_PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    first: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// Of BPF_LINK_CREATE.
#[repr(C)]
struct Link {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

fn create_map() -> io::Result<OwnedFd> {
    let mut map = Map { kind: BPF_MAP_TYPE_XSKMAP, key: 4, value: 4, entries: MOST_QUEUES };
    // SAFETY: numbers only.
    unsafe { bpf_descriptor(BPF_MAP_CREATE, &mut map) }
}

fn load(map: &OwnedFd) -> io::Result<OwnedFd> {
    let instructions = instructions(map.as_raw_fd());
    let mut load = Load {
        kind: BPF_PROG_TYPE_XDP,
        instructions: instructions.len() as u32,
        first: instructions.as_ptr() as u64,
        licence: c"Dual MIT/GPL".as_ptr() as u64,
        name: *b"demikernel_xsk\0\0",
        attach_type: BPF_XDP,
        ..Load::default()
    };
    // SAFETY: the instructions are as many as is said, the licence ends with a zero, and both live during the call.
    unsafe { bpf_descriptor(BPF_PROG_LOAD, &mut load) }
}

/// Attaches the program in the best place that there is; and whether that is the driver.
fn attach_once(program: &OwnedFd, index: u32) -> io::Result<(OwnedFd, bool)> {
    let refusal = match link(program, index, XDP_FLAGS_DRV_MODE) {
        Ok(link) => return Ok((link, true)),
        // The second best place would be taken where the best is about to be free.
        Err(error) if is_in_use(&error) => return Err(error),
        Err(error) => error,
    };
    let link = link(program, index, XDP_FLAGS_SKB_MODE)?;
    tracing::warn!(error = %refusal, "the driver runs no XDP program: the kernel does, behind it, which costs more");
    Ok((link, false))
}

fn link(program: &OwnedFd, interface: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut link = Link { program: program.as_raw_fd() as u32, interface, attach_type: BPF_XDP, flags };
    // SAFETY: numbers only.
    unsafe { bpf_descriptor(BPF_LINK_CREATE, &mut link) }
}

/// `struct bpf_insn`: a code, two registers, an offset, an immediate.
fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> [u8; 8] {
    let [o0, o1] = offset.to_ne_bytes();
    let [i0, i1, i2, i3] = immediate.to_ne_bytes();
    // The registers are two fields of four bits, the first in the lower half on a little-endian machine.
    let registers =
        if cfg!(target_endian = "little") { destination | source << 4 } else { destination << 4 | source };
    [code, registers, o0, o1, i0, i1, i2, i3]
}

/// `return bpf_redirect_map(&map, context->rx_queue_index, XDP_PASS)`: the last argument is what it returns for a place
/// without a socket.
fn instructions(map: c_int) -> [[u8; 8]; 6] {
    const LOAD_WORD: u8 = 0x61;
    const LOAD_IMMEDIATE: u8 = 0x18;
    const MOVE: u8 = 0xb7;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    [
        instruction(LOAD_WORD, 2, 1, RX_QUEUE_INDEX, 0),
        // This takes two places.
        instruction(LOAD_IMMEDIATE, 1, BPF_PSEUDO_MAP_FD, 0, map),
        instruction(0, 0, 0, 0, 0),
        instruction(MOVE, 3, 0, 0, XDP_PASS),
        instruction(CALL, 0, 0, 0, BPF_FUNC_REDIRECT_MAP),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

/// A command whose result is a new descriptor.
///
/// # Safety
///
/// As [`bpf`].
unsafe fn bpf_descriptor<T>(command: c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: as the caller promises.
    let fd = unsafe { bpf(command, attributes)? };
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
///
/// The attributes are those of the command, and what they point to is as the command expects.
unsafe fn bpf<T>(command: c_int, attributes: &mut T) -> io::Result<c_int> {
    // SAFETY: as the caller promises, and the attributes are as long as is said.
    let result: c_long =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as c_int) }
}

fn explain(error: &io::Error, what: &str) -> io::Error {
    let remedy = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "it takes root, or CAP_BPF and CAP_NET_ADMIN",
        Some(libc::EBUSY | libc::EEXIST) => {
            "the interface has one already, such as of another process: `ip link` shows it"
        }
        Some(libc::ENOSYS | libc::EINVAL) => {
            "it takes Linux 5.9 with CONFIG_BPF_SYSCALL and CONFIG_XDP_SOCKETS"
        }
        _ => "`ip link` shows what the interface has",
    };
    io::Error::new(error.kind(), format!("cannot {what}: {error}; {remedy}"))
}
