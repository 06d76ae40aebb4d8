//! Ends of connections, and listeners.

use std::ffi::{CStr, c_void};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ptr::{self, NonNull};
use std::time::Duration;

use super::super::error::{Error, check};
use super::super::provider::Manager;
use super::super::queue_pair::{Kind, QueuePair};
use super::super::raw::*;
use super::EventChannel;
use super::socket_address::{of_raw, to_raw};

/// What an id connects.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum PortSpace {
    /// Reliable queue pairs (`RDMA_PS_TCP`).
    #[default]
    Reliable,
    /// Queue pairs of datagrams (`RDMA_PS_UDP`): who asks is told where to send.
    Datagrams,
}

/// One end of a connection, or a listener.
///
/// Dropped, a listener listens no more, a request is rejected, and the peer of a connection is told that it is over, as
/// [`disconnect`](ConnectionId::disconnect) tells it.
pub struct ConnectionId {
    pub(super) id: NonNull<rdma_cm_id>,
    pub(super) channel: EventChannel,
}

/// How to connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parameters<'a> {
    /// What the peer is told: up to 56 bytes when connecting, 196 when accepting; for datagrams 180 and 136.
    pub private_data: &'a [u8],
    /// Reads and atomic operations of the peer that are answered at once. The peer is told, and asks for no more.
    pub responder_resources: u8,
    /// Those of this side that are under way at once.
    pub initiator_depth: u8,
    /// How often what the peer does not acknowledge is sent again, up to 6. With 7 the kernel's `rdma_rxe` would never give
    /// up.
    pub retries: u8,
    /// How often it is sent again if the peer has no receive posted; 7 is without end.
    pub receiver_retries: u8,
    /// How long to wait for an acknowledgement: 4.096 us times two to the power of this, which the manager chooses
    /// otherwise.
    pub acknowledgement: Option<u8>,
    /// How many routers a packet of this side may pass, if not as many as the route says.
    pub hop_limit: Option<u8>,
}

impl Default for Parameters<'_> {
    fn default() -> Self {
        Parameters {
            private_data: &[],
            responder_resources: 1,
            initiator_depth: 1,
            retries: 6,
            receiver_retries: 7,
            acknowledgement: None,
            hop_limit: None,
        }
    }
}

impl ConnectionId {
    /// A new one, whose events come on the channel with a tag.
    ///
    /// # Errors
    /// If the manager has no more.
    pub fn new(channel: &EventChannel, space: PortSpace, tag: u64) -> io::Result<ConnectionId> {
        let space = match space {
            PortSpace::Reliable => RDMA_PS_TCP,
            PortSpace::Datagrams => RDMA_PS_UDP,
        };
        let mut id = ptr::null_mut();
        // SAFETY: the channel is there as long as the id, which holds it.
        let failed = unsafe {
            (channel.manager().create_id)(
                channel.raw(),
                &mut id,
                ptr::without_provenance_mut(tag as usize),
                space,
            )
        };
        check("make an id of the connection manager", failed)?;
        // SAFETY: it has just been made.
        Ok(unsafe { ConnectionId::of(id, channel) })
    }

    /// # Safety
    /// The id is of this channel, and given away.
    pub(super) unsafe fn of(id: *mut rdma_cm_id, channel: &EventChannel) -> ConnectionId {
        let id = NonNull::new(id).expect("the manager has made it");
        ConnectionId { id, channel: channel.clone() }
    }

