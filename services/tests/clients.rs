//! The programs of this package under clients that people use: curl, h2load, wrk, and Python's for WebSocket and gRPC.
//!
//! A client that is not installed is reported and passed over, unless `DEMIKERNEL_REQUIRE_ALL` is set. So is the userspace
//! stack without root, which it takes to have a network namespace for each test.

#[allow(dead_code, reason = "the labs of these tests, not all of which is needed")]
#[path = "../../tests/programs/lab.rs"]
mod lab;
#[allow(dead_code, reason = "the server of the tests of demikernel's examples, not all of which is needed")]
#[path = "../../tests/programs/server.rs"]
mod server;

use lab::Lab;
use server::Server;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const WEB: &str = "web";
const GRPC: &str = "grpc";

/// Where cargo has put a program of this package.
fn built(program: &str) -> &'static str {
    match program {
        WEB => env!("CARGO_BIN_EXE_web"),
        GRPC => env!("CARGO_BIN_EXE_grpc"),
        _ => panic!("there is no {program:?}"),
    }
}

/// Where a server runs.
struct Place<'a> {
    transport: &'a str,
    listen: &'static str,
    variables: &'a [(&'a str, &'a str)],
}

impl Place<'_> {
    fn start(&self, program: &str, arguments: &[&str]) -> Server {
        let more = ["--listen", self.listen, "--transport", self.transport];
        Server::start_with(program, &[arguments, &more].concat(), self.variables)
    }
}

