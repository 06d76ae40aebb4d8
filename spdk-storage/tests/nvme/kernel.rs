//! Drives that the kernel has, through io_uring: as block devices, and as namespaces whose driver passes commands through.
//! The guest's kernel has a queue to each drive that is polled.

use super::guest::{self, FAULTY, SLOW, TWO, counter, filled, pattern};
use super::log::apart;
use super::{exercise, until_it_fails};
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::time::sleep;
use demikernel_runtime::transport::epoll::Epoll;
use demikernel_runtime::{Builder, Idle, Runtime, wait_all};
use demikernel_spdk_storage::file::FileOptions;
use demikernel_spdk_storage::log::StoreOptions;
use demikernel_spdk_storage::{Geometry, Volume};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

const LENGTH: usize = 1 << 20;

/// By what a namespace is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Node {
    Block,
    Commands,
}

const NODES: [Node; 2] = [Node::Block, Node::Commands];

impl Node {
    fn path(self, drive: &str, namespace: u32) -> PathBuf {
        let block = guest::kernels(drive, namespace);
        match self {
            Node::Block => block,
            Node::Commands => {
                let path = PathBuf::from(block.to_str().unwrap().replace("/dev/nvme", "/dev/ng"));
                guest::wait_for("the character device", Duration::from_secs(20), || path.exists());
                path
            }
        }
    }

    fn open(self, drive: &str, namespace: u32, options: FileOptions) -> Volume {
        Volume::attach(options.open(self.path(drive, namespace)).unwrap())
    }
}

fn options() -> FileOptions {
    FileOptions::new()
}

/// With each way to wait: by spinning, and by blocking alone and beside another device.
fn each_way(test: impl AsyncFn()) {
    for (idle, beside) in [(Idle::Spin, false), (Idle::Block, false), (Idle::Block, true)] {
        let runtime = Builder::new().idle(idle).build().unwrap();
        if beside {
            runtime.attach(Epoll::transport().unwrap());
        }
        guest::run_in(&runtime, async || test().await);
    }
}

fn attribute(disk: &Path, name: &str) -> PathBuf {
    Path::new("/sys/block").join(disk.file_name().unwrap()).join("queue").join(name)
}

#[test]
fn a_namespace_is_what_the_kernel_or_the_drive_says() {
    guest::run(async || {
        for (number, block) in [(1, 512), (2, 4096)] {
            let expected = Geometry {
                volatile_cache: true,
                durable_writes: true,
                memory_alignment: block,
                ..Geometry::new(block, 64 << 20)
            };
            let volume = Node::Block.open(TWO, number, options());
            assert_eq!((volume.name(), volume.geometry()), ("io_uring", expected));
            drop(volume);
            let cache = attribute(&guest::kernels(TWO, number), "write_cache");
            fs::write(&cache, "write through").unwrap();
            let geometry = Node::Block.open(TWO, number, options()).geometry();
            fs::write(&cache, "write back").unwrap();
            assert!(!geometry.volatile_cache && !geometry.durable_writes);
            let volume = Node::Commands.open(TWO, number, options());
            assert_eq!(volume.name(), "passthrough");
            let Geometry {
                logical_block, capacity, memory_alignment, volatile_cache, durable_writes, ..
            } = volume.geometry();
            assert_eq!((logical_block, capacity, memory_alignment), (block, 64 << 20, 4));
            assert!(volatile_cache && durable_writes);
        }
        let controller = guest::kernels(TWO, 1).to_str().unwrap().replace("n1", "");
        let error = options().open(controller).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    });
}

#[test]
fn random_ranges_are_read_as_they_were_written() {
    each_way(async || {
        for node in NODES {
            for (number, poll) in [(1, true), (2, true), (1, false), (2, false)] {
                let volume = node.open(TWO, number, options().poll(poll));
                exercise(&volume, 1 << 20, u64::from(number)).await;
                volume.flush().await.unwrap();
                assert_eq!(counter(&volume, "polled") > 0, poll);
                assert!(counter(&volume, "fixed") > 0 && counter(&volume, "unpolled") == 0);
                assert_eq!(counter(&volume, "bounced"), 0);
            }
        }
    });
}

#[test]
fn each_reads_what_the_other_and_the_page_cache_have_written() {
    guest::run(async || {
        for number in [1, 2] {
            let (first, second) = (pattern(1, LENGTH), pattern(2, LENGTH));
            let disk = File::options().write(true).open(guest::kernels(TWO, number)).unwrap();
            disk.write_all_at(&first, 8192).unwrap();
            disk.sync_all().unwrap();
            let commands = Node::Commands.open(TWO, number, options());
            assert!(commands.read(8192, LENGTH).await.unwrap() == first);
            commands.write(LENGTH as u64, filled(&second).freeze()).await.unwrap();
            commands.write_durable(0, filled(&second[..4096]).freeze()).await.unwrap();
            drop(commands);
            let blocks = Node::Block.open(TWO, number, options());
            assert!(blocks.read(LENGTH as u64, LENGTH).await.unwrap() == second);
            assert!(blocks.read(0, 4096).await.unwrap() == second[..4096]);
        }
    });
}

