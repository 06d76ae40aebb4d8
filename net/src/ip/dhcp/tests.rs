use super::*;
use crate::wire::dhcp::{Header, option};
use proptest::prelude::*;

/// A message, as a value that can be changed.
#[derive(Clone, Debug)]
struct Message {
    header: Header,
    options: Vec<(u8, Vec<u8>)>,
}

impl Message {
    fn parse(payload: &[u8]) -> Message {
        let (header, options) = Header::parse(payload).unwrap();
        Message { header, options: options.iter().map(|(code, value)| (code, value.to_vec())).collect() }
    }

    fn emit(&self) -> Vec<u8> {
        self.header.emit(&self.options.iter().map(|(code, value)| (*code, &value[..])).collect::<Vec<_>>())
    }

    fn set(&mut self, code: u8, value: &[u8]) {
        self.unset(code);
        self.options.push((code, value.to_vec()));
    }

    fn unset(&mut self, code: u8) {
        self.options.retain(|(known, _)| *known != code);
    }

    fn has(&self, code: u8, value: &[u8]) -> bool {
        self.options.iter().any(|(known, said)| *known == code && said == value)
    }
}

const NOW: Instant = Instant::from_nanos(0);
const HARDWARE: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SECOND: Duration = Duration::from_secs(1);

/// A client and a server in virtual time; the random value is always the middle.
struct World {
    client: Client,
    now: Instant,
    last: Option<Message>,
}

const RANDOM: u64 = 1 << 63;

impl World {
    fn new() -> World {
        World { client: Client::new(NOW, HARDWARE, 0), now: NOW, last: None }
    }

    fn bound() -> World {
        let mut world = World::new();
        world.story();
        world.reply(Kind::Offer, |_| {});
        world.story();
        world.reply(Kind::Ack, |_| {});
        world.story();
        assert!(world.client.lease().is_some());
        world
    }

    /// What is done now.
    fn story(&mut self) -> Vec<String> {
        let mut story = Vec::new();
        while let Some(action) = self.client.poll(self.now, RANDOM + story.len() as u64) {
            story.push(match action {
                Action::Send { source, destination, payload } => {
                    assert!(payload.len() >= 300);
                    let kind = Header::parse(&payload).unwrap().1.kind().unwrap();
                    self.last = Some(Message::parse(&payload));
                    format!("{kind:?} {source} to {destination}")
                }
                Action::Configure(lease) => format!("configure {} in {}", lease.address, lease.prefix),
                Action::Deconfigure(address) => format!("deconfigure {address}"),
            });
        }
        story
    }

    /// To the next deadline, what is done there, and after how many seconds.
    fn next(&mut self) -> (u64, Vec<String>) {
        let due = self.client.deadline().unwrap();
        let waited = due.duration_since(self.now);
        self.now = due.max(self.now);
        (waited.as_secs(), self.story())
    }

    /// A server's answer to the last message.
    fn reply_to(&self, kind: Kind, change: impl FnOnce(&mut Message)) -> Vec<u8> {
        let transaction = self.last.as_ref().unwrap().header.transaction;
        let header =
            Header { is_reply: true, transaction, yours: ADDRESS, hardware: HARDWARE, ..Header::default() };
        let mut message = Message { header, options: Vec::new() };
        message.set(option::MESSAGE_TYPE, &[kind as u8]);
        message.set(option::SERVER_IDENTIFIER, &SERVER.octets());
        message.set(option::LEASE_TIME, &1000u32.to_be_bytes());
        message.set(option::SUBNET_MASK, &[255, 255, 255, 0]);
        message.set(option::ROUTER, &SERVER.octets());
        message.set(option::DOMAIN_NAME_SERVER, &[9, 9, 9, 9]);
        change(&mut message);
        message.emit()
    }

    fn reply(&mut self, kind: Kind, change: impl FnOnce(&mut Message)) {
        let payload = self.reply_to(kind, change);
        self.client.on_message(self.now, &payload, RANDOM);
    }
}

