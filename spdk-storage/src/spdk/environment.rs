//! EAL under SPDK, of which a process has one, and what SPDK reaches of the runtime's memory.

use super::error::SpdkError;
use super::functions::Functions;
use super::library;
use demikernel_runtime::buffer::pool::{Region, RegionTable, RegionUser};
use std::cell::RefCell;
use std::ffi::{CStr, c_void};
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::OnceLock;

/// How SPDK is loaded and its environment started: once in a process, by who comes first.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SpdkConfig {
    /// Where its libraries are looked for, and DPDK's, before the system's places.
    pub libraries: Option<PathBuf>,
    /// Arguments of EAL in place of the usual ones or besides them.
    pub arguments: Vec<String>,
    /// Whether memory is of huge pages; PCI devices need that.
    pub huge_pages: bool,
    /// PCI addresses that may be touched, besides that of the controller.
    pub allow: Vec<String>,
}

impl Default for SpdkConfig {
    fn default() -> SpdkConfig {
        SpdkConfig { libraries: None, arguments: Vec::new(), huge_pages: true, allow: Vec::new() }
    }
}

/// SPDK, loaded, with its environment running. It does until the process ends.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) functions: Functions,
}

static ENVIRONMENT: OnceLock<Result<Environment, SpdkError>> = OnceLock::new();

impl Environment {
    /// As it is running, or started.
    pub(super) fn start(config: &SpdkConfig) -> Result<&'static Environment, SpdkError> {
        ENVIRONMENT.get_or_init(|| Environment::new(config)).as_ref().map_err(Clone::clone)
    }

    fn new(config: &SpdkConfig) -> Result<Environment, SpdkError> {
        let functions = library::load(config.libraries.as_deref())?;
        eal::start(&functions, config)?;
        // Memory that stays as it is at first: SPDK is not told of more then.
        let is_static = !config.huge_pages
            || config
                .arguments
                .iter()
                .any(|argument| ["--no-huge", "--legacy-mem"].contains(&argument.as_str()));
        // SAFETY: EAL runs, and this is called once.
        let code = unsafe { (functions.spdk_env_dpdk_post_init)(is_static) };
        // SAFETY: a constant string.
        let version = unsafe { CStr::from_ptr((functions.rte_version)()) };
        if code != 0 {
            let dpdk = version.to_string_lossy().into_owned();
            return Err(SpdkError::Version { dpdk, code });
        }
        tracing::debug!(?version, "SPDK runs on DPDK");
        Ok(Environment { functions })
    }

    /// For tests, on a double.
    #[cfg(test)]
    pub(super) fn of(functions: Functions) -> &'static Environment {
        Box::leak(Box::new(Environment { functions }))
    }
}

/// EAL, which `demikernel-dpdk` starts where it is there.
#[cfg(feature = "dpdk")]
mod eal {
    use super::{Functions, SpdkConfig, SpdkError};
    use demikernel_dpdk::{Eal, EalConfig};

    pub(super) fn start(_functions: &Functions, config: &SpdkConfig) -> Result<(), SpdkError> {
        let mut eal = EalConfig::default();
        eal.arguments.clone_from(&config.arguments);
        eal.huge_pages = config.huge_pages;
        eal.allow.clone_from(&config.allow);
        let started = Eal::start(&eal).map(|_| ());
        started.map_err(|error| SpdkError::Eal { arguments: eal.arguments, reason: error.to_string() })
    }
}

/// EAL, started through the library that was loaded.
#[cfg(not(feature = "dpdk"))]
mod eal {
    use super::{Functions, SpdkConfig, SpdkError};
    use std::ffi::{CString, c_char, c_int};
    use std::fs;

    /// Bits of an address that a program may have, and an IOMMU has to have for addresses to be the same on both sides.
    const WIDTH: u32 = 48;

    /// On a thread of its own, because EAL pins the thread that starts it.
    pub(super) fn start(functions: &Functions, config: &SpdkConfig) -> Result<(), SpdkError> {
        let arguments = arguments(config, std::process::id(), iommu_width());
        let strings: Result<Vec<CString>, _> =
            arguments.iter().map(|argument| CString::new(argument.as_str())).collect();
        let failed =
            |reason: &str| SpdkError::Eal { arguments: arguments.clone(), reason: reason.to_owned() };
        let strings = strings.map_err(|_| failed("an argument has a zero byte in it"))?;
        let init = functions.rte_eal_init;
        let start = move || {
            // EAL may keep pointers to its arguments.
            let mut pointers: Vec<*mut c_char> = strings.into_iter().map(CString::into_raw).collect();
            let count = pointers.len() as c_int;
            pointers.push(std::ptr::null_mut());
            // SAFETY: as many strings as is said, with a null pointer behind them, that live for ever.
            unsafe { init(count, Vec::leak(pointers).as_mut_ptr()) }
        };
        let thread = std::thread::Builder::new().name("spdk-eal".to_owned()).spawn(start);
        match thread.map(std::thread::JoinHandle::join) {
            Ok(Ok(code)) if code >= 0 => Ok(()),
            Ok(_) => Err(failed("its reason is on the standard error; are there free huge pages?")),
            Err(error) => Err(failed(&error.to_string())),
        }
    }