    /// Has it listen or connect from an address. The port is chosen if it is 0.
    ///
    /// # Errors
    /// `AddrInUse`, or `AddrNotAvailable` if no RDMA device of this machine has the address.
    pub fn bind(&self, address: SocketAddr) -> io::Result<()> {
        let mut raw = to_raw(address);
        // SAFETY: id and address are there during the call.
        let failed = unsafe { (self.channel.manager().bind_addr)(self.raw(), (&raw mut raw).cast()) };
        // So the manager says that no device has it.
        if failed == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ENODEV) {
            return Err(Error::call("bind an address", libc::EADDRNOTAVAIL).into());
        }
        check("bind an address", failed)
    }

    /// Listens, with as many requests at most that have not been answered.
    ///
    /// # Errors
    /// If it is not bound, or others listen there.
    pub fn listen(&self, backlog: u32) -> io::Result<()> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        // SAFETY: the id is there.
        check("listen", unsafe { (self.channel.manager().listen)(self.raw(), backlog) })
    }

    /// Looks for the device that leads to an address. What comes of it is an event.
    ///
    /// # Errors
    /// If it is known at once that there is none.
    pub fn resolve_address(
        &self,
        from: Option<SocketAddr>,
        to: SocketAddr,
        limit: Duration,
    ) -> io::Result<()> {
        let mut from = from.map(to_raw);
        let from = from.as_mut().map_or(ptr::null_mut(), |from| (&raw mut *from).cast());
        let mut to = to_raw(to);
        let to = (&raw mut to).cast();
        // SAFETY: id and addresses are there during the call.
        let failed = unsafe { (self.channel.manager().resolve_addr)(self.raw(), from, to, millis(limit)) };
        check("resolve an address", failed)
    }

    /// Looks for the way to the address that has been resolved. What comes of it is an event.
    ///
    /// # Errors
    /// If none has been.
    pub fn resolve_route(&self, limit: Duration) -> io::Result<()> {
        // SAFETY: the id is there.
        let failed = unsafe { (self.channel.manager().resolve_route)(self.raw(), millis(limit)) };
        check("resolve a route", failed)
    }

    /// The name of the device, once the address is bound or resolved: that is where its queue pair is to be.
    pub fn device_name(&self) -> Option<String> {
        // SAFETY: the id is there, and if it has a context that has a device whose name ends with zero.
        unsafe {
            let context = self.id.as_ref().verbs.as_ref()?;
            Some(CStr::from_ptr((*context.device).name.as_ptr()).to_string_lossy().into_owned())
        }
    }

    /// The number of the device's port, once the address is bound or resolved.
    pub fn port(&self) -> u8 {
        // SAFETY: the id is there.
        unsafe { self.id.as_ref() }.port
    }

    /// Makes a queue pair ready for receives of its own to be posted, before it is connected or accepted with. A shared
    /// queue needs no such thing.
    ///
    /// # Errors
    /// As [`connect`](ConnectionId::connect).
    pub fn prepare(&self, pair: &QueuePair) -> io::Result<()> {
        // SAFETY: the id is there.
        let datagrams = unsafe { self.id.as_ref() }.port_space == RDMA_PS_UDP;
        if datagrams != (pair.kind() == Kind::Datagrams) {
            return Err(
                Error::Invalid { what: "the queue pair is not of the kind that the id connects" }.into()
            );
        }
        if self.device_name().as_deref() != Some(pair.domain().device().name()) {
            return Err(Error::Invalid {
                what: "the queue pair is not on the device that leads to the peer",
            }
            .into());
        }
        if pair.is_initialized() {
            return Ok(());
        }
        self.change(pair, ibv_qp_state::IBV_QPS_INIT, &Parameters::default())
    }

    /// Asks the peer for a connection with a queue pair, along the route that has been resolved. The answer is an event.
    ///
    /// # Errors
    /// If there is no route, or the queue pair is on another device, of the other kind, or joined already.
    pub fn connect(&self, pair: &QueuePair, parameters: &Parameters<'_>) -> io::Result<()> {
        self.ready_for(pair, parameters, false)?;
        let mut raw = raw_parameters(pair, parameters)?;
        // SAFETY: id and parameters are there during the call.
        check("connect", unsafe { (self.channel.manager().connect)(self.raw(), &mut raw) })
    }

    /// After the peer has [responded](super::EventKind::Response): makes the queue pair ready, and tells the peer so.
    ///
    /// # Errors
    /// If the peer has not responded, or the device does not like what it has said.
    pub fn establish(&self, pair: &QueuePair, parameters: &Parameters<'_>) -> io::Result<()> {
        self.make_ready(pair, parameters)?;
        // SAFETY: the id is there.
        check("establish a connection", unsafe { (self.channel.manager().establish)(self.raw()) })
    }

    /// Accepts a request with a queue pair, which is ready to receive when this returns. That the connection is there is an
    /// event, which what the peer sends may come before.
    ///
    /// # Errors
    /// As [`connect`](ConnectionId::connect).
    pub fn accept(&self, pair: &QueuePair, parameters: &Parameters<'_>) -> io::Result<()> {
        self.ready_for(pair, parameters, true)?;
        let mut raw = raw_parameters(pair, parameters)?;
        // SAFETY: id and parameters are there during the call.
        check("accept a connection", unsafe { (self.channel.manager().accept)(self.raw(), &mut raw) })
    }

    /// Refuses a request, with up to 148 bytes.
    ///
    /// # Errors
    /// If it is none, or answered already.
    pub fn reject(&self, private_data: &[u8]) -> io::Result<()> {
        let len = data_len(private_data)?;
        // SAFETY: id and data are there during the call.
        let failed = unsafe {
            (self.channel.manager().reject)(self.raw(), private_data.as_ptr().cast::<c_void>(), len)
        };
        check("reject a connection", failed)
    }

    /// Ends the connection. The queue pair is to be [failed](QueuePair::fail) or dropped, on the other side after its
    /// [event](super::EventKind::Disconnected).
    ///
    /// # Errors
    /// If there is none.
    pub fn disconnect(&self) -> io::Result<()> {
        // SAFETY: the id is there.
        check("disconnect", unsafe { (self.channel.manager().disconnect)(self.raw()) })
    }

    /// Tells the manager that a message has come on the queue pair
    /// ([`DeviceEvent::Established`](super::super::DeviceEvent::Established)), so that the connection is there even if the
    /// peer's word for it was lost.
    ///
    /// # Errors
    /// If it is there already.
    pub fn notify_established(&self) -> io::Result<()> {
        // SAFETY: the id is there.
        let failed = unsafe { (self.channel.manager().notify)(self.raw(), IBV_EVENT_COMM_EST) };
        check("notify the connection manager", failed)
    }

    /// The address of this side.
    pub fn local_address(&self) -> Option<SocketAddr> {
        // SAFETY: the id is there.
        of_raw(&unsafe { self.id.as_ref() }.source)
    }

    /// The address of the other side.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        // SAFETY: the id is there.
        of_raw(&unsafe { self.id.as_ref() }.destination)
    }

    /// What its events say whose they are.
    pub fn tag(&self) -> u64 {
        // SAFETY: the id is there.
        unsafe { self.id.as_ref() }.context as u64
    }

    /// Has events that are read from now on say so.
    pub fn set_tag(&self, tag: u64) {
        // SAFETY: the id is there, the field is the user's, and no reference to it is.
        unsafe { (*self.raw()).context = ptr::without_provenance_mut(tag as usize) };
    }

    pub(super) fn manager(&self) -> &'static Manager {
        self.channel.manager()
    }

    pub(super) fn raw(&self) -> *mut rdma_cm_id {
        self.id.as_ptr()
    }

    /// Puts a queue pair into the state in which the manager is told of it.
    fn ready_for(&self, pair: &QueuePair, parameters: &Parameters<'_>, is_answer: bool) -> io::Result<()> {
        use ibv_qp_attr_mask as mask;
        self.prepare(pair)?;
        if pair.kind() == Kind::Reliable {
            return if is_answer { self.make_ready(pair, parameters) } else { Ok(()) };
        }
        if pair.is_ready() {
            // One of datagrams is everybody's.
            return Ok(());
        }
        let mut attributes = ibv_qp_attr { qp_state: ibv_qp_state::IBV_QPS_RTR, ..Default::default() };
        pair.modify(&mut attributes, mask::IBV_QP_STATE)?;
        attributes.qp_state = ibv_qp_state::IBV_QPS_RTS;
        pair.modify(&mut attributes, mask::IBV_QP_STATE | mask::IBV_QP_SQ_PSN)
    }

    fn make_ready(&self, pair: &QueuePair, parameters: &Parameters<'_>) -> io::Result<()> {
        self.change(pair, ibv_qp_state::IBV_QPS_RTR, parameters)?;
        self.change(pair, ibv_qp_state::IBV_QPS_RTS, parameters)
    }

    /// Puts a queue pair into a state, as the manager knows it.
    fn change(
        &self,
        pair: &QueuePair,
        state: ibv_qp_state::Type,
        parameters: &Parameters<'_>,
    ) -> io::Result<()> {
        let mut attributes = ibv_qp_attr { qp_state: state, ..Default::default() };
        let mut mask = 0;
        // SAFETY: the id is there, and the function fills in what it is given.
        let failed = unsafe { (self.channel.manager().init_qp_attr)(self.raw(), &mut attributes, &mut mask) };
        check("ask for the attributes of a connection", failed)?;
        let mask = ibv_qp_attr_mask(mask as u32);
        // The manager would allow everything that it has been told a depth for.
        attributes.qp_access_flags = pair.access().raw();
        if let Some(exponent) = parameters.acknowledgement {
            attributes.timeout = exponent;
        }
        if let Some(hops) = parameters.hop_limit {
            attributes.ah_attr.grh.hop_limit = hops;
        }
        pair.modify(&mut attributes, mask)
    }
}

