//! AF_XDP sockets on one end of a veth pair, the kernel or other such sockets at the other.

mod common;

use common::{ADDRESS, alone, arp_request, ip, wait_for};
use demikernel_net::device::{
    Frame, FrameDevice, Medium, PacketConfig, PacketSocket, Xdp, XdpConfig, XdpMode,
};
use demikernel_runtime::buffer::{Buffer, BufferMut, pool};
use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A pair whose far end is the kernel's 10.9.0.1.
fn pair() -> bool {
    pair_of(1)
}

/// The same with so many queues at both ends.
fn pair_of(queues: u32) -> bool {
    if !alone() {
        return false;
    }
    let queues = format!("numrxqueues {queues} numtxqueues {queues}");
    ip(&format!("link add near {queues} type veth peer name far {queues}"));
    ip("addr add 10.9.0.1/24 dev far");
    ip("link set far up");
    ip("link set near up");
    true
}

/// Small rings, which go round soon.
fn small(interface: &str) -> XdpConfig {
    let mut config = XdpConfig::new(interface);
    (config.receive_ring, config.transmit_ring, config.memory) = (64, 64, 2 << 20);
    config
}

fn counter(device: &Xdp, name: &str) -> u64 {
    let counters = device.counters();
    counters.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name:?} in {counters:?}")).1
}

/// A frame that no stack makes anything of, with a number.
fn numbered(number: u32, length: usize) -> Frame {
    let mut frame = BufferMut::with_capacity(length).unwrap();
    frame.extend_from_slice(&[0xff; 6]);
    frame.extend_from_slice(&ADDRESS.0);
    frame.extend_from_slice(&[0x88, 0xb5]);
    frame.extend_from_slice(&number.to_be_bytes());
    frame.resize(length, number as u8);
    Frame::new(frame.freeze())
}

/// The number of such a frame that arrived whole.
fn number_of(frame: &Frame) -> Option<u32> {
    let bytes = &frame.head;
    let number = u32::from_be_bytes(bytes.get(14..18)?.try_into().unwrap());
    (bytes[12..14] == [0x88, 0xb5] && bytes[18..].iter().all(|&byte| byte == number as u8)).then_some(number)
}

#[test]
fn the_kernel_answers_a_neighbour_at_the_other_end() {
    if !pair() {
        return;
    }
    for (mode, need_wakeup, address) in [
        (XdpMode::Auto, true, Some(ADDRESS)),
        (XdpMode::Copy, true, Some(ADDRESS)),
        (XdpMode::Copy, false, Some(ADDRESS)),
        (XdpMode::Auto, true, None),
    ] {
        let mut config = small("near");
        (config.mode, config.need_wakeup, config.address) = (mode, need_wakeup, address);
        let mut device = Xdp::open(&config).unwrap();
        let Medium::Ethernet(own) = device.capabilities().medium else { panic!("an Ethernet") };
        assert_eq!((own == ADDRESS, device.capabilities().mtu), (address.is_some(), 1500));
        assert!(device.is_in_driver() && !device.is_zero_copy(), "as veth has it");
        // More often than there are entries: the rings go round.
        for round in 0..200 {
            let mut burst = vec![Frame::new(Buffer::from(arp_request()))];
            assert_eq!(device.transmit(&mut burst).unwrap(), 1, "round {round}");
            let reply = wait_for(&mut device, |frame| {
                (frame[..6] == ADDRESS.0 && frame[12..14] == [8, 6]).then(|| frame.to_vec())
            });
            assert_eq!((&reply[20..22], &reply[28..32]), (&[0, 2][..], &[10, 9, 0, 1][..]));
        }
        assert_eq!(counter(&device, "frames copied to be sent"), 200, "a `Vec` is not of the heap's");
        assert_eq!(counter(&device, "kernel: invalid frames"), 0);
    }
}

