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
    if demikernel::transports().contains(&"dpdk") {
        // Two figures, or what to do to get them.
        let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("dpdk")).collect();
        let says_why = rows.len() == 1 && rows[0].contains("echo 512 > /proc/sys/vm/nr_hugepages");
        assert!(rows.len() == 2 || says_why, "{table}");
    }
}

#[test]
fn a_transport_that_cannot_be_measured_is_an_error_that_says_why() {
    for (transport, why) in [("nosuch", "is unknown: this build has"), ("sim", "inside one runtime")] {
        let output = Command::new(built("echo")).args(["--transport", transport]).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains(why), "{errors}");
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

/// What is said to both servers, line by line. Left out is what has to differ: HELLO, INFO and COMMAND tell who
/// answers, and errors of subcommands refer to a HELP that we lack.
const SCRIPT: &str = r#"
PING
PING "a b"
PING a b
ECHO hello
ECHO
GET
GET nothing
SET k v
SET k w NX
SET k w XX
SET k x XX GET
SET new x XX
SET new x NX GET
SET k v EX
SET k v EX 0
SET k v EX -1
SET k v EX x
SET k v EX 10 PX 10
SET k v NX XX
SET k v KEEPTTL EX 3
SET k v EX 9223372036854775807
SET k v BOGUS
SET k v EX 100
TTL k
SET k y KEEPTTL
TTL k
SET k y
TTL k
SET k v PX 100000
TTL k
PERSIST k
PERSIST k
TTL k
PTTL k
TTL nothing
EXPIRE k 50
TTL k
EXPIRE nothing 50
EXPIRE k x
EXPIRE k 9223372036854775807
EXPIRE k
PEXPIRE k 9223372036854775807
EXPIRE k -1
EXISTS k
MSET a 1 b 2 c 3
MSET a 1 b
MGET a b nothing c
MGET
DEL a a b
DEL
EXISTS c c nothing
STRLEN c
STRLEN nothing
INCR n
INCRBY n 41
DECR n
DECRBY n 2
INCRBY n x
INCRBY n 1.5
SET big 9223372036854775807
INCR big
DECRBY big -1
SET small -9223372036854775808
DECR small
DECRBY n -9223372036854775808
SET text abc
INCR text
SET padded " 12"
INCR padded
SET zero 012
INCR zero
NOSUCH a b
get c
DBSIZE
DBSIZE x
SELECT 0
SELECT x
SELECT 99
FLUSHDB BOGUS
FLUSHDB ASYNC
DBSIZE
CLIENT GETNAME
CLIENT SETNAME me
CLIENT GETNAME
CLIENT SETNAME "a b"
CLIENT
HELLO x
HELLO 4
HELLO 2 BOGUS
CONFIG GET save
CONFIG GET nothing
COMMAND INFO nosuch
RESET
QUIT
"#;

#[test]
fn the_key_value_server_answers_as_redis_does() {
    let address = free_address();
    let port = address.port().to_string();
    let redis = ["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"];
    let Ok(child) = Command::new("redis-server").args(redis).stdout(Stdio::null()).spawn() else {
        assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "redis-server is not installed");
        return eprintln!("skipped: redis-server is not installed");
    };
    let redis = Server::of(child, address);
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "redis-server does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    let commands: Vec<&str> = SCRIPT.lines().skip(1).collect();
    // An echo after each command tells which replies are whose.
    let input: String = commands.iter().map(|command| format!("{command}\nECHO ---\n")).collect();
    let replies = |server: &Server, version: &str| {
        let output = client("redis-cli", &["-p", &server.port(), version, "--no-raw"], input.as_bytes())?;
        Some(text(&output).split("\"---\"\n").map(str::to_owned).collect::<Vec<_>>())
    };
    on_each_transport(|transport| {
        let ours = Server::start("key-value", &["--listen", "127.0.0.1:0", "--transport", transport]);
        for version in ["-2", "-3"] {
            let (Some(ours), Some(theirs)) = (replies(&ours, version), replies(&redis, version)) else {
                return;
            };
            assert!(ours.len() >= commands.len(), "{version}: {ours:?}");
            for (command, (ours, theirs)) in commands.iter().zip(ours.iter().zip(&theirs)) {
                assert_eq!(ours, theirs, "{version}: {command}");
            }
            assert_eq!(ours.len(), theirs.len(), "{version}");
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

#[test]
fn servers_end_well_when_asked_to() {
    on_each_transport(|transport| {
        for (example, arguments) in [
            ("echo", &["serve", "--listen", "127.0.0.1:0"][..]),
            ("udp-relay", &["--listen", "127.0.0.1:0", "--forward", "127.0.0.1:9"]),
            ("key-value", &["--listen", "127.0.0.1:0"]),
        ] {
            for signal in ["INT", "TERM"] {
                let mut server = Server::start(example, &[arguments, &["--transport", transport]].concat());
                let idle = TcpStream::connect(server.address);
                server.signal(signal);
                assert_eq!(server.end(), Some(0), "{example}, SIG{signal}");
                if let Ok(mut idle) = idle {
                    // The end, or a reset if the server had not accepted the connection.
                    assert!(matches!(idle.read(&mut [0]), Ok(0) | Err(_)));
                }
            }
        }
    });
}

#[cfg(feature = "hyper")]
#[test]
fn the_http_server_finishes_the_request_under_way_and_ends() {
    on_each_transport(|transport| {
        for signal in ["INT", "TERM"] {
            let mut server = Server::start("http", &["--listen", "127.0.0.1:0", "--transport", transport]);
            let connect = || {
                let stream = TcpStream::connect(server.address).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                stream
            };
            let head = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n";
            let mut idle = connect();
            idle.write_all(format!("{head}\r\nhello").as_bytes()).unwrap();
            read_until(&mut idle, b"hello");
            let mut busy = connect();
            busy.write_all(format!("{head}Expect: 100-continue\r\n\r\n").as_bytes()).unwrap();
            // Now its body is waited for.
            read_until(&mut busy, b"100 Continue\r\n\r\n");
            server.signal(signal);
            assert_eq!(idle.read(&mut [0]).unwrap(), 0, "a connection without a request is closed");
            assert!(TcpStream::connect(server.address).is_err(), "no further connection is accepted");
            busy.write_all(b"world").unwrap();
            let mut response = String::new();
            busy.read_to_string(&mut response).unwrap();
            assert!(response.starts_with("HTTP/1.1 200") && response.ends_with("world"), "{response}");
            assert_eq!(server.end(), Some(0));
        }
    });
}

/// Reads until what has come ends with `end`.
#[cfg(feature = "hyper")]
fn read_until(stream: &mut TcpStream, end: &[u8]) {
    let mut received = Vec::new();
    while !received.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        received.extend(byte);
    }
}

#[cfg(feature = "hyper")]
#[test]
fn curl_takes_and_gives_bodies_of_every_kind() {
    on_each_transport(|transport| {
        let server = Server::start("http", &["--listen", "127.0.0.1:0", "--transport", transport]);
        programs::clients::speak_http_to(&server);
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

#[test]
fn curl_scrapes_the_metrics_of_all_cores_though_another_stalls() {
    on_each_transport(|transport| {
        let echo = free_address().to_string();
        let arguments =
            ["--listen", &echo, "--metrics", "127.0.0.1:0", "--transport", transport, "--cores", "2"];
        let server = Server::start("metrics", &arguments);
        let mut stalls = TcpStream::connect(server.address).unwrap();
        stalls.write_all(b"GET /metr").unwrap();
        let url = format!("http://{}/metrics", server.address);
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let Some(output) = client("curl", &["-sS", "--fail", &url], b"") else { return };
            let text = text(&output);
            let on_core = |core| format!("demikernel_polls_total{{core=\"{core}\",");
            assert!(
                text.contains(&on_core(0))
                    && text.contains("device=\"io_uring\"") == (transport == "io_uring")
            );
            // The other may not have begun yet.
            if text.contains(&on_core(1)) {
                break;
            }
            assert!(Instant::now() < end, "{text}");
        }
    });
}

/// An address that nobody used a moment ago: several cores cannot each choose a port.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A client that counts, and is answered in order until the server ends; how many answers it was given.
fn count_until_the_end(address: SocketAddr, key: usize) -> u64 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // Some at once, for keys of all cores.
    let requests = format!("INCR count-{key}\r\nGET nothing-{key}\r\nSET other-{key} x\r\n");
    for round in 1.. {
        let _ = stream.write_all(requests.as_bytes());
        let expected = format!(":{round}\r\n$-1\r\n+OK\r\n");
        let mut replies = vec![0; expected.len()];
        match stream.read_exact(&mut replies) {
            Ok(()) => assert_eq!(String::from_utf8(replies).unwrap(), expected),
            Err(error) => {
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "neither an answer nor the end");
                return 3 * (round - 1);
            }
        }
    }
    unreachable!("it would count for ever")
}

/// What was carried out was answered, all of it: the cores say at their end how many requests that were.
#[test]
fn cores_with_shards_end_together_when_all_is_answered() {
    on_each_transport(|transport| {
        for cores in ["2", "3"] {
            let listen = free_address().to_string();
            let arguments = ["--listen", &listen, "--transport", transport, "--cores", cores];
            let mut server = Server::start("sharded-key-value", &arguments);
            let address = server.address;
            let clients: Vec<_> =
                (0..12).map(|key| std::thread::spawn(move || count_until_the_end(address, key))).collect();
            std::thread::sleep(Duration::from_millis(500));
            server.signal("TERM");
            assert_eq!(server.end(), Some(0));
            let counts: Vec<u64> = clients.into_iter().map(|client| client.join().unwrap()).collect();
            assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
            let said = server.said();
            let words = said.iter().flat_map(|line| line.split_whitespace());
            let carried_out = words.filter_map(|word| word.strip_prefix("requests:")?.parse::<u64>().ok());
            assert_eq!(carried_out.sum::<u64>(), counts.iter().sum::<u64>(), "{said:?}");
        }
    });
}

/// Keys of one request may be of several cores; an empty request is none.
#[test]
fn the_sharded_server_answers_in_the_order_of_requests() {
    on_each_transport(|transport| {
        let listen = free_address().to_string();
        let arguments = ["--listen", &listen, "--transport", transport, "--cores", "2"];
        let server = Server::start("sharded-key-value", &arguments);
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let conversation = [
            ("\r\n*0\r\nPING\r\n", "+PONG\r\n"),
            ("ECHO hi\r\nSET a x\r\nGET a\r\nGET b\r\n", "$2\r\nhi\r\n+OK\r\n$1\r\nx\r\n$-1\r\n"),
            ("INCR n\r\nINCRBY n 41\r\nDECR n\r\n", ":1\r\n:42\r\n:41\r\n"),
            ("INCR a\r\nINCRBY n x\r\n", &"-ERR value is not an integer or out of range\r\n".repeat(2)),
            ("EXISTS a b c n\r\nDBSIZE\r\nDEL a b n c\r\nDBSIZE\r\n", ":2\r\n:2\r\n:2\r\n:0\r\n"),
            ("GET\r\n", "-ERR unknown command 'GET', or not with so many arguments\r\n"),
            ("PING\r\nQUIT\r\nPING\r\n", "+PONG\r\n+OK\r\n"),
        ];
        for (requests, expected) in conversation {
            stream.write_all(requests.as_bytes()).unwrap();
            let mut replies = vec![0; expected.len()];
            stream.read_exact(&mut replies).unwrap_or_else(|error| panic!("{requests:?}: {error}"));
            assert_eq!(String::from_utf8(replies).unwrap(), expected, "{requests:?}");
        }
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "nothing is answered after QUIT");
    });
}

#[test]
fn redis_benchmark_runs_through_on_several_cores() {
    on_each_transport(|transport| {
        let listen = free_address().to_string();
        let arguments = ["--listen", &listen, "--transport", transport, "--cores", "2"];
        let server = Server::start("sharded-key-value", &arguments);
        let port = server.port();
        let arguments =
            ["-p", &port, "-t", "set,get,incr", "-n", "20000", "-c", "50", "-P", "16", "-r", "1000", "-q"];
        let Some(output) = client("redis-benchmark", &arguments, b"") else { return };
        let report = text(&output);
        let rates = report.matches("requests per second").count();
        assert!(rates == 3 && !report.to_lowercase().contains("error"), "{report}");
        // Each core tells what it did: about half of the keys are another's.
        let Some(output) = client("redis-cli", &["-p", &port, "INFO"], b"") else { return };
        let info = text(&output);
        let number = |line: &str, name: &str| -> u64 {
            line.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap().parse().unwrap()
        };
        let lines: Vec<&str> = info.lines().filter(|line| line.starts_with("core:")).collect();
        assert_eq!(lines.len(), 2, "{info}");
        let sum = |name| lines.iter().map(|line| number(line, name)).sum::<u64>();
        assert!(sum("requests:") >= 60_000 && sum("of_others:") > 10_000, "{info}");
        assert_eq!(sum("requests:"), sum("own:") + sum("of_others:"), "{info}");
    });
}