impl Drop for ConnectionId {
    fn drop(&mut self) {
        // SAFETY: nobody else has it, and its events are acknowledged when they are read.
        unsafe { (self.channel.manager().destroy_id)(self.raw()) };
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionId")
            .field("tag", &self.tag())
            .field("local", &self.local_address())
            .field("peer", &self.peer_address())
            .finish()
    }
}

fn raw_parameters(pair: &QueuePair, parameters: &Parameters<'_>) -> io::Result<rdma_conn_param> {
    Ok(rdma_conn_param {
        private_data: parameters.private_data.as_ptr().cast(),
        private_data_len: data_len(parameters.private_data)?,
        responder_resources: parameters.responder_resources,
        initiator_depth: parameters.initiator_depth,
        flow_control: 1,
        retry_count: parameters.retries,
        rnr_retry_count: parameters.receiver_retries,
        srq: pair.shared.is_some().into(),
        qp_num: pair.number(),
    })
}

fn data_len(data: &[u8]) -> io::Result<u8> {
    let what = "private data is of 255 bytes at most";
    u8::try_from(data.len()).map_err(|_| Error::Invalid { what }.into())
}

fn millis(limit: Duration) -> i32 {
    i32::try_from(limit.as_millis()).unwrap_or(i32::MAX)
}
