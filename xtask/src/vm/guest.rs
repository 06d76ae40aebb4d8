//! One boot: the machine that QEMU is to be, and the command that runs there.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;
use super::{cards, disks, monitor};

/// What `timeout` ends with when it has ended something.
const TIMED_OUT: i32 = 124;

/// What switches a guest off that has a switch, as it sees the file.
pub(super) const SWITCH: &str = "/demikernel-boot/off";

/// Runs QEMU, for so many seconds at most. What it writes to is what is open, which another open file of the same path would
/// not be.
const RUN: &str = "exec timeout --kill-after=5 \"$@\" 8>&1 9>&2";

/// The same, until there is a file: then it is killed, and the drives hold what they hold.
const RUN_WITH_SWITCH: &str = "left=$1; shift
\"$@\" 8>&1 9>&2 &
while kill -0 $! && ! [ -e \"$SWITCH\" ] && [ $left -gt 0 ]; do
    sleep 1
    left=$((left - 1))
done 2>/dev/null
kill -9 $! 2>/dev/null
wait";

/// Lines of the console that are shown when the guest has not come to its end.
const SHOWN: usize = 30;

/// A machine.
pub(super) struct Guest {
    /// MiB.
    pub(super) memory: u32,
    pub(super) cpus: u32,
    pub(super) modules: Vec<String>,
    pub(super) writable: Vec<PathBuf>,
    pub(super) qemu: Vec<String>,
    pub(super) append: Vec<String>,
    pub(super) iommu: bool,
    /// Whether it has network cards.
    pub(super) cards: bool,
    /// Whether it has NVMe drives, and where they are kept, if they are to outlast it.
    pub(super) disks: bool,
    pub(super) drives: Option<PathBuf>,
    /// Whether it can switch itself off, by making the file [`SWITCH`]: within a second or so, and without a warning.
    pub(super) switch: bool,
    pub(super) limit: Duration,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            memory: 1024,
            cpus: 1,
            modules: Vec::new(),
            writable: Vec::new(),
            qemu: Vec::new(),
            append: Vec::new(),
            iommu: false,
            cards: false,
            disks: false,
            drives: None,
            switch: false,
            limit: Duration::from_secs(300),
        }
    }
}

/// A boot: a command that runs QEMU, whose standard output and error are the guest's, and what it leaves.
pub(super) struct Boot {
    pub(super) command: Command,
    /// Shared with the guest.
    directory: PathBuf,
}

impl Guest {
    /// Prepares to run a command in a directory.
    pub(super) fn boot(&self, kernel: &Kernel, directory: &Path, command: &[OsString]) -> Result<Boot> {
        static BOOTS: AtomicU32 = AtomicU32::new(0);
        let number = BOOTS.fetch_add(1, Ordering::Relaxed);
        let shared = std::env::temp_dir().join(format!("demikernel-boot-{}-{number}", std::process::id()));
        fs::create_dir_all(&shared).with_context(|| format!("cannot create {}", shared.display()))?;
        // What follows may fail, and then the directory is to go as well.
        let runner = if self.cards { cards::with_switch() } else { Command::new("env") };
        let mut boot = Boot { command: runner, directory: shared };
        fs::write(boot.directory.join("settings"), self.settings(kernel)?)?;
        fs::write(boot.directory.join("command"), script(directory, command)?)?;
        let run = if self.switch { RUN_WITH_SWITCH } else { RUN };
        let switch = boot.directory.join(Path::new(SWITCH).file_name().context("a file")?);
        boot.command.env("SWITCH", switch).args(["sh", "-c", run, "timeout"]);
        boot.command.arg(self.limit.as_secs().to_string()).arg("qemu-system-x86_64");
        self.describe(&mut boot.command, kernel, &boot.directory)?;
        Ok(boot)
    }

    fn settings(&self, kernel: &Kernel) -> Result<String> {
        let writable: Vec<_> = self.writable.iter().map(fs::canonicalize).collect::<Result<_, _>>()?;
        let writable: Vec<_> =
            writable.iter().map(|directory| text(directory.as_os_str())).collect::<Result<_>>()?;
        let files = fs::canonicalize(kernel.modules())?;
        let lines = [
            format!("MODULES={}", quote(&self.modules.join(" "))),
            format!("MODULE_FILES={}", quote(text(files.as_os_str())?)),
            format!("WRITABLE={}", quote(&writable.join(" "))),
        ];
        Ok(lines.join("\n") + "\n")
    }

