//! Echo: latency, with a log, and by the size of messages.

use super::{Bench, Measured};
use crate::ends::{Means, Side};
use crate::place::Place;
use crate::results::Plan;
use crate::systems::System;
use std::io;
use std::process::Command;

/// Bytes of a message, in all experiments but that of sizes.
const SIZE: usize = 64;

/// Bytes of messages, as NetPIPE goes through them.
const SIZES: [usize; 7] = [64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10];
/// Bytes of frames, the greatest with an MTU of 1500.
const FRAMES: [usize; 4] = [64, 256, 1024, 1514];

/// Bytes of the frame that carries a message of [`SIZE`], with Ethernet, IPv4 and UDP; TCP has a timestamp.
const UDP_FRAME: usize = SIZE + 14 + 20 + 8;
const TCP_FRAME: usize = SIZE + 14 + 20 + 20 + 12;

fn sizes_of(sizes: &[usize]) -> String {
    sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// Who asks: one of the same kind, or a socket of the kernel, which spins as ours does.
fn client(place: &Place, system: &System) -> Means {
    if place.kind.is_symmetric() { system.means } else { Means::Spinning }
}

impl Bench {
    /// Whether there is an answer at all.
    pub(super) fn probe(&self, system: &System) -> io::Result<()> {
        crate::place::at(system.place, &self.scratch, |place| {
            self.exchange(place, system, &[], &[SIZE], 1).map(drop)
        })
    }

    /// A server and a client with these arguments for both.
    fn exchange(
        &self,
        place: &Place,
        system: &System,
        arguments: &[&str],
        sizes: &[usize],
        milliseconds: u64,
    ) -> io::Result<Vec<super::Times>> {
        let sizes_text = sizes_of(sizes);
        let both = |command: &mut Command, address: String| {
            command.args(["--address", &address, "--sizes", &sizes_text]).args(arguments);
        };
        if system.means == Means::Frames {
            place.introduce_reflector()?;
        }
        let mut server = self.end(place, Side::Server, system.means, system)?;
        both(&mut server, place.server()?.to_string());
        let (_server, address) = self.serve(server)?;
        let mut client = self.end(place, Side::Client, client(place, system), system)?;
        both(&mut client, address.to_string());
        self.drive(client, milliseconds, sizes.len())
    }

    /// Round trips of messages, one at a time.
    pub(super) fn echo(&self, place: &Place, system: &System, case: &str) -> io::Result<Measured> {
        let arguments: &[&str] = if case == "udp" { &["--udp"] } else { &[] };
        let size = match system.means {
            Means::Memif if case == "udp" => UDP_FRAME,
            Means::Memif => TCP_FRAME,
            _ => SIZE,
        };
        let times = self.exchange(place, system, arguments, &[size], self.milliseconds)?;
        Ok(times.into_iter().map(|times| (case.to_owned(), times.metrics)).collect())
    }

    /// The same, each message durable in a log before it is answered.
    ///
    /// A server that never waits would keep the kernel's threads that wait for the disk from running: ours waits after 50
    /// microseconds.
    pub(super) fn log(&self, place: &Place, system: &System) -> io::Result<Measured> {
        let log = place.file("log");
        let mut server = self.end_that_idles(place, Side::Server, system.means, system, "adaptive")?;
        server.args(["--address", &place.server()?.to_string()]).arg("--log").arg(&log);
        let (server, address) = self.serve(server)?;
        let mut client = self.end(place, Side::Client, client(place, system), system)?;
        client.args(["--address", &address.to_string()]);
        let times = self.drive(client, self.milliseconds, 1)?;
        drop(server);
        std::fs::remove_file(log)?;
        Ok(times.into_iter().map(|times| ("tcp".to_owned(), times.metrics)).collect())
    }

    /// Messages of several sizes.
    pub(super) fn sizes(&self, place: &Place, system: &System) -> io::Result<Measured> {
        let sizes: &[usize] = if system.means == Means::Memif { &FRAMES } else { &SIZES };
        let milliseconds = Plan::of_size(self.milliseconds);
        let times = self.exchange(place, system, &[], sizes, milliseconds)?;
        Ok(times.into_iter().map(|times| (times.size.to_string(), times.metrics)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_go_up_to_what_the_paper_names() {
        assert_eq!(SIZES.last(), Some(&262_144));
        assert_eq!(sizes_of(&SIZES[..3]), "64,256,1024");
    }
}
