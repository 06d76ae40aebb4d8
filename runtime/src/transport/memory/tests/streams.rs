//! Connections.

use super::{Acts, at, config, kind, tell, token};
use crate::buffer::Buffer;
use crate::time::{Duration, Instant, sleep};
use crate::transport::memory::MemoryConfig;
use crate::transport::{Device, Network, SocketOption};
use std::io::ErrorKind;
use std::net::Shutdown;

#[test]
fn a_connection_from_its_making_to_its_end() {
    let trace = tell(config(), |memory| async move {
        let listener = memory.listener("127.0.0.1:80");
        let client = memory.stream();
        memory.bind(client, &at("127.0.0.1:1000")).unwrap();
        let connected = memory.start_connect(client, "127.0.0.1:80");
        let server = memory.start_accept(listener).await.unwrap();
        assert_eq!(server.peer, at("127.0.0.1:1000"));
        assert!(!connected.is_done(), "the news is under way");
        connected.await.unwrap();
        memory.push_bytes(client, b"question").await.unwrap();
        memory.shutdown_socket(client, Shutdown::Write).unwrap();
        assert_eq!(memory.start_pop(server.qd).await.unwrap(), b"question");
        assert!(memory.start_pop(server.qd).await.unwrap().is_empty());
        memory.push_bytes(server.qd, b"answer").await.unwrap();
        memory.close(server.qd);
        assert_eq!(memory.start_pop(client).await.unwrap(), b"answer");
        assert!(memory.start_pop(client).await.unwrap().is_empty());
        memory.close(client);
        memory.close(listener);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(memory.counters()[0], ("sockets and files open", 0));
        memory.trace()
    });
    let expected = [
        "0ns bind 0 to 127.0.0.1:80",
        "0ns bind 1 to 127.0.0.1:1000",
        "0ns connect 1 to 127.0.0.1:80",
        "10µs accept 2 at 0",
        "20µs connection of 1 and 2",
        "20µs 1 sends 8",
        "30µs 2 gets 8",
        "30µs 2 has all",
        "30µs 2 sends 6",
        "40µs 1 gets 6",
        "40µs 1 has all",
    ];
    assert_eq!(trace, expected);
}

#[test]
fn a_window_that_is_full_stops_the_sender_until_somebody_reads() {
    let config = MemoryConfig { window: 10, segment: 4, ..config() };
    let trace = tell(config, |memory| async move {
        let (client, server) = memory.pair().await;
        let start = memory.trace().len();
        let push = memory.push_bytes(client, b"0123456789ab");
        sleep(Duration::from_secs(1)).await;
        assert!(!push.is_done(), "two bytes have no room");
        assert_eq!(memory.start_pop(server).await.unwrap(), b"0123");
        push.await.unwrap();
        assert_eq!(memory.start_pop(server).await.unwrap(), b"4567");
        assert_eq!(memory.start_pop(server).await.unwrap(), b"89");
        assert_eq!(memory.start_pop(server).await.unwrap(), b"ab");
        memory.trace().split_off(start)
    });
    let expected = [
        "20µs 1 sends 4",
        "20µs 1 sends 4",
        "20µs 1 sends 2",
        "30µs 2 gets 4",
        "30µs 2 gets 4",
        "30µs 2 gets 2",
        // A second later, four bytes were read, and the client heard of it.
        "1.00003s 1 sends 2",
        "1.00004s 2 gets 2",
    ];
    assert_eq!(trace, expected);
}

#[test]
fn a_larger_receive_buffer_makes_room() {
    let config = MemoryConfig { window: 4, ..config() };
    tell(config, |memory| async move {
        let (client, server) = memory.pair().await;
        let push = memory.push_bytes(client, b"0123456789");
        sleep(Duration::from_millis(1)).await;
        assert!(!push.is_done());
        memory.set_option(server, SocketOption::ReceiveBuffer(10)).unwrap();
        push.await.unwrap();
        memory.set_option(server, SocketOption::ReceiveBuffer(1)).unwrap();
        let mut read = Vec::new();
        while read.len() < 10 {
            read.extend_from_slice(&memory.start_pop(server).await.unwrap());
        }
        assert_eq!(read, b"0123456789");
    });
}

