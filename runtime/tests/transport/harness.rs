//! Running a test on a transport, and short names for what the tests do with one.

use crate::operations::token;
use demikernel_runtime::buffer::{Buffer, BufferMut, Sga, pool};
use demikernel_runtime::time::{sleep, timeout};
use demikernel_runtime::transport::memory::{Memory, MemoryConfig};
use demikernel_runtime::transport::{
    Device, Domain, Endpoint, Network, OpenMode, Qd, SocketKind, Storage, Transport,
};
use demikernel_runtime::{Builder, Idle, QToken, Time};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(crate) type Test = fn(Net) -> Pin<Box<dyn Future<Output = ()>>>;

/// Descriptors and limits are the process's, so one test runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Whether valgrind runs these tests, which makes them slower and answers some calls itself.
pub(crate) fn under_valgrind() -> bool {
    std::env::var_os("DEMIKERNEL_VALGRIND").is_some()
}

/// Runs a test, and sees that nothing is left.
pub(crate) fn check(make: fn() -> io::Result<Transport>, test: Test) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for idle in [Idle::Spin, Idle::Block] {
        match make() {
            Ok(transport) => check_one(transport, Builder::new().idle(idle), test),
            Err(error) => {
                assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "{error}");
                return eprintln!("skipped: {error}");
            }
        }
    }
}

/// Runs a test on the simulated transport: in real time, and with some seeds in virtual time.
pub(crate) fn check_simulated(test: Test) {
    check(|| Ok(Transport::both(Memory::new(0))), test);
    check_virtually(Memory::new, test);
}

/// The same for tests that rely on small pushes to arrive in one piece, as they do on a loopback.
pub(crate) fn check_simulated_in_pieces_as_pushed(test: Test) {
    check_virtually(
        |seed| {
            let mut config = MemoryConfig::default();
            (config.seed, config.splits, config.joins) = (seed, 0.0, 0.0);
            Memory::with_config(config)
        },
        test,
    );
}

fn check_virtually(make: fn(u64) -> Rc<Memory>, test: Test) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for seed in 1..4 {
        check_one(Transport::both(make(seed)), Builder::new().time(Time::Virtual), test);
    }
}