#[test]
fn what_is_zeroed_reads_as_zeros_and_what_is_discarded_may_be_written() {
    each_way(async || {
        for node in NODES {
            for number in [1, 2] {
                let volume = node.open(TWO, number, options());
                let content = pattern(5, LENGTH);
                volume.write(0, filled(&content).freeze()).await.unwrap();
                volume.write_zeroes(8192, 65536).await.unwrap();
                volume.discard(262_144, 65536).await.unwrap();
                volume.flush().await.unwrap();
                let read = volume.read(0, LENGTH).await.unwrap();
                assert!(read[..8192] == content[..8192] && read[8192..73728].iter().all(|&byte| byte == 0));
                assert!(
                    read[73728..262_144] == content[73728..262_144] && read[327_680..] == content[327_680..]
                );
                // More than one command zeroes where blocks are small.
                volume.write_zeroes(0, 40 << 20).await.unwrap();
                assert!(volume.read(0, LENGTH).await.unwrap() == [0; LENGTH]);
                let end = (40 << 20) - 65536;
                assert!(volume.read(end, 65536).await.unwrap() == [0; 65536]);
                volume.read(0, 0).await.unwrap();
                let error = volume.read(64 << 20, 4096).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            }
        }
    });
}

#[test]
fn what_is_in_use_is_refused() {
    guest::run(async || {
        for node in NODES {
            let refused = |options: FileOptions, text: &str| {
                let patience = Duration::from_millis(20);
                let error = options.lock_patience(patience).open(node.path(TWO, 1)).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{node:?}: {error}");
                assert!(error.to_string().contains(text), "{node:?}: {error}");
            };
            let disk = guest::kernels(TWO, 1);
            let holder = OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(&disk).unwrap();
            refused(options(), "");
            drop(holder);
            for other in NODES {
                let volume = other.open(TWO, 1, options());
                refused(options(), "");
                refused(options().read_only(true), "somebody else has locked it");
                drop(volume);
            }
            guest::shell(&format!("busybox mke2fs {} >/dev/null", disk.display()));
            guest::shell(&format!("mkdir -p /run/mounted; mount -t ext2 {} /run/mounted", disk.display()));
            refused(options(), "");
            guest::shell("umount /run/mounted");
            drop(node.open(TWO, 1, options()));
        }
    });
}

#[test]
fn a_file_on_a_drive_that_could_be_polled_is_not() {
    guest::run(async || {
        let disk = guest::kernels(TWO, 2);
        guest::shell(&format!("busybox mke2fs -b 4096 {} >/dev/null", disk.display()));
        guest::shell(&format!("mkdir -p /run/polled; mount -t ext2 {} /run/polled", disk.display()));
        let file = options().create(8 << 20);
        let volume = Volume::attach(file.open("/run/polled/file").unwrap());
        let content = pattern(9, LENGTH);
        volume.write(0, filled(&content).freeze()).await.unwrap();
        volume.flush().await.unwrap();
        assert!(volume.read(0, LENGTH).await.unwrap() == content);
        assert_eq!(counter(&volume, "polled"), 0);
        drop(volume);
        let error = file.poll(true).open("/run/polled/file").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains("it cannot be polled: files are not"), "{error}");
        guest::shell("umount /run/polled");
    });
}

