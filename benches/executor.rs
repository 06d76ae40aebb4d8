//! The executor's operations, timed by criterion: `cargo bench --bench executor`.
//!
//! The time of one operation is that of many divided by their number. What other runtimes need for the same stands in
//! the table of `cargo xtask bench`.

mod operations;

use criterion::{Criterion, criterion_group, criterion_main};
use operations::OPERATIONS;
use std::time::Instant;

fn executor(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("executor");
    for operation in OPERATIONS {
        let runtime = operation.runtime();
        group.bench_function(operation.name, |bencher| {
            bencher.iter_custom(|iterations| {
                let done = iterations.next_multiple_of(operation.unit);
                let start = Instant::now();
                operation.run(&runtime, done);
                start.elapsed().mul_f64(iterations as f64 / done as f64)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, executor);
criterion_main!(benches);
