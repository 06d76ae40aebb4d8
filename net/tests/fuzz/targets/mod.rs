//! What is fuzzed: functions that take any bytes and panic if something is wrong.
//!
//! `net/fuzz` gives them to libFuzzer, and the test `fuzz` runs them over the committed corpus.

#![allow(dead_code, reason = "each program of libFuzzer uses one of them")]

pub(crate) mod config;
pub(crate) mod dhcp;
pub(crate) mod host;
pub(crate) mod input;
pub(crate) mod link;
pub(crate) mod packet;
mod peer;
pub(crate) mod wire;
