//! Our stack, with the two ends that its own benchmark uses.

#[allow(dead_code, reason = "its own benchmark does more")]
#[path = "../../../../net/benches/stack/world.rs"]
mod world;

use super::{BLOCK, MESSAGE, TOGETHER, Work};
use crate::machine;
use demikernel_allocations as allocator;
use demikernel_net::device::Frame;
use demikernel_net::stack::SocketId;
use demikernel_runtime::buffer::{Buffer, Sga, pool};
use demikernel_runtime::time::Instant;
use world::World;

/// Payload of a full segment with timestamps.
const SEGMENT: usize = 1448;

/// Connections of which each gets one packet in a burst.
const BURST: usize = 32;

pub(super) fn prepare(item: &str) -> Option<Work> {
    pool::set_limit(2 << 30);
    let mut world = World::new();
    let listener = world.listen();
    let message = Buffer::copy_from_slice(&[7; MESSAGE]).expect("the pool has room");
    match item {
        "tcp_echo_1" => Some(echo_with(1, world, listener, message)),
        "tcp_echo_1000" => Some(echo_with(1_000, world, listener, message)),
        "tcp_echo_100000" => Some(echo_with(100_000, world, listener, message)),
        "udp_echo" => {
            let pair = world.datagrams();
            Some(Box::new(move |count| {
                (0..count).for_each(|_| world.echo_datagram(pair, &message));
                None
            }))
        }
        "streaming" => {
            let pair = world.connect(listener, 1)[0];
            let block: Buffer = vec![7; SEGMENT * BLOCK].into();
            Some(Box::new(move |count| {
                for _ in 0..count.div_ceil(BLOCK as u64) {
                    world.stream(pair, &block);
                }
                None
            }))
        }
        "connections" => Some(Box::new(move |count| {
            for _ in 0..count.div_ceil(TOGETHER as u64) {
                world.come_and_go(listener, TOGETHER);
            }
            None
        })),
        "receive" | "transmit" => {
            let mut bursts = Bursts::new(world, listener, message);
            let receive = item == "receive";
            Some(Box::new(move |count| {
                let (mut receiving, mut transmitting) = (0, 0);
                for _ in 0..count.div_ceil(BURST as u64) {
                    let (received, transmitted) = bursts.one();
                    receiving += received;
                    transmitting += transmitted;
                }
                Some(if receive { receiving } else { transmitting })
            }))
        }
        _ => None,
    }
}

fn echo_with(connections: usize, mut world: World, listener: SocketId, message: Buffer) -> Work {
    let pairs = world.connect(listener, connections);
    let mut next = 0;
    Box::new(move |count| {
        for _ in 0..count {
            // Each connection once, in an order that no cache foresees.
            next = (next + 7919) % pairs.len();
            world.echo(pairs[next], &message);
        }
        None
    })
}

/// A message on each of some connections, so that both ways through a stack can be measured alone.
struct Bursts {
    world: World,
    pairs: Vec<(SocketId, SocketId)>,
    message: Buffer,
    frames: Vec<Frame>,
}

impl Bursts {
    fn new(mut world: World, listener: SocketId, message: Buffer) -> Bursts {
        let pairs = world.connect(listener, BURST);
        Bursts { world, pairs, message, frames: Vec::new() }
    }

    /// How long the server took to receive, and the client to transmit.
    fn one(&mut self) -> (u64, u64) {
        self.world.now += std::time::Duration::from_micros(10);
        let now = self.world.now;
        let start = machine::cpu_ns();
        self.transmit(now);
        let transmitted = machine::cpu_ns() - start;
        assert_eq!(self.frames.len(), BURST, "a message is a frame");
        let start = machine::cpu_ns();
        let told = self.receive(now);
        let received = machine::cpu_ns() - start;
        assert_eq!(told, BURST, "every frame is told of");
        for &(_, server) in &self.pairs {
            let data = self.world.server.stack.recv(now, server, 1 << 16).expect("the message is there");
            assert_eq!(data.len(), MESSAGE);
        }
        // Acknowledgments.
        self.world.settle();
        (received, transmitted)
    }

    /// From the call that sends to the frame.
    #[inline(never)]
    fn transmit(&mut self, now: Instant) {
        let stack = &mut self.world.client.stack;
        for &(client, _) in &self.pairs {
            stack.send(now, client, &mut Sga::from(self.message.clone())).expect("there is room");
        }
        while stack.transmit(now, &mut self.frames) > 0 {}
    }

    /// From the frame to what wakes a task.
    #[inline(never)]
    fn receive(&mut self, now: Instant) -> usize {
        let stack = &mut self.world.server.stack;
        stack.receive(now, &mut self.frames);
        std::iter::from_fn(|| stack.poll_event()).count()
    }
}

pub(super) fn memory() -> f64 {
    // Close to a power of two, so that the tables, which double, are full.
    const CONNECTIONS: usize = 32_000;
    let mut world = World::new();
    let listener = world.listen();
    let before = allocator::live();
    let pairs = world.connect(listener, CONNECTIONS);
    // Until the last timers have found nothing to do.
    for _ in 0..30 {
        world.now += std::time::Duration::from_millis(100);
        world.settle();
    }
    // Ours alone, without the list of them that is kept here.
    let list = pairs.capacity() * size_of::<(SocketId, SocketId)>();
    (allocator::live() - before - list as u64) as f64 / (2 * pairs.len()) as f64
}
