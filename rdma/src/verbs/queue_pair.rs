//! Queue pairs: making them, joining them with a peer's, and their end. What they are given to do is in `post`.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::mem;
use std::ops::BitOr;
use std::ptr::{self, NonNull};

use super::address::Route;
use super::completion::CompletionQueue;
use super::device::Port;
use super::domain::ProtectionDomain;
use super::error::{Error, check, last};
use super::raw::*;
use super::shared_receive::{SharedReceiveQueue, release};
use super::work::Side;

/// Buffers of a send, at most, whatever the device allows.
pub(super) const SEGMENTS: usize = 16;

/// What a queue pair carries.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Kind {
    /// Messages, reads, writes and atomic operations, reliable and in order, to and from one peer (RC).
    #[default]
    Reliable,
    /// Messages of a packet, to and from anybody (UD).
    Datagrams,
}

/// What peers may do with memory.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Access(u32);

impl Access {
    /// Nothing.
    pub const NONE: Access = Access(0);
    /// Read it.
    pub const READ: Access = Access(ibv_access_flags::IBV_ACCESS_REMOTE_READ.0);
    /// Write it.
    pub const WRITE: Access = Access(ibv_access_flags::IBV_ACCESS_REMOTE_WRITE.0);
    /// Change it by atomic operations.
    pub const ATOMIC: Access = Access(ibv_access_flags::IBV_ACCESS_REMOTE_ATOMIC.0);

    /// Whether this is part of it.
    pub fn contains(self, other: Access) -> bool {
        self.0 & other.0 == other.0
    }

    pub(super) fn raw(self) -> u32 {
        self.0
    }
}

impl BitOr for Access {
    type Output = Access;

    fn bitor(self, other: Access) -> Access {
        Access(self.0 | other.0)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(Access::READ, "READ"), (Access::WRITE, "WRITE"), (Access::ATOMIC, "ATOMIC")];
        f.debug_set()
            .entries(names.iter().filter(|(flag, _)| self.contains(*flag)).map(|(_, name)| name))
            .finish()
    }
}

/// What a queue pair is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueuePairConfig {
    /// What it carries.
    pub kind: Kind,
    /// What its completions say whose they are.
    pub tag: u64,
    /// Sends that are under way at once.
    pub send_depth: u32,
    /// Receives that are posted at once, if it does not take them from a shared queue.
    pub receive_depth: u32,
    /// Buffers that a send is gathered from.
    pub segments: u32,
    /// Bytes that the device takes along when a send is posted, if it can take as many. Otherwise fewer.
    pub inline: u32,
    /// What the peer may do with memory that was exported with as much.
    pub access: Access,
}

impl Default for QueuePairConfig {
    fn default() -> QueuePairConfig {
        QueuePairConfig {
            kind: Kind::Reliable,
            tag: 0,
            send_depth: 64,
            receive_depth: 64,
            segments: 4,
            inline: 128,
            access: Access::NONE,
        }
    }
}

/// A queue pair.
///
/// When it is dropped, what is under way is given up: the device is made to let go of it, the buffers are released, and no
/// completion of it is reported any more. To have them back, or to know what the peer has got, [`fail`](QueuePair::fail)
/// it first and wait for their completions.
pub struct QueuePair {
    pub(super) pair: NonNull<ibv_qp>,
    /// Its place among what is under way.
    pub(super) slot: u32,
    pub(super) kind: Kind,
    pub(super) send_depth: u32,
    pub(super) receive_depth: u32,
    pub(super) segments: usize,
    pub(super) inline: usize,
    /// Sends since the last that is signalled.
    pub(super) unsignalled: Cell<u32>,
    /// Whether it has left the state that it was made in.
    is_initialized: Cell<bool>,
    /// Whether it can send.
    is_ready: Cell<bool>,
    access: Cell<Access>,
    number: u32,
    pub(super) domain: ProtectionDomain,
    send_completions: CompletionQueue,
    receive_completions: CompletionQueue,
    pub(super) shared: Option<SharedReceiveQueue>,
}

