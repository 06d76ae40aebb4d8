//! The examples, with other people's programs on the kernel's side; the end of a process; what cannot start.

use crate::programs::captures;
use crate::programs::clients;
use crate::programs::lab::{Lab, ip};
use crate::programs::spread;
use crate::programs::{built, client, text};
use crate::xdp;
use std::process::{Command, Stdio};

#[test]
fn nc_gets_its_words_back_in_every_mode() {
    let Some(lab) = xdp("nc") else { return };
    for more in ["", "[xdp]\nmode = \"copy\"\n", "[xdp]\nneed-wakeup = false\nreceive-ring = 64\n"] {
        lab.configure(more);
        clients::nc_gets_its_words_back(&lab);
    }
}

#[test]
fn the_udp_relay_forwards_and_brings_back_answers() {
    xdp("relay").iter().for_each(clients::the_udp_relay_forwards_and_brings_back_answers);
}

/// Connections that the kernel spreads over two queues, and one stack that has both.
#[test]
fn redis_clients_understand_the_key_value_server_over_two_queues() {
    let Some(lab) = Lab::veth("redis", "xdp", 2) else { return };
    lab.configure("[xdp]\nqueues = [1, 0]\n");
    clients::redis_clients_understand_the_key_value_server(&lab);
}

/// A stack on each of two cores, which have a queue each; three, of which one has none; and two with one queue.
#[test]
fn cores_have_queues_of_their_own() {
    let Some(lab) = Lab::veth("cores", "xdp", 2) else { return };
    lab.configure("[xdp]\nqueues = [0, 1]\n");
    spread::two_cores_serve(&lab, spread::BOTH, true);
    let server = spread::serve(&lab, "10.9.0.2:7000", &["3"]);
    let seen = spread::clients(server.address, 90, true);
    seen.assert_spread(3, 90, 90);
    assert!(seen.counter("frames sent through another core") > 0);
}

#[test]
fn one_queue_is_enough_for_two_cores() {
    let Some(lab) = xdp("cores-single") else { return };
    spread::two_cores_serve(&lab, spread::BOTH, true);
}

#[test]
fn curl_and_wrk_speak_to_the_http_server() {
    xdp("http").iter().for_each(clients::curl_and_wrk_speak_to_the_http_server);
}

#[test]
fn clients_speak_tls_to_the_servers() {
    xdp("tls").iter().for_each(clients::clients_speak_tls_to_the_servers);
}

#[test]
fn ping_is_answered() {
    xdp("ping").iter().for_each(clients::ping_is_answered);
}

#[test]
fn iperf3_measures_both_ways_and_several_at_once() {
    xdp("iperf").iter().for_each(clients::iperf3_measures_both_ways_and_several_at_once);
}

#[test]
fn our_client_measures_iperf3() {
    xdp("iperf-client").iter().for_each(clients::our_client_measures_iperf3);
}

#[test]
fn tshark_finds_nothing_wrong() {
    xdp("capture").iter().for_each(|lab| captures::tshark_finds_nothing_wrong(lab, ""));
}

/// The kernel takes program and sockets off the interface when a process dies, however that happens.
#[test]
fn a_server_that_was_killed_leaves_nothing_behind() {
    let Some(lab) = xdp("killed") else { return };
    let shown = || text(&Command::new("ip").args(["-details", "link", "show", "near"]).output().unwrap());
    for _ in 0..3 {
        let server = lab.serve("echo", &["serve", "--listen", "10.9.0.2:7000"]);
        assert!(shown().contains("prog/xdp"), "{}", shown());
        let Some(output) = client("nc", &["-N", "10.9.0.2", "7000"], b"hello\n") else { return };
        assert_eq!(text(&output), "hello\n");
        drop(server); // by SIGKILL
        assert!(!shown().contains("prog/xdp"), "{}", shown());
    }
    // The kernel has its interface again.
    ip("addr add 10.9.0.3/24 dev near");
    let mut server = lab.serve("echo", &["serve", "--listen", "10.9.0.2:7000"]);
    server.signal("TERM");
    assert_eq!(server.end(), Some(0));
    assert!(!shown().contains("prog/xdp"), "{}", shown());
}

#[test]
fn a_transport_that_cannot_start_says_what_to_do() {
    let Some(lab) = xdp("start") else { return };
    let refused = |more: &str, words: &[&str]| {
        lab.configure(more);
        let mut command = Command::new(built("echo"));
        command.args(["serve", "--transport", "xdp"]).env("DEMIKERNEL_CONFIG", &lab.configuration);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success());
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        words.iter().for_each(|word| assert!(errors.contains(word), "{word:?} in {errors}"));
    };
    refused(
        "[xdp]\nmode = \"zero-copy\"\n",
        &["transport \"xdp\" cannot start", "use the mode copy, or auto"],
    );
    refused("[xdp]\nqueues = [5]\n", &["cannot open queue 5 of \"near\"", "`ethtool -l near`"]);
    refused("[xdp]\nqueue = 5\n", &["xdp.queue: found a key that there is not"]);
    refused("[xdp]\nmemory = \"1MiB\"\n", &["1048576 bytes of memory: expected 8388608 at least"]);
    refused("device = \"packet\"\n", &["network.device: found \"packet\", expected \"xdp\""]);
}
