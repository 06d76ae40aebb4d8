//! How addresses come and go.

use super::world::*;
use crate::ip::addresses::scope;
use crate::stack::{Awaited, Counter, DuplicateDetection, OptionName, SocketOption, Stack};
use crate::wire::ndp::{DnsServer, Message, NeighborAdvertisement, PrefixInformation, RouterAdvertisement};
use demikernel_runtime::time::Duration;
use demikernel_runtime::transport::{Domain, SocketKind};
use std::net::{IpAddr, Ipv4Addr};

const GIVEN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);

/// A host with a lease of 1000 seconds.
fn leased(mode: DuplicateDetection) -> World {
    let mut world = World::new(config().dhcp().duplicate_detection(mode));
    world.lease = Some((GIVEN, 1000));
    world.seconds(9);
    assert_eq!(world.addresses(), ["192.0.2.50/24"]);
    world
}

pub(super) fn advertisement(lifetime: u16, valid: u32) -> RouterAdvertisement {
    let mut router =
        RouterAdvertisement { lifetime, mtu: Some(1400), hop_limit: 9, ..RouterAdvertisement::default() };
    router.source_link_layer = Some(ROUTER);
    router.prefixes[0] = Some(PrefixInformation {
        prefix: v6("2001:db8:1::"),
        length: 64,
        on_link: true,
        autonomous: true,
        valid_lifetime: valid,
        preferred_lifetime: valid,
    });
    router.dns_servers[0] = Some(DnsServer { address: v6("2001:db8::53"), lifetime: 100 });
    router
}

/// A host with an address of a router's prefix.
pub(super) fn advertised(router: RouterAdvertisement) -> World {
    let mut world = World::new(config().slaac().duplicate_detection(DuplicateDetection::Standard));
    world.router = Some(router);
    world.seconds(5);
    assert_eq!(world.stack.awaits(), Awaited::default());
    world
}

fn global(stack: &Stack) -> Option<IpAddr> {
    stack.addresses().iter().map(|address| address.address).find(|address| scope(*address) == 14)
}

#[test]
fn a_server_gives_an_address_with_all_that_belongs_to_it() {
    // [rfc2131 4.1] [rfc2131 4.4.1-discover] [rfc5227 2.1.1-probe] [rfc5227 2.3-announce]
    let mut world = World::new(config().dhcp().duplicate_detection(DuplicateDetection::Standard));
    assert!(world.stack.awaits().lease);
    let socket = world.socket(Domain::V4, SocketKind::Datagram);
    world.stack.bind(socket, "0.0.0.0:68".parse().unwrap()).unwrap();
    assert_eq!(world.send(socket, "198.51.100.1:9"), libc::ENETUNREACH, "nor is anything sent from nowhere");
    world.stack.close(world.now, socket).unwrap();
    world.lease = Some((GIVEN, 1000));
    let story = world.seconds(4);
    let expected = [
        "dhcp Discover 0.0.0.0 to 255.255.255.255",
        "dhcp Request 0.0.0.0 to 255.255.255.255",
        "arp probe 192.0.2.50",
        "arp probe 192.0.2.50",
        "arp probe 192.0.2.50",
        "arp announce 192.0.2.50",
        "arp announce 192.0.2.50",
    ];
    assert_eq!(story, expected);
    let probing = world.said[5].0 - world.said[1].0;
    assert_eq!(probing, 210, "a program's start does not wait for long");
    assert_eq!(world.stack.awaits(), Awaited::default());
    assert_eq!(world.stack.dns_servers(), [ip("9.9.9.9")]);
    let routes = world.stack.routes().iter().map(|route| (route.prefix.to_string(), route.gateway));
    let expected = [("192.0.2.0/24".to_owned(), None), ("0.0.0.0/0".to_owned(), Some(ip("192.0.2.1")))];
    assert!(routes.eq(expected));
    let socket = world.socket(Domain::V4, SocketKind::Stream);
    let _ = world.stack.connect(world.now, socket, "198.51.100.1:80".parse().unwrap());
    assert_eq!(world.after(Duration::ZERO)[1], "tcp 192.0.2.50 to 198.51.100.1 flags 0x2 length 0 hops 64");
    let syn = world.frames.last().unwrap();
    assert_eq!((&syn[..6], &syn[54..58]), (&ROUTER.0[..], &[2, 4, 4, 0xec][..]), "1300 octets less 40");
}

