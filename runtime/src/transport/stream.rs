//! What every transport keeps about a stream socket: who waits for data and what has arrived
//! ([`Inbound`]), what is to be sent and how far that has got ([`Outbound`]). No I/O is done here.
//!
//! Methods return what is to be completed instead of completing it, because a completion may run foreign
//! code (wakers, destructors), which may call into the transport again: the caller completes when it holds
//! no borrow. Nearly always there is one waiter and one push, so the first of each is stored inline and the
//! queues behind them stay untouched.

use crate::buffer::{Buffer, Sga};
use crate::executor::Completion;
use std::collections::VecDeque;

/// The promise of a result, as far as this module needs to know.
pub(crate) trait Promise {
    /// Whether nobody waits for the result any more.
    fn is_cancelled(&self) -> bool;
}

impl<T> Promise for Completion<T> {
    #[inline(always)]
    fn is_cancelled(&self) -> bool {
        Completion::is_cancelled(self)
    }
}

/// A first-in-first-out queue that usually has no more than one element.
#[derive(Debug)]
pub(crate) struct Fifo<T> {
    /// The front; if there is none, `rest` is empty too.
    first: Option<T>,
    rest: VecDeque<T>,
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Fifo::new()
    }
}

impl<T> Fifo<T> {
    pub(crate) const fn new() -> Fifo<T> {
        Fifo { first: None, rest: VecDeque::new() }
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    #[inline(always)]
    pub(crate) fn push_back(&mut self, value: T) {
        if self.first.is_none() {
            self.first = Some(value);
        } else {
            self.rest.push_back(value);
        }
    }

    pub(crate) fn push_front(&mut self, value: T) {
        if let Some(second) = self.first.replace(value) {
            self.rest.push_front(second);
        }
    }

    #[inline(always)]
    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let front = self.first.take();
        if !self.rest.is_empty() {
            self.first = self.rest.pop_front();
        }
        front
    }

    #[inline(always)]
    pub(crate) fn front(&self) -> Option<&T> {
        self.first.as_ref()
    }

    #[inline(always)]
    pub(crate) fn front_mut(&mut self) -> Option<&mut T> {
        self.first.as_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.rest)
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        match index {
            0 => self.first.as_mut(),
            _ => self.rest.get_mut(index - 1),
        }
    }

    /// Takes out the element at `index`.
    fn remove(&mut self, index: usize) -> Option<T> {
        match index {
            0 => self.pop_front(),
            _ => self.rest.remove(index - 1),
        }
    }
}

/// Somebody who waits for data.
#[derive(Debug)]
struct Waiter<P> {
    limit: usize,
    promise: P,
}

/// The receiving half of a stream.
///
/// Data goes to the waiters in their order. A waiter that was cancelled is passed over, so data that
/// arrives for it goes to the next one, or stays unread until somebody asks.
#[derive(Debug)]
pub(crate) struct Inbound<P> {
    waiters: Fifo<Waiter<P>>,
    /// Data that arrived when nobody waited, and what was beyond a waiter's limit.
    unread: Fifo<Buffer>,
    unread_bytes: usize,
    /// Data that waiters got and did not take, by the numbers of their operations: before all that is unread.
    given_back: VecDeque<(u32, Buffer)>,
    /// No data will come after what is unread.
    ended: bool,
}

impl<P: Promise> Inbound<P> {
    pub(crate) const fn new() -> Inbound<P> {
        Inbound {
            waiters: Fifo::new(),
            unread: Fifo::new(),
            unread_bytes: 0,
            given_back: VecDeque::new(),
            ended: false,
        }
    }

    /// Somebody asks for up to `limit` bytes; gets at once what is there already.
    #[inline]
    #[must_use]
    pub(crate) fn pop(&mut self, limit: usize, promise: P) -> Option<(P, Buffer)> {
        // A pop of nothing would look like the end of the stream to whoever gets it.
        self.waiters.push_back(Waiter { limit: limit.max(1), promise });
        self.serve()
    }

    /// Data has come; who gets it, if somebody waits. There may then be more to [`serve`](Self::serve).
    #[inline]
    #[must_use]
    pub(crate) fn arrived(&mut self, mut data: Buffer) -> Option<(P, Buffer)> {
        debug_assert!(!data.is_empty());
        if !self.has_unread()
            && let Some(waiter) = self.next_waiter()
        {
            if data.len() > waiter.limit {
                let rest = data.split_off(waiter.limit);
                self.keep(rest);
            }
            return Some((waiter.promise, data));
        }
        self.keep(data);
        None
    }

