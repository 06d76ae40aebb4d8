#![doc = include_str!("../README.md")]

pub mod child;
pub mod contenders;
#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod echo;
pub mod executor;
pub mod floor;
pub mod instructions;
pub mod key_value;
pub mod machine;
pub mod operations;
pub mod record;
pub mod runtimes;
pub mod stack;
pub mod stats;
pub mod table;
