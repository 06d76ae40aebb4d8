use super::*;
use crate::Volume;
use crate::memory::{Disk, Faults, MemoryDriver};
use demikernel_runtime::buffer::{Buffer, pool};
use demikernel_runtime::{Builder, Idle, Runtime, Time, wait_all, yield_now};

/// A driver around that of memory, with a small queue, that can do without unaligned memory and ends in reverse order.
struct Picky {
    inner: MemoryDriver,
    alignment: u32,
    /// Reaches nothing that is not the pool's.
    pool_only: bool,
    depth: usize,
    under_way: usize,
    most: Rc<Cell<usize>>,
}

// SAFETY: that of memory, with less.
unsafe impl Driver for Picky {
    fn name(&self) -> &'static str {
        "picky"
    }

    fn geometry(&self) -> Geometry {
        Geometry { memory_alignment: self.alignment, ..self.inner.geometry() }
    }

    fn reaches(&self, command: &Command<'_>) -> bool {
        let (Command::Read(_, pieces) | Command::Write(_, pieces) | Command::WriteDurable(_, pieces)) =
            command
        else {
            return true;
        };
        !self.pool_only || pieces.iter().all(|piece| piece.region.is_some())
    }

    unsafe fn submit(&mut self, tag: u32, command: Command<'_>) -> Submitted {
        if let Command::Read(_, pieces) | Command::Write(_, pieces) | Command::WriteDurable(_, pieces) =
            command
        {
            for piece in pieces {
                assert!((piece.address as usize).is_multiple_of(self.alignment as usize));
                let in_region = piece.region.and_then(|(id, offset)| {
                    let region = pool::regions().into_iter().find(|region| region.id == id)?;
                    Some(region.base.as_ptr() as usize + offset)
                });
                assert!(in_region.is_none_or(|address| address == piece.address as usize));
            }
        }
        if self.under_way == self.depth {
            return Submitted::Full;
        }
        self.under_way += 1;
        self.most.set(self.most.get().max(self.under_way));
        // SAFETY: the caller keeps the command's memory until the tag is finished, as the driver inside asks.
        unsafe { self.inner.submit(tag, command) }
    }

    fn poll(&mut self, turn: Turn, finished: &mut Finished) {
        self.inner.poll(turn, finished);
        finished.reverse();
        self.under_way -= finished.len();
    }

    fn interest(&mut self) -> Interest {
        self.inner.interest()
    }

    fn shut_down(&mut self, grace: Duration, finished: &mut Finished) {
        self.inner.shut_down(grace, finished);
    }
}

fn picky(alignment: u32, depth: usize) -> (Disk, Rc<Queue<Picky>>, Rc<Cell<usize>>) {
    let disk = Disk::new(Geometry::new(512, 1 << 20));
    let most = Rc::new(Cell::new(0));
    let inner = MemoryDriver::on(&disk);
    let pool_only = alignment == 4;
    let queue = Queue::new(Picky { inner, alignment, pool_only, depth, under_way: 0, most: most.clone() });
    (disk, queue, most)
}

fn run(test: impl AsyncFnOnce()) {
    Runtime::new().unwrap().block_on(test());
}

fn counter(volume: &Volume, name: &str) -> u64 {
    volume.counters().iter().find(|(other, _)| *other == name).unwrap().1
}

#[test]
fn blocks_are_written_and_read() {
    run(async || {
        let volume = Volume::attach(Disk::new(Geometry::new(512, 8192)).device());
        volume.write(512, Buffer::from(vec![7; 1024])).await.unwrap();
        let read = volume.read(0, 2048).await.unwrap();
        assert_eq!(read, [vec![0; 512], vec![7; 1024], vec![0; 512]].concat());
        volume.write_zeroes(512, 512).await.unwrap();
        let mut buffer = BufferMut::with_capacity(2048).unwrap();
        buffer.extend_from_slice(b"header");
        let read = volume.read_into(512, 1024, buffer).await.unwrap();
        assert_eq!(read, [b"header".to_vec(), vec![0; 512], vec![7; 512]].concat());
    });
}

#[test]
fn more_than_there_is_room_for_waits_in_order() {
    run(async || {
        let (disk, queue, most) = picky(1, 2);
        let volume = Volume::attach(queue);
        let block = |index: u64| Buffer::from(vec![index as u8; 512]);
        // All at one place: the last one wins, if they are in order.
        let mut tokens: Vec<_> = (0..100).map(|index| volume.write(0, block(index))).collect();
        for result in wait_all(&mut tokens).await {
            result.unwrap();
        }
        assert_eq!(disk.read(0, 512).unwrap(), [99; 512]);
        assert_eq!((most.get(), counter(&volume, "waited")), (2, 98));
    });
}

