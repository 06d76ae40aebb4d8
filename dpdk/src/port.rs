//! Ports, and the queues that threads have of them.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::control;
use crate::eal::Eal;
use crate::error::Error;
use crate::ffi::{self, PortInfo, PortSetup};
use crate::log;
use crate::pci;
use crate::pool::{ReceivePool, Retired, TransmitPool};
use crate::queue::Queue;
use crate::reach::Reach;

/// Room that drivers leave in front of a packet (`RTE_PKTMBUF_HEADROOM`).
const HEADROOM: u16 = 128;

/// Of an Ethernet header, two VLAN tags and a check sequence.
const LINK: u16 = 14 + 8 + 4;

/// How long a thread waits for those that are to have the port's other queues.
const PATIENCE: Duration = Duration::from_secs(10);

/// Packet buffers beyond the descriptors of a queue: what a driver and a burst hold.
const SPARE: u32 = 256;

/// A port, and how it is set up. All that open the same port say the same.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PortConfig {
    /// The PCI address of a device (`0000:03:00.0`), a device in software with its arguments
    /// (`net_memif0,role=server`), or the name of a port that EAL has found.
    pub name: String,
    /// Pairs of queues. Each is opened once, and nothing moves before all are.
    pub queues: u16,
    /// Descriptors of each receive queue; devices may make more or fewer of it.
    pub receive_descriptors: u16,
    /// Descriptors of each transmit queue; devices may make more or fewer of it.
    pub transmit_descriptors: u16,
    /// The largest IP packet; `None` for what the device has.
    pub mtu: Option<u16>,
    /// The key of the hash by which the device spreads flows over queues, as long as any device wants it (52 bytes and
    /// more); `None` for the device's own.
    pub hash_key: Option<Vec<u8>>,
    /// Whether frames for others are taken, too.
    pub promiscuous: bool,
    /// Whether checksums and segmentation are left to the device where it can.
    pub offload: bool,
}

impl PortConfig {
    /// A port with one pair of queues of 512 descriptors.
    pub fn new(name: impl Into<String>) -> PortConfig {
        PortConfig {
            name: name.into(),
            queues: 1,
            receive_descriptors: 512,
            transmit_descriptors: 512,
            mtu: None,
            hash_key: None,
            promiscuous: false,
            offload: true,
        }
    }

    /// The PCI address, if it is one.
    pub fn pci_address(&self) -> Option<&str> {
        let device = self.name.split(',').next()?;
        let function = device.rsplit_once('.')?.1;
        let parts: Vec<&str> = device.split([':', '.']).collect();
        let hexadecimal = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let address = device.contains(':')
            && (3..=4).contains(&parts.len())
            && parts.iter().all(hexadecimal)
            && function.len() == 1;
        address.then_some(device)
    }

    /// What the port is called once it is there.
    fn port_name(&self) -> &str {
        self.name.split(',').next().unwrap_or_default()
    }
}

/// What a port does, and is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Can {
    /// Fill in checksums of IPv4 headers.
    pub ip_checksum: bool,
    /// Fill in checksums of TCP and UDP.
    pub l4_checksum: bool,
    /// Cut TCP segments.
    pub segmentation: bool,
    /// Send packets that lie in several pieces of memory.
    pub segments: bool,
}

/// The state of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Link {
    /// Whether something is at the other end.
    pub up: bool,
    /// Megabits per second, as the device says.
    pub speed: u32,
}

/// A port that is open in this process.
#[derive(Debug)]
pub struct Port {
    id: u16,
    config: PortConfig,
    driver: String,
    mac: [u8; 6],
    mtu: u16,
    can: Can,
    max_segments: u16,
    /// Whether a device reads and writes the memory, and not a driver on the processor.
    direct: bool,
    socket: i32,
    buffer_size: u16,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    phase: Phase,
    /// Queues that were handed out, and how many are still in use.
    opened: Vec<bool>,
    live: u16,
    /// The queue of each hash, if it is known.
    redirection: Vec<u16>,
    /// Pools of the queues by their number, while they are gathered.
    gathered: Vec<(u16, Pools)>,
    /// What is left of queues that are no longer used.
    retired: Vec<Retired>,
    /// Of each receive and transmit queue.
    descriptors: (u16, u16),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("phase", &self.phase).field("live", &self.live).finish_non_exhaustive()
    }
}

