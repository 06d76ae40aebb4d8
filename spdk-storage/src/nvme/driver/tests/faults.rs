//! Time-outs, resets, removal, and the end.

use super::*;
use crate::queue::Piece;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn a_command_that_takes_too_long_is_aborted() {
    Bench::new(Settings::default()).run(async |bench, volume| {
        bench.double.set_script(|queue, command| match (queue, command.arguments[0]) {
            (1, 8) => Reaction::Ignore,
            _ => Reaction::Perform,
        });
        let mut late = volume.read(4096, 512);
        volume.read(0, 512).await.unwrap();
        assert!(late.try_take().is_none());
        let error = late.await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(
            error.to_string().contains("a read of 512 bytes at 4096 has taken longer than 80ms"),
            "{error}"
        );
        assert_eq!((counter(&volume, "aborts"), counter(&volume, "resets")), (1, 0));
        volume.read(0, 512).await.unwrap();
    });
}

/// A controller that goes silent in the middle of what two volumes have under way.
fn silent(faults: Faults, test: impl AsyncFnOnce(&Bench, Volume, io::Error)) {
    Bench::new(Settings { namespaces: vec![(512, 4096), (512, 4096)], ..Settings::default() }).run(
        async |bench, volume| {
            let other = bench.volume(2);
            volume.write(0, filled(&[5; 512]).freeze()).await.unwrap();
            bench.double.set_script(|_, _| Reaction::Ignore);
            bench.double.state().faults = faults;
            let (first, second) = (volume.read(0, 512), other.write(0, filled(&[6; 512]).freeze()));
            // More than there is room for: what waits is done when it is back, or fails as well.
            let mut waiting: Vec<_> = (0..40).map(|_| volume.read(0, 512)).collect();
            let error = first.await.unwrap_err();
            let of_other = second.await.unwrap_err();
            assert_eq!(of_other.kind(), error.kind());
            bench.double.set_script(|_, _| Reaction::Perform);
            for result in wait_all(&mut waiting).await {
                match result {
                    Ok(read) => assert_eq!(read, [5; 512]),
                    Err(other) => assert_eq!(other.kind(), error.kind()),
                }
            }
            test(bench, volume, error).await;
        },
    );
}

#[test]
fn a_controller_that_is_silent_is_reset_and_works_again() {
    silent(Faults::default(), async |bench, volume, error| {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(
            error.to_string().contains("has taken longer than 80ms, and could not be aborted"),
            "{error}"
        );
        assert_eq!(volume.read(0, 512).await.unwrap(), [5; 512]);
        assert!(counter(&volume, "resets") >= 1);
        assert_eq!(bench.double.state().function_resets, 0);
    });
}

#[test]
fn what_stays_ready_is_reset_as_a_function() {
    let faults = Faults { is_stuck: true, ..Faults::default() };
    silent(faults, async |bench, volume, error| {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        bench.double.state().faults = Faults::default();
        assert_eq!(volume.read(0, 512).await.unwrap(), [5; 512]);
        assert!(bench.double.state().function_resets >= 1);
    });
}

#[test]
fn what_cannot_be_reset_is_kept_from_memory() {
    let faults = Faults { is_stuck: true, has_no_reset: true, ..Faults::default() };
    silent(faults, async |bench, volume, error| {
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        assert!(error.to_string().contains("cannot be reset"), "{error}");
        assert!(bench.double.state().is_severed);
        assert_eq!(volume.read(0, 512).await.unwrap_err().kind(), io::ErrorKind::NotConnected);
        assert_eq!(bench.controller.standing().state(), State::Dead);
    });
}

#[test]
fn a_fatal_status_is_a_reset_of_the_function_if_need_be() {
    Bench::new(Settings::default()).run(async |bench, volume| {
        volume.write(0, filled(&[5; 512]).freeze()).await.unwrap();
        bench.double.state().faults.is_fatal = true;
        let error = volume.read(0, 512).await.unwrap_err();
        assert!(error.to_string().contains("fatal status"), "{error}");
        assert_eq!(volume.read(0, 512).await.unwrap(), [5; 512]);
    });
}