#[test]
fn memory_that_is_not_aligned_is_copied_and_counted() {
    run(async || {
        let (disk, queue, _) = picky(512, 8);
        let volume = Volume::attach(queue);
        let unaligned = Buffer::from(vec![1; 1024 + 8]).slice(8..);
        volume.write(0, unaligned).await.unwrap();
        // Two pieces that are whole blocks only together.
        let parts: Sga = [Buffer::from(vec![2; 100]), Buffer::from(vec![3; 412])].into_iter().collect();
        volume.write(1024, parts).await.unwrap();
        assert_eq!(disk.read(0, 1536).unwrap(), [vec![1; 1024], vec![2; 100], vec![3; 412]].concat());
        let mut buffer = BufferMut::with_capacity(1536).unwrap();
        buffer.extend_from_slice(b"0");
        let read = volume.read_into(0, 1024, buffer).await.unwrap();
        assert_eq!(read, [vec![b'0'], vec![1; 1024]].concat());
        assert_eq!(counter(&volume, "bounced"), 3);
        // Aligned memory of the pool is not.
        volume
            .write(
                0,
                BufferMut::with_capacity(4096)
                    .map(|mut new| {
                        new.resize(4096, 4);
                        new
                    })
                    .unwrap(),
            )
            .await
            .unwrap();
        volume.read(0, 4096).await.unwrap();
        assert_eq!(counter(&volume, "bounced"), 3);
    });
}

#[test]
fn memory_that_the_device_does_not_reach_is_copied() {
    run(async || {
        let (disk, queue, _) = picky(4, 1);
        let volume = Volume::attach(queue);
        let foreign = || Buffer::from(vec![6; 512]);
        assert_eq!(foreign().region(), None);
        // The second one waits for room first, and is copied once all the same.
        let mut tokens = [volume.write(0, foreign()), volume.write(512, foreign())];
        wait_all(&mut tokens).await.into_iter().for_each(|result| result.unwrap());
        assert_eq!(disk.read(0, 1024).unwrap(), [6; 1024]);
        assert_eq!(volume.read(0, 1024).await.unwrap(), [6; 1024]);
        assert_eq!(counter(&volume, "bounced"), 2);
    });
}

#[test]
fn one_read_fills_several_buffers() {
    for alignment in [1, 512] {
        run(async || {
            let (disk, queue, _) = picky(alignment, 8);
            let volume = Volume::attach(queue);
            let content: Vec<u8> = (0..6144u32).map(|index| (index / 7) as u8).collect();
            disk.write(0, &content).unwrap();
            let buffer = |headroom: usize| BufferMut::with_headroom(headroom, 2048 - headroom).unwrap();
            for headroom in [0, 1024, 100] {
                let room = 2048 - headroom;
                let buffers =
                    vec![buffer(headroom), BufferMut::with_capacity(2048).unwrap(), buffer(2048 - room)];
                let total = 2 * room + 2048;
                let result = volume.read_vectored(0, buffers).await;
                if total % 512 != 0 {
                    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
                    continue;
                }
                let read: Vec<u8> = result.unwrap().iter().flat_map(|buffer| buffer.to_vec()).collect();
                assert_eq!(read, content[..total]);
            }
        });
    }
}

