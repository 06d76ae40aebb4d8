//! Clients on the kernel's side, and frames that no kernel would send.

use crate::guest::{Guest, KERNEL};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

/// Frames that [`send_wrong_checksums`] sends.
pub(crate) const WRONG: u64 = 20;

/// Bytes that differ from place to place and from stream to stream.
fn bytes(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&server, Duration::from_secs(60)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Many connections at once, each with so many messages of up to `most` bytes, one after the other.
pub(crate) fn echo_many(server: SocketAddr, connections: u32, messages: u32, most: u32) {
    let clients: Vec<_> = (0..connections)
        .map(|client| {
            thread::spawn(move || {
                let mut stream = connect(server);
                for message in 0..messages {
                    let seed = client * 1000 + message;
                    let sent = bytes((1 + seed * 7919 % most) as usize, seed);
                    stream.write_all(&sent).unwrap();
                    let mut back = vec![0; sent.len()];
                    stream.read_exact(&mut back).unwrap();
                    assert!(back == sent, "message {message} of client {client} comes back as it was");
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
}

/// So many bytes there and back.
pub(crate) fn echo_much(server: SocketAddr, length: usize) {
    let stream = connect(server);
    let (mut reader, mut writer) = (stream.try_clone().unwrap(), stream);
    let sent = bytes(length, 1);
    let expected = sent.clone();
    let sending = thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut back = Vec::with_capacity(length);
    reader.read_to_end(&mut back).unwrap();
    sending.join().unwrap();
    assert!(back == expected, "{} bytes of {length}", back.len());
}

/// Values of a key-value server that are set and come back, from many connections.
pub(crate) fn set_and_get(server: SocketAddr, connections: u32, keys: u32, length: usize) {
    let clients: Vec<_> = (0..connections)
        .map(|client| {
            thread::spawn(move || {
                let mut stream = connect(server);
                let mut replies = BufReader::new(stream.try_clone().unwrap());
                for key in (0..keys).map(|key| client * 1000 + key) {
                    let value = bytes(length, key);
                    let (name, mut line) = (format!("key-{key}"), String::new());
                    write!(stream, "*3\r\n$3\r\nSET\r\n${}\r\n{name}\r\n${length}\r\n", name.len()).unwrap();
                    stream.write_all(&[&value[..], b"\r\n"].concat()).unwrap();
                    replies.read_line(&mut line).unwrap();
                    assert_eq!(line, "+OK\r\n");
                    write!(stream, "*2\r\n$3\r\nGET\r\n${}\r\n{name}\r\n", name.len()).unwrap();
                    line.clear();
                    replies.read_line(&mut line).unwrap();
                    assert_eq!(line, format!("${length}\r\n"));
                    let mut back = vec![0; length + 2];
                    replies.read_exact(&mut back).unwrap();
                    assert!(back[..length] == value, "key {key} has its value");
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
}

/// Datagrams and segments whose checksum is wrong, from the kernel's card.
pub(crate) fn send_wrong_checksums(guest: &Guest, server: SocketAddr) {
    let SocketAddr::V4(server) = server else { unreachable!("README.md has an address of IPv4") };
    for number in 0..WRONG {
        let tcp = number % 2 == 0;
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, if tcp { 6 } else { 17 }, 0, 0];
        packet.extend(KERNEL.parse::<std::net::Ipv4Addr>().unwrap().octets());
        packet.extend(server.ip().octets());
        packet.extend(40_000u16.to_be_bytes());
        packet.extend(server.port().to_be_bytes());
        // Either way some sum is there, and no right one.
        match tcp {
            true => packet.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0xba, 0xad, 0, 0]),
            false => packet.extend([0, 8 + 4, 0xba, 0xad, 1, 2, 3, 4]),
        }
        let length = packet.len() as u16;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        let sum = !sum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        guest.send_packet(&packet);
    }
}

fn sum(header: &[u8]) -> u16 {
    let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    ((sum & 0xffff) + (sum >> 16)) as u16
}
