//! RDMA as a transport of the runtime: its `Device` and `Network` over the [protocol](crate::link) and
//! [verbs](crate::verbs).
//!
//! A stream is a reliable-connected queue pair; all of a runtime share one receive queue, and as few completion queues as have
//! room for them. A UDP socket is a queue pair of datagrams. An operation is tried at once, so one that is ready completes
//! inside the call that starts it. What is not ready waits in its socket's queue until the protocol says that something has
//! changed.
//!
//! - [`RdmaConfig`]: what users may say, in a program or in the file `demikernel.toml`.
//! - `device`: the runtime's turns, and the end.
//! - `engine`: the protocol, the device's queues, and frames between them; `memory`: what is sent and received into;
//!   `manager`: connections, as the connection manager tells of them; `datagram`: those who know none.
//! - `socket`: one socket, and who waits for it. `key`: what the runtime calls an operation.
//! - `network`: operations on sockets; `receive` and `send` move the data. `options`, `errors`: as named; `settings`: options
//!   that few sockets have; `share`: ports that several cores listen at.
//! - [`Remote`]: memory of the peer, and what the peer may do with that of this side; `one_sided`: what that asks of the
//!   engine; `notices`: who waits for numbers that come with writes.
//!
//! Nothing is borrowed while an operation is completed. Data that were sent are let go of while the engine is borrowed, and
//! the memory may be somebody's whose destructor comes back here: what it asks for is done in the next turn.

mod config;
mod datagram;
mod device;
mod engine;
mod errors;
mod key;
mod manager;
mod memory;
mod network;
mod notices;
mod one_sided;
mod options;
mod receive;
mod remote;
mod send;
mod settings;
mod share;
mod socket;
#[cfg(test)]
mod tests;

use crate::link::{Event, Id, Slots};
use crate::onesided::Finished;
use crate::verbs::{Device, EventChannel, Gid};
use demikernel_runtime::DeviceId;
use demikernel_runtime::transport::{Qd, Transport};
use engine::Engine;
use errors::errno;
use key::Key;
use socket::{Role, Socket};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

pub use crate::link::Notice;
pub use config::RdmaConfig;
pub use remote::Remote;

/// The transport. See the [module](self).
///
/// ```no_run
/// use demikernel_rdma::transport::{RdmaConfig, RdmaTransport};
///
/// let config: RdmaConfig = "[rdma]\ndevice = \"mlx5_0\"".parse()?;
/// let runtime = demikernel_runtime::Runtime::new()?;
/// runtime.attach(RdmaTransport::open(&config)?.transport());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RdmaTransport {
    id: Cell<Option<DeviceId>>,
    engine: RefCell<Engine>,
    sockets: RefCell<Slots<Rc<Socket>>>,
    /// Operations in queues.
    waiting: Cell<usize>,
    /// Sockets that something was asked of while the engine was busy.
    again: RefCell<VecDeque<Id>>,
    /// By the sockets, who waits for notices.
    takers: RefCell<HashMap<Id, notices::Takers>>,
    /// By the sockets, what is set of them, where that is anything.
    settings: RefCell<HashMap<Id, settings::Settings>>,
    state: RefCell<State>,
}

/// Whether operations can be done.
enum State {
    Running,
    /// The device is gone, for this reason.
    Failed(io::Error),
    Ended,
}

/// What came of trying: the result, or nothing yet.
type Attempt<T> = Option<io::Result<T>>;

impl RdmaTransport {
    /// Opens the device that the configuration names, or the only one that there is.
    ///
    /// # Errors
    /// If there is no such device, its port is down, or memory cannot be registered with it.
    pub fn open(config: &RdmaConfig) -> io::Result<Rc<RdmaTransport>> {
        let device = engine::open_device(config)?;
        RdmaTransport::with_device(device, EventChannel::new()?, config)
    }

    /// On a device that is open, with a channel of its connection manager.
    ///
    /// # Errors
    /// As [`open`](RdmaTransport::open).
    pub fn with_device(
        device: Device,
        manager: EventChannel,
        config: &RdmaConfig,
    ) -> io::Result<Rc<RdmaTransport>> {
        Ok(Rc::new(RdmaTransport {
            id: Cell::new(None),
            engine: RefCell::new(Engine::open(device, manager, config)?),
            sockets: RefCell::new(Slots::new()),
            waiting: Cell::new(0),
            again: RefCell::default(),
            takers: RefCell::default(),
            settings: RefCell::default(),
            state: RefCell::new(State::Running),
        }))
    }

    /// The same as a [`Transport`] for sockets.
    pub fn transport(self: Rc<RdmaTransport>) -> Transport {
        Transport::network(self)
    }
}

/// Addresses at which RDMA devices of this machine can be reached, as far as the devices know: those of RoCE. On InfiniBand
/// they are those of the interfaces of IP over InfiniBand.
///
/// # Errors
/// If a device cannot be opened.
pub fn addresses() -> io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for name in crate::verbs::devices()? {
        addresses.extend(Device::open(&name)?.gids()?.iter().filter_map(Gid::address));
    }
    // What is valid on one link only names none.
    addresses.retain(|address| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    });
    addresses.dedup();
    Ok(addresses)
}

/// The table of sockets.
impl RdmaTransport {
    fn check_running(&self) -> io::Result<()> {
        match &*self.state.borrow() {
            State::Running => Ok(()),
            State::Failed(error) => Err(errors::copy(error)),
            State::Ended => Err(errors::ended()),
        }
    }

