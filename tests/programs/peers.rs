//! The kernel's side of connections with a program of ours that does something particular with them, `operations.rs`.

use super::Server;
use super::lab::{Lab, ip};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(20);

/// As the program counts.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place * 31 + place / 251) as u8).collect()
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect_timeout(&server.address, WAIT).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.set_write_timeout(Some(WAIT)).unwrap();
    stream
}

/// Ends it, and gives the numbers that it has said.
fn numbers(mut server: Server) -> Vec<usize> {
    server.signal("TERM");
    assert_eq!(server.end(), Some(0));
    server.said().iter().flat_map(|line| line.split(' ')).map(|word| word.parse().unwrap()).collect()
}

/// Sends it and meanwhile reads what comes back, until the end.
fn sent_and_returned(mut stream: TcpStream, data: Vec<u8>) -> Vec<u8> {
    let mut writer = stream.try_clone().unwrap();
    let writing = spawn(move || {
        writer.write_all(&data).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut returned = Vec::new();
    stream.read_to_end(&mut returned).unwrap();
    writing.join().unwrap();
    returned
}

pub(crate) fn tokios_copy_echoes(lab: &Lab) {
    let server = lab.serve("operations", &["copy", "10.9.0.2:0"]);
    let sent = bytes(1_000_000);
    let returned = sent_and_returned(connect(&server), sent.clone());
    assert!(returned == sent, "{} bytes came back", returned.len());
    assert_eq!(numbers(server), [1_000_000]);
}

pub(crate) fn a_push_of_many_buffers_is_whole(lab: &Lab) {
    let server = lab.serve("operations", &["pieces", "10.9.0.2:0"]);
    let mut received = Vec::new();
    connect(&server).read_to_end(&mut received).unwrap();
    assert!(received == bytes(254_529), "{} bytes came", received.len());
    assert_eq!(numbers(server), [254_529]);
}

/// Now and then the peer waits until it has everything back, so that some of the pops find nothing.
pub(crate) fn pops_that_are_given_up_lose_nothing(lab: &Lab) {
    let server = lab.serve("operations", &["give-up", "10.9.0.2:0"]);
    let mut stream = connect(&server);
    for (round, sent) in bytes(400_000).chunks(4000).enumerate() {
        for part in sent.chunks(971) {
            stream.write_all(part).unwrap();
            sleep(Duration::from_micros(50));
        }
        let mut returned = vec![0; sent.len()];
        stream.read_exact(&mut returned).unwrap();
        assert!(returned == sent, "round {round}");
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let [given_up, done] = numbers(server)[..] else { panic!("two numbers") };
    assert!(0 < done && done < given_up, "{done} of {given_up} with a result that nobody took");
}

/// A connection whose probes are answered stays, in whatever silence; then the kernel throws away what comes from it, and
/// what goes there.
pub(crate) fn a_peer_that_is_gone_is_noticed_in_silence(lab: &Lab) {
    let listener = TcpListener::bind("10.9.0.1:0").unwrap();
    let mut program = lab.serve("operations", &["keepalive", &listener.local_addr().unwrap().to_string()]);
    let (mut stream, _) = listener.accept().unwrap();
    // Longer than it takes to give up.
    stream.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
    let nothing = stream.read(&mut [0]).expect_err("the connection stays");
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    ip("route add blackhole 10.9.0.2/32");
    let start = Instant::now();
    assert_eq!(program.end(), Some(0));
    let time = start.elapsed();
    assert_eq!(program.said(), ["TimedOut"]);
    // A second of silence, or less if a probe was under way, and two until the second probe has had no answer.
    assert!((1500..6000).contains(&time.as_millis()), "after {time:?}");
}