#[test]
fn a_refused_connection_leaves_the_socket_for_another_attempt() {
    tell(config(), |memory| async move {
        let client = memory.stream();
        let refused = memory.start_connect(client, "127.0.0.1:80").await;
        assert_eq!(kind(refused), ErrorKind::ConnectionRefused);
        let _listener = memory.listener("0.0.0.0:80");
        memory.start_connect(client, "127.0.0.1:80").await.unwrap();
        let twice = memory.start_connect(client, "127.0.0.1:80").await.unwrap_err();
        assert_eq!(twice.raw_os_error(), Some(libc::EISCONN));
        assert_eq!(memory.counters()[4..6], [("connections made", 1), ("connections refused", 1)]);
    });
}

#[test]
fn attempts_beyond_the_backlog_wait_and_are_given_up_in_the_end() {
    let config = MemoryConfig { timeout: Duration::from_secs(10), ..config() };
    tell(config, |memory| async move {
        let listener = memory.stream();
        memory.bind(listener, &at("127.0.0.1:80")).unwrap();
        memory.listen(listener, 2).unwrap();
        let clients = [memory.stream(), memory.stream(), memory.stream(), memory.stream()];
        let mut connects = clients.map(|client| Some(memory.start_connect(client, "127.0.0.1:80")));
        sleep(Duration::from_secs(1)).await;
        let done = connects.each_ref().map(|connect| connect.as_ref().unwrap().is_done());
        assert_eq!(done, [true, true, false, false]);
        memory.start_accept(listener).await.unwrap();
        connects[2].take().unwrap().await.unwrap();
        assert_eq!(kind(connects[3].take().unwrap().await), ErrorKind::TimedOut);
        // Its place was not kept.
        memory.start_accept(listener).await.unwrap();
        memory.start_accept(listener).await.unwrap();
        let more = memory.start_accept(listener);
        sleep(Duration::from_secs(60)).await;
        assert!(!more.is_done());
    });
}

#[test]
fn closing_a_listener_ends_those_whom_nobody_accepted() {
    tell(config(), |memory| async move {
        let listener = memory.listener("127.0.0.1:80");
        let client = memory.stream();
        memory.start_connect(client, "127.0.0.1:80").await.unwrap();
        memory.close(listener);
        assert_eq!(kind(memory.start_pop(client).await), ErrorKind::ConnectionReset);
        assert!(memory.start_pop(client).await.unwrap().is_empty(), "an error is told once");
        assert_eq!(kind(memory.push_bytes(client, b"x").await), ErrorKind::BrokenPipe);
    });
}

#[test]
fn what_nobody_read_before_a_close_resets_the_connection() {
    tell(config(), |memory| async move {
        let (client, server) = memory.pair().await;
        memory.push_bytes(client, b"unread").await.unwrap();
        memory.push_bytes(server, b"goodbye").await.unwrap();
        sleep(Duration::from_millis(1)).await;
        memory.close(server);
        assert_eq!(memory.start_pop(client).await.unwrap(), b"goodbye");
        assert_eq!(kind(memory.start_pop(client).await), ErrorKind::ConnectionReset);
    });
}

#[test]
fn data_for_a_closed_socket_resets_the_connection() {
    tell(config(), |memory| async move {
        let (client, server) = memory.pair().await;
        memory.close(server);
        assert!(memory.start_pop(client).await.unwrap().is_empty());
        // The first push goes out, and only then is it known that nobody wants it.
        memory.push_bytes(client, b"x").await.unwrap();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(kind(memory.push_bytes(client, b"y").await), ErrorKind::BrokenPipe);
        assert!(memory.start_pop(client).await.unwrap().is_empty(), "the end stays the end");
    });
}

