//! A server on several cores, with the kernel's sockets as its clients.

use super::Server;
use super::lab::Lab;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// More than a segment, and than a frame.
const LONG: usize = 4000;

const WAIT: Duration = Duration::from_secs(10);

/// What the cores of a server have counted, in sum, and what each of them has served.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) counters: BTreeMap<String, u64>,
    pub(crate) streams: BTreeMap<String, usize>,
    pub(crate) datagrams: BTreeMap<String, usize>,
}

impl Seen {
    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or_else(|| panic!("no counter {name:?} in {self:?}"))
    }

    /// That each of so many cores has had its share, and nothing was lost.
    pub(crate) fn assert_spread(&self, cores: usize, streams: usize, datagrams: usize) {
        for (served, all) in [(&self.streams, streams), (&self.datagrams, datagrams)] {
            assert_eq!(served.values().sum::<usize>(), all, "{self:?}");
            assert_eq!(served.len(), cores, "{self:?}");
            assert!(served.values().all(|count| count * cores * 4 > all), "{self:?}");
        }
        assert_eq!(self.counter("frames dropped as another core's ring was full"), 0);
        assert_eq!(self.counter("flows of all cores that do not follow their hash"), 0);
    }
}

/// The server, as the command line says beyond its address.
pub(crate) fn serve(lab: &Lab, address: &str, arguments: &[&str]) -> Server {
    lab.serve("cores", &[&["serve", address][..], arguments].concat())
}

/// So many connections, all kept until each has got back what it has sent, and as many datagrams from a socket each, with
/// others in fragments if they are to be.
pub(crate) fn clients(to: SocketAddr, count: usize, fragments: bool) -> Seen {
    let mut seen = Seen::default();
    let mut streams: Vec<TcpStream> = (0..count).map(|_| connected(to)).collect();
    let long: Vec<u8> = (0..LONG).map(|index| index as u8).collect();
    for stream in &mut streams {
        *seen.streams.entry(ask(stream, b"core")).or_default() += 1;
        stream.write_all(&long).unwrap();
    }
    for stream in &mut streams {
        let mut back = vec![0; LONG];
        stream.read_exact(&mut back).unwrap();
        assert!(back == long);
    }
    for _ in 0..count {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(WAIT)).unwrap();
        *seen.datagrams.entry(String::from_utf8(exchange(&socket, to, b"core")).unwrap()).or_default() += 1;
        if fragments {
            assert!(exchange(&socket, to, &long) == long);
        }
    }
    count_up(&mut seen, streams);
    seen
}

/// Each core of which there is a connection is asked for its counters once.
fn count_up(seen: &mut Seen, streams: Vec<TcpStream>) {
    let mut asked = Vec::new();
    for mut stream in streams {
        let core = ask(&mut stream, b"core");
        if asked.contains(&core) {
            continue;
        }
        asked.push(core);
        stream.write_all(b"counters").unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"\n\n") {
            let mut part = [0; 4096];
            let length = read(&mut stream, &mut part);
            assert!(length > 0);
            text.extend(&part[..length]);
        }
        for line in String::from_utf8(text).unwrap().lines() {
            let Some((name, value)) = line.rsplit_once(": ") else { continue };
            *seen.counters.entry(name.to_owned()).or_default() += value.parse::<u64>().unwrap();
        }
    }
}

fn connected(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, WAIT).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads what there is. With a time-out a signal ends the call, whoever it was for (signal(7)).
fn read(stream: &mut TcpStream, to: &mut [u8]) -> usize {
    loop {
        match stream.read(to) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other.unwrap(),
        }
    }
}

fn ask(stream: &mut TcpStream, question: &[u8]) -> String {
    stream.write_all(question).unwrap();
    let mut answer = [0; 16];
    let length = read(stream, &mut answer);
    String::from_utf8(answer[..length].to_vec()).unwrap()
}

fn exchange(socket: &UdpSocket, to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    socket.send_to(bytes, to).unwrap();
    let mut back = vec![0; LONG + 1];
    let (length, from) = socket.recv_from(&mut back).unwrap();
    assert_eq!(from, to);
    back.truncate(length);
    back
}

/// The addresses of a server.
pub(crate) const BOTH: &[&str] = &["10.9.0.2:7000", "[fd00:9::2]:7000"];

/// Servers on two cores at these addresses and on one core only; each ends when it is told to.
pub(crate) fn two_cores_serve(lab: &Lab, addresses: &[&str], fragments: bool) {
    let (cores, count) = (2, "2");
    for address in addresses {
        let mut server = serve(lab, address, &[count]);
        let seen = clients(server.address, 40 * cores, fragments);
        seen.assert_spread(cores, 40 * cores, 40 * cores);
        // Somewhere: the kernel's own hash is another.
        assert!(seen.counter("frames handed to other cores") > 0);
        server.signal("TERM");
        assert_eq!(server.end(), Some(0));
    }
    for only in 0..cores {
        let only = only.to_string();
        let mut server = serve(lab, "10.9.0.2:7000", &[count, "only", &only]);
        let seen = clients(server.address, 30, fragments);
        assert_eq!((seen.streams.get(&only), seen.datagrams.get(&only)), (Some(&30), Some(&30)), "{seen:?}");
        assert!(seen.counter("flows of all cores that do not follow their hash") > 0);
        server.signal("TERM");
        assert_eq!(server.end(), Some(0));
    }
}