impl State {
    /// Hands out a queue, any that is free unless one is named.
    fn take(&mut self, index: Option<u16>) -> Option<u16> {
        let is_free = |index: &usize| self.opened.get(*index) == Some(&false);
        let index = match index {
            Some(index) => Some(usize::from(index)).filter(is_free),
            None => (0..self.opened.len()).find(is_free),
        }?;
        self.opened[index] = true;
        self.live += 1;
        Some(index as u16)
    }
}

#[derive(Clone, Debug)]
enum Phase {
    /// Not all queues have been opened.
    Gathering,
    Running,
    Failed(Error),
}

/// The pools of one queue.
struct Pools {
    receive: ReceivePool,
    transmit: TransmitPool,
}

impl Pools {
    /// Makes the calling thread their owner.
    ///
    /// # Safety
    ///
    /// No other thread uses them, and all that was done to them happened before.
    unsafe fn adopt(&mut self) {
        // SAFETY: as the caller promises.
        unsafe {
            self.receive.adopt();
            self.transmit.adopt();
        }
    }
}

// SAFETY: moved between threads only while all of them wait for the port to start; the thread that starts it adopts the
// pools, and each thread adopts its own again before it goes on. Buffers in them are not touched meanwhile.
unsafe impl Send for Pools {}

/// The ports of this process that are open, by name.
static PORTS: Mutex<Option<HashMap<String, Arc<Port>>>> = Mutex::new(None);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Port {
    /// Opens the next queue of the port for this thread, and returns when all have been opened. Memory of the thread's
    /// buffers must come [from EAL](crate::Memory), which the caller sees to.
    ///
    /// # Errors
    ///
    /// If there is no such device, or it is in use, with DPDK's reason; if others have opened it with another
    /// configuration; if the other queues are not opened within ten seconds.
    pub fn open(eal: &'static Eal, config: &PortConfig) -> Result<Queue, Error> {
        Port::open_any(eal, config, None)
    }

    /// The same with the queue of this number, from 0.
    ///
    /// # Errors
    ///
    /// As [`open`](Port::open); if the queue is in use, or there is none of this number.
    pub fn open_queue(eal: &'static Eal, config: &PortConfig, index: u16) -> Result<Queue, Error> {
        Port::open_any(eal, config, Some(index))
    }

    /// How many pairs of queues the device can have.
    ///
    /// # Errors
    ///
    /// If there is no such device, or it is in use, with DPDK's reason.
    pub fn most_queues(_: &'static Eal, config: &PortConfig) -> Result<u16, Error> {
        let _ports = lock(&PORTS);
        let (info, _) = Port::info(find(config)?, config)?;
        Ok(info.max_rx_queues.min(info.max_tx_queues))
    }

    fn open_any(eal: &'static Eal, config: &PortConfig, index: Option<u16>) -> Result<Queue, Error> {
        let (port, index) = Port::join(config, index)?;
        // From here on a failure fails the port for all.
        let reach = if port.direct { Reach::of(eal) } else { Reach::everything() };
        let mut pools = None;
        match port.prepare(index, &reach, &mut pools).and_then(|()| port.gather(index, &mut pools)) {
            Ok(Pools { receive, transmit }) => Ok(Queue::new(port, index, (receive, transmit), reach)),
            Err(error) => {
                port.fail(&error);
                let retire = |pools: Pools| vec![pools.receive.retire(false), pools.transmit.retire(false)];
                port.leave(pools.map_or(Vec::new(), retire));
                Err(error)
            }
        }
    }

    /// The port, set up unless it is, and which of its queues the caller is to have.
    fn join(config: &PortConfig, index: Option<u16>) -> Result<(Arc<Port>, u16), Error> {
        let refuse =
            |reason: &str| Err(port_error(&config.name, "open", -libc::EBUSY, Some(reason.to_owned())));
        let mut ports = lock(&PORTS);
        let ports = ports.get_or_insert_default();
        if let Some(port) = ports.get(config.port_name()) {
            let mut state = lock(&port.state);
            if port.config != *config {
                return refuse("this process has it open with another configuration");
            }
            let Some(index) = state.take(index) else {
                return refuse(
                    "all its queues are in use in this process: another runtime needs a port of its own",
                );
            };
            return Ok((port.clone(), index));
        }
        if index.is_some_and(|index| index >= config.queues) {
            return refuse("it has no queue of this number");
        }
        let port = Arc::new(Port::probe(config)?);
        ports.insert(config.port_name().to_owned(), port.clone());
        let index = lock(&port.state).take(index).unwrap_or_default();
        Ok((port, index))
    }

    /// Finds the device and sets it up.
    fn probe(config: &PortConfig) -> Result<Port, Error> {
        let id = find(config)?;
        Port::set_up(id, config).inspect_err(|_| close(id, false))
    }

    /// What the device says of itself, and which offloads it has.
    fn info(id: u16, config: &PortConfig) -> Result<(PortInfo, u32), Error> {
        let (mut info, mut can) = (zeroed(), 0);
        // SAFETY: places for what is asked.
        let (result, reason) =
            log::with_reasons(|| unsafe { ffi::dk_port_info(id, &raw mut info, &raw mut can) });
        match result {
            0 => Ok((info, can)),
            _ => Err(port_error(&config.name, "ask what it can do", result, reason)),
        }
    }

    fn set_up(id: u16, config: &PortConfig) -> Result<Port, Error> {
        let fail = |what, errno, reason| port_error(&config.name, what, errno, reason);
        let (info, can) = Port::info(id, config)?;
        let driver = text(&info.driver);
        if driver == "net_af_xdp" {
            // Its user memory is a mempool's own, which packets would have to be copied out of.
            let reason =
                "this driver is not supported: take the transport \"xdp\", which needs no DPDK".to_owned();
            return Err(fail("open", -libc::ENOTSUP, Some(reason)));
        }
        let most = info.max_rx_queues.min(info.max_tx_queues);
        if config.queues > most {
            let reason = format!("it has {most} pairs of queues, and {} are asked for", config.queues);
            return Err(fail("open", -libc::EINVAL, Some(reason)));
        }
        let mtu = mtu_of(config, &info)?;
        // What this driver offers it does on the processor, with copies in mbufs of its own making.
        let offload = config.offload && driver != "net_tap";
        let offloads = if offload { can } else { can & ffi::CAN_TX_SEGMENTS };
        // Frames of this driver are of 2 KiB, whatever the MTU.
        let buffer_size = buffer_size(if driver == "net_af_packet" { mtu.max(2048) } else { mtu });
        let mut setup = PortSetup {
            queues: config.queues,
            rx_descriptors: config.receive_descriptors,
            tx_descriptors: config.transmit_descriptors,
            mtu,
            offloads,
            hash_key: config.hash_key.as_ref().map_or(std::ptr::null(), |key| key.as_ptr()),
            hash_key_length: config.hash_key.as_ref().map_or(0, |key| key.len() as u32),
            interrupts: 1,
        };
        let (result, reason) = configure(id, &mut setup);
        if result != 0 {
            return Err(fail("set it up", result, reason));
        }
        let can = can_of(setup.offloads);
        let descriptors = (setup.rx_descriptors, setup.tx_descriptors);
        tracing::debug!(port = config.name, driver, mtu, ?descriptors, ?can, "port set up");
        Ok(Port {
            id,
            direct: is_direct(&driver),
            driver,
            mac: info.mac,
            mtu,
            can,
            max_segments: info.max_segments,
            socket: info.socket,
            buffer_size,
            config: config.clone(),
            state: Mutex::new(State {
                phase: Phase::Gathering,
                opened: vec![false; config.queues.into()],
                live: 0,
                redirection: Vec::new(),
                gathered: Vec::new(),
                retired: Vec::new(),
                descriptors,
            }),
            changed: Condvar::new(),
        })
    }

    /// Memory for a queue, and the queue itself.
    fn prepare(&self, index: u16, reach: &Reach, pools: &mut Option<Pools>) -> Result<(), Error> {
        let fail = |what, errno, reason| port_error(&self.config.name, what, errno, reason);
        let memory = |reason: &'static str| fail("get memory", -libc::ENOMEM, Some(reason.to_owned()));
        // Drivers are asked for queues one at a time.
        let state = lock(&self.state);
        let (receive, transmit) = state.descriptors;
        let pools = pools.insert(Pools {
            receive: ReceivePool::new(u32::from(receive) + SPARE, self.buffer_size, self.socket, reach)
                .map_err(memory)?,
            transmit: TransmitPool::new(u32::from(transmit) + SPARE, self.socket).map_err(memory)?,
        });
        let (result, reason) = log::with_reasons(|| {
            let mempool = pools.receive.mempool();
            // SAFETY: the mempool lives until the port is closed: pools are dropped or retired after that.
            match unsafe { ffi::dk_port_rx_queue(self.id, index, receive, self.socket, mempool) } {
                0 => ffi::dk_port_tx_queue(self.id, index, transmit, self.socket),
                error => error,
            }
        });
        if result == 0 { Ok(()) } else { Err(fail("set up a queue", result, reason)) }
    }

    /// Waits for the others; the last starts the port. `pools` are lent to it meanwhile.
    fn gather(&self, index: u16, pools: &mut Option<Pools>) -> Result<Pools, Error> {
        let mut state = lock(&self.state);
        state.gathered.extend(pools.take().map(|pools| (index, pools)));
        if state.gathered.len() == usize::from(self.config.queues) && matches!(state.phase, Phase::Gathering)
        {
            state.phase = match self.start(&mut state.gathered) {
                Ok(()) => Phase::Running,
                Err(error) => Phase::Failed(error),
            };
            state.redirection = self.ask_redirection();
            self.changed.notify_all();
        }
        let end = Instant::now() + PATIENCE;
        while matches!(state.phase, Phase::Gathering) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.phase = Phase::Failed(self.incomplete(state.gathered.len()));
                self.changed.notify_all();
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        let at = state.gathered.iter().position(|(of, _)| *of == index);
        let mut own = state.gathered.swap_remove(at.expect("put there above, and nobody else takes it")).1;
        // SAFETY: the thread that started the port has been done with them since it unlocked the state.
        unsafe { own.adopt() }
        if let Phase::Failed(error) = &state.phase {
            *pools = Some(own);
            return Err(error.clone());
        }
        Ok(own)
    }

    fn incomplete(&self, opened: usize) -> Error {
        let reason = format!(
            "{opened} of its {} queues were opened within {} s: ask for as many as there are cores (queues)",
            self.config.queues,
            PATIENCE.as_secs()
        );
        port_error(&self.config.name, "start", -libc::ETIMEDOUT, Some(reason))
    }

    fn start(&self, gathered: &mut [(u16, Pools)]) -> Result<(), Error> {
        for (_, pools) in gathered {
            // SAFETY: their owners wait for the state to change, which is locked.
            unsafe { pools.adopt() }
        }
        let start = || ffi::dk_port_start(self.id, self.config.promiscuous.into());
        let (result, reason) = log::with_reasons(start);
        if result == 0 {
            return Ok(());
        }
        let (result, reason) = if self.is_client() {
            let reason = "nobody listens at its socket: start the side first that has role=server";
            (-libc::ECONNREFUSED, Some(reason.to_owned()))
        } else {
            (result, reason)
        };
        Err(port_error(&self.config.name, "start", result, reason))
    }

    fn ask_redirection(&self) -> Vec<u16> {
        let Some(key) = &self.config.hash_key else { return Vec::new() };
        let mut table = vec![0; 512];
        // SAFETY: key and table are as long as is said.
        let count = unsafe {
            let (room, length) = (table.len() as u32, key.len() as u32);
            ffi::dk_port_redirection(self.id, key.as_ptr(), length, table.as_mut_ptr(), room)
        };
        table.truncate(usize::try_from(count).unwrap_or(0));
        table
    }

    /// The queue of each hash of addresses and ports, by its lower bits, if the device hashes with the
    /// [key](PortConfig::hash_key) that was asked for; empty if it does not, or does not say.
    pub fn redirection(&self) -> Vec<u16> {
        lock(&self.state).redirection.clone()
    }

    fn fail(&self, error: &Error) {
        let mut state = lock(&self.state);
        if matches!(state.phase, Phase::Gathering) {
            state.phase = Phase::Failed(error.clone());
            self.changed.notify_all();
        }
    }

    /// A queue is no longer used. Whether it was the last: then the port is closed.
    pub(crate) fn leave(&self, retired: Vec<Retired>) -> bool {
        let mut ports = lock(&PORTS);
        let mut state = lock(&self.state);
        state.live -= 1;
        state.retired.extend(retired);
        if state.live > 0 {
            return false;
        }
        if let Some(ports) = ports.as_mut() {
            ports.remove(self.config.port_name());
        }
        // Drivers complain here of what they have undone already, and nobody could do anything about it.
        log::quietly(|| close(self.id, matches!(state.phase, Phase::Running)));
        state.retired.clear();
        true
    }

    /// Whether only one queue is in use.
    pub(crate) fn is_last(&self) -> bool {
        lock(&self.state).live == 1
    }

    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    pub(crate) fn max_segments(&self) -> usize {
        self.max_segments.max(1).into()
    }

    /// The name that it was opened with.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The driver's name, such as `net_memif`.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// Its Ethernet address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The largest IP packet, in bytes.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// What is left to the device.
    pub fn can(&self) -> Can {
        self.can
    }

    /// Pairs of queues.
    pub fn queues(&self) -> u16 {
        self.config.queues
    }

    /// The state of the link now.
    pub fn link(&self) -> Link {
        let mut link = ffi::Link::default();
        // SAFETY: a place for what is asked; devices that cannot tell leave it as down.
        unsafe { ffi::dk_port_link(self.id, &raw mut link) };
        Link { up: link.up != 0, speed: link.speed }
    }

    /// How often the link has come up or gone down.
    pub fn link_changes(&self) -> u64 {
        ffi::dk_port_link_changes(self.id).into()
    }

    /// Whether it is a client of memif, which connects once, when it starts, and never again by itself.
    fn is_client(&self) -> bool {
        let is_server = ["role=server", "role=master"].iter().any(|role| self.config.name.contains(role));
        self.driver == "net_memif" && !is_server
    }

    /// Whether it has to be started again when its link is down. What has several threads cannot be, under them.
    pub(crate) fn reconnects(&self) -> bool {
        self.is_client() && self.config.queues == 1
    }

    /// What driver and device have counted (`rte_eth_xstats`), by DPDK's names.
    pub fn counters(&self) -> Vec<(String, u64)> {
        let mut counters = [ffi::Counter { name: [0; 64], value: 0 }; 256];
        // SAFETY: as many places as is said.
        let count = unsafe { ffi::dk_port_counters(self.id, counters.as_mut_ptr(), counters.len() as i32) };
        let filled = counters.iter().take(usize::try_from(count).unwrap_or(0));
        filled.map(|counter| (text(&counter.name), counter.value)).collect()
    }
}

