//! The same with an allocator that counts: prints allocations per operation of executors and per round trip over DPDK, and
//! what idle connections of stacks take.

use clap::Parser;
use demikernel_allocations::Counting;
use peers::{operations, stack};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Count allocations, and the memory of connections.
#[derive(Parser)]
struct Arguments {
    /// The runtime, `stack` before the name of a stack, or `dpdk` before that of a socket for memif
    runtime: String,
    /// The round of the records
    #[arg(long, default_value_t = 0)]
    round: usize,
    /// The operations
    #[arg(required = true)]
    operations: Vec<String>,
}

fn main() {
    let Arguments { runtime, round, operations } = Arguments::parse();
    match (&*runtime, &*operations) {
        ("stack", [stack, items @ ..]) => stack::report(stack, items, round),
        #[cfg(feature = "dpdk")]
        ("dpdk", [socket, ..]) => peers::dpdk::count_allocations(socket).expect("DPDK starts"),
        _ => operations::report(&runtime, &operations, round, true),
    }
}
