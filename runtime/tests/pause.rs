//! Devices that tell nobody when something has come.

use demikernel_runtime::transport::memory::Memory;
use demikernel_runtime::transport::{Device, Interest, Transport, Turn};
use demikernel_runtime::{Completion, DeviceId, Idle, operation};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// Has something for who waits when it was asked so many times.
struct Silent {
    interest: Interest,
    left: Cell<u32>,
    waiting: RefCell<Option<Completion<u32>>>,
}

impl Device for Silent {
    fn name(&self) -> &'static str {
        "silent"
    }

    fn attached(&self, _: DeviceId) {}

    fn poll(&self, _: Turn) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left == 0 && self.waiting.take().map(|completion| completion.complete(7)).is_some()
    }

    fn interest(&self) -> Interest {
        self.interest
    }

    fn cancel(&self, _: u64) {}

    fn give_back(&self, _: u64, _: u32, _: Box<dyn Any>) {}

    fn shutdown(&self, _: Duration) {}
}

/// How often a runtime that blocks at once has blocked until such a device had something.
fn parks(interest: Interest) -> u64 {
    let runtime = demikernel_runtime::Builder::new().idle(Idle::Block).build().unwrap();
    let device = Rc::new(Silent { interest, left: Cell::new(20), waiting: RefCell::default() });
    let mut transport = Transport::both(Memory::new(0)).without_network().without_storage();
    transport.device = device.clone();
    runtime.attach(transport);
    let got = runtime.block_on(async {
        let (token, completion) = operation();
        *device.waiting.borrow_mut() = Some(completion);
        token.await
    });
    assert_eq!(got, 7);
    runtime.metrics().parks
}

#[test]
fn a_device_that_pauses_is_asked_again_and_one_that_polls_is_not_waited_for() {
    assert_eq!(parks(Interest::Polling), 0);
    let parks = parks(Interest::Pause(Duration::from_millis(1)));
    assert!((10..=20).contains(&parks), "{parks}");
}
