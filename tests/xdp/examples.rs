//! The examples, with nc, redis-benchmark, curl, wrk, ping and iperf3.

use crate::lab::{Lab, ip};
use crate::programs::{Server, built, client, text};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn nc_gets_its_words_back_in_every_mode() {
    let Some(lab) = Lab::new("nc", 1) else { return };
    for more in ["", "[xdp]\nmode = \"copy\"\n", "[xdp]\nneed-wakeup = false\nreceive-ring = 64\n"] {
        lab.configure(more);
        for listen in ["10.9.0.2:0", "[fd00:9::2]:0"] {
            let server = lab.serve("echo", &["serve", "--listen", listen]);
            let (host, port) = (server.address.ip().to_string(), server.port());
            let Some(output) = client("nc", &["-N", &host, &port], b"hello\nworld\n") else { return };
            assert_eq!(text(&output), "hello\nworld\n");
        }
    }
}

#[test]
fn the_udp_relay_forwards_and_brings_back_answers() {
    let Some(lab) = Lab::new("relay", 1) else { return };
    for (listen, host) in [("10.9.0.2:0", "10.9.0.1:0"), ("[fd00:9::2]:0", "[fd00:9::1]:0")] {
        let socket = || {
            let socket = UdpSocket::bind(host).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket
        };
        let (target, client) = (socket(), socket());
        let forward = target.local_addr().unwrap().to_string();
        let relay = lab.serve("udp-relay", &["--listen", listen, "--forward", &forward]);
        // The last one is cut into fragments on both ways.
        for size in [0, 1, 1000, 1472, 5000] {
            let sent: Vec<u8> = (0..size).map(|index| index as u8).collect();
            let mut room = [0; 6000];
            client.send_to(&sent, relay.address).unwrap();
            let (length, from) = target.recv_from(&mut room).unwrap();
            assert!(room[..length] == sent, "{length} bytes instead of {size}");
            target.send_to(&room[..length], from).unwrap();
            let (length, from) = client.recv_from(&mut room).unwrap();
            assert!(room[..length] == sent && from == relay.address, "{length} bytes of {size} come back");
        }
    }
}

/// Connections that the kernel spreads over two queues, and one stack that has both.
#[test]
fn redis_benchmark_understands_the_key_value_server_over_two_queues() {
    let Some(lab) = Lab::new("redis", 2) else { return };
    lab.configure("[xdp]\nqueues = [1, 0]\n");
    let server = lab.serve("key-value", &["--listen", "10.9.0.2:0"]);
    let port = server.port();
    for pipeline in ["1", "16"] {
        let arguments =
            ["-h", "10.9.0.2", "-p", &port, "-t", "set,get", "-n", "20000", "-c", "50", "-P", pipeline, "-q"];
        let Some(output) = client("redis-benchmark", &arguments, b"") else { return };
        let report = text(&output);
        let rates = report.matches("requests per second").count();
        assert!(rates == 2 && !report.to_lowercase().contains("error"), "{report}");
    }
}

#[test]
fn curl_and_wrk_speak_to_the_http_server() {
    let Some(lab) = Lab::new("http", 1) else { return };
    for listen in ["10.9.0.2:0", "[fd00:9::2]:0"] {
        let server = lab.serve("http", &["--listen", listen]);
        let url = format!("http://{}", server.address);
        let echo = format!("{url}/echo");
        if let Some(output) = client("curl", &["-sS", "--fail", "--data-binary", "@-", &echo], b"to and fro")
        {
            assert_eq!(text(&output), "to and fro");
        }
        if let Some(output) = client("wrk", &["-t1", "-c32", "-d1s", &url], b"") {
            let report = text(&output);
            assert!(report.contains("Requests/sec"), "{report}");
            assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
        }
    }
}

#[test]
fn ping_is_answered() {
    let Some(lab) = Lab::new("ping", 1) else { return };
    let server = lab.serve("echo", &["serve", "--listen", "10.9.0.2:0"]);
    for host in ["10.9.0.2", "fd00:9::2"] {
        for size in ["56", "1400"] {
            let arguments = ["-c", "5", "-i", "0.01", "-s", size, "-W", "5", host];
            let Some(output) = client("ping", &arguments, b"") else { return };
            let report = text(&output);
            assert!(report.contains("5 received, 0% packet loss"), "{report}");
        }
    }
    drop(server);
}

/// What went out and what arrived, in bytes.
fn measured(host: &str, port: &str, arguments: &[&str]) -> Option<(f64, f64)> {
    let output = client("iperf3", &[&["-J", "-c", host, "-p", port], arguments].concat(), b"")?;
    let report: Value = serde_json::from_str(&text(&output)).expect("a report in JSON");
    assert!(report["error"].is_null(), "{report}");
    let bytes = |sum: &str| report["end"][sum]["bytes"].as_f64();
    Some(
        bytes("sum_sent")
            .zip(bytes("sum_received"))
            .unwrap_or_else(|| panic!("no sums in {}", report["end"])),
    )
}

#[test]
fn iperf3_both_ways_and_several_at_once() {
    const SIZE: f64 = 50e6;
    let Some(lab) = Lab::new("iperf", 1) else { return };
    for (listen, host) in [("10.9.0.2:0", "10.9.0.2"), ("[fd00:9::2]:0", "fd00:9::2")] {
        let server = lab.serve("iperf3", &[listen]);
        for arguments in [&["-n", "50M"][..], &["-n", "50M", "-R"], &["-n", "50M", "-P", "4"]] {
            let Some((sent, received)) = measured(host, &server.port(), arguments) else { return };
            // What is under way when the client has sent enough is not counted.
            assert!(
                sent >= SIZE && received >= 0.8 * SIZE,
                "{arguments:?}: {sent} sent, {received} received"
            );
        }
    }
}

/// The other way around: iperf3 is the server.
#[test]
fn our_client_measures_iperf3() {
    const SIZE: f64 = 50e6;
    let Some(lab) = Lab::new("iperf-client", 1) else { return };
    let started = Command::new("iperf3").args(["-s", "--forceflush"]).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = started else {
        assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "iperf3 is not installed");
        return eprintln!("skipped: iperf3 is not installed");
    };
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let server = Server::of(child, "10.9.0.1:5201".parse().unwrap());
    assert!(lines.any(|line| line.unwrap().contains("Server listening")));
    std::thread::spawn(move || lines.for_each(drop));
    for more in [&[][..], &["reverse"]] {
        let output = lab.run("iperf3", &[&["connect", "10.9.0.1:5201", "50000000"], more].concat());
        let words: Vec<f64> = output.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [here, there] = words[..] else { panic!("{output}") };
        assert!(here >= SIZE && there >= 0.8 * SIZE, "{more:?}: {output}");
    }
    drop(server);
}

/// The kernel takes program and sockets off the interface when a process dies, however that happens.
#[test]
fn a_server_that_was_killed_leaves_nothing_behind() {
    let Some(lab) = Lab::new("killed", 1) else { return };
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
    let Some(lab) = Lab::new("start", 1) else { return };
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