    /// Data that a waiter got and did not take comes back to its place in the stream. Waiters can then be
    /// [served](Self::serve).
    pub(crate) fn give_back(&mut self, number: u32, data: Buffer) {
        self.unread_bytes += data.len();
        insert_by_number(&mut self.given_back, number, data);
    }

    /// The stream has ended. Every waiter is then [served](Self::serve) with an empty buffer.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// The next waiter that can be served, and what it gets.
    #[inline]
    #[must_use]
    pub(crate) fn serve(&mut self) -> Option<(P, Buffer)> {
        if !self.has_unread() && !self.ended {
            return None;
        }
        let waiter = self.next_waiter()?;
        Some((waiter.promise, self.take(waiter.limit)))
    }

    /// The waiter to which an error goes. Those behind it are not affected: the next receive tells how it
    /// is with them.
    #[must_use]
    pub(crate) fn fail(&mut self) -> Option<P> {
        self.next_waiter().map(|waiter| waiter.promise)
    }

    /// How much the first waiter wants, if data has to be received for it.
    #[inline]
    #[must_use]
    pub(crate) fn wanted(&mut self) -> Option<usize> {
        if self.has_unread() || self.ended {
            return None;
        }
        while let Some(waiter) = self.waiters.front() {
            if !waiter.promise.is_cancelled() {
                return Some(waiter.limit);
            }
            drop(self.waiters.pop_front());
        }
        None
    }

    /// Whether anybody may be waiting.
    #[inline]
    pub(crate) fn is_awaited(&self) -> bool {
        !self.waiters.is_empty()
    }

    /// Bytes that have arrived and that nobody has taken.
    pub(crate) fn unread_bytes(&self) -> usize {
        self.unread_bytes
    }

    #[inline]
    fn next_waiter(&mut self) -> Option<Waiter<P>> {
        loop {
            let waiter = self.waiters.pop_front()?;
            if !waiter.promise.is_cancelled() {
                return Some(waiter);
            }
        }
    }

    fn keep(&mut self, data: Buffer) {
        self.unread_bytes += data.len();
        self.unread.push_back(data);
    }

    #[inline]
    fn has_unread(&self) -> bool {
        !self.unread.is_empty() || !self.given_back.is_empty()
    }

    fn take(&mut self, limit: usize) -> Buffer {
        if let Some((_, front)) = self.given_back.front_mut() {
            let data = front.split_to(limit.min(front.len()));
            if front.is_empty() {
                self.given_back.pop_front();
            }
            self.unread_bytes -= data.len();
            return data;
        }
        let Some(front) = self.unread.front_mut() else { return Buffer::new() };
        let data = if front.len() > limit { Some(front.split_to(limit)) } else { self.unread.pop_front() };
        let data = data.unwrap_or_default();
        self.unread_bytes -= data.len();
        data
    }
}

/// Inserts what an operation got into a queue that is sorted by the numbers of operations, which wrap around.
pub(crate) fn insert_by_number<T>(queue: &mut VecDeque<(u32, T)>, number: u32, value: T) {
    let later = |other: u32| other.wrapping_sub(number) as i32 > 0;
    let place = queue.iter().position(|(other, _)| later(*other)).unwrap_or(queue.len());
    queue.insert(place, (number, value));
}

/// Something to be sent.
#[derive(Debug)]
struct Push<P> {
    data: Sga,
    /// Bytes of `data`, which has only what was not sent yet.
    left: usize,
    number: u32,
    /// Its token was dropped while the device had it: it is given up if the device turns out to have sent
    /// nothing of it.
    unwanted: bool,
    promise: P,
}

/// What is to happen when a push is cancelled.
#[derive(Debug)]
pub(crate) enum Cancelled {
    /// It is out of the queue; its data is to be dropped when no borrow is held.
    Removed(Sga),
    /// The device has it: it should be asked to give it back.
    WithDevice,
    /// Some of it was sent, or it is not there any more: nothing is to be done.
    Kept,
}

