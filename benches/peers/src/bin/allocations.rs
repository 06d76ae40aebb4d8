//! The executor operations with an allocator that counts: prints allocations per operation.

use clap::Parser;
use peers::allocator::Counting;
use peers::operations;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Count the allocations per operation of a runtime.
#[derive(Parser)]
struct Arguments {
    /// The runtime
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
    operations::report(&runtime, &operations, round, true);
}
