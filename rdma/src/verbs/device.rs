//! Devices: which there are, their limits, ports and addresses.

use std::cell::RefCell;
use std::ffi::CStr;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Once;

use super::error::{Error, check, last};
use super::events;
use super::provider::{Provider, SYSTEM};
use super::raw::*;
use super::work::WorkTable;

/// The names of the devices of this machine.
///
/// # Errors
/// If the system has no RDMA at all, or does not let this process see it.
pub fn devices() -> io::Result<Vec<String>> {
    let list = DeviceList::new()?;
    Ok(list.iter().map(DeviceList::name).collect())
}

/// An open device. A clone is the same.
///
/// Each thread opens its own, and all that belongs to it stays on the thread: so nothing is locked that another core
/// uses.
///
/// ```
/// use demikernel_rdma::verbs::double;
///
/// let device = double::device()?; // or Device::open("mlx5_0"), Device::open_by_address(...)
/// let port = device.active_port(1)?;
/// println!("{}: {}, messages of {} bytes", device.name(), port.state(), port.message());
/// assert!(port.is_active() && !device.gids()?.is_empty());
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct Device(Rc<Inner>);

struct Inner {
    context: NonNull<ibv_context>,
    provider: &'static Provider,
    name: String,
    limits: Limits,
    /// What is under way on all queues of the device.
    work: RefCell<WorkTable>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: open until now, and what belongs to it is gone: all of it holds this.
        unsafe { (self.provider.close_device)(self.context.as_ptr()) };
    }
}

impl Device {
    /// Opens the device of this name, which is `rxe0` or `mlx5_0` or the like.
    ///
    /// # Errors
    /// If there is none, or it does not open.
    pub fn open(name: &str) -> io::Result<Device> {
        let list = DeviceList::new()?;
        match list.iter().find(|device| DeviceList::name(*device) == name) {
            Some(device) => Device::of_list(device),
            None => Err(list.without(format!("is called {name:?}"))),
        }
    }

    /// Opens the device that has this IP address.
    ///
    /// # Errors
    /// If there is none, or it does not open. Then the address is of another interface, or of none.
    pub fn open_by_address(address: IpAddr) -> io::Result<Device> {
        let list = DeviceList::new()?;
        for device in list.iter() {
            let device = Device::of_list(device)?;
            if device.gids()?.iter().any(|gid| gid.address() == Some(address)) {
                return Ok(device);
            }
        }
        Err(list.without(format!("has the address {address}")))
    }

    fn of_list(device: *mut ibv_device) -> io::Result<Device> {
        let name = DeviceList::name(device);
        // SAFETY: the caller has the list that it is in.
        let context = NonNull::new(unsafe { ibv_open_device(device) });
        let context = context.ok_or_else(|| last("open an RDMA device"))?;
        // SAFETY: it has just been opened, and is nobody else's.
        unsafe { Device::new(context, &SYSTEM, name) }
    }

