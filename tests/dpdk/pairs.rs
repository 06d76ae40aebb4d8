//! Two processes of ours over shared memory: memif, and virtio_user with vhost.

use crate::programs::Server;
use crate::programs::lab::Lab;
use std::path::PathBuf;
use std::time::Duration;

/// Where the two ends meet, removed at the end.
struct Meeting(PathBuf);

impl Meeting {
    fn new(name: &str) -> Meeting {
        Meeting(std::env::temp_dir().join(format!("demikernel-{}-{name}.sock", std::process::id())))
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The host number `host` of a network of two, behind a port.
fn end(name: &str, host: u8, port: &str, more: &str) -> Lab {
    let configuration = format!(
        "[network]\naddresses = [\"10.7.0.{host}/24\", \"fd00:7::{host}/64\"]\nmac = \"02:00:00:00:07:0{host}\"\n\
         duplicate-detection = \"off\"\n[dpdk]\nport = \"{port}\"\n{more}\n"
    );
    Lab::here(&format!("{name}-{host}"), "dpdk", &configuration)
}

const NO_HUGE: &str = "huge-pages = false\nmemory = \"128MiB\"";

fn memif(name: &str, meeting: &Meeting, more: &str) -> [Lab; 2] {
    let socket = meeting.0.display();
    let port = |role| format!("net_memif0,role={role},id=0,socket={socket},socket-abstract=no");
    [end(name, 1, &port("server"), more), end(name, 2, &port("client"), more)]
}

/// Messages of a load in one second of three, all of which have come back as they were. A client of memif that comes while the
/// server has not seen yet that its predecessor has gone is refused, and comes again after a second.
fn load(lab: &Lab, connect: &str, connections: &str, size: &str) -> u64 {
    let load = ["--connections", connections, "--size", size, "--seconds", "3"];
    let report = lab.run("echo", &[&["bench", "--connect", connect][..], &load].concat());
    let row = report.lines().last().unwrap_or_default();
    let rate = row.split_whitespace().nth(2).and_then(|rate| rate.parse().ok());
    rate.unwrap_or_else(|| panic!("no rate in {report}"))
}

fn serve(lab: &Lab, listen: &str) -> Server {
    lab.serve("echo", &["serve", "--listen", listen])
}

#[test]
fn echoes_cross_memif() {
    let meeting = Meeting::new("echo");
    let [server, client] = memif("echo", &meeting, NO_HUGE);
    for (listen, connect) in [("10.7.0.1:7000", "10.7.0.1:7000"), ("[fd00:7::1]:7000", "[fd00:7::1]:7000")] {
        let _server = serve(&server, listen);
        for (connections, size) in [("1", "64"), ("32", "64"), ("8", "20000")] {
            let rate = load(&client, connect, connections, size);
            assert!(rate > 10, "{rate} with {connections} of {size} to {connect}");
        }
    }
}

/// Both ends have two cores; with a queue for each at both ends, connections stay on theirs and nothing else is handed over
/// but questions for neighbours. With one queue, the first core hands over what is the other's.
#[test]
fn connections_of_two_cores_cross_memif() {
    for (queues, is_handed) in [(2, false), (1, true)] {
        let meeting = Meeting::new(&format!("cores-{queues}"));
        let more = format!("{NO_HUGE}\nqueues = {queues}");
        let [server, client] = memif(&format!("cores-{queues}"), &meeting, &more);
        let mut running = server.serve("cores", &["serve", "10.7.0.1:7000", "2"]);
        let said = client.run("cores", &["connect", "10.7.0.1:7000", "2", "50"]);
        for core in ["0", "1"] {
            assert!(said.contains(&format!("core {core}: {{\"{core}\": 50}}")), "{said}");
        }
        let handed = said
            .match_indices("other cores\", ")
            .filter_map(|(at, name)| said[at + name.len()..].split(')').next()?.parse::<u64>().ok());
        let most: u64 = handed.max().unwrap();
        assert_eq!(most > 20, is_handed, "{said}");
        running.signal("TERM");
        assert_eq!(running.end(), Some(0));
    }
}

/// Huge pages, reserved while this lives; the number that there was is put back.
struct HugePages(String);

impl HugePages {
    const FILE: &str = "/proc/sys/vm/nr_hugepages";

    /// `None` where that is not allowed and need not be.
    fn reserve(pages: usize) -> Option<HugePages> {
        let before = std::fs::read_to_string(Self::FILE).unwrap().trim().to_owned();
        let wanted = before.parse::<usize>().unwrap() + pages;
        if let Err(error) = std::fs::write(Self::FILE, wanted.to_string()) {
            assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "no huge pages: {error}");
            eprintln!("skipped: no huge pages: {error}");
            return None;
        }
        Some(HugePages(before))
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        std::fs::write(Self::FILE, &self.0).unwrap();
    }
}

#[test]
fn echoes_cross_memif_and_vhost_in_huge_pages() {
    let Some(_pages) = HugePages::reserve(128) else { return };
    let (cable, socket) = (Meeting::new("huge"), Meeting::new("huge-vhost"));
    let path = socket.0.display();
    let vhost = [
        end("huge-vhost", 1, &format!("net_vhost0,iface={path},queues=1"), ""),
        end("huge-vhost", 2, &format!("net_virtio_user0,path={path}"), ""),
    ];
    for [server, client] in [memif("huge", &cable, ""), vhost] {
        let _server = serve(&server, "10.7.0.1:7000");
        for (connections, size) in [("1", "64"), ("8", "20000")] {
            let rate = load(&client, "10.7.0.1:7000", connections, size);
            assert!(rate > 10, "{rate} with {connections} of {size}");
        }
    }
}

/// The client's side is killed in the midst of a load and comes back; then the server's.
#[test]
fn either_end_may_vanish_and_return() {
    let meeting = Meeting::new("vanish");
    let [server, client] = memif("vanish", &meeting, NO_HUGE);
    let mut running = serve(&server, "10.7.0.1:7000");
    for _ in 0..2 {
        let victim = client.serve("echo", &["serve", "--listen", "10.7.0.2:7000"]);
        std::thread::sleep(Duration::from_millis(50));
        // Killed, as a server is when it is dropped.
        drop(victim);
        assert!(load(&client, "10.7.0.1:7000", "4", "64") > 10);
        drop(running);
        running = serve(&server, "10.7.0.1:7000");
        assert!(load(&client, "10.7.0.1:7000", "4", "64") > 10);
    }
}

#[test]
fn echoes_cross_virtio_and_vhost() {
    let meeting = Meeting::new("vhost");
    let socket = meeting.0.display();
    let server = end("vhost", 1, &format!("net_vhost0,iface={socket},queues=1"), NO_HUGE);
    let client = end("vhost", 2, &format!("net_virtio_user0,path={socket}"), NO_HUGE);
    let _server = serve(&server, "10.7.0.1:7000");
    for (connections, size) in [("1", "64"), ("8", "20000")] {
        assert!(load(&client, "10.7.0.1:7000", connections, size) > 10, "{connections} of {size}");
    }
}
