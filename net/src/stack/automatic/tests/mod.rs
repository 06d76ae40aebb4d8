//! One stack on an Ethernet in virtual time, and what else there is on it: a DHCP server, routers, other hosts.

mod addresses;
mod floods;
mod groups;
mod icmp;
mod paths;
mod world;
