//! Who listens: connections that begin, and those that wait to be accepted, both within limits.

use std::collections::VecDeque;

use demikernel_runtime::time::{Duration, Instant};

/// How long a connection may be half open when others want its place.
const AGE: Duration = Duration::from_secs(3);

const NONE: u32 = u32::MAX;

/// What to do about a SYN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnSyn<I> {
    /// Make a connection: [`Connection::accept`](super::Connection::accept).
    Accept,
    /// Make one in the place of this old one, which nobody has completed.
    Replace(I),
    /// Answer, but keep nothing: [`Cookies::answer`](super::Cookies::answer). [rfc4987 3.6]
    Cookie,
    /// Nothing.
    Drop,
}

/// Stands for a half-open connection in its listener.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(u32);

/// The connections of one listening socket, which it knows by an `I`.
///
/// Half-open ones are in a list, oldest first, in a slab: each step takes the same time, whatever their number.
///
/// ```
/// use demikernel_net::tcp::{Listener, OnSyn};
/// use demikernel_runtime::time::Instant;
///
/// let now = Instant::from_nanos(1);
/// let mut listener = Listener::new(8, 1, true);
/// assert_eq!(listener.on_syn(now), OnSyn::Accept);
/// let ticket = listener.begin(now, "the first");
/// assert_eq!(listener.on_syn(now), OnSyn::Cookie, "one may be half open: more are kept nowhere");
/// listener.complete(ticket);
/// assert_eq!(listener.accept(), Some("the first"));
/// assert_eq!(listener.on_syn(now), OnSyn::Accept);
/// ```
#[derive(Debug)]
pub struct Listener<I> {
    slots: Vec<HalfOpen<I>>,
    free: u32,
    oldest: u32,
    newest: u32,
    half_open: usize,
    half_open_most: usize,
    ready: VecDeque<I>,
    backlog: usize,
    cookies: bool,
}

#[derive(Debug)]
struct HalfOpen<I> {
    id: Option<I>,
    since: Instant,
    before: u32,
    after: u32,
}

impl<I: Copy> Listener<I> {
    /// With room for `backlog` connections that wait to be accepted and `half_open` that are not complete. With
    /// `cookies`, more than these can begin, but nothing is kept of them.
    pub fn new(backlog: usize, half_open: usize, cookies: bool) -> Listener<I> {
        Listener {
            slots: Vec::new(),
            free: NONE,
            oldest: NONE,
            newest: NONE,
            half_open: 0,
            half_open_most: half_open.clamp(1, NONE as usize - 1),
            ready: VecDeque::new(),
            backlog: backlog.max(1),
            cookies,
        }
    }

    /// A SYN has come. [rfc4987 3.4]
    pub fn on_syn(&self, now: Instant) -> OnSyn<I> {
        if !self.has_room() {
            return OnSyn::Drop;
        }
        if self.half_open < self.half_open_most {
            return OnSyn::Accept;
        }
        if self.cookies {
            return OnSyn::Cookie;
        }
        match self.slots.get(self.oldest as usize) {
            Some(HalfOpen { id: Some(id), since, .. }) if since.saturating_add(AGE) <= now => {
                OnSyn::Replace(*id)
            }
            _ => OnSyn::Drop,
        }
    }

