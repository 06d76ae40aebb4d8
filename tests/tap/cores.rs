//! Servers on several cores.

use crate::programs::lab::Lab;
use crate::programs::spread::{BOTH, clients, serve, two_cores_serve};
use crate::programs::{client, clients as others, text};
use demikernel::Builder;
use demikernel::buffer::pool;
use demikernel::net::UdpSocket;
use demikernel::time::sleep;
use futures::future::{Either, select};
use std::pin::pin;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn each_core_has_a_queue_of_a_tap_interface() {
    let Some(lab) = Lab::tap("cores", "tap", "tap0", " multi_queue") else { return };
    two_cores_serve(&lab, BOTH, true);
}

/// Made by somebody who did not think of several: one core has it, and hands over.
#[test]
fn a_tap_interface_of_one_queue_is_enough() {
    let Some(lab) = Lab::tap("cores-single", "tap", "tap0", "") else { return };
    two_cores_serve(&lab, BOTH, true);
    let server = serve(&lab, "10.9.0.2:7000", &["3"]);
    let seen = clients(server.address, 90, false);
    seen.assert_spread(3, 90, 90);
    assert!(seen.counter("frames sent through another core") > 0);
}

#[test]
fn the_kernel_spreads_flows_over_packet_sockets_of_cores() {
    let Some(lab) = Lab::veth("cores", "packet", 2) else { return };
    two_cores_serve(&lab, BOTH, true);
}

#[test]
fn a_host_of_several_cores_is_one_host() {
    let Some(lab) = Lab::tap("cores-host", "tap", "tap0", " multi_queue") else { return };
    let _server = serve(&lab, "10.9.0.2:7000", &["2"]);
    for address in ["10.9.0.2", "fd00:9::2"] {
        let Some(output) = client("ping", &["-c", "3", "-i", "0.2", "-W", "2", address], b"") else { return };
        let said = text(&output);
        assert!(said.contains("3 received") && !said.contains("DUP"), "{said}");
    }
}

/// One core takes an interface that was made for several.
#[test]
fn programs_of_others_are_served_by_one_core_and_by_two() {
    let Some(lab) = Lab::tap("cores-http", "tap", "tap0", " multi_queue") else { return };
    others::nc_gets_its_words_back(&lab);
    let server = lab.serve("echo", &["serve", "--listen", "10.9.0.2:7000", "--cores", "2"]);
    for _ in 0..10 {
        let Some(output) = client("nc", &["-N", "10.9.0.2", &server.port()], b"hello\n") else { return };
        assert_eq!(text(&output), "hello\n");
    }
}

/// A server that connects as well, from all its cores, to one of the kernel's.
#[test]
fn clients_on_two_cores_get_their_answers() {
    let Some(lab) = Lab::tap("cores-client", "tap", "tap0", " multi_queue") else { return };
    let server = crate::programs::Server::start_with(
        "cores",
        &["serve", "10.9.0.1:7001", "1"],
        &[("DEMIKERNEL_TRANSPORT", "epoll")],
    );
    let said = lab.run("cores", &["connect", &server.address.to_string(), "2", "40"]);
    assert_eq!(said.matches("{\"0\": 40}").count(), 2, "{said}");
}

/// A program that is ended with this.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A DHCP server that has one address to give. `None` where it is not installed and need not be.
fn dnsmasq() -> Option<Ended> {
    let mut command = Command::new("dnsmasq");
    command.args([
        "--no-daemon",
        "--port=0",
        "--interface=tap0",
        "--bind-interfaces",
        "--conf-file=/dev/null",
    ]);
    command.args(["--dhcp-range=10.9.0.50,10.9.0.50,2m", "--leasefile-ro", "--pid-file"]);
    match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
        Ok(child) => Some(Ended(child)),
        Err(error) => {
            assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "dnsmasq: {error}");
            eprintln!("skipped: dnsmasq: {error}");
            None
        }
    }
}

