//! The kernel at the other end, through devices of DPDK that it knows: nc, redis-cli, redis-benchmark, curl, wrk, iperf3.

use crate::lab::{Lab, ip};
use crate::programs::{client, text};

/// A stack behind DPDK's TAP driver, to the kernel's 10.9.0.1.
fn tap(name: &str) -> Option<Lab> {
    let configuration = r#"
        [network]
        addresses = ["10.9.0.2/24", "fd00:9::2/64"]
        duplicate-detection = "optimistic"
        # The port's own address is that of the kernel's end, too.
        mac = "02:00:00:00:09:02"
        [dpdk]
        port = "net_tap0,iface=dtap0"
        huge-pages = false
    "#;
    let lab = Lab::bare(name, "dpdk", configuration)?;
    // Made before, and kept when the server ends.
    for arguments in [
        "tuntap add dtap0 mode tap multi_queue",
        "addr add 10.9.0.1/24 dev dtap0",
        "-6 addr add fd00:9::1/64 dev dtap0 nodad",
        "link set dtap0 up",
    ] {
        ip(arguments);
    }
    Some(lab)
}

/// A stack on one end of a veth pair, through DPDK's packet sockets.
fn packet(name: &str) -> Option<Lab> {
    let configuration = r#"
        [network]
        addresses = ["10.9.0.2/24", "fd00:9::2/64"]
        duplicate-detection = "optimistic"
        mac = "02:00:00:00:09:02"
        [dpdk]
        port = "net_af_packet0,iface=near"
        huge-pages = false
    "#;
    let lab = Lab::bare(name, "dpdk", configuration)?;
    for arguments in [
        "link add near type veth peer name far",
        "link set near address 02:00:00:00:09:02",
        "addr add 10.9.0.1/24 dev far",
        "-6 addr add fd00:9::1/64 dev far nodad",
        "link set far up",
        "link set near up",
    ] {
        ip(arguments);
    }
    // The driver knows nothing of sums that the kernel leaves to a device.
    for (device, feature) in [("far", "tx"), ("far", "tso"), ("far", "gso"), ("near", "gro")] {
        client("ethtool", &["-K", device, feature, "off"], b"")?;
    }
    Some(lab)
}

fn echo_answers(lab: &Lab) {
    for listen in ["10.9.0.2:0", "[fd00:9::2]:0"] {
        let server = lab.serve("echo", &["serve", "--listen", listen]);
        let (host, port) = (server.address.ip().to_string(), server.port());
        let Some(output) = client("nc", &["-N", &host, &port], b"hello\nworld\n") else { return };
        assert_eq!(text(&output), "hello\nworld\n");
    }
}

fn redis_is_served(lab: &Lab) {
    let server = lab.serve("key-value", &["--listen", "10.9.0.2:0"]);
    let port = server.port();
    let commands = b"SET greeting hello\nGET greeting\nINCR visits\n";
    let Some(output) = client("redis-cli", &["-h", "10.9.0.2", "-p", &port], commands) else { return };
    let replies = text(&output);
    let lines: Vec<&str> = replies.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines[..3], ["OK", "hello", "1"], "{replies}");
    let arguments = ["-h", "10.9.0.2", "-p", &port, "-t", "set,get", "-n", "10000", "-c", "50", "-q"];
    let Some(output) = client("redis-benchmark", &arguments, b"") else { return };
    let report = text(&output);
    let rates = report.matches("requests per second").count();
    assert!(rates == 2 && !report.to_lowercase().contains("error"), "{report}");
}

fn http_is_served(lab: &Lab) {
    let server = lab.serve("http", &["--listen", "10.9.0.2:0"]);
    let url = format!("http://{}", server.address);
    let body = "to and fro ".repeat(5_000);
    let arguments = ["-sS", "--fail", "--data-binary", "@-", &format!("{url}/echo")];
    if let Some(output) = client("curl", &arguments, body.as_bytes()) {
        assert!(text(&output) == body, "the body comes back otherwise");
    }
    if let Some(output) = client("wrk", &["-t1", "-c32", "-d1s", &url], b"") {
        let report = text(&output);
        assert!(report.contains("Requests/sec"), "{report}");
        assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
    }
}

fn iperf_runs(lab: &Lab) {
    let server = lab.serve("iperf3", &["10.9.0.2:0"]);
    let port = server.port();
    for direction in [&["-t", "1"][..], &["-t", "1", "-R"]] {
        let arguments = [&["-c", "10.9.0.2", "-p", &port][..], direction].concat();
        let Some(output) = client("iperf3", &arguments, b"") else { return };
        let report = text(&output);
        assert!(report.contains("receiver"), "{report}");
    }
}

#[test]
fn nc_gets_its_words_back_through_the_tap_driver() {
    tap("nc").iter().for_each(echo_answers);
}

#[test]
fn redis_clients_are_served_through_the_tap_driver() {
    tap("redis").iter().for_each(redis_is_served);
}

#[test]
fn curl_and_wrk_are_served_through_the_tap_driver() {
    tap("http").iter().for_each(http_is_served);
}

#[test]
fn iperf3_measures_both_directions_through_the_tap_driver() {
    tap("iperf3").iter().for_each(iperf_runs);
}

#[test]
fn clients_are_served_through_the_packet_driver() {
    let Some(lab) = packet("packet") else { return };
    echo_answers(&lab);
    redis_is_served(&lab);
    http_is_served(&lab);
}
