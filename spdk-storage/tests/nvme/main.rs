//! Our NVMe driver on drives that are bound to vfio-pci, in a guest that `cargo xtask test --only nvme` starts: what it
//! needs is not on every machine, so elsewhere nothing is done here. The guest's kernel has the drives first, and reads what
//! we have written.
//!
//! - `guest`: the machine, its drives, and the commands of README.md, which are run as they stand there.
//! - `kernel`: the kernel's driver on the same drives, through io_uring.
//! - `log`: the log on a drive.

mod guest;
#[cfg(feature = "io-uring")]
mod kernel;
mod log;

use demikernel_runtime::buffer::{BufferMut, Sga};
use demikernel_runtime::time::{Instant, sleep};
use demikernel_runtime::{Runtime, wait_all};
use demikernel_spdk_storage::Volume;
use demikernel_spdk_storage::nvme::{self, Address, Options};
use guest::{FAULTY, SLOW, TWO, counter, filled, open, pattern};
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

#[test]
fn a_drive_that_the_kernel_has_is_refused_with_what_to_do() {
    guest::run(async || {
        guest::kernels(FAULTY, 1);
        let error = open(FAULTY, Options::default()).unwrap_err().to_string();
        assert!(
            error.contains("the kernel has it as nvme") && error.contains("modprobe vfio-pci"),
            "{error}"
        );
        let error = open(guest::PORT, Options::default()).unwrap_err().to_string();
        assert!(error.contains("is not an NVMe controller: its class is 0x0604"), "{error}");
    });
}

#[test]
fn each_of_the_kernel_and_us_reads_what_the_other_has_written() {
    guest::run(async || {
        const LENGTH: usize = 1 << 20;
        for namespace in [1u32, 2] {
            let disk = fs::File::options().write(true).open(guest::kernels(TWO, namespace)).unwrap();
            disk.write_all_at(&pattern(u64::from(namespace), LENGTH), 8192).unwrap();
            disk.sync_all().unwrap();
        }
        guest::bind(TWO);
        for namespace in [1u32, 2] {
            let volume = open(&format!("{TWO}/{namespace}"), Options::default()).unwrap();
            assert_eq!(volume.geometry().capacity, 64 << 20);
            assert_eq!(volume.geometry().logical_block, if namespace == 1 { 512 } else { 4096 });
            let read = volume.read(8192, LENGTH).await.unwrap();
            assert!(read == pattern(u64::from(namespace), LENGTH));
            let content = pattern(100 + u64::from(namespace), LENGTH);
            volume.write(16384, filled(&content).freeze()).await.unwrap();
            volume.flush().await.unwrap();
        }
        guest::give_back(TWO);
        for namespace in [1u32, 2] {
            let disk = fs::File::open(guest::kernels(TWO, namespace)).unwrap();
            let mut read = vec![0; LENGTH];
            disk.read_exact_at(&mut read, 16384).unwrap();
            assert!(read == pattern(100 + u64::from(namespace), LENGTH));
        }
    });
}

#[test]
fn who_may_not_have_a_drive_is_told_what_is_missing() {
    const NAME: &str = "who_may_not_have_a_drive_is_told_what_is_missing";
    guest::run(async || {
        if guest::is_user() {
            let error = match open(FAULTY, Options::default()) {
                Ok(volume) => volume.read(0, 512).await.unwrap_err(),
                Err(error) => error,
            };
            return println!("{error}");
        }
        guest::bind(FAULTY);
        let group = guest::group(FAULTY);
        let said = guest::as_user(NAME, 64);
        assert!(said.contains(&format!("this user may not use {group}: as root, chown it")), "{said}");
        guest::shell(&format!("chown 65534 {group}"));
        // Too little for the queues, and then for buffers.
        for limit in [64, 1024] {
            let said = guest::as_user(NAME, limit);
            assert!(said.contains(&format!("this user may lock {} bytes", limit * 1024)), "{said}");
        }
        let volume = open(FAULTY, Options::default()).unwrap();
        assert!(
            guest::as_user(NAME, 1024).contains(&format!("{group} is in use: a program has this controller"))
        );
        drop(volume);
    });
}

#[test]
fn namespaces_are_found() {
    guest::run(async || {
        guest::bind(TWO);
        let address: Address = TWO.parse().unwrap();
        assert_eq!(nvme::namespaces(address.function()).unwrap(), [1, 2]);
        let error = open(TWO, Options::default()).unwrap_err().to_string();
        assert!(error.contains("has the namespaces [1, 2]: say which"), "{error}");
        let error = open(&format!("{TWO}/3"), Options::default()).unwrap_err();
        assert!(
            error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::InvalidInput,
            "{error}"
        );
    });
}

