//! Ordinary programs on machines that are joined by simulated links.

use demikernel_net::sim::{Builder, Control, Error, LinkConfig, Simulation, Trace};
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::net::{TcpListener, TcpStream, UdpSocket};
use demikernel_runtime::time::{Instant, sleep, timeout};
use demikernel_runtime::{spawn, spawn_blocking};
use futures::{AsyncReadExt, AsyncWriteExt};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Links that delay, and do nothing else.
fn delays(delay: Duration) -> LinkConfig {
    LinkConfig { delay, ..LinkConfig::default() }
}

fn simulation(seed: u64, links: LinkConfig) -> Simulation {
    Builder::new().seed(seed).links(links).build().unwrap()
}

/// Sends back what comes, on as many connections as come.
async fn echo() -> io::Result<()> {
    let listener = TcpListener::bind("0.0.0.0:7").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        spawn(async move {
            loop {
                match stream.pop().await {
                    Ok(data) if !data.is_empty() => stream.push(data).await?,
                    other => return other.map(drop),
                }
            }
        })
        .detach();
    }
}

/// Sends so many bytes to a server that sends them back, and compares.
async fn exchange(server: &str, count: usize) -> io::Result<()> {
    let stream = TcpStream::connect(server).await?;
    let sent: Vec<u8> = (0..count).map(|place| (place ^ place >> 8) as u8).collect();
    let expected = sent.clone();
    let (mut reader, mut writer) = stream.into_split();
    let writing = spawn(async move {
        writer.write_all(&sent).await?;
        writer.close().await
    });
    let mut received = Vec::new();
    reader.read_to_end(&mut received).await?;
    writing.await??;
    assert_eq!(received.len(), count);
    assert!(received == expected, "bytes were altered");
    Ok(())
}

#[test]
fn a_round_trip_takes_what_the_links_say_and_machines_know_each_other_by_name() {
    let simulation = simulation(1, delays(ms(10)));
    simulation.host("server", echo);
    let times = simulation.block_on("client", async {
        let start = Instant::now();
        let stream = TcpStream::connect("server:7").await.unwrap();
        let connected = start.elapsed();
        stream.push("hello".into()).await.unwrap();
        assert_eq!(stream.pop().await.unwrap(), b"hello");
        assert_eq!(stream.peer_addr().unwrap(), "10.0.0.1:7".parse().unwrap());
        let unknown = TcpStream::connect("somebody:7").await.unwrap_err();
        assert_eq!(unknown.kind(), io::ErrorKind::NotFound);
        (connected, start.elapsed())
    });
    assert_eq!(times, (ms(20), ms(40)));
    assert_eq!(simulation.address("server"), Some([10, 0, 0, 1].into()));
}

#[test]
fn what_is_lost_is_sent_again() {
    let capture = Capture::default();
    let links = LinkConfig { loss: 0.05, ..delays(ms(5)) };
    let simulation = Builder::new().seed(2).links(links).capture(capture.clone()).build().unwrap();
    simulation.host("server", echo);
    simulation.block_on("client", exchange("server:7", 1 << 20)).unwrap();
    let stats = simulation.stats("client", "server");
    assert!(stats.lost > 20, "{stats:?}");
    let sequence = capture.sequence_numbers([10, 0, 0, 2]);
    let distinct: HashSet<_> = sequence.iter().collect();
    let again = sequence.len() - distinct.len();
    assert!(distinct.len() > 700 && again > 20, "{again} of {} segments were sent again", sequence.len());
}

/// A capture in memory.
#[derive(Clone, Debug, Default)]
struct Capture(Rc<RefCell<Vec<u8>>>);

impl io::Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Capture {
    /// The sequence numbers of TCP segments with data from this address, as they were sent.
    fn sequence_numbers(&self, from: [u8; 4]) -> Vec<u32> {
        let bytes = self.0.borrow();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (mut at, mut numbers) = (0, Vec::new());
        while at < bytes.len() {
            let (kind, length) = (word(at), word(at + 4) as usize);
            let is_packet = kind == 6;
            if is_packet {
                let packet = &bytes[at + 28..at + 28 + word(at + 20) as usize];
                let headers = 20 + usize::from(packet[32] >> 4) * 4;
                if packet[12..16] == from && packet.len() > headers {
                    numbers.push(u32::from_be_bytes(packet[24..28].try_into().unwrap()));
                }
            }
            at += length;
        }
        numbers
    }
}

