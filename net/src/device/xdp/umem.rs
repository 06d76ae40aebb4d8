//! The memory that the kernel shares with us, and what of it is the kernel's at present.
//!
//! It is a range of the runtime's own heap, in chunks of 2 or 4 KiB. The kernel has two kinds of it: chunks in which it
//! puts what it receives, each with one handle; and bytes that it sends, which others may hold too. A handle of each is
//! kept here until the kernel has given it back, by the address: completions do not come in order.
//!
//! The program may hold all of the range, as data that peers have not acknowledged. If then nothing could be received,
//! nothing would ever be acknowledged. So the kernel never has fewer chunks than at first: where there is no other to be
//! had, what was received is copied to any memory that there is, or dropped, and the chunk goes back. And some chunks are
//! kept for copies of what cannot be sent from where it is.

use demikernel_runtime::buffer::pool::{self, Contiguous, PoolExhausted};
use demikernel_runtime::buffer::{Buffer, BufferMut};

/// Chunks of the heap are aligned to this: two addresses in one such piece are in one chunk.
const GRAIN: usize = 256;

/// Chunks that are kept for copies: two bursts.
const COPIES: usize = 64;

/// Chunks that are taken from the heap at once.
const STOCK: usize = 32;

/// The range, and what of it the kernel has.
#[derive(Debug)]
pub(super) struct Umem {
    /// By address, in grains.
    lent: Vec<Lent>,
    /// Pieces that are being sent.
    sending: usize,
    /// Chunks that the kernel may receive into.
    receiving: usize,
    chunk: usize,
    /// Chunks that will be received into next.
    stock: Vec<BufferMut>,
    /// Chunks for copies.
    copies: Vec<BufferMut>,
    /// Behind the handles, so that it is dropped after them.
    range: Contiguous,
}

/// What the kernel has in a grain.
#[derive(Debug)]
enum Lent {
    Nothing,
    /// A chunk to receive into, which begins there.
    Receive(BufferMut),
    /// Bytes that are sent, and how many times they are.
    Send {
        times: u32,
        _buffer: Buffer,
    },
    /// A copy that is sent.
    Copy(BufferMut),
}

impl Umem {
    /// A range of so many bytes at least, for chunks of this size, a power of two.
    pub(super) fn new(bytes: usize, chunk: usize) -> Result<Umem, PoolExhausted> {
        assert!(chunk.is_power_of_two() && chunk >= GRAIN);
        let range = pool::contiguous(bytes)?;
        let mut lent = Vec::new();
        lent.resize_with(range.len() / GRAIN, || Lent::Nothing);
        let mut copies = Vec::with_capacity(COPIES);
        range.allocate(chunk, COPIES, &mut copies);
        let stock = Vec::with_capacity(STOCK);
        Ok(Umem { lent, sending: 0, receiving: 0, chunk, stock, copies, range })
    }

    pub(super) fn range(&self) -> &Contiguous {
        &self.range
    }

    pub(super) fn chunk(&self) -> usize {
        self.chunk
    }

    /// Pieces that the kernel has to send.
    #[inline]
    pub(super) fn sending(&self) -> usize {
        self.sending
    }

    /// Chunks that the kernel has to receive into.
    #[cfg(test)]
    pub(super) fn receiving(&self) -> usize {
        self.receiving
    }

    /// A chunk to receive into; none if all of the range is in use.
    #[inline]
    pub(super) fn allocate(&mut self) -> Option<BufferMut> {
        if self.stock.is_empty() {
            self.range.allocate(self.chunk, STOCK, &mut self.stock);
        }
        self.stock.pop()
    }

    /// Lends the kernel a chunk to receive into; returns its address.
    #[inline]
    pub(super) fn lend(&mut self, mut buffer: BufferMut) -> u64 {
        buffer.reset();
        let offset = self.range.offset_of(&buffer).expect("a chunk of the range");
        let place = &mut self.lent[offset / GRAIN];
        debug_assert!(matches!(place, Lent::Nothing), "a unique handle, lent twice");
        *place = Lent::Receive(buffer);
        self.receiving += 1;
        offset as u64
    }

    /// Takes back a chunk in which the kernel has put so many bytes at this address; `None` if that cannot be.
    #[inline]
    pub(super) fn received(&mut self, address: u64, length: u32) -> Option<BufferMut> {
        let (address, length) = (usize::try_from(address).ok()?, length as usize);
        let start = address & !(self.chunk - 1);
        let place = self.lent.get_mut(start / GRAIN)?;
        match place {
            Lent::Receive(buffer) if length <= buffer.capacity() - (address - start) => {}
            _ => return None,
        }
        let Lent::Receive(mut buffer) = std::mem::replace(place, Lent::Nothing) else { return None };
        self.receiving -= 1;
        // SAFETY: within the capacity, as was just looked at, and memory of a region is initialised from the beginning.
        unsafe { buffer.set_len(address - start + length) };
        buffer.advance(address - start);
        Some(buffer)
    }

