//! The programs of this package under clients that people use: curl, h2load, wrk, and Python's for WebSocket and gRPC.
//!
//! A client that is not installed is reported and passed over, unless `DEMIKERNEL_REQUIRE_ALL` is set.

#[allow(dead_code, reason = "the server of the tests of demikernel's examples, not all of which is needed")]
#[path = "../../tests/programs/server.rs"]
mod server;

use server::Server;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const WEB: &str = env!("CARGO_BIN_EXE_web");
const GRPC: &str = env!("CARGO_BIN_EXE_grpc");

/// Starts one of the programs on a port of the kernel's choice.
fn start(program: &str, arguments: &[&str], transport: &str) -> Server {
    let place = ["--listen", "127.0.0.1:0", "--transport", transport];
    Server::run(Command::new(program).args(arguments).args(place))
}

fn url(server: &Server, path: &str) -> String {
    format!("http://{}{path}", server.address)
}

fn on_each_transport(test: impl Fn(&str)) {
    for transport in demikernel::transports().iter().filter(|name| ["io_uring", "epoll"].contains(name)) {
        eprintln!("on {transport}");
        test(transport);
    }
}

/// The system's, which has the system's packages, whatever other one comes first in the path.
const PYTHON: &str = "/usr/bin/python3";

/// Runs a client to its end, at most half a minute.
fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.arg("30").arg(program).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The same for programs that need not be installed; `probe` finds out.
fn client(probe: &[&str], arguments: &[&str]) -> Option<String> {
    let found = Command::new(probe[0]).args(&probe[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "{probe:?} is not installed");
        eprintln!("skipped: {probe:?} is not installed");
        return None;
    }
    Some(text(&run(probe[0], arguments)))
}

#[track_caller]
fn text(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{:?}: {said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

fn curl(arguments: &[&str]) -> Option<String> {
    client(&["curl", "--version"], &[&["-sS", "--fail"], arguments].concat())
}

#[test]
fn axum_answers_in_both_versions() {
    on_each_transport(|transport| {
        let server = start(WEB, &[], transport);
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let Some(hello) = curl(&[version, &url(&server, "/")]) else { return };
            assert_eq!(hello, "hello from axum\n");
            let json = ["-H", "content-type: application/json", "-d", "{\"numbers\": [1, 2, 39]}"];
            let sum = curl(&[&[version, &url(&server, "/sum")], &json[..]].concat()).unwrap();
            assert_eq!(sum, "{\"sum\":42}");
            let start = Instant::now();
            assert_eq!(curl(&[version, &url(&server, "/count?to=4")]).unwrap(), "1\n2\n3\n4\n");
            assert!(start.elapsed() >= Duration::from_millis(300), "it comes in pieces");
        }
        let statuses = ["-w", "%{http_code}", "-o", "/dev/null"];
        for (more, status) in [(&["/nowhere"][..], "404"), (&["/sum", "-d", "x"], "415"), (&["/echo"], "426")]
        {
            let url = url(&server, more[0]);
            let arguments = [&["-sS"], &statuses[..], &more[1..], &[&url]].concat();
            assert_eq!(text(&run("curl", &arguments)), status, "{more:?}");
        }
        // wrk's own exit status for its version is an error.
        if let Some(report) = client(&["sh", "-c", "command -v wrk"], &["-c", &wrk(&server)]) {
            assert!(report.contains("Requests/sec"), "{report}");
            assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
        }
        let load = ["-n3000", "-c4", "-m16", &url(&server, "/")];
        let Some(report) = client(&["h2load", "--version"], &load) else { return };
        assert!(report.contains("3000 succeeded, 0 failed, 0 errored"), "{report}");
    });
}

fn wrk(server: &Server) -> String {
    format!("wrk -t1 -c32 -d1s {}", url(server, "/"))
}

/// Talks over a WebSocket: short, long and empty messages of both kinds, a ping, and an end by handshake.
const TALK: &str = r#"
import asyncio, sys, websockets
async def talk():
    async with websockets.connect(sys.argv[1], max_size=None, compression=None) as socket:
        for message in ["hello", "", "x" * 100000, b"\0\1\2", b"y" * 1000000]:
            await socket.send(message)
            assert await socket.recv() == message
        await asyncio.wait_for(await socket.ping(), 10)
    assert socket.close_code == 1000, socket.close_code
    async with websockets.connect(sys.argv[1], max_size=None, compression=None) as socket:
        try: # the end may come before all is sent
            await socket.send(b"z" * 2000000)
            await socket.recv()
            assert False, "more than the limit comes back"
        except websockets.ConnectionClosed:
            pass
asyncio.run(talk())
print("done")
"#;

#[test]
fn a_websocket_of_pythons_gets_its_messages_back() {
    on_each_transport(|transport| {
        let server = start(WEB, &[], transport);
        let url = format!("ws://{}/echo", server.address);
        let probe = [PYTHON, "-c", "import websockets"];
        let Some(said) = client(&probe, &["-c", TALK, &url]) else { return };
        assert_eq!(said, "done\n");
    });
}

/// A request to become a WebSocket, and a message right behind it, which hyper has read by then.
#[test]
fn what_follows_an_upgrade_at_once_is_not_lost() {
    on_each_transport(|transport| {
        let server = start(WEB, &[], transport);
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut request = b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            .to_vec();
        // A text of two bytes, masked with zeros.
        request.extend(b"\x81\x82\0\0\0\0hi");
        stream.write_all(&request).unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"\x81\x02hi") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            received.extend(byte);
        }
        let head = String::from_utf8_lossy(&received);
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    });
}