    /// # Safety
    /// The context is the provider's, open, and given away.
    pub(super) unsafe fn new(
        context: NonNull<ibv_context>,
        provider: &'static Provider,
        name: String,
    ) -> io::Result<Device> {
        let work = RefCell::new(WorkTable::new());
        // From now on it is closed in any case.
        let mut inner = Inner { context, provider, name, limits: Limits::default(), work };
        let mut attributes = ibv_device_attr::default();
        // SAFETY: the context is open, and the function fills in what it is given.
        let failed = unsafe { (provider.query_device)(context.as_ptr(), &mut attributes) };
        check("query an RDMA device", failed)?;
        inner.limits = Limits::of(&attributes);
        // SAFETY: the context is open.
        events::unblock(unsafe { context.as_ref() }.async_fd)?;
        Ok(Device(Rc::new(inner)))
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What it has, and allows.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// A port, of which the first has the number 1.
    ///
    /// # Errors
    /// If there is none of this number, or the device has gone.
    pub fn port(&self, number: u8) -> io::Result<Port> {
        let mut attributes = ibv_port_attr::default();
        // SAFETY: the context is open. The function takes the structure under the name it had when it was shorter, and
        // fills in its beginning.
        let failed =
            unsafe { (self.provider().query_port)(self.context(), number, (&raw mut attributes).cast()) };
        check("query a port", failed)?;
        Ok(Port { number, attributes })
    }

    /// A port that is up.
    ///
    /// # Errors
    /// [`Error::PortDown`] if it is not, else as [`port`](Device::port).
    pub fn active_port(&self, number: u8) -> io::Result<Port> {
        let port = self.port(number)?;
        if !port.is_active() {
            return Err(
                Error::PortDown { device: self.name().into(), port: number, state: port.state() }.into()
            );
        }
        Ok(port)
    }

    /// The addresses of all its ports.
    ///
    /// # Errors
    /// If the device has gone.
    pub fn gids(&self) -> io::Result<Vec<Gid>> {
        let mut count = 0;
        for number in 1..=self.limits().ports {
            count += self.port(number)?.attributes.gid_tbl_len.max(0) as usize;
        }
        let mut entries = vec![ibv_gid_entry::default(); count];
        // SAFETY: the context is open, and there is room for as many entries of this size.
        let found = unsafe {
            (self.provider().query_gid_table)(
                self.context(),
                entries.as_mut_ptr(),
                count,
                0,
                size_of::<ibv_gid_entry>(),
            )
        };
        let found = usize::try_from(found)
            .map_err(|_| Error::call("read the table of addresses", found.unsigned_abs() as i32))?;
        entries.truncate(found);
        Ok(entries.iter().map(Gid::of).collect())
    }

    /// The address at an index of a port's table, which is to be of a type.
    ///
    /// # Errors
    /// [`Error::Gid`] if it is of another, or there is none.
    pub fn gid(&self, port: u8, index: u32, wanted: GidType) -> io::Result<Gid> {
        let gids = self.gids()?;
        let gid = gids.into_iter().find(|gid| gid.port == port && gid.index == index);
        match gid {
            Some(gid) if gid.gid_type == wanted => Ok(gid),
            other => {
                let found = other.map_or("none".to_owned(), |gid| gid.to_string());
                Err(Error::Gid { device: self.name().into(), port, index, found, wanted: wanted.name() }
                    .into())
            }
        }
    }

    pub(super) fn context(&self) -> *mut ibv_context {
        self.0.context.as_ptr()
    }

    /// The functions of the driver that move data.
    #[inline]
    pub(super) fn operations(&self) -> &ibv_context_ops {
        // SAFETY: open as long as this is, and not written after it was opened.
        unsafe { &(*self.0.context.as_ptr()).ops }
    }

    #[inline]
    pub(super) fn provider(&self) -> &'static Provider {
        self.0.provider
    }

    #[inline]
    pub(super) fn work(&self) -> &RefCell<WorkTable> {
        &self.0.work
    }

    pub(super) fn is(&self, other: &Device) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// An error if more is wanted than there is.
    pub(super) fn limit(&self, what: &'static str, limit: u32, wanted: u32) -> io::Result<()> {
        if wanted <= limit {
            return Ok(());
        }
        let (device, limit, wanted) = (self.name().to_owned(), limit.into(), wanted.into());
        Err(Error::Limit { device, what, limit, wanted }.into())
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Device").field(&self.0.name).finish()
    }
}

