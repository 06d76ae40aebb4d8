//! Two stacks in one thread: `cargo bench -p demikernel-net --bench stack`.
//!
//! With `--count NAME ROUNDS` a round (`echo`, `echo:1000` on as many connections, `burst:1000` of a burst of echoes, `udp`,
//! `stream`, `connections`, `paths` of a burst) is done so often and nothing is measured, for tools that count
//! instructions: `valgrind --tool=callgrind --toggle-collect='*rounds*' target/release/deps/stack-* --count echo 10000`;
//! of `paths`, only what is meant with `--toggle-collect='*receive_path*'` or `'*transmit_path*'`.

mod world;

use criterion::{BenchmarkId, Criterion, Throughput};
use demikernel_net::device::BURST;
use demikernel_net::stack::SocketId;
use demikernel_runtime::buffer::{Buffer, pool};
use std::hint::black_box;
use std::time::{Duration, Instant};
use world::World;

/// Payload of a full segment with timestamps.
const SEGMENT: usize = 1448;

/// Segments in a block.
const BLOCK: usize = 32;

fn message(length: usize) -> Buffer {
    vec![7; length].into()
}

fn echo(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tcp_echo_64");
    for count in [1, 1_000, 100_000] {
        let mut world = World::new();
        let listener = world.listen();
        let pairs = world.connect(listener, count);
        let message = Buffer::copy_from_slice(&[7; 64]).unwrap();
        // Each connection once, in an order that no cache foresees.
        let mut next = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                next = (next + 7919) % pairs.len();
                world.echo(pairs[next], &message);
            });
        });
    }
    group.finish();
}

/// A burst of echoes, each on a connection of its own, as a device under load brings them. Figures are of one echo.
fn bursts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tcp_echo_64_in_bursts");
    for count in [BURST, 1_000, 100_000] {
        let mut world = World::new();
        let listener = world.listen();
        let pairs = world.connect(listener, count);
        let message = Buffer::copy_from_slice(&[7; 64]).unwrap();
        let mut next = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter_custom(|rounds| {
                let begin = Instant::now();
                for _ in 0..rounds {
                    world.echo_burst(&some_of(&pairs, &mut next), &message);
                }
                begin.elapsed() / BURST as u32
            });
        });
    }
    group.finish();
}

/// So many connections as a burst has frames, each other ones, in an order that no cache foresees.
fn some_of(pairs: &[(SocketId, SocketId)], next: &mut usize) -> [(SocketId, SocketId); BURST] {
    std::array::from_fn(|_| {
        *next = (*next + 7919) % pairs.len();
        pairs[*next]
    })
}

/// From frames to events, and from calls to frames. Figures are of one packet.
fn paths(criterion: &mut Criterion) {
    let mut world = World::new();
    let listener = world.listen();
    let pairs = world.connect(listener, BURST);
    let message = Buffer::copy_from_slice(&[7; 64]).unwrap();
    let mut group = criterion.benchmark_group("path_64");
    for (name, receiving) in [("receive", true), ("transmit", false)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                let mut time = Duration::ZERO;
                for _ in 0..rounds {
                    let begin = Instant::now();
                    world.transmit_path(&pairs, &message);
                    let transmitted = begin.elapsed();
                    world.carry();
                    let begin = Instant::now();
                    world.receive_path();
                    time += if receiving { begin.elapsed() } else { transmitted };
                    world.finish(&pairs);
                }
                time / BURST as u32
            });
        });
    }
    group.finish();
}

fn datagrams(criterion: &mut Criterion) {
    let mut world = World::new();
    let pair = world.datagrams();
    let message = Buffer::copy_from_slice(&[7; 64]).unwrap();
    criterion.bench_function("udp_echo_64", |bencher| bencher.iter(|| world.echo_datagram(pair, &message)));
}

fn streaming(criterion: &mut Criterion) {
    let mut world = World::new();
    let listener = world.listen();
    let pair = world.connect(listener, 1)[0];
    let block = message(SEGMENT * BLOCK);
    let mut group = criterion.benchmark_group("streaming");
    group.throughput(Throughput::Elements(BLOCK as u64));
    group.bench_function("segments", |bencher| bencher.iter(|| black_box(world.stream(pair, &block))));
    group.finish();
}

fn connections(criterion: &mut Criterion) {
    const COUNT: usize = 100;
    let mut world = World::new();
    let listener = world.listen();
    let mut group = criterion.benchmark_group("connections");
    group.throughput(Throughput::Elements(COUNT as u64));
    group.bench_function("set_up_and_tear_down", |bencher| {
        bencher.iter(|| world.come_and_go(listener, COUNT));
    });
    group.finish();
}

/// For tools that count: one round so often.
#[inline(never)]
fn rounds(world: &mut World, name: &str, count: usize) {
    let listener = world.listen();
    let (name, connections) = name.split_once(':').unwrap_or((name, "1"));
    let least = if name == "paths" { BURST } else { 1 };
    let pairs = world.connect(listener, connections.parse().unwrap_or(1).max(least));
    let datagrams = world.datagrams();
    let short = Buffer::copy_from_slice(&[7; 64]).unwrap();
    let block = message(SEGMENT * BLOCK);
    let mut next = 0;
    for round in 0..count {
        match name {
            "burst" => world.echo_burst(&some_of(&pairs, &mut next), &short),
            "paths" => {
                world.transmit_path(&some_of(&pairs, &mut next), &short);
                world.carry();
                world.receive_path();
                world.finish(&pairs);
            }
            // Of very many, only what follows after each had its turn is like what went before.
            "echo" if round < pairs.len() => world.echo(pairs[round * 7919 % pairs.len()], &short),
            "echo" => counted_echo(world, pairs[round * 7919 % pairs.len()], &short),
            "udp" => world.echo_datagram(datagrams, &short),
            "stream" => {
                world.stream(pairs[0], &block);
            }
            "connections" => world.come_and_go(listener, 1),
            _ => panic!("no round is called {name}"),
        }
    }
}

/// An echo, for tools that count only what is done here.
#[inline(never)]
fn counted_echo(world: &mut World, pair: (SocketId, SocketId), message: &Buffer) {
    world.echo(pair, message);
}

fn main() {
    pool::set_limit(2 << 30);
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(place) = arguments.iter().position(|argument| argument == "--count") {
        let name = arguments.get(place + 1).map_or("echo", String::as_str);
        let count = arguments.get(place + 2).and_then(|count| count.parse().ok()).unwrap_or(1000);
        return rounds(&mut World::new(), name, count);
    }
    let mut criterion = Criterion::default().configure_from_args();
    echo(&mut criterion);
    bursts(&mut criterion);
    paths(&mut criterion);
    datagrams(&mut criterion);
    streaming(&mut criterion);
    connections(&mut criterion);
    criterion.final_summary();
}
