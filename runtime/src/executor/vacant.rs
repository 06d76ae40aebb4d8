//! What has the place of a device that was detached: nothing.

use super::completion::DeviceId;
use crate::transport::{Device, Interest, Turn};
use std::any::Any;
use std::rc::Rc;
use std::time::Duration;

struct Vacant;

/// One of these stands in every vacant place of a runtime.
pub(super) fn new() -> Rc<dyn Device> {
    Rc::new(Vacant)
}

impl Device for Vacant {
    fn name(&self) -> &'static str {
        "detached"
    }

    fn attached(&self, _id: DeviceId) {}

    fn poll(&self, _turn: Turn) -> bool {
        false
    }

    fn interest(&self) -> Interest {
        Interest::None
    }

    fn cancel(&self, _key: u64) {}

    fn give_back(&self, _key: u64, _number: u32, _result: Box<dyn Any>) {}

    fn shutdown(&self, _grace: Duration) {}
}
