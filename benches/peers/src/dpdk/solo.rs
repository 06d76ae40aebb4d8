//! Both ends of a cable in one thread: what sending and receiving take, without waiting for another core.

use super::ends::{Cable, SIZE, echo_all, echo_datagrams, round_trip, send_all};
use crate::machine;
use demikernel::net::{TcpListener, TcpStream, UdpSocket};
use demikernel::time::Instant;
use demikernel::{Buffer, Idle, spawn};
use demikernel_allocations as allocator;
use demikernel_dpdk::{Packet, Queue};
use demikernel_net::device::{Dpdk, FrameDevice};
use demikernel_net::stack::{Stack, StackConfig};
use demikernel_net::transport::NetTransport;
use demikernel_runtime::Runtime;
use demikernel_runtime::buffer::Sga;
use demikernel_runtime::transport::Network;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// Round trips of which one figure is made.
const ROUND_TRIPS: usize = 10_000;
/// Bytes of a stream, or of frames, of which one figure is made.
const BYTES: usize = 64 << 20;
/// Figures of which the median is printed, after as many again to warm up.
const FIGURES: usize = 25;
/// What is under way of bare frames: no more than either ring has room for.
const BURST: usize = 32;

/// A frame as it comes from a queue and as it goes to one.
type Bare = (Buffer, Sga);

/// What one thread measures.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Item {
    /// Round trips of bare frames
    Trip,
    /// Bare frames as fast as they go
    Frames,
    /// Round trips over UDP
    Udp,
    /// Round trips over TCP
    Tcp,
    /// TCP as fast as it goes
    Stream,
}

/// Prints nanoseconds per round trip of a bare frame, over UDP and over TCP, and Gb/s of bare frames and of TCP; or one of
/// them.
pub(super) fn run(cable: &Cable, only: Option<Item>) -> io::Result<()> {
    let (mut near, mut far) = open(cable)?;
    if let Some(item) = only {
        let figures = match item {
            Item::Trip => round_trip_of_frames(&mut near, &mut far)?,
            Item::Frames => frames(&mut near, &mut far, usize::from(cable.mtu()) + 14)?,
            item => over_stacks(near, far, |it| it == item)?.remove(0),
        };
        let per_unit = figures.median();
        match item {
            Item::Frames | Item::Stream => println!("{}", 8.0 / per_unit),
            Item::Trip | Item::Udp | Item::Tcp => println!("{per_unit}"),
        }
        return Ok(());
    }
    let trip = round_trip_of_frames(&mut near, &mut far)?;
    let frames = frames(&mut near, &mut far, usize::from(cable.mtu()) + 14)?;
    let all: Vec<_> = over_stacks(near, far, |_| true)?.iter().map(Figures::median).collect();
    let (trip, frames) = (trip.median(), frames.median());
    println!("{trip} {} {} {} {}", all[0], all[1], 8.0 / frames, 8.0 / all[2]);
    Ok(())
}

/// Prints allocations per round trip over UDP and over TCP.
pub(super) fn count_allocations(cable: &Cable) -> io::Result<()> {
    assert!(allocator::is_counting(), "only the program `allocations` counts");
    let (near, far) = open(cable)?;
    let all = over_stacks(near, far, |item| item != Item::Stream)?;
    println!("{} {}", all[0].allocations(), all[1].allocations());
    Ok(())
}

/// Both ends, joined.
fn open(cable: &Cable) -> io::Result<(Queue, Queue)> {
    let (mut near, mut far) = (cable.queue(0)?, cable.queue(1)?);
    while !near.port().link().up {
        (near.receive(drop), far.receive(drop));
    }
    Ok((near, far))
}

/// Those that are wanted of round trips over UDP and TCP, and bytes of a stream.
fn over_stacks(near: Queue, far: Queue, wanted: impl Fn(Item) -> bool) -> io::Result<Vec<Figures>> {
    let runtime = demikernel_runtime::Builder::new().idle(Idle::Spin).build()?;
    let near = attach(&runtime, near, "10.66.0.1");
    let far = attach(&runtime, far, "10.66.0.2");
    runtime.block_on(async {
        let mut figures = Vec::new();
        if wanted(Item::Udp) {
            figures.push(udp(&near, &far).await?);
        }
        if wanted(Item::Tcp) {
            let (stream, peer) = connect(&near, &far).await?;
            figures.push(tcp(&stream, peer).await?);
        }
        if wanted(Item::Stream) {
            let (stream, peer) = connect(&near, &far).await?;
            figures.push(goodput(stream, peer).await?);
        }
        Ok(figures)
    })
}

/// Takes what is sent from one end to the other. A ring has room when its other end was looked at.
fn pass(from: &mut Queue, to: &mut Queue, frames: &mut Vec<Bare>, mut take: impl FnMut(Packet)) {
    while !frames.is_empty() {
        from.transmit(frames);
        while to.receive(&mut take) > 0 {}
    }
}

fn round_trip_of_frames(near: &mut Queue, far: &mut Queue) -> io::Result<Figures> {
    let frame = Buffer::copy_from_slice(&[0; SIZE]).map_err(io::Error::other)?;
    let (mut there, mut back) = (Vec::with_capacity(BURST), Vec::with_capacity(BURST));
    let mut figures = Figures::new(ROUND_TRIPS);
    while !figures.are_complete() {
        there.push((frame.clone(), Sga::default()));
        pass(near, far, &mut there, |packet| back.push((packet.head, packet.rest)));
        pass(far, near, &mut back, drop);
        figures.add(1);
    }
    Ok(figures)
}