#[test]
fn a_link_has_its_bandwidth_in_both_directions_and_both_versions_of_ip() {
    let eight_megabits = LinkConfig::new(ms(5), 8_000_000, 100_000);
    let simulation = simulation(14, eight_megabits);
    simulation.host("server", async || {
        let listener = TcpListener::bind("[::]:7").await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let (mut reader, mut writer) = stream.into_split();
            spawn(async move {
                futures::io::copy(&mut reader, &mut writer).await?;
                writer.close().await
            })
            .detach();
        }
        #[allow(unreachable_code)]
        io::Result::Ok(())
    });
    for address in ["10.0.0.1:7", "[fd00::1]:7"] {
        let start = simulation.now();
        simulation.block_on("client", exchange(address, 1 << 20)).unwrap();
        let took = simulation.now() - start;
        assert!((ms(1050)..ms(1500)).contains(&took), "a mebibyte took {took:?} to {address}");
    }
}

#[test]
fn datagrams_are_lost_for_good() {
    let simulation = simulation(3, LinkConfig { loss: 0.3, ..delays(ms(1)) });
    simulation.host("sink", async || {
        let socket = UdpSocket::bind("0.0.0.0:9").await?;
        loop {
            let (data, from) = socket.pop_from().await?;
            socket.push_to(data, from).await?;
        }
        #[allow(unreachable_code)]
        io::Result::Ok(())
    });
    let answers = simulation.block_on("source", async {
        let sink = (Control::current().address("sink").unwrap(), 9).into();
        let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        let mut answers = 0;
        for number in 0..100u8 {
            socket.push_to(Buffer::from(vec![number]), sink).await.unwrap();
            if let Ok(answer) = timeout(ms(10), socket.pop_from()).await {
                assert_eq!(answer.unwrap().0, [number]);
                answers += 1;
            }
        }
        answers
    });
    assert!((30..70).contains(&answers), "{answers} of 100 came back through two losses of 30 %");
}

#[test]
fn a_partition_delays_until_it_is_repaired_and_a_long_one_ends_connections() {
    let simulation = simulation(4, delays(ms(5)));
    simulation.host("server", echo);
    simulation.block_on("client", async {
        let control = Control::current();
        let stream = TcpStream::connect("server:7").await.unwrap();
        control.partition("client", "server");
        stream.push("through?".into()).await.unwrap();
        assert!(timeout(Duration::from_secs(3), stream.pop()).await.is_err());
        control.repair("client", "server");
        assert_eq!(stream.pop().await.unwrap(), b"through?");

        control.partition("client", "server");
        stream.push("never".into()).await.unwrap();
        let start = Instant::now();
        assert_eq!(stream.pop().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() > Duration::from_secs(60), "after {:?}", start.elapsed());
        let refused = TcpStream::connect("server:7").await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
    });
}

#[test]
fn one_way_is_not_the_other() {
    let simulation = simulation(5, delays(ms(5)));
    simulation.host("server", echo);
    simulation.block_on("client", async {
        let control = Control::current();
        let stream = TcpStream::connect("server:7").await.unwrap();
        control.link_one_way("server", "client", |link| link.delay = ms(500));
        let start = Instant::now();
        stream.push("hello".into()).await.unwrap();
        stream.pop().await.unwrap();
        assert_eq!(start.elapsed(), ms(505));
    });
}

#[test]
fn packets_are_held_until_they_are_released() {
    let simulation = simulation(6, delays(ms(5)));
    simulation.host("server", echo);
    simulation.block_on("client", async {
        let control = Control::current();
        let stream = TcpStream::connect("server:7").await.unwrap();
        control.hold("client", "server");
        stream.push("hello".into()).await.unwrap();
        assert!(timeout(ms(100), stream.pop()).await.is_err());
        let start = Instant::now();
        control.release("client", "server");
        assert_eq!(stream.pop().await.unwrap(), b"hello");
        assert_eq!(start.elapsed(), ms(10));

        control.isolate("server");
        stream.push("again".into()).await.unwrap();
        assert!(timeout(ms(100), stream.pop()).await.is_err());
        control.rejoin("server");
        assert_eq!(stream.pop().await.unwrap(), b"again");
    });
}

