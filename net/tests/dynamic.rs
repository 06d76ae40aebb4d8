//! Addresses, routers and groups as the programs of others give and see them: dnsmasq as DHCP server and router, the
//! kernel's bridge as a switch that listens to reports of groups. Each test in a network namespace of its own.

mod common;

use common::{alone, ip};
use demikernel_net::config::NetConfig;
use demikernel_net::ip::addresses::{Origin, scope};
use demikernel_net::stack::Awaited;
use demikernel_net::transport::{NetTransport, open};
use demikernel_runtime::Runtime;
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::net::{TcpStream, UdpSocket};
use demikernel_runtime::time::sleep;
use demikernel_runtime::transport::{Domain, SocketKind};
use std::io::{self, Read};
use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

const MAC: &str = "02:00:00:00:09:02";

/// What the kernel's end of the cable begins with.
fn cable() {
    ip("tuntap add tap0 mode tap");
    configure("tap0");
}

/// Addresses for an interface of the kernel, and what a router has.
fn configure(interface: &str) {
    for arguments in [
        "addr add 10.9.0.1/24 dev INTERFACE",
        "-6 addr add fd00:9::1/64 dev INTERFACE nodad",
        // One that can answer from the first moment: the kernel's own address would be tentative.
        "link set INTERFACE addrgenmode none",
        "-6 addr add fe80::1/64 dev INTERFACE nodad",
        "link set INTERFACE up",
        "link set lo up",
    ] {
        ip(&arguments.replace("INTERFACE", interface));
    }
}

fn opened(network: &str) -> io::Result<Rc<NetTransport>> {
    let config: NetConfig = format!("[network]\nmac = \"{MAC}\"\n{network}").parse().unwrap();
    open(&config)
}

/// A DHCP server that is a router of IPv6, too.
struct Dnsmasq {
    child: Child,
    leases: PathBuf,
}

impl Dnsmasq {
    /// Starts it. `None` where it is not installed and need not be.
    fn start(interface: &str) -> Option<Dnsmasq> {
        let file = format!("demikernel-leases-{}-{interface}", std::process::id());
        let leases = std::env::temp_dir().join(file);
        let mut command = Command::new("dnsmasq");
        command.args(["--no-daemon", "--conf-file=/dev/null", "--port=0", "--bind-dynamic", "--no-ping"]);
        command.args(["--user=root", "--pid-file=", "--dhcp-authoritative", "--enable-ra"]);
        command.args(["--dhcp-range=10.9.0.50,10.9.0.50,2m", "--dhcp-option=option:dns-server,10.9.0.53"]);
        command.args(["--dhcp-option=option:mtu,1400", "--dhcp-option=option:router,10.9.0.1"]);
        command
            .args(["--dhcp-range=fd00:9::,ra-only,64,10m", "--dhcp-option=option6:dns-server,[fd00:9::53]"]);
        command.arg(format!("--ra-param={interface},mtu:1380,10,1800"));
        command.arg(format!("--interface={interface}"));
        command.arg(format!("--dhcp-leasefile={}", leases.display()));
        match command.stdin(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => Some(Dnsmasq { child, leases }),
            Err(error) => {
                assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "dnsmasq: {error}");
                eprintln!("skipped: dnsmasq: {error}");
                None
            }
        }
    }

    /// Lines about the addresses that it has given and not got back.
    fn leases(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.leases).unwrap_or_default();
        text.lines().filter(|line| line.contains(MAC)).map(str::to_owned).collect()
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.leases);
    }
}

/// Until `done`.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn output(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "{program} {arguments}");
    String::from_utf8(output.stdout).unwrap()
}

