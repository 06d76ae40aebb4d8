mod faults;
mod random;

use super::issue::What;
use super::table::Operation;
use super::*;
use crate::nvme::bus::Bus;
use crate::nvme::controller::State;
use crate::nvme::double::{Double, Faults, Reaction, Settings};
use crate::nvme::status::{INVALID_FIELD, UNRECOVERED_READ};
use crate::{Queue, Volume};
use demikernel_runtime::buffer::{Buffer, BufferMut, Sga, pool};
use demikernel_runtime::time::timeout;
use demikernel_runtime::{Runtime, wait_all};

/// A driver that steps its controller whenever it is polled.
struct Stepped {
    double: Arc<Double>,
    driver: NvmeDriver,
}

// SAFETY: that of the driver.
unsafe impl Driver for Stepped {
    fn name(&self) -> &'static str {
        "stepped"
    }

    fn geometry(&self) -> Geometry {
        self.driver.geometry()
    }

    fn reaches(&self, command: &Command<'_>) -> bool {
        self.driver.reaches(command)
    }

    unsafe fn submit(&mut self, tag: u32, command: Command<'_>) -> Submitted {
        // SAFETY: the caller keeps the command's memory until the tag is finished, as the driver inside asks.
        unsafe { self.driver.submit(tag, command) }
    }

    fn poll(&mut self, _turn: Turn, finished: &mut Finished) {
        self.double.step();
        self.driver.poll(Turn::Idle, finished);
    }

    fn interest(&mut self) -> Interest {
        self.driver.interest()
    }

    fn shut_down(&mut self, grace: Duration, finished: &mut Finished) {
        self.driver.shut_down(grace, finished);
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.driver.counters()
    }
}

/// A controller, and what it is given.
struct Bench {
    double: Arc<Double>,
    controller: Arc<Controller>,
}

impl Bench {
    fn new(settings: Settings) -> Bench {
        Bench::with(settings, Options { depth: 16, timeout: Duration::from_millis(80) })
    }

    fn with(settings: Settings, options: Options) -> Bench {
        let double = Double::new(settings);
        let bus: Arc<dyn Bus> = double.clone();
        let controller = Controller::new("double".to_owned(), bus, options).unwrap();
        Bench { double, controller }
    }

    fn volume(&self, number: u32) -> Volume {
        let data = self.controller.namespace(number).unwrap();
        let mut driver = NvmeDriver::new(&self.controller, &data).unwrap();
        driver.connect_now().unwrap();
        Volume::attach(Queue::new(Stepped { double: self.double.clone(), driver }))
    }

    /// Runs a test with the first namespace, after which nothing is left of anything.
    #[track_caller]
    fn run(self, test: impl AsyncFnOnce(&Bench, Volume)) {
        Runtime::new().unwrap().block_on(async {
            let volume = self.volume(1);
            timeout(Duration::from_secs(100), test(&self, volume)).await.expect("nothing waits for ever");
        });
        let Bench { double, controller } = self;
        assert_eq!(Arc::strong_count(&controller), 1, "somebody holds the controller");
        drop(controller);
        let state = double.state();
        assert_eq!(state.violations, [""; 0]);
    }
}

fn counter(volume: &Volume, name: &str) -> u64 {
    volume.counters().iter().find(|(other, _)| *other == name).unwrap().1
}

fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|index| (index.wrapping_mul(31) ^ index >> 9 ^ seed.wrapping_mul(97)) as u8).collect()
}

fn filled(content: &[u8]) -> BufferMut {
    let mut buffer = BufferMut::with_capacity(content.len()).unwrap();
    buffer.extend_from_slice(content);
    buffer
}