#[test]
fn what_is_wrong_is_said_before_anything_happens() {
    run(async || {
        let disk = Disk::new(Geometry::new(512, 8192));
        disk.set_read_only(true);
        let volume = Volume::attach(disk.device());
        let kind = |result: io::Result<()>| result.unwrap_err().kind();
        assert_eq!(
            kind(volume.write(0, Buffer::from(vec![0; 512])).await),
            io::ErrorKind::ReadOnlyFilesystem
        );
        assert_eq!(kind(volume.discard(0, 512).await), io::ErrorKind::ReadOnlyFilesystem);
        for (at, length) in [(1, 512), (0, 100), (8192, 512)] {
            assert_eq!(volume.read(at, length).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        let small = BufferMut::with_capacity(256).unwrap();
        assert!(volume.read_into(0, 512, small).await.unwrap_err().to_string().contains("room for 256"));
        assert_eq!(counter(&volume, "refused"), 6);
    });
}

#[test]
fn faults_are_errors_and_the_device_goes_on() {
    run(async || {
        let disk = Disk::new(Geometry::new(512, 1 << 16));
        let volume = Volume::attach(disk.device());
        disk.set_faults(Faults { seed: 1, errors: 0.5, ..Faults::default() });
        let mut failed = 0;
        for _ in 0..100 {
            failed += usize::from(volume.write(0, Buffer::from(vec![1; 4096])).await.is_err());
        }
        assert!((20..80).contains(&failed), "{failed}");
        disk.set_faults(Faults::default());
        disk.set_room(4096);
        let error = volume.write(4096, Buffer::from(vec![1; 512])).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        volume.read(4096, 512).await.unwrap();
        disk.vanish();
        assert_eq!(volume.flush().await.unwrap_err().raw_os_error(), Some(libc::ENODEV));
    });
}

#[test]
fn delays_pass_in_virtual_time() {
    let runtime = Builder::new().time(Time::Virtual).idle(Idle::Block).build().unwrap();
    runtime.block_on(async {
        let disk = Disk::new(Geometry::new(512, 8192));
        let latency = Duration::from_secs(5);
        disk.set_faults(Faults { latency, jitter: latency, ..Faults::default() });
        let volume = Volume::attach(disk.device());
        let start = Instant::now();
        let mut tokens = [volume.read(0, 512), volume.read(0, 512)];
        wait_all(&mut tokens).await;
        let took = Instant::now() - start;
        assert!((latency..2 * latency + Duration::from_millis(1)).contains(&took), "{took:?}");
    });
}

#[test]
fn memory_of_what_nobody_waits_for_comes_back() {
    run(async || {
        pool::trim();
        let volume = Volume::attach(Disk::new(Geometry::new(512, 1 << 16)).device());
        drop(volume.read(0, 4096));
        let token = volume.write(
            0,
            BufferMut::with_capacity(4096)
                .map(|mut new| {
                    new.resize(4096, 9);
                    new
                })
                .unwrap(),
        );
        drop(token);
        assert!(pool::stats().in_use() > 0);
        yield_now().await;
        while counter(&volume, "done") < 2 {
            yield_now().await;
        }
        assert_eq!(pool::stats().in_use(), 0);
        // It was written nevertheless.
        assert_eq!(volume.read(0, 512).await.unwrap(), vec![9; 512]);
    });
}

#[test]
fn the_last_handle_lets_the_runtime_forget_the_device() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let disk = Disk::new(Geometry::new(512, 8192));
        let mut kept = None;
        // More than a runtime can have at once.
        for round in 0..1000 {
            let volume = Volume::attach(disk.device());
            let other = volume.clone();
            drop(volume);
            kept = Some(other.write(0, Buffer::from(vec![round as u8; 512])));
        }
        // What was under way has ended.
        kept.unwrap().await.unwrap();
        assert_eq!(disk.read(0, 512).unwrap(), [999usize as u8; 512]);
    });
    assert!(runtime.devices().is_empty());
}

#[test]
fn the_end_of_the_runtime_completes_everything() {
    let disk = Disk::new(Geometry::new(512, 8192));
    disk.set_faults(Faults { latency: Duration::from_secs(3600), ..Faults::default() });
    let runtime = Runtime::new().unwrap();
    let (volume, mut token) = runtime.block_on(async {
        let volume = Volume::attach(disk.device());
        let token = volume.read(0, 512);
        (volume, token)
    });
    drop(runtime);
    assert!(token.try_take().is_some());
    drop(volume);
}

#[test]
fn the_time_of_each_operation_is_counted_by_its_kind() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let volume = Volume::attach(Disk::new(Geometry::new(512, 1 << 20)).device());
        for at in 0..3 {
            volume.write(at * 512, Buffer::from(vec![1; 512])).await.unwrap();
        }
        volume.read(0, 512).await.unwrap();
        volume.flush().await.unwrap();
        let metrics = demikernel_runtime::metrics();
        let latencies = &metrics.devices[0].latencies;
        let counts: Vec<_> = latencies.iter().map(|kind| (kind.name(), kind.count())).collect();
        assert_eq!(counts, [("read", 1), ("write", 3), ("flush", 1)]);
        assert!(latencies[1].quantile(1.0).unwrap() <= Duration::from_secs(60));
    });
}