#[test]
fn an_address_is_had_in_four_messages() {
    // [rfc2131 4.4.1-discover] [rfc2131 4.4.1-wait] [rfc2131 3.1-3] [rfc2131 4.3.2-selecting]
    assert_eq!(Client::new(NOW, HARDWARE, u64::MAX).deadline(), Some(NOW + SECOND));
    let mut world = World::new();
    assert_eq!(world.story(), ["Discover 0.0.0.0 to 255.255.255.255"]);
    // [rfc2131 4.4.1-fields] [rfc2131 4.1-broadcast] [rfc2131 3-cookie] [rfc2131 2-576]
    let discover = world.last.clone().unwrap();
    assert!(discover.header.broadcast && !discover.header.is_reply);
    assert_eq!(discover.header.hardware, HARDWARE);
    assert!(discover.has(option::MAXIMUM_MESSAGE_SIZE, &576u16.to_be_bytes()));
    world.reply(Kind::Offer, |_| {});
    assert_eq!(world.story(), ["Request 0.0.0.0 to 255.255.255.255"]);
    let request = world.last.clone().unwrap();
    // [rfc2131 4.4.1-xid] [rfc2131 4.1-xid]
    assert!(discover.header.transaction != 0);
    assert_eq!(request.header.transaction, discover.header.transaction);
    assert!(request.has(option::REQUESTED_ADDRESS, &ADDRESS.octets()));
    assert!(request.has(option::SERVER_IDENTIFIER, &SERVER.octets()));
    world.reply(Kind::Ack, |message| {
        message.set(option::INTERFACE_MTU, &1400u16.to_be_bytes());
    });
    assert_eq!(world.story(), ["configure 192.0.2.50 in 192.0.2.0/24"]);
    let lease = world.client.lease().unwrap();
    assert_eq!((&lease.routers[..], lease.mtu, lease.server), (&[SERVER][..], Some(1400), SERVER));
    assert_eq!(lease.dns_servers, [Ipv4Addr::new(9, 9, 9, 9)]);
    // [rfc2131 4.4.5-default]
    let times = [lease.renew_at, lease.rebind_at, lease.until];
    assert_eq!(times, [500, 875, 1000].map(|seconds| NOW + seconds * SECOND));
    assert_eq!(world.client.deadline(), Some(NOW + 500 * SECOND));
}

#[test]
fn routes_of_a_server_replace_its_routers() {
    let mut world = World::new();
    world.story();
    world.reply(Kind::Offer, |_| {});
    world.story();
    world.reply(Kind::Ack, |message| {
        let routes = [24, 198, 51, 100, 192, 0, 2, 9, 0, 192, 0, 2, 8, 32, 192, 0, 2, 7, 0, 0, 0, 0];
        message.set(option::CLASSLESS_STATIC_ROUTE, &routes);
    });
    let lease = world.client.lease().unwrap();
    let routes: Vec<_> = lease
        .routes
        .iter()
        .map(|(prefix, router)| (prefix.to_string(), router.map(|it| it.octets()[3])))
        .collect();
    let expected = [("198.51.100.0/24", Some(9)), ("0.0.0.0/0", Some(8)), ("192.0.2.7/32", None)];
    assert_eq!(routes, expected.map(|(prefix, router)| (prefix.to_owned(), router)));
    assert!(lease.routers.is_empty());
}

#[test]
fn without_an_answer_it_asks_ever_more_seldom() {
    // [rfc2131 4.1-backoff]
    let mut world = World::new();
    world.story();
    let waits: Vec<_> = (0..7).map(|_| world.next()).collect();
    let seconds: Vec<_> = waits.iter().map(|(seconds, _)| *seconds).collect();
    assert_eq!(seconds, [4, 8, 16, 32, 64, 64, 64]);
    assert!(waits.iter().all(|(_, story)| story == &["Discover 0.0.0.0 to 255.255.255.255"]));
    for (random, wait) in [(0, 3), (u64::MAX, 5)] {
        let mut client = Client::new(NOW, HARDWARE, 0);
        client.poll(NOW, random);
        assert_eq!(client.deadline(), Some(NOW + wait * SECOND));
    }
}

#[test]
fn a_server_that_is_silent_after_its_offer_is_given_up() {
    // [rfc2131 3.1-5]
    let mut world = World::new();
    world.story();
    world.reply(Kind::Offer, |_| {});
    world.story();
    let stories: Vec<_> = (0..4).map(|_| world.next().1.join(",")).collect();
    let expected = ["Request", "Request", "Request", "Discover"];
    assert!(stories.iter().zip(expected).all(|(story, kind)| story.starts_with(kind)), "{stories:?}");
}

