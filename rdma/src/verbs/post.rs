//! What queue pairs are given to do.

use std::io;
use std::mem::{self, MaybeUninit};
use std::ptr;

use demikernel_runtime::buffer::{Buffer, BufferMut, Sga};

use super::address::AddressHandle;
use super::domain::ProtectionDomain;
use super::error::{Error, Refused, refusal};
use super::queue_pair::{Kind, QueuePair, SEGMENTS};
use super::raw::*;
use super::shared_receive::whole;
use super::work::{Held, Side};

/// How something is sent.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flags {
    /// Report when it is done. What is not signalled is done when something is that was sent after it, and its buffers
    /// are released then. Of every half queue one is signalled in any case, and so are reads and atomic operations.
    pub signalled: bool,
    /// Notify also those who wait for what is marked so only.
    pub solicited: bool,
    /// Wait for the reads before it.
    pub fence: bool,
    /// A number to send along.
    pub immediate: Option<u32>,
}

impl Flags {
    /// Only signalled.
    pub const SIGNALLED: Flags = Flags { signalled: true, solicited: false, fence: false, immediate: None };

    #[inline]
    fn raw(self) -> u32 {
        let flag = |is_set: bool, flag: ibv_send_flags| if is_set { flag.0 } else { 0 };
        flag(self.solicited, ibv_send_flags::IBV_SEND_SOLICITED)
            | flag(self.fence, ibv_send_flags::IBV_SEND_FENCE)
    }
}

/// Memory of the peer, as the peer describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemoteMemory {
    /// Where it begins.
    pub address: u64,
    /// How many bytes.
    pub len: u64,
    /// The key that lets others use it.
    pub key: u32,
}

impl RemoteMemory {
    /// For a peer to be told.
    ///
    /// ```
    /// # use demikernel_rdma::verbs::RemoteMemory;
    /// let memory = RemoteMemory { address: 4096, len: 100, key: 7 };
    /// assert_eq!(RemoteMemory::from_bytes(&memory.to_bytes()), memory);
    /// ```
    pub fn to_bytes(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.address.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.len.to_be_bytes());
        bytes[16..].copy_from_slice(&self.key.to_be_bytes());
        bytes
    }

    /// As a peer has told it. Whatever it says: its own device lets others use only what it has exported.
    pub fn from_bytes(bytes: &[u8; 20]) -> RemoteMemory {
        let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|index| bytes[at + index]));
        let key = u32::from_be_bytes(std::array::from_fn(|index| bytes[16 + index]));
        RemoteMemory { address: number(0), len: number(8), key }
    }

    /// The address of `len` bytes at an offset.
    #[inline]
    fn at(&self, offset: u64, len: u64) -> io::Result<u64> {
        let is_inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        match self.address.checked_add(offset).filter(|address| address.checked_add(len).is_some()) {
            Some(address) if is_inside => Ok(address),
            _ => Err(Error::Invalid { what: "the operation is out of bounds of the peer's memory" }.into()),
        }
    }

    /// Of the 8 bytes of an atomic operation.
    fn word(&self, offset: u64) -> io::Result<u64> {
        let address = self.at(offset, 8)?;
        if !address.is_multiple_of(8) {
            return Err(
                Error::Invalid { what: "atomic operations take addresses that are multiples of 8" }.into()
            );
        }
        Ok(address)
    }
}

/// What a request does, without what it does it to.
#[derive(Clone, Copy)]
struct Operation {
    opcode: ibv_wr_opcode::Type,
    /// As it is on the wire.
    immediate: u32,
    flags: Flags,
    target: ibv_send_wr__bindgen_ty_2,
    token: u64,
}

impl Operation {
    #[inline]
    fn new(
        plain: ibv_wr_opcode::Type,
        with_immediate: ibv_wr_opcode::Type,
        target: ibv_send_wr__bindgen_ty_2,
        flags: Flags,
        token: u64,
    ) -> Operation {
        let opcode = if flags.immediate.is_some() { with_immediate } else { plain };
        Operation { opcode, immediate: flags.immediate.unwrap_or(0).to_be(), flags, target, token }
    }

