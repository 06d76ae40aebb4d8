//! Pools use reserved huge pages while there are some, and others after that. In a process of its own, as a
//! process that was refused does not ask again; and as root, who can reserve them.
#![cfg(not(demikernel_loom))]

use demikernel_runtime::buffer::{BufferMut, pool};
use std::fs;

const RESERVED: &str = "/proc/sys/vm/nr_hugepages";
const PAGES: usize = 4;

/// Puts the number of reserved pages back.
struct Restore(String);

impl Drop for Restore {
    fn drop(&mut self) {
        fs::write(RESERVED, &self.0).unwrap();
    }
}

/// Reserves pages; `None` where that cannot be done.
fn reserve() -> Option<Restore> {
    let before = fs::read_to_string(RESERVED).ok()?.trim().to_owned();
    let wanted = before.parse::<usize>().ok()? + PAGES;
    fs::write(RESERVED, wanted.to_string()).ok()?;
    let restore = Restore(before);
    let got: usize = fs::read_to_string(RESERVED).ok()?.trim().parse().ok()?;
    (got == wanted).then_some(restore)
}

/// The size of the pages, in KiB, that an address is mapped by.
fn page_size_at(address: usize) -> usize {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in maps.lines() {
        let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
        if let Some((from, to)) = range
            && let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
        {
            inside = (from..to).contains(&address);
        } else if let Some(size) = line.strip_prefix("KernelPageSize:").filter(|_| inside) {
            return size.trim().trim_end_matches(" kB").parse().unwrap();
        }
    }
    panic!("{address:#x} is not mapped");
}

#[test]
fn reserved_huge_pages_are_used_while_there_are_some() {
    let Some(_restore) = reserve() else {
        return eprintln!("skipped: no huge pages can be reserved here");
    };
    pool::set_limit(usize::MAX);
    let mut buffers = Vec::new();
    // More than is reserved, here and by others before, so that other pages have to serve in the end.
    while pool::regions().iter().all(|region| region.huge) || buffers.len() < 4 * PAGES {
        let mut buffer = BufferMut::with_capacity(1 << 20).unwrap();
        buffer.resize(1 << 20, 7);
        buffers.push(buffer);
    }
    let stats = pool::stats();
    assert!(stats.huge_regions >= 1, "{stats:?}");
    let regions = pool::regions();
    assert_eq!(regions.iter().filter(|region| region.huge).count(), stats.huge_regions);
    assert!(regions.iter().any(|region| !region.huge), "all of {} regions are huge", regions.len());
    for region in regions {
        assert_eq!(page_size_at(region.base.addr().get()) == 2048, region.huge);
    }
    drop(buffers);
    assert_eq!(pool::stats().in_use(), 0);
}