#[test]
fn a_lease_is_renewed_then_asked_of_all_then_over() {
    // [rfc2131 4.4.5] [rfc2131 4.4.5-half] [rfc2131 4.4.5-expired]
    let mut world = World::bound();
    let renew = "Request 192.0.2.50 to 192.0.2.1".to_string();
    assert_eq!(world.next(), (500, vec![renew.clone()]));
    assert_eq!(world.last.as_ref().unwrap().header.client, ADDRESS);
    assert_eq!(world.next(), (187, vec![renew.clone()]));
    assert_eq!(world.next(), (93, vec![renew.clone()]));
    assert_eq!(world.next(), (60, vec![renew]));
    let rebind = "Request 192.0.2.50 to 255.255.255.255".to_string();
    let (_, story) = world.next();
    assert_eq!(story, std::slice::from_ref(&rebind));
    assert_eq!(world.now, NOW + 875 * SECOND);
    assert_eq!(world.next(), (62, vec![rebind.clone()]));
    assert_eq!(world.next(), (60, vec![rebind]));
    let (_, story) = world.next();
    assert_eq!(story, ["deconfigure 192.0.2.50", "Discover 0.0.0.0 to 255.255.255.255"]);
    assert_eq!(world.now, NOW + 1000 * SECOND);
}

#[test]
fn a_renewed_lease_lives_on() {
    for steps in [1, 5] {
        let mut world = World::bound();
        (0..steps).for_each(|_| _ = world.next());
        // Another address is no answer.
        world.reply(Kind::Ack, |message| {
            message.header.yours = Ipv4Addr::new(192, 0, 2, 51);
        });
        assert_eq!(world.story(), [""; 0]);
        world.reply(Kind::Ack, |message| {
            message.set(option::LEASE_TIME, &2000u32.to_be_bytes());
        });
        assert_eq!(world.story(), ["configure 192.0.2.50 in 192.0.2.0/24"]);
        assert_eq!(world.client.deadline(), Some(world.now + 1000 * SECOND));
    }
}

#[test]
fn a_refusal_begins_anew() {
    // [rfc2131 3.1-nak] [rfc2131 4.4.5-nak]
    let mut world = World::new();
    world.story();
    world.reply(Kind::Offer, |_| {});
    world.story();
    world.reply(Kind::Nak, |_| {});
    assert_eq!(world.story(), [""; 0], "not at once");
    assert_eq!(world.next().1, ["Discover 0.0.0.0 to 255.255.255.255"]);
    let mut world = World::bound();
    world.next();
    world.reply(Kind::Nak, |_| {});
    assert_eq!(world.story(), ["deconfigure 192.0.2.50"]);
    assert_eq!(world.next().1, ["Discover 0.0.0.0 to 255.255.255.255"]);
}

#[test]
fn an_address_of_another_is_declined() {
    // [rfc2131 3.1-decline] [rfc2131 4.4.1-decline]
    let mut world = World::bound();
    world.client.on_conflict(world.now, RANDOM);
    assert_eq!(world.story(), ["deconfigure 192.0.2.50", "Decline 0.0.0.0 to 255.255.255.255"]);
    assert!(world.last.as_ref().unwrap().has(option::REQUESTED_ADDRESS, &ADDRESS.octets()));
    assert_eq!(world.next(), (10, vec!["Discover 0.0.0.0 to 255.255.255.255".into()]));
}

#[test]
fn an_address_is_given_back() {
    // [rfc2131 4.4.6]
    let mut world = World::bound();
    world.client.release(world.now, RANDOM);
    assert_eq!(world.story(), ["Release 192.0.2.50 to 192.0.2.1", "deconfigure 192.0.2.50"]);
    assert_eq!((world.client.deadline(), world.client.lease()), (None, None));
}