#[test]
fn what_is_written_is_read_through_the_ends_of_the_queues() {
    Bench::new(Settings::default()).run(async |bench, volume| {
        assert_eq!(volume.geometry().capacity, 512 * 4096);
        // The queues have 17 entries, so that is many times around.
        for round in 0..200 {
            let content = pattern(round, 512 * (1 + round % 8));
            volume.write(512 * round as u64, filled(&content).freeze()).await.unwrap();
            assert_eq!(volume.read(512 * round as u64, content.len()).await.unwrap(), content);
        }
        volume.flush().await.unwrap();
        volume.write_zeroes(0, 1024).await.unwrap();
        assert_eq!(bench.double.state().disks[0][..1024], [0; 1024]);
        volume.discard(512, 1024).await.unwrap();
        assert_eq!(bench.double.state().disks[0][512..1536], [0xdd; 1024]);
        assert_eq!((counter(&volume, "commands"), counter(&volume, "bounced")), (403, 0));
    });
}

#[test]
fn more_than_the_queue_holds_goes_in_order_with_one_doorbell_a_turn() {
    Bench::new(Settings::default()).run(async |bench, volume| {
        let doorbells = counter(&volume, "doorbells");
        let mut tokens: Vec<_> = (0..100)
            .map(|index| volume.write(512 * index, filled(&pattern(index as usize, 512)).freeze()))
            .collect();
        wait_all(&mut tokens).await.into_iter().for_each(|result| result.unwrap());
        let writes: Vec<u32> = bench
            .double
            .state()
            .log
            .iter()
            .filter(|(queue, _)| *queue == 1)
            .map(|(_, command)| command.arguments[0])
            .collect();
        assert_eq!(writes, (0..100).collect::<Vec<_>>());
        // Sixteen at a time.
        assert!((7..=14).contains(&(counter(&volume, "doorbells") - doorbells)));
    });
}

#[test]
fn completions_in_any_order_find_their_operations() {
    let settings = Settings { shuffle: Some(7), ..Settings::default() };
    Bench::new(settings).run(async |_, volume| {
        for round in 0..20 {
            let content = |index: usize| pattern(round * 100 + index, 512 * (1 + index % 3));
            let place = |index: usize| 2048 * index as u64;
            let mut writes: Vec<_> =
                (0..40).map(|index| volume.write(place(index), filled(&content(index)).freeze())).collect();
            wait_all(&mut writes).await.into_iter().for_each(|result| result.unwrap());
            let mut reads: Vec<_> =
                (0..40).map(|index| volume.read(place(index), content(index).len())).collect();
            for (index, read) in wait_all(&mut reads).await.into_iter().enumerate() {
                assert_eq!(read.unwrap(), content(index), "{index}");
            }
        }
    });
}

#[test]
fn what_is_longer_than_a_command_is_divided() {
    // Pages of 4 KiB, twice: 8 KiB at most.
    for (namespaces, sgls) in [(vec![(512, 8192)], false), (vec![(4096, 1024)], true)] {
        let settings = Settings { mdts: 1, namespaces, sgls, ..Settings::default() };
        Bench::new(settings).run(async |bench, volume| {
            let length = 1 << 20;
            let content = pattern(3, length);
            // Longer than all of the queue, twice, behind one another.
            let mut tokens = [
                volume.write(8192, filled(&content).freeze()),
                volume.write(length as u64 + 8192, filled(&content[..65536]).freeze()),
            ];
            wait_all(&mut tokens).await.into_iter().for_each(|result| result.unwrap());
            assert_eq!(counter(&volume, "commands"), 128 + 8);
            assert_eq!(counter(&volume, "divided"), 2);
            assert!(bench.double.state().disks[0][8192..][..length] == content);
            assert!(volume.read(8192, length).await.unwrap() == content);
        });
    }
}

