//! Datagrams.

use crate::harness::Net;
use crate::operations::{buffer, pattern};
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::transport::{Domain, Endpoint};
use std::pin::Pin;

type Run = Pin<Box<dyn Future<Output = ()>>>;

pub(crate) fn echo_of_datagrams(net: Net) -> Run {
    Box::pin(async move {
        for domain in [Domain::V4, Domain::V6] {
            let (client, client_address) = net.datagram(domain);
            let (server, server_address) = net.datagram(domain);
            // Up and down, so that guesses about sizes are wrong both ways.
            for size in [0, 1, 1472, 2047, 2048, 2049, 9000, 40_000, 65_000, 100, 65_507 - 100, 3] {
                let sent = pattern(size, size as u64);
                let pop = net.pop_from(server, 1 << 16);
                net.push_to(client, Buffer::from(sent.clone()), server_address).await.unwrap();
                let (data, from) = pop.await.unwrap();
                assert!(data == sent, "{size} bytes");
                assert_eq!(from, client_address);
                net.push_to(server, data, from).await.unwrap();
                let (data, from) = net.pop_from(client, 1 << 16).await.unwrap();
                assert!(data == sent, "{size} bytes, back");
                assert_eq!(from, server_address);
            }
            net.network.close(client);
            net.network.close(server);
        }
    })
}

pub(crate) fn connected_datagrams(net: Net) -> Run {
    Box::pin(async move {
        let (client, client_address) = net.datagram(Domain::V4);
        let (server, server_address) = net.datagram(Domain::V4);
        net.connect(client, &Endpoint::Inet(server_address)).await.unwrap();
        assert_eq!(net.network.peer(client).unwrap(), Endpoint::Inet(server_address));
        let list: Sga = [&b"three "[..], b"parts, ", b"one datagram"].into_iter().map(buffer).collect();
        net.push(client, list).await.unwrap();
        let (data, from) = net.pop_from(server, 1 << 16).await.unwrap();
        assert_eq!((data.as_slice(), from), (&b"three parts, one datagram"[..], client_address));
        net.push_to(server, buffer(b"yes"), from).await.unwrap();
        assert_eq!(net.pop(client).await.unwrap(), b"yes");
        net.network.close(client);
        net.network.close(server);
    })
}

pub(crate) fn a_limit_cuts_datagrams(net: Net) -> Run {
    Box::pin(async move {
        let (client, _) = net.datagram(Domain::V4);
        let (server, address) = net.datagram(Domain::V4);
        for size in [5000, 11] {
            net.push_to(client, Buffer::from(pattern(size, 3)), address).await.unwrap();
        }
        let (cut, _) = net.pop_from(server, 10).await.unwrap();
        assert_eq!(cut, pattern(5000, 3)[..10]);
        let (whole, _) = net.pop_from(server, 11).await.unwrap();
        assert_eq!(whole, pattern(11, 3), "the rest of the first is gone");
        net.network.close(client);
        net.network.close(server);
    })
}

pub(crate) fn many_datagrams_in_a_row(net: Net) -> Run {
    Box::pin(async move {
        let (client, _) = net.datagram(Domain::V4);
        let (server, address) = net.datagram(Domain::V4);
        for round in 0..50u8 {
            for number in 0..40u8 {
                net.push_to(client, buffer(&[round, number]), address).await.unwrap();
            }
            for number in 0..40u8 {
                let (data, _) = net.pop_from(server, 2048).await.unwrap();
                assert_eq!(data, [round, number]);
            }
        }
        net.network.close(client);
        net.network.close(server);
    })
}