fn frames(near: &mut Queue, far: &mut Queue, size: usize) -> io::Result<Figures> {
    let frame = Buffer::copy_from_slice(&vec![0; size]).map_err(io::Error::other)?;
    let mut frames = Vec::with_capacity(BURST);
    let mut figures = Figures::new(BYTES);
    while !figures.are_complete() {
        frames.extend((0..BURST).map(|_| (frame.clone(), Sga::default())));
        let mut bytes = 0;
        pass(near, far, &mut frames, |packet| bytes += packet.head.len() + packet.rest.len());
        figures.add(bytes);
    }
    Ok(figures)
}

/// Time of the thread per unit of something, in nanoseconds.
struct Figures {
    /// Units of which one figure is made.
    per_figure: usize,
    units: usize,
    start: u64,
    all: Vec<f64>,
    /// Units since the program was warm, and allocations when it had become so, and now.
    counted: usize,
    allocated: [u64; 2],
}

impl Figures {
    fn new(per_figure: usize) -> Figures {
        Figures {
            per_figure,
            units: 0,
            start: machine::thread_ns(),
            all: Vec::with_capacity(2 * FIGURES),
            counted: 0,
            allocated: [0; 2],
        }
    }

    fn add(&mut self, units: usize) {
        self.units += units;
        if self.units >= self.per_figure {
            let now = machine::thread_ns();
            self.all.push((now - self.start) as f64 / self.units as f64);
            if self.all.len() == FIGURES {
                self.allocated[0] = allocator::of_process();
            } else if self.all.len() > FIGURES {
                self.counted += self.units;
                self.allocated[1] = allocator::of_process();
            }
            (self.start, self.units) = (now, 0);
        }
    }

    fn are_complete(&self) -> bool {
        self.all.len() >= 2 * FIGURES
    }

    /// Per unit.
    fn allocations(&self) -> f64 {
        let [before, after] = self.allocated;
        (after - before) as f64 / self.counted.max(1) as f64
    }

    fn median(&self) -> f64 {
        let mut last = self.all[self.all.len().saturating_sub(FIGURES)..].to_vec();
        last.sort_by(f64::total_cmp);
        last[last.len() / 2]
    }
}

/// A stack of its own for a queue.
fn attach(runtime: &Runtime, queue: Queue, address: &str) -> Rc<dyn Network> {
    let device = Dpdk::new(queue, None);
    let mut config = StackConfig::new(device.capabilities(), [7; 32]);
    config = config.address(address.parse().expect("an address"), 24);
    config.duplicate_detection = demikernel_net::stack::DuplicateDetection::Off;
    let transport = NetTransport::new("end", Stack::new(Instant::now(), config), device);
    runtime.attach(transport.clone().transport());
    transport
}

async fn udp(near: &Rc<dyn Network>, far: &Rc<dyn Network>) -> io::Result<Figures> {
    let address = SocketAddr::from(([10, 66, 0, 1], 7000));
    let server = UdpSocket::bind_on(near, address).await?;
    let task = spawn(echo_datagrams(server));
    let socket = UdpSocket::bind_on(far, SocketAddr::from(([10, 66, 0, 2], 0))).await?;
    let message = Buffer::copy_from_slice(&[0x5a; SIZE]).map_err(io::Error::other)?;
    let mut figures = Figures::new(ROUND_TRIPS);
    while !figures.are_complete() {
        socket.push_to(message.clone(), address).await?;
        socket.pop_from().await?;
        figures.add(1);
    }
    drop(task);
    Ok(figures)
}

async fn connect(near: &Rc<dyn Network>, far: &Rc<dyn Network>) -> io::Result<(TcpStream, TcpStream)> {
    let address = SocketAddr::from(([10, 66, 0, 1], 7000));
    let listener = TcpListener::bind_on(near, address).await?;
    let accepting = spawn(async move { listener.accept().await });
    let stream = TcpStream::connect_on(far, address).await?;
    let (peer, _) = accepting.await??;
    for end in [&stream, &peer] {
        end.set_nodelay(true)?;
    }
    Ok((stream, peer))
}

async fn tcp(stream: &TcpStream, peer: TcpStream) -> io::Result<Figures> {
    let echo = spawn(echo_all(peer));
    let message = Buffer::copy_from_slice(&[0x5a; SIZE]).map_err(io::Error::other)?;
    let mut figures = Figures::new(ROUND_TRIPS);
    while !figures.are_complete() {
        round_trip(stream, &message).await?;
        figures.add(1);
    }
    drop(echo);
    Ok(figures)
}

async fn goodput(stream: TcpStream, peer: TcpStream) -> io::Result<Figures> {
    // It ends with an error, once the receiver has gone.
    let sending = spawn(send_all(peer));
    let mut figures = Figures::new(BYTES);
    while !figures.are_complete() {
        let data = stream.pop().await?;
        if data.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        figures.add(data.len());
    }
    drop(sending);
    Ok(figures)
}
