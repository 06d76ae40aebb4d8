//! The key-value example with a log: what it has acknowledged survives that it is killed.
#![cfg(feature = "io-uring")]

mod programs;

use programs::acknowledged::{Client, Ledger};
use programs::{Server, built};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const CLIENTS: usize = 8;

/// A client of a server on the kernel's sockets.
fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn client(server: &Server) -> Client<TcpStream> {
    Client::new(connect(server.address))
}

/// What `--log` is given.
enum Log {
    Path(PathBuf),
    /// The name of a log, and the file of the configuration.
    Name(&'static str, PathBuf),
}

fn start(log: &Log, transport: &str) -> Server {
    let arguments = ["--listen", "127.0.0.1:0", "--transport", transport, "--log"];
    match log {
        Log::Path(path) => Server::start(
            "key-value",
            &[&arguments[..], &[path.to_str().unwrap(), "--log-size", "4"]].concat(),
        ),
        Log::Name(name, configuration) => {
            let variables = [("DEMIKERNEL_CONFIG", configuration.to_str().unwrap())];
            Server::start_with("key-value", &[&arguments[..], &[*name]].concat(), &variables)
        }
    }
}

/// Somebody else's load beside ours: it is only asked to be there.
fn redis_benchmark(server: &Server) -> Option<Child> {
    let program = "redis-benchmark";
    let port = server.port();
    let arguments =
        ["-p", &port, "-t", "set,incr", "-n", "10000000", "-c", "20", "-P", "4", "-r", "100", "-q"];
    let null = Stdio::null;
    let child = Command::new(program).args(arguments).stdin(null()).stdout(null()).stderr(null()).spawn();
    assert!(child.is_ok() || std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "{program}: {child:?}");
    child.ok()
}

fn file(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

#[test]
fn what_the_key_value_server_has_acknowledged_survives_kills() {
    let path = file("durable");
    kill_and_look(&Log::Path(path.clone()));
    let _ = std::fs::remove_file(&path);
}

#[test]
fn so_it_does_in_a_named_log_on_configured_storage() {
    let (device, configuration) = (file("durable-named"), file("durable-named-toml"));
    std::fs::write(&configuration, format!("[storage]\ndevice = {device:?}\nsize = \"4MiB\"\n")).unwrap();
    kill_and_look(&Log::Name("pairs", configuration.clone()));
    // Others have logs of their own there.
    let other = Log::Name("others", configuration.clone());
    let mut server = start(&other, "epoll");
    assert_eq!(client(&server).say(&[b"DBSIZE"]).unwrap(), b":0");
    server.signal("TERM");
    assert_eq!(server.end(), Some(0));
    for path in [device, configuration] {
        let _ = std::fs::remove_file(&path);
    }
}

#[test]
fn a_name_without_storage_is_refused() {
    let mut server = Command::new(built("key-value"));
    server.args(["--listen", "127.0.0.1:0", "--log", "pairs"]).env_remove("DEMIKERNEL_CONFIG");
    let output = server.env_remove("DEMIKERNEL_STORAGE").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--log pairs: nothing says where") && said.contains("./pairs"), "{said}");
}

/// Kills servers under load, and looks whether the next one has all that was acknowledged.
fn kill_and_look(log: &Log) {
    let mut ledger = Ledger::new(CLIENTS);
    for round in 0..5 {
        let mut server = start(log, if round % 2 == 0 { "io_uring" } else { "epoll" });
        let address = server.address;
        ledger.check(|| connect(address));
        let others = redis_benchmark(&server);
        ledger.load(
            || connect(address),
            || {
                std::thread::sleep(Duration::from_millis(150 + 130 * round));
                server.signal("KILL");
                assert_eq!(server.end(), None);
            },
        );
        if let Some(mut others) = others {
            // It may have ended by itself.
            let _ = others.kill();
            others.wait().unwrap();
        }
    }
    eprintln!("{} writes acknowledged", ledger.writes());
    assert!(ledger.writes() > 100);
}

#[test]
fn times_to_live_and_the_end_by_a_signal_are_kept() {
    let path = file("durable-ttl");
    let log = Log::Path(path.clone());
    let mut server = start(&log, "epoll");
    let mut one = client(&server);
    one.say(&[b"SET", b"long", b"1", b"EX", b"100"]).unwrap();
    one.say(&[b"SET", b"short", b"1", b"PX", b"1"]).unwrap();
    one.say(&[b"SET", b"kept", b"1", b"EX", b"100"]).unwrap();
    one.say(&[b"PERSIST", b"kept"]).unwrap();
    server.signal("TERM");
    assert_eq!(server.end(), Some(0));
    let server = start(&log, "epoll");
    let mut one = client(&server);
    let left = one.say(&[b"TTL", b"long"]).unwrap();
    let left: i64 = std::str::from_utf8(&left[1..]).unwrap().parse().unwrap();
    assert!((80..=100).contains(&left), "{left}");
    assert_eq!(one.say(&[b"GET", b"short"]).unwrap(), b"(nil)");
    assert_eq!(one.say(&[b"TTL", b"kept"]).unwrap(), b":-1");
    assert_eq!(one.say(&[b"FLUSHDB"]).unwrap(), b"+OK");
    drop(server);
    let server = start(&log, "epoll");
    assert_eq!(client(&server).say(&[b"DBSIZE"]).unwrap(), b":0");
    let _ = std::fs::remove_file(&path);
}