#[test]
fn a_linger_of_zero_resets_and_drops_what_waits() {
    let config = MemoryConfig { window: 4, ..config() };
    tell(config, |memory| async move {
        let (client, server) = memory.pair().await;
        let push = memory.push_bytes(client, b"too long");
        memory.set_option(client, SocketOption::Linger(Some(Duration::ZERO))).unwrap();
        memory.close(client);
        assert_eq!(kind(push.await), ErrorKind::ConnectionAborted);
        assert_eq!(memory.start_pop(server).await.unwrap(), b"too ");
        assert_eq!(kind(memory.start_pop(server).await), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_direction_that_was_shut_for_reading_lets_the_peer_go_on() {
    let config = MemoryConfig { window: 4, ..config() };
    tell(config, |memory| async move {
        let (client, server) = memory.pair().await;
        memory.shutdown_socket(server, Shutdown::Read).unwrap();
        assert!(memory.start_pop(server).await.unwrap().is_empty());
        memory.push_bytes(client, b"more than the window holds").await.unwrap();
        memory.push_bytes(server, b"ok").await.unwrap();
        assert_eq!(memory.start_pop(client).await.unwrap(), b"ok");
    });
}

#[test]
fn a_cancelled_connect_is_not_accepted_for_long() {
    tell(config(), |memory| async move {
        let listener = memory.listener("127.0.0.1:80");
        let client = memory.stream();
        drop(memory.start_connect(client, "127.0.0.1:80"));
        let again = memory.start_connect(client, "127.0.0.1:80");
        // The second only: the first had been given up before it arrived.
        let server = memory.start_accept(listener).await.unwrap().qd;
        again.await.unwrap();
        memory.push_bytes(client, b"x").await.unwrap();
        assert_eq!(memory.start_pop(server).await.unwrap(), b"x");

        let other = memory.stream();
        let late = memory.start_connect(other, "127.0.0.1:80");
        let server = memory.start_accept(listener).await.unwrap().qd;
        drop(late);
        assert_eq!(kind(memory.start_pop(server).await), ErrorKind::ConnectionReset);
    });
}

#[test]
fn cut_off_streams_wait_and_go_on_or_are_given_up() {
    let config = MemoryConfig { timeout: Duration::from_secs(5), ..config() };
    let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    tell(config, |memory| async move {
        let (client, server) = memory.pair().await;
        memory.partition(one, other);
        memory.push_bytes(client, b"waits").await.unwrap();
        let pop = memory.start_pop(server);
        sleep(Duration::from_secs(4)).await;
        assert!(!pop.is_done());
        memory.heal(other, one);
        assert_eq!(pop.await.unwrap(), b"waits");

        memory.partition(one, other);
        let start = Instant::now();
        memory.push_bytes(client, b"lost").await.unwrap();
        assert_eq!(kind(memory.start_pop(client).await), ErrorKind::TimedOut);
        assert_eq!(Instant::now() - start, Duration::from_micros(5_000_010));
        // The other end finds out when it is heard again.
        memory.heal_all();
        memory.push_bytes(server, b"hello?").await.unwrap();
        assert_eq!(kind(memory.start_pop(server).await), ErrorKind::ConnectionReset);
    });
}

#[test]
fn cut_off_attempts_wait_and_go_on_or_are_given_up() {
    let config = MemoryConfig { timeout: Duration::from_secs(5), ..config() };
    let here = "127.0.0.1".parse().unwrap();
    tell(config, |memory| async move {
        let listener = memory.listener("127.0.0.1:80");
        memory.partition(here, here);
        let (first, second) = (memory.stream(), memory.stream());
        assert_eq!(kind(memory.start_connect(first, "127.0.0.1:80").await), ErrorKind::TimedOut);
        let connect = memory.start_connect(second, "127.0.0.1:80");
        sleep(Duration::from_secs(1)).await;
        memory.heal(here, here);
        connect.await.unwrap();

        // The server hears of it, the client does not.
        let connect = memory.start_connect(first, "127.0.0.1:80");
        let accepts = [memory.start_accept(listener), memory.start_accept(listener)];
        let [_, server] = futures::future::join_all(accepts).await.try_into().unwrap();
        memory.partition(here, here);
        assert_eq!(kind(connect.await), ErrorKind::TimedOut);
        assert_eq!(kind(memory.start_pop(server.unwrap().qd).await), ErrorKind::TimedOut);
        assert_eq!(memory.counters()[7], ("connections given up", 3));
    });
}

#[test]
fn a_connection_breaks_when_told() {
    tell(config(), |memory| async move {
        let (client, server) = memory.pair().await;
        memory.push_bytes(client, b"before").await.unwrap();
        sleep(Duration::from_millis(1)).await;
        let pop = memory.start_pop(client);
        memory.reset(client).unwrap();
        assert_eq!(kind(pop.await), ErrorKind::ConnectionReset);
        assert_eq!(memory.start_pop(server).await.unwrap(), b"before");
        assert_eq!(kind(memory.start_pop(server).await), ErrorKind::ConnectionReset);
        assert_eq!(kind(memory.reset(memory.stream())), ErrorKind::NotConnected);

        let (client, server) = memory.pair().await;
        let (local, peer) = (memory.local(client).unwrap(), memory.peer(client).unwrap());
        let (local, peer) = (local.inet().unwrap(), peer.inet().unwrap());
        assert!(!memory.reset_between(local, local));
        assert!(memory.reset_between(peer, local));
        assert_eq!(kind(memory.start_pop(server).await), ErrorKind::ConnectionReset);
        memory.reset_all();
        assert_eq!(kind(memory.push_bytes(client, b"x").await), ErrorKind::ConnectionReset);
    });
}

#[test]
fn pieces_are_joined_when_the_seed_says_so() {
    let config = MemoryConfig { joins: 1.0, ..config() };
    tell(config, |memory| async move {
        let (client, server) = memory.pair().await;
        for bytes in [b"ab" as &[u8], b"cd", b"ef"] {
            memory.push_bytes(client, bytes).await.unwrap();
        }
        sleep(Duration::from_millis(1)).await;
        let five: Buffer = token(|done| memory.pop(server, 5, done)).await.unwrap();
        assert_eq!(five, b"abcde");
        assert_eq!(memory.start_pop(server).await.unwrap(), b"f");
    });
}

#[test]
fn what_is_given_back_keeps_its_place() {
    tell(config(), |memory| async move {
        let (client, server) = memory.pair().await;
        let pop_two = || token::<std::io::Result<Buffer>>(|done| memory.pop(server, 2, done));
        let first = memory.start_pop(server);
        memory.push_bytes(client, b"abcdef").await.unwrap();
        sleep(Duration::from_millis(1)).await;
        drop(first);
        let (second, third) = (pop_two(), pop_two());
        drop(third);
        drop(second);
        let mut read = Vec::new();
        while read.len() < 6 {
            read.extend_from_slice(&memory.start_pop(server).await.unwrap());
        }
        assert_eq!(read, b"abcdef");
        // An error is told to the next one, too, and so is a datagram or a connection.
        memory.reset(server).unwrap();
        drop(memory.start_pop(server));
        assert_eq!(kind(memory.start_pop(server).await), ErrorKind::ConnectionReset);
        assert!(memory.start_pop(server).await.unwrap().is_empty());
    });
}

#[test]
fn what_was_given_back_counts_as_unread_at_the_close() {
    tell(config(), |memory| async move {
        let (client, server) = memory.pair().await;
        memory.push_bytes(client, b"unread").await.unwrap();
        sleep(Duration::from_millis(1)).await;
        drop(memory.start_pop(server));
        // As sockets do.
        crate::executor::hand_back();
        memory.close(server);
        assert_eq!(kind(memory.start_pop(client).await), ErrorKind::ConnectionReset);
    });
}