/// Writes and reads at random, many at a time, beside a copy in memory.
async fn exercise(volume: &Volume, from: u64, seed: u64) {
    const AREA: usize = 4 << 20;
    const DEPTH: usize = 32;
    let block = volume.geometry().logical_block as usize;
    let mut model = vec![0; AREA];
    volume.write_zeroes(from, AREA as u64).await.unwrap();
    let mut state = seed;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    for round in 0..6 {
        // Of those that are under way together, each has a part of the area of its own.
        let part = AREA / DEPTH;
        let mut writes = Vec::new();
        let mut places = Vec::new();
        for index in 0..DEPTH {
            let blocks = 1 + random(part / block);
            let at = index * part + random(part / block - blocks + 1) * block;
            let content = pattern(seed ^ (round * 1000 + index as u64), blocks * block);
            model[at..at + content.len()].copy_from_slice(&content);
            // Some in two pieces, of which the second begins within a page where blocks are small.
            let cut = random(blocks) * block;
            let data: Sga = match cut {
                0 => Sga::from(filled(&content).freeze()),
                cut => {
                    [filled(&content[..cut]).freeze(), filled(&content[cut..]).freeze()].into_iter().collect()
                }
            };
            places.push((at, content.len()));
            writes.push(volume.write(from + at as u64, data));
        }
        wait_all(&mut writes).await.into_iter().for_each(|result| result.unwrap());
        let mut reads: Vec<_> =
            places.iter().map(|&(at, length)| volume.read(from + at as u64, length)).collect();
        for (read, (at, length)) in wait_all(&mut reads).await.into_iter().zip(places) {
            assert!(read.unwrap() == model[at..at + length], "{length} bytes at {at} are others");
        }
    }
    let read = volume.read(from, AREA).await.unwrap();
    assert!(read == model);
}

#[test]
fn random_ranges_are_read_as_they_were_written() {
    guest::run(async || {
        guest::bind(TWO);
        let volumes = [1, 2].map(|number| open(&format!("{TWO}/{number}"), Options::default()).unwrap());
        for (volume, seed) in volumes.iter().zip([11, 12]) {
            exercise(volume, 1 << 20, seed).await;
            assert!(counter(volume, "lists") > 0 && counter(volume, "divided") > 0);
            println!("{:?}", volume.counters());
        }
    });
}

#[test]
fn cores_have_queues_of_their_own() {
    guest::run(async || {
        guest::bind(TWO);
        let core = |index: u64| {
            move || {
                Runtime::new().unwrap().block_on(async {
                    let volume = open(&format!("{TWO}/2"), Options::default()).unwrap();
                    exercise(&volume, index * (8 << 20), index).await;
                });
            }
        };
        let cores = [1, 2].map(|index| thread::spawn(core(index)));
        cores.into_iter().for_each(|core| core.join().unwrap());
    });
}

#[test]
fn what_is_zeroed_reads_as_zeros_and_what_is_discarded_may_be_written() {
    guest::run(async || {
        guest::bind(TWO);
        for number in [1, 2] {
            let volume = open(&format!("{TWO}/{number}"), Options::default()).unwrap();
            let content = pattern(5, 1 << 20);
            volume.write(0, filled(&content).freeze()).await.unwrap();
            volume.write_zeroes(8192, 65536).await.unwrap();
            volume.discard(262_144, 65536).await.unwrap();
            volume.flush().await.unwrap();
            let read = volume.read(0, 1 << 20).await.unwrap();
            assert!(read[..8192] == content[..8192] && read[8192..73728].iter().all(|&byte| byte == 0));
            assert!(read[73728..262_144] == content[73728..262_144] && read[327_680..] == content[327_680..]);
            volume.write(262_144, filled(&content[..4096]).freeze()).await.unwrap();
            assert_eq!(volume.read(262_144, 4096).await.unwrap(), content[..4096]);
            let error = volume.read(64 << 20, 4096).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    });
}

#[test]
fn errors_of_the_drive_are_said() {
    guest::run(async || {
        guest::bind(FAULTY);
        let volume = open(FAULTY, Options::default()).unwrap();
        let error = volume.read(64 * 512, 512).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("unrecovered read error"), "{error}");
        let error = volume.write(128 * 512, filled(&[1; 512]).freeze()).await.unwrap_err();
        assert!(error.to_string().contains("write fault"), "{error}");
        assert_eq!(volume.read(65 * 512, 512).await.unwrap(), [0; 512]);
        assert_eq!(counter(&volume, "failed"), 2);
    });
}