#[test]
fn bursts_arrive_in_order_without_a_copy() {
    if !pair() {
        return;
    }
    const COUNT: u32 = 5000;
    let arrived = AtomicU32::new(0);
    let is_open = Barrier::new(2);
    std::thread::scope(|scope| {
        // A range of memory of its own, as in another process.
        scope.spawn(|| {
            let mut far = Xdp::open(&small("far")).unwrap();
            is_open.wait();
            let (end, mut burst) = (Instant::now() + Duration::from_secs(20), vec![]);
            while arrived.load(Relaxed) < COUNT {
                far.receive(&mut burst).unwrap();
                for number in burst.drain(..).filter_map(|frame| number_of(&frame)) {
                    assert_eq!(number, arrived.fetch_add(1, Relaxed));
                }
                assert!(Instant::now() < end, "{arrived:?} arrived: {:?}", far.counters());
            }
            assert_eq!(counter(&far, "frames copied as received"), 0);
        });
        let mut near = Xdp::open(&small("near")).unwrap();
        is_open.wait();
        let (mut next, mut burst) = (0, vec![]);
        let end = Instant::now() + Duration::from_secs(20);
        while next < COUNT || !burst.is_empty() {
            // The far end has room for so many.
            while burst.len() < 32 && next < COUNT.min(arrived.load(Relaxed) + 50) {
                burst.push(numbered(next, [60, 600, 1514][next as usize % 3]));
                next += 1;
            }
            near.transmit(&mut burst).unwrap();
            assert!(Instant::now() < end, "{next} were sent: {:?}", near.counters());
        }
        assert_eq!(counter(&near, "frames transmitted"), u64::from(COUNT));
        assert_eq!(counter(&near, "frames copied to be sent"), 0);
        assert!(counter(&near, "wake-ups of the kernel") <= u64::from(COUNT));
    });
}

#[test]
fn a_full_ring_takes_no_more_than_it_has_room_for() {
    if !pair() {
        return;
    }
    let mut near = Xdp::open(&small("near")).unwrap();
    let mut burst: Vec<_> = (0..100).map(|number| numbered(number, 60)).collect();
    assert_eq!(near.transmit(&mut burst).unwrap(), 64);
    assert_eq!((burst.len(), number_of(&burst[0])), (36, Some(64)));
    assert_eq!(near.transmit(&mut burst).unwrap(), 36);
    burst.push(numbered(0, 1600));
    burst.push(Frame::new(Buffer::from_static(b"short")));
    assert_eq!(near.transmit(&mut burst).unwrap(), 2, "lost");
    assert_eq!((counter(&near, "frames too long"), counter(&near, "frames refused")), (1, 1));
}

#[test]
fn what_is_under_way_outlives_the_device_and_nothing_is_left_behind() {
    if !pair() {
        return;
    }
    // The heap may be a former thread's, of another test that has left something to the kernel.
    pool::trim();
    let before = pool::stats();
    let mut far = Xdp::open(&small("far")).unwrap();
    for round in 0..5 {
        let mut near = Xdp::open(&small("near")).unwrap();
        let sent = numbered(round, 1000);
        let mut burst: Vec<_> = (0..40).map(|_| Frame::new(sent.head.clone())).collect();
        assert_eq!(near.transmit(&mut burst).unwrap(), 40);
        let mut back: Vec<_> = (0..40).map(|number| numbered(number, 900)).collect();
        assert_eq!(far.transmit(&mut back).unwrap(), 40);
        let mut kept = vec![];
        let end = Instant::now() + Duration::from_secs(5);
        while kept.is_empty() && Instant::now() < end {
            near.receive(&mut kept).unwrap();
            // The kernel speaks of its own accord too.
            kept.retain(|frame| number_of(frame).is_some());
        }
        let numbers: Vec<_> = kept.iter().map(number_of).collect();
        assert!(!kept.is_empty());
        // With completions unread, frames unread, and chunks lent.
        drop(near);
        assert!(sent.head.is_unique(), "no handle is left");
        let written: Vec<_> = (0..500).map(|_| BufferMut::with_capacity(2048).unwrap()).collect();
        assert_eq!(kept.iter().map(number_of).collect::<Vec<_>>(), numbers, "still what it was");
        drop(written);
    }
    drop(far);
    pool::trim();
    let after = pool::stats();
    assert_eq!((after.in_use(), after.mapped), (before.in_use(), before.mapped));
}

