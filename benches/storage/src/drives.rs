//! NVMe drives of a guest: our driver, SPDK's and the kernel's take turns at one of them.

use crate::machine::ratio;
use crate::random;
use crate::table::{Row, rate};
use demikernel_measure::stats::median;
use demikernel_runtime::Runtime;
use demikernel_spdk_storage::file::FileOptions;
use demikernel_spdk_storage::spdk::{Controller, SpdkConfig};
use demikernel_spdk_storage::{Volume, nvme};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Who drives it.
pub const DRIVERS: [&str; 3] = ["kernel", "nvme", "spdk"];
const DEPTHS: [usize; 2] = [1, 32];

/// The drive that xtask's guests have, and its namespace of blocks of 4,096 bytes.
const DRIVE: &str = "0000:00:13.0";
const NAMESPACE: u32 = 2;

fn open(driver: &str) -> io::Result<Volume> {
    Ok(match driver {
        "kernel" => Volume::attach(FileOptions::new().read_only(true).open(kernels()?)?),
        "nvme" => {
            let address = format!("{DRIVE}/{NAMESPACE}").parse()?;
            Volume::attach(nvme::open(address, nvme::Options::default())?)
        }
        _ => {
            let controller = Controller::connect(DRIVE, &SpdkConfig::default()).map_err(io::Error::other)?;
            Volume::attach(controller.open(NAMESPACE).map_err(io::Error::other)?)
        }
    })
}

/// Reads at each depth by one driver, in a process of its own, and prints the rates.
pub fn child(driver: &str, window: Duration) -> io::Result<()> {
    Runtime::new()?.block_on(async {
        let volume = open(driver)?;
        let size = volume.geometry().capacity;
        for depth in DEPTHS {
            println!("drive {driver} {depth} {}", random::reads(&volume, size, depth, window).await?);
        }
        Ok(())
    })
}

/// In the guest: all drivers in turn. A line is printed for each rate, and for a driver that is not there.
pub fn guest(rounds: usize, window: Duration) -> io::Result<()> {
    fs::write("/proc/sys/vm/nr_hugepages", "128")?;
    for round in 0..rounds {
        give("nvme")?;
        run("kernel", window)?;
        give("vfio-pci")?;
        // Each goes first half of the time.
        for turn in 0..2 {
            run(DRIVERS[1 + (turn + round) % 2], window)?;
        }
    }
    Ok(())
}

fn run(driver: &str, window: Duration) -> io::Result<()> {
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["drive", driver, "--window", &window.as_millis().to_string()]);
    let output = child.output()?;
    let (text, complaint) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        let reason = complaint.lines().last().unwrap_or_default();
        println!("missing {driver} {reason}");
    }
    text.lines().filter(|line| line.starts_with("drive ")).for_each(|line| println!("{line}"));
    Ok(())
}

/// Gives the drive to a driver of the kernel.
fn give(driver: &str) -> io::Result<()> {
    let device = PathBuf::from(format!("/sys/bus/pci/devices/{DRIVE}"));
    let current = || fs::read_link(device.join("driver")).ok();
    let has = || current().is_some_and(|link| link.ends_with(driver));
    if has() {
        return Ok(());
    }
    if current().is_some() {
        fs::write(device.join("driver/unbind"), DRIVE)?;
    }
    fs::write(device.join("driver_override"), format!("{driver}\n"))?;
    fs::write("/sys/bus/pci/drivers_probe", DRIVE)?;
    wait_for(|| has().then_some(()))
        .ok_or_else(|| io::Error::other(format!("{driver} does not take the drive")))
}

/// What the kernel calls the namespace.
fn kernels() -> io::Result<PathBuf> {
    let found = wait_for(|| {
        let controllers = fs::read_dir(format!("/sys/bus/pci/devices/{DRIVE}/nvme")).ok()?.flatten();
        let mut disks =
            controllers.filter_map(|controller| fs::read_dir(controller.path()).ok()).flatten().flatten();
        let is_it = |path: &Path| {
            fs::read_to_string(path.join("nsid")).is_ok_and(|number| number.trim() == NAMESPACE.to_string())
        };
        let disk = disks.find(|disk| is_it(&disk.path()))?;
        Some(Path::new("/dev").join(disk.file_name())).filter(|device| device.exists())
    });
    found.ok_or_else(|| io::Error::other("the kernel does not show the drive"))
}

fn wait_for<T>(mut there: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match there() {
            None if Instant::now() < end => sleep(Duration::from_millis(20)),
            other => return other,
        }
    }
}

/// Rows of what the guest has printed.
pub fn rows(printed: &str) -> Vec<Row> {
    let rates = |driver: &str, depth: usize| -> Vec<f64> {
        let prefix = format!("drive {driver} {depth} ");
        printed.lines().filter_map(|line| line.strip_prefix(&prefix)?.parse().ok()).collect()
    };
    let row = |depth| {
        let [kernel, own, spdk] = DRIVERS.map(|driver| rates(driver, depth));
        let beside = |name: &str, other: &[f64]| match other {
            [] => format!("{name} not present"),
            other => format!("{name} {}: {:.2} x", rate(median(other.iter().copied())), ratio(&own, other)),
        };
        let bar = (!spdk.is_empty()).then(|| (">= 1.0 x spdk".to_owned(), ratio(&own, &spdk) >= 1.0));
        Row {
            name: format!("nvme in a guest, random reads of 4 KiB, QD {depth}"),
            figure: rate(median(own.iter().copied())),
            references: format!("{}; {}", beside("kernel", &kernel), beside("spdk", &spdk)),
            bar,
        }
    };
    DEPTHS.map(row).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_prints_becomes_rows() {
        let printed = "drive kernel 1 100\ndrive nvme 1 300\ndrive kernel 32 100\ndrive nvme 32 250.5\n";
        let rows_without = rows(printed);
        assert_eq!(rows_without[0].references, "kernel 100/s: 3.00 x; spdk not present");
        assert!(rows_without[0].bar.is_none());
        let with = rows(&format!("{printed}drive spdk 32 300\n"));
        assert_eq!(with[1].bar, Some((">= 1.0 x spdk".to_owned(), false)));
    }
}
