//! Pools of packet buffers (mbufs) whose memory is the runtime's.
//!
//! An mbuf has a record behind its header: who owns the memory that it points to. In a [`ReceivePool`] that is always a
//! writable buffer of its own, which is exchanged for a fresh one when a packet has arrived in it. In a
//! [`TransmitPool`] it is one more handle to what a port sends from, until the port has freed the mbuf.
//!
//! Free mbufs are in a stack that DPDK and this crate share ([`Stack`]): drivers take and free through `rte_mempool`,
//! whose operations the shim implements over the stack. One thread owns a pool; what others free waits in a list.

use std::collections::HashSet;
use std::ffi::{CString, c_void};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use bytes::Bytes;
use demikernel_runtime::buffer::{Buffer, BufferMut};

use crate::ffi::{self, Mbuf, Mempool, Stack};
use crate::reach::Reach;

const _: () = assert!(size_of::<Buffer>() <= ffi::OWNER_SIZE && align_of::<Buffer>() <= 8);
const _: () = assert!(size_of::<BufferMut>() <= ffi::OWNER_SIZE && align_of::<BufferMut>() <= 8);

/// A mempool, and the stack of its free mbufs.
struct Pool {
    mempool: NonNull<Mempool>,
    /// A box that the mempool points to, with lists that are boxes of `capacity` places.
    stack: NonNull<Stack>,
    /// Every mbuf there is.
    all: Vec<NonNull<Mbuf>>,
}

/// A list of places for mbufs, as its first.
fn list(count: usize) -> *mut *mut Mbuf {
    Box::into_raw(vec![ptr::null_mut::<Mbuf>(); count].into_boxed_slice()).cast()
}

/// Names of mempools are unique in a process.
fn name() -> CString {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    CString::new(format!("demikernel-{number}")).expect("there is no zero byte in it")
}

impl Pool {
    /// `count` free mbufs without records, for the calling thread; the memory of each is to have `size` bytes, or none if
    /// they are to send, which no driver can take then. `None` if DPDK has no memory for them.
    fn new(count: u32, size: u16, socket: i32) -> Option<Pool> {
        let stack = Box::new(Stack {
            count: 0,
            settled: 0,
            capacity: count,
            foreign_count: 0,
            objects: list(count as usize),
            foreign: list(count as usize),
            owner: ffi::dk_thread(),
            lock: 0,
            closed: u32::from(size == 0),
        });
        let stack = NonNull::from(Box::leak(stack));
        // SAFETY: the stack lives until the mempool is freed (`Drop`), and either list has room for all mbufs.
        let mempool =
            unsafe { ffi::dk_pool_create(name().as_ptr(), count, size.into(), socket, stack.as_ptr()) };
        let Some(mempool) = NonNull::new(mempool) else {
            // SAFETY: nobody has heard of it.
            unsafe { free_stack(stack) };
            return None;
        };
        let mut pool = Pool { mempool, stack, all: Vec::new() };
        // SAFETY: as many have been put there as the pool has.
        pool.all = (0..pool.stack().count).map(|index| unsafe { pool.get(index) }).collect();
        Some(pool)
    }

    /// The part of the stack that only the owner's thread touches, this one.
    #[inline]
    fn stack(&mut self) -> &mut Counts {
        // SAFETY: `Counts` are the first fields, which drivers and the shim change only while this thread is in a call
        // of them, or while another one owns the pool (`adopt`); so nobody does during this borrow.
        unsafe { self.stack.cast::<Counts>().as_mut() }
    }

    /// The mbuf at `index` of the stack.
    ///
    /// # Safety
    ///
    /// There is one: `index` is less than the count.
    #[inline]
    unsafe fn get(&self, index: u32) -> NonNull<Mbuf> {
        // SAFETY: the lists are never moved, and what is below the count was put there.
        unsafe { NonNull::new_unchecked(*(*self.stack.as_ptr()).objects.add(index as usize)) }
    }