#[test]
fn an_interface_that_is_switched_off_loses_frames_and_one_that_vanishes_is_an_error() {
    if !pair() {
        return;
    }
    let mut near = Xdp::open(&small("near")).unwrap();
    let send = |near: &mut Xdp| near.transmit(&mut vec![numbered(0, 100)]).unwrap();
    assert_eq!(send(&mut near), 1);
    // Without a carrier the device itself drops them, and gives the memory back.
    ip("link set far down");
    let frame = numbered(1, 100);
    near.transmit(&mut (0..10).map(|_| Frame::new(frame.head.clone())).collect()).unwrap();
    assert_eq!(counter(&near, "frames the device dropped"), 10);
    near.receive(&mut vec![]).unwrap();
    assert!(frame.head.is_unique());
    ip("link set far up");
    ip("link set near down");
    for _ in 0..200 {
        assert_eq!(send(&mut near), 1, "lost, and never in the way");
    }
    assert!(counter(&near, "frames refused") >= 199);
    ip("link set near up");
    // Until the kernel has seen that its end has a carrier again, it loses what it sends.
    let end = Instant::now() + Duration::from_secs(10);
    let mut burst = vec![];
    while !burst.drain(..).any(|frame: Frame| frame.head[12..14] == [8, 6] && frame.head[20..22] == [0, 2]) {
        assert!(Instant::now() < end, "no answer");
        near.transmit(&mut vec![Frame::new(Buffer::from(arp_request()))]).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        near.receive(&mut burst).unwrap();
    }
    ip("link del near");
    let end = Instant::now() + Duration::from_secs(5);
    let error = loop {
        match near.receive(&mut vec![]) {
            Ok(_) => assert!(Instant::now() < end, "nobody notices"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.to_string(), "the interface \"near\" is gone");
    let error = near.transmit(&mut vec![numbered(0, 100)]).unwrap_err();
    assert_eq!(error.to_string(), "the interface \"near\" is gone");
    let start = Instant::now();
    drop(near);
    assert!(start.elapsed() < Duration::from_secs(1), "nobody is waited for");
}

#[test]
fn the_descriptor_is_readable_when_something_comes() {
    if !pair() {
        return;
    }
    let mut near = Xdp::open(&small("near")).unwrap();
    let wait = |near: &Xdp, milliseconds| {
        let mut fd = libc::pollfd { fd: near.descriptor().unwrap(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, as is said.
        unsafe { libc::poll(&raw mut fd, 1, milliseconds) }
    };
    let mut arrived = vec![];
    let quiet = Instant::now() + Duration::from_secs(10);
    while wait(&near, 300) == 1 {
        // The kernel's own announcements, and the interface's beginnings.
        near.receive(&mut arrived).unwrap();
        assert!(Instant::now() < quiet);
    }
    let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
    socket.send_to(b"hello", "10.9.0.2:7").unwrap();
    assert_eq!(wait(&near, 5000), 1);
    let wanted = wait_for(&mut near, |frame| (frame[12..14] == [8, 6]).then(|| frame[38..42].to_vec()));
    assert_eq!(wanted, [10, 9, 0, 2]);
}

/// The ports from which datagrams came.
fn ports_of(device: &mut impl FrameDevice) -> Vec<u16> {
    let mut burst = vec![];
    while device.receive(&mut burst).unwrap() > 0 {}
    let datagrams =
        burst.iter().map(|frame| &frame.head).filter(|head| head[12..14] == [8, 0] && head[23] == 17);
    datagrams.map(|head| u16::from_be_bytes([head[34], head[35]])).collect()
}

/// Sends datagrams of many flows from the kernel, and counts those that come to these queues, and to the kernel.
fn flows_to(queues: Vec<u32>) -> (usize, usize) {
    let mut config = small("near");
    config.queues = queues;
    let mut near = Xdp::open(&config).unwrap();
    let mut kernel = PacketSocket::open(&PacketConfig::new("near")).unwrap();
    let (mut here, mut there) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..100 {
        let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
        socket.send_to(b"hello", "10.9.0.2:7").unwrap();
        std::thread::sleep(Duration::from_millis(1));
        here.extend(ports_of(&mut near));
        there.extend(ports_of(&mut kernel));
    }
    (here.len(), there.len())
}

#[test]
fn each_queue_has_its_flows_and_the_kernel_has_the_others() {
    if !pair_of(2) {
        return;
    }
    ip("neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev far");
    let (both, none) = flows_to(vec![0, 1]);
    assert!(both >= 95 && none == 0, "{both} and {none}");
    for queue in [0, 1] {
        let (some, others) = flows_to(vec![queue]);
        assert!((20..=80).contains(&some) && some + others >= 95, "{some} and {others}");
    }
}

/// A socket of somebody else's on a queue, without a program.
fn occupy(interface: &str, queue: u32) -> (OwnedFd, Vec<u8>) {
    let memory = vec![0_u8; 64 << 10];
    let name = std::ffi::CString::new(interface).unwrap();
    // SAFETY: options as long as is said; the memory is not written, as no address of it is given to the kernel.
    unsafe {
        let fd = libc::socket(libc::AF_XDP, libc::SOCK_RAW, 0);
        assert!(fd >= 0);
        let socket = OwnedFd::from_raw_fd(fd);
        let mut region: libc::xdp_umem_reg = std::mem::zeroed();
        region.addr = (memory.as_ptr() as u64).next_multiple_of(4096);
        (region.len, region.chunk_size) = (32 << 10, 2048);
        let set = |option, value: *const libc::c_void, length| {
            let result = libc::setsockopt(fd, libc::SOL_XDP, option, value, length);
            assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        };
        set(libc::XDP_UMEM_REG, (&raw const region).cast(), size_of_val(&region) as u32);
        let entries = 64_u32;
        for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_RX_RING] {
            set(ring, (&raw const entries).cast(), 4);
        }
        let mut address: libc::sockaddr_xdp = std::mem::zeroed();
        address.sxdp_family = libc::AF_XDP as u16;
        (address.sxdp_ifindex, address.sxdp_queue_id) = (libc::if_nametoindex(name.as_ptr()), queue);
        let length = size_of_val(&address) as u32;
        assert_eq!(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length), 0);
        (socket, memory)
    }
}

#[test]
fn what_cannot_be_opened_is_said_with_what_to_do() {
    if !pair_of(2) {
        return;
    }
    let refused = |config: XdpConfig, words: &[&str]| {
        let error = Xdp::open(&config).expect_err("opened").to_string();
        for word in words {
            assert!(error.contains(word), "{word:?} in {error:?}");
        }
    };
    refused(small("eth99"), &["no interface \"eth99\": ", "`ip link`"]);
    let zero_copy = XdpMode::ZeroCopy;
    let mut config = small("near");
    config.mode = zero_copy;
    refused(
        config.clone(),
        &["cannot open queue 0 of \"near\"", "the driver copies: use the mode copy, or auto"],
    );
    config.interface = "lo".to_owned();
    refused(
        config.clone(),
        &["the MTU of \"lo\" is 65536, and AF_XDP takes 3822 at most: `ip link set lo mtu 3822`"],
    );
    ip("link set lo mtu 1500");
    refused(config.clone(), &["\"lo\"", "use the mode copy, or auto"]);
    (config.interface, config.mode, config.queues) = ("near".to_owned(), XdpMode::Auto, vec![7]);
    refused(config.clone(), &["cannot open queue 7", "`ethtool -l near`"]);
    let (socket, memory) = occupy("near", 1);
    config.queues = vec![0, 1];
    refused(config, &["cannot open queue 1", "another socket has it"]);
    drop((socket, memory));
    let first = Xdp::open(&small("near")).unwrap();
    refused(small("near"), &["cannot attach an XDP program", "the interface has one already"]);
    drop(first);
    let mut config = small("near");
    config.memory = 512 << 20;
    refused(config, &["no memory to share with the kernel", "the limit is 268435456"]);
    ip("link set near mtu 9000");
    refused(small("near"), &["the MTU of \"near\" is 9000, and AF_XDP takes 3822 at most"]);
    ip("link set near mtu 1500");
    // This thread alone becomes nobody.
    // SAFETY: plain numbers.
    unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) };
    refused(small("near"), &["cannot make a map of sockets", "it takes root, or CAP_BPF and CAP_NET_ADMIN"]);
}

