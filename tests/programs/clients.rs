//! The examples on the stack of a lab, with clients on the kernel's side: nc, redis-cli, redis-benchmark, curl, wrk, ping,
//! iperf3. Each returns early if a client is not installed and need not be.

use super::lab::Lab;
use super::{Server, client, text};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Where an example listens, and where its clients find it, of either version.
const ENDS: [(&str, &str); 2] = [("10.9.0.2:0", "10.9.0.2"), ("[fd00:9::2]:0", "fd00:9::2")];

/// What iperf3 is to move, in bytes.
const SIZE: f64 = 50e6;

pub(crate) fn nc_gets_its_words_back(lab: &Lab) {
    for (listen, host) in ENDS {
        let server = lab.serve("echo", &["serve", "--listen", listen]);
        let Some(output) = client("nc", &["-N", host, &server.port()], b"hello\nworld\n") else { return };
        assert_eq!(text(&output), "hello\nworld\n");
    }
}

pub(crate) fn the_udp_relay_forwards_and_brings_back_answers(lab: &Lab) {
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

pub(crate) fn redis_clients_understand_the_key_value_server(lab: &Lab) {
    let server = lab.serve("key-value", &["--listen", "10.9.0.2:0"]);
    let port = server.port();
    let commands = b"SET greeting hello\nGET greeting\nINCR visits\nNOSUCH x\n";
    let Some(output) = client("redis-cli", &["-h", "10.9.0.2", "-p", &port], commands) else { return };
    let replies = text(&output);
    let lines: Vec<&str> = replies.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines[..3], ["OK", "hello", "1"], "{replies}");
    assert!(replies.contains("ERR unknown command"), "{replies}");
    for pipeline in ["1", "16"] {
        let arguments =
            ["-h", "10.9.0.2", "-p", &port, "-t", "set,get", "-n", "20000", "-c", "50", "-P", pipeline, "-q"];
        let Some(output) = client("redis-benchmark", &arguments, b"") else { return };
        let report = text(&output);
        let rates = report.matches("requests per second").count();
        assert!(rates == 2 && !report.to_lowercase().contains("error"), "{report}");
    }
}

pub(crate) fn curl_and_wrk_speak_to_the_http_server(lab: &Lab) {
    for (listen, _) in ENDS {
        speak_http_to(&lab.serve("http", &["--listen", listen]));
    }
}

/// HTTP/2 with TLS, and Redis' protocol with TLS.
pub(crate) fn clients_speak_tls_to_the_servers(lab: &Lab) {
    let server = lab.serve("http", &["--listen", "10.9.0.2:0", "--tls"]);
    let url = format!("https://{}/through", server.address);
    let body: Vec<u8> = (0..1_000_000_usize).map(|index| (index * 7 % 251) as u8).collect();
    let arguments =
        ["-sS", "--fail", "--insecure", "--http2", "-H", "Expect:", "-w", "%{stderr}%{http_version}"];
    let arguments = [&arguments[..], &["--data-binary", "@-", &url]].concat();
    let Some(output) = client("curl", &arguments, &body) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && output.stdout == body, "{said}");
    assert_eq!(said, "2", "the version that was agreed on");
    drop(server);
    let server = lab.serve("key-value", &["--listen", "10.9.0.2:0", "--tls"]);
    let port = server.port();
    let secured = ["-h", "10.9.0.2", "-p", &port, "--tls", "--insecure"];
    let long = "x".repeat(100_000);
    let commands = format!("SET long {long}\nGET long\n");
    let Some(output) = client("redis-cli", &secured, commands.as_bytes()) else { return };
    assert_eq!(text(&output), format!("OK\n{long}\n"));
}