    /// Mbufs that are not free: what the driver has.
    fn held(&self) -> usize {
        // SAFETY: the owner's thread reads what only it changes, and the other field atomically.
        let free = unsafe {
            let stack = self.stack.as_ptr();
            (*stack).count + AtomicU32::from_ptr(&raw mut (*stack).foreign_count).load(Ordering::Relaxed)
        };
        self.all.len() - free as usize
    }

    /// Puts back an mbuf that was taken.
    #[inline]
    fn push(&mut self, mbuf: NonNull<Mbuf>) {
        let count = self.stack().count;
        debug_assert!((count as usize) < self.all.len());
        // SAFETY: there is a place for each mbuf, and this one was in none.
        unsafe { *(*self.stack.as_ptr()).objects.add(count as usize) = mbuf.as_ptr() };
        self.stack().count = count + 1;
    }

    /// Takes what other threads have freed.
    #[inline]
    fn take_foreign(&mut self) {
        // SAFETY: the field is only changed atomically.
        let foreign = unsafe { AtomicU32::from_ptr(&raw mut (*self.stack.as_ptr()).foreign_count) };
        if foreign.load(Ordering::Relaxed) > 0 {
            // SAFETY: a stack with a mempool, called by its owner.
            unsafe { ffi::dk_stack_take_foreign(self.stack.as_ptr()) };
        }
    }

    /// Makes the calling thread the owner.
    ///
    /// # Safety
    ///
    /// The former owner does not use the pool meanwhile, and all that it did to it happened before.
    unsafe fn adopt(&mut self) {
        self.set_owner(ffi::dk_thread());
    }

    fn set_owner(&mut self, thread: *const c_void) {
        // SAFETY: threads that free compare it with themselves, atomically.
        let owner = unsafe { AtomicPtr::from_ptr((&raw mut (*self.stack.as_ptr()).owner).cast()) };
        owner.store(thread.cast_mut(), Ordering::Relaxed);
    }

    /// With what keeps the memory that a port may still use. No thread is the owner then, so that all lock.
    fn retire(mut self, buffers: Vec<Bytes>) -> Retired {
        self.set_owner(ptr::null());
        Retired { buffers, pool: self }
    }
}

/// The first fields of a [`Stack`].
#[repr(C)]
struct Counts {
    count: u32,
    settled: u32,
}