#[test]
fn a_lease_is_renewed_and_lost() {
    // [rfc2131 4.4.5] [rfc2131 4.4.5-expired]
    let mut world = leased(DuplicateDetection::Standard);
    let renewal = world.seconds(500);
    assert_eq!(renewal, ["arp ask 192.0.2.1", "dhcp Request 192.0.2.50 to 192.0.2.1"]);
    assert_eq!(world.addresses(), ["192.0.2.50/24"], "the same address is not probed for again");
    let socket = world.socket(Domain::V4, SocketKind::Datagram);
    assert_eq!(world.send(socket, "198.51.100.1:9"), 0);
    world.lease = None;
    let story = world.seconds(980);
    assert!(story.contains(&"dhcp Request 192.0.2.50 to 255.255.255.255".into()), "{story:?}");
    assert_eq!(world.addresses(), ["192.0.2.50/24"]);
    let story = world.seconds(30);
    assert!(story.contains(&"dhcp Discover 0.0.0.0 to 255.255.255.255".into()), "{story:?}");
    assert!(world.addresses().is_empty() && world.stack.dns_servers().is_empty());
    assert_eq!(world.send(socket, "198.51.100.1:9"), libc::ENETUNREACH);
    // Another one: what the socket knew of the first is forgotten.
    world.lease = Some((Ipv4Addr::new(192, 0, 2, 51), 1000));
    world.seconds(70);
    assert_eq!(world.send(socket, "198.51.100.1:9"), 0);
    assert_eq!(world.after(Duration::ZERO).last().unwrap(), "udp 192.0.2.51 to 198.51.100.1");
}

#[test]
fn nothing_leaves_from_an_address_that_is_gone() {
    let mut world = leased(DuplicateDetection::Off);
    let socket = world.socket(Domain::V4, SocketKind::Stream);
    let _ = world.stack.connect(world.now, socket, "198.51.100.1:80".parse().unwrap());
    world.after(Duration::ZERO);
    world.stack.release_lease(world.now);
    let story = world.seconds(20);
    assert_eq!(story, ["dhcp Release 192.0.2.50 to 192.0.2.1"], "and no SYN again");
    assert!(world.stack.counter(Counter::LostSource) > 1);
    assert!(world.addresses().is_empty());
}

#[test]
fn an_address_that_another_host_has_is_declined() {
    // [rfc2131 4.4.1-decline] [rfc5227 2.1.1-conflict] [rfc5227 2.1.1-simultaneous]
    let mut world = World::new(config().dhcp().duplicate_detection(DuplicateDetection::Standard));
    world.lease = Some((GIVEN, 1000));
    world.hosts.push((GIVEN.into(), OTHER));
    let story = world.seconds(2);
    assert_eq!(story[2..], ["arp probe 192.0.2.50", "dhcp Decline 0.0.0.0 to 255.255.255.255"]);
    world.lease = Some((Ipv4Addr::new(192, 0, 2, 51), 1000));
    let story = world.seconds(12);
    assert_eq!(story[0], "dhcp Discover 0.0.0.0 to 255.255.255.255");
    assert_eq!(world.addresses(), ["192.0.2.51/24"]);
    assert_eq!(world.stack.counter(Counter::AddressConflict), 1);
    // One in use is defended once, and declined if that does not help. [rfc5227 2.4-b] [rfc5227 2.4-conflict]
    world.hear(claim("192.0.2.51"));
    assert_eq!(world.seconds(1), ["arp announce 192.0.2.51"]);
    world.hear(claim("192.0.2.51"));
    assert_eq!(world.seconds(1), ["dhcp Decline 0.0.0.0 to 255.255.255.255"]);
    assert!(world.addresses().is_empty());
}

#[test]
fn addresses_of_the_configuration_are_in_use_when_the_mode_says() {
    use DuplicateDetection::{Off, Optimistic, Standard, Strict};
    // Mode, whether IPv4 and IPv6 are at once, and after how many seconds at most both are; what is sent meanwhile.
    let table: [(_, [bool; 2], _, &[&str]); 4] = [
        (Off, [true, true], 0, &[]),
        // [rfc4861 7.2.6]
        (
            Optimistic,
            [true, true],
            0,
            &["arp announce", "ndp probe 2001:db8::1", "ndp answer 2001:db8::1 replaces true"],
        ),
        // [rfc4862 5.4.2-solicitation] [rfc4862 5.4-unique]
        (Standard, [true, false], 2, &["arp announce", "ndp probe 2001:db8::1"]),
        // [rfc5227 2.1.1-probes]
        (Strict, [false, false], 7, &["arp probe", "ndp probe 2001:db8::1", "arp announce"]),
    ];
    for (mode, at_once, seconds, said) in table {
        let config = config().duplicate_detection(mode);
        let mut world = World::new(config.address(ip("192.0.2.7"), 24).address(ip("2001:db8::1"), 64));
        world.after(Duration::ZERO);
        let is_usable = |world: &World, address: &str| world.stack.addresses().is_local(ip(address));
        let usable = ["192.0.2.7", "2001:db8::1"].map(|address| is_usable(&world, address));
        assert_eq!((usable, world.stack.awaits().detection), (at_once, at_once != [true; 2]), "{mode:?}");
        world.seconds(seconds);
        assert!(is_usable(&world, "192.0.2.7") && is_usable(&world, "2001:db8::1"), "{mode:?}");
        world.seconds(9);
        let story: Vec<_> = world.said.iter().map(|(_, words)| &words[..]).collect();
        assert!(
            said.iter().all(|said| story.iter().any(|words| words.starts_with(said))),
            "{mode:?} {story:?}"
        );
        assert_eq!(story.is_empty(), mode == Off, "{story:?}");
        let link_local = world.stack.addresses().iter().any(|address| scope(address.address) == 2);
        assert_eq!(link_local, mode != Off, "IPv6 has one on every link");
    }
}

