//! The machine, its drives, and the commands of README.md.

use demikernel_runtime::Runtime;
use demikernel_runtime::buffer::BufferMut;
use demikernel_spdk_storage::Volume;
use demikernel_spdk_storage::nvme::{self, Options};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What README.md calls the drive.
const DRIVE_IN_README: &str = "0000:5e:00.0";

/// Two namespaces: blocks of 512 bytes, and of 4,096.
pub(crate) const TWO: &str = "0000:00:13.0";
/// The port that has the drive which can be unplugged.
pub(crate) const PORT: &str = "0000:00:14.0";
/// A drive whose sector 64 cannot be read, nor 128 be written.
pub(crate) const FAULTY: &str = "0000:00:15.0";
/// A drive that does four operations a second.
pub(crate) const SLOW: &str = "0000:00:16.0";

/// Set where a test is run by a user.
const AS_USER: &str = "DEMIKERNEL_NVME_AS_USER";

/// Runs a test, one at a time; or none, where this is no such guest.
pub(crate) fn run(test: impl AsyncFnOnce()) {
    run_in(&Runtime::new().unwrap(), test);
}

/// The same in this runtime.
pub(crate) fn run_in(runtime: &Runtime, test: impl AsyncFnOnce()) {
    static ONE: Mutex<()> = Mutex::new(());
    if std::env::var_os("DEMIKERNEL_NVME").is_none() {
        eprintln!("skipped: this is done in a guest (cargo xtask test --only nvme)");
        return;
    }
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    runtime.block_on(test());
}

/// What README.md has root do to a drive before a program can have it; nothing if that has been done.
pub(crate) fn bind(drive: &str) {
    if driver(drive).as_deref() == Some("vfio-pci") {
        return;
    }
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let (_, section) =
        text.split_once("### An NVMe drive without the kernel").expect("README.md has the section");
    let (_, after) = section.split_once("```console\n").expect("the section has commands");
    let (commands, _) = after.split_once("```").expect("they end");
    assert!(commands.contains(DRIVE_IN_README));
    for command in commands.replace(DRIVE_IN_README, drive).lines() {
        shell(command.strip_prefix("# ").expect("root gives all of them"));
    }
    assert_eq!(driver(drive).as_deref(), Some("vfio-pci"));
}

/// Gives a drive back to the kernel, as README.md says.
pub(crate) fn give_back(drive: &str) {
    shell(&format!(
        "echo {drive} > /sys/bus/pci/devices/{drive}/driver/unbind; echo > /sys/bus/pci/devices/{drive}/driver_override; \
         echo {drive} > /sys/bus/pci/drivers_probe"
    ));
    assert_eq!(driver(drive).as_deref(), Some("nvme"));
}

/// The driver that has a device.
fn driver(drive: &str) -> Option<String> {
    let link = fs::read_link(format!("/sys/bus/pci/devices/{drive}/driver")).ok()?;
    Some(link.file_name()?.to_str()?.to_owned())
}

/// What the kernel calls a namespace of a drive, which it gets if it does not have it.
pub(crate) fn kernels(drive: &str, namespace: u32) -> PathBuf {
    if driver(drive).as_deref() == Some("vfio-pci") {
        give_back(drive);
    }
    let mut found = None;
    wait_for("the kernel's disk", Duration::from_secs(20), || {
        let controllers =
            fs::read_dir(format!("/sys/bus/pci/devices/{drive}/nvme")).into_iter().flatten().flatten();
        let disks = controllers.flat_map(|controller| fs::read_dir(controller.path()).unwrap().flatten());
        let has_number = |disk: &Path| {
            fs::read_to_string(disk.join("nsid")).is_ok_and(|number| number.trim() == namespace.to_string())
        };
        found = disks.map(|disk| disk.path()).find(|disk| has_number(disk));
        found.as_ref().is_some_and(|disk| Path::new("/dev").join(disk.file_name().unwrap()).exists())
    });
    Path::new("/dev").join(found.unwrap().file_name().unwrap())
}

/// The file of the group that a drive is in.
pub(crate) fn group(drive: &str) -> String {
    let group = fs::read_link(format!("/sys/bus/pci/devices/{drive}/iommu_group")).unwrap();
    format!("/dev/vfio/{}", group.file_name().unwrap().to_str().unwrap())
}

/// What a test says that is run by a user without rights, who may lock so many KiB of memory.
pub(crate) fn as_user(test: &str, lockable: u32) -> String {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -l {lockable}; exec \"$@\"")).arg("sh");
    command.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]);
    let output = command.env(AS_USER, "").uid(65534).output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Whether this is that user.
pub(crate) fn is_user() -> bool {
    std::env::var_os(AS_USER).is_some()
}

/// The drive behind the port.
pub(crate) fn behind_port() -> Option<String> {
    let devices = fs::read_dir(format!("/sys/bus/pci/devices/{PORT}")).unwrap().flatten();
    let names = devices.filter_map(|device| device.file_name().into_string().ok());
    names.into_iter().find(|name| name.ends_with(":00.0") && name.starts_with("0000:"))
}

pub(crate) fn open(address: &str, options: Options) -> io::Result<Volume> {
    Ok(Volume::attach(nvme::open(address.parse()?, options)?))
}

/// Has QEMU do something.
pub(crate) fn monitor(command: &str) {
    let ports = fs::read_dir("/sys/class/virtio-ports").unwrap().flatten();
    let is_monitor =
        |path: PathBuf| fs::read_to_string(path.join("name")).is_ok_and(|name| name.trim() == "monitor");
    let port =
        ports.map(|port| port.path()).find(|path| is_monitor(path.clone())).expect("the guest has a monitor");
    let mut device =
        File::options().write(true).open(PathBuf::from("/dev").join(port.file_name().unwrap())).unwrap();
    writeln!(device, "{command}").unwrap();
}

pub(crate) fn shell(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(status.success(), "{command}: {status}");
}

/// Waits until something holds, or fails.
#[track_caller]
pub(crate) fn wait_for(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {patience:?}");
        sleep(Duration::from_millis(20));
    }
}

pub(crate) fn counter(volume: &Volume, name: &str) -> u64 {
    volume.counters().iter().find(|(other, _)| *other == name).unwrap().1
}

/// Bytes that are unlike those of another seed or another place.
pub(crate) fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) fn filled(content: &[u8]) -> BufferMut {
    let mut buffer = BufferMut::with_capacity(content.len()).unwrap();
    buffer.extend_from_slice(content);
    buffer
}
