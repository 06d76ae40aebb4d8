//! The kernel at the other end, through devices of DPDK that it knows, with other people's programs there.

use crate::programs::captures;
use crate::programs::clients;
use crate::programs::lab::Lab;
use crate::programs::spread;

const TAP: &str =
    "mac = \"02:00:00:00:09:02\"\n[dpdk]\nport = \"net_tap0,iface=dtap0\"\nhuge-pages = false\n";

/// A stack behind DPDK's TAP driver. The port's own Ethernet address is that of the kernel's end, too.
pub(crate) fn tap(name: &str) -> Option<Lab> {
    let lab = Lab::tap(name, "dpdk", "dtap0", " multi_queue")?;
    // The driver switches the interface off when it ends, with which the kernel forgets addresses of IPv6.
    std::fs::write("/proc/sys/net/ipv6/conf/dtap0/keep_addr_on_down", "1").unwrap();
    lab.configure(TAP);
    Some(lab)
}

#[test]
fn cores_are_spread_through_the_tap_driver() {
    let Some(lab) = tap("cores") else { return };
    spread::two_cores_serve(&lab, spread::BOTH, true);
    lab.configure(&format!("{TAP}queues = 1\n"));
    spread::two_cores_serve(&lab, spread::BOTH, true);
}

/// Its sockets have the kernel put fragments together, and what becomes of that is too long for its frames.
#[test]
fn cores_are_spread_through_the_packet_driver() {
    let Some(lab) = Lab::veth("cores-packet", "dpdk", 2) else { return };
    lab.configure("[dpdk]\nport = \"net_af_packet0,iface=near,qpairs=2\"\nhuge-pages = false\n");
    spread::two_cores_serve(&lab, spread::BOTH, false);
}

/// A stack on one end of a veth pair, through DPDK's packet sockets.
fn packet(name: &str) -> Option<Lab> {
    let lab = Lab::veth(name, "dpdk", 1)?;
    lab.configure("[dpdk]\nport = \"net_af_packet0,iface=near\"\nhuge-pages = false\n");
    Some(lab)
}

#[test]
fn nc_gets_its_words_back_through_the_tap_driver() {
    tap("nc").iter().for_each(clients::nc_gets_its_words_back);
}

#[test]
fn the_udp_relay_forwards_and_brings_back_answers_through_the_tap_driver() {
    tap("relay").iter().for_each(clients::the_udp_relay_forwards_and_brings_back_answers);
}

#[test]
fn redis_clients_are_served_through_the_tap_driver() {
    tap("redis").iter().for_each(clients::redis_clients_understand_the_key_value_server);
}

#[test]
fn curl_and_wrk_are_served_through_the_tap_driver() {
    tap("http").iter().for_each(clients::curl_and_wrk_speak_to_the_http_server);
}

#[test]
fn clients_speak_tls_to_the_servers_through_the_tap_driver() {
    tap("tls").iter().for_each(clients::clients_speak_tls_to_the_servers);
}

#[test]
fn ping_is_answered_through_the_tap_driver() {
    tap("ping").iter().for_each(clients::ping_is_answered);
}

#[test]
fn iperf3_measures_both_directions_through_the_tap_driver() {
    tap("iperf3").iter().for_each(clients::iperf3_measures_both_ways_and_several_at_once);
}

#[test]
fn tshark_finds_nothing_wrong_through_the_tap_driver() {
    tap("capture").iter().for_each(|lab| captures::tshark_finds_nothing_wrong(lab, TAP));
}

#[test]
fn clients_are_served_through_the_packet_driver() {
    let Some(lab) = packet("packet") else { return };
    clients::nc_gets_its_words_back(&lab);
    clients::redis_clients_understand_the_key_value_server(&lab);
    clients::curl_and_wrk_speak_to_the_http_server(&lab);
}
