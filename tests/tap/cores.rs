//! Servers on several cores.

use crate::programs::lab::Lab;
use crate::programs::spread::{BOTH, clients, serve, two_cores_serve};
use crate::programs::{client, clients as others, text};

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
