//! Two runs of one seed are the same to the last event, those of two seeds are not.

use crate::simulated;
use demikernel_runtime::buffer::{Buffer, BufferMut};
use demikernel_runtime::fs::File;
use demikernel_runtime::net::{TcpListener, TcpStream, UdpSocket};
use demikernel_runtime::spawn;
use demikernel_runtime::time::{Duration, Instant, sleep, timeout};
use demikernel_runtime::transport::memory::MemoryConfig;
use futures_util::{AsyncReadExt, AsyncWriteExt};
use std::cell::RefCell;
use std::rc::Rc;

/// What the program and the device have done, with the times.
type Record = (Vec<String>, Vec<String>, Vec<(&'static str, u64)>);

/// Something of everything, with more tasks and operations than one page holds.
fn record(seed: u64) -> Record {
    let mut config = MemoryConfig::default();
    (config.seed, config.trace) = (seed, true);
    (config.loss, config.duplicates, config.reorders, config.resets) = (0.1, 0.1, 0.1, 0.001);
    let (runtime, memory) = simulated(config);
    let seen = Rc::new(RefCell::new(Vec::new()));
    runtime.block_on(program(seen.clone()));
    (seen.take(), memory.trace(), demikernel_runtime::transport::Device::counters(&*memory))
}

async fn program(seen: Rc<RefCell<Vec<String>>>) {
    let start = Instant::now();
    let see = move |what: String| seen.borrow_mut().push(format!("{:?} {what}", Instant::now() - start));
    let listener = TcpListener::bind("127.0.0.1:80").await.unwrap();
    let server = spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            spawn(async move {
                let mut data = [0; 100];
                while let Ok(count @ 1..) = stream.read(&mut data).await {
                    if stream.write_all(&data[..count]).await.is_err() {
                        break;
                    }
                }
            })
            .detach();
        }
    });
    let relay = UdpSocket::bind("127.0.0.1:53").await.unwrap();
    let relay = spawn(async move {
        while let Ok((data, from)) = relay.pop_from().await {
            relay.push_to(data, from).await.unwrap();
        }
    });
    let clients = (0..150u32).map(|index| spawn(client(index, see.clone())));
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    server.abort();
    relay.abort();
}

async fn client(index: u32, see: impl Fn(String)) {
    sleep(Duration::from_micros(u64::from(index % 5))).await;
    let echo = async {
        let mut stream = TcpStream::connect("127.0.0.1:80").await?;
        let sent = vec![index as u8; 1000];
        stream.write_all(&sent).await?;
        let mut received = vec![0; 1000];
        stream.read_exact(&mut received).await?;
        std::io::Result::Ok(received == sent)
    };
    let echoed = echo.await.map_err(|error| error.kind());
    see(format!("{index} echo {echoed:?}"));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = "127.0.0.1:53".parse().unwrap();
    socket.push_to(Buffer::from(vec![index as u8]), to).await.unwrap();
    let answer = timeout(Duration::from_millis(1), socket.pop_from()).await;
    see(format!("{index} datagram {:?}", answer.is_ok()));
    let file = File::create(format!("file {}", index % 7)).await.unwrap();
    file.write_at(Buffer::from(vec![index as u8; 10]), 0).await.unwrap();
    let file = File::open(format!("file {}", index % 7)).await.unwrap();
    let read = file.read_at(BufferMut::with_capacity(10).unwrap(), 0).await.unwrap();
    see(format!("{index} file {:?}", read.first()));
}

#[test]
fn runs_of_one_seed_are_the_same() {
    let first = record(1);
    assert!(first.0.len() == 450 && first.1.len() > 1000);
    assert!(first == record(1), "on a thread that has run it before");
    let elsewhere = std::thread::spawn(|| record(1)).join().unwrap();
    assert!(first == elsewhere, "on another thread");
}

#[test]
fn runs_of_two_seeds_differ() {
    let traces: Vec<_> = (0..5).map(|seed| record(seed).1).collect();
    for (index, trace) in traces.iter().enumerate() {
        assert!(!traces[..index].contains(trace));
    }
}
