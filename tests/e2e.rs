//! The examples as processes, driven by clients that people use: nc, redis-cli, redis-benchmark, curl, wrk.
//!
//! A client that is not installed is reported and passed over, unless `DEMIKERNEL_REQUIRE_ALL` is set.

mod programs;

use programs::{Server, built, client, text};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Both kernel transports.
fn on_each_transport(test: impl Fn(&str)) {
    for transport in demikernel::transports().iter().filter(|name| ["io_uring", "epoll"].contains(name)) {
        eprintln!("on {transport}");
        test(transport);
    }
}

#[test]
fn nc_gets_its_words_back() {
    on_each_transport(|transport| {
        let server = Server::start("echo", &["serve", "--listen", "127.0.0.1:0", "--transport", transport]);
        let Some(output) = client("nc", &["-N", "127.0.0.1", &server.port()], b"hello\nworld\n") else {
            return;
        };
        assert_eq!(text(&output), "hello\nworld\n");
    });
}

#[test]
fn echo_serves_on_two_cores() {
    on_each_transport(|transport| {
        let listen = free_address().to_string();
        let arguments = ["serve", "--listen", &listen, "--transport", transport, "--cores", "2"];
        let server = Server::start("echo", &arguments);
        // The kernel spreads connections over the cores' sockets: with 32 it is all but certain that both
        // got some, and every one must be answered.
        let end = Instant::now() + Duration::from_secs(20);
        let mut streams: Vec<TcpStream> =
            (0..32).map(|_| TcpStream::connect(server.address).unwrap()).collect();
        for (index, stream) in streams.iter_mut().enumerate() {
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(&[index as u8; 100]).unwrap();
        }
        for (index, stream) in streams.iter_mut().enumerate() {
            let mut reply = [0; 100];
            stream.read_exact(&mut reply).unwrap();
            assert_eq!(reply, [index as u8; 100]);
        }
        assert!(Instant::now() < end);
    });
}

#[test]
fn the_echo_table_has_a_row_for_each_transport() {
    let output = Command::new(built("echo")).stdin(Stdio::null()).output().unwrap();
    let table = text(&output);
    for transport in ["io_uring", "epoll"] {
        let rows = table.lines().filter(|line| line.starts_with(transport)).count();
        assert!(!demikernel::transports().contains(&transport) || rows == 2, "{table}");
    }
}

#[test]
fn an_address_in_use_is_said_to_be() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Command::new(built("echo")).args(["serve", "--listen", &address]).output().unwrap();
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(errors.contains("in use") && errors.contains(&address), "{errors}");
}

#[test]
fn redis_cli_understands_the_key_value_server() {
    on_each_transport(|transport| {
        let server = Server::start("key-value", &["--listen", "127.0.0.1:0", "--transport", transport]);
        let commands = "SET greeting hello EX 100\nGET greeting\nTTL greeting\nINCR visits\nINCR visits\n\
                        MSET a 1 b 2\nMGET a b c\nDEL a b\nEXISTS a greeting\nDBSIZE\nNOSUCH x\n";
        let Some(output) = client("redis-cli", &["-p", &server.port()], commands.as_bytes()) else { return };
        let replies = text(&output);
        let lines: Vec<&str> = replies.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines[..4], ["OK", "hello", "100", "1"], "{replies}");
        assert_eq!(lines[4..9], ["2", "OK", "1", "2", "2"], "{replies}");
        assert!(replies.contains("ERR unknown command"), "{replies}");
    });
}

#[test]
fn redis_benchmark_runs_through() {
    on_each_transport(|transport| {
        let server = Server::start("key-value", &["--listen", "127.0.0.1:0", "--transport", transport]);
        for pipeline in ["1", "16"] {
            let port = server.port();
            let arguments = ["-p", &port, "-t", "set,get", "-n", "20000", "-c", "50", "-P", pipeline, "-q"];
            let Some(output) = client("redis-benchmark", &arguments, b"") else { return };
            let report = text(&output);
            let rates = report.matches("requests per second").count();
            assert!(rates == 2 && !report.to_lowercase().contains("error"), "{report}");
        }
    });
}

#[test]
fn garbage_does_not_end_the_key_value_server() {
    on_each_transport(|transport| {
        let server = Server::start("key-value", &["--listen", "127.0.0.1:0", "--transport", transport]);
        let garbage: [&[u8]; 5] = [
            b"\x00\xff\xfe\r\n",
            b"*-5\r\n",
            b"*2\r\n$3\r\nGET\r\n$999999999999\r\n",
            b"*1\r\n$-7\r\n",
            b"*3\r\n$3\r\nSE",
        ];
        for bytes in garbage {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(bytes).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            // An error or nothing, and the end; a reset is an end, too.
            let mut reply = Vec::new();
            let _ = stream.read_to_end(&mut reply);
            assert!(reply.is_empty() || reply[0] == b'-', "{:?}", String::from_utf8_lossy(&reply));
        }
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(b"PING\r\n").unwrap();
        let mut reply = [0; 7];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"+PONG\r\n");
    });
}

#[test]
fn the_udp_relay_forwards() {
    on_each_transport(|transport| {
        let target = UdpSocket::bind("127.0.0.1:0").unwrap();
        target.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let forward = target.local_addr().unwrap().to_string();
        let arguments = ["--listen", "127.0.0.1:0", "--forward", &forward, "--transport", transport];
        let relay = Server::start("udp-relay", &arguments);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"over", relay.address).unwrap();
        let mut data = [0; 16];
        let (length, _) = target.recv_from(&mut data).unwrap();
        assert_eq!(&data[..length], b"over");
    });
}

#[cfg(feature = "hyper")]
#[test]
fn curl_and_wrk_speak_to_the_http_server() {
    on_each_transport(|transport| {
        let server = Server::start("http", &["--listen", "127.0.0.1:0", "--transport", transport]);
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
    });
}

/// An address that nobody used a moment ago: several cores cannot each choose a port.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
