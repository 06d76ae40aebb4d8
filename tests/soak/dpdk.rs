//! The same on DPDK: two processes, joined by memif. The server is ended or killed every few seconds, in the midst of
//! transfers, and begins anew; the client, this process, outlives all that. In between and at the end nothing may be left
//! of what was under way, neither a buffer nor one of DPDK's.

use super::{ONE, Random, descriptors, programs, seconds, visit};
use demikernel::buffer::pool;
use demikernel::spawn;
use demikernel::time::{Duration, Instant, sleep};
use demikernel_net::transport::NetTransport;
use demikernel_runtime::Runtime;
use demikernel_runtime::transport::Device;
use programs::Server;
use programs::lab::Lab;
use std::cell::Cell;
use std::rc::Rc;

/// Connections at a time.
const CLIENTS: u64 = 32;

/// Where the server is.
const SERVER: &str = "10.89.0.1:7000";

fn configuration(host: u8, role: &str) -> String {
    let socket = format!("demikernel-soak-{}", std::process::id());
    format!(
        "[network]\ndevice = \"dpdk\"\naddresses = [\"10.89.0.{host}/24\"]\nmac = \"02:00:00:00:89:0{host}\"\n\
         duplicate-detection = \"off\"\n[dpdk]\nport = \"net_memif0,role={role},id=0,socket={socket}\"\n\
         huge-pages = false\nmemory = \"256MiB\"\n"
    )
}

/// Clients that come and go; returns how many visits ended well.
async fn visits(seed: u64, time: Duration) -> u64 {
    let good = Rc::new(Cell::new(0));
    let until = Instant::now() + time;
    let clients = (0..CLIENTS).map(|client| {
        let good = good.clone();
        spawn(async move {
            let mut random = Random(seed * 1000 + client * 7919 + 1);
            while Instant::now() < until {
                match visit(SERVER.parse().unwrap(), &mut random).await {
                    Ok(()) => good.set(good.get() + 1),
                    // The server has gone, or has just come.
                    Err(_) => sleep(Duration::from_millis(1)).await,
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    good.get()
}

fn counter(transport: &NetTransport, name: &str) -> u64 {
    transport.counters().into_iter().find(|counter| counter.0 == name).expect("it is counted").1
}

/// What is in use when nothing is under way: buffers of the pool, those of DPDK's that are lent, and descriptors.
type InUse = (usize, u64, usize);

/// Waits until it is as `expected`, or no longer changes; returns what it is.
fn settle(runtime: &Runtime, transport: &NetTransport, lab: &Lab, expected: Option<InUse>) -> InUse {
    // It refuses what is left of connections to its predecessors.
    let server = lab.serve("echo", &["serve", "--listen", SERVER]);
    let mut last = (0, 0, 0);
    for _ in 0..30 {
        runtime.block_on(async { sleep(Duration::from_secs(2)).await });
        pool::collect();
        let (buffers, lent) = (pool::stats().in_use(), counter(transport, "packet buffers under way"));
        let before = std::mem::replace(&mut last, (buffers, lent, descriptors()));
        if expected.map_or(before == last, |expected| expected == last) {
            break;
        }
    }
    drop(server);
    last
}

/// Lives of the server until time is up, in a thread of its own, of which every other ends with a kill.
fn serve_and_vanish(lab: &Lab, end: std::time::Instant) -> u64 {
    let mut random = Random(3);
    let mut lives = 0;
    loop {
        let mut server: Server = lab.serve("echo", &["serve", "--listen", SERVER]);
        lives += 1;
        std::thread::sleep(std::time::Duration::from_millis(3000 + random.below(3000)));
        if std::time::Instant::now() > end {
            return lives;
        }
        if lives % 2 == 0 {
            server.signal("TERM");
            assert_eq!(server.end(), Some(0), "the server ends well, with clients that go on");
        }
    }
}

#[test]
fn nothing_leaks_on_dpdk_while_the_server_vanishes_and_returns() {
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let lab = Lab::here("soak", "dpdk", &configuration(1, "server"));
    let text = configuration(2, "client");
    let before = pool::stats().in_use();
    // A client of memif starts only where there is a server.
    let first = lab.serve("echo", &["serve", "--listen", SERVER]);
    let transport = demikernel_net::transport::open(&text.parse().unwrap()).unwrap();
    let runtime = Runtime::new().unwrap();
    runtime.attach(transport.clone().transport());
    assert_eq!(counter(&transport, "changes of the link"), 0);
    drop(first);
    let round = |seed, time: Duration| {
        let (end, lab) = (std::time::Instant::now() + time, &lab);
        std::thread::scope(|scope| {
            let server = scope.spawn(move || serve_and_vanish(lab, end));
            let good = runtime.block_on(visits(seed, time));
            (server.join().unwrap(), good)
        })
    };
    // What is made once and stays, such as the memory of sockets.
    round(1, Duration::from_secs(5));
    let idle = settle(&runtime, &transport, &lab, None);
    let time = Duration::from_secs(seconds());
    let (lives, good) = round(2, time);
    let changes = counter(&transport, "changes of the link");
    assert_eq!(settle(&runtime, &transport, &lab, Some(idle)), idle, "buffers, DPDK's buffers, descriptors");
    assert_eq!(idle.1, 0, "packet buffers under way");
    assert_eq!(counter(&transport, "frames without a buffer"), 0);
    assert!(good > 20 * time.as_secs(), "{good} visits");
    assert!(changes >= 2 * lives - 2, "the link came up in each of {lives} lives: {changes} changes");
    // A visit that nobody answers in time is a good one, too: on a busy machine nearly all are.
    assert!(counter(&transport, "frames_received") > 100 * lives, "each life of the server is visited");
    drop((runtime, transport));
    pool::collect();
    assert_eq!(pool::stats().in_use(), before, "buffers after the end");
    eprintln!("dpdk: {good} visits, {lives} lives of the server");
}