#[test]
fn the_web_server_finishes_the_request_under_way_and_ends() {
    on_each_transport(|transport| {
        let mut server = start(WEB, &[], transport);
        let mut busy = TcpStream::connect(server.address).unwrap();
        busy.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        busy.write_all(b"GET /count?to=8 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        busy.read_exact(&mut [0; 20]).unwrap();
        server.signal("TERM");
        let mut rest = String::new();
        busy.read_to_string(&mut rest).unwrap();
        assert!(rest.ends_with("8\n\r\n0\r\n\r\n"), "{rest}");
        assert_eq!(server.end(), Some(0));
    });
}

#[test]
fn both_clients_call_the_grpc_service() {
    on_each_transport(|transport| {
        let server = start(GRPC, &["serve"], transport);
        let url = url(&server, "");
        for more in [&[][..], &["--tokio"]] {
            let call = [&["call", &url, "--name", "demi", "--transport", transport], more].concat();
            assert_eq!(text(&run(GRPC, &call)), "hello, demi\n3\n2\n1\n", "{more:?}");
        }
        let nobody = run(GRPC, &["call", "http://127.0.0.1:1", "--transport", transport]);
        assert!(!nobody.status.success() && !nobody.stderr.is_empty(), "{nobody:?}");
    });
}

/// Messages as bytes: a field of number 1 with a string, or with a number.
const CALL: &str = r#"
import grpc, sys
same = dict(request_serializer=lambda b: b, response_deserializer=lambda b: b)
with grpc.insecure_channel(sys.argv[1]) as channel:
    greet = channel.unary_unary("/greeter.Greeter/Greet", **same)
    assert greet(b"\x0a\x06python", timeout=10) == b"\x0a\x0dhello, python"
    assert greet(b"", timeout=10) == b"\x0a\x07hello, "
    count = channel.unary_stream("/greeter.Greeter/CountDown", **same)
    assert list(count(b"\x08\x02", timeout=10)) == [b"\x08\x02", b"\x08\x01"]
    def refused(call, code):
        try:
            call()
            assert False, code
        except grpc.RpcError as error:
            assert error.code() == code, error
    refused(lambda: greet(b"\xff\xff", timeout=10), grpc.StatusCode.INTERNAL)
    refused(lambda: list(count(b"\x08\xff\xff\x03", timeout=10)), grpc.StatusCode.INVALID_ARGUMENT)
    other = channel.unary_unary("/greeter.Greeter/Other", **same)
    refused(lambda: other(b"", timeout=10), grpc.StatusCode.UNIMPLEMENTED)
    refused(lambda: list(count(b"\x08\xe8\x07", timeout=0.2)), grpc.StatusCode.DEADLINE_EXCEEDED)
    assert greet(b"", timeout=10) == b"\x0a\x07hello, "
print("done")
"#;

#[test]
fn pythons_grpc_calls_the_service() {
    on_each_transport(|transport| {
        let server = start(GRPC, &["serve"], transport);
        let address = server.address.to_string();
        let Some(said) = client(&[PYTHON, "-c", "import grpc"], &["-c", CALL, &address]) else {
            return;
        };
        assert_eq!(said, "done\n");
    });
}
