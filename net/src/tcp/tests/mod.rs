//! Tests of whole connections: one against a script, and two against each other over a link.

mod arrives;
mod closing;
mod events;
mod goodput;
mod liar;
mod lone;
mod mtu;
mod opening;
mod pair;
mod prediction;
mod programs;
mod receiving;
mod sending;
mod timers;
