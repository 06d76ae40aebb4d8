//! What devices are told about regions.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::buffer::pool::{self, RegionEvent, RegionHook};
use crate::buffer::{Buffer, BufferMut};

const REGION: usize = 2 << 20;

/// A device that registers regions, and fails when it is told anything that cannot be.
#[derive(Default)]
struct Device {
    registered: RefCell<Vec<(u32, usize)>>,
    events: Cell<usize>,
}

impl Device {
    fn open() -> (Rc<Device>, RegionHook) {
        let device = Rc::new(Device::default());
        let told = device.clone();
        let hook = pool::on_region(move |event| told.hear(event));
        (device, hook)
    }

    fn hear(&self, event: RegionEvent<'_>) {
        self.events.set(self.events.get() + 1);
        let mut registered = self.registered.borrow_mut();
        match event {
            RegionEvent::Mapped(region) => {
                assert!(region.base.as_ptr().addr().is_multiple_of(REGION));
                assert!(region.len > 0 && region.len.is_multiple_of(REGION));
                assert!(registered.iter().all(|(id, _)| *id != region.id), "told twice of {}", region.id);
                registered.push((region.id, region.len));
            }
            RegionEvent::Unmapping(region) => {
                // SAFETY: regions are mapped until the hook has returned, and this one is unused.
                unsafe { region.base.write_volatile(1) };
                let index = registered.iter().position(|entry| *entry == (region.id, region.len));
                registered.swap_remove(index.expect("a region that the device was told of"));
            }
        }
    }

    fn bytes(&self) -> usize {
        self.registered.borrow().iter().map(|(_, len)| len).sum()
    }
}

#[test]
fn a_device_knows_each_region_once_from_first_to_last() {
    let early = Buffer::copy_from_slice(b"before the device").unwrap();
    let (device, hook) = Device::open();
    assert_eq!(device.bytes(), REGION);

    let large = BufferMut::with_capacity(3 * REGION).unwrap();
    let id = large.region().unwrap().0;
    assert!(device.registered.borrow().contains(&(id, 3 * REGION)));
    let chunks: Vec<_> = (0..5).map(|_| BufferMut::with_capacity(1 << 20).unwrap()).collect();
    for chunk in &chunks {
        let (id, offset) = chunk.region().unwrap();
        assert!(device.registered.borrow().iter().any(|&(known, len)| known == id && offset < len));
    }
    assert_eq!((device.bytes(), device.events.get()), (pool::stats().mapped, 4));

    drop((early, large, chunks));
    pool::trim();
    assert_eq!((device.bytes(), pool::stats().mapped), (0, 0));

    drop(hook);
    let events = device.events.get();
    let _more = BufferMut::with_capacity(1).unwrap();
    assert_eq!(device.events.get(), events);
    assert_eq!(Rc::strong_count(&device), 1, "the closure is dropped with the guard");
}

#[test]
fn the_number_of_an_unmapped_region_is_used_again() {
    let (device, _hook) = Device::open();
    for _ in 0..10 {
        let large = [BufferMut::with_capacity(REGION).unwrap(), BufferMut::with_capacity(REGION).unwrap()];
        assert!(large.iter().all(|large| large.region().unwrap().0 < 2));
        drop(large);
        pool::trim();
    }
    assert_eq!(device.events.get(), 40);
}

#[test]
fn a_hook_may_allocate_and_so_map_more() {
    let (device, _hook) = Device::open();
    let kept = Rc::new(RefCell::new(Vec::new()));
    let keep = kept.clone();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let saw = seen.clone();
    let _greedy = pool::on_region(move |event| {
        let RegionEvent::Mapped(region) = event else { return };
        saw.borrow_mut().push(region.id);
        if keep.borrow().len() < 3 {
            let large = BufferMut::with_capacity(REGION).unwrap();
            keep.borrow_mut().push(large);
        }
    });
    let first = BufferMut::with_capacity(100).unwrap();
    assert_eq!(*seen.borrow(), [0, 1, 2, 3]);
    assert_eq!((device.bytes(), first.region().unwrap().0), (4 * REGION, 0));
}

#[test]
fn a_hook_may_even_unmap_what_was_just_mapped() {
    let (device, _hook) = Device::open();
    let rounds = Rc::new(Cell::new(1));
    let left = rounds.clone();
    let _trims = pool::on_region(move |_| {
        if left.get() > 0 {
            left.set(left.get() - 1);
            pool::trim();
        }
    });
    let buffer = BufferMut::with_capacity(100).unwrap();
    assert_eq!((device.bytes(), pool::stats().mapped), (REGION, REGION));
    assert!(device.registered.borrow().iter().any(|(id, _)| *id == buffer.region().unwrap().0));
}

#[test]
fn a_hook_may_add_and_remove_hooks() {
    let guards = Rc::new(RefCell::new(Vec::new()));
    let inner = guards.clone();
    let devices = Rc::new(RefCell::new(Vec::new()));
    let opened = devices.clone();
    let outer = pool::on_region(move |event| {
        let RegionEvent::Mapped(_) = event else { return };
        inner.borrow_mut().clear();
        let (device, hook) = Device::open();
        opened.borrow_mut().push(device);
        inner.borrow_mut().push(hook);
    });
    let _buffers: Vec<_> = (0..3).map(|_| BufferMut::with_capacity(REGION).unwrap()).collect();
    assert_eq!(
        devices.borrow().iter().map(|device| device.bytes()).collect::<Vec<_>>(),
        [REGION, 2 * REGION, 3 * REGION]
    );
    drop(outer);
    guards.borrow_mut().clear();
    assert!(devices.borrow().iter().all(|device| Rc::strong_count(device) == 1));
}

#[test]
fn a_hook_that_panics_harms_nobody_else() {
    let panics = Rc::new(Cell::new(true));
    let asked = panics.clone();
    let _bad = pool::on_region(move |_| assert!(!asked.get(), "as the test wants"));
    let (device, _hook) = Device::open();
    std::panic::catch_unwind(|| drop(BufferMut::with_capacity(1))).unwrap_err();
    panics.set(false);
    let buffer = BufferMut::with_capacity(2 * REGION).unwrap();
    assert!(device.bytes() >= 2 * REGION);
    drop(buffer);
    assert_eq!(pool::stats().in_use(), 0);
}
