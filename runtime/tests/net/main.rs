//! The socket API on every transport of kernel sockets, against the standard library's sockets in threads.
//!
//! Each test runs with a runtime that spins when idle and with one that blocks; afterwards no descriptor
//! and no buffer may be left.

#[macro_use]
#[path = "../common/kernel.rs"]
mod kernel;

mod buffers;
mod bytes;
mod cancel;
#[path = "../common/mod.rs"]
mod common;
mod peers;
mod pressure;
mod split;
mod tcp;
mod udp;
mod unix;

use std::io;

on_kernel_sockets! {
    crate::common::check;
    bytes: lines_of_a_peer, lines_without_a_reader_around, copy_of_64_mib_there_and_back, vectored_both_ways,
        half_close, empty_reads_and_writes, the_end_is_there_twice, writes_after_a_shutdown,
        a_reset_reaches_the_writer, peeking_takes_nothing, bytes_and_buffers_mixed, exact_reads_across_pops;
    cancel: dropped_reads_lose_nothing, dropped_pops_lose_nothing, a_pop_takes_what_a_dropped_read_left,
        a_stream_dropped_after_a_write_sends_it, a_dropped_accept_leaves_the_connection,
        a_connection_nobody_takes_is_closed, a_dropped_datagram_is_there_for_the_next, a_dropped_connect;
    pressure: a_peer_that_does_not_read_stops_the_writer, small_writes_are_bounded_too,
        a_writer_waits_for_memory, many_connections, a_slow_one_among_fast_ones, requests_behind_answers,
        receives_behind_sends_that_are_stuck;
    split: borrowed_halves_at_once, owned_halves_in_two_tasks, reunited_halves,
        halves_of_different_streams, a_dropped_writing_half_ends_its_direction, a_forgotten_one_does_not,
        lines_of_a_half;
    buffers: echo_by_forwarding, the_stream_ends_once, dropped_nexts_lose_nothing, closing_the_sink,
        the_sink_is_bounded, halves_as_stream_and_sink;
    tcp: connecting_by_name, refused, closed_listener, address_in_use, names_that_do_not_resolve, incoming_connections,
        options_of_streams, options_before_binding, addresses, the_transport_given, several_addresses;
    udp: echo_to_std, connected, slices, options_of_datagrams, nobody_there;
    unix: echo_unix, names_of_the_abstract_namespace, refused_and_in_use, lists_of_buffers;
}

#[test]
fn without_a_transport() {
    let _alone = common::alone();
    let runtime = demikernel_runtime::Runtime::new().unwrap();
    let error = runtime.block_on(demikernel_runtime::net::TcpListener::bind("127.0.0.1:0")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
}

#[test]
fn several_cores_share_a_port() {
    let _alone = common::alone();
    tcp::several_cores_share_a_port(kernel::epoll);
}

/// What a stream does when its runtime has ended: it fails, whichever runtime asks.
fn a_stream_outlives_its_runtime(make: common::Make) {
    use demikernel_runtime::net::{TcpListener, TcpStream};
    let _alone = common::alone();
    let Ok(transport) = make() else { return };
    let runtime = demikernel_runtime::Runtime::new().unwrap();
    runtime.attach(transport);
    // A pop that waits, one that has its result, the streams, and their peers.
    let (waiting, there, streams, peers) = runtime.block_on(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let streams = [(); 2].map(|()| TcpStream::connect(listener.local_addr().unwrap()));
        let [one, other] = futures::future::join_all(streams).await.try_into().unwrap();
        let ((one, other), mut peers) = ((one.unwrap(), other.unwrap()), Vec::new());
        for _ in 0..2 {
            let (mut peer, _) = listener.accept().unwrap();
            io::Write::write_all(&mut peer, b"for the former").unwrap();
            peers.push(peer);
        }
        let there = other.pop();
        while !there.is_done() {
            demikernel_runtime::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        assert_eq!(one.pop().await.unwrap(), b"for the former");
        (one.pop(), there, (one, other), peers)
    });
    drop(runtime);

    let runtime = demikernel_runtime::Runtime::new().unwrap();
    runtime.attach(make().unwrap());
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        assert!(waiting.await.is_err());
        drop(there);
        assert!(streams.0.pop().await.is_err());
        assert!(streams.1.push("more".into()).await.is_err());
        // The new runtime's stream has got nothing of it.
        io::Write::write_all(&mut peer, b"for this one").unwrap();
        assert_eq!(stream.pop().await.unwrap(), b"for this one");
        drop((streams, peers));
    });
    assert_eq!(runtime.metrics().live_operations, 0);
}

#[test]
fn a_stream_outlives_its_runtime_on_epoll() {
    a_stream_outlives_its_runtime(kernel::epoll);
}

#[cfg(feature = "io-uring")]
#[test]
fn a_stream_outlives_its_runtime_on_io_uring() {
    a_stream_outlives_its_runtime(kernel::uring);
}
