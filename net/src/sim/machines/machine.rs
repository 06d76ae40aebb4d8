//! One machine: a runtime with a stack of its own, and what runs on it.

use super::port::{Cable, Port};
use super::{Config, Inner};
use crate::stack::{Stack, StackConfig};
use crate::transport::NetTransport;
use demikernel_runtime::random::Random;
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::memory::Memory;
use demikernel_runtime::transport::{Device, Transport};
use demikernel_runtime::{JoinHandle, Lockstep, Stepped};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

pub(super) type Task = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// What a machine runs from its start.
pub(super) enum Program {
    /// Once more at each start.
    Host(Box<dyn Fn() -> Task>),
    /// Once; what is left to do then is nothing.
    Client(RefCell<Option<Task>>),
}

pub(super) struct Machine {
    pub(super) name: String,
    pub(super) number: usize,
    pub(super) program: Program,
    pub(super) random: RefCell<Random>,
    /// Whether it is among those that are to be run.
    pub(super) queued: Cell<bool>,
    /// When it is in the list of what is due.
    pub(super) due: Cell<Option<Instant>>,
    starts: Cell<u64>,
    power: RefCell<Option<Rc<Power>>>,
}

/// What a machine has as long as it runs.
struct Power {
    runtime: Stepped,
    transport: Rc<NetTransport>,
    cable: Rc<Cable>,
    main: RefCell<Option<JoinHandle<Result<(), String>>>>,
}

/// How a program has ended.
pub(super) enum End {
    Finished,
    Failed(String),
    Panicked(Box<dyn Any + Send>),
}

impl Machine {
    pub(super) fn new(number: usize, name: String, program: Program, seed: u64) -> Machine {
        Machine {
            name,
            number,
            program,
            random: RefCell::new(Random::new(seed, 0x6d61_6368 ^ (number as u64) << 32)),
            queued: Cell::new(false),
            due: Cell::new(None),
            starts: Cell::new(0),
            power: RefCell::new(None),
        }
    }

    /// Its addresses, by its number: from 10.0.0.1 and fd00::1 on.
    pub(super) fn addresses(number: usize) -> [IpAddr; 2] {
        let number = number as u32 + 1;
        let (high, low) = ((number >> 16) as u16, number as u16);
        [
            Ipv4Addr::from_bits(10 << 24 | number & 0xff_ffff).into(),
            Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, high, low).into(),
        ]
    }

    /// Switches it on, and has its program started.
    ///
    /// # Errors
    /// If the stack refuses its configuration.
    pub(super) fn start(&self, lockstep: &Lockstep, inner: &Weak<Inner>, config: &Config) -> io::Result<()> {
        let starts = self.starts.replace(self.starts.get() + 1);
        let purpose = 0x706f_7765 ^ (self.number as u64) << 32 ^ starts << 16;
        let mut random = Random::new(config.seed, purpose);
        let cable = Rc::new(Cable::default());
        let mut stack = stack_config(&mut random, config.mtu);
        stack.tcp = config.tcp.clone();
        for address in Machine::addresses(self.number) {
            stack = stack.address(address, if address.is_ipv4() { 8 } else { 64 });
        }
        for router in [IpAddr::from([0u8; 4]), IpAddr::from([0u16; 8])] {
            // The other side of the link is everybody.
            stack = stack.gateway(router);
        }
        let runtime = lockstep.runtime()?;
        let device = Port::new(cable.clone(), config.mtu);
        let transport = NetTransport::new("sim", Stack::new(lockstep.now(), stack), device);
        let names = inner.clone();
        transport.set_names(move |host| {
            names.upgrade().map_or_else(|| Err(no_such_name(host)), |all| all.lookup(host))
        });
        runtime.attach(transport.clone().transport());
        // Files, and Unix sockets.
        runtime.attach(Transport::both(Memory::new(random.next())));
        let task = match &self.program {
            Program::Host(make) => Some(make()),
            Program::Client(task) => task.take(),
        };
        let main = task.map(|task| runtime.spawn(task));
        *self.power.borrow_mut() =
            Some(Rc::new(Power { runtime, transport, cable, main: RefCell::new(main) }));
        Ok(())
    }

    /// Switches it off: nothing that it had to say is said. The futures of its tasks are dropped.
    pub(super) fn power_off(&self) {
        let Some(power) = self.power.take() else { return };
        power.transport.power_off();
        drop(power);
    }

    pub(super) fn is_on(&self) -> bool {
        self.power.borrow().is_some()
    }

    fn power(&self) -> Option<Rc<Power>> {
        self.power.borrow().clone()
    }

    /// Does what can be done now; whether it has done all.
    pub(super) fn run(&self) -> bool {
        self.power().is_none_or(|power| power.runtime.run())
    }

    /// Starts one more task.
    ///
    /// # Panics
    /// If the machine is off.
    pub(super) fn spawn<F: Future + 'static>(&self, task: F) -> JoinHandle<F::Output> {
        let power = self.power().unwrap_or_else(|| panic!("the machine {:?} is off", self.name));
        power.runtime.spawn(task)
    }

    pub(super) fn deliver(&self, packet: Vec<u8>) {
        // What reaches a machine that is off is lost.
        if let Some(power) = self.power() {
            power.cable.deliver(packet);
        }
    }

    /// The next packet that it has sent.
    pub(super) fn take_packet(&self) -> Option<Vec<u8>> {
        self.power()?.cable.take()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.power()?.runtime.next_deadline()
    }

    pub(super) fn is_woken(&self) -> bool {
        self.power().is_some_and(|power| power.runtime.is_woken())
    }

    /// How its program has ended, once.
    pub(super) fn take_end(&self) -> Option<End> {
        let power = self.power()?;
        let mut main = power.main.borrow_mut();
        let mut handle = main.take_if(|main| main.is_finished())?;
        drop(main);
        match Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(Ok(()))) => Some(End::Finished),
            Poll::Ready(Ok(Err(error))) => Some(End::Failed(error)),
            Poll::Ready(Err(error)) => match error.try_into_panic() {
                Ok(panic) => Some(End::Panicked(panic)),
                Err(error) => Some(End::Failed(error.to_string())),
            },
            Poll::Pending => unreachable!("it is finished"),
        }
    }

    /// Whether its program is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.power().is_some_and(|power| power.main.borrow().is_some())
    }

    /// Whether another thread may spawn on it at any time.
    pub(super) fn has_handles(&self) -> bool {
        self.power().is_some_and(|power| power.runtime.has_handles())
    }

    /// Tasks, and other operations, that wait.
    pub(super) fn pending(&self) -> (usize, usize) {
        self.power().map_or((0, 0), |power| power.runtime.pending())
    }

    pub(super) fn counters(&self) -> Vec<(&'static str, u64)> {
        self.power().map_or_else(Vec::new, |power| power.transport.counters())
    }
}