#[test]
fn a_configured_address_is_given_up_only_before_it_is_in_use() {
    let strict = config().duplicate_detection(DuplicateDetection::Strict).address(ip("192.0.2.7"), 24);
    let mut world = World::new(strict);
    world.hosts.push((ip("192.0.2.7"), OTHER));
    world.seconds(8);
    assert_eq!((world.stack.duplicates(), world.addresses().len()), (&[ip("192.0.2.7")][..], 0));
    // Whoever can send a packet must not take a server's address from it. [rfc5227 2.4-c]
    let standard = config().duplicate_detection(DuplicateDetection::Standard).address(ip("192.0.2.7"), 24);
    let mut world = World::new(standard);
    world.seconds(5);
    for _ in 0..100 {
        world.hear(claim("192.0.2.7"));
    }
    assert_eq!(world.seconds(1), ["arp announce 192.0.2.7"], "but it is defended, once in ten seconds");
    assert_eq!((world.addresses().len(), world.stack.duplicates()), (1, &[][..]));
    assert_eq!(world.stack.counter(Counter::AddressConflict), 100);
    // [rfc4862 5.4.4]
    let mut world =
        World::new(config().duplicate_detection(DuplicateDetection::Standard).address(ip("2001:db8::1"), 64));
    world.hosts.push((ip("2001:db8::1"), OTHER));
    world.seconds(3);
    assert_eq!(world.stack.duplicates(), [ip("2001:db8::1")]);
}

#[test]
fn a_router_makes_addresses_routes_and_parameters() {
    // [rfc4862 5.3] [rfc4861 6.3.7-stop] [rfc4861 6.3.4-router] [rfc4861 6.3.4-hop-limit] [rfc4861 6.3.4-mtu]
    let mut world = advertised(advertisement(1800, 3600));
    let own = global(&world.stack).unwrap();
    let link = world.stack.addresses().iter().next().unwrap().address;
    let story: Vec<_> = world.said.iter().map(|(_, words)| &words[..]).collect();
    let count = |words: &str| story.iter().filter(|said| **said == words).count();
    assert_eq!(
        (count(&format!("ndp probe {link}")), count(&format!("ndp probe {own}"))),
        (1, 1),
        "{story:?}"
    );
    // Nobody who has no address yet names his station. [rfc4861 4.1] [rfc4861 4.3]
    assert_eq!(story.iter().filter(|said| said.starts_with("ndp ask routers")).count(), 1, "{story:?}");
    assert_eq!(count("ndp ask routers from nobody "), 1, "{story:?}");
    // Switches that listen to MLD are told of both groups. [rfc4862 5.4.2-join]
    let IpAddr::V6(address) = own else { panic!("{own}") };
    let group = crate::wire::ndp::solicited_node(address);
    assert!(
        story.iter().any(|said| said.starts_with("mld ") && said.contains(&group.to_string())),
        "{story:?}"
    );
    assert_eq!(world.stack.dns_servers(), [ip("2001:db8::53")]);
    let socket = world.socket(Domain::V6, SocketKind::Stream);
    let _ = world.stack.connect(world.now, socket, "[2001:db8:9::1]:80".parse().unwrap());
    let syn = world.after(Duration::ZERO).pop().unwrap();
    assert_eq!(syn, format!("tcp {own} to 2001:db8:9::1 flags 0x2 length 0 hops 9"));
    let frame = world.frames.last().unwrap();
    assert_eq!((&frame[..6], &frame[74..78]), (&ROUTER.0[..], &[2, 4, 5, 0x3c][..]), "1400 octets less 60");
    world.stack.set_option(world.now, socket, &SocketOption::TimeToLive(7)).unwrap();
    assert_eq!(world.stack.option(socket, OptionName::TimeToLive).unwrap(), SocketOption::TimeToLive(7));
}