    #[inline]
    fn send(target: ibv_send_wr__bindgen_ty_2, flags: Flags, token: u64) -> Operation {
        Operation::new(ibv_wr_opcode::IBV_WR_SEND, ibv_wr_opcode::IBV_WR_SEND_WITH_IMM, target, flags, token)
    }

    /// One that fetches, and is always signalled.
    fn fetch(
        opcode: ibv_wr_opcode::Type,
        target: ibv_send_wr__bindgen_ty_2,
        flags: Flags,
        token: u64,
    ) -> Operation {
        Operation::new(opcode, opcode, target, Flags { signalled: true, ..flags }, token)
    }
}

fn memory(remote_addr: u64, rkey: u32) -> ibv_send_wr__bindgen_ty_2 {
    ibv_send_wr__bindgen_ty_2 { rdma: ibv_send_wr__bindgen_ty_2__bindgen_ty_1 { remote_addr, rkey } }
}

impl QueuePair {
    /// Sends a message.
    ///
    /// # Errors
    /// With the message: [`WouldBlock`](io::ErrorKind::WouldBlock) if the queue is full, `InvalidInput` if the device
    /// does not reach a buffer, there are too many, or the queue pair is one of datagrams.
    #[inline]
    pub fn send(&self, data: Sga, flags: Flags, token: u64) -> Result<(), Refused<Sga>> {
        if self.kind != Kind::Reliable {
            return Err(wrong_kind(data));
        }
        self.gather(data, &Operation::send(memory(0, 0), flags, token), None)
    }

    /// Sends a message behind a header, which is copied: so the message goes from where it is, and takes no other buffer
    /// if both go inline.
    ///
    /// # Errors
    /// As [`send`](QueuePair::send); `OutOfMemory` if the heap has no room for the header.
    #[inline]
    pub fn send_behind(
        &self,
        header: &[u8],
        data: Sga,
        flags: Flags,
        token: u64,
    ) -> Result<(), Refused<Sga>> {
        if self.kind != Kind::Reliable {
            return Err(wrong_kind(data));
        }
        let operation = Operation::send(memory(0, 0), flags, token);
        let mut segments = [const { MaybeUninit::uninit() }; SEGMENTS];
        let is_inline = header.len() + data.len() <= self.inline;
        let count = match describe(&self.domain, &data, is_inline, &mut segments[1..self.segments]) {
            Ok(count) => count as i32 + 1,
            Err(error) => return Err(Refused { error, work: data }),
        };
        if is_inline {
            segments[0].write(ibv_sge { addr: header.as_ptr() as u64, length: header.len() as u32, lkey: 0 });
            // The device has taken the bytes along when this returns.
            let (list, flag) = ((segments.as_mut_ptr().cast(), count), ibv_send_flags::IBV_SEND_INLINE.0);
            return match self.post(&operation, list, flag, || Held::Inline) {
                Ok(()) => Ok(()),
                Err((error, _)) => Err(Refused { error, work: data }),
            };
        }
        let header = match Buffer::copy_from_slice(header) {
            Ok(header) => header,
            Err(error) => {
                return Err(Refused { error: io::Error::new(io::ErrorKind::OutOfMemory, error), work: data });
            }
        };
        let Some(lkey) = self.domain.key(header.region()) else {
            return Err(Refused { error: self.domain.out_of_reach(), work: data });
        };
        segments[0].write(ibv_sge { addr: header.as_ptr() as u64, length: header.len() as u32, lkey });
        let list = (segments.as_mut_ptr().cast(), count);
        self.post(&operation, list, 0, || Held::Behind(header, data)).map_err(|(error, held)| {
            let Held::Behind(_, work) = held() else { unreachable!("as it was given") };
            Refused { error, work }
        })
    }

