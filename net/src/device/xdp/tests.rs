//! Queues on both ends of a veth pair, in ways that the device does not take on such an interface.

use super::patience::Patience;
use super::program::Program;
use super::queue::{Counters, Kick, Queue, Setup, Taken};
use super::release;
use super::umem::Umem;
use crate::device::{Frame, interface};
use demikernel_runtime::buffer::{Buffer, BufferMut, pool};
use std::process::Command;
use std::time::{Duration, Instant};

/// Moves this thread to a network namespace with a veth pair; `false` where that is not allowed and need not be.
fn pair() -> bool {
    // SAFETY: affects this thread alone.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
        let error = std::io::Error::last_os_error();
        assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "no network namespace: {error}");
        eprintln!("skipped: no network namespace: {error}");
        return false;
    }
    for arguments in ["link add near type veth peer name far", "link set near up", "link set far up"] {
        let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip is installed");
        assert!(status.success(), "ip {arguments}");
    }
    true
}

struct End {
    umem: Umem,
    queue: Queue,
    counters: Counters,
    _program: Program,
}

impl End {
    fn open(name: &str, flags: u16) -> End {
        let index = interface::index(&interface::any_socket().unwrap(), name).unwrap() as u32;
        let mut umem = Umem::new(2 << 20, 2048).unwrap();
        let program = Program::attach(index, Patience::new()).unwrap();
        let setup = Setup { index, receive: 64, transmit: 64, flags };
        let mut queue = Queue::open(&setup, 0, &umem, None).unwrap();
        assert!(queue.fill(64, &mut umem));
        program.redirect(0, queue.socket()).unwrap();
        End { umem, queue, counters: Counters::default(), _program: program }
    }

    fn send(&mut self, frame: &Frame) -> Taken {
        let taken = self.queue.send(frame, &mut self.umem, &mut self.counters);
        self.queue.publish();
        assert_eq!(self.queue.kick(&mut self.umem, &mut self.counters).unwrap(), Kick::Done);
        taken
    }

    /// The next frame of ours that arrives: the kernel sends some of its own.
    fn receive(&mut self) -> Buffer {
        let end = Instant::now() + Duration::from_secs(5);
        let mut burst = vec![];
        loop {
            self.queue.receive(&mut self.umem, &mut burst, (1, 1518), &mut self.counters);
            if let Some(frame) = burst.pop().filter(|frame| frame.head[12..14] == [0x88, 0xb5]) {
                return frame.head;
            }
            assert!(Instant::now() < end, "nothing arrives");
        }
    }
}

fn near_and_far(flags: u16) -> (End, End) {
    (End::open("near", flags), End::open("far", libc::XDP_COPY))
}

/// Something that the end can reach.
fn buffer_of(end: &End, capacity: usize) -> BufferMut {
    let mut buffers = vec![];
    assert_eq!(end.umem.range().allocate(capacity, 1, &mut buffers), 1);
    buffers.pop().unwrap()
}