impl QueuePair {
    /// A queue pair whose sends and receives complete there, with receives of its own or of a shared queue.
    ///
    /// # Errors
    /// If the device cannot have it, or more is asked for than [it allows](super::Limits).
    ///
    /// # Panics
    /// If the queues are of another device, or the shared one of another domain.
    pub fn new(
        domain: &ProtectionDomain,
        sends: &CompletionQueue,
        receives: &CompletionQueue,
        shared: Option<&SharedReceiveQueue>,
        config: &QueuePairConfig,
    ) -> io::Result<QueuePair> {
        let device = domain.device();
        assert!(sends.device().is(device) && receives.device().is(device), "a queue of another device");
        assert!(shared.is_none_or(|queue| queue.domain().is(domain)), "a queue of another domain");
        let limits = device.limits();
        device.limit("sends in a queue", limits.work_requests, config.send_depth)?;
        device.limit("buffers of a send", limits.segments.min(SEGMENTS as u32), config.segments)?;
        let receive_depth = if shared.is_some() { 0 } else { config.receive_depth.max(1) };
        device.limit("receives in a queue", limits.work_requests, receive_depth)?;
        let mut expected = Expected { sends, receives, shared, counts: (0, 0), attached: false };
        expected.add(config.send_depth.max(1), receive_depth)?;
        let (pair, capabilities) = create(domain, sends, receives, shared, config)?;
        // SAFETY: it has just been made.
        let number = unsafe { pair.as_ref() }.qp_num;
        let datagrams = config.kind == Kind::Datagrams;
        let slot = device.work().borrow_mut().add_queue(config.tag, Some(number), datagrams);
        // From now on it is the queue pair that takes them back.
        mem::forget(expected);
        Ok(QueuePair {
            pair,
            slot,
            kind: config.kind,
            send_depth: config.send_depth.max(1),
            receive_depth,
            segments: config.segments.max(1) as usize,
            inline: capabilities.max_inline_data as usize,
            unsignalled: Cell::new(0),
            is_initialized: Cell::new(false),
            is_ready: Cell::new(false),
            access: Cell::new(config.access),
            number,
            domain: domain.clone(),
            send_completions: sends.clone(),
            receive_completions: receives.clone(),
            shared: shared.cloned(),
        })
    }

    /// Joins it with one queue pair of a peer, which does the same, without the connection manager.
    ///
    /// # Errors
    /// If the device does not like the route, or the queue pair is one of datagrams or joined already.
    pub fn join(&self, port: &Port, route: &Route, number: u32) -> io::Result<()> {
        self.join_at(port, route, number, 0, 0)
    }

    /// The same where packets are numbered from `first`, of 24 bits, and the peer's from `its_first`: a packet of a
    /// connection that was there before is none of this one, then.
    ///
    /// # Errors
    /// As [`join`](QueuePair::join).
    pub fn join_at(
        &self,
        port: &Port,
        route: &Route,
        number: u32,
        first: u32,
        its_first: u32,
    ) -> io::Result<()> {
        use ibv_qp_attr_mask as mask;
        if self.kind != Kind::Reliable {
            return Err(Error::Invalid { what: "datagrams are of no connection" }.into());
        }
        self.initialize(port.number(), 0)?;
        let reads = self.domain.device().limits();
        let mut attributes = ibv_qp_attr {
            qp_state: ibv_qp_state::IBV_QPS_RTR,
            path_mtu: port.raw_mtu(),
            dest_qp_num: number,
            rq_psn: its_first & 0xff_ffff,
            ah_attr: route.attributes(),
            max_dest_rd_atomic: reads.answered_reads.min(16),
            // 0.64 ms.
            min_rnr_timer: 12,
            ..Default::default()
        };
        let ready = mask::IBV_QP_STATE
            | mask::IBV_QP_AV
            | mask::IBV_QP_PATH_MTU
            | mask::IBV_QP_DEST_QPN
            | mask::IBV_QP_RQ_PSN
            | mask::IBV_QP_MAX_DEST_RD_ATOMIC
            | mask::IBV_QP_MIN_RNR_TIMER;
        self.modify(&mut attributes, ready)?;
        attributes.qp_state = ibv_qp_state::IBV_QPS_RTS;
        // 67 ms, six times (seven are without end on rxe); when the peer has no receive posted, without end.
        (attributes.timeout, attributes.retry_cnt, attributes.rnr_retry) = (14, 6, 7);
        attributes.max_rd_atomic = reads.own_reads.min(16);
        attributes.sq_psn = first & 0xff_ffff;
        let send = mask::IBV_QP_STATE
            | mask::IBV_QP_TIMEOUT
            | mask::IBV_QP_RETRY_CNT
            | mask::IBV_QP_RNR_RETRY
            | mask::IBV_QP_SQ_PSN
            | mask::IBV_QP_MAX_QP_RD_ATOMIC;
        self.modify(&mut attributes, send)
    }

