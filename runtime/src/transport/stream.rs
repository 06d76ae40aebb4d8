//! What every transport keeps about a stream socket: who waits for data and what has arrived
//! (`Inbound`), what is to be sent and how far that has got (`Outbound`). No I/O is done here. What is public
//! serves those who write transports elsewhere.
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

    /// Its number, in the order in which promises were made.
    fn number(&self) -> u32;
}

impl<T> Promise for Completion<T> {
    #[inline(always)]
    fn is_cancelled(&self) -> bool {
        Completion::is_cancelled(self)
    }

    #[inline(always)]
    fn number(&self) -> u32 {
        Completion::number(self)
    }
}

/// A first-in-first-out queue that usually has no more than one element, which is stored inline: for those who
/// write transports.
#[derive(Debug)]
pub struct Fifo<T> {
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
    /// Nothing.
    pub const fn new() -> Fifo<T> {
        Fifo { first: None, rest: VecDeque::new() }
    }

    /// Whether there is nothing.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    /// Adds one behind all others.
    #[inline(always)]
    pub fn push_back(&mut self, value: T) {
        if self.first.is_none() {
            self.first = Some(value);
        } else {
            self.rest.push_back(value);
        }
    }

    /// Adds one before all others.
    pub fn push_front(&mut self, value: T) {
        if let Some(second) = self.first.replace(value) {
            self.rest.push_front(second);
        }
    }

    /// Takes out the first.
    #[inline(always)]
    pub fn pop_front(&mut self) -> Option<T> {
        let front = self.first.take();
        if !self.rest.is_empty() {
            self.first = self.rest.pop_front();
        }
        front
    }

    /// The first.
    #[inline(always)]
    pub fn front(&self) -> Option<&T> {
        self.first.as_ref()
    }

