//! What is known of a connection.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A connection, or another socket, of a device: its addresses, and what TCP knows of it by name, as
/// `tcp_info` of Linux names it. Times are in microseconds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Connection {
    /// The device's name.
    pub device: Cow<'static, str>,
    /// The socket's number within the device.
    pub socket: u32,
    /// Its own address, if it has one.
    pub local: Option<String>,
    /// The peer's, if there is one.
    pub peer: Option<String>,
    /// The state of TCP, such as `established`.
    pub state: Option<Cow<'static, str>>,
    /// Figures by name.
    pub figures: Vec<(Cow<'static, str>, u64)>,
}

impl Connection {
    /// Of a socket of which nothing is known yet.
    pub fn new(device: &'static str, socket: u32) -> Connection {
        Connection { device: device.into(), socket, ..Connection::default() }
    }

    /// The figure of this name.
    pub fn figure(&self, name: &str) -> Option<u64> {
        self.figures.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    }
}
