//! HTTP/2 and TLS of the examples, as processes: curl, h2load, wrk, openssl and redis-cli speak to them.
//!
//! A client that is not installed is reported and passed over, unless `DEMIKERNEL_REQUIRE_ALL` is set.

mod programs;

use programs::{Server, built, client, text};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Both kernel transports.
fn on_each_transport(test: impl Fn(&str)) {
    for transport in demikernel::transports().iter().filter(|name| ["io_uring", "epoll"].contains(name)) {
        eprintln!("on {transport}");
        test(transport);
    }
}

fn serve(example: &str, transport: &str, more: &[&str]) -> Server {
    Server::start(example, &[&["--listen", "127.0.0.1:0", "--transport", transport], more].concat())
}

/// What curl says: the body, and the version of HTTP.
fn curl(arguments: &[&str], input: &[u8]) -> Option<(Vec<u8>, String)> {
    let fixed = ["-sS", "--fail", "--insecure", "-H", "Expect:", "-w", "%{stderr}%{http_version}"];
    let output = client("curl", &[&fixed, arguments].concat(), input)?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some((output.stdout, String::from_utf8(output.stderr).unwrap()))
}

fn pattern() -> Vec<u8> {
    (0..3_000_000_usize).map(|index| (index * 7 % 251) as u8).collect()
}

#[test]
fn curl_speaks_each_version_with_tls_and_without() {
    on_each_transport(|transport| {
        for (scheme, options) in [("http", &[][..]), ("https", &["--tls"])] {
            let server = serve("http", transport, options);
            let url = |path: &str| format!("{scheme}://{}{path}", server.address);
            for (flag, version) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
                let Some((hello, spoken)) = curl(&[flag, &url("/")], b"") else { return };
                assert_eq!((&hello[..], &spoken[..]), (&b"hello from core 0\n"[..], version));
                for path in ["/echo", "/through"] {
                    let arguments = [flag, "--data-binary", "@-", &url(path)];
                    let Some((body, _)) = curl(&arguments, &pattern()) else { return };
                    assert!(body == pattern(), "{scheme}{path} over {version}: {} bytes", body.len());
                }
            }
            // By TLS the client need not know before.
            let Some((_, spoken)) = curl(&["--http2", &url("/")], b"") else { return };
            assert_eq!(spoken, if scheme == "https" { "2" } else { "1.1" });
        }
    });
}

#[test]
fn h2load_and_wrk_find_no_error() {
    on_each_transport(|transport| {
        for (scheme, options) in [("http", &[][..]), ("https", &["--tls"])] {
            let server = serve("http", transport, options);
            let url = format!("{scheme}://{}/", server.address);
            if let Some(output) = client("h2load", &["-n5000", "-c8", "-m16", &url], b"") {
                let report = text(&output);
                assert!(report.contains("5000 succeeded, 0 failed, 0 errored, 0 timeout"), "{report}");
                assert!(report.contains("5000 2xx"), "{report}");
            }
            if let Some(output) = client("wrk", &["-t1", "-c32", "-d1s", &url], b"") {
                let report = text(&output);
                assert!(report.contains("Requests/sec"), "{report}");
                assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
            }
        }
    });
}

#[test]
fn what_is_sent_through_comes_back_before_its_end() {
    on_each_transport(|transport| {
        let server = serve("http", transport, &[]);
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let head = "POST /through HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        for word in ["one", "two"] {
            stream.write_all(format!("3\r\n{word}\r\n").as_bytes()).unwrap();
            read_until(&mut stream, format!("3\r\n{word}\r\n").as_bytes());
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
        read_until(&mut stream, b"0\r\n\r\n");
    });
}

/// Reads until what has come ends with `end`.
fn read_until(stream: &mut impl Read, end: &[u8]) {
    let mut received = Vec::new();
    while !received.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        received.extend(byte);
    }
}

#[test]
fn openssl_agrees_on_the_newest_version_and_resumes() {
    on_each_transport(|transport| {
        let server = serve("http", transport, &["--tls"]);
        let address = server.address.to_string();
        for (more, expected) in [
            (&["-alpn", "h2"][..], "ALPN protocol: h2"),
            (&["-tls1_3"], "Protocol  : TLSv1.3"),
            (&["-tls1_2"], "Protocol  : TLSv1.2"),
            (&["-tls1_2", "-reconnect"], "Reused, TLSv1.2"),
        ] {
            let arguments = [&["s_client", "-connect", &address], more].concat();
            let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            let Some(output) = client("openssl", &arguments, if more[0] == "-alpn" { b"" } else { request })
            else {
                return;
            };
            let report = String::from_utf8_lossy(&output.stdout);
            let new_form = expected.replace("Protocol  : ", "New, ");
            assert!(report.contains(expected) || report.contains(&new_form), "{more:?}: {report}");
        }
        let output = client("openssl", &["s_client", "-tls1_1", "-connect", &address], b"").unwrap();
        assert!(!output.status.success(), "what is out of date is refused");
    });
}

