//! The choice of a transport by name: the one place that knows them all.

use crate::storage::Named;
use demikernel_runtime::transport::Transport;
use demikernel_runtime::transport::epoll::Epoll;
use demikernel_runtime::transport::memory::Memory;
use std::env;
use std::io;
use std::sync::Arc;

/// Overrides the automatic choice.
const VARIABLE: &str = "DEMIKERNEL_TRANSPORT";

/// Says where logs are, if the program does not.
const STORAGE_VARIABLE: &str = "DEMIKERNEL_STORAGE";

/// Transports of this and later versions that need a feature, and its name.
const FEATURES: &[(&str, &str)] = &[
    ("io_uring", "io-uring"),
    ("tap", "tap"),
    ("packet", "tap"),
    ("dpdk", "dpdk"),
    ("xdp", "xdp"),
    ("rdma", "rdma"),
];

/// Names that stand for others. Without the stack, what is simulated are sockets instead of packets.
const ALIASES: &[(&str, &str)] = &[
    #[cfg(not(feature = "sim"))]
    ("sim", "memory"),
];

/// Transports of which everything follows from a seed.
pub(crate) const SIMULATED: &[&str] = &["memory", "sim"];

/// Transports that have to be set up before they can be used: they are chosen by name only.
const NAMED_ONLY: &[&str] = &["tap", "packet", "dpdk", "xdp", "rdma"];

/// What has blocks, and no sockets.
const DRIVES: &[&str] = &["spdk", "nvme"];

/// The transports that are compiled in, by name, the preferred one first.
///
/// ```
/// assert!(demikernel::transports().contains(&"epoll"));
/// ```
pub fn transports() -> &'static [&'static str] {
    &[
        #[cfg(feature = "io-uring")]
        "io_uring",
        "epoll",
        "memory",
        #[cfg(feature = "sim")]
        "sim",
        #[cfg(feature = "tap")]
        "tap",
        #[cfg(feature = "tap")]
        "packet",
        #[cfg(feature = "dpdk")]
        "dpdk",
        #[cfg(feature = "xdp")]
        "xdp",
        #[cfg(feature = "rdma")]
        "rdma",
    ]
}

/// Those that work without having been set up: what a test runs on that names none.
pub(crate) fn ready_transports() -> impl Iterator<Item = &'static str> {
    transports().iter().copied().filter(|name| !NAMED_ONLY.contains(name))
}

/// What a runtime is to be made with.
#[derive(Debug)]
pub(crate) struct Choice {
    /// `None`: automatically.
    transport: Option<&'static str>,
    /// Which of them has files. `None`: the transport's own, or automatically.
    files: Option<&'static str>,
    /// Where logs are.
    pub(crate) logs: Named,
    seed: u64,
    /// The text of a file for the userspace stack; `None`: what the environment names.
    pub(crate) configuration: Option<String>,
    /// Of a runtime that is one of several, which core it is for, and what it has in common with the others.
    pub(crate) core: Option<(usize, Arc<Team>)>,
}

/// What the runtimes of a program have in common.
#[derive(Debug)]
pub(crate) struct Team {
    cores: usize,
    /// Made by the first that needs it: kernel sockets do not.
    #[cfg(any(feature = "tap", feature = "dpdk", feature = "xdp"))]
    shared: std::sync::Mutex<Option<Arc<demikernel_net::cores::Cores>>>,
}

impl Team {
    /// Of so many.
    pub(crate) fn new(cores: usize) -> Arc<Team> {
        Arc::new(Team {
            cores,
            #[cfg(any(feature = "tap", feature = "dpdk", feature = "xdp"))]
            shared: std::sync::Mutex::default(),
        })
    }

    pub(crate) fn cores(&self) -> usize {
        self.cores
    }
}

#[cfg(any(feature = "tap", feature = "dpdk", feature = "xdp"))]
impl Team {
    /// What their stacks share a device by.
    fn shared(&self) -> io::Result<Arc<demikernel_net::cores::Cores>> {
        let mut shared = self.shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(shared) = &*shared {
            return Ok(shared.clone());
        }
        let cores = demikernel_net::cores::Cores::new(self.cores)?;
        *shared = Some(cores.clone());
        Ok(cores)
    }
}