/// What a device has and allows, at most.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Queue pairs.
    pub queue_pairs: u32,
    /// Work requests under way in a queue.
    pub work_requests: u32,
    /// Buffers that a send or receive is gathered from or scattered to.
    pub segments: u32,
    /// Completions in a queue.
    pub completions: u32,
    /// Shared receive queues.
    pub shared_receive_queues: u32,
    /// Receives in one.
    pub shared_receives: u32,
    /// Buffers of one of these.
    pub shared_receive_segments: u32,
    /// Reads and atomic operations of peers that a queue pair answers at once.
    pub answered_reads: u8,
    /// Those of its own that are under way at once.
    pub own_reads: u8,
    /// Bytes of a region of memory.
    pub region: u64,
    /// Whether there are atomic operations.
    pub atomics: bool,
    /// Ports.
    pub ports: u8,
}

impl Limits {
    fn of(attributes: &ibv_device_attr) -> Limits {
        // They are signed there, and mean nothing below zero.
        let count = |limit: i32| u32::try_from(limit).unwrap_or(0);
        let depth = |limit: i32| u8::try_from(limit.max(0)).unwrap_or(u8::MAX);
        Limits {
            queue_pairs: count(attributes.max_qp),
            work_requests: count(attributes.max_qp_wr),
            segments: count(attributes.max_sge),
            completions: count(attributes.max_cqe),
            shared_receive_queues: count(attributes.max_srq),
            shared_receives: count(attributes.max_srq_wr),
            shared_receive_segments: count(attributes.max_srq_sge),
            answered_reads: depth(attributes.max_qp_rd_atom),
            own_reads: depth(attributes.max_qp_init_rd_atom),
            region: attributes.max_mr_size,
            atomics: attributes.atomic_cap != IBV_ATOMIC_NONE,
            ports: attributes.phys_port_cnt,
        }
    }
}

/// A port, as it was when it was asked for.
#[derive(Clone, Copy)]
pub struct Port {
    number: u8,
    attributes: ibv_port_attr,
}

impl Port {
    /// Its number on the device.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Whether packets pass.
    pub fn is_active(&self) -> bool {
        self.attributes.state == ibv_port_state::IBV_PORT_ACTIVE
    }

    /// The name of its state.
    pub fn state(&self) -> &'static str {
        match self.attributes.state {
            ibv_port_state::IBV_PORT_DOWN => "DOWN",
            ibv_port_state::IBV_PORT_INIT => "INIT",
            ibv_port_state::IBV_PORT_ARMED => "ARMED",
            ibv_port_state::IBV_PORT_ACTIVE => "ACTIVE",
            ibv_port_state::IBV_PORT_ACTIVE_DEFER => "ACTIVE_DEFER",
            _ => "in an unknown state",
        }
    }

    /// Bytes of a packet's payload.
    pub fn mtu(&self) -> usize {
        // The enumeration counts the powers of two from 256.
        256 << (self.attributes.active_mtu.clamp(1, 5) - 1)
    }

    /// Bytes of the longest message.
    pub fn message(&self) -> u32 {
        self.attributes.max_msg_sz
    }

    /// The local identifier, of an InfiniBand port.
    pub fn lid(&self) -> u16 {
        self.attributes.lid
    }

    /// Whether it is an Ethernet port, and so speaks RoCE.
    pub fn is_ethernet(&self) -> bool {
        u32::from(self.attributes.link_layer) == IBV_LINK_LAYER_ETHERNET
    }

    pub(super) fn raw_mtu(&self) -> ibv_mtu {
        self.attributes.active_mtu
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("number", &self.number)
            .field("state", &self.state())
            .field("mtu", &self.mtu())
            .field("lid", &self.lid())
            .field("ethernet", &self.is_ethernet())
            .finish()
    }
}

/// How an address is carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum GidType {
    /// By InfiniBand.
    InfiniBand,
    /// In an Ethernet frame, not routable.
    RoceV1,
    /// In UDP.
    RoceV2,
}

impl GidType {
    fn name(self) -> &'static str {
        match self {
            GidType::InfiniBand => "an InfiniBand address",
            GidType::RoceV1 => "an address of RoCE v1",
            GidType::RoceV2 => "an address of RoCE v2",
        }
    }
}

