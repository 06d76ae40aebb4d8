//! The [stack](crate::stack) as a transport of the runtime: its `Device` and `Network` over a [`FrameDevice`].
//!
//! An operation is tried at once, so one that is ready completes inside the call that starts it. What is not ready
//! waits in its socket's queue until an event of the stack says that something has changed. The runtime's turns move
//! bursts: from the device into the stack, events to those who wait, and from the stack to the device. What the device
//! does not take stays here, no more than one burst, and connections keep the rest to themselves.
//!
//! - `addresses`: what others give, and the program's start waits for.
//! - `device`: the runtime's turns, and the end.
//! - `engine`: the stack and its device, and bursts between them.
//! - `key`: what the runtime calls an operation.
//! - `socket`: one socket, and who waits for it.
//! - [`open`], [`open_on`]: a transport as a [configuration](crate::config) says, and one for each of several cores.
//! - `network`: operations on sockets; `receive` and `send` move the data. `options`, `errors`: as named.
//!
//! Nothing is borrowed while an operation is completed. The stack lets go of sent data while it is borrowed, and the
//! memory may be somebody's whose destructor comes back here: what it asks for is done in the next turn.

mod addresses;
mod device;
mod engine;
mod errors;
mod key;
mod network;
mod open;
mod open_on;
mod options;
mod receive;
mod send;
mod socket;

use crate::device::FrameDevice;
use crate::stack::{SocketId, Stack};
use crate::tcp::Events;
use demikernel_runtime::DeviceId;
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::{Qd, Transport};
use engine::Engine;
use errors::{copy, errno};
use key::Key;
pub use open::open;
pub use open_on::open_on;
use socket::Socket;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

/// The transport. See the [module](self).
///
/// ```
/// use demikernel_net::device::{Capabilities, Medium, Pair};
/// use demikernel_net::stack::{Stack, StackConfig};
/// use demikernel_net::transport::NetTransport;
/// use demikernel_runtime::time::Instant;
/// use std::rc::Rc;
///
/// let capabilities = Capabilities::new(Medium::Ip, 1500);
/// let (here, _there) = Pair::new(capabilities, capabilities, 256);
/// let config = StackConfig::new(capabilities, [7; 32]).address("192.0.2.1".parse().unwrap(), 24);
/// let runtime = demikernel_runtime::Runtime::new()?;
/// runtime.attach(NetTransport::new("pair", Stack::new(Instant::now(), config), here).transport());
/// assert_eq!(runtime.devices(), ["pair"]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct NetTransport {
    name: &'static str,
    id: Cell<Option<DeviceId>>,
    engine: RefCell<Engine>,
    /// By the number that the stack gave them.
    sockets: RefCell<Vec<Option<Rc<Socket>>>>,
    /// Operations in queues.
    waiting: Cell<usize>,
    /// Sockets that something was asked of while the stack was busy.
    again: RefCell<VecDeque<SocketId>>,
    /// When the last turn began.
    turned: Cell<Instant>,
    /// No more than one frame came with it, and nothing was sent early since.
    lone: Cell<bool>,
    state: RefCell<State>,
    /// Whether that is [`State::Running`], for those who ask each time.
    running: Cell<bool>,
    names: RefCell<Option<Names>>,
}

/// What a network knows of names.
type Names = Box<dyn Fn(&str) -> io::Result<Vec<IpAddr>>>;

/// Whether operations can be done.
enum State {
    Running,
    /// The device is gone, for this reason.
    Failed(io::Error),
    Ended,
}

/// What came of trying: the result, or nothing yet.
type Attempt<T> = Option<io::Result<T>>;

impl NetTransport {
    /// The transport, for one runtime, under a name by which people know it.
    pub fn new(name: &'static str, stack: Stack, device: impl FrameDevice + 'static) -> Rc<NetTransport> {
        NetTransport::with_device(name, stack, Box::new(device))
    }

    fn with_device(name: &'static str, stack: Stack, device: Box<dyn FrameDevice>) -> Rc<NetTransport> {
        Rc::new(NetTransport {
            name,
            id: Cell::new(None),
            engine: RefCell::new(Engine::new(stack, device)),
            sockets: RefCell::default(),
            waiting: Cell::new(0),
            again: RefCell::default(),
            turned: Cell::new(Instant::now()),
            lone: Cell::new(false),
            state: RefCell::new(State::Running),
            running: Cell::new(true),
            names: RefCell::new(None),
        })
    }