    /// Sends a message to a queue pair of datagrams, by its number and with its key.
    ///
    /// # Errors
    /// As [`send`](QueuePair::send); and if this one is reliable, or the address of another domain.
    #[inline]
    pub fn send_to(
        &self,
        data: Sga,
        to: &AddressHandle,
        number: u32,
        key: u32,
        flags: Flags,
        token: u64,
    ) -> Result<(), Refused<Sga>> {
        if self.kind != Kind::Datagrams || !to.domain().is(&self.domain) {
            return Err(wrong_kind(data));
        }
        let ud =
            ibv_send_wr__bindgen_ty_2__bindgen_ty_3 { ah: to.raw(), remote_qpn: number, remote_qkey: key };
        let target = ibv_send_wr__bindgen_ty_2 { ud };
        self.gather(data, &Operation::send(target, flags, token), Some(to))
    }

    /// Writes to memory of the peer, which does not hear of it, unless a number is sent along: that takes one of its
    /// receives.
    ///
    /// # Errors
    /// As [`send`](QueuePair::send); and if it is out of bounds.
    #[inline]
    pub fn write(
        &self,
        data: Sga,
        to: &RemoteMemory,
        offset: u64,
        flags: Flags,
        token: u64,
    ) -> Result<(), Refused<Sga>> {
        if self.kind != Kind::Reliable {
            return Err(wrong_kind(data));
        }
        let remote_addr = match to.at(offset, data.len() as u64) {
            Ok(address) => address,
            Err(error) => return Err(Refused { error, work: data }),
        };
        let (plain, with_immediate) =
            (ibv_wr_opcode::IBV_WR_RDMA_WRITE, ibv_wr_opcode::IBV_WR_RDMA_WRITE_WITH_IMM);
        let target = memory(remote_addr, to.key);
        self.gather(data, &Operation::new(plain, with_immediate, target, flags, token), None)
    }

    /// Reads memory of the peer, which does not hear of it, to the beginning of a buffer.
    ///
    /// # Errors
    /// As [`write`](QueuePair::write), and if the buffer has no room for as much.
    pub fn read(
        &self,
        mut into: BufferMut,
        from: &RemoteMemory,
        offset: u64,
        len: usize,
        flags: Flags,
        token: u64,
    ) -> Result<(), Refused<BufferMut>> {
        let described = self.describe_read(&mut into, from, offset, len);
        let (mut segment, remote_addr) = match described {
            Ok(described) => described,
            Err(error) => return Err(Refused { error, work: into }),
        };
        let target = memory(remote_addr, from.key);
        let operation = Operation::fetch(ibv_wr_opcode::IBV_WR_RDMA_READ, target, flags, token);
        self.post(&operation, (&mut segment, 1), 0, || Held::Read(into, len as u32)).map_err(
            |(error, held)| {
                let Held::Read(work, _) = held() else { unreachable!("as it was given") };
                Refused { error, work }
            },
        )
    }

    fn describe_read(
        &self,
        into: &mut BufferMut,
        from: &RemoteMemory,
        offset: u64,
        len: usize,
    ) -> io::Result<(ibv_sge, u64)> {
        self.is_reliable()?;
        let address = from.at(offset, len as u64)?;
        let mut segment = whole(&self.domain, into)?;
        if len > segment.length as usize {
            return Err(Error::Invalid { what: "the buffer is shorter than what is to be read" }.into());
        }
        segment.length = len as u32;
        Ok((segment, address))
    }

    /// Adds to a number of 8 bytes in memory of the peer, and fetches its former value.
    ///
    /// # Errors
    /// As [`write`](QueuePair::write); if the address is no multiple of 8; and if the heap has no memory for the answer.
    pub fn fetch_add(
        &self,
        at: &RemoteMemory,
        offset: u64,
        add: u64,
        flags: Flags,
        token: u64,
    ) -> io::Result<()> {
        self.atomic(at, offset, ibv_wr_opcode::IBV_WR_ATOMIC_FETCH_AND_ADD, (add, 0), flags, token)
    }