fn check_one(transport: Transport, builder: Builder, test: Test) {
    let how = format!("{} {builder:?}", transport.device.name());
    let buffers = pool::stats().in_use();
    let descriptors = open_descriptors();
    let runtime = builder.build().unwrap();
    runtime.attach(transport.clone());
    let after = Rc::new(RefCell::new(Vec::new()));
    let net = Net {
        device: transport.device,
        network: transport.network.unwrap(),
        storage: transport.storage.unwrap(),
        after: after.clone(),
    };
    let future = test(net);
    runtime.block_on(async {
        timeout(Duration::from_secs(if under_valgrind() { 300 } else { 120 }), future)
            .await
            .expect("the test is done in time");
    });
    if after.borrow().is_empty() {
        // A device may have to hear from the kernel before it lets go of what was cancelled.
        eventually(|| {
            runtime.block_on(async { sleep(Duration::from_millis(1)).await });
            runtime.metrics().live_operations == 0
        });
        assert_eq!(runtime.metrics().live_operations, 0, "operations left, {how}");
    }
    drop(runtime);
    after.take().into_iter().for_each(|check: Check| check());
    assert_eq!(pool::stats().in_use(), buffers, "buffers left, {how}");
    eventually(|| open_descriptors() <= descriptors);
    assert!(open_descriptors() <= descriptors, "descriptors left, {how}");
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Waits, blocking, for what threads do in their own time.
fn eventually(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() && start.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Something to be done when the runtime has ended.
type Check = Box<dyn FnOnce()>;

/// The transport under test.
#[derive(Clone)]
pub(crate) struct Net {
    pub(crate) device: Rc<dyn Device>,
    pub(crate) network: Rc<dyn Network>,
    pub(crate) storage: Rc<dyn Storage>,
    after: Rc<RefCell<Vec<Check>>>,
}

impl Net {
    /// Has something checked when the runtime has ended.
    pub(crate) fn afterwards(&self, check: impl FnOnce() + 'static) {
        self.after.borrow_mut().push(Box::new(check));
    }

    pub(crate) fn stream(&self, domain: Domain) -> Qd {
        self.network.socket(domain, SocketKind::Stream).unwrap()
    }

    /// A listener of a family, and its address.
    pub(crate) fn listener(&self, domain: Domain) -> (Qd, Endpoint) {
        let qd = self.stream(domain);
        self.network.bind(qd, &any_address(domain)).unwrap();
        self.network.listen(qd, 1024).unwrap();
        (qd, self.network.local(qd).unwrap())
    }

    /// A datagram socket of a family, and its address.
    pub(crate) fn datagram(&self, domain: Domain) -> (Qd, SocketAddr) {
        let qd = self.network.socket(domain, SocketKind::Datagram).unwrap();
        self.network.bind(qd, &any_address(domain)).unwrap();
        (qd, self.network.local(qd).unwrap().inet().unwrap())
    }

    /// An end of a TCP connection of which the other is a plain blocking socket.
    pub(crate) async fn with_peer(&self) -> (Qd, std::net::TcpStream) {
        let (listener, address) = self.listener(Domain::V4);
        let peer = std::net::TcpStream::connect(address.inet().unwrap()).unwrap();
        let server = self.accept(listener).await.unwrap().qd;
        self.network.close(listener);
        (server, peer)
    }

    pub(crate) fn open(&self, path: &Path, mode: OpenMode) -> QToken<io::Result<Qd>> {
        token(|done| self.storage.open(path, mode, done))
    }

    /// What is in a file, as others see it.
    pub(crate) async fn contents(&self, path: &Path) -> Vec<u8> {
        if self.device.name() != "memory" {
            return std::fs::read(path).unwrap();
        }
        let mut mode = OpenMode::default();
        mode.read = true;
        let file = self.open(path, mode).await.unwrap();
        let mut contents = Vec::new();
        loop {
            let room = BufferMut::with_capacity(64 << 10).unwrap();
            match self.read_at(file, contents.len() as u64, room).await.unwrap() {
                more if more.is_empty() => break,
                more => contents.extend_from_slice(&more),
            }
        }
        self.storage.close_file(file);
        contents
    }

    /// Makes a file, as others do.
    pub(crate) async fn make_file(&self, path: &Path, contents: &[u8]) {
        if self.device.name() != "memory" {
            return std::fs::write(path, contents).unwrap();
        }
        let mut mode = OpenMode::default();
        (mode.write, mode.create, mode.truncate) = (true, true, true);
        let file = self.open(path, mode).await.unwrap();
        self.write_at(file, 0, Buffer::from(contents.to_vec())).await.unwrap();
        self.storage.close_file(file);
    }

    pub(crate) fn read_at(&self, qd: Qd, offset: u64, buffer: BufferMut) -> QToken<io::Result<BufferMut>> {
        token(|done| self.storage.read_at(qd, offset, buffer, done))
    }

    pub(crate) fn write_at(&self, qd: Qd, offset: u64, data: impl Into<Sga>) -> QToken<io::Result<()>> {
        token(|done| self.storage.write_at(qd, offset, data.into(), done))
    }

    pub(crate) fn sync(&self, qd: Qd, data_only: bool) -> QToken<io::Result<()>> {
        token(|done| self.storage.sync(qd, data_only, done))
    }

    pub(crate) fn truncate(&self, qd: Qd, length: u64) -> QToken<io::Result<()>> {
        token(|done| self.storage.truncate(qd, length, done))
    }
}

/// An address of the loopback that nobody has.
pub(crate) fn any_address(domain: Domain) -> Endpoint {
    static NAMES: AtomicU32 = AtomicU32::new(0);
    match domain {
        Domain::V4 => Endpoint::Inet("127.0.0.1:0".parse().unwrap()),
        Domain::V6 => Endpoint::Inet("[::1]:0".parse().unwrap()),
        Domain::Unix => {
            let (process, name) = (std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed));
            // In the abstract namespace, so that no file is left.
            Endpoint::Unix(Some(PathBuf::from(format!("\0demikernel-test-{process}-{name}"))))
        }
    }
}

pub(crate) const FAMILIES: [Domain; 3] = [Domain::V4, Domain::V6, Domain::Unix];

/// A directory that goes away with the test.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Directory {
        static NAMES: AtomicU32 = AtomicU32::new(0);
        let (process, name) = (std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("demikernel-transport-{process}-{name}"));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
