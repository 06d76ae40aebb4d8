//! What the wire formats cost per packet: `cargo bench -p demikernel-net --bench wire`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use demikernel_net::wire::checksum::Sum;
use std::hint::black_box;

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

criterion_group!(benches, checksum);
criterion_main!(benches);