    /// Has `lookup` asked for the addresses of names, instead of the system.
    ///
    /// ```
    /// use demikernel_net::device::{Capabilities, Medium, Pair};
    /// use demikernel_net::stack::{Stack, StackConfig};
    /// use demikernel_net::transport::NetTransport;
    /// use demikernel_runtime::{time::Instant, transport::Network};
    /// use std::io;
    ///
    /// let capabilities = Capabilities::new(Medium::Ip, 1500);
    /// let (here, _there) = Pair::new(capabilities, capabilities, 256);
    /// let stack = Stack::new(Instant::now(), StackConfig::new(capabilities, [7; 32]));
    /// let transport = NetTransport::new("pair", stack, here);
    /// transport.set_names(|name| match name {
    ///     "server" => Ok(vec!["192.0.2.2".parse().unwrap()]),
    ///     _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such host")),
    /// });
    /// assert_eq!(transport.lookup("server").unwrap()?[0].to_string(), "192.0.2.2");
    /// assert!(transport.lookup("client").unwrap().is_err());
    /// # io::Result::Ok(())
    /// ```
    pub fn set_names(&self, lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>> + 'static) {
        *self.names.borrow_mut() = Some(Box::new(lookup));
    }

    /// Ends at once, as when a machine loses its power: nothing more is sent, and what waits ends with an error.
    pub fn power_off(&self) {
        self.leave(State::Ended);
        let sockets: Vec<_> = self.sockets.borrow().iter().flatten().cloned().collect();
        for socket in sockets {
            self.abandon(&socket, &errors::ended());
        }
    }

    /// The same as a [`Transport`] for sockets.
    pub fn transport(self: Rc<NetTransport>) -> Transport {
        Transport::network(self)
    }

    /// What `look` makes of the stack: for figures that have no call of their own.
    ///
    /// ```
    /// use demikernel_net::device::{Capabilities, Medium, Pair};
    /// use demikernel_net::stack::{Stack, StackConfig};
    /// use demikernel_net::transport::NetTransport;
    /// use demikernel_runtime::time::Instant;
    ///
    /// let capabilities = Capabilities::new(Medium::Ip, 1500);
    /// let (here, _there) = Pair::new(capabilities, capabilities, 256);
    /// let config = StackConfig::new(capabilities, [7; 32]).address("192.0.2.1".parse().unwrap(), 24);
    /// let transport = NetTransport::new("pair", Stack::new(Instant::now(), config), here);
    /// let counters = transport.with_stack(|stack| stack.counters());
    /// assert!(counters.iter().any(|(name, count)| *name == "frames_received" && *count == 0));
    /// ```
    ///
    /// # Panics
    /// If it is called by the destructor of memory that was sent, or by `look`.
    pub fn with_stack<R>(&self, look: impl FnOnce(&mut Stack) -> R) -> R {
        look(&mut self.engine.borrow_mut().stack)
    }
}

/// The table of sockets.
impl NetTransport {
    /// Operations can be done no more. Returns whether they could.
    fn leave(&self, state: State) -> bool {
        *self.state.borrow_mut() = state;
        self.running.replace(false)
    }

    #[inline]
    fn check_running(&self) -> io::Result<()> {
        if self.running.get() { Ok(()) } else { self.refuse() }
    }

    #[cold]
    fn refuse(&self) -> io::Result<()> {
        match &*self.state.borrow() {
            State::Running => Ok(()),
            State::Failed(error) => Err(copy(error)),
            State::Ended => Err(errors::ended()),
        }
    }

    fn insert(&self, socket: Socket) -> Rc<Socket> {
        let index = socket.id.index() as usize;
        let mut sockets = self.sockets.borrow_mut();
        if index >= sockets.len() {
            sockets.resize_with(index + 1, || None);
        }
        debug_assert!(sockets[index].is_none(), "the stack keeps a number until the socket is closed");
        let socket = Rc::new(socket);
        sockets[index] = Some(socket.clone());
        socket
    }