#[test]
fn redis_clients_speak_tls_to_the_key_value_server() {
    on_each_transport(|transport| {
        let server = serve("key-value", transport, &["--tls"]);
        let port = server.port();
        let secured = ["-p", &port, "--tls", "--insecure"];
        let long = "x".repeat(200_000);
        let commands = format!("SET greeting hello\nGET greeting\nSET long {long}\nSTRLEN long\nGET long\n");
        let Some(output) = client("redis-cli", &secured, commands.as_bytes()) else { return };
        assert_eq!(text(&output), format!("OK\nhello\nOK\n200000\n{long}\n"));
        for pipeline in ["1", "16"] {
            let load = ["-t", "set,get", "-n", "5000", "-c", "20", "-P", pipeline, "-q"];
            let Some(output) = client("redis-benchmark", &[&secured, &load[..]].concat(), b"") else {
                return;
            };
            let report = text(&output);
            let rates = report.matches("requests per second").count();
            assert!(rates == 2 && !report.to_lowercase().contains("error"), "{report}");
        }
    });
}

/// A certificate and its key in files.
fn certificate(name: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |kind| std::env::temp_dir().join(format!("demikernel-{name}-{}.{kind}", std::process::id()));
    std::fs::write(file("cert"), made.cert.pem()).unwrap();
    std::fs::write(file("key"), made.signing_key.serialize_pem()).unwrap();
    (file("cert"), file("key"))
}

#[test]
fn a_certificate_of_ones_own_is_used_and_one_that_is_none_is_named() {
    let (cert, key) = certificate("web");
    let [cert, key] = [&cert, &key].map(|path| path.to_str().unwrap());
    for example in ["http", "key-value"] {
        let refused = |arguments: &[&str]| {
            let mut command = Command::new(built(example));
            command.args(["--listen", "127.0.0.1:0"]).args(arguments);
            let output = command.stdin(Stdio::null()).output().unwrap();
            assert!(!output.status.success());
            String::from_utf8_lossy(&output.stderr).into_owned()
        };
        assert!(refused(&["--cert", cert]).contains("--key"));
        assert!(refused(&["--cert", "/nowhere", "--key", key]).contains("/nowhere"));
        assert!(refused(&["--cert", key, "--key", key]).contains("no certificate"));
        assert!(refused(&["--cert", cert, "--key", cert]).contains(cert));
    }
    let server = serve("http", "epoll", &["--cert", cert, "--key", key]);
    // Without --insecure: it is this certificate that the server has.
    let url = format!("https://localhost:{}/", server.port());
    let Some(output) = client("curl", &["-sS", "--fail", "--cacert", cert, &url], b"") else { return };
    assert_eq!(text(&output), "hello from core 0\n");
    let _ = (std::fs::remove_file(cert), std::fs::remove_file(key));
}

#[test]
fn garbage_and_silence_leave_the_servers_at_work() {
    on_each_transport(|transport| {
        for (example, reply) in [("http", "HTTP/1.1 200"), ("key-value", "+PONG")] {
            let server = serve(example, transport, &["--tls"]);
            // These say nothing, and hold nobody up.
            let silent: Vec<_> = (0..20).map(|_| TcpStream::connect(server.address).unwrap()).collect();
            for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\xff\xff\x01", &[0x16; 5000]] {
                let mut stream = TcpStream::connect(server.address).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                // A reset while writing is an end, too.
                let _ = stream.write_all(garbage);
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.read_to_end(&mut Vec::new());
            }
            let address = server.address.to_string();
            let request = match example {
                "http" => "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                _ => "PING\r\nQUIT\r\n",
            };
            let arguments = ["s_client", "-quiet", "-ign_eof", "-connect", &address];
            let Some(output) = client("openssl", &arguments, request.as_bytes()) else { return };
            assert!(String::from_utf8_lossy(&output.stdout).contains(reply), "{output:?}");
            drop(silent);
        }
    });
}

#[test]
fn http_2_finishes_the_request_under_way_and_ends() {
    if client("curl", &["--version"], b"").is_none() {
        return;
    }
    on_each_transport(|transport| {
        for options in [&[][..], &["--tls"]] {
            let mut server = serve("http", transport, options);
            let scheme = if options.is_empty() { "http" } else { "https" };
            let url = format!("{scheme}://{}/through", server.address);
            // With -T . it does not wait for its input when there is output.
            let arguments = ["-sS", "-N", "--fail", "--insecure", "--http2-prior-knowledge", "-T", ".", &url];
            let mut command = Command::new("timeout");
            command.args(["20", "curl"]).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
            let curl = command.spawn();
            let mut curl = curl.unwrap();
            let (mut input, mut output) = (curl.stdin.take().unwrap(), curl.stdout.take().unwrap());
            input.write_all(b"hello ").unwrap();
            read_until(&mut output, b"hello ");
            server.signal("TERM");
            std::thread::sleep(Duration::from_millis(300));
            assert!(TcpStream::connect(server.address).is_err(), "no further connection is accepted");
            input.write_all(b"world").unwrap();
            drop(input);
            let mut rest = String::new();
            output.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "world");
            assert!(curl.wait().unwrap().success());
            assert_eq!(server.end(), Some(0));
        }
    });
}