fn close(id: u16, is_running: bool) {
    if is_running {
        control::call(id, |id| {
            ffi::dk_port_stop(id);
            0
        });
    }
    control::call(id, |id| {
        ffi::dk_port_close(id);
        0
    });
}

/// The number of the port, which is made or found by its name.
fn find(config: &PortConfig) -> Result<u16, Error> {
    let fail = |what, errno, reason| port_error(&config.name, what, errno, reason);
    let string = |text: &str| {
        CString::new(text)
            .map_err(|_| fail("open", -libc::EINVAL, Some("its name has a zero byte in it".to_owned())))
    };
    let (name, devargs) = (string(config.port_name())?, string(&config.name)?);
    let mut id = 0;
    // SAFETY: a string, and a place for a number.
    let mut by_name = || unsafe { ffi::dk_port_by_name(name.as_ptr(), &raw mut id) };
    if by_name() == 0 {
        return Ok(id);
    }
    if config.name.starts_with("net_memif") && config.name.contains("zero-copy=yes") {
        let reason = "zero-copy=yes is not supported: the driver shares memory as it is when the ends meet, and buffers \
                      come from memory that grows";
        return Err(fail("open", -libc::ENOTSUP, Some(reason.to_owned())));
    }
    if let Some(address) = config.pci_address() {
        pci::check_driver(&config.name, address)?;
    }
    remove_stale_socket(&config.name);
    // SAFETY: a string.
    let (result, reason) = log::with_reasons(|| unsafe { ffi::dk_port_probe(devargs.as_ptr()) });
    if result != 0 {
        return Err(fail("find or start the device", result, reason));
    }
    if by_name() != 0 {
        let reason = "no driver of DPDK has taken it: bind it to vfio-pci (dpdk-devbind.py), and see the log of the \
                      target `dpdk`";
        return Err(fail("open", -libc::ENODEV, Some(reason.to_owned())));
    }
    Ok(id)
}

