//! The ports of Demikernel's examples, with the kernel's sockets at the other end: what comes back is compared byte by byte.

use super::lab::Lab;
use super::{Server, built, text};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Output};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(20);

/// Where the programs run.
pub(crate) struct Place {
    /// Their address.
    ours: IpAddr,
    /// The kernel's.
    theirs: IpAddr,
    variables: Vec<(String, String)>,
}

impl Place {
    /// Sockets of the kernel.
    pub(crate) fn loopback(transport: &str) -> Place {
        let variables = vec![("DEMIKERNEL_TRANSPORT".to_owned(), transport.to_owned())];
        Place { ours: Ipv4Addr::LOCALHOST.into(), theirs: Ipv4Addr::LOCALHOST.into(), variables }
    }

    /// The stack in a lab, by IPv4 and by IPv6.
    pub(crate) fn on(lab: &Lab) -> [Place; 2] {
        [("10.9.0.2", "10.9.0.1"), ("fd00:9::2", "fd00:9::1")].map(|(ours, theirs)| Place {
            ours: ours.parse().unwrap(),
            theirs: theirs.parse().unwrap(),
            variables: lab.variables().map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        })
    }

    fn listen(&self) -> String {
        SocketAddr::new(self.ours, 0).to_string()
    }

    fn start(&self, example: &str, arguments: &[&str]) -> Server {
        let variables: Vec<(&str, &str)> =
            self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Server::start_with(example, arguments, &variables)
    }

    fn run(&self, example: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.arg("60").arg(built(example)).args(arguments);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.output().unwrap()
    }