    /// Replaces a number of 8 bytes in memory of the peer if it is as expected, and fetches its former value.
    ///
    /// # Errors
    /// As [`fetch_add`](QueuePair::fetch_add).
    pub fn compare_swap(
        &self,
        at: &RemoteMemory,
        offset: u64,
        expected: u64,
        new: u64,
        flags: Flags,
        token: u64,
    ) -> io::Result<()> {
        self.atomic(at, offset, ibv_wr_opcode::IBV_WR_ATOMIC_CMP_AND_SWP, (expected, new), flags, token)
    }

    fn atomic(
        &self,
        at: &RemoteMemory,
        offset: u64,
        opcode: ibv_wr_opcode::Type,
        (compare_add, swap): (u64, u64),
        flags: Flags,
        token: u64,
    ) -> io::Result<()> {
        self.is_reliable()?;
        let remote_addr = at.word(offset)?;
        let mut answer = BufferMut::with_capacity(8)?;
        let mut segment = whole(&self.domain, &mut answer)?;
        segment.length = 8;
        let atomic = ibv_send_wr__bindgen_ty_2__bindgen_ty_2 { remote_addr, compare_add, swap, rkey: at.key };
        let operation = Operation::fetch(opcode, ibv_send_wr__bindgen_ty_2 { atomic }, flags, token);
        self.post(&operation, (&mut segment, 1), 0, || Held::Fetch(answer)).map_err(|(error, _)| error)
    }

    /// Receives into a buffer, all of which may be overwritten: what it holds is forgotten. In front of a datagram come
    /// 40 bytes, for which there must be room.
    ///
    /// # Errors
    /// With the buffer: if the queue is full, the device does not reach it, receives come from a shared queue, or the queue
    /// pair is neither joined nor [prepared](super::ConnectionId::prepare).
    pub fn receive(&self, mut buffer: BufferMut, token: u64) -> Result<(), Refused<BufferMut>> {
        match self.post_receive(&mut buffer) {
            Ok(()) => {
                let mut work = self.domain.device().work().borrow_mut();
                work.begin(self.slot, Side::Receive, token, Held::Receive(buffer));
                Ok(())
            }
            Err(error) => Err(Refused { error, work: buffer }),
        }
    }

    fn post_receive(&self, buffer: &mut BufferMut) -> io::Result<()> {
        if self.shared.is_some() {
            return Err(
                Error::Invalid { what: "receives of this queue pair come from a shared queue" }.into()
            );
        }
        let mut segment = whole(&self.domain, buffer)?;
        let device = self.domain.device();
        let wr_id = device.work().borrow_mut().reserve_below(self.slot, Side::Receive, self.receive_depth);
        let Some(wr_id) = wr_id else { return Err(io::ErrorKind::WouldBlock.into()) };
        let mut request = ibv_recv_wr { wr_id, next: ptr::null_mut(), sg_list: &mut segment, num_sge: 1 };
        let mut bad = ptr::null_mut();
        let Some(post) = device.operations().post_recv else { unreachable!("all drivers have it") };
        // SAFETY: the queue pair is there, and the caller keeps the memory until the request is completed.
        let failed = unsafe { post(self.pair.as_ptr(), &mut request, &mut bad) };
        if failed == 0 { Ok(()) } else { Err(refusal("post a receive", failed)) }
    }

    fn is_reliable(&self) -> io::Result<()> {
        match self.kind {
            Kind::Reliable => Ok(()),
            Kind::Datagrams => Err(wrong_kind(()).error),
        }
    }

    /// Posts a request that sends or writes what is gathered.
    #[inline]
    fn gather(
        &self,
        data: Sga,
        operation: &Operation,
        to: Option<&AddressHandle>,
    ) -> Result<(), Refused<Sga>> {
        let mut segments = [const { MaybeUninit::uninit() }; SEGMENTS];
        let is_inline = data.len() <= self.inline;
        let count = match describe(&self.domain, &data, is_inline, &mut segments[..self.segments]) {
            Ok(count) => count as i32,
            Err(error) => return Err(Refused { error, work: data }),
        };
        let list = (segments.as_mut_ptr().cast(), count);
        if is_inline {
            // The device has taken the bytes along when this returns.
            let flag = ibv_send_flags::IBV_SEND_INLINE.0;
            return match self.post(operation, list, flag, || Held::Inline) {
                Ok(()) => Ok(()),
                Err((error, _)) => Err(Refused { error, work: data }),
            };
        }
        let hold = || match to {
            None => Held::Gather(data),
            Some(address) => Held::Datagram(data, address.clone()),
        };
        self.post(operation, list, 0, hold).map_err(|(error, held)| {
            let (Held::Gather(work) | Held::Datagram(work, _)) = held() else {
                unreachable!("as it was given")
            };
            Refused { error, work }
        })
    }