#[test]
fn peers_of_a_machine_that_crashed_time_out_and_those_of_a_restarted_one_are_reset() {
    let simulation = simulation(7, delays(ms(5)));
    let starts = Rc::new(Cell::new(0));
    let count = starts.clone();
    simulation.host("server", move || {
        count.set(count.get() + 1);
        echo()
    });
    let dropped = Rc::new(());
    let inside = dropped.clone();
    simulation.host("other", move || {
        let inside = inside.clone();
        async move {
            sleep(Duration::MAX).await;
            drop(inside);
        }
    });
    simulation.block_on("client", async {
        let control = Control::current();
        let stream = TcpStream::connect("server:7").await.unwrap();
        control.bounce("server");
        sleep(ms(1)).await;
        stream.push("who are you?".into()).await.unwrap();
        assert_eq!(stream.pop().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        exchange("server:7", 1000).await.unwrap();

        let stream = TcpStream::connect("server:7").await.unwrap();
        control.crash("server");
        stream.push("are you there?".into()).await.unwrap();
        assert_eq!(stream.pop().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(!control.is_on("server") && control.is_on("other"));
        assert_eq!(TcpStream::connect("server:7").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        control.bounce("server");
        exchange("server:7", 1000).await.unwrap();
    });
    assert_eq!(starts.get(), 3);
    assert_eq!(Rc::strong_count(&dropped), 3);
    simulation.crash("other");
    simulation.run_for(ms(1)).unwrap();
    assert_eq!(Rc::strong_count(&dropped), 2, "the futures of a machine that is off are dropped");
    drop(simulation);
    assert_eq!(Rc::strong_count(&dropped), 1);
}

#[test]
fn clients_are_waited_for_and_hosts_are_not() {
    let simulation = simulation(8, delays(ms(1)));
    simulation.host("server", echo);
    let done = Rc::new(Cell::new(0));
    for index in 0..3 {
        let done = done.clone();
        simulation.client(&format!("client-{index}"), async move {
            exchange("server:7", 1000 * index).await?;
            done.set(done.get() + 1);
            io::Result::Ok(())
        });
    }
    assert_eq!(done.get(), 0);
    simulation.run().unwrap();
    assert_eq!(done.get(), 3);
    simulation.run_for(Duration::from_secs(100)).unwrap();
    assert!(simulation.elapsed() > Duration::from_secs(100));
}

#[test]
fn what_fails_is_named() {
    let failing = simulation(9, delays(ms(1)));
    failing.host("server", async || Err::<(), _>("no disk"));
    failing.client("client", sleep_for(Duration::from_secs(1)));
    let error = failing.run().unwrap_err();
    assert_eq!(error.to_string(), "the program of \"server\" failed: no disk");

    let panicking = simulation(9, delays(ms(1)));
    panicking.client("client", async { panic!("on purpose") });
    let panic = catch_unwind(AssertUnwindSafe(|| panicking.run())).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"on purpose"));

    let late = Builder::new().limit(Duration::from_secs(60)).build().unwrap();
    late.host("server", async || {
        loop {
            sleep(ms(100)).await;
        }
    });
    late.client("client", sleep_for(Duration::from_secs(100)));
    let error = late.run().unwrap_err();
    assert!(
        matches!(error, Error::Late { .. }) && error.to_string().contains("client \"client\" waits"),
        "{error}"
    );

    let twice = simulation(9, delays(ms(1)));
    twice.host("server", echo);
    assert!(catch_unwind(AssertUnwindSafe(|| twice.host("server", echo))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| twice.crash("client"))).is_err());
}

async fn sleep_for(time: Duration) {
    sleep(time).await;
}