#[test]
fn what_another_one_is_about_to_leave_is_waited_for() {
    if !pair() {
        return;
    }
    let (ready, opened) = std::sync::mpsc::channel();
    // A child of a process has all its descriptors until it becomes another program: so the interface is left later
    // than the owner has left it.
    let owner = std::thread::spawn(move || {
        let device = Xdp::open(&small("near")).unwrap();
        ready.send(()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        drop(device);
    });
    opened.recv().unwrap();
    let device = Xdp::open(&small("near")).unwrap();
    assert!(device.is_in_driver(), "it is not content with the second best place");
    owner.join().unwrap();
}

#[test]
fn larger_chunks_carry_larger_frames() {
    if !pair() {
        return;
    }
    for end in ["near", "far"] {
        ip(&format!("link set {end} mtu 3000"));
    }
    let mut near = Xdp::open(&small("near")).unwrap();
    let mut far = Xdp::open(&small("far")).unwrap();
    for number in 0..100 {
        assert_eq!(near.transmit(&mut vec![numbered(number, 3014)]).unwrap(), 1);
        let mut arrived = vec![];
        let end = Instant::now() + Duration::from_secs(5);
        while arrived.iter().all(|frame| number_of(frame) != Some(number)) {
            far.receive(&mut arrived).unwrap();
            assert!(Instant::now() < end, "{:?}", far.counters());
        }
    }
}

#[test]
fn a_generic_program_serves_interfaces_without_one_of_their_own() {
    if !alone() {
        return;
    }
    ip("link set lo up mtu 1500");
    let mut lo = Xdp::open(&small("lo")).unwrap();
    assert!(!lo.is_in_driver() && !lo.is_zero_copy());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"round and round", "127.0.0.1:9").unwrap();
    let payload = wait_for(&mut lo, |frame| (frame[12..14] == [8, 0]).then(|| frame[42..].to_vec()));
    assert_eq!(payload, b"round and round");
}
