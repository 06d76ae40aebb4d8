//! What the first core finds out for all: addresses and routes.

use crate::ip::addresses::Address;
use crate::ip::routes::Route;
use std::net::IpAddr;

/// Addresses and routes, as the first core has them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Learned {
    pub(crate) addresses: Vec<Address>,
    pub(crate) routes: Vec<Route>,
    pub(crate) mtu_v4: u16,
    pub(crate) mtu_v6: u16,
    pub(crate) hop_limit: u8,
    pub(crate) dns_servers: Vec<IpAddr>,
}
