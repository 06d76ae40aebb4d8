//! Tests against the kernel, on loopback. Each runs with every way to receive and to set up the ring.

mod cancel;
mod files;
mod limits;
mod streams;
mod udp;

use super::{Config, ReceiveMode, Uring};
use crate::buffer::{Buffer, BufferMut, pool};
use crate::executor::{QToken, Runtime, operation};
use crate::time::{sleep, timeout};
use crate::transport::{
    Accepted, Device, Domain, Endpoint, Network, OpenMode, Qd, SocketKind, Storage, Transport,
};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// Kinds of rings that behave alike.
pub(super) fn configs() -> Vec<(&'static str, Config)> {
    let default = Config::default;
    vec![
        ("default", default()),
        ("own buffers", Config { receive: ReceiveMode::Own, ..default() }),
        ("multishot", Config { receive: ReceiveMode::Multishot, ..default() }),
        ("early pushes", Config { early_push: 64 * 1024, ..default() }),
        (
            "old kernel",
            Config { deferred_work: false, receive: ReceiveMode::Own, multishot_accept: false, ..default() },
        ),
        ("registered", Config { fixed_files: 64, fixed_buffers: true, ..default() }),
        ("zero copy", Config { zero_copy_send: Some(1), ..default() }),
        ("sqpoll", Config { sqpoll: Some(Duration::from_millis(5)), ..default() }),
        ("tiny queues", Config { entries: 8, ..default() }),
    ]
}

/// Runs a test on a runtime of its own with each kind of ring.
pub(super) fn on_each(test: impl AsyncFn(&Tested)) {
    for (name, config) in configs() {
        eprintln!("- {name}");
        on(config, &test);
    }
}

pub(super) fn on(config: Config, test: impl AsyncFn(&Tested)) {
    let uring = match Uring::new(config) {
        Ok(uring) => uring,
        Err(error) => {
            assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "{error}");
            return eprintln!("skipped: {error}");
        }
    };
    let runtime = Runtime::new().unwrap();
    runtime.attach(Transport::both(uring.clone()));
    let tested = Tested(uring.clone());
    runtime.block_on(async { soon(test(&tested)).await });
    drop(runtime);
    assert_eq!(counter(&uring, "in_kernel"), 0);
    assert_eq!(counter(&uring, "sockets"), 0);
}

/// The output of a future that must not take long.
pub(super) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(20), future).await.expect("took too long")
}

/// Waits until something is so.
pub(super) async fn until(mut condition: impl FnMut() -> bool) {
    soon(async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

pub(super) fn counter(uring: &Uring, name: &str) -> u64 {
    uring.counters().into_iter().find(|(found, _)| *found == name).expect("no such counter").1
}

/// Bytes of this thread's pool that are in use.
pub(super) fn buffers() -> usize {
    pool::stats().in_use()
}

pub(super) fn any_port() -> Endpoint {
    Endpoint::Inet("127.0.0.1:0".parse().unwrap())
}

pub(super) fn start<T: 'static>(call: impl FnOnce(crate::executor::Completion<T>)) -> QToken<T> {
    let (token, completion) = operation();
    call(completion);
    token
}

/// The device, with its calls as tokens.
#[derive(Clone)]
pub(super) struct Tested(Rc<Uring>);

impl std::ops::Deref for Tested {
    type Target = Uring;

    fn deref(&self) -> &Uring {
        &self.0
    }
}

impl Tested {
    pub(super) fn accept(&self, qd: Qd) -> QToken<io::Result<Accepted>> {
        start(|done| Network::accept(&*self.0, qd, done))
    }

    pub(super) fn connect(&self, qd: Qd, peer: &Endpoint) -> QToken<io::Result<()>> {
        start(|done| Network::connect(&*self.0, qd, peer, done))
    }

    pub(super) fn push(&self, qd: Qd, data: impl Into<Buffer>) -> QToken<io::Result<()>> {
        start(|done| Network::push(&*self.0, qd, data.into().into(), done))
    }

    pub(super) fn pop(&self, qd: Qd) -> QToken<io::Result<Buffer>> {
        self.pop_limited(qd, 64 * 1024)
    }

    pub(super) fn pop_limited(&self, qd: Qd, limit: usize) -> QToken<io::Result<Buffer>> {
        start(|done| Network::pop(&*self.0, qd, limit, done))
    }

    pub(super) fn push_to(
        &self,
        qd: Qd,
        data: impl Into<Buffer>,
        peer: SocketAddr,
    ) -> QToken<io::Result<()>> {
        start(|done| Network::push_to(&*self.0, qd, data.into().into(), peer, done))
    }

    pub(super) fn pop_from(&self, qd: Qd, limit: usize) -> QToken<io::Result<(Buffer, SocketAddr)>> {
        start(|done| Network::pop_from(&*self.0, qd, limit, done))
    }

    pub(super) fn open(&self, path: &Path, mode: OpenMode) -> QToken<io::Result<Qd>> {
        start(|done| Storage::open(&*self.0, path, mode, done))
    }

    pub(super) fn read_at(&self, qd: Qd, offset: u64, buffer: BufferMut) -> QToken<io::Result<BufferMut>> {
        start(|done| Storage::read_at(&*self.0, qd, offset, buffer, done))
    }

    pub(super) fn write_at(&self, qd: Qd, offset: u64, data: impl Into<Buffer>) -> QToken<io::Result<()>> {
        start(|done| Storage::write_at(&*self.0, qd, offset, data.into().into(), done))
    }

    pub(super) fn sync(&self, qd: Qd, data_only: bool) -> QToken<io::Result<()>> {
        start(|done| Storage::sync(&*self.0, qd, data_only, done))
    }

    pub(super) fn truncate(&self, qd: Qd, length: u64) -> QToken<io::Result<()>> {
        start(|done| Storage::truncate(&*self.0, qd, length, done))
    }

    /// A listening TCP socket, and where.
    pub(super) fn listener(&self) -> (Qd, Endpoint) {
        let qd = self.socket(Domain::V4, SocketKind::Stream).unwrap();
        self.bind(qd, &any_port()).unwrap();
        self.listen(qd, 1024).unwrap();
        (qd, self.local(qd).unwrap())
    }

    /// Both ends of a TCP connection, the accepted one first.
    pub(super) async fn pair(&self) -> (Qd, Qd) {
        let (listener, address) = self.listener();
        let accept = self.accept(listener);
        let client = self.socket(Domain::V4, SocketKind::Stream).unwrap();
        self.connect(client, &address).await.unwrap();
        let server = accept.await.unwrap().qd;
        self.close(listener);
        (server, client)
    }

    pub(super) async fn pop_exactly(&self, qd: Qd, length: usize) -> Vec<u8> {
        let mut data = Vec::new();
        while data.len() < length {
            let part = self.pop(qd).await.unwrap();
            assert!(!part.is_empty(), "the end after {} of {length} bytes", data.len());
            data.extend_from_slice(&part);
        }
        assert_eq!(data.len(), length);
        data
    }
}

/// A directory that is removed at the end.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("demikernel-uring-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn it_says_what_it_is() {
    on(Config::default(), async |uring| {
        assert_eq!(uring.name(), "io_uring");
        assert!(uring.parker().is_some());
        assert_eq!(uring.interest(), crate::transport::Interest::None);
        assert!(format!("{:?}", uring.0).starts_with("Uring"));
    });
}