/// Drivers that listen on a Unix socket leave its file behind when their process is killed, and fail over it.
fn remove_stale_socket(devargs: &str) {
    let argument =
        |name: &str| devargs.split(',').find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='));
    let path = match devargs {
        _ if devargs.starts_with("net_vhost") => argument("iface"),
        _ if devargs.starts_with("net_memif") && argument("role") != Some("client") => argument("socket"),
        _ => None,
    };
    let Some(path) = path else { return };
    let is_refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    if UnixStream::connect(path).is_err_and(is_refused) {
        tracing::debug!(path, "a socket that nobody listens on is removed");
        let _ = std::fs::remove_file(path);
    }
}

/// Sets a port up, with interrupts for its queues where it can be had with them.
fn configure(id: u16, setup: &mut PortSetup) -> (i32, Option<String>) {
    setup.interrupts = 1;
    // SAFETY: all of it is filled in.
    let with_interrupts = log::quietly(|| unsafe { ffi::dk_port_configure(id, &raw mut *setup) });
    if with_interrupts.0 == 0 {
        return with_interrupts;
    }
    setup.interrupts = 0;
    // SAFETY: all of it is filled in.
    log::with_reasons(|| unsafe { ffi::dk_port_configure(id, &raw mut *setup) })
}

fn zeroed() -> PortInfo {
    // SAFETY: numbers and arrays of numbers.
    unsafe { std::mem::zeroed() }
}