    /// A server of one thread for each of `clients`, which does `serve`.
    fn serve<T: Send + 'static>(&self, clients: usize, serve: fn(TcpStream) -> T) -> Theirs<T> {
        let listener = TcpListener::bind((self.theirs, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let all = spawn(move || {
            let streams = (0..clients).map(|_| limited(listener.accept().unwrap().0));
            let threads: Vec<_> = streams.map(|stream| spawn(move || serve(stream))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        Theirs { address: address.to_string(), all }
    }
}

/// A server of the test's own.
struct Theirs<T> {
    address: String,
    all: JoinHandle<Vec<T>>,
}

fn limited(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.set_write_timeout(Some(WAIT)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn connect(server: &Server) -> TcpStream {
    limited(TcpStream::connect_timeout(&server.address, WAIT).unwrap())
}

/// Bytes that say whose they are.
fn bytes(length: usize, whose: usize) -> Vec<u8> {
    (0..length).map(|place| (place * 31 + place / 251 + whose * 7) as u8).collect()
}

/// What the ports send in a round.
fn letters(size: usize, round: usize) -> Vec<u8> {
    (0..size).map(|place| ((round % 254 + place) % 254 + 1) as u8).collect()
}

/// Sends back what comes, and gives it.
fn echo(mut stream: TcpStream) -> Vec<u8> {
    let (mut all, mut room) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut room).unwrap() {
            0 => return all,
            length => {
                stream.write_all(&room[..length]).unwrap();
                all.extend(&room[..length]);
            }
        }
    }
}

/// Sends back what comes, but for one bit of one byte of the third hundred.
fn echo_with_a_fault(mut stream: TcpStream) -> io::Result<()> {
    let mut data = [0; 300];
    stream.read_exact(&mut data)?;
    data[234] ^= 1;
    stream.write_all(&data)?;
    stream.read(&mut data).map(drop)
}

#[track_caller]
fn fails_with(output: &Output, why: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains(why), "{:?} {errors}", output.status);
}

pub(crate) fn the_echo_server_has_many_clients(place: &Place) {
    const CLIENTS: usize = 40;
    let mut server = place.start("pdpix-tcp-echo", &["--peer", "server", "--address", &place.listen()]);
    let mut streams: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(&server)).collect();
    for round in 0..3 {
        for (index, stream) in streams.iter_mut().enumerate() {
            stream.write_all(&bytes(1000 + 300 * index, index + round)).unwrap();
        }
        for (index, stream) in streams.iter_mut().enumerate().rev() {
            let mut reply = vec![0; 1000 + 300 * index];
            stream.read_exact(&mut reply).unwrap();
            assert!(reply == bytes(reply.len(), index + round), "client {index}, round {round}");
        }
        // Some go, with and without the last word.
        drop(streams.remove(3));
        let mut last = streams.pop().unwrap();
        last.write_all(b"last words").unwrap();
        last.shutdown(Shutdown::Write).unwrap();
        let mut reply = String::new();
        last.read_to_string(&mut reply).unwrap();
        assert_eq!(reply, "last words");
    }
    server.signal("TERM");
    assert_eq!(server.end(), Some(0));
}

/// A client that does not read, for whom the server must neither stop nor keep everything.
pub(crate) fn the_echo_server_goes_on_beside_a_client_that_does_not_read(place: &Place) {
    let server = place.start("pdpix-tcp-echo", &["--peer", "server", "--address", &place.listen()]);
    let mut mute = connect(&server);
    mute.set_nonblocking(true).unwrap();
    let mut sent = 0;
    // Until nothing goes in any more for a while.
    let mut idle = 0;
    while idle < 20 {
        match mute.write(&[7; 1 << 16]) {
            Ok(length) => (sent, idle) = (sent + length, 0),
            Err(_) => {
                idle += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        assert!(sent < 256 << 20, "the server takes everything, and cannot get rid of it");
        // What it holds is what buffers of sockets hold.
    }
    let mut other = connect(&server);
    other.write_all(b"and I?").unwrap();
    let mut reply = [0; 6];
    other.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"and I?");
}

pub(crate) fn echo_clients_send_and_check_each_byte(place: &Place) {
    const SIZE: usize = 3000;
    for mode in ["sequential", "concurrent"] {
        let theirs = place.serve(8, echo);
        let client = ["--peer", "client", "--address", &theirs.address, "--run-mode", mode];
        let load = ["--nclients", "8", "--nrequests", "20", "--bufsize", "3000"];
        let report = text(&place.run("pdpix-tcp-echo", &[&client[..], &load].concat()));
        assert!(report.contains("client: 8 connected\n"), "{report}");
        assert!(report.contains("client: 160 requests of 3000 bytes, p50 "), "{report}");
        let mut seen = theirs.all.join().unwrap();
        // Whose is whose is only known by what they sent.
        for number in 0..8 {
            let sent: Vec<u8> = (0..20).flat_map(|request| letters(SIZE, number * 7 + request)).collect();
            let index = seen.iter().position(|all| *all == sent).expect("what a client sends");
            seen.remove(index);
        }
    }
    let theirs = place.serve(1, echo_with_a_fault);
    let client = ["--peer", "client", "--address", &theirs.address, "--nrequests", "1", "--bufsize", "300"];
    fails_with(
        &place.run("pdpix-tcp-echo", &client),
        &format!("request 0: {} came back instead of {}", 235 ^ 1, 235),
    );
    let _ = theirs.all.join();
}

pub(crate) fn ping_pong_checks_each_byte_at_both_ends(place: &Place) {
    // As the client of ours.
    let start = || place.start("pdpix-tcp-ping-pong", &["--server", &place.listen(), "--rounds", "300"]);
    let mut server = start();
    let mut stream = connect(&server);
    for round in 0..300 {
        let ping = letters(64, round);
        // In two pieces.
        stream.write_all(&ping[..10]).unwrap();
        stream.write_all(&ping[10..]).unwrap();
        let mut pong = [0; 64];
        stream.read_exact(&mut pong).unwrap();
        assert_eq!(&pong[..], &ping[..], "round {round}");
    }
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "it has done its rounds");
    drop(stream);
    assert_eq!(server.end(), Some(0));
    let mut server = start();
    let mut stream = connect(&server);
    stream.write_all(&letters(64, 1)).unwrap();
    assert_eq!(server.end(), Some(1), "that was not round 0");
    drop(stream);

    // As the server of ours.
    let theirs = place.serve(1, echo);
    let arguments = ["--client", &theirs.address, "--rounds", "300"];
    let report = text(&place.run("pdpix-tcp-ping-pong", &arguments));
    assert_eq!(report, "client: 300 rounds of 64 bytes\n");
    let sent: Vec<u8> = (0..300).flat_map(|round| letters(64, round)).collect();
    assert!(theirs.all.join().unwrap() == [sent]);
    let theirs = place.serve(1, echo_with_a_fault);
    let arguments = ["--client", &theirs.address, "--rounds", "1", "--size", "300"];
    fails_with(&place.run("pdpix-tcp-ping-pong", &arguments), "round 0: 234 came back instead of 235");
    let _ = theirs.all.join();
}

pub(crate) fn the_relay_passes_on_each_byte(place: &Place) {
    let socket = || {
        let socket = UdpSocket::bind((place.theirs, 0)).unwrap();
        socket.set_read_timeout(Some(WAIT)).unwrap();
        socket
    };
    let (target, client) = (socket(), socket());
    let remote = target.local_addr().unwrap().to_string();
    let mut relay = place.start("pdpix-udp-relay", &["--local", &place.listen(), "--remote", &remote]);
    for (whose, size) in [0, 1, 64, 1000, 1472, 5000].into_iter().enumerate() {
        let sent = bytes(size, whose);
        client.send_to(&sent, relay.address).unwrap();
        let mut room = [0; 6000];
        let (length, from) = target.recv_from(&mut room).unwrap();
        assert!(room[..length] == sent, "{length} bytes instead of {size}");
        assert_eq!(from, relay.address);
    }
    // A burst, in order.
    for whose in 0..50 {
        client.send_to(&bytes(200, whose), relay.address).unwrap();
    }
    for whose in 0..50 {
        let mut room = [0; 300];
        let length = target.recv(&mut room).unwrap();
        assert!(room[..length] == bytes(200, whose), "datagram {whose}");
    }
    relay.signal("INT");
    assert_eq!(relay.end(), Some(0));
}

pub(crate) fn pipes_carry_each_byte(place: &Place) {
    for (mode, rounds) in [("ping-pong", "128"), ("push-pop", "5000")] {
        let arguments = ["--run-mode", mode, "--rounds", rounds, "--size", "1000"];
        let report = text(&place.run("pdpix-pipe", &arguments));
        for who in ["client", "server"] {
            assert!(report.contains(&format!("{who}: {rounds} rounds of 1000 bytes\n")), "{mode}: {report}");
        }
    }
}