impl Choice {
    /// Settles the names; the environment has its say where no transport is given.
    pub(crate) fn new(transport: Option<&str>, storage: Option<&str>, seed: u64) -> io::Result<Choice> {
        let transport = match given(transport, "transport", VARIABLE)? {
            Some((name, what)) => known(&name, what)?,
            None => None,
        };
        let (files, logs) = match given(storage, "storage", STORAGE_VARIABLE)? {
            Some((name, what)) => storage_named(&name, what)?,
            None => (None, Named::Nothing),
        };
        Ok(Choice { transport, files, logs, seed, configuration: None, core: None })
    }
}

/// What the program says, else the environment, with a word for which of the two.
fn given<'a>(
    argument: Option<&str>,
    what: &'a str,
    variable: &'a str,
) -> io::Result<Option<(String, &'a str)>> {
    match argument {
        Some(name) => Ok(Some((name.to_owned(), what))),
        None => match env::var(variable) {
            Ok(name) => Ok(Some((name, variable))),
            Err(env::VarError::NotPresent) => Ok(None),
            Err(error) => Err(invalid(format!("{variable}: {error}"))),
        },
    }
}

/// What has files, and where logs are, for a name of either.
fn storage_named(name: &str, what: &str) -> io::Result<(Option<&'static str>, Named)> {
    // What is simulated has its files in memory, whatever its sockets are.
    match name {
        "memory" | "sim" => return Ok((Some("memory"), Named::Memory)),
        "nvme" => return drive_named(name, what, cfg!(feature = "nvme"), false),
        "spdk" => return drive_named(name, what, cfg!(feature = "spdk"), true),
        _ => {}
    }
    // A word alone is one of ours, or a mistake.
    if name.contains(['/', ':', '.']) {
        let device = name.parse().map_err(|error| invalid(format!("{what}: {error}")))?;
        return Ok((None, Named::Device(device)));
    }
    let files = known(name, what).map_err(|error| {
        let drives = "nvme, spdk, or a device: a path with a slash, the address of an NVMe drive, spdk:ADDRESS, memory:SIZE";
        match error.kind() {
            io::ErrorKind::InvalidInput => invalid(format!("{error}, {drives}")),
            _ => error,
        }
    })?;
    Ok((files, Named::Nothing))
}

fn drive_named(
    name: &str,
    what: &str,
    is_there: bool,
    by_spdk: bool,
) -> io::Result<(Option<&'static str>, Named)> {
    match is_there {
        true => Ok((None, Named::Drive { by_spdk })),
        false => Err(not_compiled_in(name, what, name)),
    }
}

fn not_compiled_in(name: &str, what: &str, feature: &str) -> io::Error {
    let text = format!("{what} {name:?} is not compiled in: build with `--features {feature}`");
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// The name as one of the compiled transports; `None` for `"auto"`.
fn known(name: &str, what: &str) -> io::Result<Option<&'static str>> {
    if name == "auto" {
        return Ok(None);
    }
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, meant)| meant);
    if let Some(compiled) = transports().iter().find(|&&compiled| compiled == name) {
        return Ok(Some(compiled));
    }
    if let Some((_, feature)) = FEATURES.iter().find(|(feature, _)| *feature == name) {
        return Err(not_compiled_in(name, what, feature));
    }
    let names = transports().join(", ");
    if DRIVES.contains(&name) {
        let text = format!(
            "{what} {name:?}: a drive has no sockets; `storage` takes it, and for {what} this build has auto, {names}"
        );
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    Err(invalid(format!("{what} {name:?} is unknown: this build has auto, {names}")))
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}

/// Opens the devices of a choice.
pub(crate) fn open(choice: &Choice) -> io::Result<Vec<Transport>> {
    let transport = match choice.transport {
        Some(name) => open_named(name, choice)?,
        None => open_automatically()?,
    };
    tracing::debug!(
        chosen = choice.transport.unwrap_or("auto"),
        opened = transport.device.name(),
        "transport"
    );
    let own = transport.device.name();
    let storage = match choice.files {
        Some(name) if name != own => Some(open_named(name, choice)?),
        None if own == "sim" => Some(open_named("memory", choice)?),
        None if transport.storage.is_none() => Some(open_automatically()?),
        _ => None,
    };
    let Some(storage) = storage else { return Ok(vec![transport]) };
    if storage.storage.is_none() {
        return Err(invalid(format!("storage {:?} has no files", storage.device.name())));
    }
    // Its sockets are only used for what the first has none for: Unix sockets.
    Ok(vec![transport.without_storage(), storage])
}

