//! What tshark makes of messages that etherparse does not know: MLD, options of routers, DHCP; and of our captures.

use demikernel_net::device::pcapng::{Direction, Writer};
use demikernel_net::device::{Frame, MacAddress, Medium};
use demikernel_net::ip::dhcp::{Action, CLIENT_PORT, Client, SERVER_PORT};
use demikernel_net::wire::checksum::Sum;
use demikernel_net::wire::ip::{Version, protocol};
use demikernel_net::wire::mld::{self, Message};
use demikernel_net::wire::multicast::{Query, Record, RecordKind, Records, Sources};
use demikernel_net::wire::ndp::{self, DnsServer, PrefixInformation, RouterAdvertisement};
use demikernel_net::wire::{icmpv6, ipv4, ipv6, udp};
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::time::Instant;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::Duration;

/// A packet, and what tshark must say of it.
struct Sample {
    packet: Vec<u8>,
    fields: Vec<(&'static str, &'static str)>,
}

const HERE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const GROUP: Ipv6Addr = Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 1, 2);
const SOURCE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

fn v6(destination: Ipv6Addr, hop_limit: u8, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let payload_len = payload.len() as u16;
    let header = ipv6::Header {
        source: HERE,
        destination,
        next_header,
        hop_limit,
        payload_len,
        ..ipv6::Header::default()
    };
    let mut packet = vec![0; ipv6::HEADER];
    header.emit(&mut packet);
    packet.extend_from_slice(payload);
    packet
}

/// Behind a router alert, as all messages are.
fn listener(message: &Message<'_>) -> Vec<u8> {
    let mut payload = ipv6::HOP_BY_HOP_ROUTER_ALERT.to_vec();
    payload.resize(8 + message.len(), 0);
    message.emit(&mut payload[8..], icmpv6::pseudo_header(HERE, mld::ALL_REPORTS, message.len()));
    v6(mld::ALL_REPORTS, mld::HOP_LIMIT, ipv6::next_header::HOP_BY_HOP, &payload)
}

fn listeners() -> Vec<Sample> {
    let max_response = Duration::from_secs(10);
    let query = Query {
        group: Some(GROUP),
        max_response,
        suppress: false,
        robustness: 2,
        interval: Duration::from_secs(125),
        sources: Sources::new(&[SOURCE]),
    };
    let records = [
        Record::join(GROUP),
        Record { kind: RecordKind::BlockOldSources, group: GROUP, sources: Sources::new(&[SOURCE]) },
    ];
    let both_groups = "ff0e::1:2,ff0e::1:2";
    vec![
        Sample {
            packet: listener(&Message::QueryV1 { group: None, max_response }),
            fields: vec![
                ("icmpv6.type", "130"),
                ("icmpv6.mld.maximum_response_delay", "10000"),
                ("icmpv6.mld.multicast_address", "::"),
            ],
        },
        Sample {
            packet: listener(&Message::QueryV2(query)),
            fields: vec![
                ("icmpv6.type", "130"),
                ("icmpv6.mld.maximum_response_code", "10000"),
                ("icmpv6.mld.multicast_address", "ff0e::1:2"),
                ("icmpv6.mld.flag.qrv", "2"),
                ("icmpv6.mld.qqi", "125"),
                ("icmpv6.mld.source_address", "2001:db8::1"),
            ],
        },
        Sample {
            packet: listener(&Message::ReportV1 { group: GROUP }),
            fields: vec![("icmpv6.type", "131"), ("icmpv6.mld.multicast_address", "ff0e::1:2")],
        },
        Sample {
            packet: listener(&Message::Done { group: GROUP }),
            fields: vec![("icmpv6.type", "132"), ("icmpv6.mld.multicast_address", "ff0e::1:2")],
        },
        Sample {
            packet: listener(&Message::ReportV2(Records::new(&records))),
            fields: vec![
                ("icmpv6.type", "143"),
                ("icmpv6.mldr.nb_mcast_records", "2"),
                ("icmpv6.mldr.mar.record_type", "4,6"),
                ("icmpv6.mldr.mar.multicast_address", both_groups),
                ("icmpv6.mldr.mar.source_address", "2001:db8::1"),
            ],
        },
    ]
}