/// The sending half of a stream.
///
/// Pushes are sent in their order. The device takes some of them at once ([`gather`](Self::gather)), then
/// says how many bytes it has sent of those ([`sent`](Self::sent)) and completes what is
/// [finished](Self::finished). A push whose token is dropped is taken back unless some of it has been sent:
/// a stream is never cut in the middle of a push.
#[derive(Debug)]
pub(crate) struct Outbound<P> {
    queue: Fifo<Push<P>>,
    /// How many pushes at the front the device has.
    with_device: usize,
    /// The front is the rest of a push of which some was sent.
    started: bool,
    /// There are pushes whose tokens were dropped while the device had them.
    unwanted: bool,
    /// Bytes sent that were not accounted to a push yet.
    credit: usize,
    /// Bytes in the queue.
    bytes: usize,
    next_number: u32,
}

impl<P> Outbound<P> {
    pub(crate) const fn new() -> Outbound<P> {
        Outbound {
            queue: Fifo::new(),
            with_device: 0,
            started: false,
            unwanted: false,
            credit: 0,
            bytes: 0,
            next_number: 0,
        }
    }

    /// Queues data; the number is for [`cancel`](Self::cancel).
    #[inline]
    pub(crate) fn push(&mut self, data: Sga, promise: P) -> u32 {
        let number = self.next_number;
        self.next_number = (number + 1) & Self::NUMBERS;
        let left = data.len();
        self.bytes += left;
        self.queue.push_back(Push { data, left, number, unwanted: false, promise });
        number
    }

    /// Numbers of pushes fit in these bits.
    pub(crate) const NUMBERS: u32 = 0x00ff_ffff;

    /// The number that the next push gets.
    #[inline]
    pub(crate) fn next_number(&self) -> u32 {
        self.next_number
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that have not been sent, as far as is known.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// If all there is to send is one piece of memory: gives it to the device.
    #[inline]
    pub(crate) fn take_single(&mut self) -> Option<&[u8]> {
        debug_assert_eq!(self.with_device, 0);
        let Some(push) = &self.queue.first else { return None };
        if !self.queue.rest.is_empty() {
            return None;
        }
        if push.data.segments() != 1 {
            return None;
        }
        let single = push.data.first()?;
        self.with_device = 1;
        Some(single)
    }

    /// Another handle on what [`take_single`](Self::take_single) gave, for a device that uses the memory
    /// for longer.
    pub(crate) fn share_front(&self) -> Option<Sga> {
        self.queue.front().map(|push| push.data.clone())
    }

    /// Gives as much to the device as `pieces` can describe, in order; returns how many it has filled. The
    /// memory stays in place until [`sent`](Self::sent), however the queue changes.
    pub(crate) fn gather(&mut self, pieces: &mut [libc::iovec]) -> usize {
        debug_assert_eq!(self.with_device, 0);
        let mut filled = 0;
        let mut covered = 0;
        'pushes: for (index, push) in self.queue.iter().enumerate() {
            for segment in push.data.iter().filter(|segment| !segment.is_empty()) {
                let Some(piece) = pieces.get_mut(filled) else { break 'pushes };
                piece.iov_base = segment.as_ptr().cast_mut().cast();
                piece.iov_len = segment.len();
                filled += 1;
                covered = index + 1;
            }
        }
        self.with_device = covered;
        filled
    }

    /// The device has sent so many bytes of what it took, and gives the rest back.
    #[inline]
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.with_device = 0;
        self.credit += bytes;
        self.bytes -= bytes;
    }

    /// The next push that is over: all of it was sent, or it was cancelled before any of it was.
    #[inline]
    #[must_use]
    pub(crate) fn finished(&mut self) -> Option<(P, Sga)> {
        if self.with_device != 0 {
            return None;
        }
        let front = self.queue.front_mut()?;
        if front.left <= self.credit {
            self.credit -= front.left;
            self.started = false;
            return self.queue.pop_front().map(|push| (push.promise, push.data));
        }
        if self.credit > 0 {
            front.data.advance(self.credit);
            front.left -= self.credit;
            self.credit = 0;
            self.started = true;
        }
        if self.unwanted { self.next_unwanted() } else { None }
    }

    /// A push that was cancelled while the device had it, and of which nothing was sent.
    #[cold]
    fn next_unwanted(&mut self) -> Option<(P, Sga)> {
        let begun = usize::from(self.started);
        let index = self.queue.iter().skip(begun).position(|push| push.unwanted);
        let push = index.and_then(|index| self.queue.remove(begun + index));
        self.unwanted = push.is_some();
        let push = push?;
        self.bytes -= push.left;
        Some((push.promise, push.data))
    }