fn open_named(name: &str, choice: &Choice) -> io::Result<Transport> {
    let opened = match name {
        "epoll" => Epoll::new().map(Transport::both),
        "memory" => Ok(Transport::both(Memory::new(choice.seed))),
        #[cfg(feature = "sim")]
        "sim" => Ok(demikernel_net::sim::lone_transport(choice.seed).transport()),
        #[cfg(feature = "io-uring")]
        "io_uring" => open_uring(),
        #[cfg(any(feature = "tap", feature = "dpdk", feature = "xdp"))]
        "tap" | "packet" | "dpdk" | "xdp" => open_stack(name, choice),
        #[cfg(feature = "rdma")]
        "rdma" => open_rdma(choice),
        _ => unreachable!("{name} is not one of transports()"),
    };
    opened.map_err(|error| io::Error::new(error.kind(), format!("transport {name:?} cannot start: {error}")))
}

#[cfg(feature = "io-uring")]
fn open_uring() -> io::Result<Transport> {
    use demikernel_runtime::transport::uring::{Config, Uring};
    Uring::new(Config::default()).map(Transport::both)
}

/// The userspace stack on the device of this name, set up by the text that is given or the file that
/// `DEMIKERNEL_CONFIG` names.
#[cfg(any(feature = "tap", feature = "dpdk", feature = "xdp"))]
fn open_stack(name: &str, choice: &Choice) -> io::Result<Transport> {
    use demikernel_net::config::{Device, NetConfig, Sections};
    let config = choice.configuration.as_deref().map_or_else(NetConfig::from_env, str::parse);
    let mut config = config.map_err(|error| invalid(error.to_string()))?;
    // A file that says nothing of it says "tap".
    let found = config.network.device;
    if found != Device::Tap && found.name() != name {
        let text = format!("network.device: found \"{found}\", expected {name:?}, as the transport is");
        return Err(invalid(text));
    }
    config.network.device = match name {
        "packet" => Device::Packet,
        "dpdk" => Device::Dpdk,
        "xdp" => Device::Xdp,
        _ => Device::Tap,
    };
    config.validate().map_err(|error| invalid(error.to_string()))?;
    let opened = match &choice.core {
        Some((core, team)) => demikernel_net::transport::open_on(&config, &team.shared()?, *core),
        None => demikernel_net::transport::open(&config),
    };
    opened.map(|transport| transport.transport())
}

/// RDMA, set up by the text that is given or the file that `DEMIKERNEL_CONFIG` names.
#[cfg(feature = "rdma")]
fn open_rdma(choice: &Choice) -> io::Result<Transport> {
    use demikernel_rdma::transport::{RdmaConfig, RdmaTransport};
    let config = choice.configuration.as_deref().map_or_else(RdmaConfig::from_env, str::parse);
    let config = config.map_err(|error| invalid(error.to_string()))?;
    RdmaTransport::open(&config).map(RdmaTransport::transport)
}

/// io_uring where it is compiled in and the kernel allows it, else epoll.
#[cfg(feature = "io-uring")]
fn open_automatically() -> io::Result<Transport> {
    open_uring().or_else(|error| {
        tracing::warn!(%error, "io_uring is refused: using epoll, which costs more per operation");
        Epoll::new().map(Transport::both)
    })
}