#[test]
fn memory_in_pieces_is_one_command_where_the_drive_has_lists() {
    for (sgls, commands) in [(true, 1), (false, 3)] {
        let settings = Settings { sgls, ..Settings::default() };
        Bench::new(settings).run(async |bench, volume| {
            // The second goes on in a page of its own; the others begin within theirs.
            let parts = [pattern(1, 4096), pattern(2, 4096), pattern(3, 1024), pattern(4, 512)];
            let data: Sga = parts
                .iter()
                .zip([0, 0, 512, 1024])
                .map(|(part, headroom)| {
                    let mut buffer = BufferMut::with_headroom(headroom, part.len()).unwrap();
                    buffer.extend_from_slice(part);
                    buffer.freeze()
                })
                .collect();
            volume.write(1024, data).await.unwrap();
            assert_eq!(counter(&volume, "commands"), commands, "{sgls}");
            assert!(bench.double.state().disks[0][1024..][..9728] == parts.concat());
            // Buffers of which only the end is free.
            let room = |length: usize| {
                let mut buffer = BufferMut::with_capacity(length).unwrap();
                buffer.resize(buffer.capacity() - length, 0);
                buffer
            };
            let lengths = [4096, 3584, 1536, 512];
            let buffers = volume.read_vectored(1024, lengths.map(room).into()).await.unwrap();
            let ends = buffers.iter().zip(lengths).map(|(buffer, length)| &buffer[buffer.len() - length..]);
            assert!(ends.collect::<Vec<_>>().concat() == parts.concat());
            assert_eq!(counter(&volume, "bounced"), 0);
        });
    }
}

#[test]
fn a_write_that_is_to_be_atomic_is_never_divided() {
    let settings = Settings { atomic_write: 7, ..Settings::default() };
    Bench::new(settings).run(async |_, volume| {
        assert_eq!(volume.geometry().atomic_write, 4096);
        let parts = || [pattern(1, 512), pattern(2, 3584)];
        let data: Sga = parts().iter().map(|part| filled(part).freeze()).collect();
        volume.write(0, data).await.unwrap();
        assert_eq!((counter(&volume, "commands"), counter(&volume, "bounced")), (1, 1));
        assert_eq!(volume.read(0, 4096).await.unwrap(), parts().concat());
        // What is longer may be.
        let data: Sga = parts().iter().chain(&parts()).map(|part| filled(part).freeze()).collect();
        volume.write(0, data).await.unwrap();
        assert_eq!((counter(&volume, "bounced"), counter(&volume, "divided")), (1, 1));
    });
}

#[test]
fn memory_that_is_not_of_the_heap_is_copied() {
    Bench::new(Settings::default()).run(async |bench, volume| {
        let content = pattern(9, 4096);
        volume.write(0, Buffer::from(content.clone())).await.unwrap();
        assert_eq!(counter(&volume, "bounced"), 1);
        assert_eq!(bench.double.state().disks[0][..4096], content);
    });
}

