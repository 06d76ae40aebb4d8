//! In place of spans, without the feature `spans`: nothing, at no cost.

use super::slot::Slot;
use std::panic::Location;

#[derive(Default)]
pub(super) struct Spans {}

impl Spans {
    #[inline(always)]
    pub(super) fn look(&self) {}

    #[inline(always)]
    pub(super) fn spawned(
        &self,
        _number: u32,
        _future: fn() -> &'static str,
        _location: &'static Location<'_>,
    ) {
    }

    #[inline(always)]
    pub(super) fn started(&self, _slot: &Slot, _result: fn() -> &'static str) {}

    #[inline(always)]
    pub(super) fn set(&self, _slot: &Slot, _deadline: u64) {}

    #[inline(always)]
    pub(super) fn of(_slot: &Slot) -> Option<u32> {
        None
    }

    pub(super) fn end(&self, _number: u32) {}

    #[inline(always)]
    pub(super) fn within<T>(&self, _number: u32, poll: impl FnOnce() -> T) -> T {
        poll()
    }

    #[inline(always)]
    pub(super) fn over(&self, _number: u32) {}

    #[inline(always)]
    pub(super) fn clear(&self) {}
}
