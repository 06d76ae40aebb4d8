//! The environment abstraction layer, of which a process has one.

use std::ffi::{CStr, CString, c_char};
use std::fs;
use std::sync::{Arc, Mutex, OnceLock};

use crate::error::Error;
use crate::ffi;
use crate::log;
use crate::memory::Memory;
use crate::pci;

/// How EAL is started.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct EalConfig {
    /// Arguments besides those that follow from the other fields, and in place of them where both say the same.
    pub arguments: Vec<String>,
    /// Whether memory is of huge pages. Without, most devices in hardware cannot be used.
    pub huge_pages: bool,
    /// Without huge pages: bytes of memory, of which only what is used is really taken.
    pub memory: usize,
    /// PCI addresses of the devices that may be touched; without any, the bus is left alone.
    pub allow: Vec<String>,
}

impl Default for EalConfig {
    fn default() -> EalConfig {
        EalConfig { arguments: Vec::new(), huge_pages: true, memory: 512 << 20, allow: Vec::new() }
    }
}

/// EAL, once it runs. It runs until the process ends.
#[derive(Debug)]
pub struct Eal {
    /// The arguments that users gave.
    arguments: Vec<String>,
    memory: Arc<Memory>,
}

static EAL: OnceLock<Result<Eal, Error>> = OnceLock::new();

/// Held while it is looked whether EAL can be started, and while it is: what it uses seems to be in use then.
static STARTING: Mutex<()> = Mutex::new(());

impl Eal {
    /// EAL as it is running, or started as `config` says if it is not.
    ///
    /// It neither pins the calling thread nor makes it one of DPDK's.
    ///
    /// # Errors
    ///
    /// If it cannot start, with DPDK's reason; then no later call can, either. If it runs with other arguments than
    /// `config` has, unless that has none. If `config` has one at which it would end the process.
    pub fn start(config: &EalConfig) -> Result<&'static Eal, Error> {
        for argument in &config.arguments {
            check(argument)?;
        }
        let eal = {
            let _one = STARTING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if EAL.get().is_none() {
                check_environment(config)?;
            }
            EAL.get_or_init(|| launch(config)).as_ref().map_err(Error::clone)?
        };
        if !config.arguments.is_empty() && config.arguments != eal.arguments {
            let (running, wanted) = (eal.arguments.clone(), config.arguments.clone());
            return Err(Error::Other { running, wanted });
        }
        Ok(eal)
    }

    /// Memory that ports reach.
    pub fn memory(&self) -> Arc<Memory> {
        self.memory.clone()
    }

    /// DPDK's version, such as `DPDK 22.11.11`.
    pub fn version() -> &'static str {
        // SAFETY: a constant string of the library.
        unsafe { CStr::from_ptr(ffi::dk_version()) }.to_str().unwrap_or("DPDK")
    }
}

/// Some arguments end the process after they have been served.
fn check(argument: &str) -> Result<(), Error> {
    let reason = match argument {
        "-h" | "--help" | "--log-level=help" => "it would print help and end the process",
        _ if argument.contains('\0') => "it has a zero byte in it",
        _ => return Ok(()),
    };
    Err(Error::Argument { argument: argument.to_owned(), reason })
}

/// Over what is found wrong here, EAL would not start, now and later, and not say why.
fn check_environment(config: &EalConfig) -> Result<(), Error> {
    config.allow.iter().try_for_each(|address| pci::check(address))?;
    if config.huge_pages && !config.arguments.iter().any(|one| one == "--no-huge") {
        check_huge_pages()?;
    }
    Ok(())
}

/// EAL says of this only that it cannot get memory.
fn check_huge_pages() -> Result<(), Error> {
    let sizes = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let free = sizes.filter_map(|size| fs::read_to_string(size.path().join("free_hugepages")).ok());
    let free: u64 = free.filter_map(|text| text.trim().parse::<u64>().ok()).sum();
    if free > 0 {
        return Ok(());
    }
    Err(Error::Eal {
        reason: "there are no free huge pages".to_owned(),
        remedy: "reserve some as root (echo 512 > /proc/sys/vm/nr_hugepages), or do without, where the device allows \
                 it (huge-pages = false under [dpdk])",
        errno: libc::ENOMEM,
    })
}

