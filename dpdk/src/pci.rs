//! Whether a PCI device can be had: the reasons that DPDK gives only in its log, or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::port::port_error;

/// Drivers of the kernel that DPDK's work beside.
const SHARED: [&str; 3] = ["mlx4_core", "mlx5_core", "mana"];

/// Drivers that hand a device to a program.
const HANDING: [&str; 4] = ["vfio-pci", "uio_pci_generic", "igb_uio", "uio_hv_generic"];

/// Looks whether a device is there, and free for this process, which has none of its group.
///
/// # Errors
///
/// With what to do.
pub(crate) fn check(address: &str) -> Result<(), Error> {
    let root = Path::new("/");
    let checked = driver_of(root, address).and_then(|device| check_group(root, &device));
    checked.map_err(|refusal| refusal.of(address))
}

/// Looks whether a device is there, and not the kernel's.
///
/// # Errors
///
/// With what to do.
pub(crate) fn check_driver(port: &str, address: &str) -> Result<(), Error> {
    driver_of(Path::new("/"), address).map_err(|refusal| refusal.of(port)).map(drop)
}

/// Why a device cannot be had.
#[derive(PartialEq, Debug)]
struct Refusal {
    errno: i32,
    reason: String,
}

impl Refusal {
    fn new<T>(errno: i32, reason: impl Into<String>) -> Result<T, Refusal> {
        Err(Refusal { errno, reason: reason.into() })
    }

    fn of(self, port: &str) -> Error {
        port_error(port, "open", -self.errno, Some(self.reason))
    }
}

/// The directory of a device that a driver hands to programs, where `root` is the root of the file system.
fn driver_of(root: &Path, address: &str) -> Result<PathBuf, Refusal> {
    // Domains are mostly left out.
    let address =
        if address.matches(':').count() == 1 { format!("0000:{address}") } else { address.to_owned() };
    let device = root.join("sys/bus/pci/devices").join(&address);
    if !device.exists() {
        return Refusal::new(libc::ENODEV, "there is no PCI device of this address (lspci -D names them)");
    }
    match target(&device.join("driver")).as_deref() {
        Some(driver) if SHARED.contains(&driver) || HANDING.contains(&driver) => Ok(device),
        Some(driver) => {
            let interface = interface_of(&device).map_or(String::new(), |name| format!(" as {name}"));
            let reason = format!(
                "the kernel has it{interface} (driver {driver}): bind it to vfio-pci (README.md says how)"
            );
            Refusal::new(libc::EBUSY, reason)
        }
        None => Refusal::new(libc::ENODEV, "no driver has it: bind it to vfio-pci (README.md says how)"),
    }
}

/// What the kernel calls a card, whose interface may belong to a device of its own below it (virtio).
fn interface_of(device: &Path) -> Option<String> {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let below = entries(device).map(|entry| entry.path()).filter(|path| path.join("net").exists());
    let mut names = [device.to_owned()].into_iter().chain(below).flat_map(|path| entries(&path.join("net")));
    names.next().map(|name| name.file_name().to_string_lossy().into_owned())
}

/// The file of a device's group can be opened by whoever may, and by one process at a time.
fn check_group(root: &Path, device: &Path) -> Result<(), Refusal> {
    if target(&device.join("driver")).as_deref() != Some("vfio-pci") {
        return Ok(());
    }
    let Some(group) = target(&device.join("iommu_group")) else { return Ok(()) };
    // Without an IOMMU its name is another.
    let names = [group.clone(), format!("noiommu-{group}")];
    let paths = names.iter().map(|name| root.join("dev/vfio").join(name));
    let Some(path) = paths.into_iter().find(|path| path.exists()) else { return Ok(()) };
    let Err(error) = File::options().read(true).write(true).open(&path) else { return Ok(()) };
    let (path, errno) = (path.display(), error.raw_os_error().unwrap_or(libc::EIO));
    let reason = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!(
                "this user may not use {path}: run as root, or have root give it away (chown USER {path})"
            )
        }
        io::ErrorKind::ResourceBusy => {
            format!("another process has it, or another device of its group ({path})")
        }
        _ => format!("cannot open {path}: {error}"),
    };
    Refusal::new(errno, reason)
}

/// What a symbolic link names, without the directories.
fn target(link: &Path) -> Option<String> {
    let target: PathBuf = fs::read_link(link).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// Bits of the addresses of the narrowest of Intel's IOMMUs, if there is one (VT-d specification, capability register).
/// With fewer than a program's addresses have, a device cannot use the same.
pub(crate) fn iommu_width() -> Option<u32> {
    let units = fs::read_dir("/sys/devices/virtual/iommu").into_iter().flatten().flatten();
    let capabilities = units.filter_map(|unit| fs::read_to_string(unit.path().join("intel-iommu/cap")).ok());
    let values = capabilities.filter_map(|text| u64::from_str_radix(text.trim(), 16).ok());
    values.map(|value| (value >> 16 & 63) as u32 + 1).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A file system with one device, that a driver has.
    struct Root(PathBuf);

    impl Root {
        fn new(name: &str, driver: Option<&str>) -> Root {
            let root = std::env::temp_dir().join(format!("demikernel-pci-{}-{name}", std::process::id()));
            let device = root.join("sys/bus/pci/devices/0000:03:00.0");
            fs::create_dir_all(device.join("net/eth7")).unwrap();
            fs::create_dir_all(root.join("dev/vfio")).unwrap();
            symlink("../../../kernel/iommu_groups/9", device.join("iommu_group")).unwrap();
            if let Some(driver) = driver {
                symlink(format!("../../../bus/pci/drivers/{driver}"), device.join("driver")).unwrap();
            }
            Root(root)
        }

        fn refusal(&self, address: &str) -> String {
            driver_of(&self.0, address).and_then(|device| check_group(&self.0, &device)).unwrap_err().reason
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn who_has_a_device_is_said() {
        let root = Root::new("kernel", Some("ixgbe"));
        assert!(root.refusal("0000:04:00.0").contains("there is no PCI device of this address"));
        assert!(
            root.refusal("03:00.0").contains("the kernel has it as eth7 (driver ixgbe): bind it to vfio-pci")
        );
        assert!(Root::new("nobody", None).refusal("0000:03:00.0").contains("no driver has it"));
        for driver in ["mlx5_core", "vfio-pci", "uio_pci_generic"] {
            let root = Root::new(driver, Some(driver));
            let device = driver_of(&root.0, "0000:03:00.0").unwrap();
            assert_eq!(check_group(&root.0, &device), Ok(()));
        }
    }

    #[test]
    fn what_cannot_be_opened_says_why() {
        let root = Root::new("closed", Some("vfio-pci"));
        // Nobody may write to a directory.
        fs::create_dir(root.0.join("dev/vfio/9")).unwrap();
        assert!(root.refusal("03:00.0").contains("dev/vfio/9: "), "{}", root.refusal("03:00.0"));
    }
}
