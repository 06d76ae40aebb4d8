//! The protocol under simulated devices.

mod hostile;
mod programs;
mod random;
mod set_up;
mod stories;
mod world;
