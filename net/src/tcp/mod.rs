//! TCP: connections as state machines, without I/O, clock or randomness of their own.
//!
//! - [`connection`]: one end of a connection: getters, commands, `handle_*`, `poll_*`.
//! - `segment_arrives`: what a segment does to it, step by step as in RFC 9293 section 3.10.7.
//! - [`State`]: the states, and the moves between them.
//! - `send`, `receive`, `reassembly`: the data, in shared slices.
//! - `recovery`, `congestion`: what is in flight, what is lost, and how much may go.
//! - `mtu`: how large segments may be.
//! - [`TimeWait`]: what remains of a connection when both sides have closed.
//! - [`Listener`], [`Cookies`]: connections that begin, within limits.
//! - [`Key`], [`EphemeralPorts`]: numbers that nobody can guess.
//! - [`Info`]: what people want to know.
//! - [`Config`], [`Shared`]: what all connections of a stack have in common.

mod config;
pub(crate) mod congestion;
pub mod connection;
mod cookies;
mod error;
mod info;
mod isn;
mod listener;
mod mtu;
mod ports;
mod reassembly;
mod receive;
pub(crate) mod recovery;
mod reset;
mod segment_arrives;
mod send;
mod spares;
mod state;
mod time_wait;

#[cfg(test)]
mod tests;

pub use crate::key::Key;
pub use config::{Config, Counter, EcnMode, Shared};
pub use congestion::{CongestionControl, UnknownCongestionControl};
pub(crate) use connection::Polled;
pub use connection::{Connection, Events, Limits, Negotiated, Receiving, Start, Transmit, Unreachable};
pub use cookies::Cookies;
pub use error::Error;
pub use info::Info;
pub use isn::{InitialNumbers, Tuple};
pub use listener::{Listener, OnSyn, Ticket};
pub use ports::EphemeralPorts;
pub use recovery::CongestionState;
pub use reset::reset_for;
pub use state::{Origin, State};
pub use time_wait::{InTimeWait, TimeWait};

/// The field of the IP header for explicit congestion notification (RFC 3168 section 5).
///
/// ```
/// use demikernel_net::tcp::Ecn;
///
/// assert_eq!(Ecn::default().bits(), 0b00);
/// assert_eq!((Ecn::Capable0.bits(), Ecn::Capable1.bits()), (0b10, 0b01));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Ecn {
    /// The transport does not understand it.
    #[default]
    NotCapable,
    /// It does: ECT(1).
    Capable1,
    /// It does: ECT(0).
    Capable0,
    /// A router has met congestion.
    Congestion,
}

impl Ecn {
    /// From the two bits of the header.
    ///
    /// ```
    /// use demikernel_net::tcp::Ecn;
    ///
    /// for bits in 0..4 {
    ///     assert_eq!(Ecn::from_bits(bits).bits(), bits);
    /// }
    /// assert_eq!(Ecn::from_bits(0xb8 | 0b11), Ecn::Congestion, "of a whole traffic class the DSCP is ignored");
    /// ```
    pub const fn from_bits(bits: u8) -> Ecn {
        match bits & 3 {
            0 => Ecn::NotCapable,
            1 => Ecn::Capable1,
            2 => Ecn::Capable0,
            _ => Ecn::Congestion,
        }
    }

    /// The two bits of the header.
    pub const fn bits(self) -> u8 {
        self as u8
    }
}