#[test]
fn what_is_read_only_is_only_read() {
    guest::run(async || {
        for node in NODES {
            let disk = guest::kernels(TWO, 1);
            guest::shell(&format!("blockdev --setro {}", disk.display()));
            let opened = options().open(node.path(TWO, 1)).map(Volume::attach);
            guest::shell(&format!("blockdev --setrw {}", disk.display()));
            assert!(opened.unwrap().geometry().read_only);
            let volume = node.open(TWO, 1, options().read_only(true));
            volume.read(0, 4096).await.unwrap();
            for operation in [volume.write(0, filled(&[1; 4096]).freeze()), volume.discard(0, 4096)] {
                assert_eq!(operation.await.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
            }
        }
    });
}

#[test]
fn who_may_not_pass_commands_through_is_told_why() {
    const NAME: &str = "kernel::who_may_not_pass_commands_through_is_told_why";
    guest::run(async || {
        let path = Node::Commands.path(FAULTY, 1);
        if guest::is_user() {
            return println!("{}", options().open(path).unwrap_err());
        }
        let disk = guest::kernels(FAULTY, 1);
        guest::shell(&format!("chmod 666 {}", path.display()));
        let said = guest::as_user(NAME, 65536);
        assert!(said.contains(&format!("{}, by which others are kept", disk.display())), "{said}");
        guest::shell(&format!("chmod 644 {}", disk.display()));
        let said = guest::as_user(NAME, 65536);
        assert!(said.contains("does not pass this user's commands through"), "{said}");
        guest::shell(&format!("chmod 600 {} {}", path.display(), disk.display()));
    });
}

#[test]
fn errors_of_the_drive_are_said() {
    each_way(async || {
        for (node, poll) in [(Node::Block, true), (Node::Block, false), (Node::Commands, true)] {
            let volume = node.open(FAULTY, 1, options().poll(poll));
            let read = volume.read(64 * 512, 512).await.unwrap_err();
            let write = volume.write(128 * 512, filled(&[1; 512]).freeze()).await.unwrap_err();
            if node == Node::Commands {
                assert_eq!(read.kind(), io::ErrorKind::InvalidData);
                assert!(
                    read.to_string().contains("a read of 512 bytes at 32768 failed: unrecovered"),
                    "{read}"
                );
                assert!(write.to_string().contains("write fault"), "{write}");
            } else {
                assert!(matches!(read.raw_os_error(), Some(libc::EIO | libc::ENODATA)), "{read}");
            }
            assert_eq!(volume.read(65 * 512, 512).await.unwrap(), [0; 512]);
            assert_eq!(counter(&volume, "failed"), 2);
        }
    });
}

#[test]
fn a_store_lives_on_a_node() {
    guest::run(async || {
        for node in NODES {
            apart(async || {
                let volume = node.open(TWO, 2, options());
                let store = StoreOptions::new().overwrite(true).open(volume).await.unwrap();
                let log = store.log("log").await.unwrap();
                let push = |number| log.push(Buffer::from(pattern(number, 900)));
                let mut tokens: Vec<_> = (0..300).map(push).collect();
                assert!(wait_all(&mut tokens).await.iter().all(Result::is_ok));
                // One at a time: each is a write that is durable by itself.
                for number in 300..320 {
                    push(number).await.unwrap();
                }
            });
            let other = if node == Node::Block { Node::Commands } else { Node::Block };
            apart(async || {
                let store = StoreOptions::new().open(other.open(TWO, 2, options())).await.unwrap();
                let mut log = store.log("log").await.unwrap();
                assert_eq!(log.end(), 320);
                for number in 0..320 {
                    assert!(log.pop().await.unwrap().data.to_vec() == pattern(number, 900));
                }
            });
        }
    });
}

#[test]
fn what_is_under_way_when_the_runtime_ends_is_waited_for() {
    guest::run(async || {
        for node in NODES {
            let path = node.path(SLOW, 1);
            thread::spawn(move || {
                let runtime = Runtime::new().unwrap();
                let volume = runtime.block_on(async {
                    let volume = Volume::attach(options().open(path).unwrap());
                    (0..6u8).for_each(|number| {
                        drop(volume.write(u64::from(number) * 4096, filled(&[number + 1; 4096]).freeze()))
                    });
                    volume
                });
                drop(runtime);
                drop(volume);
            })
            .join()
            .unwrap();
            let volume = node.open(SLOW, 1, options());
            for number in 0..6u8 {
                assert_eq!(volume.read(u64::from(number) * 4096, 4096).await.unwrap(), [number + 1; 4096]);
            }
            volume.write_zeroes(0, 65536).await.unwrap();
        }
    });
}

#[test]
fn a_drive_that_is_taken_away_ends_everything() {
    each_way(async || {
        for node in NODES {
            let volume = node.open(FAULTY, 1, options());
            let remover = thread::spawn(|| {
                thread::sleep(Duration::from_millis(200));
                guest::shell(&format!("echo 1 > /sys/bus/pci/devices/{FAULTY}/remove"));
            });
            let error = until_it_fails(&volume, 1 << 20).await;
            println!("{node:?}: {error:?}");
            remover.join().unwrap();
            for operation in [volume.flush(), volume.write(0, filled(&[0; 4096]).freeze())] {
                operation.await.unwrap_err();
            }
            drop(volume);
            guest::shell("echo 1 > /sys/bus/pci/rescan");
            sleep(Duration::from_millis(100)).await;
            let volume = node.open(FAULTY, 1, options());
            assert_eq!(volume.read(0, 512).await.unwrap(), [0; 512]);
        }
    });
}
