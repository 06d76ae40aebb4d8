//! What is under way: work requests with their buffers, by queue.
//!
//! A device of a thread has one table for all its queues, so that a queue on which nothing is under way takes no memory
//! for it. The number that a device is given with a request (`wr_id`) is the index of its entry and the entry's
//! generation: what a device says of an entry that has been given to another request since is not believed.
//!
//! The send queue of a queue pair, and its receive queue, are lists in the order in which they were posted, which is that
//! of their completion. Receives of a shared queue complete in any order, and are in no list.

use std::mem;

use demikernel_runtime::buffer::{Buffer, BufferMut, Sga};

use super::address::AddressHandle;

/// No entry, or no queue.
const NONE: u32 = u32::MAX;

/// What a request keeps until it is completed.
pub(super) enum Held {
    /// The entry is free.
    Free,
    /// Nothing: the device has taken the bytes along.
    Inline,
    /// What is sent, or written to the peer.
    Gather(Sga),
    /// What is sent behind a header, and that.
    Behind(Buffer, Sga),
    /// What is sent to an address, which is kept as well.
    Datagram(Sga, AddressHandle),
    /// Where the peer's memory is read to: as many bytes.
    Read(BufferMut, u32),
    /// Where the former value of the peer's memory is put.
    Fetch(BufferMut),
    /// Where a message is received.
    Receive(BufferMut),
}

struct Entry {
    generation: u32,
    /// The entry that was posted after this on the same queue, or the next free one.
    next: u32,
    queue: u32,
    token: u64,
    held: Held,
}

/// Entries in order.
#[derive(Clone, Copy)]
struct List {
    first: u32,
    last: u32,
    len: u32,
}

impl List {
    const EMPTY: List = List { first: NONE, last: NONE, len: 0 };
}

/// A queue pair, or a shared receive queue.
struct Queue {
    tag: u64,
    /// A queue pair's.
    sends: List,
    /// Of a shared queue only the length.
    receives: List,
    /// The next free one, if this is free.
    next_free: u32,
    shared: bool,
    datagrams: bool,
}

/// Which list of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// Its sends.
    Send,
    /// Its receives.
    Receive,
}

/// A request that has been completed.
pub(super) struct Done {
    pub(super) tag: u64,
    pub(super) token: u64,
    pub(super) held: Held,
    /// Whether it was of a queue pair of datagrams.
    pub(super) datagrams: bool,
}

/// What the number of a completion leads to.
pub(super) enum Found {
    /// Nothing that is under way: it was of a queue that is gone.
    Stale,
    /// One that was posted before it, and is done too. To be called again, after all those
    /// [before it](WorkTable::earlier).
    Earlier(Held),
    /// It. A receive of a queue pair that is gone has no queue.
    It(Done),
    /// A receive that a queue pair had taken which is gone.
    Orphan(Held),
}

/// See the module.
pub(super) struct WorkTable {
    entries: Vec<Entry>,
    free: u32,
    queues: Vec<Queue>,
    free_queue: u32,
    numbers: Numbers,
}

impl WorkTable {
    pub(super) fn new() -> WorkTable {
        WorkTable {
            entries: Vec::new(),
            free: NONE,
            queues: Vec::new(),
            free_queue: NONE,
            numbers: Numbers { pages: Vec::new() },
        }
    }

    /// A place for a queue: a shared one, or a queue pair by its number.
    pub(super) fn add_queue(&mut self, tag: u64, number: Option<u32>, datagrams: bool) -> u32 {
        let queue = Queue {
            tag,
            sends: List::EMPTY,
            receives: List::EMPTY,
            next_free: NONE,
            shared: number.is_none(),
            datagrams,
        };
        let slot = match self.free_queue {
            NONE => {
                self.queues.push(queue);
                index(self.queues.len() - 1)
            }
            slot => {
                self.free_queue = self.queues[slot as usize].next_free;
                self.queues[slot as usize] = queue;
                slot
            }
        };
        if let Some(number) = number {
            self.numbers.set(number, slot);
        }
        slot
    }

    /// Gives up the place of a queue that has nothing under way any more.
    pub(super) fn remove_queue(&mut self, slot: u32, number: Option<u32>) {
        if let Some(number) = number {
            self.numbers.set(number, NONE);
        }
        let queue = &mut self.queues[slot as usize];
        debug_assert!(queue.sends.len == 0 && queue.receives.len == 0);
        queue.next_free = self.free_queue;
        self.free_queue = slot;
    }