/// An address of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gid {
    /// The port's number.
    pub port: u8,
    /// Where it is in the port's table.
    pub index: u32,
    /// How it is carried.
    pub gid_type: GidType,
    /// Its 16 bytes: an IPv6 address, or an IPv4 address mapped to one.
    pub raw: [u8; 16],
}

impl Gid {
    fn of(entry: &ibv_gid_entry) -> Gid {
        let gid_type = match entry.gid_type {
            IBV_GID_TYPE_ROCE_V2 => GidType::RoceV2,
            IBV_GID_TYPE_ROCE_V1 => GidType::RoceV1,
            _ => GidType::InfiniBand,
        };
        // SAFETY: any bytes are one.
        let raw = unsafe { entry.gid.raw };
        Gid { port: entry.port_num as u8, index: entry.gid_index, gid_type, raw }
    }

    /// The IP address, of a port that speaks RoCE v2.
    pub fn address(&self) -> Option<IpAddr> {
        (self.gid_type == GidType::RoceV2).then(|| IpAddr::from(self.raw).to_canonical())
    }
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.gid_type.name(), IpAddr::from(self.raw).to_canonical())
    }
}

/// The list of devices that the library gives.
struct DeviceList {
    first: NonNull<*mut ibv_device>,
    count: usize,
}

impl DeviceList {
    fn new() -> io::Result<DeviceList> {
        static FORK: Once = Once::new();
        // Before a kernel copies locked pages when a process forks, the library must keep them from the child:
        // otherwise it is this process that gets a copy, while devices go on with the original.
        // SAFETY: it only sets the library up, and comes before all else.
        FORK.call_once(|| unsafe {
            ibv_fork_init();
        });
        let mut count = 0;
        // SAFETY: it is given where to put a number.
        let first = unsafe { ibv_get_device_list(&mut count) };
        match NonNull::new(first) {
            Some(first) => Ok(DeviceList { first, count: count.max(0) as usize }),
            // A kernel without.
            None if matches!(io::Error::last_os_error().raw_os_error(), Some(libc::ENOSYS)) => {
                let found = "is no RDMA in this kernel (modprobe ib_uverbs)".to_owned();
                Err(Error::NoDevice { wanted: "can be had".to_owned(), found }.into())
            }
            None => Err(last("list RDMA devices")),
        }
    }

    fn iter(&self) -> impl Iterator<Item = *mut ibv_device> {
        // SAFETY: the list has as many, and is freed with this.
        (0..self.count).map(|index| unsafe { *self.first.as_ptr().add(index) })
    }

    fn name(device: *mut ibv_device) -> String {
        // SAFETY: a device of a list that is there, which has a name that ends with zero.
        let name = unsafe { CStr::from_ptr(ibv_get_device_name(device)) };
        name.to_string_lossy().into_owned()
    }

    /// The error if none is what was wanted.
    fn without(&self, wanted: String) -> io::Error {
        let names: Vec<_> = self.iter().map(DeviceList::name).collect();
        let found = match (names.is_empty(), known_to_the_kernel()) {
            (false, _) => format!("are {}", names.join(", ")),
            (true, known) if known.is_empty() => "is none".to_owned(),
            (true, known) => {
                format!("are {} without a driver (apt-get install ibverbs-providers)", known.join(", "))
            }
        };
        Error::NoDevice { wanted, found }.into()
    }
}

/// The names of devices that the kernel has, whether this process has a driver for them or not.
fn known_to_the_kernel() -> Vec<String> {
    let devices = std::fs::read_dir("/sys/class/infiniband").into_iter().flatten().flatten();
    devices.map(|device| device.file_name().to_string_lossy().into_owned()).collect()
}

impl Drop for DeviceList {
    fn drop(&mut self) {
        // SAFETY: it is the library's, and of what was in it only open devices are used from now on.
        unsafe { ibv_free_device_list(self.first.as_ptr()) };
    }
}
