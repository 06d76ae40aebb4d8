//! openraft on demikernel.

pub mod runtime;
pub mod storage;

pub use runtime::Runtime;
pub use storage::{Configuration, LogStore, Machine, StateMachine};
