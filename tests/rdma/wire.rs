//! Streams between two machines, at a cable that loses packets. The second one serves.

use crate::in_pair;
use demikernel::net::{TcpListener, TcpStream};
use demikernel::time::{Duration, Instant, sleep, timeout};
use demikernel::{Buffer, Builder, Idle};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Shutdown, SocketAddr};

const LIMIT: Duration = Duration::from_secs(60);

fn run<T>(program: impl Future<Output = T>) -> T {
    let runtime = Builder::new().transport("rdma").idle(Idle::Block).build().unwrap();
    runtime.block_on(async { timeout(LIMIT, program).await.expect("it ends") })
}

async fn accept(address: IpAddr, port: u16) -> io::Result<TcpStream> {
    let listener = TcpListener::bind((address, port)).await?;
    listener.accept().await.map(|(stream, _)| stream)
}

/// Connects as soon as the other machine listens.
async fn connect(address: SocketAddr) -> TcpStream {
    loop {
        match TcpStream::connect(address).await {
            Ok(stream) => return stream,
            Err(error) => eprintln!("{error}: once more"),
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn message(number: u32) -> Buffer {
    let bytes: Vec<u8> =
        (0..10_000u32).map(|at| (at.wrapping_mul(7) ^ number.wrapping_mul(31)) as u8).collect();
    Buffer::copy_from_slice(&bytes).unwrap()
}

const MESSAGES: u32 = 100;

#[test]
fn a_transfer_over_a_cable_that_loses_packets_is_whole() {
    in_pair(|here, there, number| {
        if number == 2 {
            return run(async {
                let stream = accept(here, 7101).await.unwrap();
                let mut received = Vec::new();
                loop {
                    let data = stream.pop().await.unwrap();
                    if data.is_empty() {
                        break;
                    }
                    received.extend_from_slice(&data);
                }
                for (number, part) in received.chunks(10_000).enumerate() {
                    assert_eq!(message(number as u32), part, "message {number}");
                }
                assert_eq!(received.len(), 10_000 * MESSAGES as usize);
                stream.push(Buffer::from_static(b"all")).await.unwrap();
            });
        }
        run(async {
            let stream = connect((there, 7101).into()).await;
            for number in 0..MESSAGES {
                stream.push(message(number)).await.unwrap();
            }
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(stream.pop().await.unwrap(), b"all");
        });
    });
}

/// The last test of all, as the second machine does not survive it.
#[test]
fn the_other_machine_is_gone_in_the_middle_of_a_transfer() {
    in_pair(|here, there, number| {
        if number == 2 {
            return run(async {
                let stream = accept(here, 7102).await.unwrap();
                let mut received = 0;
                while received < 100_000 {
                    received += stream.pop().await.unwrap().len();
                }
                // Here it ends well, whatever happens to the machine: that is turned off.
                std::fs::write("/demikernel-boot/status", "0\n").unwrap();
                std::fs::write("/proc/sysrq-trigger", "b").unwrap();
            });
        }
        run(async {
            let stream = connect((there, 7102).into()).await;
            let start = Instant::now();
            let error = loop {
                if let Err(error) = stream.push(message(0)).await {
                    break error;
                }
            };
            eprintln!("{error} after {:?}", start.elapsed());
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            assert_eq!(stream.pop().await.unwrap_err().kind(), ErrorKind::TimedOut);
        });
    });
}
