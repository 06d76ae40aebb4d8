//! Regions next to each other.

use crate::buffer::pool::{self, RegionEvent};
use crate::buffer::{Buffer, BufferMut};
use std::cell::RefCell;
use std::rc::Rc;

const REGION: usize = 2 << 20;

#[test]
fn buffers_of_all_sizes_come_from_the_range_until_it_is_full() {
    let early = Buffer::copy_from_slice(b"from before").unwrap();
    drop(BufferMut::with_capacity(100_000).unwrap());
    let range = pool::contiguous(2 * REGION - 1).unwrap();
    assert_eq!(range.len(), 2 * REGION);
    assert_eq!(range.offset_of(&early), None);
    let sizes = [100, 2000, 4096, 10_000, 65_536, 1 << 20];
    let buffers: Vec<_> = sizes.iter().map(|&size| BufferMut::with_capacity(size).unwrap()).collect();
    for (buffer, size) in buffers.iter().zip(sizes) {
        // A free chunk of before may serve the smallest, as its block is in use.
        assert!(size == 100 || range.offset_of(buffer).is_some(), "{size}");
    }
    let mut inside = vec![];
    let outside = loop {
        let buffer = BufferMut::with_capacity(65_536).unwrap();
        if range.offset_of(&buffer).is_none() {
            break buffer;
        }
        inside.push(buffer);
        assert!(inside.len() <= 64, "more than there is");
    };
    assert!(inside.len() >= 40);
    drop((buffers, outside));
}

#[test]
fn offsets_are_those_of_bytes_that_are_wholly_inside() {
    let range = pool::contiguous(1).unwrap();
    // SAFETY: memory of a region is initialised, and nobody writes it here.
    let all = unsafe { std::slice::from_raw_parts(range.base().as_ptr(), range.len()) };
    assert_eq!(range.offset_of(all), Some(0));
    assert_eq!(range.offset_of(&all[REGION - 1..]), Some(REGION - 1));
    assert_eq!(range.offset_of(b"elsewhere"), None);
}

#[test]
fn it_stays_mapped_while_it_is_held_and_devices_hear_of_each_region() {
    let told = Rc::new(RefCell::new(vec![]));
    let list = told.clone();
    let _hook = pool::on_region(move |event| match event {
        RegionEvent::Mapped(region) => list.borrow_mut().push((region.base, region.len)),
        RegionEvent::Unmapping(region) => list.borrow_mut().retain(|(base, _)| *base != region.base),
    });
    let range = pool::contiguous(3 * REGION).unwrap();
    let mut bases: Vec<_> = told.borrow().iter().map(|(base, _)| base.as_ptr() as usize).collect();
    bases.sort_unstable();
    let start = range.base().as_ptr() as usize;
    assert_eq!(bases, [start, start + REGION, start + 2 * REGION]);
    drop(BufferMut::with_capacity(100).unwrap());
    pool::trim();
    assert_eq!((told.borrow().len(), pool::stats().mapped), (3, 3 * REGION));
    drop(range);
    pool::trim();
    assert_eq!((told.borrow().len(), pool::stats().mapped), (0, 0));
}

#[test]
fn what_the_limit_does_not_allow_is_an_error_with_figures() {
    pool::set_limit(3 * REGION);
    let error = pool::contiguous(4 * REGION).unwrap_err();
    assert_eq!((error.wanted(), error.limit()), (4 * REGION, 3 * REGION));
    assert!(pool::contiguous(usize::MAX).is_err());
    assert!(pool::contiguous(3 * REGION).is_ok());
}

#[test]
fn a_range_gives_its_own_whatever_was_freed_last() {
    let (one, other) = (pool::contiguous(REGION).unwrap(), pool::contiguous(REGION).unwrap());
    let take = |range: &pool::Contiguous, count| {
        let mut buffers = vec![];
        assert_eq!(range.allocate(2048, count, &mut buffers), count);
        assert!(buffers.iter().all(|buffer| range.offset_of(buffer).is_some()));
        buffers
    };
    for _ in 0..3 {
        let (first, second) = (take(&one, 700), take(&other, 700));
        let mixed: Vec<_> = first.into_iter().zip(second).flat_map(|(a, b)| [a, b]).collect();
        drop(mixed);
    }
    // What another class has taken, and does not use any more, comes back.
    drop(take(&one, 1024));
    let mut all = vec![];
    assert_eq!(one.allocate(65_536, 100, &mut all), 32);
    assert_eq!(one.allocate(2048, 1, &mut vec![]), 0);
    drop(all);
    drop(take(&one, 1024));
    assert_eq!(one.allocate(3 << 20, 1, &mut vec![]), 0);
    assert_eq!(pool::stats().in_use(), 0);
}