#[test]
fn events_are_heard() {
    guest::run(async || {
        guest::bind(TWO);
        let volume = open(&format!("{TWO}/1"), Options::default()).unwrap();
        for (event, warning) in [(1, 4), (2, 1)] {
            // What was warned of before is not warned of again before it is over.
            guest::monitor("qom-set /machine/peripheral/double smart_critical_warning 0");
            guest::monitor(&format!("qom-set /machine/peripheral/double smart_critical_warning {warning}"));
            while counter(&volume, "events") < event {
                volume.read(0, 512).await.unwrap();
            }
        }
        guest::monitor("qom-set /machine/peripheral/double smart_critical_warning 0");
    });
}

#[test]
fn a_drive_that_takes_too_long_is_reset_and_works_again() {
    guest::run(async || {
        guest::bind(SLOW);
        let timeout = Duration::from_millis(800);
        let volume = open(SLOW, Options { timeout, ..Options::default() }).unwrap();
        volume.write(0, filled(&pattern(1, 4096)).freeze()).await.unwrap();
        let mut tokens: Vec<_> = (0..24).map(|_| volume.read(0, 4096)).collect();
        let results = wait_all(&mut tokens).await;
        let errors: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        println!("{} of 24 failed: {:?}; {:?}", errors.len(), errors.first(), volume.counters());
        assert!(errors.iter().any(|error| error.kind() == io::ErrorKind::ConnectionReset));
        assert!(counter(&volume, "resets") >= 1 && counter(&volume, "aborts") >= 1);
        for read in results.into_iter().flatten() {
            assert_eq!(read, pattern(1, 4096));
        }
        // What the limit counts of operations that were dropped holds up those that follow.
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            sleep(Duration::from_secs(2)).await;
            match volume.read(0, 4096).await {
                Ok(read) => break assert_eq!(read, pattern(1, 4096)),
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
        }
    });
}

/// Keeps a drive busy from a place on until it fails, and returns how.
async fn until_it_fails(volume: &Volume, from: u64) -> io::Error {
    loop {
        let buffer = |_| BufferMut::with_capacity(4096).unwrap();
        let mut tokens: Vec<_> = (0..32)
            .map(buffer)
            .enumerate()
            .map(|(index, buffer)| volume.read_into(from + 4096 * index as u64, 4096, buffer))
            .collect();
        for result in wait_all(&mut tokens).await {
            if let Err(error) = result {
                return error;
            }
        }
    }
}

#[test]
fn a_drive_that_is_taken_away_ends_everything_and_can_be_opened_again() {
    guest::run(async || {
        guest::bind(FAULTY);
        let volume = open(FAULTY, Options::default()).unwrap();
        // Blocks until the drive is let go of.
        let taker = thread::spawn(|| guest::give_back(FAULTY));
        let error = volume.write(0, filled(&[0; 512]).freeze()).await.err();
        let error = match error {
            Some(error) => error,
            None => loop {
                if let Err(error) = volume.read(0, 4096).await {
                    break error;
                }
            },
        };
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        assert!(error.to_string().contains("the system removes it, or takes it away"), "{error}");
        assert_eq!(volume.flush().await.unwrap_err().kind(), io::ErrorKind::NotConnected);
        drop(volume);
        taker.join().unwrap();
        guest::bind(FAULTY);
        let volume = open(FAULTY, Options::default()).unwrap();
        assert_eq!(volume.read(0, 512).await.unwrap(), [0; 512]);
    });
}

#[test]
fn a_drive_that_is_unplugged_ends_everything() {
    guest::run(async || {
        let drive = guest::behind_port().expect("the port has a drive");
        guest::bind(&drive);
        let volume = open(&drive, Options::default()).unwrap();
        volume.write(0, filled(&pattern(1, 131_072)).freeze()).await.unwrap();
        guest::monitor("device_del removable");
        let error = until_it_fails(&volume, 0).await;
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        println!("{error}");
        drop(volume);
        guest::wait_for("the drive goes", Duration::from_secs(30), || guest::behind_port().is_none());
        let error = open(&drive, Options::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    });
}
