//! What a stack has to do with those of other cores on the same device.

use super::Stack;
use super::receive::Packet;
use crate::cores::{Learned, Place, Protocol};
use crate::device::{Frame, Medium};
use crate::ip::routes;
use crate::table::Flow;
use crate::tcp::Tuple;
use demikernel_runtime::time::Instant;
use std::rc::Rc;

impl Stack {
    /// Its place among the cores on the device, if there are others.
    pub(crate) fn place(&self) -> Option<Rc<Place>> {
        self.place.clone()
    }

    /// Packets that other cores have handed over, and what the first has found out.
    #[cold]
    pub(super) fn take_from_cores(&mut self, now: Instant) {
        let Some(place) = &self.place else { return };
        if place.has_news() {
            let news = place.news();
            self.interface.learn(news);
            self.settle_automatic();
        }
        while let Some(packet) = self.place.as_ref().and_then(|place| place.take_packet()) {
            self.take_inner(now, packet);
        }
    }

    /// A packet without a link header, for whichever core it is for.
    pub(super) fn take_for_cores(&mut self, now: Instant, packet: Frame) {
        let packet = match &self.place {
            Some(place) => place.steer_packet(packet),
            None => Some(packet),
        };
        if let Some(packet) = packet {
            self.take_inner(now, packet);
        }
    }

    /// Nobody here is for a packet: whether a core that may have somebody gets it.
    #[cold]
    pub(super) fn pass_on(&self, protocol: Protocol, tuple: &Tuple, packet: &Packet) -> bool {
        let Some(place) = &self.place else { return false };
        let Tuple { local, local_port, remote, remote_port } = *tuple;
        let is_bare = matches!(self.interface.capabilities.medium, Medium::Ethernet(_)) && packet.header == 0;
        place.pass_on(protocol, &Flow::of(local, local_port, remote, remote_port), &packet.frame, is_bare)
    }

    /// The other cores have the addresses and routes that this one has, if it is the one that finds them out.
    pub(super) fn tell_cores(&self) {
        let Some(place) = self.place.as_ref().filter(|place| place.is_first()) else { return };
        let interface = &self.interface;
        let is_common = |route: &&routes::Route| route.origin != routes::Origin::Redirect;
        place.publish(Learned {
            addresses: interface.addresses.iter().copied().collect(),
            routes: interface.routes.iter().filter(is_common).copied().collect(),
            mtu_v4: interface.mtu_v4,
            mtu_v6: interface.mtu_v6,
            hop_limit: interface.hop_limit,
            dns_servers: self.dns_servers(),
        });
    }
}