    fn insert(&self, socket: Socket) -> Rc<Socket> {
        let socket = Rc::new(socket);
        let id = self.sockets.borrow_mut().insert(socket.clone());
        socket.id.set(id);
        socket
    }

    /// The open socket of a number.
    fn socket_of(&self, qd: Qd) -> io::Result<Rc<Socket>> {
        self.check_running()?;
        match self.sockets.borrow().at(qd.0) {
            Some(socket) if !socket.closing.get() => Ok(socket.clone()),
            _ => Err(errno(libc::EBADF)),
        }
    }

    fn socket_by_id(&self, id: Id) -> Option<Rc<Socket>> {
        self.sockets.borrow().get(id).cloned()
    }

    fn all_sockets(&self) -> Vec<Rc<Socket>> {
        self.sockets.borrow().iter().map(|(_, socket)| socket.clone()).collect()
    }

    /// Takes a socket out of the table and gives it up; what was pushed is the protocol's to send.
    fn remove(&self, socket: &Rc<Socket>) {
        let Ok(mut engine) = self.engine.try_borrow_mut() else { return self.put_off(socket) };
        let removed = self.sockets.borrow_mut().remove(socket.id.get());
        if removed.is_some() {
            self.settings.borrow_mut().remove(&socket.id.get());
            match &*socket.role.borrow() {
                Role::Stream(id) => engine.close(*id, socket.resets.get()),
                Role::Listening(id) => engine.unlisten(*id),
                Role::Datagrams(id) => engine.close_datagrams(*id),
                Role::Fresh | Role::Bound(_) => {}
            }
        }
        drop(engine);
        drop(removed);
    }

    /// The socket is looked at again in the next turn.
    #[cold]
    fn put_off(&self, socket: &Socket) {
        self.again.borrow_mut().push_back(socket.id.get());
    }
}

/// Progress.
impl RdmaTransport {
    fn waits_more(&self, operations: usize) {
        self.waiting.set(self.waiting.get() + operations);
    }

    fn waits_less(&self, operations: usize) {
        self.waiting.set(self.waiting.get() - operations);
    }

    /// Tries something for a socket: `None` if it is to wait.
    #[inline]
    fn attempt<R>(&self, socket: &Socket, call: impl FnOnce(&mut Engine) -> io::Result<R>) -> Attempt<R> {
        let Ok(mut engine) = self.engine.try_borrow_mut() else {
            self.put_off(socket);
            return None;
        };
        match call(&mut engine) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            result => Some(result),
        }
    }

    /// Something whose result is needed at once.
    fn call<R>(&self, call: impl FnOnce(&mut Engine) -> io::Result<R>) -> io::Result<R> {
        match self.engine.try_borrow_mut() {
            Ok(mut engine) => call(&mut engine),
            Err(_) => Err(errors::busy()),
        }
    }

    /// Does for a socket what can be done now.
    fn progress(&self, socket: &Rc<Socket>) {
        if socket.connect.borrow().is_some() {
            self.progress_connect(socket);
        }
        self.progress_receives(socket);
        if !self.takers.borrow().is_empty() {
            self.progress_notices(socket);
        }
        if socket.closing.get() || !socket.sends.borrow().is_empty() {
            self.progress_sends(socket);
        }
    }

    /// Tells those who wait for one-sided operations.
    fn tell_finished(&self) -> bool {
        let finished = std::mem::take(&mut self.engine.borrow_mut().finished);
        let any = !finished.is_empty();
        finished.into_iter().for_each(Finished::tell);
        any
    }

    /// Serves those who wait for what has happened.
    fn progress_events(&self) -> bool {
        let mut any = false;
        loop {
            let id = {
                let mut engine = self.engine.borrow_mut();
                match engine.link.poll_event() {
                    Some(Event::Connection(id)) => engine.socket_of(id),
                    Some(Event::Listener(id)) => engine.socket_of_listener(id),
                    None => match engine.woken.pop() {
                        Some(id) => Some(id),
                        None => return any,
                    },
                }
            };
            any = true;
            if let Some(socket) = id.and_then(|id| self.socket_by_id(id)) {
                self.progress(&socket);
            }
        }
    }

    fn progress_again(&self) -> bool {
        let count = self.again.borrow().len();
        for _ in 0..count {
            let id = self.again.borrow_mut().pop_front();
            if let Some(socket) = id.and_then(|id| self.socket_by_id(id)) {
                if socket.closing.get() && socket.sends.borrow().is_empty() {
                    self.remove(&socket);
                } else {
                    self.progress(&socket);
                }
            }
        }
        count > 0
    }

    /// The device is gone: nothing can be done any more.
    #[cold]
    fn fail(&self, error: io::Error) {
        tracing::error!(%error, "the device of the transport rdma has failed");
        let reason = errors::copy(&error);
        *self.state.borrow_mut() = State::Failed(error);
        for socket in self.all_sockets() {
            self.abandon(&socket, &reason);
            if socket.closing.get() {
                self.remove(&socket);
            }
        }
        self.engine.borrow_mut().give_up_all_one_sided(&reason);
        self.tell_finished();
    }
}

impl std::fmt::Debug for RdmaTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RdmaTransport").field("waiting", &self.waiting.get()).finish_non_exhaustive()
    }
}
