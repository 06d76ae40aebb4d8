//! Hosts over simulated links.

mod floods;
mod interface;
mod machines;
#[cfg(feature = "dpdk")]
mod mbufs;
mod program;
mod stories;

use demikernel_net::sim::{Host, HostConfig, HostId, LinkConfig, Network};
use demikernel_runtime::transport::{Domain, SocketKind};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Two hosts, `10.0.0.1` and `10.0.0.2`, `fd00::1` and `fd00::2`.
fn two_hosts(seed: u64, link: LinkConfig) -> (Network, HostId, HostId) {
    two_hosts_with(seed, link, |_| {})
}

/// The same, made as `change` says.
fn two_hosts_with(
    seed: u64,
    link: LinkConfig,
    change: impl Fn(&mut HostConfig),
) -> (Network, HostId, HostId) {
    let mut network = Network::new(seed, link);
    let host = |number: u8| {
        let v6 = format!("fd00::{number}").parse().unwrap();
        let mut config = HostConfig::new([[10, 0, 0, number].into(), v6]);
        change(&mut config);
        config
    };
    let one = network.add(host(1));
    let two = network.add(host(2));
    (network, one, two)
}

fn delay(milliseconds: u64) -> LinkConfig {
    LinkConfig { delay: Duration::from_millis(milliseconds), ..LinkConfig::default() }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn domain_of(address: SocketAddr) -> Domain {
    if address.is_ipv4() { Domain::V4 } else { Domain::V6 }
}

/// A listening socket.
fn listen(host: &mut Host, at: SocketAddr) -> usize {
    let socket = host.socket(domain_of(at), SocketKind::Stream).unwrap();
    host.bind(socket, at).unwrap();
    host.listen(socket, 16).unwrap();
    socket
}

/// A socket that connects.
fn connect(host: &mut Host, to: SocketAddr) -> usize {
    let socket = host.socket(domain_of(to), SocketKind::Stream).unwrap();
    assert_errno(host.connect(socket, to), libc::EINPROGRESS);
    socket
}

#[track_caller]
fn assert_errno<T: std::fmt::Debug>(result: io::Result<T>, errno: i32) {
    let found = result.as_ref().map_err(|error| error.raw_os_error());
    assert!(
        matches!(found, Err(Some(number)) if number == errno),
        "{result:?} instead of {}",
        io::Error::from_raw_os_error(errno)
    );
}

/// A connection from one host to the other.
fn pair(network: &mut Network, one: HostId, two: HostId, to: SocketAddr) -> (usize, usize, usize) {
    let listener = listen(network.host(two), to);
    let client = connect(network.host(one), to);
    let mut accepted = None;
    let done = network.run_while(Duration::from_secs(60), |network| {
        accepted = accepted.or_else(|| network.host(two).accept(listener).ok().map(|(socket, _)| socket));
        accepted.is_some() && network.host(one).readiness(client).unwrap().writable
    });
    assert!(done, "no connection with seed {}", network.seed());
    (client, accepted.unwrap(), listener)
}

/// Bytes that tell where they belong.
fn pattern(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|place| (place ^ place >> 8 ^ place >> 16) as u8).collect()
}