/// Starts EAL on a thread of its own, because EAL pins the thread that starts it.
fn launch(config: &EalConfig) -> Result<Eal, Error> {
    let arguments = arguments(config, std::process::id(), first_processor(), pci::iommu_width());
    tracing::debug!(?arguments, version = Eal::version(), "EAL is started");
    let strings: Vec<CString> = arguments
        .into_iter()
        .map(|argument| CString::new(argument).expect("checked for zero bytes"))
        .collect();
    let start = move || {
        // EAL may keep pointers to its arguments.
        let mut pointers: Vec<*mut c_char> = strings.into_iter().map(CString::into_raw).collect();
        let count = pointers.len() as i32;
        pointers.push(std::ptr::null_mut());
        let pointers = Vec::leak(pointers);
        // SAFETY: as many strings as is said, with a null pointer behind them, that live for ever. `log::write` is
        // called with text that is valid during the call, and so is `log::link`.
        log::with_reasons(|| unsafe { ffi::dk_eal_init(count, pointers.as_mut_ptr(), log::write, log::link) })
    };
    let thread = std::thread::Builder::new().name("dpdk-eal".to_owned()).spawn(start);
    let (result, reasons) = match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => (-libc::EFAULT, Some("the thread that started it has panicked".to_owned())),
        Err(error) => (-error.raw_os_error().unwrap_or(libc::EAGAIN), Some(error.to_string())),
    };
    if result < 0 {
        let errno = -result;
        let reason = reasons.unwrap_or_else(|| std::io::Error::from_raw_os_error(errno).to_string());
        let remedy = match errno {
            libc::EACCES | libc::EPERM => "run as root, or give the user the huge pages and devices",
            libc::ENOMEM => "reserve more huge pages (/proc/sys/vm/nr_hugepages)",
            _ => "see `eal` under [dpdk], and the log of the target `dpdk`",
        };
        return Err(Error::Eal { reason, remedy, errno });
    }
    Ok(Eal { arguments: config.arguments.clone(), memory: Arc::new(Memory::new()) })
}

/// All arguments, with the name of the program in front. Those that the user gave stand for ours of the same kind.
fn arguments(config: &EalConfig, process: u32, processor: usize, iommu: Option<u32>) -> Vec<String> {
    let given = |names: &[&str]| {
        config.arguments.iter().any(|argument| {
            let name = argument.split_once('=').map_or(argument.as_str(), |(name, _)| name);
            names.contains(&name)
        })
    };
    let mut arguments = vec!["demikernel".to_owned()];
    let mut say = |ours: &[&str]| arguments.extend(ours.iter().map(|&argument| argument.to_owned()));
    if !given(&["-l", "-c", "--lcores"]) {
        say(&["-l", &processor.to_string()]);
    }
    if !given(&["--file-prefix"]) {
        say(&["--file-prefix", &format!("demikernel-{process}")]);
    }
    if !given(&["--telemetry", "--no-telemetry"]) {
        say(&["--no-telemetry"]);
    }
    if !config.huge_pages || given(&["--no-huge"]) {
        if !given(&["--no-huge"]) {
            say(&["--no-huge"]);
        }
        if !given(&["--no-shconf"]) {
            say(&["--no-shconf"]);
        }
        if !given(&["-m", "--socket-mem"]) {
            say(&["-m", &config.memory.div_ceil(1 << 20).to_string()]);
        }
    } else if !given(&[
        "--in-memory",
        "--proc-type",
        "--huge-dir",
        "--legacy-mem",
        "--no-shconf",
        "--huge-unlink",
    ]) {
        // One file of memory, as processes that share it can map only a few.
        say(&["--in-memory", "--single-file-segments"]);
    }
    if !given(&["--no-pci", "-a", "--allow", "-b", "--block"]) {
        match &config.allow[..] {
            [] => {
                say(&["--no-pci"]);
                // Devices in software know no other addresses.
                if !given(&["--iova-mode"]) {
                    say(&["--iova-mode", "va"]);
                }
            }
            allow => {
                allow.iter().for_each(|address| say(&["-a", address]));
                // EAL asks drivers that it knows; those of SPDK come later.
                if config.huge_pages && iommu.is_some_and(|width| width < 48) && !given(&["--iova-mode"]) {
                    say(&["--iova-mode", "pa"]);
                }
            }
        }
    }
    arguments.extend(config.arguments.iter().cloned());
    arguments
}

/// The first processor that this process may run on: EAL wants to be told one for its main thread.
fn first_processor() -> usize {
    // SAFETY: a structure of bits, for which zeros are values; the call fills in as much as is said.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0 {
            return 0;
        }
        (0..libc::CPU_SETSIZE as usize).find(|&processor| libc::CPU_ISSET(processor, &set)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_says_stands_for_what_we_would() {
        let mut config = EalConfig::default();
        let ours = arguments(&config, 7, 1, Some(39)).join(" ");
        assert_eq!(
            ours,
            "demikernel -l 1 --file-prefix demikernel-7 --no-telemetry --in-memory --single-file-segments --no-pci \
             --iova-mode va"
        );
        config.huge_pages = false;
        config.memory = 1;
        config.allow = vec!["0000:00:04.0".to_owned()];
        config.arguments = ["--lcores=0", "--file-prefix=x"].map(str::to_owned).to_vec();
        let both = arguments(&config, 7, 1, Some(39)).join(" ");
        assert_eq!(
            both,
            "demikernel --no-telemetry --no-huge --no-shconf -m 1 -a 0000:00:04.0 --lcores=0 --file-prefix=x"
        );
        config.huge_pages = true;
        let ends =
            |width| arguments(&config, 7, 1, width).join(" ").contains(" -a 0000:00:04.0 --iova-mode pa ");
        assert!(ends(Some(39)) && !ends(Some(48)) && !ends(None));
    }

    #[test]
    fn what_would_end_the_process_is_refused() {
        let config = EalConfig { arguments: vec!["--help".to_owned()], ..EalConfig::default() };
        let error = Eal::start(&config).unwrap_err();
        assert!(matches!(error, Error::Argument { .. }), "{error}");
        assert_eq!(error.errno(), libc::EINVAL);
    }
}
