//! What others say without an end, or without sense.

use super::addresses::advertisement;
use super::world::*;
use crate::ip::addresses::MOST_ADDRESSES;
use crate::stack::{DuplicateDetection, StackConfig};
use crate::wire::ethernet::ether_type;
use crate::wire::ip::protocol;
use crate::wire::ndp::{
    Message, NeighborAdvertisement, PrefixInformation, RouterAdvertisement, solicited_node,
};
use crate::wire::{arp, icmpv4, igmp, ipv4};
use demikernel_runtime::time::Duration;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

fn everything() -> StackConfig {
    config().dhcp().slaac().duplicate_detection(DuplicateDetection::Strict).address(ip("192.0.2.7"), 24)
}

/// A frame of each kind that changes something.
fn frames() -> Vec<Vec<u8>> {
    let (link, own) = (v6("fe80::fe"), v6("fe80::7"));
    let claim = |target: Ipv6Addr| {
        Message::NeighborAdvertisement(NeighborAdvertisement {
            target,
            router: true,
            solicited: false,
            replaces: true,
            target_link_layer: Some(OTHER),
        })
    };
    let redirect =
        Message::Redirect { target: link, destination: v6("2001:db8:9::1"), target_link_layer: Some(OTHER) };
    let question = Message::NeighborSolicitation { target: own, source_link_layer: None };
    let query = igmp::Message::QueryV2 { group: None, max_response: Duration::from_secs(1) };
    let mut igmp_bytes = vec![0; query.len()];
    query.emit(&mut igmp_bytes);
    let mut icmp = [&[0; icmpv4::HEADER][..], &ipv4_packet(ipv4::Header::default(), &[0; 8])].concat();
    icmpv4::Message::Redirect { code: 1, gateway: Ipv4Addr::new(192, 0, 2, 9) }.emit(&mut icmp);
    let v4 = |protocol, payload: &[u8]| {
        let header = ipv4::Header {
            source: Ipv4Addr::new(192, 0, 2, 1),
            destination: Ipv4Addr::new(192, 0, 2, 7),
            protocol,
            ..ipv4::Header::default()
        };
        frame(ROUTER, OWN, ether_type::IPV4, &ipv4_packet(header, payload))
    };
    vec![
        ndp_frame(ROUTER, link, ALL_NODES, &Message::RouterAdvertisement(advertisement(1800, 3600))),
        ndp_frame(OTHER, v6("fe80::9"), ALL_NODES, &claim(own)),
        ndp_frame(OTHER, Ipv6Addr::UNSPECIFIED, solicited_node(own), &question),
        ndp_frame(ROUTER, link, own, &redirect),
        arp_frame(&arp::Packet {
            operation: arp::Operation::Request,
            sender_hardware: OTHER,
            sender_protocol: Ipv4Addr::new(192, 0, 2, 7),
            target_hardware: OWN,
            target_protocol: Ipv4Addr::new(192, 0, 2, 7),
        }),
        v4(protocol::IGMP, &igmp_bytes),
        v4(protocol::ICMP, &icmp),
    ]
}

#[test]
fn a_flood_of_prefixes_and_routers_meets_limits() {
    let mut world = World::new(config().slaac());
    world.after(Duration::ZERO);
    for number in 0..20_000u32 {
        let [.., a, b] = (number as u16).to_be_bytes();
        let mut router = RouterAdvertisement { lifetime: 1800, ..RouterAdvertisement::default() };
        router.prefixes[0] = Some(PrefixInformation {
            prefix: Ipv6Addr::new(0x2001, 0xdb8, u16::from(a), u16::from(b), 0, 0, 0, 0),
            length: 64,
            on_link: true,
            autonomous: true,
            valid_lifetime: 3600,
            preferred_lifetime: 3600,
        });
        let source = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, u16::from(a), u16::from(b) + 1);
        world.hear(ndp_frame(OTHER, source, ALL_NODES, &Message::RouterAdvertisement(router)));
    }
    assert!(world.stack.addresses().iter().count() < MOST_ADDRESSES);
    world.seconds(100);
    assert!(world.said.len() < 1000, "{}", world.said.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_frames_leave_it_standing(
        steps in prop::collection::vec(
            (0usize..7, prop::collection::vec((0usize..120, any::<u8>()), 0..3), 0u64..3000), 1..40,
        ),
    ) {
        let frames = frames();
        let mut world = World::new(everything());
        world.lease = Some((Ipv4Addr::new(192, 0, 2, 50), 120));
        world.router = Some(advertisement(60, 120));
        for (which, changes, milliseconds) in steps {
            let mut frame = frames[which].clone();
            for (place, value) in changes {
                if let Some(byte) = frame.get_mut(place) {
                    *byte = value;
                }
            }
            world.hear(frame);
            world.after(Duration::from_millis(milliseconds));
        }
        world.seconds(200);
        prop_assert!(world.stack.addresses().iter().count() <= MOST_ADDRESSES);
        let next = world.stack.next_deadline();
        prop_assert!(next.is_none_or(|next| next > world.now), "nothing is due for ever");
    }
}
