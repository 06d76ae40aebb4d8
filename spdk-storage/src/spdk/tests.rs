//! All of it on doubles of controllers.

use super::controller::Controller;
use super::double::{self, Double};
use super::error::SpdkError;
use crate::Volume;
use demikernel_runtime::buffer::{Buffer, BufferMut, Sga};
use demikernel_runtime::random::Random;
use demikernel_runtime::time::{Duration, sleep};
use demikernel_runtime::{Builder, Idle, wait_all};
use std::io;

fn run(test: impl AsyncFnOnce()) {
    Builder::new().idle(Idle::Spin).build().unwrap().block_on(test());
}

fn connect(double: &Double) -> Result<Controller, SpdkError> {
    let transport = format!("trtype:DOUBLE traddr:{}", double.name());
    Controller::connect_in(double::environment(), double.name(), &transport)
}

/// A namespace of a new double.
fn volume(name: &str, block: u32, blocks: usize) -> (&'static Double, Volume) {
    let double = Double::new(name, &[(block, blocks)]);
    (double, Volume::attach(connect(double).unwrap().open(1).unwrap()))
}

/// Memory of the pool.
fn pooled(length: usize, byte: u8) -> Buffer {
    let mut buffer = BufferMut::with_capacity(length).unwrap();
    buffer.resize(length, byte);
    buffer.freeze()
}

fn counter(volume: &Volume, name: &str) -> u64 {
    volume.counters().iter().find(|(other, _)| *other == name).unwrap().1
}

#[test]
fn a_disk_is_what_was_written_to_it() {
    run(async || {
        let (double, volume) = volume("model", 512, 256);
        let mut model = vec![0; 256 * 512];
        let mut random = Random::new(1, 1);
        for round in 0..2000 {
            let (at, blocks) = (random.below(256) as usize, 1 + random.below(12) as usize);
            let blocks = blocks.min(256 - at);
            let (start, length) = (at * 512, blocks * 512);
            let byte = round as u8;
            let position = start as u64;
            let expected: Vec<u8> = match random.below(5) {
                0 => {
                    volume.write(position, pooled(length, byte)).await.unwrap();
                    vec![byte; length]
                }
                1 => {
                    let parts: Sga = (0..blocks).map(|index| pooled(512, byte ^ index as u8)).collect();
                    volume.write(position, parts).await.unwrap();
                    (0..length).map(|index| byte ^ (index / 512) as u8).collect()
                }
                2 => {
                    volume.write_zeroes(position, length as u64).await.unwrap();
                    vec![0; length]
                }
                3 => {
                    assert_eq!(volume.read(position, length).await.unwrap(), &model[start..start + length]);
                    continue;
                }
                _ => {
                    // A chunk may have more room than was asked for, all of which is read.
                    let start = start % (32 * 512);
                    let buffers = (0..blocks).map(|_| BufferMut::with_capacity(512).unwrap()).collect();
                    let read = volume.read_vectored(start as u64, buffers).await.unwrap();
                    let read: Vec<u8> = read.iter().flat_map(|buffer| buffer.to_vec()).collect();
                    assert_eq!(read, &model[start..start + read.len()]);
                    continue;
                }
            };
            model[start..start + length].copy_from_slice(&expected);
        }
        volume.flush().await.unwrap();
        assert_eq!(*double.data(1), model);
        assert_eq!(counter(&volume, "bounced"), 0);
    });
}

#[test]
fn commands_end_in_any_order_and_wait_for_room() {
    run(async || {
        let (double, volume) = volume("order", 4096, 64);
        double.state().room = 3;
        let mut tokens: Vec<_> = (0..64).map(|at| volume.write(at * 4096, pooled(4096, at as u8))).collect();
        wait_all(&mut tokens).await.into_iter().for_each(|result| result.unwrap());
        for (at, block) in double.data(1).chunks(4096).enumerate() {
            assert!(block.iter().all(|&byte| byte == at as u8), "{at}");
        }
        assert!(counter(&volume, "full") > 0 && counter(&volume, "waited") > 0);
    });
}

#[test]
fn what_the_controller_does_not_reach_is_copied() {
    run(async || {
        let (double, volume) = volume("copied", 512, 8);
        volume.write(0, Buffer::from(vec![7; 512])).await.unwrap();
        // Not aligned to what PRP entries are.
        volume.write(512, pooled(1024, 8).slice(2..514)).await.unwrap();
        assert_eq!(double.data(1)[..1024], [[7; 512], [8; 512]].concat());
        assert_eq!(counter(&volume, "bounced"), 2);
    });
}

