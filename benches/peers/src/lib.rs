#![doc = include_str!("../README.md")]

pub mod contenders;
#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod echo;
pub mod executor;
pub mod floor;
pub mod instructions;
pub mod key_value;
pub mod operations;
pub mod record;
pub mod runtimes;
pub mod sharded;
pub mod stack;
pub mod table;
pub mod web;

pub use demikernel_measure::{child, machine, stats};