    /// Where these bytes are, if the kernel can reach them.
    #[inline]
    pub(super) fn offset_of(&self, bytes: &[u8]) -> Option<usize> {
        self.range.offset_of(bytes)
    }

    /// Keeps a buffer, of which bytes from this address on are sent, until [`sent`](Self::sent).
    #[inline]
    pub(super) fn send(&mut self, address: usize, buffer: &Buffer) {
        self.sending += 1;
        match &mut self.lent[address / GRAIN] {
            Lent::Send { times, .. } => *times += 1,
            place => *place = Lent::Send { times: 1, _buffer: buffer.clone() },
        }
    }

    /// Copies bytes, no more than fit a chunk, to be sent from the address that is returned; none while all chunks for
    /// that are being sent.
    pub(super) fn send_copy<'a>(&mut self, parts: impl Iterator<Item = &'a Buffer>) -> Option<usize> {
        let mut copy = self.copies.pop()?;
        copy.reset();
        parts.for_each(|part| copy.extend_from_slice(part));
        let offset = self.range.offset_of(&copy).expect("a chunk of the range");
        self.lent[offset / GRAIN] = Lent::Copy(copy);
        self.sending += 1;
        Some(offset)
    }

    /// Leaves to the kernel for ever what it has, as nobody knows when it lets go of it.
    pub(super) fn give_up(&mut self) {
        std::mem::forget(std::mem::take(&mut self.lent));
    }

    /// The kernel has sent what begins at this address.
    #[inline]
    pub(super) fn sent(&mut self, address: u64) {
        let place = usize::try_from(address).ok().and_then(|address| self.lent.get_mut(address / GRAIN));
        let Some(place) = place else { return };
        match place {
            Lent::Send { times: times @ 2.., .. } => *times -= 1,
            Lent::Send { .. } => *place = Lent::Nothing,
            Lent::Copy(_) => {
                if let Lent::Copy(copy) = std::mem::replace(place, Lent::Nothing) {
                    self.copies.push(copy);
                }
            }
            Lent::Nothing | Lent::Receive(_) => return,
        }
        self.sending -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn umem() -> Umem {
        Umem::new(2 << 20, 2048).unwrap()
    }

    #[test]
    fn a_chunk_comes_back_with_what_is_in_it() {
        let mut umem = umem();
        let mut buffer = umem.allocate().unwrap();
        buffer.extend_from_slice(&[7; 300]);
        buffer.clear();
        let address = umem.lend(buffer);
        assert_eq!((address % 2048, umem.receiving()), (0, 1));
        assert!(umem.received(address + 2048, 10).is_none(), "not lent");
        assert!(umem.received(u64::MAX, 10).is_none());
        assert!(umem.received(address + 256, 1793).is_none(), "longer than it is");
        let frame = umem.received(address + 256, 44).unwrap();
        assert_eq!(frame, [7; 44]);
        assert_eq!(umem.receiving(), 0);
        assert!(umem.received(address + 256, 44).is_none(), "only once");
        // Lent again as it is, it begins where it began.
        assert_eq!(umem.lend(frame), address);
    }

    #[test]
    fn what_is_sent_stays_until_the_last_time_it_is_sent() {
        let mut umem = umem();
        let mut buffer = umem.allocate().unwrap();
        buffer.resize(1000, 1);
        let buffer = buffer.freeze();
        let (one, other) = (buffer.slice(..100), buffer.slice(600..));
        let at = |part: &Buffer| umem.offset_of(part).unwrap();
        let (a, b) = (at(&one), at(&other));
        umem.send(a, &one);
        umem.send(a, &one);
        umem.send(b, &other);
        drop((one, other));
        umem.sent(a as u64);
        umem.sent(b as u64);
        assert!(!buffer.is_unique() && umem.sending() == 1);
        umem.sent(a as u64);
        umem.sent(a as u64);
        umem.sent(u64::MAX);
        assert!(buffer.is_unique() && umem.sending() == 0);
    }

    #[test]
    fn copies_come_back_for_further_copies() {
        let mut umem = umem();
        let part = Buffer::from_static(b"elsewhere");
        for _ in 0..3 {
            let sent: Vec<_> =
                (0..COPIES).map(|_| umem.send_copy([&part, &part].into_iter()).unwrap()).collect();
            assert_eq!(umem.send_copy([&part].into_iter()), None);
            assert!(umem.sending() == COPIES && sent.iter().all(|at| at % 2048 == 0));
            sent.iter().for_each(|&at| umem.sent(at as u64));
            assert_eq!(umem.sending(), 0);
        }
    }

    #[test]
    fn what_is_left_to_the_kernel_is_nobody_elses_again() {
        let mut umem = umem();
        let lent = umem.allocate().unwrap();
        umem.lend(lent);
        let sent = Buffer::copy_from_slice(&[1; 100]).unwrap();
        umem.send(umem.offset_of(&sent).unwrap(), &sent);
        umem.give_up();
        drop((umem, sent));
        pool::trim();
        let stats = pool::stats();
        assert_eq!((stats.in_use(), stats.mapped), (2048 + 256, 2 << 20));
    }
}
