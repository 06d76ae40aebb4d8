//! Debian's kernel and what it boots from: made once, below the build directory.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process::Runner;

/// The package that depends on the newest kernel.
const NEWEST: &str = "linux-image-amd64";

/// What reaches the host's files. They are loaded one by one, in an order that `modprobe` says.
const MODULES: [&str; 5] = ["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay"];

/// What the first process uses, all of them one program.
const APPLETS: [&str; 15] = [
    "sh", "mount", "umount", "insmod", "mkdir", "ln", "chroot", "cat", "dd", "printf", "poweroff", "echo",
    "ip", "basename", "uname",
];

const INIT: &str = include_str!("init");

/// A kernel that can be booted.
pub(super) struct Kernel {
    /// As `uname -r` says it.
    pub(super) release: String,
    directory: PathBuf,
}

impl Kernel {
    /// Downloads and unpacks it, unless that has been done.
    pub(super) fn prepare(target: &Path, runner: &mut Runner) -> Result<Kernel> {
        let cache = target.join("xtask/vm");
        fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
        let package = newest(runner)?;
        let release = package.trim_start_matches("linux-image-").to_owned();
        let kernel = Kernel { directory: cache.join(&release), release };
        if !kernel.directory.exists() {
            // Under another name until it is whole.
            let partial = cache.join(format!("partial-{}", std::process::id()));
            fs::create_dir_all(&partial)?;
            let unpacked = Kernel { directory: partial, release: kernel.release.clone() };
            unpacked.unpack(&package, runner)?;
            fs::rename(&unpacked.directory, &kernel.directory)?;
        }
        // Small, and made anew as what it is made of may have changed.
        kernel.make_initramfs(runner)?;
        Ok(kernel)
    }

    /// What QEMU boots.
    pub(super) fn image(&self) -> PathBuf {
        self.directory.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// The file system of the first process.
    pub(super) fn initramfs(&self) -> PathBuf {
        self.directory.join("initramfs")
    }

    /// Where its modules are, on this machine.
    pub(super) fn modules(&self) -> PathBuf {
        self.directory.join("lib/modules").join(&self.release)
    }

    fn unpack(&self, package: &str, runner: &mut Runner) -> Result<()> {
        let download = |runner: &mut Runner| {
            runner.run(Command::new("apt-get").args(["download", package]).current_dir(&self.directory))
        };
        if download(runner).is_err() {
            // The lists are older than the archive.
            runner.run(Command::new("apt-get").arg("update"))?;
            download(runner)?;
        }
        const UNPACK: &str =
            "dpkg-deb --fsys-tarfile linux-image-*.deb | tar -x ./boot ./lib/modules && rm *.deb";
        runner.run(Command::new("sh").args(["-c", UNPACK]).current_dir(&self.directory))?;
        runner.run(Command::new("depmod").arg("-b").arg(&self.directory).arg(&self.release))
    }

    fn make_initramfs(&self, runner: &mut Runner) -> Result<()> {
        let root = self.directory.join(format!("initramfs-{}", std::process::id()));
        for directory in ["bin", "sbin", "m", "proc", "sys", "dev", "lower", "rw", "new"] {
            fs::create_dir_all(root.join(directory))?;
        }
        let busybox = runner.output(Command::new("sh").args(["-c", "command -v busybox"]))?;
        fs::copy(busybox.trim(), root.join("bin/busybox"))?;
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet))?;
        }
        self.copy_modules(&root.join("m"), runner)?;
        fs::write(root.join("init"), INIT)?;
        // The kernel asks this one for modules, but has the first process's root before its eyes.
        fs::write(root.join("sbin/modprobe"), "#!/bin/sh\nexec /bin/chroot /new /sbin/modprobe \"$@\"\n")?;
        for program in ["init", "sbin/modprobe"] {
            fs::set_permissions(root.join(program), fs::Permissions::from_mode(0o755))?;
        }
        let archive =
            "find . | cpio -o -H newc --quiet > ../initramfs.new && mv ../initramfs.new ../initramfs";
        runner.run(Command::new("sh").args(["-c", archive]).current_dir(&root))?;
        fs::remove_dir_all(&root)?;
        Ok(())
    }

    /// Copies the modules that come first, and what they need, numbered in their order.
    fn copy_modules(&self, to: &Path, runner: &mut Runner) -> Result<()> {
        let mut files: Vec<PathBuf> = Vec::new();
        for module in MODULES {
            let mut modprobe = Command::new("modprobe");
            modprobe.arg("-d").arg(&self.directory).args(["-S", &self.release, "--show-depends", module]);
            let output = runner.output(&mut modprobe)?;
            let paths =
                output.lines().filter_map(|line| line.strip_prefix("insmod ")).map(|path| path.trim());
            for path in paths.map(PathBuf::from) {
                if !files.contains(&path) {
                    files.push(path);
                }
            }
        }
        ensure!(!files.is_empty(), "this kernel has no module named {}", MODULES.join(", "));
        for (index, file) in files.iter().enumerate() {
            let name = file.file_name().context("a module without a name")?.to_string_lossy();
            let plain = to.join(format!("{index:02}-{}", name.trim_end_matches(".xz")));
            if name.ends_with(".xz") {
                let mut unpack = Command::new("sh");
                unpack.args(["-c", "xz -dc \"$0\" > \"$1\""]).arg(file).arg(&plain);
                runner.run(&mut unpack)?;
            } else {
                fs::copy(file, &plain)?;
            }
        }
        Ok(())
    }
}

/// The package of the newest kernel.
fn newest(runner: &mut Runner) -> Result<String> {
    let output = runner.output(Command::new("apt-cache").args(["depends", NEWEST]))?;
    let package = output.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let release = package.with_context(|| format!("{NEWEST} depends on no kernel: apt-get update"))?;
    Ok(format!("linux-image-{release}"))
}
