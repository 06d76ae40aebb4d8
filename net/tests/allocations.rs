//! After warm-up, nothing that a packet does allocates: neither in the stack nor in the transport.

#[allow(dead_code, reason = "connections that come and go do allocate")]
#[path = "../benches/stack/world.rs"]
mod world;

use demikernel_allocations::{Counting, of_thread};
use demikernel_net::device::{Capabilities, Medium, Pair};
use demikernel_net::stack::{Stack, StackConfig};
use demikernel_net::transport::NetTransport;
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::net::{TcpListener, TcpStream, UdpSocket};
use demikernel_runtime::time::{Instant, timeout};
use demikernel_runtime::{Runtime, spawn};
use std::io;
use std::time::Duration;
use world::World;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WARM_UP: usize = 1000;
const ROUNDS: usize = 1000;

/// Allocations of the rounds after the first ones.
fn count(mut round: impl FnMut()) -> u64 {
    (0..WARM_UP).for_each(|_| round());
    let before = of_thread();
    (0..ROUNDS).for_each(|_| round());
    of_thread() - before
}

#[test]
fn echoes_of_streams() {
    let mut world = World::new();
    let listener = world.listen();
    let pairs = world.connect(listener, 100);
    for size in [64, 1448] {
        let message = Buffer::copy_from_slice(&[7; 1448]).unwrap().slice(..size);
        let mut turns = pairs.iter().cycle();
        // Until timers have been in all their places.
        (0..50_000).for_each(|_| world.echo(*turns.next().unwrap(), &message));
        assert_eq!(count(|| world.echo(*turns.next().unwrap(), &message)), 0, "{size} bytes");
    }
}

/// What a connection needs only while data are under way, it leaves to others once it is idle.
#[test]
fn a_stream_that_is_idle_leaves_its_lists_to_others() {
    let mut world = World::new();
    let listener = world.listen();
    let pairs = world.connect(listener, 2);
    let message = Buffer::copy_from_slice(&[7; 64]).unwrap();
    assert_eq!(count(|| world.echo(pairs[0], &message)), 0);
    for _ in 0..30 {
        world.now += Duration::from_millis(100);
        world.settle();
    }
    let before = of_thread();
    world.echo(pairs[1], &message);
    assert_eq!(of_thread() - before, 0, "the first data of this one");
    world.echo(pairs[0], &message);
    assert!(of_thread() > before, "both need some at once");
}

#[test]
fn echoes_of_datagrams() {
    let mut world = World::new();
    let pair = world.datagrams();
    let message = Buffer::copy_from_slice(&[7; 64]).unwrap();
    assert_eq!(count(|| world.echo_datagram(pair, &message)), 0);
}

#[test]
fn streaming() {
    let mut world = World::new();
    let listener = world.listen();
    let pair = world.connect(listener, 1)[0];
    let block = Buffer::copy_from_slice(&[7; 64 << 10]).unwrap();
    assert_eq!(count(|| assert_eq!(world.stream(pair, &block), block.len())), 0);
}

/// A runtime on a stack, which speaks to itself.
fn runtime() -> (Runtime, Pair) {
    let mut capabilities = Capabilities::new(Medium::Ip, 1500);
    capabilities.scatter = true;
    let (here, there) = Pair::new(capabilities, capabilities, 64);
    let config = StackConfig::new(capabilities, [7; 32]).address("192.0.2.1".parse().unwrap(), 24);
    let runtime = Runtime::new().unwrap();
    runtime.attach(NetTransport::new("pair", Stack::new(Instant::now(), config), here).transport());
    (runtime, there)
}

/// Allocations of the rounds after the first ones, with all that the runtime does meanwhile.
async fn count_async(mut round: impl AsyncFnMut() -> io::Result<()>) -> u64 {
    let mut allocations = 0;
    for number in 0..WARM_UP + ROUNDS {
        let before = of_thread();
        timeout(Duration::from_secs(10), round()).await.expect("an answer").unwrap();
        allocations += if number < WARM_UP { 0 } else { of_thread() - before };
    }
    allocations
}

#[test]
fn the_transport_of_a_runtime() {
    let (runtime, _there) = runtime();
    let buffer = Buffer::copy_from_slice(&[7; 64]).unwrap();
    let (streams, datagrams) = runtime.block_on(async {
        let listener = TcpListener::bind("192.0.2.1:7").await.unwrap();
        let client = TcpStream::connect("192.0.2.1:7").await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        spawn(async move {
            while let Ok(data) = server.pop().await
                && !data.is_empty()
            {
                server.push(data).await.unwrap();
            }
        })
        .detach();
        let streams = count_async(async || {
            client.push(buffer.clone()).await?;
            assert_eq!(client.pop().await?.len(), 64);
            Ok(())
        })
        .await;
        let (one, other) =
            (UdpSocket::bind("192.0.2.1:1").await.unwrap(), UdpSocket::bind("192.0.2.1:2").await.unwrap());
        let datagrams = count_async(async || {
            one.push_to(buffer.clone(), "192.0.2.1:2".parse().unwrap()).await?;
            let (datagram, from) = other.pop_from().await?;
            other.push_to(datagram, from).await?;
            one.pop_from().await?;
            Ok(())
        })
        .await;
        (streams, datagrams)
    });
    assert_eq!((streams, datagrams), (0, 0));
}