    /// The arguments for QEMU.
    fn describe(&self, qemu: &mut Command, kernel: &Kernel, shared: &Path) -> Result<()> {
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        qemu.args(["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max,la57=off"]);
        qemu.args(["-m", &self.memory.to_string(), "-smp", &self.cpus.to_string()]);
        qemu.args(["-device", "isa-debug-exit,iobase=0x501,iosize=1", "-device", "virtio-rng-pci"]);
        qemu.arg("-chardev").arg(option("file,id=console,path=", &shared.join("console"), ""));
        qemu.args(["-serial", "chardev:console", "-device", "virtio-serial-pci"]);
        for (name, descriptor) in [("output", 8), ("errors", 9)] {
            qemu.args(["-add-fd", &format!("fd={descriptor},set={descriptor}")]);
            let file = format!("file,id={name},append=on,path=/dev/fdset/{descriptor}");
            qemu.args(["-chardev", &file, "-device", &format!("virtserialport,chardev={name},name={name}")]);
        }
        share(qemu, "host", Path::new("/"), ",readonly=on,multidevs=remap");
        share(qemu, "boot", shared, "");
        for (number, directory) in self.writable.iter().enumerate() {
            share(qemu, &format!("writable{number}"), &fs::canonicalize(directory)?, "");
        }
        if self.cards {
            cards::describe(qemu);
        }
        if self.disks {
            disks::describe(qemu, self.drives.as_deref().unwrap_or(shared))?;
        }
        if self.cards || self.disks {
            monitor::describe(qemu, shared);
        }
        if self.iommu {
            qemu.args(["-machine", "q35,kernel-irqchip=off", "-device", "intel-iommu,caching-mode=on"]);
        } else {
            qemu.args(["-machine", "q35"]);
        }
        qemu.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(kernel.initramfs());
        qemu.arg("-append").arg(self.kernel_arguments()).args(&self.qemu);
        Ok(())
    }

    fn kernel_arguments(&self) -> String {
        let mut arguments = String::from(
            "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr audit=0 selinux=0 apparmor=0 \
             cgroup_disable=memory random.trust_cpu=on no_timer_check",
        );
        // Left to itself the guest measures how fast its clock goes, and is wrong when the machine is busy.
        if let Some(khz) = time_stamp_khz() {
            arguments += &format!(" tsc=reliable tsc_early_khz={khz}");
        }
        if self.iommu {
            arguments += " intel_iommu=on iommu=pt";
        }
        for argument in &self.append {
            arguments = arguments + " " + argument;
        }
        arguments
    }
}

impl Boot {
    /// How the command ended, after QEMU has.
    ///
    /// # Errors
    /// If the guest has not come so far: with the end of its console.
    pub(super) fn status(&self) -> Result<i32> {
        let status = fs::read_to_string(self.directory.join("status")).unwrap_or_default();
        if let Ok(status) = status.trim().parse() {
            return Ok(status);
        }
        let console = fs::read(self.directory.join("console")).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<_> = console.lines().collect();
        let end = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
        bail!(
            "the guest has left no exit status: it took too long ({TIMED_OUT}), or ended early; its console:\n{end}"
        )
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        // In a directory for temporary files, where a rest harms nobody.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A directory of this machine for the guest.
fn share(qemu: &mut Command, name: &str, directory: &Path, options: &str) {
    let options = format!(",security_model=none{options}");
    qemu.arg("-fsdev").arg(option(&format!("local,id={name},path="), directory, &options));
    qemu.args(["-device", &format!("virtio-9p-pci,fsdev={name},mount_tag={name}")]);
}

/// An option of QEMU with a path in it, in which a comma is to be doubled.
pub(super) fn option(before: &str, path: &Path, after: &str) -> OsString {
    format!("{before}{}{after}", path.display().to_string().replace(',', ",,")).into()
}

/// What a shell in the guest does.
fn script(directory: &Path, command: &[OsString]) -> Result<String> {
    let mut script = String::new();
    for (name, value) in std::env::vars() {
        // Names that no shell would have as a variable came through a shell function or by mistake.
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && name != "PWD" {
            script += &format!("export {name}={}\n", quote(&value));
        }
    }
    script += &format!("cd {} && exec", quote(text(directory.as_os_str())?));
    for word in command {
        script += &format!(" {}", quote(text(word)?));
    }
    Ok(script + "\n")
}

fn text(words: &OsStr) -> Result<&str> {
    words.to_str().with_context(|| format!("{} is not UTF-8", words.display()))
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// How often per millisecond the processor's time-stamp counter counts.
fn time_stamp_khz() -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: the instruction is part of the architecture, and reads nothing but the counter.
        let read = || unsafe { std::arch::x86_64::_rdtsc() };
        let (from, start) = (read(), Instant::now());
        std::thread::sleep(Duration::from_millis(50));
        let (to, elapsed) = (read(), start.elapsed());
        u64::try_from(u128::from(to - from) * 1_000_000 / elapsed.as_nanos()).ok()
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        let words = ["printf", "%s|", "it's", "a b", "$HOME", "\\", ""].map(OsString::from);
        let script = script(Path::new("/"), &words).unwrap();
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "it's|a b|$HOME|\\||");
    }

    #[test]
    fn a_guest_that_left_nothing_shows_its_console() {
        let directory = std::env::temp_dir().join(format!("demikernel-boot-test-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("console"), "booting\nKernel panic\n").unwrap();
        let boot = Boot { command: Command::new("true"), directory };
        assert!(boot.status().unwrap_err().to_string().ends_with("booting\nKernel panic"));
        fs::write(boot.directory.join("status"), "3\n").unwrap();
        assert_eq!(boot.status().unwrap(), 3);
    }
}
