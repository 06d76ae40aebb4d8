//! `ib_send_bw` of perftest at the far end: queue pairs that are joined without the connection manager, by what both sides
//! say over TCP.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::peers::Program;
use super::*;

const MESSAGES: usize = 200;
const LEN: usize = 20_000;

/// Bytes of what is said of a queue pair.
const KEYS: usize = 108;

/// Where packets of this side begin.
const FIRST: u32 = 0xab_cdef;

/// A side's queue pair, as it tells the other.
#[derive(Debug, PartialEq)]
struct Keys {
    number: u32,
    first: u32,
    gid: [u8; 16],
}

impl Keys {
    /// Numbers in hexadecimal, with colons between them: LID, reads, queue pair, first packet, key, address, GID, shared queue.
    fn to_bytes(&self) -> [u8; KEYS] {
        let gid: Vec<_> = self.gid.iter().map(|byte| format!("{byte:02x}")).collect();
        let (number, first, gid) = (self.number, self.first, gid.join(":"));
        let text =
            format!("{:04x}:{:04x}:{number:06x}:{first:06x}:{:08x}:{:016x}:{gid}:{:08x}:", 0, 1, 0, 0, 0);
        let mut bytes = [0; KEYS];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        bytes
    }

    fn parse(bytes: &[u8; KEYS]) -> Keys {
        let text = std::str::from_utf8(bytes).unwrap();
        let numbers: Vec<_> =
            text.split(':').map_while(|number| u64::from_str_radix(number, 16).ok()).collect();
        let gid = std::array::from_fn(|at| numbers[6 + at] as u8);
        Keys { number: numbers[2] as u32, first: numbers[3] as u32, gid }
    }
}

/// The conversation beside the queue pair. Who has connected speaks first, each time.
struct Talk {
    stream: TcpStream,
    is_first: bool,
}

impl Talk {
    fn exchange<const N: usize>(&mut self, own: [u8; N]) -> [u8; N] {
        let mut its = [0; N];
        if self.is_first {
            self.stream.write_all(&own).unwrap();
        }
        self.stream.read_exact(&mut its).unwrap();
        if !self.is_first {
            self.stream.write_all(&own).unwrap();
        }
        its
    }

    /// Says the same as the other: its version, and so on; then joins a queue pair with that of the other.
    fn join(&mut self, side: &Side, pair: &QueuePair, here: IpAddr) -> Keys {
        let mut version = [0; 16];
        version[..4].copy_from_slice(b"6.10");
        let its_version = self.exchange(version);
        assert!(its_version[0].is_ascii_digit(), "{its_version:?}");
        // Bytes of its buffers that are used in turn, and of a line of a cache.
        self.exchange(4096_u32.to_be_bytes());
        self.exchange(64_u32.to_be_bytes());
        let port = side.device.active_port(1).unwrap();
        // As the constant of verbs for it.
        let mtu = b'1' + (port.mtu() / 256).trailing_zeros() as u8;
        assert_eq!(self.exchange([mtu, 0])[0], mtu);
        let gid = gid(side, here);
        let own = Keys { number: pair.number(), first: FIRST, gid: gid.raw };
        let its = Keys::parse(&self.exchange(own.to_bytes()));
        let route = Route { port: 1, gid_index: gid.index as u8, gid: Some(its.gid), ..Route::default() };
        pair.join_at(&port, &route, its.number, FIRST, its.first).unwrap();
        own
    }

    /// Waits until the other is as far.
    fn meet(&mut self, own: &Keys) {
        self.exchange(own.to_bytes());
    }
}

fn gid(side: &Side, here: IpAddr) -> Gid {
    side.device.gids().unwrap().into_iter().find(|gid| gid.address() == Some(here)).unwrap()
}

/// The program, at a port, with words of its own.
fn start(side: &Side, here: IpAddr, port: u16, more: &[&str]) -> Program {
    let mut command = Command::new("ib_send_bw");
    let (gid, port) = (gid(side, here).index.to_string(), port.to_string());
    command.args(["-d", "rxe0", "-F", "-x", &gid, "-p", &port]);
    command.args(["-n", &MESSAGES.to_string(), "-s", &LEN.to_string()]).args(more);
    Program(command.stdout(Stdio::null()).spawn().unwrap())
}

#[test]
fn keys_are_said_as_perftest_reads_them() {
    let keys = Keys { number: 0x11, first: 0xab_cdef, gid: std::array::from_fn(|at| at as u8 * 16) };
    let bytes = keys.to_bytes();
    assert!(bytes.starts_with(b"0000:0001:000011:abcdef:00000000:0000000000000000:00:10:20:"));
    assert!(bytes.ends_with(b":f0:00000000:\0"));
    assert_eq!(Keys::parse(&bytes), keys);
}

#[test]
fn ib_send_bw_receives_what_is_sent() {
    let Some(here) = address() else { return };
    let side = Side::new();
    let mut server = start(&side, here, 18_600, &[]);
    let deadline = Instant::now() + LIMIT;
    let stream = loop {
        match TcpStream::connect((here, 18_600)) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let mut talk = Talk { stream, is_first: true };
    let pair = side.pair(&tagged(1));
    let own = talk.join(&side, &pair, here);
    // Both are joined, know of it, and the other has posted its receives.
    for _ in 0..3 {
        talk.meet(&own);
    }
    let data = bytes(LEN, 7);
    let mut sent = 0;
    for _ in 0..MESSAGES {
        let mut message = data.clone().into();
        while let Err(refused) = pair.send(message, Flags::SIGNALLED, 0) {
            assert_eq!(refused.error.kind(), ErrorKind::WouldBlock);
            message = refused.work;
            assert!(matches!(side.completion().outcome, Outcome::Sent(_)));
            sent += 1;
        }
    }
    while sent < MESSAGES {
        assert!(matches!(side.completion().outcome, Outcome::Sent(_)));
        sent += 1;
    }
    talk.meet(&own);
    talk.stream.write_all(b"done\0").unwrap();
    assert!(server.0.wait().unwrap().success());
}

#[test]
fn what_ib_send_bw_sends_is_received() {
    let Some(here) = address() else { return };
    let side = Side::new();
    let listener = TcpListener::bind((here, 18_601)).unwrap();
    let mut client = start(&side, here, 18_601, &[&here.to_string()]);
    let (stream, _) = listener.accept().unwrap();
    let mut talk = Talk { stream, is_first: false };
    let pair = side.pair(&QueuePairConfig { receive_depth: MESSAGES as u32, ..tagged(1) });
    let own = talk.join(&side, &pair, here);
    for _ in 0..2 {
        talk.meet(&own);
    }
    for _ in 0..MESSAGES {
        pair.receive(space(LEN), 0).unwrap();
    }
    talk.meet(&own);
    for number in 0..MESSAGES {
        let (_, data) = received(side.completion());
        assert_eq!(data.len(), LEN, "message {number}");
    }
    talk.meet(&own);
    let mut last = [0; 5];
    talk.stream.read_exact(&mut last).unwrap();
    assert_eq!(&last, b"done\0");
    assert!(client.0.wait().unwrap().success());
}