/// epoll, as nothing else is compiled in.
#[cfg(not(feature = "io-uring"))]
fn open_automatically() -> io::Result<Transport> {
    Epoll::new().map(Transport::both)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Configured;

    #[test]
    fn unknown_names_are_refused_with_the_known_ones() {
        let error = Choice::new(Some("tokio"), None, 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(
            error.to_string().starts_with("transport \"tokio\" is unknown: this build has auto, "),
            "{error}"
        );
        let error = Choice::new(Some("auto"), Some("tape"), 0).unwrap_err();
        assert!(error.to_string().starts_with("storage \"tape\" is unknown"), "{error}");
    }

    #[test]
    fn drives_are_no_transports() {
        let error = Choice::new(Some("spdk"), None, 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().starts_with("transport \"spdk\": a drive has no sockets"), "{error}");
    }

    #[test]
    fn storage_is_a_name_or_a_device() {
        let choice = |storage| Choice::new(Some("epoll"), Some(storage), 0);
        let device = |text: &str| Named::Device(text.parse().unwrap());
        for (storage, files, logs) in [
            ("auto", None, Named::Nothing),
            ("epoll", Some("epoll"), Named::Nothing),
            ("memory", Some("memory"), Named::Memory),
            ("sim", Some("memory"), Named::Memory),
            ("memory:1MiB", None, device("memory:1MiB")),
            ("./orders", None, device("./orders")),
            ("orders.log", None, device("orders.log")),
            ("0000:5e:00.0/1", None, device("0000:5e:00.0/1")),
        ] {
            let choice = choice(storage).unwrap();
            assert_eq!((choice.files, choice.logs), (files, logs), "{storage}");
        }
        let error = choice("memory:lots").unwrap_err().to_string();
        assert!(
            error.starts_with("storage: \"memory:lots\" is no storage device, which is a path"),
            "{error}"
        );
        let error = choice("orders").unwrap_err().to_string();
        assert!(
            error.contains("is unknown: this build has auto,") && error.contains("a path with a slash"),
            "{error}"
        );
    }

    #[test]
    fn a_drive_that_is_not_compiled_in_or_configured_is_said_to_be() {
        for (name, is_there) in [("nvme", cfg!(feature = "nvme")), ("spdk", cfg!(feature = "spdk"))] {
            let choice = Choice::new(Some("epoll"), Some(name), 0);
            if !is_there {
                let error = choice.unwrap_err().to_string();
                assert!(error.ends_with(&format!("build with `--features {name}`")), "{error}");
                continue;
            }
            let named = choice.unwrap().logs;
            let refused = |text| Configured::new(named.clone(), Some(text)).err().unwrap().to_string();
            assert!(refused("").contains("device under [storage]"), "{}", refused(""));
            let error = refused("[storage]\ndevice = \"a.log\"\n");
            assert!(error.starts_with("storage.device: found \"a.log\", expected the address of"), "{error}");
            Configured::new(named.clone(), Some("storage.device = \"5e:00.0/1\"\n")).unwrap();
        }
    }

    #[cfg(not(feature = "io-uring"))]
    #[test]
    fn what_is_not_compiled_in_is_said_to_be() {
        let error = Choice::new(Some("io_uring"), None, 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains("--features io-uring"), "{error}");
    }

    #[cfg(not(feature = "tap"))]
    #[test]
    fn the_feature_of_a_transport_is_named() {
        let error = Choice::new(Some("packet"), None, 0).unwrap_err();
        assert!(error.to_string().contains("--features tap"), "{error}");
    }

    #[cfg(feature = "tap")]
    #[test]
    fn what_has_to_be_set_up_is_not_tried_unasked() {
        assert!(transports().contains(&"tap"));
        assert!(!ready_transports().any(|name| name == "tap" || name == "packet"));
    }

    #[test]
    fn what_is_simulated_has_its_files_in_memory() {
        for (transport, storage) in
            [("sim", None), ("sim", Some("sim")), ("memory", Some("memory")), ("epoll", Some("sim"))]
        {
            let opened = open(&Choice::new(Some(transport), storage, 1).unwrap()).unwrap();
            let files = opened.iter().find(|transport| transport.storage.is_some()).unwrap();
            assert_eq!(files.device.name(), "memory", "{transport} {storage:?}");
        }
    }

    #[test]
    fn every_name_is_opened_under_that_name() {
        // The others take what this machine is set up with, and may wait for addresses.
        for name in ready_transports() {
            match open_named(name, &Choice::new(Some(name), None, 1).unwrap()) {
                Ok(transport) => assert_eq!(transport.device.name(), name),
                // A container may forbid io_uring.
                Err(error) => assert!(error.to_string().contains("cannot start"), "{error}"),
            }
        }
    }
}
