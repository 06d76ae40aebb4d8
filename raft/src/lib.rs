//! openraft on demikernel.

pub mod network;
pub mod runtime;
pub mod storage;

pub use network::{Limits, Network, serve};
pub use openraft;
pub use runtime::Runtime;
pub use storage::{Configuration, LogStore, Machine, StateMachine};