/// A stack of which all that is random follows from the seed.
fn stack_config(random: &mut Random, mtu: usize) -> StackConfig {
    let mut key = [0; 32];
    key.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&random.next().to_le_bytes()));
    StackConfig::new(Port::capabilities(mtu), key)
}

pub(super) fn no_such_name(host: &str) -> io::Error {
    let text = format!("no machine of the simulation is named {host:?}");
    io::Error::new(io::ErrorKind::NotFound, text)
}

/// A stack of the address 10.0.0.1, and of fd00::1, without a network: for a program whose sockets talk to each other, over
/// loopback, with the whole of TCP between them.
///
/// ```
/// use demikernel_net::sim::lone_transport;
/// use demikernel_runtime::{Builder, Time, net::TcpListener, net::TcpStream};
///
/// let runtime = Builder::new().time(Time::Virtual).build()?;
/// runtime.attach(lone_transport(7).transport());
/// runtime.block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:80").await?;
///     let client = TcpStream::connect("localhost:80").await?;
///     let (server, _) = listener.accept().await?;
///     client.push("hello".into()).await?;
///     assert_eq!(server.pop().await?, b"hello");
///     std::io::Result::Ok(())
/// })
/// # ?; std::io::Result::Ok(())
/// ```
pub fn lone_transport(seed: u64) -> Rc<NetTransport> {
    const MTU: usize = 1500;
    let mut stack = stack_config(&mut Random::new(seed, 0x6c6f_6e65), MTU);
    for address in Machine::addresses(0) {
        stack = stack.address(address, if address.is_ipv4() { 8 } else { 64 });
    }
    let transport = NetTransport::new("sim", Stack::new(Instant::from_nanos(0), stack), Port::unplugged(MTU));
    transport.set_names(|host| localhost(host).ok_or_else(|| no_such_name(host)));
    transport
}

/// The name that every machine has for itself.
pub(super) fn localhost(host: &str) -> Option<Vec<IpAddr>> {
    (host == "localhost").then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
}
