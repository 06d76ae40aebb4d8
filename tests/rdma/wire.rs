//! Streams between two machines, at a cable that loses packets. The second one serves.

use crate::in_pair;
use crate::one_sided::{all, export, told, use_memory};
use demikernel::net::{Keepalive, TcpListener, TcpStream};
use demikernel::rdma::{Access, Remote};
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

#[test]
fn memory_of_the_other_machine_is_used_over_a_cable_that_loses_packets() {
    in_pair(|here, there, number| {
        if number == 2 {
            return run(async {
                let stream = accept(here, 7103).await.unwrap();
                let window = export(&stream, 65_536, all()).await.unwrap();
                loop {
                    let data = stream.pop().await.unwrap();
                    if data.is_empty() {
                        break;
                    }
                    stream.push(data).await.unwrap();
                }
                assert_eq!(window.load(65_528), 1 << 50);
            });
        }
        run(async {
            let stream = connect((there, 7103).into()).await;
            use_memory(&stream, 5).await;
            // The end may have to be sent again, for which a runtime that goes does not wait for ever: so it goes when
            // the other has gone, whichever way that is heard of.
            stream.shutdown(Shutdown::Write).unwrap();
            let _ = stream.pop().await;
        });
    });
}

/// The last test of all, as the second machine does not survive it.
#[test]
fn the_other_machine_is_gone_in_the_middle_of_a_transfer() {
    in_pair(|here, there, number| {
        if number == 2 {
            return run(async {
                let listener = TcpListener::bind((here, 7102)).await.unwrap();
                let (silent, _) = listener.accept().await.unwrap();
                let (used, _) = listener.accept().await.unwrap();
                let _window = export(&used, 65_536, Access::READ).await.unwrap();
                let (stream, _) = listener.accept().await.unwrap();
                silent.push(Buffer::from_static(b"here")).await.unwrap();
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
            let silent = connect((there, 7102).into()).await;
            silent.set_keepalive(Keepalive::new().idle(Duration::from_secs(2))).unwrap();
            let used = connect((there, 7102).into()).await;
            let memory = told(&used).await.unwrap();
            let stream = connect((there, 7102).into()).await;
            assert_eq!(silent.pop().await.unwrap(), b"here");
            let start = Instant::now();
            // One is under way at any time, so also when the other machine ends.
            let remote = Remote::of(&used).unwrap();
            let reads = async {
                loop {
                    if let Err(error) = remote.read(memory, 0, 4000).await {
                        break error;
                    }
                }
            };
            let pushes = async {
                loop {
                    if let Err(error) = stream.push(message(0)).await {
                        break error;
                    }
                }
            };
            let (error, refused) = futures::join!(pushes, reads);
            eprintln!("{error}, {refused} after {:?}", start.elapsed());
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            assert_eq!(stream.pop().await.unwrap_err().kind(), ErrorKind::TimedOut);
            let kinds = [ErrorKind::TimedOut, ErrorKind::ConnectionAborted];
            assert!(kinds.contains(&refused.kind()), "{refused}");
            assert_eq!(used.pop().await.unwrap_err().kind(), ErrorKind::TimedOut);
            // Nothing was sent on this one.
            let error = silent.pop().await.unwrap_err();
            eprintln!("{error} after {:?}", start.elapsed());
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        });
    });
}
