//! What lasts of a node: its log, and snapshots of what it replicates, each on a [`Log`](demikernel::storage::Log).

mod log; // openraft's log
mod machine; // the state machine
mod pieces; // messages of any length in records
mod snapshots; // snapshots

#[cfg(test)]
mod tests;

pub use log::LogStore;
pub use machine::{Configuration, Machine, StateMachine};
