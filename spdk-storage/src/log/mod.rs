//! Logs: named, append-only, several on one device, that lose nothing that was acknowledged.
//!
//! FORMAT.md in this crate specifies what is on the medium, and argues why recovery finds what it must.

mod create; // making a store on a device
mod cursor; // reading a log
mod descriptor; // logs for PDPIX
mod engine; // pushes, batches, acknowledgments, truncation
mod error; // what can be wrong
mod foreign; // what is on a device that is no store
mod format; // bytes and values
mod gather; // when the next cycle begins
mod handle; // `Log`
mod recovery; // from what a device holds to its logs
mod segment; // the segments of a log
mod store; // `Store`, and the task that drives it
mod ways; // how a batch becomes durable

#[cfg(test)]
mod tests;

pub use cursor::Record;
pub use engine::Appended;
pub use error::{Damage, LogError};
pub use handle::{Log, Seek, log_error};
pub use store::{Store, StoreInfo, StoreOptions};
