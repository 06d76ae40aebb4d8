//! What the wire formats cost per packet: `cargo bench -p demikernel-net --bench wire`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use demikernel_net::wire::checksum::Sum;
use demikernel_net::wire::ip::protocol;
use demikernel_net::wire::tcp::{Flags, Segment, SequenceNumber, Timestamps};
use demikernel_net::wire::{ipv4, tcp};
use std::hint::black_box;
use std::net::Ipv4Addr;

fn checksum(criterion: &mut Criterion) {
    let bytes: Vec<u8> = (0..1460u32).map(|n| (n * 7) as u8).collect();
    let mut group = criterion.benchmark_group("checksum");
    for length in [20, 40, 64, 1460] {
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(length.to_string(), |bencher| {
            bencher.iter(|| Sum::of(black_box(&bytes[..length])).checksum());
        });
    }
}

fn header() -> ipv4::Header {
    ipv4::Header {
        source: Ipv4Addr::new(192, 0, 2, 1),
        destination: Ipv4Addr::new(192, 0, 2, 2),
        protocol: protocol::TCP,
        dont_fragment: true,
        payload_len: 96,
        ..ipv4::Header::default()
    }
}

fn segment() -> Segment {
    let mut segment = Segment {
        source: 80,
        destination: 40_000,
        sequence: SequenceNumber::new(0x0102_0304),
        acknowledgment: SequenceNumber::new(0x0506_0708),
        flags: Flags::ACK | Flags::PSH,
        window: 501,
        ..Segment::default()
    };
    segment.options.timestamps = Some(Timestamps { value: 1, echo: 2 });
    segment
}

/// A packet with 64 bytes of payload, headers and checksums written in front of it as a connection does.
fn emit(packet: &mut [u8; 116], header: &ipv4::Header, segment: &Segment, pseudo_header: Sum) {
    let (headers, payload) = packet.split_at_mut(52);
    header.emit(headers);
    let sum = segment.emit(&mut headers[20..]).then(Sum::of(payload)).then(pseudo_header);
    tcp::set_checksum(&mut headers[20..], sum.checksum());
}

fn tcp_packet(criterion: &mut Criterion) {
    let (mut bytes, header, segment) = ([7; 116], header(), segment());
    let pseudo_header = Sum::pseudo_header_v4(header.source, header.destination, protocol::TCP, 96);
    let mut group = criterion.benchmark_group("TCP over IPv4");
    group.bench_function("emit", |bencher| {
        bencher.iter(|| emit(black_box(&mut bytes), black_box(&header), black_box(&segment), pseudo_header));
    });
    emit(&mut bytes, &header, &segment, pseudo_header);
    group.bench_function("parse", |bencher| {
        bencher.iter(|| {
            let bytes = black_box(&bytes);
            let (header, payload) = ipv4::Header::parse(bytes).expect("valid");
            let segment = &bytes[payload];
            let length = segment.len() as u16;
            let pseudo_header =
                Sum::pseudo_header_v4(header.source, header.destination, header.protocol, length);
            tcp::verify(pseudo_header, segment).expect("valid");
            Segment::parse(segment).expect("valid")
        });
    });
}

criterion_group!(benches, checksum, tcp_packet);
criterion_main!(benches);