/// Connects to a socket of the kernel.
async fn reaches(listen: &str) {
    let listener = TcpListener::bind(listen).unwrap();
    let address = listener.local_addr().unwrap();
    let peer = std::thread::spawn(move || {
        let (mut peer, from) = listener.accept().unwrap();
        let mut words = String::new();
        peer.read_to_string(&mut words).unwrap();
        (words, from)
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let own = stream.local_addr().unwrap();
    stream.push(Buffer::from_static(b"hello")).await.unwrap();
    drop(stream);
    while !peer.is_finished() {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(peer.join().unwrap(), ("hello".to_owned(), own));
}

#[test]
fn dnsmasq_gives_an_address_and_a_prefix() {
    // [rfc2131 4.4.1-discover] [rfc2131 4.4.6] [rfc4861 6.3.4-router] [rfc4862 5.5.3-d]
    for (interface, network) in [("tap0", ""), ("far", "device = \"packet\"\ninterface = \"near\"")] {
        if !alone() {
            return;
        }
        if interface == "tap0" {
            cable();
        } else {
            ip("link add near type veth peer name far");
            ip("link set near up");
            configure(interface);
        }
        let Some(dnsmasq) = Dnsmasq::start(interface) else { return };
        is_served(&dnsmasq, &opened(network).unwrap());
    }
}

fn is_served(dnsmasq: &Dnsmasq, transport: &Rc<NetTransport>) {
    transport.with_stack(|stack| {
        assert_eq!(stack.awaits(), Awaited::default());
        let given: Vec<_> = stack.addresses().iter().filter(|address| scope(address.address) != 2).collect();
        let dhcp = given.iter().find(|address| address.origin == Origin::Dhcp).unwrap();
        assert_eq!((dhcp.address, dhcp.prefix_length), ("10.9.0.50".parse::<IpAddr>().unwrap(), 24));
        let made = given.iter().find(|address| address.origin == Origin::Slaac).unwrap();
        assert_eq!(made.prefix().to_string(), "fd00:9::/64");
        let dns_servers = ["10.9.0.53", "fd00:9::53"].map(|server| server.parse::<IpAddr>().unwrap());
        assert_eq!(stack.dns_servers(), dns_servers);
    });
    assert_eq!(dnsmasq.leases().len(), 1);
    let runtime = Runtime::new().unwrap();
    runtime.attach(transport.clone().transport());
    runtime.block_on(async {
        reaches("10.9.0.1:0").await;
        reaches("[fd00:9::1]:0").await;
    });
    drop(runtime);
    let end = Instant::now() + Duration::from_secs(5);
    while !dnsmasq.leases().is_empty() {
        assert!(Instant::now() < end, "the address was not given back");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn without_a_server_the_start_fails_and_with_an_address_it_does_not() {
    if !alone() {
        return;
    }
    cable();
    let error = opened("wait = \"1s\"").unwrap_err();
    let expected = "\"tap0\": no address after 1s: no DHCP server has given an address, no router has advertised a prefix; \
                    say addresses under [network]";
    assert!(error.to_string().starts_with(expected), "{error}");
    assert!(opened("wait = \"0s\"").is_ok());
    let began = Instant::now();
    let addresses = "addresses = [\"10.9.0.2/24\", \"dhcp\"]";
    let transport = opened(addresses).unwrap();
    assert!(began.elapsed() >= Duration::from_secs(5), "the other way was given its time");
    assert!(transport.with_stack(|stack| stack.awaits().lease));
}

#[test]
fn the_kernel_s_own_addresses_are_not_taken() {
    // [rfc4862 5.4.4] [rfc5227 2.1.1-conflict]
    if !alone() {
        return;
    }
    cable();
    for (address, mode) in [("fd00:9::1/64", "standard"), ("10.9.0.1/24", "strict")] {
        let error =
            opened(&format!("addresses = [\"{address}\"]\nduplicate-detection = \"{mode}\"")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        let (address, _) = address.split_once('/').unwrap();
        assert!(
            error.to_string().contains(&format!("another host has the address {address}; choose")),
            "{error}"
        );
    }
}

#[test]
fn a_bridge_that_snoops_learns_of_groups() {
    // [rfc3376 5.1] [rfc3376 5.2] [rfc3810 6.1] [rfc3810 6.2]
    if !alone() {
        return;
    }
    cable();
    ip("addr flush dev tap0");
    let bridge =
        "link add br0 type bridge mcast_snooping 1 mcast_querier 1 mcast_igmp_version 3 mcast_mld_version 2";
    if !Command::new("ip").args(bridge.split(' ')).status().unwrap().success() {
        assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "the kernel has no bridge that snoops");
        return eprintln!("skipped: the kernel has no bridge that snoops");
    }
    ip("link set tap0 master br0");
    ip("addr add 10.9.0.1/24 dev br0");
    ip("link set br0 up");
    let transport = opened("addresses = [\"10.9.0.2/24\", \"fd00:9::2/64\"]").unwrap();
    let runtime = Runtime::new().unwrap();
    runtime.attach(transport.clone().transport());
    let now = demikernel_runtime::time::Instant::now;
    let groups = ["239.1.2.3", "ff05::1:3"].map(|group| group.parse::<IpAddr>().unwrap());
    let socket = transport.with_stack(|stack| stack.socket(Domain::V6, SocketKind::Datagram)).unwrap();
    let knows =
        |group: &str| output("bridge", "mdb show dev br0").contains(&format!("port tap0 grp {group} "));
    runtime.block_on(async {
        let own = "ff02::1:ff00:2";
        until("the bridge knows the group of the address", || knows(own)).await;
        groups
            .iter()
            .for_each(|group| transport.with_stack(|stack| stack.join(now(), socket, *group)).unwrap());
        until("the bridge knows the groups", || groups.iter().all(|group| knows(&group.to_string()))).await;
        groups
            .iter()
            .for_each(|group| transport.with_stack(|stack| stack.leave(now(), socket, *group)).unwrap());
        until("the bridge has forgotten them", || !groups.iter().any(|group| knows(&group.to_string())))
            .await;
    });
}

#[test]
fn the_kernel_as_a_router_redirects() {
    // [rfc1122 3.2.2.2] [rfc4861 8.3]
    if !alone() {
        return;
    }
    cable();
    for (file, value) in [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")] {
        std::fs::write(format!("/proc/sys/net/{file}"), value).unwrap();
    }
    for arguments in [
        "neigh add 10.9.0.9 lladdr 02:00:00:00:09:09 dev tap0 nud permanent",
        "route add 10.8.0.0/24 via 10.9.0.9 dev tap0",
        "-6 neigh add fe80::9 lladdr 02:00:00:00:09:09 dev tap0 nud permanent",
        "-6 route add fd00:8::/64 via fe80::9 dev tap0",
    ] {
        ip(arguments);
    }
    let addresses = "addresses = [\"10.9.0.2/24\", \"fd00:9::2/64\"]\ngateways = [\"10.9.0.1\", \"fe80::1\"]";
    let transport = opened(addresses).unwrap();
    let runtime = Runtime::new().unwrap();
    runtime.attach(transport.clone().transport());
    let hop = |destination: &str| {
        let destination: IpAddr = destination.parse().unwrap();
        let now = demikernel_runtime::time::Instant::now();
        transport
            .with_stack(|stack| stack.routes().look_up(now, destination).map(|cached| cached.hop.to_string()))
    };
    runtime.block_on(async {
        for (local, destination, other) in
            [("0.0.0.0:0", "10.8.0.1", "10.9.0.9"), ("[::]:0", "fd00:8::1", "fe80::9")]
        {
            let socket = UdpSocket::bind(local).await.unwrap();
            let to = (destination.parse::<IpAddr>().unwrap(), 9).into();
            let end = Instant::now() + Duration::from_secs(10);
            while hop(destination).as_deref() != Some(other) {
                assert!(Instant::now() < end, "no redirect to {other}");
                socket.push_to(Buffer::from_static(b"hello"), to).await.unwrap();
                sleep(Duration::from_millis(50)).await;
            }
        }
    });
}