#[test]
fn long_ranges_are_divided() {
    run(async || {
        const BLOCKS: usize = (2 << 16) + 5;
        let (double, volume) = volume("ranges", 512, BLOCKS);
        double.data(1).fill(1);
        // No part finds room but one.
        double.state().room = 1;
        let all = (BLOCKS * 512) as u64;
        let mut tokens = [volume.write_zeroes(0, all), volume.write_zeroes(0, 512)];
        wait_all(&mut tokens).await.into_iter().for_each(|result| result.unwrap());
        assert!(double.data(1).iter().all(|&byte| byte == 0));
        // The second part is refused.
        double.data(1).fill(1);
        double.state().statuses = vec![0x80, 0];
        let error = volume.write_zeroes(0, all).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        assert_eq!([0, 512 << 16].map(|at: usize| double.data(1)[at]), [0, 1]);
        // Nothing of it is left.
        volume.write_zeroes(0, 512).await.unwrap();
    });
}

#[test]
fn errors_say_what_the_controller_said() {
    run(async || {
        let (double, volume) = volume("errors", 512, 8);
        for (status, kind, text) in [
            (
                0x281,
                io::ErrorKind::InvalidData,
                "could not be read from the medium (status code type 0x2, code 0x81)",
            ),
            (0x0b, io::ErrorKind::NotFound, "the namespace is gone"),
            (0x20, io::ErrorKind::ReadOnlyFilesystem, "write-protected"),
            // With the bit that says not to try again.
            (0x4006, io::ErrorKind::Other, "the controller refuses (status code type 0x0, code 0x6)"),
        ] {
            double.state().statuses = vec![status];
            let error = volume.read(0, 512).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
        double.state().refusals = vec![-libc::EFAULT];
        let error = volume.read(0, 512).await.unwrap_err();
        assert!(error.to_string().starts_with("errors: SPDK refuses the command: Bad address"), "{error}");
        // The first namespace cannot discard.
        assert_eq!(volume.discard(0, 512).await.unwrap_err().kind(), io::ErrorKind::Unsupported);
        volume.read(0, 512).await.unwrap();
    });
}

#[test]
fn a_controller_that_fails_is_reset_and_goes_on() {
    run(async || {
        let (double, volume) = volume("fails", 512, 64);
        double.state().resets_to_fail = 2;
        let mut tokens: Vec<_> = (0..8).map(|at| volume.write(at * 512, pooled(512, 1))).collect();
        double.state().has_failed = true;
        let results = wait_all(&mut tokens).await;
        for error in results.into_iter().filter_map(Result::err) {
            assert!(
                matches!(error.kind(), io::ErrorKind::NotConnected | io::ErrorKind::ConnectionAborted),
                "{error}"
            );
        }
        // Until it is there again.
        let error = volume.read(0, 512).await.unwrap_err();
        assert!(error.to_string().contains("the controller is lost"), "{error}");
        while volume.read(0, 512).await.is_err() {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(double.state().resets, 3);
        volume.write(0, pooled(512, 9)).await.unwrap();
        assert_eq!(double.data(1)[0], 9);
        assert_eq!((counter(&volume, "lost"), double.state().queue_pairs), (1, 1));
    });
}

#[test]
fn what_takes_too_long_is_aborted_or_the_controller_reset() {
    run(async || {
        let (double, volume) = volume("silent", 512, 8);
        double.state().is_silent = true;
        let error = volume.read(0, 512).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        assert_eq!(double.state().resets, 0);
        double.state().aborts = false;
        let error = volume.read(0, 512).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted, "{error}");
        assert_eq!(double.state().resets, 1);
        while volume.read(0, 512).await.is_err() {
            sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn two_cores_use_one_controller_and_survive_its_reset() {
    let double = Double::new("cores", &[(512, 64), (4096, 64)]);
    let controller = connect(double).unwrap();
    let threads = [1, 2].map(|namespace| {
        let controller = controller.clone();
        std::thread::spawn(move || {
            run(async || {
                let volume = Volume::attach(controller.open(namespace).unwrap());
                let block = u64::from(volume.geometry().logical_block);
                let mut failed = 0;
                for round in 0..400_u64 {
                    if round == 200 && namespace == 1 {
                        double.state().has_failed = true;
                    }
                    let at = round % 64 * block;
                    while volume.write(at, pooled(block as usize, round as u8)).await.is_err() {
                        failed += 1;
                        sleep(Duration::from_millis(1)).await;
                    }
                }
                assert!(failed > 0 || namespace == 2, "it noticed");
                let read = volume.read(63 * block, block as usize).await.unwrap();
                assert_eq!(read[0], (383 % 256) as u8);
            });
        })
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(double.state().queue_pairs, 0);
    assert!(double.state().is_attached);
    drop(controller);
    assert!(!double.state().is_attached);
}

#[test]
fn an_idle_controller_is_looked_after() {
    run(async || {
        let (double, volume) = volume("idle", 512, 8);
        volume.read(0, 512).await.unwrap();
        let before = double.state().admin_polls;
        sleep(Duration::from_millis(350)).await;
        assert!((2..=5).contains(&(double.state().admin_polls - before)));
    });
}

#[test]
fn dropped_operations_keep_their_memory_until_they_are_over() {
    run(async || {
        let (double, volume) = volume("dropped", 512, 8);
        double.data(1).fill(5);
        let data = pooled(512, 6);
        let address = data.as_ptr();
        drop(volume.write(0, data));
        drop(volume.read(512, 512));
        // It has not been freed, so that nobody else gets it.
        assert_ne!(pooled(512, 0).as_ptr(), address);
        volume.flush().await.unwrap();
        while double.data(1)[0] != 6 {
            demikernel_runtime::yield_now().await;
        }
    });
}

#[test]
fn memory_is_registered_once_for_a_thread_and_not_for_longer() {
    // A thread of its own, for its pool.
    std::thread::spawn(|| {
        run(async || {
            let (_, first) = volume("memory-1", 512, 8);
            let (_, second) = volume("memory-2", 512, 8);
            let data = pooled(512, 1);
            let region = data.as_ptr() as usize & !((2 << 20) - 1);
            assert!(double::registered().contains_key(&region));
            drop(first);
            assert!(double::registered().contains_key(&region));
            second.write(0, data.clone()).await.unwrap();
            assert_eq!(counter(&second, "bounced"), 0);
            drop(second);
            assert!(!double::registered().contains_key(&region));
        });
    })
    .join()
    .unwrap();
}

#[test]
fn what_there_is_not_is_refused() {
    let nobody = Controller::connect_in(double::environment(), "nobody", "trtype:DOUBLE traddr:nobody");
    assert_eq!(io::Error::from(nobody.unwrap_err()).kind(), io::ErrorKind::NotFound);
    let unknown = Controller::connect_in(double::environment(), "what", "what").unwrap_err();
    assert!(unknown.to_string().starts_with("\"what\" is no address of a controller"), "{unknown}");
    let double = Double::new("refused", &[(512, 8), (520, 8), (512, 0)]);
    let controller = connect(double).unwrap();
    assert_eq!(controller.namespaces(), [1, 2, 3]);
    let error = controller.open(4).unwrap_err().to_string();
    assert_eq!(error, "the controller at refused has no active namespace 4: it has [1, 2, 3]");
    assert_eq!(controller.open(0).unwrap_err(), controller.open(0).unwrap_err());
    for (namespace, found) in [(2, "8 blocks of 520 bytes"), (3, "0 blocks of 512 bytes")] {
        let error = controller.open(namespace).unwrap_err().to_string();
        assert!(error.contains(found), "{error}");
    }
    double.state().is_exhausted = true;
    assert!(matches!(controller.open(1).unwrap_err(), SpdkError::QueuePair { .. }));
    double.state().is_exhausted = false;
    assert_eq!(double.state().queue_pairs, 0);
}

#[test]
fn the_geometry_is_what_the_controller_says() {
    let double = Double::new("geometry", &[(512, 8), (4096, 8)]);
    let controller = connect(double).unwrap();
    let geometries = [1, 2].map(|number| {
        let queue = controller.open(number).unwrap();
        crate::BlockDevice::geometry(&*queue)
    });
    assert_eq!(geometries.map(|geometry| geometry.logical_block), [512, 4096]);
    assert_eq!(geometries.map(|geometry| geometry.atomic_write), [8 * 512, 8 * 4096]);
    assert_eq!(geometries.map(|geometry| geometry.capacity), [8 * 512, 8 * 4096]);
    assert!(geometries.iter().all(|geometry| geometry.volatile_cache && !geometry.read_only));
}
