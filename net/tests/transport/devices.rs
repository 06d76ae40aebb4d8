//! Devices that are full, or gone, and the calls of a transport that need no peer.

use crate::harness::{Net, any_address, stack};
use crate::operations::buffer;
use demikernel_net::device::{Capabilities, Frame, FrameDevice, Medium};
use demikernel_net::stack::{Stack, StackConfig};
use demikernel_net::transport::NetTransport;
use demikernel_runtime::Runtime;
use demikernel_runtime::time::{Duration, Instant, sleep};
use demikernel_runtime::transport::{
    Device, Domain, Endpoint, Network, OptionName, Qd, SocketKind, SocketOption,
};
use std::io::{self, ErrorKind};
use std::rc::Rc;

fn runtime(transport: &Rc<NetTransport>) -> (Runtime, Net) {
    let runtime = Runtime::new().unwrap();
    runtime.attach(transport.clone().transport());
    (runtime, Net { device: transport.clone(), network: transport.clone() })
}

#[test]
fn a_full_device_holds_up_who_sends_and_loses_nothing() {
    let (transport, mut there) = stack(4);
    let (runtime, net) = runtime(&transport);
    runtime.block_on(async {
        let socket = net.network.socket(Domain::V4, SocketKind::Datagram).unwrap();
        let peer = "192.0.2.9:9".parse().unwrap();
        // More than device and stack have room for: the last ones wait.
        let pushes: Vec<_> =
            (0..3000_u32).map(|number| net.push_to(socket, buffer(&number.to_be_bytes()), peer)).collect();
        for _ in 0..10 {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(pushes[0].is_done() && !pushes[2999].is_done());
        let mut received = Vec::new();
        let end = Instant::now() + Duration::from_secs(20);
        while received.len() < 3000 && Instant::now() < end {
            let mut burst = Vec::new();
            there.receive(&mut burst).unwrap();
            received.extend(burst.iter().map(|frame| {
                let mut bytes = Vec::new();
                frame.copy_to(&mut bytes);
                u32::from_be_bytes(bytes[28..].try_into().unwrap())
            }));
            sleep(Duration::from_micros(10)).await;
        }
        assert!(received.iter().copied().eq(0..3000), "{} came", received.len());
        for push in pushes {
            push.await.unwrap();
        }
        net.network.close(socket);
    });
}

/// Works until it does not.
struct Breaking(usize);

impl FrameDevice for Breaking {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(Medium::Ip, 1500)
    }

    fn receive(&mut self, _burst: &mut Vec<Frame>) -> io::Result<usize> {
        self.0 = self.0.saturating_sub(1);
        if self.0 == 0 { Err(io::Error::other("the cable was cut")) } else { Ok(0) }
    }

    fn transmit(&mut self, burst: &mut Vec<Frame>) -> io::Result<usize> {
        Ok(burst.drain(..).count())
    }
}

#[test]
fn a_device_that_is_gone_ends_what_waits_and_what_comes_later() {
    let device = Breaking(1000);
    let config = StackConfig::new(device.capabilities(), [7; 32]).address("192.0.2.1".parse().unwrap(), 24);
    let transport = NetTransport::new("breaking", Stack::new(Instant::now(), config), device);
    let (runtime, net) = runtime(&transport);
    runtime.block_on(async {
        let (listener, _) = net.listener(Domain::V4);
        let client = net.stream(Domain::V4);
        let connect = net.connect(client, &Endpoint::Inet("192.0.2.9:9".parse().unwrap()));
        let accept = net.accept(listener);
        assert_eq!(connect.await.unwrap_err().to_string(), "the cable was cut");
        assert_eq!(accept.await.unwrap_err().to_string(), "the cable was cut");
        assert_eq!(net.accept(listener).await.unwrap_err().to_string(), "the cable was cut");
        assert!(net.network.socket(Domain::V4, SocketKind::Stream).is_err());
    });
}