#[test]
fn who_waits_for_nothing_is_told_so() {
    let simulation = simulation(10, delays(ms(1)));
    simulation.host("server", async || -> io::Result<()> {
        let connection = TcpListener::bind("0.0.0.0:7").await?.accept().await?;
        std::future::pending::<()>().await;
        drop(connection);
        Ok(())
    });
    simulation.client("client", async { TcpStream::connect("server:7").await?.pop().await });
    let error = simulation.run().unwrap_err();
    assert!(matches!(error, Error::Deadlock { .. }), "{error}");
    assert!(error.to_string().contains("client \"client\" waits with 1 tasks"), "{error}");
}

#[test]
fn tasks_of_machines_can_wait_for_each_other_and_for_threads() {
    let simulation = simulation(11, delays(ms(1)));
    let (sender, receiver) = futures::channel::oneshot::channel();
    simulation.host("one", {
        let sender = Rc::new(RefCell::new(Some(sender)));
        move || {
            let sender = sender.take();
            async move {
                sleep(ms(5)).await;
                let value = spawn_blocking(|| {
                    std::thread::sleep(ms(10));
                    7
                });
                let _ = sender.unwrap().send(value.await.unwrap());
                sleep(Duration::MAX).await;
            }
        }
    });
    let start = simulation.now();
    assert_eq!(simulation.block_on("other", receiver), Ok(7));
    assert_eq!(simulation.now() - start, ms(5), "virtual time stands still for threads");
}

#[test]
fn a_thread_that_has_a_handle_may_take_its_time() {
    let simulation = simulation(13, delays(ms(1)));
    let sum = simulation.block_on("machine", async {
        let handle = demikernel_runtime::handle();
        let (sender, receiver) = futures::channel::oneshot::channel();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(ms(50));
            drop(handle.spawn(async move { sender.send(7) }));
        });
        let value = receiver.await.unwrap();
        thread.join().unwrap();
        value
    });
    assert_eq!((sum, simulation.elapsed()), (7, Duration::ZERO));
}

/// Machines that talk over bad links, one of which is restarted.
fn record(seed: u64) -> (Trace, Duration, Vec<u64>) {
    let simulation = Builder::new().seed(seed).build().unwrap();
    let draws = Rc::new(RefCell::new(Vec::new()));
    simulation.host("server", echo);
    for index in 0..8 {
        let draws = draws.clone();
        simulation.client(&format!("client-{index}"), async move {
            let control = Control::current();
            sleep(Duration::from_micros(control.random() % 20_000)).await;
            let length = control.random() as usize % 50_000;
            draws.borrow_mut().push(length as u64);
            // The server is restarted meanwhile.
            let _ = timeout(Duration::from_secs(30), exchange("server:7", length)).await;
        });
    }
    simulation.client("mischief", async {
        let control = Control::current();
        assert_eq!(control.machine_name().as_deref(), Some("mischief"));
        sleep(Duration::from_micros(control.random() % 200_000)).await;
        control.bounce("server");
    });
    simulation.run().unwrap();
    let draws = draws.borrow().clone();
    (simulation.trace(), simulation.elapsed(), draws)
}

#[test]
fn a_seed_repeats_to_the_last_bit_of_the_last_packet() {
    for seed in 0..8 {
        let first = record(seed);
        assert!(first.0.events() > 500, "{first:?}");
        assert_eq!(first, record(seed), "on a thread that has run it before");
        let elsewhere = std::thread::spawn(move || record(seed)).join().unwrap();
        assert_eq!(first, elsewhere, "on another thread");
        assert_ne!(first.0, record(seed + 100).0);
    }
}

#[test]
fn a_thousand_machines_are_run_in_bounded_time() {
    let begin = std::time::Instant::now();
    let simulation = simulation(12, delays(ms(2)));
    simulation.host("server", echo);
    for index in 0..1000 {
        simulation.client(&format!("client-{index}"), async move {
            sleep(Duration::from_micros(index * 37)).await;
            for _ in 0..3 {
                exchange("server:7", 2000).await?;
                sleep(ms(100)).await;
            }
            io::Result::Ok(())
        });
    }
    simulation.run().unwrap();
    let events = simulation.trace().events();
    assert!(events > 30_000, "{events}");
    println!("{events} packets, {:?} of virtual time, {:?}", simulation.elapsed(), begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
}