    /// Bits of the addresses of the narrowest of Intel's IOMMUs, if there is one (VT-d specification, capability register).
    fn iommu_width() -> Option<u32> {
        let units = fs::read_dir("/sys/devices/virtual/iommu").into_iter().flatten().flatten();
        let capabilities =
            units.filter_map(|unit| fs::read_to_string(unit.path().join("intel-iommu/cap")).ok());
        let values = capabilities.filter_map(|text| u64::from_str_radix(text.trim(), 16).ok());
        values.map(|value| (value >> 16 & 63) as u32 + 1).min()
    }

    /// With the name of the program in front. What the user gave stands for ours of the same kind.
    fn arguments(config: &SpdkConfig, process: u32, iommu: Option<u32>) -> Vec<String> {
        let given = |names: &[&str]| {
            let name = |argument: &String| argument.split('=').next().unwrap_or("").to_owned();
            config.arguments.iter().any(|argument| names.contains(&name(argument).as_str()))
        };
        let mut arguments = vec!["demikernel".to_owned()];
        let mut say = |ours: &[&str]| arguments.extend(ours.iter().map(|&argument| argument.to_owned()));
        if !given(&["-l", "-c", "--lcores"]) {
            say(&["--lcores", "0@0"]);
        }
        if !given(&["--file-prefix"]) {
            say(&["--file-prefix", &format!("demikernel-{process}")]);
        }
        if !given(&["--telemetry", "--no-telemetry"]) {
            say(&["--no-telemetry"]);
        }
        if !config.huge_pages && !given(&["--no-huge"]) {
            // SPDK wants memory to begin where a huge page would.
            say(&[
                "--no-huge",
                "--no-shconf",
                "--iova-mode",
                "va",
                "--base-virtaddr",
                "0x200000000000",
                "-m",
                "256",
            ]);
        } else if !given(&["--no-huge", "--in-memory", "--huge-unlink", "--huge-dir", "--legacy-mem"]) {
            say(&["--in-memory"]);
        }
        // EAL would find out from drivers, of which there are none yet.
        let is_narrow = config.huge_pages && iommu.is_some_and(|width| width < WIDTH);
        if is_narrow && !given(&["--iova-mode", "--no-huge"]) {
            say(&["--iova-mode", "pa"]);
        }
        if !given(&["--no-pci", "-a", "--allow", "-b", "--block"]) {
            match &config.allow[..] {
                // It would take whatever cards the machine has.
                [] => say(&["--no-pci"]),
                allow => allow.iter().for_each(|address| say(&["-a", address])),
            }
        }
        arguments.extend(config.arguments.iter().cloned());
        arguments
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn what_the_user_says_stands_for_what_we_would() {
            let mut config = SpdkConfig::default();
            let ours = arguments(&config, 7, Some(48)).join(" ");
            let expected =
                "demikernel --lcores 0@0 --file-prefix demikernel-7 --no-telemetry --in-memory --no-pci";
            assert_eq!(ours, expected);
            config.allow = vec!["0000:00:04.0".to_owned()];
            config.arguments = ["--file-prefix=x", "--huge-unlink"].map(str::to_owned).to_vec();
            let both = arguments(&config, 7, Some(39)).join(" ");
            let expected = "demikernel --lcores 0@0 --no-telemetry --iova-mode pa -a 0000:00:04.0 --file-prefix=x --huge-unlink";
            assert_eq!(both, expected);
        }
    }
}

/// Regions of the thread's heap, each registered with SPDK while it is mapped.
///
/// What is registered is so for the process: a thread has one of these, whatever number of queues it has.
pub(super) struct Registered(RegionTable<Registrar>);

struct Registrar {
    functions: Functions,
}

/// A region that controllers reach.
#[derive(Clone, Copy)]
struct Reached {
    base: *mut c_void,
    length: usize,
    /// By us, who have to undo it. EAL has its own memory registered.
    is_ours: bool,
}

thread_local! {
    static REGISTERED: RefCell<Weak<Registered>> = const { RefCell::new(Weak::new()) };
}

impl Registered {
    /// The thread's.
    pub(super) fn with(environment: &'static Environment) -> Rc<Registered> {
        REGISTERED.with_borrow_mut(|registered| {
            registered.upgrade().unwrap_or_else(|| {
                let new = Rc::new(Registered::new(&environment.functions));
                *registered = Rc::downgrade(&new);
                new
            })
        })
    }

    fn new(functions: &Functions) -> Registered {
        Registered(RegionTable::new(Registrar { functions: *functions }))
    }

    /// Whether controllers reach what lies there ([`Buffer::region`](demikernel_runtime::buffer::Buffer::region)).
    #[inline]
    pub(super) fn has(&self, region: Option<(u32, usize)>) -> bool {
        self.0.get(region).is_some()
    }
}

impl RegionUser for Registrar {
    type Entry = Reached;

    fn mapped(&mut self, region: &Region) -> Option<Reached> {
        let (base, length) = (region.base.as_ptr().cast(), region.len);
        // SAFETY: a region of whole huge pages, which is unregistered before it is unmapped.
        match unsafe { (self.functions.spdk_mem_register)(base, length) } {
            0 => Some(Reached { base, length, is_ours: true }),
            code if code == -libc::EBUSY => Some(Reached { base, length, is_ours: false }),
            code => {
                tracing::warn!(code, "SPDK does not register a region: what is there is copied");
                None
            }
        }
    }

    fn unmapping(&mut self, region: Reached) {
        if region.is_ours {
            // SAFETY: it was registered like this. No command uses it: buffers that one uses are alive, and with them
            // their region.
            unsafe { (self.functions.spdk_mem_unregister)(region.base, region.length) };
        }
    }
}