    /// The device can send no more: the next push that ends with an error.
    #[must_use]
    pub(crate) fn fail(&mut self) -> Option<(P, Sga)> {
        self.with_device = 0;
        self.started = false;
        self.credit = 0;
        let push = self.queue.pop_front()?;
        self.bytes -= push.left;
        Some((push.promise, push.data))
    }

    /// The token of a push was dropped.
    #[must_use]
    pub(crate) fn cancel(&mut self, number: u32) -> Cancelled {
        let Some(index) = self.queue.iter().position(|push| push.number == number) else {
            return Cancelled::Kept;
        };
        if index == 0 && self.started {
            return Cancelled::Kept;
        }
        if index < self.with_device {
            if let Some(push) = self.queue.get_mut(index) {
                push.unwanted = true;
                self.unwanted = true;
            }
            return Cancelled::WithDevice;
        }
        match self.queue.remove(index) {
            Some(push) => {
                self.bytes -= push.left;
                Cancelled::Removed(push.data)
            }
            None => Cancelled::Kept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    /// A promise with a name.
    #[derive(Clone, Debug)]
    struct Asked(&'static str, Rc<Cell<bool>>);

    fn asked(name: &'static str) -> Asked {
        Asked(name, Rc::new(Cell::new(false)))
    }

    impl Promise for Asked {
        fn is_cancelled(&self) -> bool {
            self.1.get()
        }
    }

    fn got(served: Option<(Asked, Buffer)>) -> Option<(&'static str, Vec<u8>)> {
        served.map(|(promise, data)| (promise.0, data.to_vec()))
    }

    fn data(bytes: &'static [u8]) -> Buffer {
        Buffer::from_static(bytes)
    }

    #[test]
    fn data_goes_to_waiters_in_order() {
        let mut inbound = Inbound::new();
        assert_eq!(inbound.wanted(), None);
        for name in ["a", "b", "c"] {
            assert!(inbound.pop(100, asked(name)).is_none());
        }
        assert_eq!(inbound.wanted(), Some(100));
        assert_eq!(got(inbound.arrived(data(b"1"))), Some(("a", b"1".to_vec())));
        assert_eq!(got(inbound.arrived(data(b"2"))), Some(("b", b"2".to_vec())));
        assert!(inbound.is_awaited());
        assert_eq!(got(inbound.arrived(data(b"3"))), Some(("c", b"3".to_vec())));
        assert!(inbound.arrived(data(b"4")).is_none());
        assert_eq!((inbound.unread_bytes(), inbound.wanted()), (1, None));
        assert_eq!(got(inbound.pop(100, asked("d"))), Some(("d", b"4".to_vec())));
    }

    #[test]
    fn a_limit_splits_data_and_the_next_waiter_gets_the_rest() {
        let mut inbound = Inbound::new();
        assert!(inbound.pop(2, asked("a")).is_none());
        assert!(inbound.pop(3, asked("b")).is_none());
        assert_eq!(got(inbound.arrived(data(b"abcdefg"))), Some(("a", b"ab".to_vec())));
        assert_eq!(got(inbound.serve()), Some(("b", b"cde".to_vec())));
        assert!(inbound.serve().is_none());
        assert_eq!(inbound.unread_bytes(), 2);
        assert_eq!(got(inbound.pop(0, asked("c"))), Some(("c", b"f".to_vec())), "a limit of 0 is one of 1");
        assert_eq!(got(inbound.pop(9, asked("d"))), Some(("d", b"g".to_vec())));
        assert_eq!(inbound.unread_bytes(), 0);
    }

    #[test]
    fn cancelled_waiters_lose_nothing() {
        let mut inbound = Inbound::new();
        let (a, b) = (asked("a"), asked("b"));
        assert!(inbound.pop(9, a.clone()).is_none());
        assert!(inbound.pop(7, b.clone()).is_none());
        a.1.set(true);
        assert_eq!(inbound.wanted(), Some(7));
        b.1.set(true);
        assert_eq!(inbound.wanted(), None);
        assert!(inbound.arrived(data(b"late")).is_none());
        assert_eq!(got(inbound.pop(9, asked("c"))), Some(("c", b"late".to_vec())));
    }

    #[test]
    fn the_end_comes_after_the_data_and_stays() {
        let mut inbound = Inbound::new();
        assert!(inbound.arrived(data(b"x")).is_none());
        inbound.end();
        assert_eq!(got(inbound.pop(9, asked("a"))), Some(("a", b"x".to_vec())));
        assert_eq!(got(inbound.pop(9, asked("b"))), Some(("b", vec![])));
        assert_eq!(got(inbound.pop(9, asked("c"))), Some(("c", vec![])));
        assert_eq!(inbound.wanted(), None);
    }

    #[test]
    fn an_error_goes_to_one_waiter() {
        let mut inbound = Inbound::new();
        for name in ["a", "b"] {
            assert!(inbound.pop(9, asked(name)).is_none());
        }
        assert_eq!(inbound.fail().map(|promise| promise.0), Some("a"));
        assert_eq!(inbound.wanted(), Some(9));
    }

    /// What the device gets, as one text.
    fn gathered(outbound: &mut Outbound<&'static str>, pieces: usize) -> Vec<u8> {
        let mut list = vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; pieces];
        let filled = outbound.gather(&mut list);
        let mut text = Vec::new();
        for piece in &list[..filled] {
            // SAFETY: the memory belongs to pushes in the queue, which stay until `sent`.
            text.extend_from_slice(unsafe {
                std::slice::from_raw_parts(piece.iov_base.cast_const().cast::<u8>(), piece.iov_len)
            });
        }
        text
    }

    fn finished(outbound: &mut Outbound<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| outbound.finished()).map(|(promise, _)| promise).collect()
    }

    #[test]
    fn pushes_are_gathered_and_finish_in_order() {
        let mut outbound = Outbound::new();
        outbound.push(data(b"abc").into(), "a");
        assert_eq!(outbound.take_single().map(<[u8]>::to_vec), Some(b"abc".to_vec()));
        outbound.push(data(b"de").into(), "b");
        outbound.push(Sga::new(), "nothing");
        outbound.push(data(b"f").into(), "c");
        assert_eq!(finished(&mut outbound), [""; 0], "the device has not said anything");
        outbound.sent(3);
        assert_eq!(finished(&mut outbound), ["a"]);
        assert!(outbound.take_single().is_none(), "there is more than one piece");
        assert_eq!(gathered(&mut outbound, 1), b"de");
        outbound.sent(1);
        assert_eq!(finished(&mut outbound), [""; 0]);
        assert_eq!(outbound.bytes(), 2);
        assert_eq!(gathered(&mut outbound, 8), b"ef");
        outbound.sent(2);
        assert_eq!(finished(&mut outbound), ["b", "nothing", "c"]);
        assert!(outbound.is_empty());
        assert_eq!(outbound.bytes(), 0);
    }

    #[test]
    fn a_push_is_taken_back_unless_some_of_it_was_sent() {
        let mut outbound = Outbound::new();
        let a = outbound.push(data(b"aaaa").into(), "a");
        let b = outbound.push(data(b"bbbb").into(), "b");
        let c = outbound.push(data(b"cccc").into(), "c");
        assert!(matches!(outbound.cancel(b), Cancelled::Removed(data) if data.len() == 4));
        assert_eq!(gathered(&mut outbound, 8), b"aaaacccc");
        let d = outbound.push(data(b"dddd").into(), "d");
        assert!(matches!(outbound.cancel(a), Cancelled::WithDevice));
        assert!(matches!(outbound.cancel(c), Cancelled::WithDevice));
        assert!(matches!(outbound.cancel(d), Cancelled::Removed(_)));
        outbound.sent(1);
        assert_eq!(finished(&mut outbound), ["c"], "a stream is not cut in the middle of a push");
        assert!(matches!(outbound.cancel(a), Cancelled::Kept));
        assert_eq!(gathered(&mut outbound, 8), b"aaa");
        outbound.sent(3);
        assert_eq!(finished(&mut outbound), ["a"]);
        assert!(outbound.is_empty());
        assert_eq!(outbound.bytes(), 0);
        assert!(matches!(outbound.cancel(c), Cancelled::Kept));
    }

    #[test]
    fn an_error_ends_every_push() {
        let mut outbound = Outbound::new();
        outbound.push(data(b"ab").into(), "a");
        outbound.push(data(b"c").into(), "b");
        assert_eq!(gathered(&mut outbound, 8), b"abc");
        outbound.sent(1);
        assert_eq!(finished(&mut outbound), [""; 0]);
        let failed: Vec<_> = std::iter::from_fn(|| outbound.fail()).map(|(promise, _)| promise).collect();
        assert_eq!(failed, ["a", "b"]);
        assert_eq!((outbound.is_empty(), outbound.bytes()), (true, 0));
    }
}