#[test]
fn what_is_no_answer_or_no_lease_is_ignored() {
    type Change = fn(&mut Message);
    let table: [(&str, Kind, Change); 9] = [
        ("another question", Kind::Offer, |message| message.header.transaction ^= 1),
        ("another client", Kind::Offer, |message| message.header.hardware.0[5] = 9),
        ("a question", Kind::Offer, |message| message.header.is_reply = false),
        ("not yet", Kind::Ack, |_| {}),
        ("nor that", Kind::Nak, |_| {}),
        ("no host", Kind::Offer, |message| message.header.yours = Ipv4Addr::new(224, 0, 0, 1)),
        ("no server", Kind::Offer, |message| {
            message.set(option::SERVER_IDENTIFIER, &[0; 4]);
        }),
        ("no time", Kind::Offer, |message| {
            message.unset(option::LEASE_TIME);
        }),
        ("no mask", Kind::Offer, |message| {
            message.set(option::SUBNET_MASK, &[255, 0, 255, 0]);
        }),
    ];
    for (what, kind, change) in table {
        let mut world = World::new();
        world.story();
        world.reply(kind, change);
        assert_eq!(world.story(), [""; 0], "{what}");
    }
    // Of another server than was asked.
    let mut world = World::new();
    world.story();
    world.reply(Kind::Offer, |_| {});
    world.story();
    for kind in [Kind::Ack, Kind::Nak] {
        world.reply(kind, |message| {
            message.set(option::SERVER_IDENTIFIER, &ADDRESS.octets());
        });
        assert_eq!(world.story(), [""; 0]);
    }
}

#[test]
fn options_may_stand_in_the_fields_for_names_and_unknown_ones_do_no_harm() {
    // [rfc2131 4.1-overload]
    for (field, place) in [(1, 108), (2, 44)] {
        let mut world = World::new();
        world.story();
        world.reply(Kind::Offer, |_| {});
        world.story();
        let mut payload = world.reply_to(Kind::Ack, |message| {
            message.unset(option::LEASE_TIME);
        });
        // A rapid commit that has a value, which it must not, and then the overload.
        payload.splice(240..240, [80, 1, 7, 52, 1, field]);
        payload[place..place + 7].copy_from_slice(&[51, 4, 0, 0, 2, 0, 255]);
        world.client.on_message(world.now, &payload, RANDOM);
        assert_eq!(world.client.deadline().map(|_| world.client.lease().is_some()), Some(true), "{field}");
        assert_eq!(world.client.lease().unwrap().until, NOW + 512 * SECOND);
    }
}

#[test]
fn servers_cannot_make_it_renew_all_the_time_nor_grow() {
    let mut world = World::new();
    world.story();
    world.reply(Kind::Offer, |_| {});
    world.story();
    world.reply(Kind::Ack, |message| {
        message.set(option::LEASE_TIME, &[0; 4]);
        message.set(option::RENEWAL_TIME, &[0; 4]);
        message.set(option::REBINDING_TIME, &[0; 4]);
        message.set(option::INTERFACE_MTU, &[0, 68]);
        message.set(option::ROUTER, &SERVER.octets().repeat(60));
    });
    let lease = world.client.lease().unwrap();
    assert_eq!((lease.renew_at, lease.mtu, lease.routers.len()), (NOW + 30 * SECOND, None, MOST_SERVERS));
    let mut world = World::new();
    world.story();
    world.reply(Kind::Offer, |_| {});
    world.story();
    world.reply(Kind::Ack, |message| {
        message.set(option::LEASE_TIME, &[255; 4]);
    });
    world.story();
    assert_eq!(world.client.deadline(), None, "for ever");
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_ignored(
        changes in prop::collection::vec((0usize..400, any::<u8>()), 0..20), cut in 0usize..400,
        tail in prop::collection::vec(any::<u8>(), 0..60), steps in 0usize..4,
    ) {
        let mut world = World::new();
        world.story();
        let kinds = [Kind::Offer, Kind::Ack, Kind::Ack];
        for kind in &kinds[..steps.min(3)] {
            world.reply(*kind, |_| {});
            world.next();
        }
        for kind in kinds {
            let mut payload = world.reply_to(kind, |_| {});
            for (place, value) in &changes {
                if let Some(byte) = payload.get_mut(*place) {
                    *byte = *value;
                }
            }
            payload.truncate(cut.max(240));
            payload.extend(&tail);
            world.client.on_message(world.now, &payload, RANDOM);
            prop_assert!(world.client.actions.len() <= 3);
        }
        world.client.on_message(world.now, &tail, RANDOM);
        for _ in 0..20 {
            if world.client.deadline().is_some() {
                world.next();
            }
        }
    }
}