    /// The open socket of a number.
    fn socket_of(&self, qd: Qd) -> io::Result<Rc<Socket>> {
        self.check_running()?;
        match self.sockets.borrow().get(qd.0 as usize) {
            Some(Some(socket)) if !socket.closing.get() => Ok(socket.clone()),
            _ => Err(errno(libc::EBADF)),
        }
    }

    /// The socket that the stack means, unless it is gone.
    fn socket_by_id(&self, id: SocketId) -> Option<Rc<Socket>> {
        let sockets = self.sockets.borrow();
        let socket = sockets.get(id.index() as usize)?.as_ref()?;
        (socket.id == id).then(|| socket.clone())
    }

    /// Takes a socket out of the table and gives it up; what was pushed is the stack's to send.
    fn remove(&self, socket: &Rc<Socket>) {
        let Ok(mut engine) = self.engine.try_borrow_mut() else { return self.put_off(socket) };
        let place = self.sockets.borrow_mut().get_mut(socket.id.index() as usize).and_then(Option::take);
        if place.is_some() {
            // It may be gone already, as after a failure.
            let _ = engine.stack.close(Instant::now(), socket.id);
        }
        drop(engine);
        drop(place);
    }

    /// The socket is looked at again in the next turn.
    #[cold]
    fn put_off(&self, socket: &Socket) {
        self.again.borrow_mut().push_back(socket.id);
    }
}

/// Progress.
impl NetTransport {
    fn waits_more(&self, operations: usize) {
        self.waiting.set(self.waiting.get() + operations);
    }

    fn waits_less(&self, operations: usize) {
        self.waiting.set(self.waiting.get() - operations);
    }

    /// Tries a call on a socket: `None` if it is to wait. The clock is left to calls that need it, as reading it is a
    /// good part of what some of them cost.
    #[inline]
    fn attempt<R>(
        &self,
        socket: &Socket,
        call: impl FnOnce(&mut Stack, SocketId) -> io::Result<R>,
    ) -> Attempt<R> {
        let Ok(mut engine) = self.engine.try_borrow_mut() else {
            self.put_off(socket);
            return None;
        };
        match call(&mut engine.stack, socket.id) {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => None,
            result => Some(result),
        }
    }

    /// A call whose result is needed at once.
    fn call<R>(&self, call: impl FnOnce(&mut Stack, Instant) -> io::Result<R>) -> io::Result<R> {
        match self.engine.try_borrow_mut() {
            Ok(mut engine) => call(&mut engine.stack, Instant::now()),
            Err(_) => Err(errors::busy()),
        }
    }

    /// Does for a socket what can be done now.
    fn progress(&self, socket: &Rc<Socket>) {
        self.progress_connect(socket);
        self.progress_receives(socket);
        self.progress_sends(socket);
    }

    /// Serves those who wait for what has happened.
    fn progress_events(&self) -> bool {
        let mut any = false;
        loop {
            let event = self.engine.borrow_mut().stack.poll_event();
            let Some((id, events)) = event else { return any };
            if let Some(socket) = self.socket_by_id(id) {
                socket.readable.set(true);
                // As nearly always.
                if events == Events::READABLE {
                    self.progress_receives(&socket);
                } else {
                    self.progress(&socket);
                }
            }
            any = true;
        }
    }

    fn progress_again(&self) -> bool {
        let count = self.again.borrow().len();
        for _ in 0..count {
            let id = self.again.borrow_mut().pop_front();
            if let Some(socket) = id.and_then(|id| self.socket_by_id(id)) {
                self.progress(&socket);
            }
        }
        count > 0
    }

    /// The device is gone: nothing can be done any more.
    #[cold]
    fn fail(&self, error: io::Error) {
        tracing::error!(%error, name = self.name, "the device of a transport has failed");
        let reason = copy(&error);
        self.leave(State::Failed(error));
        let sockets: Vec<_> = self.sockets.borrow().iter().flatten().cloned().collect();
        for socket in sockets {
            self.abandon(&socket, &reason);
            if socket.closing.get() {
                self.remove(&socket);
            }
        }
    }
}

impl std::fmt::Debug for NetTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetTransport").field("name", &self.name).finish_non_exhaustive()
    }
}