    /// How many are under way.
    #[inline]
    pub(super) fn count(&self, slot: u32, side: Side) -> u32 {
        let queue = &self.queues[slot as usize];
        match side {
            Side::Send => queue.sends.len,
            Side::Receive => queue.receives.len,
        }
    }

    pub(super) fn tag(&self, slot: u32) -> u64 {
        self.queues[slot as usize].tag
    }

    pub(super) fn set_tag(&mut self, slot: u32, tag: u64) {
        self.queues[slot as usize].tag = tag;
    }

    /// The tag of a queue pair that is there, by its number.
    pub(super) fn tag_of_number(&self, number: u32) -> Option<u64> {
        self.numbers.get(number).map(|slot| self.tag(slot))
    }

    /// The number for a request that is about to be posted, unless as many are under way as may be.
    #[inline]
    pub(super) fn reserve_below(&mut self, slot: u32, side: Side, limit: u32) -> Option<u64> {
        if self.count(slot, side) >= limit { None } else { Some(self.reserve()) }
    }

    /// The number for a request that is about to be posted. Nothing is under way until it is
    /// [begun](WorkTable::begin).
    #[inline]
    pub(super) fn reserve(&mut self) -> u64 {
        if self.free == NONE {
            self.grow();
        }
        let entry = &self.entries[self.free as usize];
        u64::from(entry.generation) << 32 | u64::from(self.free)
    }

    #[cold]
    fn grow(&mut self) {
        let entry = Entry { generation: 0, next: NONE, queue: NONE, token: 0, held: Held::Free };
        self.free = index(self.entries.len());
        self.entries.push(entry);
    }

    /// The request whose number was reserved last has been posted.
    #[inline]
    pub(super) fn begin(&mut self, slot: u32, side: Side, token: u64, held: Held) {
        let number = self.free;
        let entry = &mut self.entries[number as usize];
        self.free = entry.next;
        (entry.next, entry.queue, entry.token) = (NONE, slot, token);
        // Free until now: there is nothing to drop, which the compiler does not know.
        mem::forget(mem::replace(&mut entry.held, held));
        let queue = &mut self.queues[slot as usize];
        let list = match side {
            Side::Send => &mut queue.sends,
            Side::Receive => &mut queue.receives,
        };
        list.len += 1;
        if queue.shared {
            return;
        }
        let last = mem::replace(&mut list.last, number);
        match last {
            NONE => list.first = number,
            last => self.entries[last as usize].next = number,
        }
    }

    /// What a completion is of, which says `id` and the number of the queue pair.
    #[inline(always)]
    pub(super) fn complete(&mut self, id: u64, number: u32) -> Found {
        let (at, generation) = (id as u32, (id >> 32) as u32);
        let Some(entry) = self.entries.get(at as usize) else { return Found::Stale };
        if entry.generation != generation || matches!(entry.held, Held::Free) {
            return Found::Stale;
        }
        let slot = entry.queue;
        if self.queues[slot as usize].shared {
            return self.complete_shared(at, slot, number);
        }
        let side = if matches!(entry.held, Held::Receive(_)) { Side::Receive } else { Side::Send };
        let queue = &self.queues[slot as usize];
        let (tag, datagrams) = (queue.tag, queue.datagrams);
        loop {
            let queue = &self.queues[slot as usize];
            let first = if side == Side::Send { queue.sends.first } else { queue.receives.first };
            let (token, held) = self.take_first(slot, side);
            if first == at {
                return Found::It(Done { tag, token, held, datagrams });
            }
            if !matches!(held, Held::Inline) {
                return Found::Earlier(held);
            }
            // Nothing that the caller would have to let go of.
            mem::forget(held);
        }
    }

    /// What one holds that was posted before the send of this number, of which [`complete`](WorkTable::complete) has told
    /// that there may be some; none when there is none left.
    #[inline(always)]
    pub(super) fn earlier(&mut self, id: u64) -> Option<Held> {
        let (at, generation) = (id as u32, (id >> 32) as u32);
        let entry = self.entries.get(at as usize)?;
        // What was let go of since may have been anybody's, and have dropped the queue pair.
        if entry.generation != generation || matches!(entry.held, Held::Free | Held::Receive(_)) {
            return None;
        }
        let slot = entry.queue;
        while self.queues[slot as usize].sends.first != at {
            let held = self.take_first(slot, Side::Send).1;
            if !matches!(held, Held::Inline) {
                return Some(held);
            }
            mem::forget(held);
        }
        None
    }

