//! How to come by a function, and what to do where that fails.

use super::super::address::Function;
use super::calls;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Everything that is held.
pub(super) struct Parts {
    pub(super) container: File,
    pub(super) group: File,
    pub(super) device: File,
}

const CONTAINER: &str = "/dev/vfio/vfio";

/// Takes a function that is bound to vfio-pci.
pub(super) fn open(function: Function) -> io::Result<Parts> {
    let name = function.to_string();
    let number = check(Path::new("/sys/bus/pci/devices"), &name)?;
    let container = open_file(Path::new(CONTAINER), &name)?;
    if !calls::has_iommu(&container) {
        let text = format!("{name}: VFIO has no IOMMU here: modprobe vfio_iommu_type1");
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    let group = open_file(&Path::new("/dev/vfio").join(&number), &name)?;
    if !calls::is_viable(&group)? {
        let others = others(&Path::new("/sys/kernel/iommu_groups").join(&number), &name);
        let text = format!(
            "{name}: its IOMMU group {number} is used by others, and they can be given to a program only together: bind \
             {others} to vfio-pci too, or to no driver"
        );
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
    }
    calls::join(&container, &group)
        .map_err(|error| explain(error, &name, "cannot be put behind the IOMMU"))?;
    let device =
        calls::device(&group, &name).map_err(|error| explain(error, &name, "cannot be taken from VFIO"))?;
    Ok(Parts { container, group, device })
}

/// Finds out whether a function can be taken, and the number of its IOMMU group.
fn check(devices: &Path, name: &str) -> io::Result<String> {
    let path = devices.join(name);
    if !path.exists() {
        let text = format!("there is no PCI device {name}: `lspci -D -d ::0108` lists NVMe controllers");
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    let class = fs::read_to_string(path.join("class")).unwrap_or_default();
    if !class.starts_with("0x0108") {
        let text = format!("{name} is not an NVMe controller: its class is {}, not 0x0108", class.trim());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let Some(group) = target(&path.join("iommu_group")) else {
        let text = format!(
            "{name} is in no IOMMU group: an IOMMU must be switched on in the firmware (VT-d, AMD-Vi) and, of Intel, for \
             the kernel (intel_iommu=on)"
        );
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    };
    match target(&path.join("driver")).as_deref() {
        Some("vfio-pci") => Ok(group),
        driver => Err(io::Error::new(io::ErrorKind::Unsupported, not_bound(&path, name, driver))),
    }
}

/// What to do about a function that another driver has.
fn not_bound(path: &Path, name: &str, driver: Option<&str>) -> String {
    let holder = match driver {
        None => "no driver has it".to_owned(),
        Some(driver) => {
            let disks = fs::read_dir(path.join("nvme")).into_iter().flatten().flatten();
            let disks: Vec<_> = disks.map(|disk| disk.file_name().to_string_lossy().into_owned()).collect();
            match disks.is_empty() {
                true => format!("the kernel's driver {driver} has it"),
                false => format!("the kernel has it as {}, with the driver {driver}", disks.join(", ")),
            }
        }
    };
    let unbind = match driver {
        None => String::new(),
        Some(_) => format!(" echo {name} > /sys/bus/pci/devices/{name}/driver/unbind;"),
    };
    format!(
        "{name} is not bound to vfio-pci: {holder}. As root, with nothing on it mounted: modprobe vfio-pci;{unbind} echo \
         vfio-pci > /sys/bus/pci/devices/{name}/driver_override; echo {name} > /sys/bus/pci/drivers_probe"
    )
}

fn open_file(path: &Path, name: &str) -> io::Result<File> {
    File::options().read(true).write(true).open(path).map_err(|error| {
        let path = path.display();
        let text = match error.raw_os_error() {
            Some(libc::ENOENT) => format!("{name}: there is no {path}: modprobe vfio-pci"),
            Some(libc::EACCES | libc::EPERM) => {
                format!("{name}: this user may not use {path}: as root, chown it")
            }
            Some(libc::EBUSY) => {
                format!(
                    "{name}: {path} is in use: a program has this controller, or another of its IOMMU group"
                )
            }
            _ => format!("{name}: {path}: {error}"),
        };
        io::Error::new(error.kind(), text)
    })
}

fn explain(error: io::Error, name: &str, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{name} {what}: {error}"))
}

/// The other devices of a group that have a driver.
fn others(group: &Path, name: &str) -> String {
    let devices = fs::read_dir(group.join("devices")).into_iter().flatten().flatten();
    let mut others: Vec<String> = devices
        .map(|device| device.path())
        .filter(|device| !device.ends_with(name))
        .filter_map(|device| {
            let driver = target(&device.join("driver")).filter(|driver| driver != "vfio-pci")?;
            Some(format!("{} ({driver})", device.file_name()?.to_string_lossy()))
        })
        .collect();
    others.sort();
    others.join(", ")
}

/// The last part of what a symbolic link leads to.
fn target(link: &Path) -> Option<String> {
    let target: PathBuf = fs::read_link(link).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// Says what limits the memory that a device may reach, if that was it.
pub(super) fn explain_pinning(error: io::Error) -> io::Error {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it writes the structure that it is given.
    let is_known = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } == 0;
    if error.raw_os_error() != Some(libc::ENOMEM) || !is_known {
        return io::Error::new(
            error.kind(),
            format!("the IOMMU does not map memory for the device: {error}"),
        );
    }
    let text = match limit.rlim_cur {
        libc::RLIM_INFINITY => {
            "the IOMMU does not map memory for the device: there is not enough memory".to_owned()
        }
        bytes => format!(
            "the IOMMU does not map memory for the device: this user may lock {bytes} bytes of memory, and all buffers \
             that the device reaches are locked: raise the limit (ulimit -l, or memlock in /etc/security/limits.conf)"
        ),
    };
    io::Error::new(io::ErrorKind::OutOfMemory, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Devices as in sysfs.
    struct Devices(PathBuf);

    impl Devices {
        fn new(name: &str) -> Devices {
            let path = std::env::temp_dir().join(format!("demikernel-nvme-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("1:00.0")).unwrap();
            Devices(path)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.0.join("1:00.0").join(name), text).unwrap();
        }

        fn link(&self, name: &str, to: &str) {
            let path = self.0.join("1:00.0").join(name);
            let _ = fs::remove_file(&path);
            symlink(to, path).unwrap();
        }

        fn error(&self) -> String {
            check(&self.0, "1:00.0").unwrap_err().to_string()
        }
    }

    impl Drop for Devices {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn each_obstacle_is_named_with_what_to_do() {
        let devices = Devices::new("obstacles");
        assert!(check(&devices.0, "2:00.0").unwrap_err().to_string().contains("no PCI device 2:00.0"));
        devices.write("class", "0x020000\n");
        assert!(devices.error().contains("its class is 0x020000"));
        devices.write("class", "0x010802\n");
        assert!(devices.error().contains("intel_iommu=on"));
        devices.link("iommu_group", "../../kernel/iommu_groups/17");
        assert!(devices.error().contains("no driver has it"));
        devices.link("driver", "../drivers/nvme");
        fs::create_dir_all(devices.0.join("1:00.0/nvme/nvme3")).unwrap();
        let error = devices.error();
        assert!(error.contains("the kernel has it as nvme3, with the driver nvme"), "{error}");
        assert!(error.contains("echo 1:00.0 > /sys/bus/pci/devices/1:00.0/driver/unbind;"), "{error}");
        devices.link("driver", "../drivers/vfio-pci");
        assert_eq!(check(&devices.0, "1:00.0").unwrap(), "17");
    }

    #[test]
    fn who_else_is_in_a_group_is_said() {
        let devices = Devices::new("group");
        fs::create_dir_all(devices.0.join("devices/1:00.1")).unwrap();
        fs::create_dir_all(devices.0.join("devices/1:00.2")).unwrap();
        symlink("../drivers/nvme", devices.0.join("devices/1:00.1/driver")).unwrap();
        symlink("../drivers/vfio-pci", devices.0.join("devices/1:00.2/driver")).unwrap();
        assert_eq!(others(&devices.0, "1:00.0"), "1:00.1 (nvme)");
    }

    #[test]
    fn a_limit_is_said_with_its_value() {
        let error = explain_pinning(io::Error::from_raw_os_error(libc::ENOMEM));
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        assert!(
            explain_pinning(io::Error::from_raw_os_error(libc::EINVAL)).to_string().contains("does not map")
        );
    }
}