    /// The first.
    #[inline(always)]
    pub fn front_mut(&mut self) -> Option<&mut T> {
        self.first.as_mut()
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.rest)
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        match index {
            0 => self.first.as_mut(),
            _ => self.rest.get_mut(index - 1),
        }
    }

    /// Takes out the element at `index`, if there are so many.
    pub fn remove(&mut self, index: usize) -> Option<T> {
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
        let data = self.take(&waiter);
        Some((waiter.promise, data))
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

    fn take(&mut self, waiter: &Waiter<P>) -> Buffer {
        let limit = waiter.limit;
        if let Some((_, front)) = self.given_back.front_mut() {
            let data = front.split_to(limit.min(front.len()));
            if front.is_empty() {
                self.given_back.pop_front();
            }
            number_behind(&mut self.given_back, waiter.promise.number());
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

/// Inserts what an operation got into a queue that is sorted by the numbers of operations, which wrap around:
/// for [`Device::give_back`](super::Device::give_back), whose number it is.
pub fn insert_by_number<T>(queue: &mut VecDeque<(u32, T)>, number: u32, value: T) {
    let earlier = |other: u32| (other.wrapping_sub(number) as i32) < 0;
    let place = queue.iter().position(|(other, _)| !earlier(*other)).unwrap_or(queue.len());
    queue.insert(place, (number, value));
}

/// The operation of this number got the front of the queue: what is left comes behind that, whichever
/// operation had it before, so that it stays there if the front is given back once more.
pub fn number_behind<T>(queue: &mut VecDeque<(u32, T)>, number: u32) {
    for (other, _) in queue.iter_mut().take_while(|(other, _)| (other.wrapping_sub(number) as i32) < 0) {
        *other = number;
    }
}

/// Something to be sent.
#[derive(Debug)]
struct Push<P> {
    /// Bytes and pieces of it that are still in the queue.
    left: usize,
    segments: usize,
    number: u32,
    /// Its token was dropped while the device had it: it is given up if the device turns out to have sent
    /// nothing of it.
    unwanted: bool,
    promise: P,
}

/// What is to happen when a push is cancelled.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Cancelled {
    /// It is out of the queue. What it was about is among what has [ended](Outbound::ended).
    Removed,
    /// The device has it: it should be asked to give it back.
    WithDevice,
    /// Some of it was sent, or it is not there any more: nothing is to be done.
    Kept,
}

/// Something that has ended: a piece of memory to be dropped, a push to be completed, or both, in this
/// order, so that whoever is woken finds the memory free.
#[must_use]
#[derive(Debug)]
pub(crate) struct Ended<P> {
    pub(crate) segment: Option<Buffer>,
    pub(crate) promise: Option<P>,
}

/// The sending half of a stream.
///
/// Pushes are sent in their order. The device takes some of them at once ([`gather`](Self::gather)), then
/// says how many bytes it has sent of those ([`sent`](Self::sent)) and completes what has
/// [ended](Self::ended). A push whose token is dropped is taken back unless some of it has been sent: a
/// stream is never cut in the middle of a push.
#[derive(Debug)]
pub(crate) struct Outbound<P> {
    pushes: Fifo<Push<P>>,
    /// The memory of all pushes, in order.
    segments: Fifo<Buffer>,
    /// The memory of pushes that were taken back.
    removed: Vec<Buffer>,
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
    /// Numbers of pushes fit in these bits.
    pub(crate) const NUMBERS: u32 = 0x00ff_ffff;

    pub(crate) const fn new() -> Outbound<P> {
        Outbound {
            pushes: Fifo::new(),
            segments: Fifo::new(),
            removed: Vec::new(),
            with_device: 0,
            started: false,
            unwanted: false,
            credit: 0,
            bytes: 0,
            next_number: 0,
        }
    }

    /// Queues what is in `data`; the number is for [`cancel`](Self::cancel).
    #[inline]
    pub(crate) fn push(&mut self, data: &mut Sga, promise: P) -> u32 {
        let number = self.next_number;
        self.next_number = (number + 1) & Self::NUMBERS;
        let (left, segments) = (data.len(), data.segments());
        self.bytes += left;
        while let Some(segment) = data.pop_front() {
            self.segments.push_back(segment);
        }
        self.pushes.push_back(Push { left, segments, number, unwanted: false, promise });
        number
    }

    /// The number that the next push gets.
    #[inline]
    pub(crate) fn next_number(&self) -> u32 {
        self.next_number
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.pushes.is_empty()
    }

    /// Whether nothing can [end](Self::ended) any more.
    #[inline]
    pub(crate) fn is_clear(&self) -> bool {
        self.pushes.is_empty() && self.removed.is_empty()
    }

    /// Bytes that have not been sent, as far as is known.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// If all there is to send is one piece of memory: gives it to the device. It stays in place until
    /// [`sent`](Self::sent), however the queue changes.
    #[inline]
    pub(crate) fn take_single(&mut self) -> Option<&Buffer> {
        debug_assert_eq!(self.with_device, 0);
        if !self.segments.rest.is_empty() {
            return None;
        }
        let single = self.segments.front()?;
        self.with_device = self.pushes.len();
        Some(single)
    }

    /// Gives as much to the device as `pieces` can describe, in order; returns how many it has filled. The
    /// memory stays in place until [`sent`](Self::sent), however the queue changes.
    pub(crate) fn gather(&mut self, pieces: &mut [libc::iovec]) -> usize {
        debug_assert_eq!(self.with_device, 0);
        let mut filled = 0;
        for (piece, segment) in pieces.iter_mut().zip(self.segments.iter()) {
            piece.iov_base = segment.as_ptr().cast_mut().cast();
            piece.iov_len = segment.len();
            filled += 1;
        }
        let mut covered = 0;
        for push in self.pushes.iter() {
            if covered >= filled {
                break;
            }
            covered += push.segments;
            self.with_device += 1;
        }
        filled
    }

    /// The device has sent so many bytes of what it took, and gives the rest back.
    #[inline]
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.with_device = 0;
        self.credit += bytes;
        self.bytes -= bytes;
    }

    /// What has ended next: it was sent, or cancelled before any of it was.
    #[inline]
    pub(crate) fn ended(&mut self) -> Option<Ended<P>> {
        if let Some(segment) = self.removed.pop() {
            return Some(Ended { segment: Some(segment), promise: None });
        }
        if self.with_device != 0 {
            return None;
        }
        let push = self.pushes.front_mut()?;
        if push.left == 0 {
            return Some(Ended { segment: None, promise: self.pop_push() });
        }
        if self.credit > 0
            && let Some(front) = self.segments.front_mut()
        {
            let length = front.len();
            if length <= self.credit {
                self.credit -= length;
                push.left -= length;
                push.segments -= 1;
                self.started = push.left > 0;
                let segment = self.segments.pop_front();
                let promise = if self.started { None } else { self.pop_push() };
                return Some(Ended { segment, promise });
            }
            front.advance(self.credit);
            push.left -= self.credit;
            self.credit = 0;
            self.started = true;
        }
        if self.unwanted { self.ended_unwanted() } else { None }
    }

    /// The device can send no more: what has ended with an error next, until there is nothing left.
    pub(crate) fn failed(&mut self) -> Option<Ended<P>> {
        self.with_device = 0;
        self.started = false;
        self.credit = 0;
        if let Some(segment) = self.removed.pop() {
            return Some(Ended { segment: Some(segment), promise: None });
        }
        let push = self.pushes.front_mut()?;
        self.bytes -= std::mem::take(&mut push.left);
        let segment = match push.segments {
            0 => None,
            _ => self.segments.pop_front(),
        };
        push.segments = push.segments.saturating_sub(1);
        let promise = if push.segments == 0 { self.pop_push() } else { None };
        Some(Ended { segment, promise })
    }

    /// The token of a push was dropped.
    #[must_use]
    pub(crate) fn cancel(&mut self, number: u32) -> Cancelled {
        let Some(index) = self.pushes.iter().position(|push| push.number == number) else {
            return Cancelled::Kept;
        };
        if index == 0 && self.started {
            return Cancelled::Kept;
        }
        if index < self.with_device {
            if let Some(push) = self.pushes.get_mut(index) {
                push.unwanted = true;
                self.unwanted = true;
            }
            return Cancelled::WithDevice;
        }
        drop(self.remove(index));
        Cancelled::Removed
    }

    #[inline]
    fn pop_push(&mut self) -> Option<P> {
        self.pushes.pop_front().map(|push| push.promise)
    }

    /// A push that was cancelled while the device had it, and of which nothing was sent.
    #[cold]
    fn ended_unwanted(&mut self) -> Option<Ended<P>> {
        let begun = usize::from(self.started);
        let index = self.pushes.iter().skip(begun).position(|push| push.unwanted);
        let promise = index.and_then(|index| self.remove(begun + index));
        self.unwanted = promise.is_some();
        promise.map(|promise| Ended { segment: self.removed.pop(), promise: Some(promise) })
    }

    /// Takes a push out of the queue, and its memory aside.
    fn remove(&mut self, index: usize) -> Option<P> {
        let before: usize = self.pushes.iter().take(index).map(|push| push.segments).sum();
        let push = self.pushes.remove(index)?;
        self.bytes -= push.left;
        for _ in 0..push.segments {
            self.removed.extend(self.segments.remove(before));
        }
        Some(push.promise)
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

    /// Names are in the order of the alphabet.
    fn number(name: &str) -> u32 {
        u32::from(name.as_bytes()[0])
    }

    impl Promise for Asked {
        fn is_cancelled(&self) -> bool {
            self.1.get()
        }

        fn number(&self) -> u32 {
            number(self.0)
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
    fn what_is_given_back_keeps_its_place() {
        let mut inbound = Inbound::new();
        assert!(inbound.pop(10, asked("a")).is_none());
        assert!(inbound.pop(2, asked("b")).is_none());
        assert_eq!(got(inbound.arrived(data(b"abcdef"))), Some(("a", b"abcdef".to_vec())));
        // `a` gives it back, `b` gets the front of that, and gives it back, too.
        inbound.give_back(number("a"), data(b"abcdef"));
        assert_eq!(got(inbound.serve()), Some(("b", b"ab".to_vec())));
        assert_eq!(got(inbound.pop(2, asked("c"))), Some(("c", b"cd".to_vec())));
        inbound.give_back(number("c"), data(b"cd"));
        inbound.give_back(number("b"), data(b"ab"));
        for part in [&b"ab"[..], b"cd", b"ef"] {
            assert_eq!(got(inbound.pop(9, asked("d"))), Some(("d", part.to_vec())));
        }
        assert_eq!((inbound.unread_bytes(), inbound.has_unread()), (0, false));
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

    fn push(outbound: &mut Outbound<&'static str>, bytes: &'static [u8], name: &'static str) -> u32 {
        outbound.push(&mut data(bytes).into(), name)
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

    fn ended(outbound: &mut Outbound<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| outbound.ended()).filter_map(|ended| ended.promise).collect()
    }

    #[test]
    fn pushes_are_gathered_and_end_in_order() {
        let mut outbound = Outbound::new();
        push(&mut outbound, b"abc", "a");
        assert_eq!(outbound.take_single().map(|single| single.to_vec()), Some(b"abc".to_vec()));
        push(&mut outbound, b"de", "b");
        push(&mut outbound, b"", "nothing");
        push(&mut outbound, b"f", "c");
        assert_eq!(ended(&mut outbound), [""; 0], "the device has not said anything");
        outbound.sent(3);
        assert_eq!(ended(&mut outbound), ["a"]);
        assert!(outbound.take_single().is_none(), "there is more than one piece");
        assert_eq!(gathered(&mut outbound, 1), b"de");
        outbound.sent(1);
        assert_eq!(ended(&mut outbound), [""; 0]);
        assert_eq!(outbound.bytes(), 2);
        assert_eq!(gathered(&mut outbound, 8), b"ef");
        outbound.sent(2);
        assert_eq!(ended(&mut outbound), ["b", "nothing", "c"]);
        assert!(outbound.is_empty());
        assert_eq!(outbound.bytes(), 0);
    }

    #[test]
    fn a_push_of_many_pieces_gives_each_back_when_it_was_sent() {
        let mut outbound = Outbound::new();
        let mut list: Sga = [&b"ab"[..], b"cd", b"ef"].into_iter().map(data).collect();
        outbound.push(&mut list, "list");
        assert!(list.is_empty());
        assert_eq!(gathered(&mut outbound, 2), b"abcd");
        outbound.sent(3);
        let first = outbound.ended().unwrap();
        assert_eq!((first.segment.unwrap().to_vec(), first.promise), (b"ab".to_vec(), None));
        assert!(outbound.ended().is_none());
        assert_eq!(gathered(&mut outbound, 2), b"def");
        outbound.sent(3);
        assert_eq!(ended(&mut outbound), ["list"]);
    }

    #[test]
    fn a_push_is_taken_back_unless_some_of_it_was_sent() {
        let mut outbound = Outbound::new();
        let a = push(&mut outbound, b"aaaa", "a");
        let b = push(&mut outbound, b"bbbb", "b");
        let c = push(&mut outbound, b"cccc", "c");
        assert_eq!(outbound.cancel(b), Cancelled::Removed);
        assert_eq!(
            outbound.ended().and_then(|ended| ended.segment).map(|memory| memory.to_vec()),
            Some(b"bbbb".to_vec())
        );
        assert_eq!(gathered(&mut outbound, 8), b"aaaacccc");
        let d = push(&mut outbound, b"dddd", "d");
        assert_eq!(outbound.cancel(a), Cancelled::WithDevice);
        assert_eq!(outbound.cancel(c), Cancelled::WithDevice);
        assert_eq!(outbound.cancel(d), Cancelled::Removed);
        outbound.sent(1);
        assert_eq!(ended(&mut outbound), ["c"], "a stream is not cut in the middle of a push");
        assert_eq!(outbound.cancel(a), Cancelled::Kept);
        assert_eq!(gathered(&mut outbound, 8), b"aaa");
        outbound.sent(3);
        assert_eq!(ended(&mut outbound), ["a"]);
        assert!(outbound.is_empty());
        assert_eq!(outbound.bytes(), 0);
        assert_eq!(outbound.cancel(c), Cancelled::Kept);
    }

    #[test]
    fn an_error_ends_every_push() {
        let mut outbound = Outbound::new();
        outbound.push(&mut [&b"ab"[..], b"c"].into_iter().map(data).collect(), "a");
        push(&mut outbound, b"", "nothing");
        push(&mut outbound, b"d", "b");
        assert_eq!(gathered(&mut outbound, 8), b"abcd");
        outbound.sent(1);
        assert_eq!(ended(&mut outbound), [""; 0]);
        let failed: Vec<_> =
            std::iter::from_fn(|| outbound.failed()).filter_map(|ended| ended.promise).collect();
        assert_eq!(failed, ["a", "nothing", "b"]);
        assert_eq!((outbound.is_empty(), outbound.bytes()), (true, 0));
    }
}
