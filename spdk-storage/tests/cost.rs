//! Our cost per operation around a device: that nothing is allocated. Instructions are counted from outside:
//! `valgrind --tool=callgrind` on `cost-* --ignored --exact count` with DEMIKERNEL_COUNT set.

use demikernel_allocations::{Counting, of_thread as allocations};
use demikernel_runtime::Runtime;
use demikernel_runtime::buffer::{Buffer, BufferMut};
use demikernel_spdk_storage::log::StoreOptions;
use demikernel_spdk_storage::memory::Disk;
use demikernel_spdk_storage::{Geometry, Volume};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn geometry() -> Geometry {
    Geometry { volatile_cache: false, ..Geometry::new(4096, 1 << 20) }
}

/// Reads and writes, so many at a time.
async fn operations(volume: &Volume, depth: usize, rounds: usize) {
    let mut reads = std::collections::VecDeque::with_capacity(depth);
    let mut buffers: Vec<BufferMut> = (0..depth).map(|_| BufferMut::with_capacity(4096).unwrap()).collect();
    for round in 0..rounds {
        while let Some(mut buffer) = buffers.pop() {
            buffer.clear();
            reads.push_back(volume.read_into(
                (round as u64 + buffers.len() as u64) % 200 * 4096,
                4096,
                buffer,
            ));
        }
        for _ in 0..depth {
            if let Some(token) = reads.pop_front() {
                buffers.push(token.await.unwrap());
            }
        }
    }
}

#[test]
fn operations_allocate_nothing() {
    Runtime::new().unwrap().block_on(async {
        let volume = Volume::attach(Disk::new(geometry()).device());
        for depth in [1, 32] {
            // Each call makes its two lists.
            operations(&volume, depth, 100).await;
            let before = allocations();
            operations(&volume, depth, 10).await;
            let few = allocations() - before;
            operations(&volume, depth, 1000).await;
            assert_eq!(allocations() - before, 2 * few, "at depth {depth}");
        }
    });
}

#[test]
fn durable_pushes_allocate_nothing() {
    Runtime::new().unwrap().block_on(async {
        let disk = Disk::new(Geometry { volatile_cache: false, ..Geometry::new(4096, 16 << 20) });
        let store =
            StoreOptions::new().create(true).segment_size(4 << 20).open(Volume::attach(disk.device()));
        let log = store.await.unwrap().log("log").await.unwrap();
        let data = Buffer::from(vec![7; 64]);
        for _ in 0..100 {
            log.push(data.clone()).await.unwrap();
        }
        let before = allocations();
        for _ in 0..1000 {
            log.push(data.clone()).await.unwrap();
        }
        assert_eq!(allocations() - before, 0);
    });
}

/// For callgrind: depth and rounds.
#[test]
#[ignore = "only counted from outside"]
fn count() {
    let text = std::env::var("DEMIKERNEL_COUNT").unwrap_or_else(|_| "1 1000".to_owned());
    let mut numbers = text.split(' ').map(|number| number.parse().unwrap());
    let (depth, rounds) = (numbers.next().unwrap(), numbers.next().unwrap());
    Runtime::new().unwrap().block_on(async {
        let volume = Volume::attach(Disk::new(geometry()).device());
        operations(&volume, depth, rounds).await;
    });
}