/// What a buffer has room for: the smallest class of the runtime's pool in which every packet fits.
fn buffer_size(mtu: u16) -> u16 {
    let needed = u32::from(HEADROOM) + u32::from(mtu) + u32::from(LINK);
    [2 << 10, 4 << 10, 16 << 10].into_iter().find(|&size| u32::from(size) >= needed).unwrap_or(u16::MAX)
}

/// The largest packet: what is asked for, if the device takes it.
fn mtu_of(config: &PortConfig, info: &PortInfo) -> Result<u16, Error> {
    let most = info.max_mtu;
    match config.mtu {
        Some(mtu) if most > 0 && mtu > most => {
            let reason = format!("its MTU is {most} at most, and {mtu} is asked for");
            Err(port_error(&config.name, "set the MTU", -libc::EINVAL, Some(reason)))
        }
        Some(mtu) => Ok(mtu),
        None => Ok(info.mtu),
    }
}

fn can_of(offloads: u32) -> Can {
    let has = |bits| offloads & bits == bits;
    Can {
        ip_checksum: has(ffi::CAN_TX_IP_CHECKSUM),
        l4_checksum: has(ffi::CAN_TX_TCP_CHECKSUM | ffi::CAN_TX_UDP_CHECKSUM),
        segmentation: has(ffi::CAN_TX_TSO | ffi::CAN_TX_TCP_CHECKSUM),
        segments: has(ffi::CAN_TX_SEGMENTS),
    }
}