#[test]
fn one_core_asks_for_the_address_that_all_have() {
    let Some(_namespace) = Lab::tap("cores-lease", "tap", "tap0", " multi_queue") else { return };
    let lab = Lab::here("cores-lease-server", "tap", "[network]\naddresses = [\"dhcp\"]\n");
    // An address for each core that asked would be one too many.
    let Some(_dnsmasq) = dnsmasq() else { return };
    for _ in 0..2 {
        let mut server = serve(&lab, "0.0.0.0:7000", &["2"]);
        clients("10.9.0.50:7000".parse().unwrap(), 60, true).assert_spread(2, 60, 60);
        server.signal("TERM");
        assert_eq!(server.end(), Some(0));
    }
}

/// Two hosts of ours on one VLAN of a cable, with tags that the kernel takes off and our packet sockets put back.
#[test]
fn a_vlan_is_a_link_of_its_own() {
    let Some(near) = Lab::veth("vlan-near", "packet", 1) else { return };
    near.configure("vlan = 7\n");
    let text = "[network]\ninterface = \"far\"\naddresses = [\"10.9.0.3/24\"]\nduplicate-detection = \"off\"\nvlan = 7\n";
    let far = Lab::here("vlan-far", "packet", text);
    let _server = serve(&near, "10.9.0.2:7000", &["2"]);
    let said = far.run("cores", &["connect", "10.9.0.2:7000", "2", "10"]);
    assert_eq!(said.matches("core ").count(), 2, "{said}");
    let dropped =
        std::net::TcpStream::connect_timeout(&"10.9.0.2:7000".parse().unwrap(), Duration::from_millis(300));
    assert!(dropped.is_err(), "the kernel is not on that VLAN");
}

/// Frames of one core's memory that another core has held come back: nothing is left in use when both have ended, though
/// they end while frames still come.
#[test]
fn what_is_handed_over_comes_back() {
    static DONE: AtomicBool = AtomicBool::new(false);
    let Some(_lab) = Lab::tap("cores-memory", "tap", "tap0", "") else { return };
    let text =
        "[network]\naddresses = [\"10.9.0.2/24\"]\ninterface = \"tap0\"\nduplicate-detection = \"off\"\n";
    let server = || {
        Builder::new().transport("tap").configuration(text).cores(2).run(|| async {
            let socket = UdpSocket::bind("10.9.0.2:7000").await?;
            while !DONE.load(Ordering::SeqCst) {
                let next = pin!(socket.pop_from());
                if let Either::Left((received, _)) = select(next, pin!(sleep(Duration::from_millis(5)))).await
                {
                    let (data, peer) = received?;
                    socket.push_to(data, peer).await?;
                }
            }
            std::io::Result::Ok(())
        })
    };
    std::thread::scope(|scope| {
        // In the namespace that this thread is in.
        let server = scope.spawn(server);
        let sockets: Vec<_> = (0..8).map(|_| std::net::UdpSocket::bind("10.9.0.1:0").unwrap()).collect();
        let mut received = 0;
        while received < 2000 {
            for socket in &sockets {
                // Nobody is there at first.
                let _ = socket.send_to(&[7; 1000], "10.9.0.2:7000");
                socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                received += usize::from(socket.recv(&mut [0; 2000]).is_ok());
            }
        }
        DONE.store(true, Ordering::SeqCst);
        while !server.is_finished() {
            let _ = sockets[0].send_to(&[7; 1000], "10.9.0.2:7000");
        }
        assert!(server.join().unwrap() == ExitCode::SUCCESS);
    });
    // A pool of which something is in use is the next thread's that wants one.
    let barrier = Barrier::new(4);
    let look = || {
        pool::collect();
        let in_use = pool::stats().in_use();
        barrier.wait();
        in_use
    };
    let in_use: Vec<usize> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(look)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(in_use, [0; 4]);
}