#[test]
fn a_drive_that_is_gone_ends_everything() {
    let cases = [
        (Faults { is_gone: true, ..Faults::default() }, "registers read as ones"),
        (Faults { is_wanted_back: true, ..Faults::default() }, "the system removes it"),
    ];
    for (faults, text) in cases {
        Bench::new(Settings::default()).run(async |bench, volume| {
            bench.double.set_script(|_, _| Reaction::Ignore);
            let mut tokens: Vec<_> = (0..50).map(|_| volume.read(0, 4096)).collect();
            bench.double.step();
            bench.double.state().faults = faults;
            for result in wait_all(&mut tokens).await {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::NotConnected);
                assert!(error.to_string().contains(text), "{error}");
            }
            assert!(volume.flush().await.unwrap_err().to_string().contains(text));
            assert!(bench.double.state().is_severed);
            assert!(bench.controller.alive().is_err());
        });
    }
}

#[test]
fn what_does_not_come_up_is_said() {
    for (faults, text) in [
        (Faults { is_lame: true, has_no_reset: true, ..Faults::default() }, "does not become ready"),
        (Faults { is_gone: true, ..Faults::default() }, "does not answer"),
    ] {
        let double = Double::new(Settings::default());
        double.state().faults = faults;
        let error = Controller::new("double".to_owned(), double, Options::default()).err().unwrap();
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn what_is_under_way_at_the_end_is_over_before_memory_goes() {
    let bench = Bench::new(Settings::default());
    bench.double.set_script(|queue, _| if queue == 0 { Reaction::Perform } else { Reaction::Ignore });
    let runtime = Runtime::new().unwrap();
    let mut token = None;
    runtime.block_on(async {
        let data = bench.controller.namespace(1).unwrap();
        let mut driver = NvmeDriver::new(&bench.controller, &data).unwrap();
        driver.connect_now().unwrap();
        let device = Queue::new(Stepped { double: bench.double.clone(), driver });
        let volume = Volume::attach(device.clone());
        token = Some(volume.read(0, 512));
        bench.double.step();
        demikernel_runtime::transport::Device::shutdown(&*device, Duration::ZERO);
    });
    assert_eq!(token.unwrap().try_take().unwrap().unwrap_err().kind(), io::ErrorKind::NotConnected);
    drop(runtime);
    let deleted =
        bench.double.state().log.iter().filter(|(queue, command)| *queue == 0 && command.opcode == 0).count();
    assert_eq!(deleted, 1);
    pool::trim();
    assert_eq!(bench.double.state().violations, [""; 0]);
}

#[test]
fn every_core_notices_a_reset_and_goes_on() {
    Bench::new(Settings::default()).run(async |bench, volume| {
        volume.write(0, filled(&[5; 512]).freeze()).await.unwrap();
        let (double, controller) = (bench.double.clone(), bench.controller.clone());
        let core = |volume: Volume| async move {
            let mut lost = 0;
            while lost < 3 {
                match volume.read(0, 512).await {
                    Ok(read) => assert_eq!(read, [5; 512]),
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                        lost += 1;
                    }
                }
            }
        };
        let (opened, is_opened) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            let bench = Bench { double, controller };
            Runtime::new().unwrap().block_on(async {
                let volume = bench.volume(1);
                opened.send(()).unwrap();
                core(volume).await;
            });
        });
        is_opened.recv().unwrap();
        let (double, done) = (bench.double.clone(), Arc::new(AtomicBool::new(false)));
        let (seen, controller) = (done.clone(), bench.controller.clone());
        let troublemaker = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
                // Not so often that it is given up.
                double.state().faults.is_fatal |= controller.standing().state() == State::Live;
            }
        });
        core(volume).await;
        other.join().unwrap();
        done.store(true, Ordering::Relaxed);
        troublemaker.join().unwrap();
    });
}

#[test]
fn queues_that_the_controller_does_not_make_are_an_error_until_it_does() {
    let bench = Bench::new(Settings::default());
    let refuses = Arc::new(AtomicBool::new(true));
    let asked = refuses.clone();
    bench.double.set_script(move |queue, command| match (queue, command.opcode) {
        (0, 1) if asked.load(Ordering::Relaxed) => Reaction::Fail((1, 2)),
        _ => Reaction::Perform,
    });
    let data = bench.controller.namespace(1).unwrap();
    let mut driver = NvmeDriver::new(&bench.controller, &data).unwrap();
    let error = driver.connect_now().unwrap_err();
    assert!(error.to_string().contains("the creation of I/O queues failed: invalid queue size"), "{error}");
    // One that is given up so disturbs nobody.
    drop(driver);
    assert_eq!(bench.controller.count().resets, 0);
    let mut driver = NvmeDriver::new(&bench.controller, &data).unwrap();
    driver.connect_now().unwrap_err();
    refuses.store(false, Ordering::Relaxed);
    bench.controller.reset("a test asks for it");
    driver.connect_now().unwrap();
    drop(driver);
    bench.run(async |_, volume| {
        volume.read(0, 512).await.unwrap();
    });
}