#[test]
fn what_a_router_says_ends() {
    // [rfc4861 6.3.5] [rfc4862 5.5.4-invalid] [rfc8106 5.1-lifetime]
    let mut world = advertised(advertisement(60, 120));
    let socket = world.socket(Domain::V6, SocketKind::Datagram);
    assert_eq!(world.send(socket, "[2001:db8:9::1]:9"), 0);
    world.router = None;
    world.seconds(61);
    assert_eq!(world.send(socket, "[2001:db8:9::1]:9"), libc::ENETUNREACH, "there is no router");
    assert_eq!(world.send(socket, "[2001:db8:1::1]:9"), 0, "but others on the link");
    assert!(global(&world.stack).is_some());
    world.seconds(60);
    assert_eq!((global(&world.stack), world.stack.dns_servers()), (None, vec![]));
    assert_eq!(world.send(socket, "[2001:db8:1::1]:9"), libc::ENETUNREACH);
    assert!(world.stack.awaits().prefix);
}

#[test]
fn a_duplicate_makes_another_address() {
    // [rfc7217 6] [rfc4862 5.4.3] [rfc4862 5.4.4]
    let first = {
        let world = advertised(advertisement(1800, 3600));
        world.stack.addresses().iter().map(|address| address.address).collect::<Vec<_>>()
    };
    let mut world = World::new(config().slaac().duplicate_detection(DuplicateDetection::Standard));
    world.router = Some(advertisement(1800, 3600));
    world.hosts.extend(first.iter().map(|address| (*address, OTHER)));
    world.seconds(9);
    let others: Vec<_> = world.stack.addresses().iter().map(|address| address.address).collect();
    assert!(
        others.len() == 2 && others.iter().all(|address| !first.contains(address)),
        "{first:?} {others:?}"
    );
    assert_eq!(world.stack.awaits(), Awaited::default());
    // Two that ask at the same time both give it up.
    let mut world = World::new(config().slaac().duplicate_detection(DuplicateDetection::Standard));
    let IpAddr::V6(target) = first[0] else { panic!("{first:?}") };
    let question = Message::NeighborSolicitation { target, source_link_layer: None };
    let group = crate::wire::ndp::solicited_node(target);
    world.hear(ndp_frame(OTHER, std::net::Ipv6Addr::UNSPECIFIED, group, &question));
    world.seconds(3);
    assert!(!world.stack.addresses().is_local(first[0]) && world.addresses().len() == 1);
}

#[test]
fn a_link_that_gives_frames_back_makes_no_duplicates() {
    // [rfc4862 5.4.3-loopback]
    let mut world = World::new(
        config().slaac().duplicate_detection(DuplicateDetection::Strict).address(ip("192.0.2.7"), 24),
    );
    for _ in 0..80 {
        let from = world.frames.len();
        world.after(Duration::from_millis(100));
        let echoes = world.frames[from..].to_vec();
        echoes.into_iter().for_each(|frame| world.hear(frame));
    }
    assert_eq!((world.addresses().len(), world.stack.counter(Counter::AddressConflict)), (2, 0));
}

#[test]
fn an_optimistic_address_takes_nothing_from_others() {
    // (RFC 4429 sections 3.2 and 3.3)
    let mode = DuplicateDetection::Optimistic;
    let mut world = World::new(config().duplicate_detection(mode).address(ip("2001:db8::1"), 64));
    let question = |world: &mut World| {
        let target = v6("2001:db8::1");
        let message = Message::NeighborSolicitation { target, source_link_layer: Some(OTHER) };
        world.hear(ndp_frame(OTHER, v6("fe80::9"), crate::wire::ndp::solicited_node(target), &message));
        world.after(Duration::ZERO).into_iter().find(|words| words.starts_with("ndp answer")).unwrap()
    };
    assert_eq!(question(&mut world), "ndp answer 2001:db8::1 replaces false");
    world.seconds(3);
    assert_eq!(question(&mut world), "ndp answer 2001:db8::1 replaces true");
    // Another has had it all along.
    let mut world = World::new(config().duplicate_detection(mode).address(ip("2001:db8::1"), 64));
    world.after(Duration::ZERO);
    let claim = NeighborAdvertisement {
        target: v6("2001:db8::1"),
        router: false,
        solicited: false,
        replaces: true,
        target_link_layer: Some(OTHER),
    };
    world.hear(ndp_frame(OTHER, v6("fe80::9"), ALL_NODES, &Message::NeighborAdvertisement(claim)));
    assert!(!world.stack.addresses().is_local(ip("2001:db8::1")));
    assert_eq!(world.stack.duplicates(), [ip("2001:db8::1")]);
}

#[test]
fn a_secret_keeps_addresses_the_same() {
    // [rfc7217 5]
    let made = |key: u8, secret: Option<u8>| {
        let mut config = config().slaac();
        config.key = [key; 32];
        config.stable_secret = secret.map(|secret| [secret; 16]);
        World::new(config).addresses()
    };
    assert_eq!(made(1, Some(5)), made(2, Some(5)));
    assert_ne!(made(1, None), made(2, None));
}