/// # Safety
///
/// The stack and its lists were boxes, and nobody uses them any more.
unsafe fn free_stack(stack: NonNull<Stack>) {
    // SAFETY: as the caller promises; the lists have `capacity` places.
    unsafe {
        let stack = Box::from_raw(stack.as_ptr());
        for list in [stack.objects, stack.foreign] {
            drop(Box::from_raw(ptr::slice_from_raw_parts_mut(list, stack.capacity as usize)));
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: whoever has the pool has closed the port first, so nobody takes or frees.
        unsafe {
            ffi::dk_pool_free(self.mempool.as_ptr());
            free_stack(self.stack);
        }
    }
}

/// The record of an mbuf, which all of these pools have behind their header, aligned to 8.
#[inline]
fn record<T>(mbuf: NonNull<Mbuf>) -> *mut T {
    mbuf.as_ptr().wrapping_byte_add(ffi::MBUF_SIZE).cast()
}

/// Mbufs for packets to arrive in. Every record is a [`BufferMut`].
pub(crate) struct ReceivePool {
    pool: Pool,
    /// Bytes that each has.
    size: u16,
}

impl ReceivePool {
    /// # Errors
    ///
    /// What there is not enough of.
    pub(crate) fn new(
        count: u32,
        size: u16,
        socket: i32,
        reach: &Reach,
    ) -> Result<ReceivePool, &'static str> {
        let (mut buffers, mut others) = (Vec::new(), Vec::new());
        while buffers.len() < count as usize {
            let Ok(buffer) = BufferMut::with_capacity(size.into()) else {
                return Err(
                    "there are not enough buffers: raise the limit of the pool, reserve more huge pages, or \
                            ask for fewer descriptors",
                );
            };
            if reach.has(buffer.region()) { &mut buffers } else { &mut others }.push(buffer);
        }
        let pool = Pool::new(count, size, socket).ok_or("DPDK has no memory for packet buffers")?;
        for (mbuf, buffer) in pool.all.iter().zip(buffers) {
            // SAFETY: free mbufs without a record.
            unsafe { fill(*mbuf, buffer, size) };
        }
        Ok(ReceivePool { pool, size })
    }

    pub(crate) fn mempool(&self) -> *mut Mempool {
        self.pool.mempool.as_ptr()
    }

    /// How many the driver has.
    pub(crate) fn held(&self) -> usize {
        self.pool.held()
    }

    /// The bytes of a segment that has arrived, whose mbuf goes back with other memory. If the device does not reach that,
    /// the bytes are copied to it instead, which `copied` counts. `None` if there is no other memory: then the bytes are
    /// lost, and the mbuf goes back as it is.
    ///
    /// # Safety
    ///
    /// The mbuf is of this pool, was received from a driver and not given back since, and `length` bytes have arrived at
    /// `data`, in its memory.
    #[inline(always)]
    pub(crate) unsafe fn take(
        &mut self,
        mbuf: NonNull<Mbuf>,
        data: *const u8,
        length: usize,
        reach: &Reach,
        copied: &mut u64,
    ) -> Option<Buffer> {
        let fresh = BufferMut::with_capacity(self.size.into()).ok();
        let taken = fresh.map(|mut fresh| {
            if !reach.has(fresh.region()) {
                *copied += 1;
                // SAFETY: the bytes are in the mbuf's memory, as the caller promises.
                fresh.extend_from_slice(unsafe { slice::from_raw_parts(data, length) });
                return fresh.freeze();
            }
            // SAFETY: the record is a buffer, which is moved out and replaced at once; the device has filled in the bytes,
            // and those before them were zeroed when the region was mapped.
            unsafe {
                let mut buffer = record::<BufferMut>(mbuf).read();
                fill(mbuf, fresh, self.size);
                let offset = data.offset_from_unsigned(buffer.as_mut_ptr());
                debug_assert!(offset + length <= self.size.into());
                buffer.set_len(offset + length);
                buffer.advance(offset);
                buffer.freeze()
            }
        });
        self.pool.push(mbuf);
        taken
    }

    /// # Safety
    ///
    /// See [`Pool::adopt`].
    pub(crate) unsafe fn adopt(&mut self) {
        // SAFETY: as the caller promises.
        unsafe { self.pool.adopt() }
    }

    /// Lets go of the memory. If a port may still write into it, it is kept by what is returned instead, which may be
    /// dropped on any thread once the port is closed.
    pub(crate) fn retire(self, closed: bool) -> Retired {
        let buffers = self.pool.all.iter().filter_map(|mbuf| {
            // SAFETY: every record is a buffer; this is the last look at it.
            let mut buffer = unsafe { record::<BufferMut>(*mbuf).read() };
            if closed {
                return None;
            }
            // SAFETY: zeroed when it was mapped, and there is so much.
            unsafe { buffer.set_len(self.size.into()) };
            Some(buffer.freeze().into_bytes())
        });
        let buffers = buffers.collect();
        self.pool.retire(buffers)
    }
}

/// Gives an mbuf memory.
///
/// # Safety
///
/// The mbuf is one of a receive pool, nobody else uses it, and its record is nothing that is still needed.
#[inline]
unsafe fn fill(mbuf: NonNull<Mbuf>, mut buffer: BufferMut, size: u16) {
    // SAFETY: as the caller promises; the buffer has at least so many bytes and stays where it is while it is owned by
    // the record.
    unsafe {
        ffi::dk_mbuf_set_memory(mbuf.as_ptr(), buffer.as_mut_ptr().cast(), size.into());
        record::<BufferMut>(mbuf).write(buffer);
    }
}

