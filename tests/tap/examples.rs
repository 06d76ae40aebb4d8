//! The examples, with nc, redis-cli, redis-benchmark, curl, wrk, ping and dnsmasq.

use crate::lab::{Lab, ip};
use crate::programs::{Server, built, client, text};
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn nc_gets_its_words_back() {
    let Some(lab) = Lab::new("nc") else { return };
    for listen in ["10.9.0.2:0", "[fd00:9::2]:0"] {
        let server = lab.serve("echo", &["serve", "--listen", listen]);
        let (host, port) = (server.address.ip().to_string(), server.port());
        let Some(output) = client("nc", &["-N", &host, &port], b"hello\nworld\n") else { return };
        assert_eq!(text(&output), "hello\nworld\n");
    }
}

/// The same stack on one end of a veth pair, through a packet socket.
#[test]
fn nc_gets_its_words_back_through_a_packet_socket() {
    let Some(lab) = Lab::new("packet") else { return };
    for arguments in [
        "link add near type veth peer name far",
        "addr add 10.8.0.1/24 dev far",
        "link set far up",
        "link set near up",
    ] {
        ip(arguments);
    }
    let configuration =
        "[network]\ndevice = \"packet\"\ninterface = \"near\"\naddresses = [\"10.8.0.2/24\"]\n";
    std::fs::write(&lab.configuration, configuration).unwrap();
    let variables =
        [("DEMIKERNEL_TRANSPORT", "packet"), ("DEMIKERNEL_CONFIG", lab.configuration.to_str().unwrap())];
    let server = Server::start_with("echo", &["serve", "--listen", "10.8.0.2:0"], &variables);
    let Some(output) = client("nc", &["-N", "10.8.0.2", &server.port()], b"hello\nworld\n") else { return };
    assert_eq!(text(&output), "hello\nworld\n");
}

#[test]
fn the_udp_relay_forwards_and_brings_back_answers() {
    let Some(lab) = Lab::new("relay") else { return };
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

#[test]
fn redis_clients_understand_the_key_value_server() {
    let Some(lab) = Lab::new("redis") else { return };
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

#[test]
fn curl_and_wrk_speak_to_the_http_server() {
    let Some(lab) = Lab::new("http") else { return };
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
    let Some(lab) = Lab::new("ping") else { return };
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

/// Without a word about addresses in the file: dnsmasq, on the kernel's side, says what there is to say.
#[test]
fn a_server_gets_its_address_from_dnsmasq() {
    let Some(lab) = Lab::new("dhcp") else { return };
    std::fs::write(&lab.configuration, "[network]\nmac = \"02:00:00:00:09:02\"\naddresses = [\"dhcp\"]\n")
        .unwrap();
    let leases = std::env::temp_dir().join(format!("demikernel-leases-{}", std::process::id()));
    let mut dnsmasq = Command::new("dnsmasq");
    dnsmasq.args(["--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=tap0", "--bind-dynamic"]);
    dnsmasq.args(["--user=root", "--pid-file=", "--dhcp-range=10.9.0.50,10.9.0.50,2m"]);
    dnsmasq.arg(format!("--dhcp-leasefile={}", leases.display()));
    let dnsmasq = match dnsmasq.stdin(Stdio::null()).stderr(Stdio::null()).spawn() {
        Ok(child) => Server::of(child, "10.9.0.1:67".parse().unwrap()),
        Err(error) => {
            assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "dnsmasq: {error}");
            return eprintln!("skipped: dnsmasq: {error}");
        }
    };
    let server = lab.serve("echo", &["serve", "--listen", "0.0.0.0:0"]);
    let output = client("nc", &["-N", "10.9.0.50", &server.port()], b"hello\nworld\n");
    drop(server);
    drop(dnsmasq);
    let _ = std::fs::remove_file(leases);
    if let Some(output) = output {
        assert_eq!(text(&output), "hello\nworld\n");
    }
}

#[test]
fn a_transport_that_cannot_start_says_what_to_do() {
    // A name of a network namespace alone: nobody there gives an address.
    let Some(lab) = Lab::new("start") else { return };
    let run = |configuration: &str| {
        let mut command = Command::new(built("echo"));
        command.args(["serve", "--transport", "tap"]).env("DEMIKERNEL_CONFIG", configuration);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    std::fs::write(&lab.configuration, "[network]\nwait = \"500ms\"\n").unwrap();
    let errors = run(lab.configuration.to_str().unwrap());
    assert!(
        errors.contains("\"tap0\": no address after 500ms: no DHCP server has given an address"),
        "{errors}"
    );
    assert!(errors.contains("say addresses under [network]") && errors.contains("network.wait"), "{errors}");
    let errors = run("/nowhere/demikernel.toml");
    assert!(errors.contains("cannot read /nowhere/demikernel.toml"), "{errors}");
}
