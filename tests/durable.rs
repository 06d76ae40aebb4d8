//! The key-value example with a log: what it has acknowledged survives that it is killed.
#![cfg(feature = "io-uring")]

mod programs;

use programs::{Server, built};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const CLIENTS: usize = 8;

/// Keys of each client: few enough for the log to begin anew some times.
const PLACES: usize = 50;

/// Long enough for some values to take several blocks.
fn value(client: usize, count: usize) -> Vec<u8> {
    format!("{client}:{count} ").repeat(1 + count % 300).into_bytes()
}

struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    /// A request; the reply, if the server lives to give it.
    fn say(&mut self, words: &[&[u8]]) -> Option<Vec<u8>> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request).ok()?;
        let mut line = String::new();
        self.stream.read_line(&mut line).ok().filter(|_| line.ends_with("\r\n"))?;
        let Some(length) = line.strip_prefix('$') else { return Some(line.trim_end().as_bytes().to_vec()) };
        let length: i64 = length.trim_end().parse().unwrap();
        let Ok(length) = usize::try_from(length) else { return Some(b"(nil)".to_vec()) };
        let mut value = vec![0; length + 2];
        self.stream.read_exact(&mut value).ok()?;
        value.truncate(length);
        Some(value)
    }
}

/// Writes until the server is gone. How many of its values, and of its increments, were acknowledged.
fn load(address: SocketAddr, client: usize, from: usize) -> (usize, i64) {
    let mut connection = Client::connect(address);
    let (mut count, mut sum) = (from, 0);
    loop {
        let key = format!("{client}:{}", count % PLACES);
        let Some(reply) = connection.say(&[b"SET", key.as_bytes(), &value(client, count)]) else { break };
        assert_eq!(reply, b"+OK");
        count += 1;
        let counter = format!("counter {client}");
        let Some(reply) = connection.say(&[b"INCR", counter.as_bytes()]) else { break };
        sum = std::str::from_utf8(&reply[1..]).unwrap().parse().unwrap();
        if count % 50 == 0 {
            let gone = format!("gone {client}");
            let words: [&[u8]; 3] = [b"SET", gone.as_bytes(), b"x"];
            if connection.say(&words).is_none() || connection.say(&[b"DEL", gone.as_bytes()]).is_none() {
                break;
            }
        }
    }
    (count, sum)
}

fn check(address: SocketAddr, client: usize, count: usize, sum: i64) {
    let mut connection = Client::connect(address);
    for place in 0..PLACES.min(count) {
        // The last value of each place, or the one that was not acknowledged any more.
        let last = count - 1 - (count - 1 - place) % PLACES;
        let found = connection.say(&[b"GET", format!("{client}:{place}").as_bytes()]).unwrap();
        let under_way = count % PLACES == place && found == value(client, count);
        assert!(found == value(client, last) || under_way, "client {client} place {place}");
    }
    let found = connection.say(&[b"GET", format!("counter {client}").as_bytes()]).unwrap();
    let found: i64 = std::str::from_utf8(&found).unwrap().parse().unwrap();
    assert!((sum..=sum + 1).contains(&found), "client {client}: {found} of {sum}");
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
    assert_eq!(Client::connect(server.address).say(&[b"DBSIZE"]).unwrap(), b":0");
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
    let mut known = [(0, 0); CLIENTS];
    for round in 0..5 {
        let mut server = start(log, if round % 2 == 0 { "io_uring" } else { "epoll" });
        let address = server.address;
        for (client, (count, sum)) in known.iter().enumerate().filter(|(_, (count, _))| *count > 0) {
            check(address, client, *count, *sum);
        }
        let clients: Vec<_> = known
            .iter()
            .enumerate()
            .map(|(client, &(from, _))| std::thread::spawn(move || load(address, client, from)))
            .collect();
        let others = redis_benchmark(&server);
        std::thread::sleep(Duration::from_millis(150 + 130 * round));
        server.signal("KILL");
        assert_eq!(server.end(), None);
        if let Some(mut others) = others {
            // It may have ended by itself.
            let _ = others.kill();
            others.wait().unwrap();
        }
        for (known, client) in known.iter_mut().zip(clients) {
            let (count, sum) = client.join().unwrap();
            // A client that was not served has nothing new.
            *known = (count, sum.max(known.1));
        }
    }
    let total: usize = known.iter().map(|(count, _)| count).sum();
    eprintln!("{total} writes acknowledged");
    assert!(total > 100);
}

#[test]
fn times_to_live_and_the_end_by_a_signal_are_kept() {
    let path = file("durable-ttl");
    let log = Log::Path(path.clone());
    let mut server = start(&log, "epoll");
    let mut client = Client::connect(server.address);
    client.say(&[b"SET", b"long", b"1", b"EX", b"100"]).unwrap();
    client.say(&[b"SET", b"short", b"1", b"PX", b"1"]).unwrap();
    client.say(&[b"SET", b"kept", b"1", b"EX", b"100"]).unwrap();
    client.say(&[b"PERSIST", b"kept"]).unwrap();
    server.signal("TERM");
    assert_eq!(server.end(), Some(0));
    let server = start(&log, "epoll");
    let mut client = Client::connect(server.address);
    let left = client.say(&[b"TTL", b"long"]).unwrap();
    let left: i64 = std::str::from_utf8(&left[1..]).unwrap().parse().unwrap();
    assert!((80..=100).contains(&left), "{left}");
    assert_eq!(client.say(&[b"GET", b"short"]).unwrap(), b"(nil)");
    assert_eq!(client.say(&[b"TTL", b"kept"]).unwrap(), b":-1");
    assert_eq!(client.say(&[b"FLUSHDB"]).unwrap(), b"+OK");
    drop(server);
    let server = start(&log, "epoll");
    assert_eq!(Client::connect(server.address).say(&[b"DBSIZE"]).unwrap(), b":0");
    let _ = std::fs::remove_file(&path);
}