    /// Whether one more can wait to be accepted. If not, the acknowledgment that would complete a half-open
    /// connection is to be dropped: it will come again.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.ready.len() < self.backlog
    }

    /// The connection that was made is half open.
    pub fn begin(&mut self, now: Instant, id: I) -> Ticket {
        let entry = HalfOpen { id: Some(id), since: now, before: self.newest, after: NONE };
        let index = if self.free == NONE {
            self.slots.push(entry);
            self.slots.len() as u32 - 1
        } else {
            let index = self.free;
            self.free = self.slots[index as usize].after;
            self.slots[index as usize] = entry;
            index
        };
        match self.slots.get_mut(self.newest as usize) {
            Some(newest) => newest.after = index,
            None => self.oldest = index,
        }
        self.newest = index;
        self.half_open += 1;
        Ticket(index)
    }

    /// It is complete, and waits to be accepted.
    pub fn complete(&mut self, ticket: Ticket) {
        if let Some(id) = self.remove(ticket) {
            self.ready.push_back(id);
        }
    }

    /// One that a cookie has completed waits to be accepted.
    pub fn complete_cookie(&mut self, id: I) {
        self.ready.push_back(id);
    }

    /// It has ended without being complete.
    pub fn abandon(&mut self, ticket: Ticket) {
        self.remove(ticket);
    }

    fn remove(&mut self, Ticket(index): Ticket) -> Option<I> {
        let entry = self.slots.get_mut(index as usize)?;
        let id = entry.id.take()?;
        let (before, after) = (entry.before, entry.after);
        entry.after = self.free;
        self.free = index;
        self.half_open -= 1;
        match self.slots.get_mut(before as usize) {
            Some(before) => before.after = after,
            None => self.oldest = after,
        }
        match self.slots.get_mut(after as usize) {
            Some(after) => after.before = before,
            None => self.newest = before,
        }
        Some(id)
    }

    /// The connection that has waited longest.
    pub fn accept(&mut self) -> Option<I> {
        self.ready.pop_front()
    }

    /// A connection that waits has ended; whether it was there.
    pub fn forget(&mut self, is_it: impl Fn(&I) -> bool) -> bool {
        let before = self.ready.len();
        self.ready.retain(|id| !is_it(id));
        before != self.ready.len()
    }

    /// The backlog changes: what waits stays.
    pub fn set_backlog(&mut self, backlog: usize) {
        self.backlog = backlog.max(1);
    }

    /// How many wait to be accepted.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many are half open.
    pub fn half_open(&self) -> usize {
        self.half_open
    }

    /// All connections that nobody has accepted, for the listener goes.
    pub fn into_connections(self) -> impl Iterator<Item = I> {
        self.slots.into_iter().filter_map(|entry| entry.id).chain(self.ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Instant = Instant::from_nanos(1_000_000_000);

    /// [rfc4987 3.4]
    #[test]
    fn half_open_connections_have_a_limit() {
        let mut plain = Listener::new(4, 2, false);
        let first = plain.begin(NOW, 'a');
        assert_eq!(plain.on_syn(NOW), OnSyn::Accept);
        plain.begin(NOW + AGE, 'b');
        assert_eq!(plain.on_syn(NOW), OnSyn::Drop);
        assert_eq!(plain.on_syn(NOW + AGE), OnSyn::Replace('a'));
        plain.abandon(first);
        plain.abandon(first);
        assert_eq!((plain.on_syn(NOW + AGE), plain.half_open()), (OnSyn::Accept, 1));

        let mut baked = Listener::new(4, 1, true);
        baked.begin(NOW, 'a');
        assert_eq!(baked.on_syn(NOW + AGE), OnSyn::Cookie);
    }

    #[test]
    fn who_waits_to_be_accepted_has_a_limit() {
        let mut listener = Listener::new(2, 9, true);
        let tickets = ['a', 'b', 'c'].map(|id| listener.begin(NOW, id));
        listener.complete(tickets[1]);
        assert!(listener.has_room());
        listener.complete(tickets[0]);
        assert!(!listener.has_room());
        assert_eq!(listener.on_syn(NOW), OnSyn::Drop);
        assert_eq!([listener.accept(), listener.accept(), listener.accept()], [Some('b'), Some('a'), None]);
        assert_eq!(listener.into_connections().collect::<Vec<_>>(), ['c']);
    }

    proptest! {
        /// The list in the slab is a list.
        #[test]
        fn the_oldest_is_the_oldest(steps in prop::collection::vec(any::<(bool, u8)>(), 1..200)) {
            let mut listener = Listener::new(1, 1, false);
            let mut model: Vec<(u32, Ticket)> = Vec::new();
            for (number, (adds, which)) in (0u32..).zip(steps) {
                if adds || model.is_empty() {
                    model.push((number, listener.begin(NOW, number)));
                } else {
                    let (_, ticket) = model.remove(usize::from(which) % model.len());
                    listener.abandon(ticket);
                }
                let expected = model.first().map_or(OnSyn::Accept, |(id, _)| OnSyn::Replace(*id));
                prop_assert_eq!(listener.on_syn(NOW + AGE), expected);
                prop_assert_eq!(listener.half_open(), model.len());
            }
        }
    }
}