    /// Posts a request with a list of buffers. What it holds is kept until it is completed, or given back.
    #[inline]
    fn post<F: FnOnce() -> Held>(
        &self,
        operation: &Operation,
        (sg_list, num_sge): (*mut ibv_sge, i32),
        flag: u32,
        held: F,
    ) -> Result<(), (io::Error, F)> {
        let device = self.domain.device();
        // Drivers do not call back, so it may stay borrowed meanwhile.
        let mut work = device.work().borrow_mut();
        let wr_id = work.reserve_below(self.slot, Side::Send, self.send_depth);
        let Some(wr_id) = wr_id else { return Err((io::ErrorKind::WouldBlock.into(), held)) };
        let unsignalled = self.unsignalled.get() + 1;
        // Otherwise a queue full of what nobody hears of could never be used again.
        let is_signalled = operation.flags.signalled || unsignalled * 2 >= self.send_depth;
        let signal = if is_signalled { ibv_send_flags::IBV_SEND_SIGNALED.0 } else { 0 };
        let mut request = ibv_send_wr {
            wr_id,
            next: ptr::null_mut(),
            sg_list,
            num_sge,
            opcode: operation.opcode,
            send_flags: operation.flags.raw() | flag | signal,
            __bindgen_anon_1: ibv_send_wr__bindgen_ty_1 { imm_data: operation.immediate },
            wr: operation.target,
            ..NOTHING
        };
        let Some(post) = device.operations().post_send else { unreachable!("all drivers have it") };
        let mut bad = ptr::null_mut();
        // SAFETY: the queue pair is there. What the request points to is there during the call, and the memory that it
        // names is kept by the entry below until the request is completed, or the queue pair destroyed.
        let failed = unsafe { post(self.pair.as_ptr(), &mut request, &mut bad) };
        if failed != 0 {
            return Err((refusal("post a send", failed), held));
        }
        self.unsignalled.set(if is_signalled { 0 } else { unsignalled });
        work.begin(self.slot, Side::Send, operation.token, held());
        Ok(())
    }
}

/// A request before anything is said.
// SAFETY: numbers and pointers, all of which may be zero.
const NOTHING: ibv_send_wr = unsafe { mem::zeroed() };

/// Describes buffers to the device, and says how many. What goes inline needs no keys.
#[inline]
fn describe(
    domain: &ProtectionDomain,
    data: &Sga,
    is_inline: bool,
    segments: &mut [MaybeUninit<ibv_sge>],
) -> io::Result<usize> {
    let describe = |buffer: &Buffer| {
        let lkey = match is_inline {
            true => 0,
            false => domain.key(buffer.region()).ok_or_else(|| domain.out_of_reach())?,
        };
        io::Result::Ok(ibv_sge { addr: buffer.as_ptr() as u64, length: buffer.len() as u32, lkey })
    };
    let count = data.segments();
    if let (1, Some(only)) = (count, data.first()) {
        segments[0].write(describe(only)?);
        return Ok(1);
    }
    if count > segments.len() {
        let what = "the message is in more pieces than the queue pair gathers";
        return Err(Error::Invalid { what }.into());
    }
    for (buffer, segment) in data.iter().zip(segments) {
        segment.write(describe(buffer)?);
    }
    Ok(count)
}

#[cold]
fn wrong_kind<T>(work: T) -> Refused<T> {
    let what = "a queue pair of datagrams sends to an address of its domain, a reliable one to its peer, whose memory it \
                reads and writes";
    Refused { error: Error::Invalid { what }.into(), work }
}
