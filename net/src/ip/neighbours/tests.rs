use super::*;
use crate::wire::arp::{Operation, Packet};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

const OWN: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const PEER: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
const OTHER: MacAddress = MacAddress([2, 0, 0, 0, 0, 3]);
const OWN_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PEER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const PEER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

/// A cache in virtual time, whose packets are numbers.
struct World {
    cache: Neighbours<u32>,
    now: Instant,
}

impl World {
    fn new() -> World {
        World::with(Limits::default())
    }

    fn with(limits: Limits) -> World {
        let cache = Neighbours::new(OWN, limits, Times::default(), Key::new([7; 16]));
        World { cache, now: Instant::from_nanos(0) + Duration::from_secs(100) }
    }

    fn send(&mut self, to: impl Into<IpAddr>, packet: u32) -> Option<Cookie> {
        match self.cache.resolve(self.now, to.into(), packet, 100) {
            Resolution::Ready(cookie, same) => {
                assert_eq!(same, packet);
                Some(cookie)
            }
            Resolution::Waiting => None,
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.cache.on_time(self.now);
    }

    fn arp(&mut self, packet: &Packet) -> ArpNews {
        self.cache.on_arp(self.now, packet, |address| address == OWN_V4, |address| address == OWN_V4)
    }

    fn advertise(&mut self, hardware: Option<MacAddress>, flags: &str) {
        let advertisement = Advertisement {
            hardware,
            solicited: flags.contains('S'),
            replaces: flags.contains('O'),
            is_router: flags.contains('R'),
        };
        self.cache.on_advertisement(self.now, PEER_V6, advertisement);
    }

    fn state(&self, address: impl Into<IpAddr>) -> Option<State> {
        self.cache.find(address.into()).map(|(state, _)| state)
    }

    /// A neighbour in a state, its events taken.
    fn in_state(state: State) -> World {
        let mut world = World::new();
        world.send(PEER_V6, 0);
        match state {
            State::Incomplete => {}
            State::Reachable => world.advertise(Some(PEER), "SO"),
            State::Stale => {
                world.advertise(Some(PEER), "SO");
                world.pass(30);
            }
            State::Delay => world.advertise(Some(PEER), "O"),
            State::Probe => {
                world.advertise(Some(PEER), "O");
                world.pass(5);
            }
            State::Permanent => {
                assert!(world.cache.add_permanent(world.now, PEER_V6.into(), PEER));
            }
        }
        assert_eq!(world.state(PEER_V6), Some(state));
        world.events();
        world
    }

    /// Events, as a story.
    fn events(&mut self) -> Vec<String> {
        let events: Vec<_> = std::iter::from_fn(|| self.cache.poll()).collect();
        let story = events.into_iter().map(|event| match event {
            Event::Solicit { address, to: None } => format!("who has {address}"),
            Event::Solicit { address, to: Some(to) } => format!("still {address} at {to}"),
            Event::Send { cookie, packet } => {
                let to = self.cache.header(cookie).map(|header| header[5]);
                format!("send {packet} to {to:?}")
            }
            Event::Unreachable { address, packet } => format!("{packet} cannot reach {address}"),
            Event::RouterLost(address) => format!("lost {address}"),
        });
        story.collect()
    }
}

fn reply() -> Packet {
    Packet {
        operation: Operation::Reply,
        sender_hardware: PEER,
        sender_protocol: PEER_V4,
        target_hardware: OWN,
        target_protocol: OWN_V4,
    }
}

fn request() -> Packet {
    Packet { operation: Operation::Request, target_hardware: MacAddress::default(), ..reply() }
}

#[test]
fn a_packet_waits_for_the_answer_and_goes() {
    let mut world = World::new();
    assert_eq!(world.send(PEER_V4, 1), None);
    assert_eq!(world.send(PEER_V4, 2), None);
    assert_eq!(world.events(), ["who has 192.0.2.2"]);
    assert_eq!(world.arp(&reply()), ArpNews::Nothing);
    assert_eq!(world.events(), ["send 1 to Some(2)", "send 2 to Some(2)"]);
    assert_eq!(world.state(PEER_V4), Some(State::Reachable));
    let cookie = world.send(PEER_V4, 3).unwrap();
    let header = *world.cache.header(cookie).unwrap();
    assert_eq!(header[..], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
}

#[test]
fn nobody_answers_three_questions_a_second_apart() {
    // [rfc4861 7.2.2-unreachable] [rfc4861 10-max-solicit] [rfc1122 2.3.2.1-flooding] [rfc1122 2.3.2.2]
    for address in [IpAddr::from(PEER_V4), IpAddr::from(PEER_V6)] {
        let mut world = World::new();
        assert_eq!(world.send(address, 1), None);
        for _ in 0..3 {
            assert_eq!(world.events(), [format!("who has {address}")]);
            world.pass(1);
        }
        // [rfc1122 3.3.1.4]
        let lost = address.is_ipv4().then(|| format!("lost {address}"));
        let told = [format!("1 cannot reach {address}")].into_iter().chain(lost).collect::<Vec<_>>();
        assert_eq!(world.events(), told);
        assert_eq!((world.cache.len(), world.cache.deadline()), (0, None));
    }
}

#[test]
fn reachable_turns_stale_then_is_probed_when_used() {
    // [rfc4861 10-delay] [rfc4861 7.3.3-probe] [rfc1122 2.3.2.1-poll]
    let mut world = World::in_state(State::Reachable);
    let cookie = world.send(PEER_V6, 1).unwrap();
    world.pass(30);
    assert_eq!(world.state(PEER_V6), Some(State::Stale));
    assert!(world.cache.header(cookie).is_none(), "the slow path has to see it");
    world.pass(1000);
    assert_eq!(world.state(PEER_V6), Some(State::Stale), "nobody asks for whom nobody sends to");
    let cookie = world.send(PEER_V6, 2).unwrap();
    assert_eq!(world.state(PEER_V6), Some(State::Delay));
    assert!(world.cache.header(cookie).is_some(), "fast again");
    world.pass(4);
    assert_eq!(world.events(), [""; 0]);
    world.pass(1);
    assert_eq!(world.events(), ["still fe80::2 at 02:00:00:00:00:02"]);
    assert!(world.cache.header(cookie).is_some(), "packets go on meanwhile");
    world.pass(1);
    world.pass(1);
    assert_eq!(world.events().len(), 2);
    world.pass(1);
    assert_eq!(world.state(PEER_V6), None);
    assert!(world.cache.header(cookie).is_none());
}

#[test]
fn transports_confirm_neighbours() {
    // [rfc4861 7.3.1-confirmation] [rfc1122 2.3.2.1-advice]
    let mut world = World::in_state(State::Reachable);
    let cookie = world.send(PEER_V6, 1).unwrap();
    for _ in 0..10 {
        world.pass(20);
        world.cache.confirm(world.now, cookie);
        assert_eq!(world.state(PEER_V6), Some(State::Reachable));
    }
    let mut world = World::in_state(State::Delay);
    let cookie = world.send(PEER_V6, 1).unwrap();
    world.pass(2);
    world.cache.confirm(world.now, cookie);
    world.pass(3);
    assert_eq!((world.state(PEER_V6), world.events()), (Some(State::Reachable), vec![]));
    let mut world = World::in_state(State::Probe);
    let cookie = world.send(PEER_V6, 1).unwrap();
    world.cache.confirm(world.now, cookie);
    world.pass(1);
    assert_eq!((world.state(PEER_V6), world.events()), (Some(State::Reachable), vec![]));
}

#[test]
fn a_confirmation_of_the_old_address_does_not_count_for_the_new_one() {
    let mut world = World::in_state(State::Reachable);
    let cookie = world.send(PEER_V6, 1).unwrap();
    world.cache.confirm(world.now, cookie);
    world.advertise(Some(OTHER), "O");
    assert!(world.cache.header(cookie).is_none());
    world.send(PEER_V6, 2).unwrap();
    world.pass(5);
    assert_eq!(world.state(PEER_V6), Some(State::Probe));
}

#[test]
fn advertisements_change_states_by_the_table() {
    use State::{Delay, Incomplete, Probe, Reachable, Stale};
    // State, address, flags, then state and address. [rfc4861 7.2.5]
    let table = [
        // [rfc4861 7.2.5-incomplete]
        (Incomplete, Some(OTHER), "S", Reachable, Some(OTHER)),
        (Incomplete, Some(OTHER), "", Delay, Some(OTHER)),
        (Incomplete, None, "SO", Incomplete, None),
        // [rfc4861 7.2.5-update]
        (Reachable, Some(OTHER), "", Stale, Some(PEER)),
        (Reachable, Some(OTHER), "S", Stale, Some(PEER)),
        (Stale, Some(OTHER), "S", Stale, Some(PEER)),
        (Probe, Some(OTHER), "S", Probe, Some(PEER)),
        (Reachable, Some(OTHER), "O", Stale, Some(OTHER)),
        (Delay, Some(OTHER), "O", Stale, Some(OTHER)),
        (Probe, Some(OTHER), "SO", Reachable, Some(OTHER)),
        (Stale, Some(OTHER), "SO", Reachable, Some(OTHER)),
        (Stale, Some(PEER), "S", Reachable, Some(PEER)),
        (Probe, Some(PEER), "SO", Reachable, Some(PEER)),
        (Probe, None, "S", Reachable, Some(PEER)),
        (Probe, Some(PEER), "O", Probe, Some(PEER)),
        (Reachable, Some(PEER), "", Reachable, Some(PEER)),
        (State::Permanent, Some(OTHER), "SO", State::Permanent, Some(PEER)),
    ];
    for (before, hardware, flags, state, known) in table {
        let mut world = World::in_state(before);
        world.advertise(hardware, flags);
        let found = world.cache.find(PEER_V6.into());
        assert_eq!(found, Some((state, known)), "{before:?} {hardware:?} {flags}");
    }
    // [rfc4861 7.2.5-no-entry]
    let mut world = World::new();
    world.advertise(Some(PEER), "SO");
    assert!(world.cache.is_empty());
}

#[test]
fn solicitations_tell_addresses_but_not_reachability() {
    // [rfc4861 7.2.3-update]
    use State::{Delay, Incomplete, Probe, Reachable, Stale};
    let table = [
        (Incomplete, PEER, Delay),
        (Reachable, PEER, Reachable),
        (Reachable, OTHER, Stale),
        (Probe, PEER, Probe),
        (Probe, OTHER, Stale),
    ];
    for (before, hardware, after) in table {
        let mut world = World::in_state(before);
        world.cache.on_solicitation(world.now, PEER_V6, hardware, None);
        assert_eq!(world.cache.find(PEER_V6.into()), Some((after, Some(hardware))), "{before:?} {hardware}");
    }
    let mut world = World::new();
    world.cache.on_solicitation(world.now, Ipv6Addr::UNSPECIFIED, PEER, None);
    world.cache.on_solicitation(world.now, PEER_V6, MacAddress::BROADCAST, None);
    assert!(world.cache.is_empty());
    world.cache.on_solicitation(world.now, PEER_V6, PEER, None);
    assert_eq!(world.state(PEER_V6), Some(Stale));
}

#[test]
fn a_router_that_is_none_any_more_is_lost() {
    // [rfc4861 7.3.3-router] [rfc4861 6.3.4-is-router] [rfc4861 6.2.6]
    let mut world = World::new();
    world.cache.on_solicitation(world.now, PEER_V6, PEER, Some(true));
    world.advertise(Some(PEER), "SR");
    assert_eq!(world.events(), [""; 0]);
    world.advertise(Some(PEER), "S");
    assert_eq!(world.events(), ["lost fe80::2"]);
    world.advertise(Some(PEER), "SR");
    world.pass(30);
    world.send(PEER_V6, 1);
    world.pass(5);
    (0..3).for_each(|_| world.pass(1));
    assert_eq!(world.events().last().unwrap(), "lost fe80::2");
    // One that had to go for lack of room is not lost.
    world.cache.on_solicitation(world.now, PEER_V6, PEER, Some(true));
    world.cache.remove(PEER_V6.into());
    assert_eq!(world.events(), [""; 0]);
}

#[test]
fn arp_makes_entries_of_questions_to_us_and_updates_those_that_are_there() {
    // [rfc826 add]
    let mut world = World::new();
    assert_eq!(world.arp(&request()), ArpNews::Answer(request().reply(OWN)));
    assert_eq!(world.cache.find(PEER_V4.into()), Some((State::Stale, Some(PEER))));
    // Not of answers to nobody's question, nor of questions to others.
    let mut world = World::new();
    world.arp(&reply());
    world.arp(&Packet { target_protocol: Ipv4Addr::new(192, 0, 2, 9), ..request() });
    assert!(world.cache.is_empty());
    // [rfc826 merge] A gratuitous one: it has moved.
    world.arp(&request());
    world.pass(2);
    let gratuitous = Packet { sender_hardware: OTHER, target_protocol: PEER_V4, ..request() };
    assert_eq!(world.arp(&gratuitous), ArpNews::Nothing);
    assert_eq!(world.cache.find(PEER_V4.into()), Some((State::Stale, Some(OTHER))));
    // Another change within a second is not believed.
    world.arp(&request());
    assert_eq!(world.cache.find(PEER_V4.into()), Some((State::Stale, Some(OTHER))));
    world.pass(1);
    world.arp(&request());
    assert_eq!(world.cache.find(PEER_V4.into()), Some((State::Stale, Some(PEER))));
}

#[test]
fn probes_say_nothing_of_their_sender_and_conflicts_are_seen() {
    let mut world = World::new();
    // [rfc5227 2.1.1-probe] Ours is defended by an answer, and no entry is made for 0.0.0.0.
    let probe = Packet { sender_protocol: Ipv4Addr::UNSPECIFIED, ..request() };
    assert!(matches!(world.arp(&probe), ArpNews::Answer(_)));
    assert!(world.cache.is_empty());
    // [rfc5227 2.1.1-simultaneous]
    let news = world.cache.on_arp(world.now, &probe, |address| address == OWN_V4, |_| false);
    assert_eq!(news, ArpNews::Conflict(OWN_V4));
    // [rfc5227 2.4-conflict]
    let claim = Packet { sender_protocol: OWN_V4, ..request() };
    assert_eq!(world.arp(&claim), ArpNews::Conflict(OWN_V4));
    // Our own, reflected.
    assert_eq!(world.arp(&Packet { sender_hardware: OWN, ..claim }), ArpNews::Nothing);
    // Nobody is a group.
    assert_eq!(world.arp(&Packet { sender_hardware: MacAddress::BROADCAST, ..request() }), ArpNews::Nothing);
    assert!(world.cache.is_empty());
}

#[test]
fn the_newest_packets_are_kept() {
    // [rfc4861 7.2.2-queue]
    let mut world = World::with(Limits { bytes: 250, ..Limits::default() });
    for packet in 0..10 {
        world.send(PEER_V4, packet);
    }
    assert_eq!(world.cache.waiting(), 2, "no third fits into 250 bytes");
    let large = world.cache.resolve(world.now, PEER_V4.into(), 10, 251);
    assert_eq!((large, world.cache.waiting()), (Resolution::Waiting, 0));
    world.send(PEER_V4, 11);
    world.arp(&reply());
    assert_eq!(world.events(), ["who has 192.0.2.2", "send 11 to Some(2)"]);
    assert_eq!(world.cache.waiting(), 0);
    let mut world = World::new();
    (0..10).for_each(|packet| assert_eq!(world.send(PEER_V4, packet), None));
    world.events();
    world.arp(&reply());
    assert_eq!(world.events(), ["send 7 to Some(2)", "send 8 to Some(2)", "send 9 to Some(2)"]);
}

#[test]
fn a_scan_through_us_meets_limits_and_spares_those_in_use() {
    let limits = Limits { entries: 64, total_packets: 20, ..Limits::default() };
    let mut world = World::with(limits);
    world.send(PEER_V4, 0);
    world.arp(&reply());
    let cookie = world.send(PEER_V4, 0).unwrap();
    for number in 0..10_000u32 {
        world.send(Ipv4Addr::from_bits(0x0a00_0000 + number), number);
        assert!(world.cache.len() <= 17 && world.cache.waiting() <= 20);
        assert!(world.cache.events.len() < 3 * 64 + 20);
        world.events();
    }
    assert!(world.cache.header(cookie).is_some());
    world.pass(10);
    world.pass(10);
    world.pass(10);
    assert_eq!((world.cache.len(), world.cache.waiting()), (1, 0));
}

#[test]
fn a_flood_of_questions_evicts_who_is_not_in_use() {
    let mut world = World::with(Limits { entries: 64, ..Limits::default() });
    world.send(PEER_V4, 0);
    world.arp(&reply());
    let cookie = world.send(PEER_V4, 0).unwrap();
    for number in 0..10_000u32 {
        let sender_protocol = Ipv4Addr::from_bits(0x0a00_0000 + number);
        world.arp(&Packet { sender_protocol, ..request() });
        assert!(world.cache.header(cookie).is_some(), "in use: after {number}");
    }
    assert_eq!((world.cache.len(), world.cache.slots.len()), (64, 64));
    // It may go once it is used no more.
    (0..200u32).for_each(|number| {
        let sender_protocol = Ipv4Addr::from_bits(0x0b00_0000 + number);
        world.arp(&Packet { sender_protocol, ..request() });
    });
    assert!(world.cache.header(cookie).is_none());
}

#[test]
fn permanent_neighbours_stay_and_have_a_limit() {
    let mut world = World::with(Limits { entries: 8, ..Limits::default() });
    world.send(PEER_V4, 5);
    assert!(world.cache.add_permanent(world.now, PEER_V4.into(), OTHER));
    assert_eq!(world.events(), ["who has 192.0.2.2", "send 5 to Some(3)"]);
    for number in 0..100 {
        world.cache.add_permanent(world.now, Ipv4Addr::from_bits(number).into(), PEER);
        world.arp(&Packet { sender_protocol: Ipv4Addr::from_bits(0x0a00_0000 + number), ..request() });
    }
    assert_eq!(world.cache.len(), 8);
    world.cache.flush();
    assert_eq!(world.cache.len(), 4);
    assert_eq!(world.state(PEER_V4), Some(State::Permanent));
}

proptest! {
    #[test]
    fn whatever_happens_counts_are_right(steps in prop::collection::vec((0u8..8, 0u8..12, any::<bool>()), 0..200)) {
        let limits = Limits { entries: 8, packets: 2, bytes: 300, total_packets: 5 };
        let mut world = World::with(limits);
        let mut taken = 0;
        let mut sent = 0;
        for (step, who, flag) in steps {
            let (v4, v6) = (Ipv4Addr::new(10, 0, 0, who), Ipv6Addr::from_bits(who.into()));
            match step {
                0 | 1 => {
                    let address = if flag { IpAddr::from(v4) } else { v6.into() };
                    sent += 1;
                    taken += u32::from(world.send(address, 1).is_some());
                }
                2 => { world.arp(&Packet { sender_protocol: v4, ..if flag { reply() } else { request() } }); }
                3 => world.cache.on_solicitation(world.now, v6, if flag { PEER } else { OTHER }, None),
                4 => {
                    let hardware = Some(if flag { PEER } else { OTHER });
                    let news = Advertisement { hardware, solicited: flag, replaces: !flag, is_router: flag };
                    world.cache.on_advertisement(world.now, v6, news);
                }
                5 => world.pass(who.into()),
                6 => { world.cache.remove(v4.into()); }
                _ => { world.cache.add_permanent(world.now, v6.into(), PEER); }
            }
            let cache = &world.cache;
            let occupied = || cache.slots.iter().filter(|slot| slot.state.is_some());
            prop_assert_eq!(occupied().count(), cache.len());
            prop_assert!(cache.len() <= limits.entries && cache.waiting() <= limits.total_packets);
            prop_assert_eq!(occupied().map(|slot| slot.queue.len()).sum::<usize>(), cache.waiting());
            let incomplete = occupied().filter(|slot| slot.state == Some(State::Incomplete)).count();
            prop_assert_eq!(incomplete, cache.incomplete);
            let timed = occupied().filter(|slot| slot.deadline != Instant::MAX).count();
            prop_assert_eq!(timed, cache.deadlines.len());
            taken += world.events().iter().filter(|event| event.contains("send") || event.contains("cannot")).count() as u32;
            prop_assert!(taken + world.cache.waiting() as u32 <= sent);
        }
    }
}
