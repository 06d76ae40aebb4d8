//! The UDP relay: how long a datagram takes from who sends it, over the relay, back to who sends it.

use super::{Bench, Measured};
use crate::ends::{Means, Side};
use crate::place::Place;
use crate::systems::System;
use std::io;
use std::process::Command;

impl Bench {
    /// The generator is on the kernel's sockets, as in the paper, wherever the relay's wire leads there.
    pub(super) fn relay(&self, place: &Place, system: &System) -> io::Result<Measured> {
        let (listen, back) = (place.server()?, place.client_port()?.to_string());
        let server = match system.means {
            Means::Ours => {
                let mut command = Command::new(self.examples.join("udp-relay"));
                command.args(["--listen", &listen.to_string(), "--forward", &back]);
                command.args(["--transport", system.transport, "--idle", system.idle]);
                if let Some(path) = place.configuration(0)? {
                    command.env("DEMIKERNEL_CONFIG", path);
                }
                command
            }
            means => {
                let mut command = self.end(place, Side::Relay, means, system)?;
                command.args(["--address", &listen.to_string(), "--back", &back]);
                command
            }
        };
        let (_server, address) = self.start_relay(server)?;
        let means = if place.kind == crate::place::Kind::Memif { Means::Ours } else { Means::Spinning };
        let mut generator = self.end(place, Side::Generator, means, system)?;
        generator.args(["--udp", "--address", &address, "--back", &back]);
        let times = self.drive(generator, self.milliseconds, 1)?;
        Ok(times.into_iter().map(|times| ("udp".to_owned(), times.metrics)).collect())
    }

    /// The example says `core 0 relays ADDRESS to ADDRESS`, the plain one `ready ADDRESS`.
    fn start_relay(&self, mut command: Command) -> io::Result<(demikernel_measure::child::Server, String)> {
        let server = demikernel_measure::child::Server::start(&mut command, super::START)?;
        let mut words = server.ready.split(' ').skip_while(|word| *word != "relays" && *word != "ready");
        match words.nth(1) {
            Some(address) => {
                let address = address.to_owned();
                Ok((server, address))
            }
            None => Err(io::Error::other(format!("the relay says {:?}", server.ready))),
        }
    }
}
