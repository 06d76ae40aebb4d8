//! An Ethernet switch in software: joins programs on memif, a port of which has one other end, to a network.
//!
//! It shows how frames are received and sent without a stack. Each argument is the server's end of a memif, whose other end is
//! a program's port:
//!
//! ```text
//! $ cargo run --release -p demikernel-dpdk --example memif-switch -- 1.sock 2.sock 3.sock
//! memif-switch: 3 ports
//! ```
//!
//! and in the `demikernel.toml` of the first program (the others have further addresses, and sockets):
//!
//! ```toml
//! [network]
//! device = "dpdk"
//! addresses = ["10.77.0.1/24"]
//! mac = "02:00:00:00:77:01"
//! [dpdk]
//! port = "net_memif0,role=client,id=0,socket=1.sock,socket-abstract=no"
//! huge-pages = false
//! ```
//!
//! Programs may end and come back. A frame for which its port has no room is lost, as in any switch; there is no protocol against
//! loops, so that two switches are joined once.

use demikernel_dpdk::{BURST, Eal, EalConfig, Error, Packet, Port, PortConfig, Queue};
use demikernel_runtime::buffer::{Buffer, Sga, pool};
use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

/// Frames that wait for a port, at most.
const WAITING: usize = 1024;

/// Addresses that are known, at most; frames for others go to all.
const ADDRESSES: usize = 4096;

/// How often in vain all ports are looked at before the thread sleeps.
const PATIENCE: u32 = 1000;

const NAP: Duration = Duration::from_micros(50);

/// Its checksums are all filled in: nobody has offered to do it.
type Frame = (Buffer, Sga);

type Address = [u8; 6];

/// Whom a frame is for, and whose it is.
fn addresses((head, _): &Frame) -> Option<(Address, Address)> {
    let (to, rest) = head.split_first_chunk()?;
    Some((*to, *rest.first_chunk()?))
}

struct SwitchPort {
    queue: Queue,
    waiting: Vec<Frame>,
}

struct Switch {
    ports: Vec<SwitchPort>,
    /// Behind which port an address was seen last.
    places: HashMap<Address, usize>,
}

impl Switch {
    fn new(sockets: &[String]) -> Result<Switch, Error> {
        let mut config = EalConfig::default();
        config.huge_pages = false;
        let eal = Eal::start(&config)?;
        // What arrives is in memory from which it can leave.
        pool::set_source(eal.memory());
        let open = |(index, socket): (usize, &String)| {
            let name = format!("net_memif{index},role=server,id=0,socket={socket},socket-abstract=no");
            Ok(SwitchPort { queue: Port::open(eal, &PortConfig::new(name))?, waiting: Vec::new() })
        };
        let ports = sockets.iter().enumerate().map(open).collect::<Result<_, Error>>()?;
        Ok(Switch { ports, places: HashMap::new() })
    }

    /// Takes in what has arrived, and sends what it can. Whether there was anything.
    fn turn(&mut self) -> bool {
        let mut moved = false;
        let mut frames = Vec::with_capacity(BURST);
        for from in 0..self.ports.len() {
            let arrived = |Packet { head, rest, .. }| frames.push((head, rest));
            moved |= self.ports[from].queue.receive(arrived) > 0;
            frames.drain(..).for_each(|frame| self.forward(frame, from));
        }
        for port in self.ports.iter_mut().filter(|port| !port.waiting.is_empty()) {
            moved |= port.queue.transmit(&mut port.waiting) > 0;
        }
        moved
    }

    fn forward(&mut self, frame: Frame, from: usize) {
        let Some((to, source)) = addresses(&frame) else { return };
        let is_one = |address: Address| address[0] & 1 == 0;
        if is_one(source) && (self.places.len() < ADDRESSES || self.places.contains_key(&source)) {
            self.places.insert(source, from);
        }
        match self.places.get(&to) {
            Some(&place) if place == from => {}
            Some(&place) => self.ports[place].enqueue(frame),
            None => {
                let others = self.ports.iter_mut().enumerate().filter(|(place, _)| *place != from);
                others.for_each(|(_, port)| port.enqueue(frame.clone()));
            }
        }
    }
}

impl SwitchPort {
    fn enqueue(&mut self, frame: Frame) {
        if self.waiting.len() < WAITING {
            self.waiting.push(frame);
        }
    }
}

fn main() -> ExitCode {
    let sockets: Vec<_> = std::env::args().skip(1).collect();
    let mut switch = match Switch::new(&sockets) {
        Ok(switch) => switch,
        Err(error) => {
            eprintln!("memif-switch: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("memif-switch: {} ports", sockets.len());
    let mut idle = 0;
    loop {
        idle = if switch.turn() { 0 } else { idle + 1 };
        if idle >= PATIENCE {
            std::thread::sleep(NAP);
        }
    }
}
