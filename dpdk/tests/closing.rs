//! Ports of memif are closed and opened again.

mod common;

use std::fmt::Debug;
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use common::eal;
use demikernel_dpdk::{Port, PortConfig, Queue};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// What DPDK has complained of, on whatever thread.
static COMPLAINTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The tests look at all that is said meanwhile, so they go one after the other.
static ONE: Mutex<()> = Mutex::new(());

struct Listener;

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, _: &Field, value: &dyn Debug) {
        self.0 += &format!("{value:?} ");
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        COMPLAINTS.lock().unwrap().push(message.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn listen() {
    // The second time there is one already.
    let _ = tracing::subscriber::set_global_default(Listener);
    COMPLAINTS.lock().unwrap().clear();
}

fn open(role: &str, socket: &str) -> Queue {
    let name = format!("net_memif-{role},role={role},id=0,socket={socket}");
    Port::open(eal(), &PortConfig::new(name)).unwrap_or_else(|error| panic!("{error}"))
}

fn wait_for_link(queue: &Queue) {
    let end = Instant::now() + Duration::from_secs(10);
    while !queue.port().link().up {
        assert!(Instant::now() < end, "the ends do not meet");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Its driver took a connection down on two threads, each of which freed the memory.
#[test]
fn both_ends_of_memif_may_close_at_once() {
    let _one = ONE.lock().unwrap();
    listen();
    let socket = format!("demikernel-at-once-{}", std::process::id());
    let (listens, meet) = (Barrier::new(2), Barrier::new(2));
    let end = |role: &str| {
        for _ in 0..100 {
            if role == "client" {
                listens.wait();
            }
            let queue = open(role, &socket);
            if role == "server" {
                listens.wait();
            }
            wait_for_link(&queue);
            meet.wait();
            drop(queue);
            meet.wait();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| end("server"));
        end("client");
    });
    assert_eq!(*COMPLAINTS.lock().unwrap(), [""; 0]);
}

/// Its driver neither closes nor forgets what it listened on, whichever end is closed last.
#[test]
fn a_server_of_memif_may_be_opened_again() {
    let _one = ONE.lock().unwrap();
    let path = std::env::temp_dir().join(format!("demikernel-again-{}", std::process::id()));
    let named = format!("demikernel-again-{}", std::process::id());
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    for socket in [named, format!("{},socket-abstract=no", path.display())] {
        let mut before = None;
        for round in 0..6 {
            let ends = [open("server", &socket), open("client", &socket)];
            ends.iter().for_each(wait_for_link);
            let [server, client] = ends;
            match round % 2 {
                0 => drop((server, client)),
                _ => drop((client, server)),
            }
            // What is made once is there after the first.
            let now = descriptors();
            assert_eq!(*before.get_or_insert(now), now, "descriptors in round {round} of {socket}");
        }
    }
}
