//! The protocol under simulated devices.

mod hostile;
mod notices; // writes with a number, and heartbeats
mod programs;
mod random;
mod set_up;
mod stories;
mod world;
