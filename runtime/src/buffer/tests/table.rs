//! What a device keeps of each region.

use std::cell::RefCell;
use std::rc::Rc;

use crate::buffer::BufferMut;
use crate::buffer::pool::{self, Region, RegionTable, RegionUser};

/// What a user was told, in order: a region that was mapped, or what it had given for one that goes.
type Story = Rc<RefCell<Vec<(bool, u32)>>>;

/// Reaches regions of the usual size only.
struct Device(Story);

impl RegionUser for Device {
    type Entry = u32;

    fn mapped(&mut self, region: &Region) -> Option<u32> {
        self.0.borrow_mut().push((true, region.id));
        (region.len == 2 << 20).then_some(region.id + 100)
    }

    fn unmapping(&mut self, entry: u32) {
        self.0.borrow_mut().push((false, entry));
    }
}

#[test]
fn what_a_device_gave_for_a_region_is_there_until_it_goes() {
    let early = BufferMut::with_capacity(100).unwrap();
    let story = Story::default();
    let table = RegionTable::new(Device(story.clone()));
    let (id, _) = early.region().unwrap();
    assert_eq!((table.get(early.region()), table.len()), (Some(id + 100), 1));

    let large = BufferMut::with_capacity(3 << 20).unwrap();
    let (refused, _) = large.region().unwrap();
    assert_eq!((table.get(large.region()), table.len()), (None, 1), "it has given nothing for this one");
    assert_eq!(table.get(None), None);
    assert_eq!(table.get(Some((1000, 0))), None, "a region that there is not");
    let other = RegionTable::new(Device(Story::default()));
    assert_eq!(other.len(), 1, "a second table hears of what there was before");

    drop((early, large));
    pool::trim();
    assert!(table.is_empty() && other.is_empty());
    assert_eq!(*story.borrow(), [(true, id), (true, refused), (false, id + 100)]);
}

#[test]
fn what_there_is_when_a_table_goes_is_undone_and_nothing_is_told_any_more() {
    let first = BufferMut::with_capacity(100).unwrap();
    let story = Story::default();
    let table = RegionTable::new(Device(story.clone()));
    let (id, _) = first.region().unwrap();
    drop(table);
    assert_eq!(*story.borrow(), [(true, id), (false, id + 100)]);
    let chunks: Vec<_> = (0..5).map(|_| BufferMut::with_capacity(1 << 20).unwrap()).collect();
    drop((first, chunks));
    pool::trim();
    assert_eq!(story.borrow().len(), 2);
}