    /// Makes a queue pair for datagrams ready, without the connection manager. Peers send with this key.
    ///
    /// # Errors
    /// If the port does not exist, or the queue pair is of the other kind or ready already.
    pub fn open(&self, port: u8, key: u32) -> io::Result<()> {
        use ibv_qp_attr_mask as mask;
        if self.kind != Kind::Datagrams {
            return Err(Error::Invalid { what: "a reliable queue pair is joined with a peer's" }.into());
        }
        self.initialize(port, key)?;
        let mut attributes = ibv_qp_attr { qp_state: ibv_qp_state::IBV_QPS_RTR, ..Default::default() };
        self.modify(&mut attributes, mask::IBV_QP_STATE)?;
        attributes.qp_state = ibv_qp_state::IBV_QPS_RTS;
        self.modify(&mut attributes, mask::IBV_QP_STATE | mask::IBV_QP_SQ_PSN)
    }

    fn initialize(&self, port: u8, key: u32) -> io::Result<()> {
        use ibv_qp_attr_mask as mask;
        let mut attributes = ibv_qp_attr {
            qp_state: ibv_qp_state::IBV_QPS_INIT,
            port_num: port,
            qkey: key,
            qp_access_flags: self.access.get().raw(),
            ..Default::default()
        };
        let last = match self.kind {
            Kind::Reliable => mask::IBV_QP_ACCESS_FLAGS,
            Kind::Datagrams => mask::IBV_QP_QKEY,
        };
        self.modify(&mut attributes, mask::IBV_QP_STATE | mask::IBV_QP_PKEY_INDEX | mask::IBV_QP_PORT | last)
    }

    /// Puts it into its error state. What is under way is given up and comes back, as
    /// [failed](super::Outcome::Failed), unless the device was done before.
    ///
    /// # Errors
    /// If the device is gone.
    pub fn fail(&self) -> io::Result<()> {
        let mut attributes = ibv_qp_attr { qp_state: ibv_qp_state::IBV_QPS_ERR, ..Default::default() };
        self.modify(&mut attributes, ibv_qp_attr_mask::IBV_QP_STATE)
    }

    pub(super) fn modify(&self, attributes: &mut ibv_qp_attr, mask: ibv_qp_attr_mask) -> io::Result<()> {
        let provider = self.domain.device().provider();
        // SAFETY: the queue pair is there.
        let failed = unsafe { (provider.modify_qp)(self.pair.as_ptr(), attributes, mask.0 as i32) };
        check("change the state of a queue pair", failed)?;
        self.is_initialized.set(true);
        if mask.0 & ibv_qp_attr_mask::IBV_QP_STATE.0 != 0 {
            self.is_ready.set(attributes.qp_state == ibv_qp_state::IBV_QPS_RTS);
        }
        Ok(())
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready.get()
    }

    pub(super) fn is_initialized(&self) -> bool {
        self.is_initialized.get()
    }

    /// Its number, unique on its device.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// What its completions say whose they are.
    pub fn tag(&self) -> u64 {
        self.domain.device().work().borrow().tag(self.slot)
    }

    /// Has completions that are taken from now on say so.
    pub fn set_tag(&self, tag: u64) {
        self.domain.device().work().borrow_mut().set_tag(self.slot, tag);
    }

    /// What it carries.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What the peer may do.
    pub fn access(&self) -> Access {
        self.access.get()
    }

    /// Lets the peer do something else with what is exported, from now on.
    ///
    /// # Errors
    /// If the device does not change it.
    pub fn set_access(&self, access: Access) -> io::Result<()> {
        if self.is_ready() {
            let mut attributes = ibv_qp_attr { qp_access_flags: access.raw(), ..Default::default() };
            self.modify(&mut attributes, ibv_qp_attr_mask::IBV_QP_ACCESS_FLAGS)?;
        }
        // Otherwise it is said when it is made ready.
        self.access.set(access);
        Ok(())
    }

    /// The domain of its memory.
    pub fn domain(&self) -> &ProtectionDomain {
        &self.domain
    }

    /// How many bytes go inline: sends and writes of no more need no registered memory, and their buffers are released as
    /// soon as they are posted.
    #[inline]
    pub fn inline_limit(&self) -> usize {
        self.inline
    }

    /// Buffers that a send is gathered from, at most.
    #[inline]
    pub fn segments(&self) -> usize {
        self.segments
    }