/// Mbufs for what is sent. The record of one that is under way, or free and not settled, is a [`Buffer`].
pub(crate) struct TransmitPool {
    pool: Pool,
}

impl TransmitPool {
    /// # Errors
    ///
    /// What there is not enough of.
    pub(crate) fn new(count: u32, socket: i32) -> Result<TransmitPool, &'static str> {
        let mut pool = Pool::new(count, 0, socket).ok_or("DPDK has no memory for packet buffers")?;
        pool.stack().settled = count;
        Ok(TransmitPool { pool })
    }

    /// Lets go of what a port has sent.
    #[inline]
    pub(crate) fn settle(&mut self) {
        self.pool.take_foreign();
        loop {
            let counts = self.pool.stack();
            if counts.settled == counts.count {
                return;
            }
            // First, as the destructor is anybody's code and may unwind.
            counts.settled += 1;
            let index = counts.settled - 1;
            // SAFETY: free since it was under way, so its record is a buffer, which is looked at once.
            unsafe { record::<Buffer>(self.pool.get(index)).drop_in_place() };
        }
    }

    /// How many the driver has.
    pub(crate) fn held(&self) -> usize {
        self.pool.held()
    }

    /// How many mbufs can be taken.
    #[inline]
    pub(crate) fn available(&mut self) -> usize {
        self.pool.stack().settled as usize
    }

    /// An mbuf to send `buffer` from; everything must be settled.
    #[inline]
    pub(crate) fn take(&mut self, buffer: Buffer) -> Option<NonNull<Mbuf>> {
        let counts = self.pool.stack();
        debug_assert!(counts.settled == counts.count);
        let index = counts.count.checked_sub(1)?;
        (counts.count, counts.settled) = (index, index);
        // SAFETY: it was there a moment ago.
        let mbuf = unsafe { self.pool.get(index) };
        // SAFETY: settled, so there is nothing in the record.
        unsafe { record::<Buffer>(mbuf).write(buffer) };
        Some(mbuf)
    }

    /// Puts back an mbuf that no port has taken. Its buffer is let go of when it is settled.
    #[inline]
    pub(crate) fn put_back(&mut self, mbuf: NonNull<Mbuf>) {
        self.pool.push(mbuf);
    }

    /// # Safety
    ///
    /// See [`Pool::adopt`].
    pub(crate) unsafe fn adopt(&mut self) {
        // SAFETY: as the caller promises.
        unsafe { self.pool.adopt() }
    }

    /// Lets go of the memory. If a port may still send from it, it is kept by what is returned instead, which may be
    /// dropped on any thread once the port is closed.
    pub(crate) fn retire(mut self, closed: bool) -> Retired {
        self.settle();
        let count = self.pool.stack().count;
        // SAFETY: there are so many.
        let free: HashSet<_> = (0..count).map(|index| unsafe { self.pool.get(index) }).collect();
        let under_way = self.pool.all.iter().filter(|mbuf| !free.contains(mbuf));
        let buffers = under_way.filter_map(|mbuf| {
            // SAFETY: it was not freed, so its record is a buffer; this is the last look at it.
            let buffer = unsafe { record::<Buffer>(*mbuf).read() };
            (!closed).then(|| buffer.into_bytes())
        });
        let buffers = buffers.collect();
        self.pool.retire(buffers)
    }
}

/// What is left of a pool whose thread has gone. Dropped when the port is closed.
pub(crate) struct Retired {
    #[expect(dead_code, reason = "held for its destructor")]
    buffers: Vec<Bytes>,
    #[expect(dead_code, reason = "held for its destructor")]
    pool: Pool,
}

// SAFETY: bytes may be on any thread; the mempool and its stack are only touched by the port's driver, which frees through
// the lock of the stack, as the owner is gone for good, and by the destructor after that.
unsafe impl Send for Retired {}
