//! Much data that an echo server sends back, as it was.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Bytes that tell where they belong, and a checksum (FNV-1a, of words) of all so far.
struct Pattern {
    place: u64,
    sum: u64,
}

impl Pattern {
    fn new() -> Pattern {
        Pattern { place: 0, sum: 0xcbf2_9ce4_8422_2325 }
    }

    fn next(&mut self) -> [u8; 8] {
        let mixed = self.place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.place += 1;
        (mixed ^ mixed >> 29).to_le_bytes()
    }

    fn add(&mut self, word: &[u8]) {
        let word = u64::from_le_bytes(word.try_into().unwrap());
        self.sum = (self.sum ^ word).wrapping_mul(0x100_0000_01b3);
    }

    /// Reads so many bytes, whatever they are.
    fn sum_of(input: &mut impl Read, size: usize) -> u64 {
        let mut sum = Pattern::new();
        let mut room = vec![0; 1 << 16];
        for part in (0..size).step_by(room.len()) {
            let length = room.len().min(size - part);
            input.read_exact(&mut room[..length]).unwrap();
            room[..length].chunks_exact(8).for_each(|word| sum.add(word));
        }
        assert_eq!(input.read(&mut room).unwrap(), 0, "and then the end");
        sum.sum
    }
}

/// Sends so many bytes, a multiple of eight, to a server that sends them back meanwhile; both sums must be the same.
pub(crate) fn echoed(server: SocketAddr, size: usize) {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        let mut pattern = Pattern::new();
        let mut part = Vec::with_capacity(1 << 16);
        for at in (0..size).step_by(1 << 16) {
            part.clear();
            for _ in 0..(size - at).min(1 << 16) / 8 {
                let word = pattern.next();
                pattern.add(&word);
                part.extend_from_slice(&word);
            }
            writer.write_all(&part).unwrap();
        }
        writer.shutdown(Shutdown::Write).unwrap();
        pattern.sum
    });
    let received = Pattern::sum_of(&mut stream, size);
    assert_eq!(received, writing.join().unwrap(), "{size} bytes come back altered");
}