    /// How many sends can be posted. Those that are not signalled take their place until one is that was posted later.
    #[inline]
    pub fn room(&self) -> u32 {
        self.send_depth - self.sends()
    }

    /// How many sends are under way.
    #[inline]
    pub fn sends(&self) -> u32 {
        self.domain.device().work().borrow().count(self.slot, Side::Send)
    }

    /// How many receives of its own are under way.
    pub fn receives(&self) -> u32 {
        self.domain.device().work().borrow().count(self.slot, Side::Receive)
    }

    fn expected(&self) -> Expected<'_> {
        Expected {
            sends: &self.send_completions,
            receives: &self.receive_completions,
            shared: self.shared.as_ref(),
            counts: (self.send_depth, self.receive_depth),
            attached: self.shared.is_some(),
        }
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        let device = self.domain.device();
        // What it has received must be taken out first, as some drivers throw that away with the queue pair, and what a
        // device writes until then, afterwards.
        let _ = self.fail();
        self.send_completions.forget(self.number);
        self.receive_completions.forget(self.number);
        // SAFETY: it is there, nobody else has it, and events of it are acknowledged when they are read.
        let failed = unsafe { (device.provider().destroy_qp)(self.pair.as_ptr()) };
        if failed != 0 {
            // The device may go on with it: all that it uses is kept for ever.
            tracing::warn!(device = device.name(), errno = failed, "a queue pair stays");
            mem::forget((
                self.domain.clone(),
                self.send_completions.clone(),
                self.receive_completions.clone(),
            ));
            mem::forget(self.shared.clone());
            return;
        }
        self.send_completions.forget(self.number);
        self.receive_completions.forget(self.number);
        drop(self.expected());
        release(device, self.slot, Some(self.number));
    }
}

/// Makes it, with as much inline data as the device gives.
fn create(
    domain: &ProtectionDomain,
    sends: &CompletionQueue,
    receives: &CompletionQueue,
    shared: Option<&SharedReceiveQueue>,
    config: &QueuePairConfig,
) -> io::Result<(NonNull<ibv_qp>, ibv_qp_cap)> {
    let mut inline = config.inline;
    loop {
        let mut attributes = ibv_qp_init_attr {
            qp_context: ptr::null_mut(),
            send_cq: sends.raw(),
            recv_cq: receives.raw(),
            srq: shared.map_or(ptr::null_mut(), SharedReceiveQueue::raw),
            cap: ibv_qp_cap {
                max_send_wr: config.send_depth.max(1),
                max_recv_wr: if shared.is_some() { 0 } else { config.receive_depth.max(1) },
                max_send_sge: config.segments.max(1),
                max_recv_sge: u32::from(shared.is_none()),
                max_inline_data: inline,
            },
            qp_type: match config.kind {
                Kind::Reliable => ibv_qp_type::IBV_QPT_RC,
                Kind::Datagrams => ibv_qp_type::IBV_QPT_UD,
            },
            sq_sig_all: 0,
        };
        let provider = domain.device().provider();
        // SAFETY: the domain and the queues are there, and of one device.
        let pair = unsafe { (provider.create_qp)(domain.raw().as_ptr(), &mut attributes) };
        match NonNull::new(pair) {
            Some(pair) => return Ok((pair, attributes.cap)),
            // No call says how much a device can take along.
            None if inline > 0 => inline /= 2,
            None => return Err(last("make a queue pair")),
        }
    }
}

/// Completions that queues have room for, until this is dropped.
struct Expected<'a> {
    sends: &'a CompletionQueue,
    receives: &'a CompletionQueue,
    shared: Option<&'a SharedReceiveQueue>,
    counts: (u32, u32),
    attached: bool,
}

impl Expected<'_> {
    fn add(&mut self, sends: u32, receives: u32) -> io::Result<()> {
        self.sends.expect(sends)?;
        self.counts.0 = sends;
        self.receives.expect(receives)?;
        self.counts.1 = receives;
        if let Some(shared) = self.shared {
            shared.attach(self.receives)?;
            self.attached = true;
        }
        Ok(())
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.sends.expect_less(self.counts.0);
        self.receives.expect_less(self.counts.1);
        if let (Some(shared), true) = (self.shared, self.attached) {
            shared.detach(self.receives);
        }
    }
}

impl fmt::Debug for QueuePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuePair")
            .field("number", &self.number)
            .field("kind", &self.kind)
            .field("sends", &self.sends())
            .field("receives", &self.receives())
            .finish_non_exhaustive()
    }
}
