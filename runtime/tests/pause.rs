//! Devices that tell nobody when something has come, and several devices in turn.

use demikernel_runtime::transport::memory::Memory;
use demikernel_runtime::transport::{Device, Interest, Transport, Turn};
use demikernel_runtime::{Completion, DeviceId, Idle, Runtime, operation};
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

/// Has something for whoever waits each time that it is asked, and writes down that it was asked.
struct Prompt {
    name: &'static str,
    log: Rc<RefCell<Vec<&'static str>>>,
    waiting: RefCell<Option<Completion<()>>>,
}

impl Device for Prompt {
    fn name(&self) -> &'static str {
        self.name
    }

    fn attached(&self, _: DeviceId) {}

    fn poll(&self, _: Turn) -> bool {
        self.log.borrow_mut().push(self.name);
        self.waiting.take().map(|completion| completion.complete(())).is_some()
    }

    fn interest(&self) -> Interest {
        Interest::Polling
    }

    fn cancel(&self, _: u64) {}

    fn give_back(&self, _: u64, _: u32, _: Box<dyn Any>) {}

    fn shutdown(&self, _: Duration) {}
}

#[test]
fn who_waits_for_one_device_does_not_wait_for_the_others_and_all_have_their_turn() {
    let runtime = Runtime::new().unwrap();
    let log = Rc::new(RefCell::new(Vec::new()));
    let devices = ["a", "b"].map(|name| {
        let device = Rc::new(Prompt { name, log: log.clone(), waiting: RefCell::default() });
        let mut transport = Transport::both(Memory::new(0)).without_network().without_storage();
        transport.device = device.clone();
        runtime.attach(transport);
        device
    });
    runtime.block_on(async {
        for _ in 0..3 {
            let (token, completion) = operation();
            *devices[0].waiting.borrow_mut() = Some(completion);
            token.await;
            log.borrow_mut().push("task");
        }
    });
    assert_eq!(*log.borrow(), ["a", "task", "b", "a", "task", "b", "a", "task"]);
}
