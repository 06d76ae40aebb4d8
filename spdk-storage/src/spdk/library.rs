//! Loading the libraries.
//!
//! SPDK's shared libraries do not say on which others they rest: those are loaded first, with all their symbols global.
//! Nothing is unloaded, as what was registered by the libraries stays.

use super::error::SpdkError;
use super::functions::Functions;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::ffi::{CStr, OsStr, OsString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What SPDK needs of the system, under the names that releases of it have had. One that is under none is left out: a
/// build of SPDK may do without, and if it does not, loading what needs it says so.
const SYSTEM: [&[&str]; 4] = [
    &["libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.so"],
    &["libssl.so.3", "libssl.so.1.1", "libssl.so"],
    &["libuuid.so.1"],
    &["libisal.so.2", "libisal.so"],
];

/// DPDK's. A program that is linked with DPDK has some of them, and needs the others of the same build.
const DPDK: [&str; 8] = [
    "librte_eal.so",
    "librte_ring.so",
    "librte_mempool.so",
    "librte_mempool_ring.so",
    "librte_pci.so",
    "librte_bus_pci.so",
    "librte_bus_vdev.so",
    "librte_power.so",
];

/// SPDK's, of which the last has what is called. `sock_posix` is for NVMe over TCP.
const SPDK: [&str; 4] =
    ["libspdk_env_dpdk.so", "libspdk_sock.so", "libspdk_sock_posix.so", "libspdk_nvme.so"];

/// Not in every release: some have it in another.
const OPTIONAL: [&str; 2] = ["librte_bus_vdev.so", "librte_power.so"];

/// Loads everything, from a directory first if one is given, and finds the functions.
pub(super) fn load(directory: Option<&Path>) -> Result<Functions, SpdkError> {
    let mut libraries = Vec::new();
    for names in SYSTEM {
        libraries.extend(names.iter().find_map(|name| open(directory, name).ok()));
    }
    let linked = if cfg!(feature = "dpdk") { linked() } else { None };
    for name in DPDK {
        let opened = match &linked {
            Some((directory, release)) => open(Some(directory), &format!("{name}{release}")),
            None => open(directory, name),
        };
        match opened {
            Ok(library) => libraries.push(library),
            Err(_) if OPTIONAL.contains(&name) => {}
            Err(reason) => {
                let directory = linked.map(|(directory, _)| directory).or(directory.map(Path::to_path_buf));
                return Err(SpdkError::Library { library: name, directory, reason });
            }
        }
    }
    for library in SPDK {
        let opened = open(directory, library);
        let missing =
            |reason| SpdkError::Library { library, directory: directory.map(Path::to_path_buf), reason };
        libraries.push(opened.map_err(missing)?);
    }
    // What the program itself is linked with, and whatever was loaded as global.
    libraries.push(Library::this());
    // SAFETY: the libraries define these names as their headers say, in all releases since SPDK 21.01.
    let functions = unsafe { Functions::load(|symbol| find(&libraries, symbol)) };
    // They stay loaded: functions of theirs are kept, and they have registered themselves with each other.
    std::mem::forget(libraries);
    functions.map_err(|symbol| SpdkError::Symbol { symbol })
}

/// Where the DPDK is that the program is linked with, and what follows the names of its libraries.
fn linked() -> Option<(PathBuf, String)> {
    let eal = find(&[Library::this()], "rte_eal_init")?;
    // SAFETY: an address in a library; what is filled in is valid while that is loaded, which it stays.
    let file = unsafe {
        let mut found: libc::Dl_info = std::mem::zeroed();
        let is_found = libc::dladdr(eal, &raw mut found) != 0 && !found.dli_fname.is_null();
        is_found.then(|| CStr::from_ptr(found.dli_fname))?
    };
    let path = Path::new(OsStr::from_bytes(file.to_bytes()));
    let release = path.file_name()?.to_str()?.strip_prefix(DPDK[0])?;
    Some((path.parent()?.to_path_buf(), release.to_owned()))
}

fn open(directory: Option<&Path>, name: &str) -> Result<Library, String> {
    let in_directory = directory.map(|directory| directory.join(name)).filter(|path| path.exists());
    let name = in_directory.map_or_else(|| OsString::from(name), |path| path.into_os_string());
    // SAFETY: libraries of the system, DPDK and SPDK, whose initialisers register drivers and touch nothing of ours.
    unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) }.map_err(|error| reason(&error))
}

/// What the dynamic linker says.
fn reason(error: &libloading::Error) -> String {
    use std::error::Error;
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

fn find(libraries: &[Library], symbol: &str) -> Option<*mut c_void> {
    libraries.iter().find_map(|library| {
        // SAFETY: only the address is taken here; what is there is said by who calls.
        let found = unsafe { library.get::<*mut c_void>(symbol.as_bytes()) };
        found.ok().map(|found| found.as_raw_ptr())
    })
}