#[test]
fn several_namespaces_and_cores_share_a_controller() {
    let namespaces = vec![(512, 1024), (4096, 256), (512, 64)];
    let settings = Settings { namespaces, queues: 4, ..Settings::default() };
    Bench::new(settings).run(async |bench, first| {
        assert_eq!(bench.controller.namespaces().unwrap(), [1, 2, 3]);
        let second = bench.volume(2);
        assert_eq!((second.geometry().logical_block, second.geometry().capacity), (4096, 1 << 20));
        first.write(0, filled(&[1; 4096]).freeze()).await.unwrap();
        second.write(0, filled(&[2; 4096]).freeze()).await.unwrap();
        let error = second.write(512, filled(&[2; 512]).freeze()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let (double, controller) = (bench.double.clone(), bench.controller.clone());
        std::thread::spawn(move || {
            Runtime::new().unwrap().block_on(async {
                let volume = Bench { double, controller }.volume(1);
                assert_eq!(volume.read(0, 4096).await.unwrap(), [1; 4096]);
                volume.write(8192, filled(&[3; 512]).freeze()).await.unwrap();
            });
        })
        .join()
        .unwrap();
        assert_eq!(first.read(8192, 512).await.unwrap(), [3; 512]);
        assert_eq!(second.read(0, 4096).await.unwrap(), [2; 4096]);
        // Two are in use, and there is one more, and another that was given back.
        let more = [bench.volume(3), bench.volume(3)];
        let data = bench.controller.namespace(3).unwrap();
        let error = NvmeDriver::new(&bench.controller, &data).err().unwrap();
        assert!(error.to_string().contains("has 4 I/O queues"), "{error}");
        drop(more);
        assert_eq!(bench.controller.namespace(4).unwrap_err().kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn errors_of_the_drive_are_said_and_nothing_else_fails() {
    Bench::new(Settings { mdts: 1, ..Settings::default() }).run(async |bench, volume| {
        bench.double.set_script(|queue, command| match (queue, command.opcode, command.arguments[0]) {
            (1, 2, 64) => Reaction::Fail(UNRECOVERED_READ),
            (1, 1, 16) => Reaction::Fail(INVALID_FIELD),
            _ => Reaction::Perform,
        });
        let error = volume.read(32768, 512).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let text = "NVMe: a read of 512 bytes at 32768 failed: unrecovered read error (status code type 2h";
        assert!(error.to_string().starts_with(text), "{error}");
        // The second of many commands: the rest is not issued once that is known.
        let before = counter(&volume, "commands");
        let error = volume.write(0, filled(&pattern(1, 1 << 20)).freeze()).await.unwrap_err();
        assert!(error.to_string().contains("a write of 1048576 bytes at 0 failed: invalid field"), "{error}");
        assert!(counter(&volume, "commands") - before <= 32);
        volume.read(0, 8192).await.unwrap();
    });
}

#[test]
fn what_a_drive_cannot_do_is_unsupported() {
    Bench::new(Settings { optional: 0, ..Settings::default() }).run(async |_, volume| {
        assert_eq!(volume.discard(0, 512).await.unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(volume.write_zeroes(0, 512).await.unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(counter(&volume, "commands"), 0);
    });
}

#[test]
fn a_large_range_is_zeroed_by_several_commands() {
    let settings = Settings { namespaces: vec![(512, 200_000)], ..Settings::default() };
    Bench::new(settings).run(async |bench, volume| {
        bench.double.state().disks[0].fill(9);
        volume.write_zeroes(512, 512 * 150_000).await.unwrap();
        assert_eq!(counter(&volume, "commands"), 3);
        let state = bench.double.state();
        assert!(state.disks[0][512..][..512 * 150_000].iter().all(|&byte| byte == 0));
        assert_eq!((state.disks[0][511], state.disks[0][512 * 150_001]), (9, 9));
    });
}

#[test]
fn nothing_at_all_is_done_at_once() {
    Bench::new(Settings::default()).run(async |_, volume| {
        assert_eq!(volume.read(0, 0).await.unwrap().len(), 0);
        volume.discard(512, 0).await.unwrap();
        volume.write_zeroes(512, 0).await.unwrap();
        assert_eq!(counter(&volume, "commands"), 0);
    });
}

#[test]
fn events_are_counted_and_asked_for_again() {
    Bench::new(Settings::default()).run(async |bench, volume| {
        for event in 1..10 {
            bench.double.report(1, 1, 2);
            while counter(&volume, "events") < event {
                volume.read(0, 512).await.unwrap();
            }
        }
        let state = bench.double.state();
        let logs = state.log.iter().filter(|(queue, command)| *queue == 0 && command.opcode == 2);
        assert!((8..10).contains(&logs.count()));
    });
}

#[test]
fn commands_that_were_not_given_are_not_ended() {
    let mut table = Table::new(4);
    assert_eq!(table.end_command(0), None);
    assert_eq!(table.end_command(u16::MAX), None);
    let index = table.add(Operation::new(7, What::of(&Command::Flush)));
    let id = table.begin_command(index, 0).unwrap();
    assert_eq!(table.end_command(id), Some((index, false)));
    assert_eq!(table.end_command(id), None);
}