/// An Ethernet header of a protocol for experiments.
fn head_of(end: &End) -> Buffer {
    let mut head = buffer_of(end, 100);
    head.extend_from_slice(&[0xff; 6]);
    head.extend_from_slice(&[2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
    head.freeze()
}

fn payload_of(end: &End, length: usize) -> Buffer {
    let mut payload = buffer_of(end, length);
    (0..length).for_each(|at| payload.extend_from_slice(&[(at % 251) as u8]));
    payload.freeze()
}

#[test]
fn a_frame_in_pieces_arrives_whole_and_is_not_copied_here() {
    if !pair() {
        return;
    }
    let flags = libc::XDP_COPY | libc::XDP_USE_NEED_WAKEUP | libc::XDP_USE_SG;
    let (mut near, mut far) = near_and_far(flags);
    let head = head_of(&near);
    let payload = payload_of(&near, 16_000);
    for (from, to, parts) in [(0, 1400, 1), (1000, 2400, 1), (1900, 3300, 3), (14_600, 16_000, 2)] {
        let mut frame = Frame::new(head.clone());
        let step = (to - from) / parts;
        (0..parts).for_each(|part| {
            let end = if part + 1 == parts { to } else { from + step * (part + 1) };
            frame.rest.push(payload.slice(from + step * part..end));
        });
        let mut whole = vec![];
        frame.copy_to(&mut whole);
        assert_eq!(near.send(&frame), Taken::Yes);
        assert_eq!(far.receive(), whole[..], "{from}..{to} in {parts} parts");
    }
    assert_eq!((near.counters.copied, near.counters.transmitted), (0, 4));
    near.queue.reap(&mut near.umem);
    assert_eq!(near.umem.sending(), 0, "all pieces have come back");
    assert!(payload.is_unique());
}

#[test]
fn what_the_kernel_cannot_take_as_it_is_is_copied() {
    if !pair() {
        return;
    }
    for scatter in [true, false] {
        let flag = if scatter { libc::XDP_USE_SG } else { 0 };
        let (mut near, mut far) = near_and_far(libc::XDP_COPY | flag);
        let (head, inside) = (head_of(&near), payload_of(&near, 4000));
        let outside = Buffer::from(vec![1_u8; 300]);
        let many = (0..10).map(|part| inside.slice(part * 50..part * 50 + 50));
        let frame = |head: &Buffer, rest: Vec<Buffer>| Frame {
            head: head.clone(),
            rest: rest.into_iter().collect(),
            ..Frame::default()
        };
        let mut frames = vec![
            frame(&head, vec![outside]),
            frame(&head, many.collect()),
            frame(&head.slice(..10), vec![head.slice(10..), inside.slice(..90)]),
        ];
        if !scatter {
            frames.push(frame(&head, vec![inside.slice(..9)]));
        }
        for frame in &frames {
            let mut whole = vec![];
            frame.copy_to(&mut whole);
            assert_eq!(near.send(frame), Taken::Yes);
            assert_eq!(far.receive(), whole[..]);
        }
        assert_eq!(near.counters.copied, frames.len() as u64);
        drop((near, far));
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn frames_arrive_whoever_has_all_of_the_memory() {
    if !pair() {
        return;
    }
    let (mut near, mut far) = near_and_far(libc::XDP_COPY);
    let frame = Frame::new(head_of(&near));
    let mut kept = vec![];
    while let Some(buffer) = far.umem.allocate() {
        kept.push(buffer);
    }
    let exchange = |near: &mut End, far: &mut End| {
        near.queue.reap(&mut near.umem);
        assert_eq!(near.send(&frame), Taken::Yes);
        far.receive()
    };
    // More often than there are chunks, which would be used up.
    let copies: Vec<_> = (0..200).map(|_| exchange(&mut near, &mut far)).collect();
    assert!(copies.iter().all(|copy| far.umem.offset_of(copy).is_none()));
    assert!(far.counters.received_copied >= 200);
    assert_eq!(far.umem.receiving(), 64);
    kept.truncate(100);
    let received = exchange(&mut near, &mut far);
    assert!(far.umem.offset_of(&received).is_some(), "as it was received");
    // Without any memory it is lost, and the chunk is not.
    drop(received);
    while let Some(buffer) = far.umem.allocate() {
        kept.push(buffer);
    }
    pool::set_limit(pool::stats().mapped);
    while let Ok(buffer) = BufferMut::with_capacity(100) {
        kept.push(buffer);
    }
    near.queue.reap(&mut near.umem);
    assert_eq!(near.send(&frame), Taken::Yes);
    let end = Instant::now() + Duration::from_secs(5);
    while far.counters.no_buffer == 0 {
        assert_eq!(far.queue.receive(&mut far.umem, &mut vec![], (1, 1518), &mut far.counters), 0);
        assert!(Instant::now() < end);
    }
    drop(kept);
    exchange(&mut near, &mut far);
    assert_eq!(far.umem.receiving(), 64);
}

#[test]
fn memory_is_the_kernels_as_long_as_a_queue_has_a_socket() {
    if !pair() {
        return;
    }
    let near = End::open("near", libc::XDP_COPY);
    let index = interface::index(&interface::any_socket().unwrap(), "near").unwrap() as u32;
    let soon = || Instant::now() + Duration::from_millis(20);
    assert!(!release::wait_until(soon(), index, &[0]));
    assert!(release::wait_until(soon(), index, &[7]), "there is no such queue");
    drop(near);
    assert!(release::wait(index, &[0]), "let go of after a while");
    assert!(release::wait_until(soon(), 9999, &[0]), "there is no such interface");
}
