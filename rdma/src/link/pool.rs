//! The receive buffers of all connections, and how many of them peers have been promised.
//!
//! Two sums are kept. What is *promised* never exceeds what is *posted*: that no send ever finds no buffer is nothing
//! else. And what connections have a right to (their floor and their reserve) plus what some have beyond it stays
//! below the capacity: so that whoever waits for its right gets it, once what was received has been posted again.

/// Buffers of each connection that are not for data: one for a control frame of the peer, one for its acknowledgment of
/// ours.
pub(super) const RESERVE: u32 = 2;

#[derive(Debug)]
pub(super) struct Pool {
    /// How many are to be posted.
    capacity: u32,
    /// How many the device has.
    posted: u32,
    /// How many of those peers may use without asking.
    promised: u32,
    /// Data credits that each connection has a right to.
    floor: u32,
    connections: u32,
    /// Data credits beyond the floors.
    extra: u32,
}

impl Pool {
    pub(super) fn new(capacity: u32, floor: u32) -> Pool {
        Pool { capacity, posted: 0, promised: 0, floor, connections: 0, extra: 0 }
    }

    /// The device has so many more.
    pub(super) fn post(&mut self, count: u32) {
        self.posted += count;
    }

    /// The device has used one, or lost it.
    pub(super) fn consume(&mut self) {
        self.posted = self.posted.saturating_sub(1);
    }

    /// Gives a peer the right to one buffer that is not for data.
    #[must_use]
    pub(super) fn promise(&mut self) -> bool {
        let free = self.free() > 0;
        self.promised += u32::from(free);
        free
    }

    /// A peer has used such a right, or will not.
    pub(super) fn redeem(&mut self) {
        debug_assert!(self.promised > 0);
        self.promised -= 1;
    }

    /// Gives a peer that has `held` data credits up to `wanted` more; returns how many. `share` is what it may have
    /// beyond its floor.
    pub(super) fn grant(&mut self, held: u32, wanted: u32, share: u32) -> u32 {
        let right = self.floor.saturating_sub(held).min(wanted);
        let beyond = held.saturating_sub(self.floor);
        let extra = (wanted - right).min(share.saturating_sub(beyond)).min(self.extra_left());
        let granted = (right + extra).min(self.free());
        self.promised += granted;
        self.extra += granted.saturating_sub(right);
        granted
    }

    /// Whether a peer that has `held` data credits would get one, if one is free.
    pub(super) fn can_grant(&self, held: u32, share: u32) -> bool {
        held < self.floor || held - self.floor < share && self.extra_left() > 0
    }

    /// A peer that had `held` data credits has used or given back some.
    pub(super) fn take_back(&mut self, held: u32, count: u32) {
        debug_assert!(count <= held && count <= self.promised);
        self.promised -= count;
        self.extra -= held.saturating_sub(self.floor).min(count);
    }

    /// Takes in one more connection, with the right to one control frame: whether there is room for it.
    #[must_use]
    pub(super) fn join(&mut self) -> bool {
        let rights = (self.connections + 1) * (self.floor + RESERVE);
        let joined = rights <= self.capacity && self.promise();
        self.connections += u32::from(joined);
        joined
    }

    /// One connection less; what it was promised has been taken back before.
    pub(super) fn leave(&mut self) {
        self.connections -= 1;
    }

    /// How many the device should be given.
    pub(super) fn missing(&self) -> u32 {
        self.capacity.saturating_sub(self.posted)
    }

    /// Posted, and not promised.
    pub(super) fn free(&self) -> u32 {
        self.posted.saturating_sub(self.promised)
    }

    /// What all can have beyond their floors together. An eighth is left to those who come.
    pub(super) fn extra_total(&self) -> u32 {
        let rights = self.connections * (self.floor + RESERVE);
        (self.capacity - self.capacity / 8).saturating_sub(rights)
    }

    pub(super) fn floor(&self) -> u32 {
        self.floor
    }

    pub(super) fn posted(&self) -> u32 {
        self.posted
    }

    pub(super) fn promised(&self) -> u32 {
        self.promised
    }

    /// Whether anybody has more than its right.
    pub(super) fn has_extra(&self) -> bool {
        self.extra > 0
    }

    #[cfg(test)]
    pub(super) fn extra(&self) -> u32 {
        self.extra
    }

    fn extra_left(&self) -> u32 {
        self.extra_total().saturating_sub(self.extra)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(capacity: u32) -> Pool {
        let mut pool = Pool::new(capacity, 2);
        pool.post(capacity);
        pool
    }

    #[test]
    fn nothing_is_promised_that_is_not_posted() {
        let mut pool = Pool::new(16, 2);
        assert!(!pool.join(), "nothing is posted");
        pool.post(2);
        assert!(pool.join());
        assert_eq!(pool.grant(0, 5, 5), 1, "one is for control frames");
        assert_eq!((pool.free(), pool.missing()), (0, 14));
        assert!(!pool.promise());
        pool.post(1);
        assert!(pool.promise());
    }

    #[test]
    fn rights_are_kept_from_those_who_want_more() {
        let mut pool = pool(16);
        assert!(pool.join() && pool.join());
        // Two connections with four each leave 8, of which two are for those who come.
        assert_eq!(pool.grant(0, 100, 100), 2 + 6);
        assert_eq!(pool.grant(8, 100, 100), 0);
        assert_eq!(pool.grant(0, 100, 100), 2, "the other has its right");
        pool.take_back(8, 7);
        assert_eq!(pool.extra(), 0);
        assert_eq!(pool.grant(2, 100, 3), 3, "no more than its share");
        assert_eq!(pool.grant(5, 100, 3), 0);
        assert_eq!(pool.grant(1, 1, 0), 1);
    }

    #[test]
    fn connections_are_as_many_as_have_their_rights() {
        let mut pool = pool(16);
        assert!((0..4).all(|_| pool.join()));
        assert!(!pool.join());
        pool.redeem();
        pool.leave();
        assert!(pool.join());
    }
}
