//! A network in virtual time, for tests: everything that varies follows from a seed.
//!
//! - [`Link`]: one direction of a cable, which delays, loses, doubles, reorders and alters what it carries.

mod link;

pub use link::{Burst, Link, LinkConfig, LinkStats};