    #[inline(always)]
    fn complete_shared(&mut self, at: u32, slot: u32, number: u32) -> Found {
        self.queues[slot as usize].receives.len -= 1;
        let (token, held) = self.release(at);
        match self.numbers.get(number) {
            Some(owner) => {
                let owner = &self.queues[owner as usize];
                Found::It(Done { tag: owner.tag, token, held, datagrams: owner.datagrams })
            }
            None => Found::Orphan(held),
        }
    }

    /// A request of a shared queue that was begun has not been taken.
    #[cold]
    pub(super) fn cancel(&mut self, id: u64) -> Held {
        let at = id as u32;
        let queue = &mut self.queues[self.entries[at as usize].queue as usize];
        debug_assert!(queue.shared);
        queue.receives.len -= 1;
        self.release(at).1
    }

    /// Takes one of what is under way on a queue that is no more, if anything is.
    pub(super) fn drain(&mut self, slot: u32) -> Option<Held> {
        let queue = &self.queues[slot as usize];
        if queue.sends.len > 0 {
            return Some(self.take_first(slot, Side::Send).1);
        }
        if queue.receives.len == 0 {
            return None;
        }
        if !queue.shared {
            return Some(self.take_first(slot, Side::Receive).1);
        }
        let of_it = |entry: &Entry| entry.queue == slot && !matches!(entry.held, Held::Free);
        let at = self.entries.iter().position(of_it)?;
        self.queues[slot as usize].receives.len -= 1;
        Some(self.release(index(at)).1)
    }

    /// Of a list that is not empty.
    #[inline(always)]
    fn take_first(&mut self, slot: u32, side: Side) -> (u64, Held) {
        let queue = &mut self.queues[slot as usize];
        let list = if side == Side::Send { &mut queue.sends } else { &mut queue.receives };
        let at = list.first;
        list.first = self.entries[at as usize].next;
        list.len -= 1;
        if list.first == NONE {
            list.last = NONE;
        }
        self.release(at)
    }

    #[inline(always)]
    fn release(&mut self, at: u32) -> (u64, Held) {
        let entry = &mut self.entries[at as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = self.free;
        self.free = at;
        (entry.token, mem::replace(&mut entry.held, Held::Free))
    }
}

fn index(at: usize) -> u32 {
    // There are as many requests under way as devices allow, and those count with 32 bits.
    u32::try_from(at).ok().filter(|at| *at != NONE).expect("fewer requests than 32 bits count")
}

/// Which queue has the number of a queue pair: an index for 24 bits, in pages of which there are as many as needed.
struct Numbers {
    pages: Vec<Option<Box<[u32; PAGE]>>>,
}

const PAGE: usize = 1024;

impl Numbers {
    #[inline(always)]
    fn get(&self, number: u32) -> Option<u32> {
        let page = self.pages.get(number as usize / PAGE)?.as_ref()?;
        Some(page[number as usize % PAGE]).filter(|slot| *slot != NONE)
    }