#[test]
fn an_admin_command_without_an_answer_is_a_reset() {
    Bench::new(Settings::default()).run(async |bench, volume| {
        bench.double.set_script(|queue, command| match (queue, command.opcode) {
            (0, 6) => Reaction::Ignore,
            _ => Reaction::Perform,
        });
        let error = bench.controller.namespace(1).unwrap_err();
        assert!([io::ErrorKind::TimedOut, io::ErrorKind::ConnectionReset].contains(&error.kind()), "{error}");
        bench.double.set_script(|_, _| Reaction::Perform);
        while volume.read(0, 512).await.is_err() {}
        assert_eq!(bench.controller.namespace(1).unwrap().size, 4096);
        assert_eq!(counter(&volume, "resets"), 1);
    });
}

#[test]
fn a_controller_that_ends_what_it_was_not_given_is_not_believed() {
    Bench::new(Settings::default()).run(async |bench, volume| {
        for id in [0, 3, 16, 17, u16::MAX] {
            for queue in [0, 1] {
                bench.double.invent(queue, id);
            }
            volume.read(0, 512).await.unwrap();
        }
        volume.flush().await.unwrap();
    });
}

#[test]
fn what_a_runtime_waits_for_is_said() {
    let bench = Bench::new(Settings::default());
    let data = bench.controller.namespace(1).unwrap();
    let mut driver = NvmeDriver::new(&bench.controller, &data).unwrap();
    assert_eq!(driver.interest(), Interest::Pause(Duration::from_millis(1)));
    driver.connect_now().unwrap();
    assert_eq!(driver.interest(), Interest::None);
    // SAFETY: no memory.
    assert_eq!(unsafe { driver.submit(0, Command::Flush) }, Submitted::Taken);
    let mut finished = Finished::new();
    driver.poll(Turn::Busy, &mut finished);
    assert_eq!(driver.interest(), Interest::Polling);
    bench.double.step();
    driver.poll(Turn::Busy, &mut finished);
    assert!(matches!(finished[..], [(0, Ok(()))]));
    assert_eq!(driver.interest(), Interest::None);
    // Submitted without a poll, it is on its way when the runtime asks what to wait for.
    // SAFETY: no memory.
    assert_eq!(unsafe { driver.submit(1, Command::Flush) }, Submitted::Taken);
    assert_eq!(driver.interest(), Interest::Polling);
    bench.double.step();
    driver.poll(Turn::Idle, &mut finished);
    assert_eq!(finished.len(), 2);
}

#[test]
fn nothing_is_over_before_the_device_has_let_go_of_its_memory() {
    for faults in [Faults::default(), Faults { is_stuck: true, ..Faults::default() }] {
        let bench = Bench::new(Settings::default());
        bench.double.state().disks[0].fill(7);
        let data = bench.controller.namespace(1).unwrap();
        let mut driver = NvmeDriver::new(&bench.controller, &data).unwrap();
        driver.connect_now().unwrap();
        bench.double.set_script(|queue, _| if queue == 0 { Reaction::Perform } else { Reaction::Ignore });
        let mut buffer = filled(&[1; 4096]);
        let piece = Piece { address: buffer.as_mut_ptr(), length: 4096, region: buffer.region() };
        // SAFETY: nothing else is done with the buffer before the command is over.
        assert_eq!(unsafe { driver.submit(0, Command::Read(0, &[piece])) }, Submitted::Taken);
        driver.interest();
        bench.double.step();
        bench.double.state().faults = faults;
        bench.controller.reset("a test asks for it");
        let mut finished = Finished::new();
        while finished.is_empty() {
            driver.poll(Turn::Idle, &mut finished);
        }
        assert_eq!(finished[0].1.as_ref().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        buffer.as_mut_slice().fill(2);
        bench.double.state().faults = Faults::default();
        driver.connect_now().unwrap();
        // It did what it was told, at the last moment, but not later.
        assert_eq!(buffer, [2; 4096]);
    }
}