fn router() -> Sample {
    let prefix = PrefixInformation {
        prefix: Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 0),
        length: 64,
        on_link: true,
        autonomous: true,
        valid_lifetime: 7200,
        preferred_lifetime: 3600,
    };
    let mut router = RouterAdvertisement {
        hop_limit: 63,
        managed: false,
        other: true,
        lifetime: 1800,
        reachable_time: 30_000,
        retransmit_time: 1000,
        source_link_layer: Some(MacAddress([2, 0, 0, 0, 0, 9])),
        mtu: Some(1400),
        prefixes: Default::default(),
        dns_servers: Default::default(),
    };
    router.prefixes[0] = Some(prefix);
    router.dns_servers[0] = Some(DnsServer { address: SOURCE, lifetime: 600 });
    let message = ndp::Message::RouterAdvertisement(router);
    let mut payload = vec![0; message.len()];
    let all_nodes = mld::ALL_NODES;
    message.emit(&mut payload, icmpv6::pseudo_header(HERE, all_nodes, message.len()));
    Sample {
        packet: v6(all_nodes, ndp::HOP_LIMIT, protocol::ICMPV6, &payload),
        fields: vec![
            ("icmpv6.type", "134"),
            ("icmpv6.nd.ra.router_lifetime", "1800"),
            ("icmpv6.opt.prefix", "2001:db8:7::"),
            ("icmpv6.opt.prefix.length", "64"),
            ("icmpv6.opt.prefix.valid_lifetime", "7200"),
            ("icmpv6.opt.mtu", "1400"),
            ("icmpv6.opt.rdnss", "2001:db8::1"),
            ("icmpv6.opt.rdnss.lifetime", "600"),
            ("icmpv6.opt.linkaddr", "02:00:00:00:00:09"),
        ],
    }
}

/// The first message of a client.
fn discover() -> Sample {
    let now = Instant::from_nanos(1_000_000_000);
    let mut client = Client::new(now, MacAddress([2, 0, 0, 0, 0, 9]), 0);
    let action = client.poll(now, 0x0102_0304).expect("it begins at once");
    let Action::Send { source, destination, payload } = action else { panic!("{action:?}") };
    let header =
        udp::Header { source: CLIENT_PORT, destination: SERVER_PORT, payload_len: payload.len() as u16 };
    let mut datagram = vec![0; udp::HEADER];
    let sum = header.emit(&mut datagram).then(Sum::of(&payload));
    datagram.extend_from_slice(&payload);
    let pseudo_header = Sum::pseudo_header_v4(source, destination, protocol::UDP, datagram.len() as u16);
    udp::set_checksum(&mut datagram, pseudo_header.then(sum).checksum());
    assert_eq!(udp::verify(Version::V4, pseudo_header, &datagram), Ok(()));
    let (protocol, payload_len) = (protocol::UDP, datagram.len() as u16);
    let header = ipv4::Header { source, destination, protocol, payload_len, ..ipv4::Header::default() };
    let mut packet = vec![0; header.header_len()];
    header.emit(&mut packet);
    packet.extend_from_slice(&datagram);
    assert_eq!((source, destination), (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST));
    Sample {
        packet,
        fields: vec![
            ("dhcp.option.dhcp", "1"),
            ("dhcp.id", "0x01020304"),
            // In the header, and as the identifier.
            ("dhcp.hw.mac_addr", "02:00:00:00:00:09,02:00:00:00:00:09"),
            ("dhcp.option.dhcp_max_message_size", "576"),
        ],
    }
}

#[test]
fn tshark_reads_what_was_written() {
    let samples: Vec<Sample> = listeners().into_iter().chain([router(), discover()]).collect();
    let mut capture = Vec::new();
    let mut writer = Writer::new(&mut capture, "samples", Medium::Ip, 1 << 16).unwrap();
    for sample in &samples {
        let frame = Frame::new(Buffer::copy_from_slice(&sample.packet).unwrap());
        writer.packet(Duration::from_secs(1), Direction::Out, &frame).unwrap();
    }
    let file = std::env::temp_dir().join(format!("demikernel-tshark-{}.pcapng", std::process::id()));
    std::fs::write(&file, &capture).unwrap();
    let names: BTreeSet<&str> =
        samples.iter().flat_map(|sample| &sample.fields).map(|field| field.0).collect();
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-r", file.to_str().unwrap(), "-T", "fields", "-E", "separator=;"]);
    for check in ["ip.check_checksum:TRUE", "udp.check_checksum:TRUE"] {
        tshark.args(["-o", check]);
    }
    // What must be nowhere stands in the first columns.
    for name in ["_ws.malformed", "ip.checksum.status", "udp.checksum.status", "icmpv6.checksum.status"] {
        tshark.args(["-e", name]);
    }
    for name in &names {
        tshark.args(["-e", name]);
    }
    let output = tshark.output();
    let _ = std::fs::remove_file(&file);
    let Ok(output) = output else {
        assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "tshark is not installed");
        return eprintln!("skipped: tshark is not installed");
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = String::from_utf8(output.stdout).unwrap();
    assert_eq!(report.lines().count(), samples.len(), "{report}");
    for (line, sample) in report.lines().zip(&samples) {
        let columns: Vec<&str> = line.split(';').collect();
        assert_eq!(columns[0], "", "malformed: {line}");
        // Good, or not there.
        assert!(columns[1..4].iter().all(|status| ["", "1"].contains(status)), "checksums: {line}");
        assert!(columns[1..4].contains(&"1"), "no checksum: {line}");
        for (name, expected) in &sample.fields {
            let place = names.iter().position(|known| known == name).unwrap();
            assert_eq!(columns[4 + place], *expected, "{name} of {line}");
        }
    }
}