impl Server {
    fn start_with(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Server {
        Server::run(Command::new(built(program)).args(arguments).envs(variables.iter().copied()))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn on_each_transport(test: impl Fn(&Place<'_>)) {
    for transport in demikernel::transports().iter().filter(|name| ["io_uring", "epoll"].contains(name)) {
        eprintln!("on {transport}");
        test(&Place { transport, listen: "127.0.0.1:0", variables: &[] });
    }
}

/// The same on the userspace stack, with the kernel's side of a link for the clients.
fn on_each_stack(name: &str, test: impl Fn(&Place<'_>)) {
    for transport in demikernel::transports() {
        let lab = match *transport {
            "tap" => Lab::tap(name, "tap", "tap0", ""),
            "packet" | "xdp" => Lab::veth(name, transport, 1),
            "dpdk" => Lab::tap(name, "dpdk", "dtap0", " multi_queue").inspect(|lab| {
                let port = "[dpdk]\nport = \"net_tap0,iface=dtap0\"\nhuge-pages = false\n";
                lab.configure(&format!("mac = \"02:00:00:00:09:02\"\n{port}"));
            }),
            _ => continue,
        };
        let Some(lab) = lab else { return };
        eprintln!("on {transport}");
        test(&Place { transport, listen: "10.9.0.2:0", variables: &lab.variables() });
    }
}

/// The system's, which has the system's packages, whatever other one comes first in the path.
const PYTHON: &str = "/usr/bin/python3";

/// Runs a client to its end, at most half a minute.
fn run(program: &str, arguments: &[&str]) -> Output {
    run_with(program, arguments, &[])
}

/// The same with variables of its environment.
fn run_with(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new("timeout");
    command.arg("30").arg(program).args(arguments).envs(variables.iter().copied());
    command.stdin(Stdio::null()).output().unwrap()
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

fn axum_answers(place: &Place<'_>) {
    let server = place.start(WEB, &[]);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let Some(hello) = curl(&[version, &server.url("/")]) else { return };
        assert_eq!(hello, "hello from axum\n");
        let json = ["-H", "content-type: application/json", "-d", "{\"numbers\": [1, 2, 39]}"];
        let sum = curl(&[&[version, &server.url("/sum")], &json[..]].concat()).unwrap();
        assert_eq!(sum, "{\"sum\":42}");
        let start = Instant::now();
        assert_eq!(curl(&[version, &server.url("/count?to=4")]).unwrap(), "1\n2\n3\n4\n");
        assert!(start.elapsed() >= Duration::from_millis(300), "it comes in pieces");
    }
    let statuses = ["-w", "%{http_code}", "-o", "/dev/null"];
    for (more, status) in [(&["/nowhere"][..], "404"), (&["/sum", "-d", "x"], "415"), (&["/echo"], "426")] {
        let url = server.url(more[0]);
        let arguments = [&["-sS"], &statuses[..], &more[1..], &[&url]].concat();
        assert_eq!(text(&run("curl", &arguments)), status, "{more:?}");
    }
    // wrk's own exit status for its version is an error.
    if let Some(report) = client(&["sh", "-c", "command -v wrk"], &["-c", &wrk(&server)]) {
        assert!(report.contains("Requests/sec"), "{report}");
        assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
    }
    let load = ["-n3000", "-c4", "-m16", &server.url("/")];
    let Some(report) = client(&["h2load", "--version"], &load) else { return };
    assert!(report.contains("3000 succeeded, 0 failed, 0 errored"), "{report}");
}

#[test]
fn axum_answers_in_both_versions() {
    on_each_transport(axum_answers);
}

#[test]
fn axum_answers_on_the_stack() {
    on_each_stack("axum", axum_answers);
}

fn wrk(server: &Server) -> String {
    format!("wrk -t1 -c32 -d1s {}", server.url("/"))
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

fn a_websocket_gets_its_messages_back(place: &Place<'_>) {
    let server = place.start(WEB, &[]);
    let url = format!("ws://{}/echo", server.address);
    let probe = [PYTHON, "-c", "import websockets"];
    let Some(said) = client(&probe, &["-c", TALK, &url]) else { return };
    assert_eq!(said, "done\n");
}

#[test]
fn a_websocket_of_pythons_gets_its_messages_back() {
    on_each_transport(a_websocket_gets_its_messages_back);
}

#[test]
fn a_websocket_of_pythons_gets_its_messages_back_on_the_stack() {
    on_each_stack("websocket", a_websocket_gets_its_messages_back);
}

/// A request to become a WebSocket, and a message right behind it, which hyper has read by then.
#[test]
fn what_follows_an_upgrade_at_once_is_not_lost() {
    on_each_transport(|place| {
        let server = place.start(WEB, &[]);
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
    on_each_transport(|place| {
        let mut server = place.start(WEB, &[]);
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

/// Our client and tonic's, in a process on this transport.
fn call(server: &Server, transport: &str, variables: &[(&str, &str)]) {
    let url = server.url("");
    for more in [&[][..], &["--tokio"]] {
        let call = [&["call", &url, "--name", "demi", "--transport", transport], more].concat();
        assert_eq!(text(&run_with(built(GRPC), &call, variables)), "hello, demi\n3\n2\n1\n", "{more:?}");
    }
}

#[test]
fn both_clients_call_the_grpc_service() {
    on_each_transport(|place| {
        call(&place.start(GRPC, &["serve"]), place.transport, &[]);
        let nobody = ["call", "http://127.0.0.1:1", "--transport", place.transport];
        let nobody = run(built(GRPC), &nobody);
        assert!(!nobody.status.success() && !nobody.stderr.is_empty(), "{nobody:?}");
    });
}

/// The service is there, and then the clients are.
#[test]
fn both_clients_call_the_grpc_service_on_the_stack() {
    on_each_stack("grpc", |place| {
        call(&place.start(GRPC, &["serve"]), "epoll", &[]);
        let kernel = Place { transport: "epoll", listen: "10.9.0.1:0", variables: &[] };
        call(&kernel.start(GRPC, &["serve"]), place.transport, place.variables);
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

fn pythons_grpc_calls(place: &Place<'_>) {
    let server = place.start(GRPC, &["serve"]);
    let address = server.address.to_string();
    let Some(said) = client(&[PYTHON, "-c", "import grpc"], &["-c", CALL, &address]) else {
        return;
    };
    assert_eq!(said, "done\n");
}

#[test]
fn pythons_grpc_calls_the_service() {
    on_each_transport(pythons_grpc_calls);
}

#[test]
fn pythons_grpc_calls_the_service_on_the_stack() {
    on_each_stack("python", pythons_grpc_calls);
}