/// A body that comes back, and a load.
pub(crate) fn speak_http_to(server: &Server) {
    let url = format!("http://{}", server.address);
    let echo = format!("{url}/echo");
    if let Some(output) = client("curl", &["-sS", "--fail", "--data-binary", "@-", &echo], b"to and fro") {
        assert_eq!(text(&output), "to and fro");
    }
    if let Some(output) = client("wrk", &["-t1", "-c32", "-d1s", &url], b"") {
        let report = text(&output);
        assert!(report.contains("Requests/sec"), "{report}");
        assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
    }
}

pub(crate) fn ping_is_answered(lab: &Lab) {
    let server = lab.serve("echo", &["serve", "--listen", "10.9.0.2:0"]);
    for (_, host) in ENDS {
        for size in ["56", "1400"] {
            let arguments = ["-c", "5", "-i", "0.01", "-s", size, "-W", "5", host];
            let Some(output) = client("ping", &arguments, b"") else { return };
            let report = text(&output);
            assert!(report.contains("5 received, 0% packet loss"), "{report}");
        }
    }
    drop(server);
}

/// Runs a client of iperf3, and returns what went out and what arrived, in bytes.
fn measure(host: &str, port: &str, arguments: &[&str]) -> Option<(f64, f64)> {
    let output = client("iperf3", &[&["-J", "-c", host, "-p", port], arguments].concat(), b"")?;
    let report: Value = serde_json::from_str(&text(&output)).expect("a report in JSON");
    assert!(report["error"].is_null(), "{report}");
    let bytes = |sum: &str| report["end"][sum]["bytes"].as_f64();
    let sums = bytes("sum_sent").zip(bytes("sum_received")).or_else(|| {
        // Of datagrams there is one sum, and the share that was lost.
        let lost = report["end"]["sum"]["lost_percent"].as_f64()?;
        bytes("sum").map(|bytes| (bytes, bytes * (1.0 - lost / 100.0)))
    });
    Some(sums.unwrap_or_else(|| panic!("no sums in {}", report["end"])))
}

/// Against a server of ours (`tests/programs/iperf3.rs`).
pub(crate) fn iperf3_measures_both_ways_and_several_at_once(lab: &Lab) {
    for (listen, host) in ENDS {
        let server = lab.serve("iperf3", &[listen]);
        for arguments in [&["-n", "50M"][..], &["-n", "50M", "-R"], &["-n", "50M", "-P", "4"]] {
            let Some((sent, received)) = measure(host, &server.port(), arguments) else { return };
            // What is under way when the client has sent enough is not counted.
            assert!(
                sent >= SIZE && received >= 0.8 * SIZE,
                "{arguments:?}: {sent} sent, {received} received"
            );
        }
    }
}

/// The other way around: iperf3 is the server.
pub(crate) fn our_client_measures_iperf3(lab: &Lab) {
    let started = Command::new("iperf3").args(["-s", "--forceflush"]).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = started else {
        assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "iperf3 is not installed");
        return eprintln!("skipped: iperf3 is not installed");
    };
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let server = Server::of(child, "10.9.0.1:5201".parse().unwrap());
    assert!(lines.any(|line| line.unwrap().contains("Server listening")));
    std::thread::spawn(move || lines.for_each(drop));
    for address in ["10.9.0.1:5201", "[fd00:9::1]:5201"] {
        for more in [&[][..], &["reverse"]] {
            let output = lab.run("iperf3", &[&["connect", address, "50000000"], more].concat());
            let words: Vec<f64> = output.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            let [here, there] = words[..] else { panic!("{output}") };
            assert!(here >= SIZE && there >= 0.8 * SIZE, "{address} {more:?}: {output}");
        }
    }
    drop(server);
}

pub(crate) fn iperf3_gets_its_datagrams(lab: &Lab) {
    for (listen, host) in ENDS {
        let server = lab.serve("iperf3", &[listen]);
        let arguments = ["-u", "-b", "20M", "-n", "2M"];
        let Some((sent, received)) = measure(host, &server.port(), &arguments) else { return };
        assert!(sent >= 2e6 && received >= 0.9 * sent, "{sent} sent, {received} received");
    }
}