#[test]
fn errors_are_those_of_linux_with_what_to_do() {
    let (transport, _there) = stack(64);
    let (runtime, net) = runtime(&transport);
    runtime.block_on(async {
        let unix = net.network.socket(Domain::Unix, SocketKind::Stream).unwrap_err();
        assert_eq!(unix.kind(), ErrorKind::Unsupported);
        assert!(unix.to_string().starts_with("pair has no Unix sockets"), "{unix}");

        let (listener, address) = net.listener(Domain::V4);
        let second = net.stream(Domain::V4);
        let used = net.network.bind(second, &address).unwrap_err();
        assert_eq!(used.kind(), ErrorKind::AddrInUse);
        assert!(used.to_string().starts_with(&format!("cannot bind to {address}: ")), "{used}");
        assert!(used.to_string().contains("choose another port"), "{used}");
        let foreign = Endpoint::Inet("203.0.113.1:1".parse().unwrap());
        let foreign = net.network.bind(second, &foreign).unwrap_err();
        assert!(foreign.to_string().contains("the stack does not have the address"), "{foreign}");

        let far = net.connect(second, &Endpoint::Inet("203.0.113.1:1".parse().unwrap())).await.unwrap_err();
        assert_eq!(far.kind(), ErrorKind::NetworkUnreachable);
        assert!(far.to_string().contains("no route to that network"), "{far}");
        let idle = net.pop(second).await.unwrap_err();
        assert_eq!(idle.raw_os_error(), Some(libc::ENOTCONN));
        let accept = net.accept(second).await.unwrap_err();
        assert_eq!(accept.raw_os_error(), Some(libc::EINVAL));
        let closed = net.push(Qd(77), buffer(b"x")).await.unwrap_err();
        assert_eq!(closed.raw_os_error(), Some(libc::EBADF));
        let stream = net.pop_from(second, 10).await.unwrap_err();
        assert!(stream.to_string().contains("pop_from is for datagrams"), "{stream}");
        net.network.close(listener);
        let refused = net.connect(second, &address).await.unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ECONNREFUSED));
        net.network.close(second);
    });
}

#[test]
fn a_connect_that_is_given_up_leaves_its_socket() {
    let (transport, _there) = stack(64);
    let (runtime, net) = runtime(&transport);
    runtime.block_on(async {
        let client = net.stream(Domain::V4);
        let nobody = Endpoint::Inet("192.0.2.9:9".parse().unwrap());
        let connect = net.connect(client, &nobody);
        let second = net.connect(client, &nobody).await.unwrap_err();
        assert_eq!(second.raw_os_error(), Some(libc::EALREADY));
        sleep(Duration::from_millis(1)).await;
        assert_eq!(net.counter("operations waiting"), Some(1));
        drop(connect);
        assert_eq!(net.counter("operations waiting"), Some(0));
        // The attempt goes on, as that of a kernel's socket does.
        let again = net.connect(client, &nobody).await.unwrap_err();
        assert_eq!(again.raw_os_error(), Some(libc::EALREADY));
        net.network.close(client);
    });
}

#[test]
fn options_are_set_and_read() {
    let (transport, _there) = stack(64);
    let (_runtime, net) = runtime(&transport);
    let stream = net.network.socket(Domain::V6, SocketKind::Stream).unwrap();
    let seconds = Duration::from_secs;
    for option in [
        SocketOption::NoDelay(true),
        SocketOption::KeepAlive {
            enabled: true,
            idle: Some(seconds(10)),
            interval: Some(seconds(3)),
            count: Some(4),
        },
        SocketOption::Linger(Some(seconds(5))),
        SocketOption::TimeToLive(7),
        SocketOption::ReceiveBuffer(70_000),
        SocketOption::SendBuffer(80_000),
        SocketOption::ReuseAddress(true),
        SocketOption::ReusePort(true),
        SocketOption::V6Only(true),
    ] {
        net.network.set_option(stream, option).unwrap();
        assert_eq!(net.network.option(stream, option.name()).unwrap(), option);
    }
    let datagrams = net.network.socket(Domain::V4, SocketKind::Datagram).unwrap();
    net.network.set_option(datagrams, SocketOption::Broadcast(true)).unwrap();
    assert_eq!(net.network.option(datagrams, OptionName::Broadcast).unwrap(), SocketOption::Broadcast(true));
    let keepalive = SocketOption::KeepAlive { enabled: true, idle: None, interval: None, count: None };
    for (option, text) in [
        (SocketOption::NoDelay(true), "NoDelay is an option of TCP sockets only"),
        (keepalive, "KeepAlive is an option of TCP sockets only"),
        (SocketOption::V6Only(true), "V6Only is an option of IPv6 sockets only"),
    ] {
        let error = net.network.set_option(datagrams, option).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Unsupported, text));
        let error = net.network.option(datagrams, option.name()).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Unsupported, text));
    }
}

#[test]
fn the_end_of_the_runtime_ends_what_waits() {
    let (transport, _there) = stack(64);
    let (runtime, net) = runtime(&transport);
    let (accept, later) = runtime.block_on(async {
        let (listener, _) = net.listener(Domain::V4);
        (net.accept(listener), listener)
    });
    drop(accept);
    drop(runtime);
    assert_eq!(transport.counters()[..2], [("sockets open", 0), ("operations waiting", 0)]);
    assert!(transport.local(later).unwrap_err().to_string().contains("the runtime of the socket has ended"));
    assert_eq!(
        transport.bind(later, &any_address(Domain::V4)).unwrap_err().kind(),
        ErrorKind::ConnectionAborted
    );
}