    fn set(&mut self, number: u32, slot: u32) {
        let at = number as usize / PAGE;
        if at >= self.pages.len() {
            self.pages.resize_with(at + 1, || None);
        }
        let page = self.pages[at].get_or_insert_with(|| Box::new([NONE; PAGE]));
        page[number as usize % PAGE] = slot;
        if slot == NONE && page.iter().all(|slot| *slot == NONE) {
            self.pages[at] = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(table: &mut WorkTable, slot: u32, side: Side, token: u64) -> u64 {
        let id = table.reserve();
        let held = match side {
            Side::Send if token == 1 => Held::Gather(Sga::new()),
            Side::Send => Held::Inline,
            Side::Receive => Held::Receive(BufferMut::with_capacity(16).unwrap()),
        };
        table.begin(slot, side, token, held);
        id
    }

    fn done(found: Found) -> (u64, u64) {
        match found {
            Found::It(done) => (done.tag, done.token),
            Found::Earlier(_) => panic!("there is an earlier one"),
            Found::Stale | Found::Orphan(_) => panic!("it is not known"),
        }
    }

    #[test]
    fn a_signalled_send_brings_back_those_before_it_in_their_order() {
        let mut table = WorkTable::new();
        let slot = table.add_queue(7, Some(17), false);
        let ids: Vec<_> = (0..4).map(|token| post(&mut table, slot, Side::Send, token)).collect();
        assert_eq!(table.count(slot, Side::Send), 4);
        assert!(matches!(table.complete(ids[2], 17), Found::Earlier(Held::Gather(_))));
        assert_eq!(done(table.complete(ids[2], 17)), (7, 2), "what was inline needs no letting go");
        assert_eq!(done(table.complete(ids[3], 17)), (7, 3));
        assert_eq!(table.count(slot, Side::Send), 0);
    }

    #[test]
    fn what_is_said_of_a_request_that_is_gone_is_not_believed() {
        let mut table = WorkTable::new();
        let slot = table.add_queue(1, Some(17), false);
        let old = post(&mut table, slot, Side::Send, 1);
        done(table.complete(old, 17));
        assert!(matches!(table.complete(old, 17), Found::Stale));
        let new = post(&mut table, slot, Side::Send, 2);
        assert_eq!(old as u32, new as u32, "the entry is used again");
        assert!(matches!(table.complete(old, 17), Found::Stale));
        assert!(matches!(table.complete(u64::MAX, 17), Found::Stale));
        assert_eq!(done(table.complete(new, 17)), (1, 2));
    }

    #[test]
    fn receives_of_a_shared_queue_complete_in_any_order_and_belong_to_who_took_them() {
        let mut table = WorkTable::new();
        let shared = table.add_queue(0, None, false);
        let (one, two) = (table.add_queue(1, Some(0x10_0001), false), table.add_queue(2, Some(3), true));
        let ids: Vec<_> = (0..3).map(|token| post(&mut table, shared, Side::Receive, token)).collect();
        assert_eq!(done(table.complete(ids[1], 3)), (2, 1));
        assert_eq!(done(table.complete(ids[0], 0x10_0001)), (1, 0));
        assert_eq!(table.count(shared, Side::Receive), 1);
        table.remove_queue(one, Some(0x10_0001));
        assert!(matches!(table.complete(ids[2], 0x10_0001), Found::Orphan(Held::Receive(_))));
        assert_eq!(table.count(shared, Side::Receive), 0);
        table.remove_queue(two, Some(3));
        assert!(table.numbers.pages.iter().all(Option::is_none), "pages that nobody needs are given up");
    }

    #[test]
    fn those_before_a_send_are_told_until_there_is_none_or_it_is_gone() {
        let mut table = WorkTable::new();
        let slot = table.add_queue(7, Some(17), false);
        let ids: Vec<_> = [1, 0, 1, 0, 1].map(|token| post(&mut table, slot, Side::Send, token)).into();
        assert!(matches!(table.complete(ids[3], 17), Found::Earlier(Held::Gather(_))));
        assert!(matches!(table.earlier(ids[3]), Some(Held::Gather(_))));
        assert!(table.earlier(ids[3]).is_none(), "it is the first");
        assert_eq!(done(table.complete(ids[3], 17)), (7, 0));
        assert!(table.earlier(ids[3]).is_none(), "it is gone");
        assert_eq!(table.count(slot, Side::Send), 1, "what was posted later stays");
        let receive = post(&mut table, slot, Side::Receive, 0);
        assert!(table.earlier(receive).is_none() && table.earlier(u64::MAX).is_none());
    }

    #[test]
    fn a_queue_that_is_no_more_gives_back_all_it_had() {
        let mut table = WorkTable::new();
        let shared = table.add_queue(0, None, false);
        let pair = table.add_queue(1, Some(5), false);
        for token in 0..3 {
            post(&mut table, shared, Side::Receive, token);
            post(&mut table, pair, Side::Receive, token);
            post(&mut table, pair, Side::Send, token);
        }
        let mut count = |slot| std::iter::from_fn(|| table.drain(slot)).count();
        assert_eq!((count(pair), count(shared)), (6, 3));
        table.remove_queue(pair, Some(5));
        assert_eq!(table.add_queue(9, Some(6), false), pair, "the place is used again");
        assert_eq!(table.entries.len(), 9);
        table.reserve();
        assert_eq!(table.entries.len(), 9, "and so are the entries");
    }
}