/// Other drivers than those that copy on the processor what is sent, and so take any memory.
fn is_direct(driver: &str) -> bool {
    !["net_memif", "net_tap", "net_af_packet", "net_pcap"].contains(&driver)
}

fn text(name: &[std::ffi::c_char; 64]) -> String {
    // SAFETY: the shim ends strings within their room.
    unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned()
}

/// An error with DPDK's reason, or the system's text for the errno.
pub(crate) fn port_error(port: &str, what: &'static str, result: i32, reason: Option<String>) -> Error {
    let errno = -result;
    let system = std::io::Error::from_raw_os_error(errno);
    let reason = reason.unwrap_or_else(|| system.to_string());
    Error::Port { port: port.to_owned(), what, reason, errno }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_are_told_from_other_names() {
        for address in ["0000:03:00.0", "03:00.1", "0000:af:00.0,representor=1"] {
            assert!(PortConfig::new(address).pci_address().is_some(), "{address}");
        }
        for name in ["net_memif0,role=server", "net_tap0,iface=a.0", "", "eth0", "10.0.0.2"] {
            assert_eq!(PortConfig::new(name).pci_address(), None, "{name}");
        }
    }

    #[test]
    fn a_buffer_has_room_for_a_packet() {
        assert_eq!(buffer_size(1500), 2048);
        assert_eq!(buffer_size(2000), 4096);
        assert_eq!(buffer_size(9000), 16384);
        assert_eq!(buffer_size(20000), u16::MAX);
    }
}
